"""Assembled networks: they compute what their chain of blocks does, and what is no part of one is refused by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from adaptivenet.export import export_pack
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.local import local as local_module
from adaptivenet.toolkit.devices.local.interpreter import Part
from adaptivenet.toolkit.devices.local.local import LocalDevice
from adaptivenet.toolkit.devices.local.onnx_assembly import assemble, border
from adaptivenet.toolkit.devices.local.onnxruntime_engine import OnnxRuntimeEngine
from adaptivenet.toolkit.errors import DeviceError, PackError
from adaptivenet.toolkit.graph.graph import BlockGraph
from adaptivenet.toolkit.pack.pack import BlockPack
from engines import FAST, THIN, Spy, outputs
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from packs import GRAPH, block_programs
from tapped import tapped

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "onnx_assembly.json").read_text())
PROGRAMS = block_programs()


def parts(graph: BlockGraph, programs: dict[str, bytes], names: Sequence[str]) -> list[Part]:
    blocks = [graph[name] for name in names]
    return [Part(f"block {b.name!r}", programs[b.name], graph.reads(b), b.end) for b in blocks]


@pytest.fixture(scope="module")
def tapped_pack(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> BlockPack:
    path = tmp_path_factory.mktemp("packs") / "tapped"
    return export_pack(tapped(), path, ["onnx"], name="tapped", metrics=("fidelity",), jobs=1)


def chained() -> LocalDevice:
    """ONNX Runtime, which runs block after block."""
    spy = Spy(OnnxRuntimeEngine(1))
    spy.assemble = None
    return LocalDevice("local", spy)


@pytest.mark.parametrize("name", ["tiny", "tapped"])
def test_a_network_computes_what_its_blocks_do(
    name: str, tiny_pack: BlockPack, tapped_pack: BlockPack, pictures: np.ndarray
) -> None:
    pack = {"tiny": tiny_pack, "tapped": tapped_pack}[name]
    given_ = pictures[:2] / 10
    with connect("local:onnxruntime").open(pack) as session, chained().open(pack) as reference:
        for subnet in pack.graph.paths():
            found = outputs(session, subnet, given_)
            np.testing.assert_allclose(found, outputs(reference, subnet, given_), rtol=1e-5, atol=1e-5)


def test_a_network_is_a_model_that_the_onnx_library_takes(tapped_pack: BlockPack) -> None:
    graph = tapped_pack.graph
    programs = {block.name: tapped_pack.read(tapped_pack.artifact(block.name, "onnx")) for block in graph.blocks}
    for subnet in graph.paths():
        model = onnx.load_from_string(assemble(parts(graph, programs, subnet)))
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == [border(0)]
        assert [value.name for value in model.graph.output] == [border(graph.end)]
    head = onnx.load_from_string(assemble(parts(graph, programs, ["b3", "head"])))
    given_ = [value.name for value in head.graph.input]
    assert given_ == [border(3), border(0), border(1)], "3 is also a tap: it is given once"


def test_what_is_joined_does_not_depend_on_what_it_is_joined_with() -> None:
    oracle = onnx.load_from_string(assemble(parts(GRAPH, PROGRAMS, GRAPH.oracle)))
    inside = [tuple(node.output) for node in oracle.graph.node]
    assert inside == [
        tuple(node.output) for name in GRAPH.oracle for node in onnx.load_from_string(PROGRAMS[name]).graph.node
    ]
    assert [value.name for value in oracle.graph.value_info] == [border(1), border(2)]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_the_runner_joins_the_same_bytes(case: dict[str, object]) -> None:
    given_ = [
        Part(part["what"], bytes.fromhex(part["data"]), tuple(part["takes"]), part["gives"])
        for part in case["parts"]  # type: ignore[attr-defined]
    ]
    if "error" in case:
        with pytest.raises(PackError) as caught:
            assemble(given_)
        assert str(caught.value) == case["error"]
    else:
        assert assemble(given_).hex() == case["model"]


@given(st.data())
def test_damaged_programs_are_refused_by_name_or_joined(data: st.DataObject) -> None:
    program = bytearray(PROGRAMS["b1"])
    if data.draw(st.booleans()):
        del program[data.draw(st.integers(0, len(program))) :]
    # The weights are most of it, and nobody looks at them: the damage is where the structure is.
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4)):
        program[at : at + 1] = bytes([value])
    refused: list[str] = []
    try:
        assemble(parts(GRAPH, {**PROGRAMS, "b1": bytes(program)}, GRAPH.oracle))
    except PackError as error:
        refused.append(str(error))
    assert all("block 'b1'" in message and "\n" not in message for message in refused)


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(PackError, match="block 'b1' is no ONNX program"):
        assemble(parts(GRAPH, {**PROGRAMS, "b1": content}, GRAPH.oracle))


def test_blocks_of_several_operator_sets_are_refused_together() -> None:
    model = onnx.load_from_string(PROGRAMS["b1"])
    model.opset_import[0].version += 1
    other = {**PROGRAMS, "b1": model.SerializeToString()}
    with pytest.raises(PackError, match=r"block 'b1' is made for operator set 18 and block 'b0' for 17, so"):
        assemble(parts(GRAPH, other, GRAPH.oracle))
    assert onnx.load_from_string(assemble(parts(GRAPH, other, ["b1"]))).opset_import[0].version == 18


def test_a_block_that_the_engine_refuses_says_between_which() -> None:
    wrong = helper.make_node("Nonsense", [border(1)], [border(2)])
    value = [helper.make_tensor_value_info(border(cut), TensorProto.FLOAT, GRAPH.cuts[cut].shape) for cut in (1, 2)]
    model = helper.make_model(helper.make_graph([wrong], "b1", value[:1], value[1:]), ir_version=9)
    model.opset_import[0].version = 17
    types = [(cut.shape, cut.dtype) for cut in GRAPH.cuts]
    with pytest.raises(DeviceError, match=r"the network from block 'b0' to block 'b2' does not load on onnxruntime"):
        OnnxRuntimeEngine(1).assemble(parts(GRAPH, {**PROGRAMS, "b1": model.SerializeToString()}, GRAPH.oracle), types)


def test_chains_that_memory_does_not_hold_are_assembled_anew_in_every_round(
    tiny_pack: BlockPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {block.name: tiny_pack.artifact(block.name, "onnx").bytes for block in tiny_pack.graph.blocks}
    # Room for the first chain, not for the second beside it.
    monkeypatch.setattr(local_module, "free_bytes", lambda: 4 * sum(size[name] for name in FAST) + 4)
    spy = Spy(OnnxRuntimeEngine(1))
    with LocalDevice("local", spy).open(tiny_pack) as session:
        times = session.samples([FAST, THIN, ("b0",)], rounds=3, warmup=1)
    assert [len(each) for each in times] == [3, 3, 3]
    assert all(ms > 0 for each in times for ms in each)
    assert sorted(spy.loads) == sorted(f"block {name!r}" for name in (*FAST, *(4 * THIN), "b0"))
