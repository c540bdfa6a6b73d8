"""A tiny but real block pack, built with onnx alone: three blocks of a classifier for 16 x 16 pictures.

    0 ── b0, b0-p50 ──> 1 ── b1, b1-p50 ──> 2 ── b2 ──> 3        and  0 ── b0-m2 ──> 2

That makes 5 subnets. The metrics are `top1` (output, label) and `agreement` (output, oracle); each returns
[correct, count] as float32 of shape (2,). Labels are int64 of shape (1,). `WIDE` is a graph of 109 subnets with the
same input, output and metrics. `ROW` is one of a network with several inputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from adaptivenet.toolkit.data.inputs import Input
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.devices.local.onnx_assembly import border
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut
from adaptivenet.toolkit.pack.manifest import manifest_digest
from adaptivenet.toolkit.pack.pack import Artifact, BlockPack
from adaptivenet.toolkit.pack.writer import Metric, PackWriter, describe
from onnx import TensorProto, helper, numpy_helper

CLASSES = ("daisy", "poppy", "rose", "tulip", "violet")
PREPROCESSING = Preprocessing(16, 16, resize_short=18, mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.5))
GRAPH = BlockGraph(
    [Cut(0, (1, 3, 16, 16)), Cut(1, (1, 4, 16, 16)), Cut(2, (1, 6, 8, 8)), Cut(3, (1, len(CLASSES)))],
    [
        Block("b0", 0, 1, "original", "features.0", params=112, macs=27648),
        Block("b1", 1, 2, "original", "features.1", params=222, macs=13824),
        Block("b2", 2, 3, "original", "classifier", params=35, macs=30),
        Block("b0-m2", 0, 2, "merged", "features.0+features.1", params=168, macs=10368, loss=0.25),
        Block("b0-p50", 0, 1, "pruned", "features.0", ratio=0.5, params=68, macs=15872, loss=0.125),
        Block("b1-p50", 1, 2, "pruned", "features.1", ratio=0.5, params=135, macs=8064),
    ],
)

# A network of one block that gives a picture, of other height than width.
PICTURE = BlockGraph(
    [Cut(0, (1, 3, 6, 4)), Cut(1, (1, 2, 6, 4))],
    [Block("b0", 0, 1, "original"), Block("b0-p50", 0, 1, "pruned", ratio=0.5)],
)

# A network of several inputs, of one block.
ROW_INPUTS = (Input("ids", (1, 4), "int64"), Input("mask", (1,), "bool"), Input("pixels", (1, 2, 3)))
ROW = BlockGraph([Cut(0, (1, 11)), Cut(1, (1, 2))], [Block("b0", 0, 1, "original")])

# Widths and sizes of five cuts; from each to the next an original and two pruned blocks, over each but the first a
# merged one, and at the end the classifier.
_FEATURES = [(3, 16), (4, 16), (6, 16), (6, 8), (8, 8)]
WIDE = BlockGraph(
    [*(Cut(at, (1, width, side, side)) for at, (width, side) in enumerate(_FEATURES)), Cut(5, (1, len(CLASSES)))],
    [
        *(Block(f"b{at}", at, at + 1, "original", f"features.{at}") for at in range(4)),
        Block("b4", 4, 5, "original", "classifier"),
        *(
            Block(f"b{at}-p{pruned}", at, at + 1, "pruned", ratio=pruned / 100)
            for at in range(4)
            for pruned in (50, 75)
        ),
        *(Block(f"b{at}-m2", at, at + 2, "merged") for at in range(3)),
    ],
)


def wide_programs() -> dict[str, bytes]:
    """The ONNX program of every block of `WIDE`, by name."""

    def program(block: Block) -> bytes:
        (inputs, side), (outputs, less) = _FEATURES[block.start], _FEATURES[block.end]
        layers = [(inputs, outputs, 3, side // less)]
        if block.ratio:
            inside = 2 if block.ratio == 0.5 else 1
            layers = [(inputs, inside, 3, side // less), (inside, outputs, 1, 1)]
        return _convolutions(block.name, block.start, block.end, layers, WIDE)

    blocks = {block.name: program(block) for block in WIDE.blocks if block.end != WIDE.end}
    return {**blocks, "b4": _classifier("b4", 4, WIDE)}


def picture_programs() -> dict[str, bytes]:
    """The ONNX program of every block of `PICTURE`, by name."""
    layers = {"b0": [(3, 2, 3, 1)], "b0-p50": [(3, 1, 3, 1), (1, 2, 1, 1)]}
    return {name: _convolutions(name, 0, 1, each, PICTURE) for name, each in layers.items()}


def row_program() -> bytes:
    """The ONNX program of the block of `ROW`: it gives the sum of all numbers, and that of each times its place."""
    places = np.arange(sum(each.width for each in ROW_INPUTS), dtype=np.float32)
    weights = [
        numpy_helper.from_array(np.stack([np.ones_like(places), places], axis=1), "b0/w"),
        numpy_helper.from_array(np.zeros(2, np.float32), "b0/b"),
    ]
    node = helper.make_node("Gemm", [border(0), "b0/w", "b0/b"], [border(1)])
    return _program("b0", [node], [_at(0, ROW)], _at(1, ROW), weights)


def block_programs() -> dict[str, bytes]:
    """The ONNX program of every block, by name; the weights are drawn from a fixed seed."""
    return {
        "b0": _convolutions("b0", 0, 1, [(3, 4, 3, 1)]),
        "b1": _convolutions("b1", 1, 2, [(4, 6, 3, 2)]),
        "b2": _classifier("b2", 2, GRAPH),
        "b0-m2": _convolutions("b0-m2", 0, 2, [(3, 6, 3, 2)]),
        "b0-p50": _convolutions("b0-p50", 0, 1, [(3, 2, 3, 1), (2, 4, 1, 1)]),
        "b1-p50": _convolutions("b1-p50", 1, 2, [(4, 3, 3, 2), (3, 6, 1, 1)]),
    }


def metric_programs() -> dict[str, bytes]:
    """The ONNX programs of the metrics `top1` and `agreement`, by name."""
    label = helper.make_tensor_value_info("label", TensorProto.INT64, (1,))
    arg_max = helper.make_node("ArgMax", ["oracle"], ["right"], axis=1, keepdims=0)
    same = helper.make_node("Identity", ["label"], ["right"])
    return {
        "top1": _share_correct("top1", label, same),
        "agreement": _share_correct("agreement", _logits("oracle"), arg_max),
    }


def build_pack(path: Path, name: str = "tiny", overwrite: bool = False) -> BlockPack:
    """Writes the pack to `path` and returns it, opened."""
    with PackWriter(path, name=name, overwrite=overwrite) as writer:
        return writer.finish(write_programs(writer))


def write_programs(writer: PackWriter) -> dict[str, Any]:
    """Adds every blob to the writer and returns the manifest to finish with."""

    def artifacts(program: bytes) -> dict[str, Artifact]:
        return {"onnx": Artifact(writer.add_blob(program, ".onnx"), len(program), "contiguous", 1e-7, 1e-4)}

    operands = {"top1": ("output", "label"), "agreement": ("output", "oracle")}
    return describe(
        GRAPH,
        {block: artifacts(program) for block, program in block_programs().items()},
        {metric: Metric(operands[metric], artifacts(program)) for metric, program in metric_programs().items()},
        PREPROCESSING,
        CLASSES,
        {"model": "tests.packs", "license": "Apache-2.0"},
    )


def edit_manifest(pack: Path, change: Callable[[dict[str, Any]], object], sign: bool = True) -> None:
    """Applies `change` to the manifest on disk, as an attacker would: with a new digest, unless `sign` is False."""
    manifest = json.loads((pack / "manifest.json").read_text())
    change(manifest)
    if sign:
        manifest["digest"] = manifest_digest(manifest)
    (pack / "manifest.json").write_text(json.dumps(manifest))


def _convolutions(
    name: str, start: int, end: int, layers: Sequence[tuple[int, int, int, int]], graph: BlockGraph = GRAPH
) -> bytes:
    """Conv and Relu for each (inputs, outputs, kernel side, stride)."""
    rng = np.random.default_rng(sum(name.encode()))
    nodes, weights = [], []
    features = [border(start), *(f"{name}/x{at}" for at in range(1, len(layers))), border(end)]
    for at, (inputs, outputs, side, stride) in enumerate(layers):
        weight = rng.normal(0, (2 / (inputs * side * side)) ** 0.5, (outputs, inputs, side, side)).astype(np.float32)
        weights += [
            numpy_helper.from_array(weight, f"{name}/w{at}"),
            numpy_helper.from_array(rng.normal(0, 0.1, outputs).astype(np.float32), f"{name}/b{at}"),
        ]
        nodes += [
            helper.make_node(
                "Conv",
                [features[at], f"{name}/w{at}", f"{name}/b{at}"],
                [f"{name}/y{at}"],
                strides=[stride, stride],
                pads=[side // 2] * 4,
            ),
            helper.make_node("Relu", [f"{name}/y{at}"], [features[at + 1]]),
        ]
    return _program(name, nodes, [_at(start, graph)], _at(end, graph), weights)


def _classifier(name: str, start: int, graph: BlockGraph) -> bytes:
    rng = np.random.default_rng(2)
    weights = [
        numpy_helper.from_array(
            rng.normal(0, 1, (graph.cuts[start].shape[1], len(CLASSES))).astype(np.float32), f"{name}/w"
        ),
        numpy_helper.from_array(rng.normal(0, 0.1, len(CLASSES)).astype(np.float32), f"{name}/b"),
    ]
    nodes = [
        helper.make_node("GlobalAveragePool", [border(start)], [f"{name}/pooled"]),
        helper.make_node("Flatten", [f"{name}/pooled"], [f"{name}/flat"]),
        helper.make_node("Gemm", [f"{name}/flat", f"{name}/w", f"{name}/b"], [border(graph.end)]),
    ]
    return _program(name, nodes, [_at(start, graph)], _at(graph.end, graph), weights)


def _share_correct(name: str, target: onnx.ValueInfoProto, right: onnx.NodeProto) -> bytes:
    nodes = [
        helper.make_node("ArgMax", ["output"], ["answer"], axis=1, keepdims=0),
        right,
        helper.make_node("Equal", ["answer", "right"], ["equal"]),
        helper.make_node("Cast", ["equal"], ["correct"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["correct", "one"], ["sums"], axis=0),
    ]
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    sums = helper.make_tensor_value_info("sums", TensorProto.FLOAT, (2,))
    return _program(name, nodes, [_logits("output"), target], sums, [one])


def _at(cut: int, graph: BlockGraph) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(border(cut), TensorProto.FLOAT, graph.cuts[cut].shape)


def _logits(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, GRAPH.cuts[-1].shape)


def _program(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    output: onnx.ValueInfoProto,
    weights: Sequence[onnx.TensorProto],
) -> bytes:
    graph = helper.make_graph(list(nodes), name, list(inputs), [output], list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
