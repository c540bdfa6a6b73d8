"""The local device on a real pack: both engines run the same blocks, page them in, and refuse what does not fit."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.base import Device, Session
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.local.executorch_engine import ExecuTorchEngine
from adaptivenet.toolkit.devices.local.interpreter import Program
from adaptivenet.toolkit.errors import DataError, DeviceError, EngineMissing, GraphError, PackError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.search import Evaluator
from engines import ENGINES, FAST, THIN, Spy, outputs, plan_of
from packs import build_pack


def test_a_device_says_who_it_is(address: str) -> None:
    info = connect(address).info
    assert info.address == address
    assert info.engine == address.removeprefix("local:")
    assert info.threads == 1
    assert info.cores >= 1
    assert info.name
    assert info.to_json()["engine_version"] == info.engine_version != ""


def test_local_is_executorch() -> None:
    assert connect("local").info.engine == "executorch"


@pytest.mark.parametrize("address", ["local:", "local:tflite", "local:Executorch"])
def test_an_unknown_address_lists_the_known_ones(address: str) -> None:
    with pytest.raises(DeviceError, match=r"local, local:executorch, local:onnxruntime$") as caught:
        connect(address)
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize("threads", [0, -1])
def test_at_least_one_thread_is_needed(address: str, threads: int) -> None:
    with pytest.raises(DeviceError, match=f"{threads} threads"):
        connect(address, threads)
    with pytest.raises(DeviceError, match=f"{threads} threads"):
        connect(address, evaluation_threads=threads)


@pytest.mark.parametrize(("module", "engine"), [("executorch", "executorch"), ("onnxruntime", "onnxruntime")])
def test_a_missing_engine_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, module: str, engine: str) -> None:
    for loaded in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineMissing, match=f"pip install {engine}") as caught:
        connect(f"local:{engine}")
    assert "\n" not in str(caught.value)


def test_onnxruntime_does_not_import_torch() -> None:
    code = (
        "import sys; from adaptivenet.toolkit import connect; connect('local:onnxruntime'); "
        "assert not {'torch', 'executorch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_pack_without_the_engines_artifacts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"no executorch artifacts.*it has onnx"):
        connect("local").open(build_pack(tmp_path / "onnx-only"))


def test_the_engines_agree_on_every_subnet(tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    with connect(ENGINES[0]).open(tiny_pack) as one, connect(ENGINES[1]).open(tiny_pack) as other:
        for subnet in tiny_pack.graph.paths():
            found = outputs(one, subnet, pictures)
            assert found.std() > 0.1
            np.testing.assert_allclose(found, outputs(other, subnet, pictures), atol=1e-4)


def test_the_strides_of_the_input_do_not_matter(session: Session, pictures: np.ndarray) -> None:
    for subnet in session.pack.graph.paths():
        session.activate(subnet)
        x = pictures[:1]
        channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        mirrored = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
        assert not channels_last.flags.c_contiguous
        expected = session.infer(x)
        np.testing.assert_array_equal(session.infer(channels_last), expected)
        np.testing.assert_array_equal(session.infer(mirrored), expected)


def test_a_program_given_the_other_layout_converts_it(tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    engine = ExecuTorchEngine(1)
    cuts = tiny_pack.graph.cuts
    artifact = tiny_pack.artifact("b0", "executorch")
    program = engine.load(
        "b0", tiny_pack.read(artifact), artifact.layout, [(cuts[0].shape, "float32")], (cuts[1].shape, "float32")
    )
    assert artifact.layout == "channels_last"
    outputs = [
        engine.array(program([engine.tensor(pictures[:1], layout)])) for layout in ("contiguous", artifact.layout)
    ]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert outputs[0].flags.c_contiguous


def test_an_output_is_the_callers_to_keep(session: Session, pictures: np.ndarray) -> None:
    session.activate(session.pack.graph.oracle)
    first = session.infer(pictures[:1])
    before = first.copy()
    second = session.infer(pictures[1:2])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, before)
    session.close()
    np.testing.assert_array_equal(first, before)
    first += 1


def test_what_is_measured_while_held_is_loaded_once(watched: Session, spy: Spy) -> None:
    chains, others = [FAST, THIN, ("b0",)], [FAST, ("b1",)]
    watched.samples(chains, rounds=1, warmup=0)
    once = [*spy.loads]
    spy.loads.clear()
    watched.samples(chains, rounds=1, warmup=0)
    assert spy.loads == once, "not held"
    spy.loads.clear()
    with watched.holding():
        assert [len(each) for each in watched.samples(chains, rounds=2, warmup=1)] == [2, 2, 2]
        spy.calls.clear()
        assert [len(each) for each in watched.samples(chains, rounds=3, warmup=0)] == [3, 3, 3]
        assert spy.loads == once
        assert spy.calls.count("block 'b0-m2'") == 3 * 2, "each round, once before it is timed"
        watched.samples(others, rounds=1, warmup=0)
        assert len(spy.loads) > len(once)
        watched.samples(chains, rounds=1, warmup=0)
        assert spy.loads[-len(once) :] == once
        spy.loads.clear()
        with watched.holding():
            watched.samples(chains, rounds=1, warmup=0)
        watched.samples(chains, rounds=1, warmup=0)
        assert not spy.loads, "held until the outer one ends"
        watched.samples(chains, rounds=1, warmup=0, sample=np.ones(watched.pack.graph.cuts[0].shape, np.float32))
        assert spy.loads == once, "its features are others"
    spy.loads.clear()
    watched.samples(chains, rounds=1, warmup=0)
    assert spy.loads == once


def test_what_is_held_is_for_the_sample_as_it_is(watched: Session, spy: Spy) -> None:
    sample = np.ones(watched.pack.graph.cuts[0].shape, np.float32)
    with watched.holding():
        watched.samples([FAST, ("b1",)], rounds=1, warmup=0, sample=sample)
        once = [*spy.loads]
        sample[:] = 0
        watched.samples([FAST, ("b1",)], rounds=1, warmup=0, sample=sample)
        assert spy.loads == once * 2


def test_what_is_held_goes_when_the_session_is_closed(
    watched: Session, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, noted = WeakSet[Any](), spy.noted

    def watching(names: Sequence[str], program: Program) -> Program:
        made.add(run := noted(names, program))
        return run

    monkeypatch.setattr(spy, "noted", watching)
    with watched.holding():
        watched.samples([FAST, ("b1",)], rounds=1, warmup=0)
        gc.collect()
        assert len(made)
        watched.close()
        gc.collect()
        assert not len(made)


def test_activating_loads_only_the_difference(watched: Session, spy: Spy) -> None:
    pack, oracle = watched.pack, watched.pack.graph.oracle
    size = {block.name: pack.artifact(block.name, spy.backend).bytes for block in pack.graph.blocks}
    assert watched.resident.blocks == ()
    assert watched.resident.bytes == 0

    page_in = watched.activate(oracle)
    assert (page_in.loaded, page_in.released) == (oracle, ())
    assert page_in.bytes_in == sum(size[name] for name in oracle) == watched.resident.bytes
    assert (page_in.engine, page_in.threads) == (spy.name, 1)
    assert page_in.ms > 0

    spy.loads.clear()
    page_in = watched.activate(["b0", "b1-p50", "b2"])
    # What is assembled is made anew of all blocks.
    assert spy.loads == (["block 'b0'"] if spy.assemble else []) + ["block 'b1-p50'"] + (
        ["block 'b2'"] if spy.assemble else []
    )
    assert (page_in.loaded, page_in.released) == (("b1-p50",), ("b1",))
    assert (page_in.bytes_in, page_in.bytes_out) == (size["b1-p50"], size["b1"])
    assert watched.resident.blocks == ("b0", "b1-p50", "b2")

    page_in = watched.activate(FAST)
    assert (page_in.loaded, page_in.released) == (("b0-m2",), ("b0", "b1-p50"))
    page_in = watched.activate(FAST)
    assert (page_in.loaded, page_in.released, page_in.bytes_in, page_in.bytes_out) == ((), (), 0, 0)
    assert watched.resident.bytes == sum(size[name] for name in FAST)


def test_a_failed_activation_leaves_the_previous_subnet(
    address: str, tiny_pack: BlockPack, pictures: np.ndarray, tmp_path: Path
) -> None:
    shutil.copytree(tiny_pack.path, tmp_path / "pack")
    pack = BlockPack.open(tmp_path / "pack")
    with connect(address).open(pack) as session:
        session.activate(FAST)
        before, resident = session.infer(pictures[:1]), session.resident
        blob = pack.path / pack.artifact("b1", "executorch" if "executorch" in address else "onnx").file
        content = bytearray(blob.read_bytes())
        content[len(content) // 2] ^= 1
        blob.write_bytes(content)
        with pytest.raises(PackError, match="is damaged"):
            session.activate(pack.graph.oracle)
        assert session.resident == resident
        np.testing.assert_array_equal(session.infer(pictures[:1]), before)
        assert session.activate(THIN).loaded == ("b0-p50", "b1-p50")


@pytest.mark.parametrize("names", [(), ("b0", "b2"), ("b0", "b1"), ("b0", "b1", "nothing")])
def test_only_a_subnet_can_be_activated(session: Session, names: tuple[str, ...]) -> None:
    session.activate(FAST)
    with pytest.raises(GraphError):
        session.activate(names)
    assert session.resident.blocks == FAST


@pytest.mark.parametrize(
    ("x", "form"),
    [
        (np.zeros((1, 3, 16, 15), np.float32), r"float32 \(1, 3, 16, 15\)"),
        (np.zeros((1, 16, 16, 3), np.float32), r"float32 \(1, 16, 16, 3\)"),
        (np.zeros((2, 3, 16, 16), np.float32), r"float32 \(2, 3, 16, 16\)"),
        (np.zeros((3, 16, 16), np.float32), r"float32 \(3, 16, 16\)"),
        (np.zeros((1, 3, 16, 16), np.float64), r"float64 \(1, 3, 16, 16\)"),
        (np.zeros((1, 3, 16, 16), np.uint8), r"uint8 \(1, 3, 16, 16\)"),
        (np.zeros((1, 3, 16, 16), ">f4"), r">f4 \(1, 3, 16, 16\)"),
        ([[1.0]], "list"),
    ],
)
def test_an_input_of_the_wrong_form_is_named_with_the_right_one(session: Session, x: Any, form: str) -> None:
    session.activate(FAST)
    with pytest.raises(DataError, match=rf"the input is a? ?{form}.*float32 \(1, 3, 16, 16\)"):
        session.infer(x)


def test_nothing_runs_before_a_subnet_is_active(session: Session, pictures: np.ndarray) -> None:
    with pytest.raises(DeviceError, match="activate one first"):
        session.infer(pictures[:1])


def test_a_closed_session_does_nothing(session: Session, pictures: np.ndarray, data: Dataset) -> None:
    session.activate(FAST)
    session.close()
    session.close()
    assert session.resident.blocks == ()
    for step in (
        lambda: session.infer(pictures[:1]),
        lambda: session.activate(FAST),
        lambda: session.measure([FAST]),
        lambda: session.evaluate(plan_of(session.pack, [FAST]), data),
    ):
        with pytest.raises(DeviceError, match="is closed"):
            step()


def test_a_blob_that_is_no_program_is_named_on_one_line(spy: Spy, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError, match=f"block 'x' does not load on {spy.name}") as caught:
        spy.load("block 'x'", b"not a program" * 10, "contiguous", [((1, 4), "float32")], ((1, 4), "float32"))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("takes", "gives"), [((1, 3, 16, 8), (1, 4, 16, 16)), ((1, 3, 16, 16), (1, 6, 8, 8))], ids=["input", "output"]
)
def test_a_program_under_another_ones_name_is_refused(
    spy: Spy, tiny_pack: BlockPack, takes: tuple[int, ...], gives: tuple[int, ...]
) -> None:
    blob = tiny_pack.read(tiny_pack.artifact("b0", spy.backend))
    with pytest.raises(PackError, match=r"takes float32 \(1, 3, 16, 16\) and gives float32 \(1, 4, 16, 16\), but"):
        spy.load("block 'b0'", blob, "contiguous", [(takes, "float32")], (gives, "float32"))


def test_every_result_says_its_threads(address: str, tiny_pack: BlockPack, data: Dataset) -> None:
    device: Device = connect(address, threads=2)
    with device.open(tiny_pack) as session:
        assert session.info == device.info
        assert session.info.threads == session.activate(FAST).threads == 2
        assert session.evaluate(plan_of(tiny_pack, [FAST]), data).threads == 2


def test_executorch_really_has_the_threads_it_says(tiny_pack: BlockPack) -> None:
    from executorch.extension.pybindings import _C

    for threads in (2, 1):
        with connect("local", threads).open(tiny_pack) as session:
            session.activate(FAST)
            assert _C._threadpool_get_thread_count() == threads


def test_evaluating_has_threads_of_its_own(address: str, tiny_pack: BlockPack, data: Dataset) -> None:
    plan = plan_of(tiny_pack, list(tiny_pack.graph.paths()))
    with connect(address).open(tiny_pack) as session:
        expected = session.evaluate(plan, data)
    with connect(address, evaluation_threads=2).open(tiny_pack) as session:
        found = session.evaluate(plan, data)
        assert (expected.threads, found.threads, session.info.threads) == (1, 2, 1)
        for metric, sums in expected.sums.items():
            np.testing.assert_array_equal(found.sums[metric], sums)
        session.measure([FAST], 1, 1)
        session.activate(FAST)
        assert session.evaluate(plan, data).threads == 1  # those of the blocks that are loaded


def test_executorch_evaluates_on_the_threads_it_says(tiny_pack: BlockPack, data: Dataset) -> None:
    from executorch.extension.pybindings import _C

    counts: list[int] = []
    with connect("local", evaluation_threads=2).open(tiny_pack) as session:
        plan = plan_of(tiny_pack, [FAST])
        session.evaluate(plan, data, lambda done, total: counts.append(_C._threadpool_get_thread_count()))
        assert set(counts) == {2}
        session.measure([FAST], 1, 1)
        assert _C._threadpool_get_thread_count() == 1


def test_beside_loaded_blocks_evaluating_has_their_threads(tiny_pack: BlockPack, data: Dataset) -> None:
    plan = plan_of(tiny_pack, list(tiny_pack.graph.paths()))
    device = connect("local", evaluation_threads=2)
    with device.open(tiny_pack) as one, device.open(tiny_pack) as other:
        one.activate(FAST)
        assert other.evaluate(plan, data).threads == 1
    with device.open(tiny_pack) as session:
        assert session.evaluate(plan, data).threads == 2


def test_an_evaluation_that_failed_holds_on_to_nothing(tiny_pack: BlockPack, data: Dataset) -> None:
    def give_up(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with connect("local", evaluation_threads=2).open(tiny_pack) as session:
        with pytest.raises(KeyboardInterrupt) as caught:
            session.evaluate(plan_of(tiny_pack, [FAST]), data, give_up)
        assert session.activate(FAST).threads == 1, f"while {caught} has all that was going on"


def test_features_that_are_lost_are_no_loss_on_other_threads(tiny_pack: BlockPack, data: Dataset) -> None:
    paths = list(tiny_pack.graph.paths())
    with connect("local", evaluation_threads=2).open(tiny_pack) as session:
        with Evaluator(session, tiny_pack.metrics, 1 << 30) as evaluator:
            first = evaluator.evaluate(paths, data)
            session.forget()
            again = evaluator.evaluate(paths, data)
        assert first.threads == again.threads == 2
        for metric, sums in first.sums.items():
            np.testing.assert_array_equal(again.sums[metric], sums)


def test_executorch_threads_do_not_change_under_loaded_blocks(tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    with connect("local", threads=1).open(tiny_pack) as session:
        session.activate(FAST)
        with pytest.raises(DeviceError, match=r"cannot run executorch on 2 threads.*run on 1"):
            connect("local", threads=2).open(tiny_pack)
        session.infer(pictures[:1])
    connect("local", threads=2).open(tiny_pack).close()


def test_the_engine_says_nothing_on_standard_error(tiny_pack: BlockPack) -> None:
    """A first use in a fresh process, where the C++ runtimes like to describe the machine."""
    code = (
        "import sys; from adaptivenet.toolkit import connect\n"
        "from adaptivenet.toolkit.pack.pack import BlockPack; "
        "import numpy as np; pack = BlockPack.open(sys.argv[1])\n"
        "with connect(sys.argv[2], threads=2).open(pack) as session:\n"
        "    session.activate(pack.graph.oracle); session.infer(np.zeros((1, 3, 16, 16), np.float32))"
    )
    for address in ENGINES:
        command = [sys.executable, "-c", code, os.fspath(tiny_pack.path), address]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        assert (ran.stdout, ran.stderr) == ("", "")
