"""What an ONNX program of a block calls things: names of its own inside, its cuts at its borders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from adaptivenet.export.onnx_part import Place, as_part
from adaptivenet.export.programs import export_program
from adaptivenet.toolkit.devices.local.onnx_assembly import border
from adaptivenet.toolkit.pack.pack import BlockPack
from onnx import TensorProto, helper, numpy_helper
from packs import GRAPH
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")
PLACE = Place("b1-p50", (4, 1), 6)


def value(name: str, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] = (2,)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name in a graph and in the graphs within it."""
    for each in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        yield each.name
    for node in graph.node:
        yield from (node.name, *node.input, *node.output)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from names(attribute.g)


def check_names(model: onnx.ModelProto, place: Place) -> None:
    borders = {border(cut) for cut in (*place.takes, place.gives)}
    inside = {name for name in names(model.graph) if name and name not in borders}
    assert all(name.startswith(f"{place.block}/") for name in inside), inside
    assert [each.name for each in model.graph.input] == [border(cut) for cut in place.takes]
    assert [each.name for each in model.graph.output] == [border(place.gives)]
    assert not model.functions


def run(model: onnx.ModelProto, *inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = {each.name: given for each, given in zip(session.get_inputs(), inputs, strict=True)}
    return np.asarray(session.run(None, fed)[0])


def test_the_names_of_a_block_are_its_own_and_its_borders_are_cuts() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 4, 1)).eval()
    place = Place("b3", (3,), 5)
    program = export_program("block 'b3'", module, [torch.randn(1, 3, 8, 8)], "onnx", place)
    model = onnx.load_from_string(program.data)
    onnx.checker.check_model(model, full_check=True)
    check_names(model, place)
    assert {each.domain for each in model.opset_import} == {""}
    again = export_program("block 'b3'", module, [torch.randn(1, 3, 8, 8)], "onnx", place)
    assert again.data == program.data


def test_a_block_that_lets_its_input_through_gives_it_another_name() -> None:
    place = Place("b1-skip", (1,), 2)
    program = export_program("block 'b1-skip'", nn.Identity(), [torch.randn(1, 3)], "onnx", place)
    check_names(onnx.load_from_string(program.data), place)
    # Also where the exporter has not made a node for it, and for weights that are given as they are.
    weight = numpy_helper.from_array(np.array([5, 6], np.float32), "w")
    for inner, expected in (("x", [1, 2]), ("w", [5, 6])):
        graph = helper.make_graph([], "g", [value("x")], [value(inner)], [weight])
        model = as_part(helper.make_model(graph, ir_version=9), place)
        check_names(model, place)
        assert run(model, np.array([1, 2], np.float32)).tolist() == expected


def test_graphs_within_nodes_are_renamed_and_functions_written_out() -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(operator, ["x", "t"], ["z"], name="n")], name, [], [value("z")])

    inner = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    nodes = [
        helper.make_node("Twice", ["y"], ["t"], domain="own"),
        helper.make_node("ReduceSum", ["t"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["out"], then_branch=branch("then", "Add"), else_branch=branch("else", "Sub")),
        helper.make_node("Clip", ["out", "", "most"], ["end"]),
    ]
    weights = [numpy_helper.from_array(np.array(of, np.float32), name) for name, of in (("zero", 0), ("most", 9))]
    graph = helper.make_graph(nodes, "g", [value("x"), value("y")], [value("end")], weights)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1), helper.make_opsetid("unused", 3)]
    model = helper.make_model(graph, opset_imports=imports, functions=[inner], ir_version=9)
    pairs = [np.array([1, 2], np.float32), np.array([3, -1], np.float32)]
    expected = [run(model, *pairs), run(model, pairs[0], -pairs[1])]
    part = as_part(model, PLACE)
    check_names(part, PLACE)
    assert [each.domain for each in part.opset_import] == [""]
    np.testing.assert_array_equal([run(part, *pairs), run(part, pairs[0], -pairs[1])], expected)


def test_the_names_of_quantisation_follow() -> None:
    graph = helper.make_graph([helper.make_node("Add", ["x", "y"], ["z"])], "g", [value("x"), value("y")], [value("z")])
    annotation = graph.quantization_annotation.add(tensor_name="x")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    (found,) = as_part(helper.make_model(graph), PLACE).graph.quantization_annotation
    assert (found.tensor_name, found.quant_parameter_tensor_names[0].value) == (border(4), "b1-p50/scale")


def test_another_number_of_inputs_is_refused() -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "g", [value("x")], [value("z")])
    with pytest.raises(ValueError, match="has 1 input and 1 output; a block that reads 2 cuts"):
        as_part(helper.make_model(graph), PLACE)


def test_the_place_of_a_block_is_what_the_graph_says(tiny_pack: BlockPack) -> None:
    assert Place.of(GRAPH, GRAPH["b0-m2"]) == Place("b0-m2", (0,), 2)
