"""The packs of packs.py for both backends: the same weights as .onnx and, by ExecuTorch's exporter, as .pte."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from adaptivenet.toolkit.graph.graph import BlockGraph
from adaptivenet.toolkit.pack.pack import Artifact, BlockPack
from adaptivenet.toolkit.pack.writer import Metric, PackWriter, describe
from onnx import numpy_helper
from packs import (
    CLASSES,
    GRAPH,
    PICTURE,
    PREPROCESSING,
    ROW,
    ROW_INPUTS,
    WIDE,
    metric_programs,
    picture_programs,
    row_program,
)

# One block of each is exported for the other layout, so that a path crosses from one to the other and back, and that a
# picture comes in either.
CONTIGUOUS = {GRAPH: "b1-p50", WIDE: "b1-p50", PICTURE: "b0-p50"}


def export_pack(path: Path, graph: BlockGraph, programs: Mapping[str, bytes]) -> BlockPack:
    """Writes the blocks of `graph`, given as ONNX programs, to the folder `path` for both backends."""
    operands = {"top1": ("output", "label"), "agreement": ("output", "oracle")}
    with PackWriter(path, name=path.name) as writer:
        blocks = _blocks(writer, graph, programs)
        metrics = {
            name: Metric(operands[name], _artifacts(writer, program, _metric_pte(name), "contiguous"))
            for name, program in metric_programs().items()
        }
        return writer.finish(describe(graph, blocks, metrics, PREPROCESSING, CLASSES))


def export_picture_pack(path: Path) -> BlockPack:
    """Writes the network that gives a picture to the folder `path` for both backends."""
    with PackWriter(path, name=path.name) as writer:
        return writer.finish(describe(PICTURE, _blocks(writer, PICTURE, picture_programs()), {}))


def export_row_pack(path: Path) -> BlockPack:
    """Writes the network of several inputs to the folder `path` for both backends."""
    program = row_program()
    pte = _block_pte(program, ROW.cuts[0].shape, "contiguous")
    with PackWriter(path, name=path.name) as writer:
        artifacts = _artifacts(writer, program, pte, "contiguous")
        return writer.finish(describe(ROW, {"b0": artifacts}, {}, inputs=ROW_INPUTS))


def _blocks(writer: PackWriter, graph: BlockGraph, programs: Mapping[str, bytes]) -> dict[str, dict[str, Artifact]]:
    blocks = {}
    for name, program in programs.items():
        layout = "contiguous" if name == CONTIGUOUS.get(graph) else "channels_last"
        pte = _block_pte(program, graph.cuts[graph[name].start].shape, layout)
        blocks[name] = _artifacts(writer, program, pte, layout)
    return blocks


def _artifacts(writer: PackWriter, program: bytes, pte: bytes, layout: str) -> dict[str, Artifact]:
    return {
        "executorch": Artifact(writer.add_blob(pte, ".pte"), len(pte), layout),
        "onnx": Artifact(writer.add_blob(program, ".onnx"), len(program), "contiguous"),
    }


def _block_pte(program: bytes, shape: tuple[int, ...], layout: str) -> bytes:
    """The ExecuTorch program with the weights of an ONNX one, which is Conv and Relu or the classifier."""
    import torch
    from torch import nn

    graph = onnx.load_from_string(program).graph
    weights = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    layers: list[nn.Module] = []
    for node in graph.node:
        match node.op_type:
            case "Conv":
                weight, bias = weights[node.input[1]], weights[node.input[2]]
                settings = {attribute.name: list(attribute.ints) for attribute in node.attribute}
                conv = nn.Conv2d(
                    weight.shape[1], weight.shape[0], weight.shape[2], settings["strides"][0], settings["pads"][0]
                )
                conv.load_state_dict({"weight": weight, "bias": bias})
                layers.append(conv)
            case "Relu":
                layers.append(nn.ReLU())
            case "GlobalAveragePool":
                layers.append(nn.AdaptiveAvgPool2d(1))
            case "Flatten":
                layers.append(nn.Flatten())
            case "Gemm":
                weight, bias = weights[node.input[1]], weights[node.input[2]]
                linear = nn.Linear(*weight.shape)
                linear.load_state_dict({"weight": weight.T, "bias": bias})
                layers.append(linear)
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    return _export(nn.Sequential(*layers), [torch.randn(shape).to(memory_format=formats[layout])])


def _metric_pte(name: str) -> bytes:
    import torch

    class ShareCorrect(torch.nn.Module):
        def forward(self, output: Any, target: Any) -> Any:
            right = target if name == "top1" else target.argmax(1)
            correct = (output.argmax(1) == right).to(torch.float32)
            return torch.cat([correct, torch.ones_like(correct)])

    # Two tensors, not one twice: the exporter takes inputs that are the same object for the same input.
    output, oracle = torch.randn(GRAPH.cuts[-1].shape), torch.randn(GRAPH.cuts[-1].shape)
    return _export(ShareCorrect(), [output, torch.tensor([1]) if name == "top1" else oracle])


def _export(module: Any, example: Sequence[Any]) -> bytes:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            program = torch.export.export(module.eval(), tuple(example))
            return bytes(
                to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer
            )
    finally:
        torch.set_num_threads(threads)
