"""The ONNX program of a block as a part of a network: its names are unique there, its borders called by their cuts.

Whoever has the parts of a subnet makes one model of them by joining their graphs, without knowing ONNX (see
`adaptivenet.toolkit.devices.local.onnx_assembly`). So every name inside begins with the block's, the inputs are called
`cut3` for the cut that they are read at, and the output likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptivenet.toolkit.devices.local.onnx_assembly import border
from adaptivenet.toolkit.graph.graph import Block, BlockGraph
from adaptivenet.toolkit.plurals import number_of

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Place:
    """Where a block lies in its network: the cuts that it reads, in the order of its inputs, and the one it gives."""

    block: str
    takes: tuple[int, ...]
    gives: int

    @classmethod
    def of(cls, graph: BlockGraph, block: Block) -> Place:
        """The place of a block of `graph`."""
        return cls(block.name, graph.reads(block), block.end)


def as_part(model: onnx.ModelProto, place: Place) -> onnx.ModelProto:
    """The model with the names of a part. It may be changed by this.

    Raises ValueError when it has other inputs and outputs than the place says.
    """
    from onnx import helper, inliner

    if model.functions:
        model = inliner.inline_local_functions(model)
    graph = model.graph
    if len(graph.input) != len(place.takes) or len(graph.output) != 1:
        raise ValueError(
            f"the program has {number_of(len(graph.input), 'input')} and {number_of(len(graph.output), 'output')}; a "
            f"block that reads "
            f"{len(place.takes)} cuts has as many, and one"
        )
    given = {value.name for value in (*graph.input, *graph.initializer)}
    output = graph.output[0]
    if output.name in given:  # let through: the border needs a name of its own
        inner = f"{output.name}_given"
        graph.node.append(helper.make_node("Identity", [output.name], [inner]))
        output.name = inner
    borders = {value.name: border(cut) for value, cut in zip(graph.input, place.takes, strict=True)}
    borders[output.name] = border(place.gives)
    inside = [value for value in graph.value_info if value.name not in borders]
    del graph.value_info[:]
    graph.value_info.extend(inside)
    rename(graph, lambda name: borders.get(name) or (name and f"{place.block}/{name}"))
    graph.name = place.block
    used = {node.domain for node in _nodes(graph)} | {""}
    imports = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return model


def rename(graph: onnx.GraphProto, new: Callable[[str], str]) -> None:
    """Renames every value, initializer and node of a graph, and of the graphs within its nodes."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new(value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = new(sparse.values.name)
        sparse.indices.name = new(sparse.indices.name)
    for annotation in graph.quantization_annotation:
        annotation.tensor_name = new(annotation.tensor_name)
        for parameter in annotation.quant_parameter_tensor_names:
            parameter.value = new(parameter.value)
    for node in graph.node:
        node.name = new(node.name)
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        for inner in _graphs(node):
            rename(inner, new)


def _nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in _graphs(node):
            yield from _nodes(inner)


def _graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that a node has as attributes: the branches of an If, the body of a Loop."""
    from onnx import AttributeProto as kinds

    single = [each.g for each in node.attribute if each.type == kinds.GRAPH]
    return single + [graph for each in node.attribute if each.type == kinds.GRAPHS for graph in each.graphs]
