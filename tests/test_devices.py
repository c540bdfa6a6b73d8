"""The local device on a real pack: both engines run the same blocks, and the interpreter runs each prefix once."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices import Device, Session, connect
from adaptivenet.toolkit.devices.executorch_engine import ExecuTorchEngine
from adaptivenet.toolkit.devices.interpreter import Engine, Program, Tensor, TensorType
from adaptivenet.toolkit.devices.local import LocalDevice
from adaptivenet.toolkit.devices.onnxruntime_engine import OnnxRuntimeEngine
from adaptivenet.toolkit.errors import DataError, DeviceError, EngineMissing, GraphError, PackError, PlanError
from adaptivenet.toolkit.graph import Subnet
from adaptivenet.toolkit.pack import BlockPack
from adaptivenet.toolkit.plan import Plan, compile_plan
from packs import build_pack

ENGINES = ("local:executorch", "local:onnxruntime")
FAST = ("b0-m2", "b2")
THIN = ("b0-p50", "b1-p50", "b2")


class Spy:
    """A real engine that notes what it is asked: `loads` and `calls` in order, by the names that errors use."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.version, self.backend, self.threads = (
            engine.name,
            engine.version,
            engine.backend,
            engine.threads,
        )
        self.check_threads, self.tensor, self.array = engine.check_threads, engine.tensor, engine.array
        self.loads: list[str] = []
        self.calls: list[str] = []

    def load(self, what: str, data: bytes, layout: str, takes: Sequence[TensorType], gives: TensorType) -> Program:
        self.loads.append(what)
        program = self.engine.load(what, data, layout, takes, gives)

        def noted(operands: Sequence[Tensor], keep: bool = True) -> Tensor:
            self.calls.append(what)
            return program(operands, keep)

        return noted


@pytest.fixture(params=ENGINES)
def address(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def session(address: str, tiny_pack: BlockPack) -> Iterator[Session]:
    with connect(address).open(tiny_pack) as session:
        yield session


@pytest.fixture
def spy(address: str) -> Spy:
    return Spy(ExecuTorchEngine(1) if address == "local:executorch" else OnnxRuntimeEngine(1))


@pytest.fixture
def watched(spy: Spy, tiny_pack: BlockPack) -> Iterator[Session]:
    with LocalDevice("local", spy).open(tiny_pack) as session:
        yield session


@pytest.fixture(scope="session")
def data(tiny_pack: BlockPack, pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    np.savez(path, images=pictures, labels=np.arange(len(pictures)) % 5)
    return open_data(path, None, tiny_pack.classes, tiny_pack.graph.cuts[0])


def plan_of(pack: BlockPack, subnets: Sequence[Sequence[str]], metrics: Sequence[str] = ("top1", "agreement")) -> Plan:
    return compile_plan(pack.graph, subnets, {metric: pack.metrics[metric] for metric in metrics})


def outputs(session: Session, subnet: Sequence[str], pictures: np.ndarray) -> np.ndarray:
    session.activate(subnet)
    return np.concatenate([session.infer(picture[None]) for picture in pictures])


# The device


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


@pytest.mark.parametrize("address", ["", "lokal", "local:", "local:tflite", "LOCAL"])
def test_an_unknown_address_lists_the_known_ones(address: str) -> None:
    with pytest.raises(DeviceError, match=r"local, local:executorch, local:onnxruntime$") as caught:
        connect(address)
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize("threads", [0, -1])
def test_at_least_one_thread_is_needed(address: str, threads: int) -> None:
    with pytest.raises(DeviceError, match=f"{threads} threads"):
        connect(address, threads)


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
        "import sys; from adaptivenet.toolkit.devices import connect; connect('local:onnxruntime'); "
        "assert not {'torch', 'executorch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_pack_without_the_engines_artifacts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"no executorch artifacts.*it has onnx"):
        connect("local").open(build_pack(tmp_path / "onnx-only"))


# Paging and inference


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
    assert spy.loads == ["block 'b1-p50'"]
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


# Programs that are not what the manifest says


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


# Threads


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


def test_executorch_threads_do_not_change_under_loaded_blocks(tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    with connect("local", threads=1).open(tiny_pack) as session:
        session.activate(FAST)
        with pytest.raises(DeviceError, match=r"cannot run executorch on 2 threads.*run on 1"):
            connect("local", threads=2).open(tiny_pack)
        session.infer(pictures[:1])
    connect("local", threads=2).open(tiny_pack).close()


# Measuring


def test_each_chain_is_measured_once_a_round(watched: Session, spy: Spy) -> None:
    oracle = watched.pack.graph.oracle
    chains = [("b0",), ("b1", "b2"), oracle, ("b0-m2",)]
    seen: list[tuple[int, int]] = []
    latencies = watched.measure(chains, rounds=6, warmup=2, progress=lambda done, total: seen.append((done, total)))
    assert [latency.repetitions for latency in latencies] == [6] * 4
    assert all(latency.median_ms > 0 and latency.spread_ms >= 0 for latency in latencies)
    assert seen == [(done, 8) for done in range(1, 9)]
    # The oracle ran once to give `("b1", "b2")` its input; after that, in 8 rounds, each chain once.
    blocks = Counter(name for chain in chains for name in chain)
    once = Counter({"b0": 1})
    assert Counter(spy.calls) == Counter({f"block {name!r}": 8 * blocks[name] + once[name] for name in blocks})
    assert sorted(spy.loads) == sorted({f"block {name!r}" for name in blocks})


def test_rounds_interleave_the_chains_in_shuffled_order(watched: Session, spy: Spy) -> None:
    singles = [(block.name,) for block in watched.pack.graph.blocks if block.start == 0]
    watched.measure(singles, rounds=20, warmup=0)
    rounds = [tuple(spy.calls[at : at + len(singles)]) for at in range(0, len(spy.calls), len(singles))]
    assert len(rounds) == 20
    assert {tuple(sorted(order)) for order in rounds} == {tuple(sorted(f"block {name!r}" for (name,) in singles))}
    assert len(set(rounds)) > 1


def test_measuring_leaves_only_the_active_subnet(watched: Session, spy: Spy, data: Dataset) -> None:
    watched.activate(FAST)
    spy.loads.clear()
    watched.measure([FAST, THIN], rounds=1, warmup=0)
    assert Counter(spy.loads) == Counter({"block 'b0-p50'": 1, "block 'b1-p50'": 1})
    watched.evaluate(plan_of(watched.pack, [THIN], ["top1"]), data)
    assert watched.resident.blocks == FAST


def test_a_chain_is_given_the_oracles_feature(tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    engine = OnnxRuntimeEngine(1)
    given: list[np.ndarray] = []

    class Recorder(Spy):
        def load(self, what: str, data: bytes, layout: str, takes: Sequence[TensorType], gives: TensorType) -> Program:
            program = super().load(what, data, layout, takes, gives)

            def recorded(operands: Sequence[Tensor], keep: bool = True) -> Tensor:
                given.extend(operands if what == "block 'b2'" else ())
                return program(operands, keep)

            return recorded

    with LocalDevice("local", Recorder(engine)).open(tiny_pack) as session:
        session.measure([("b2",)], rounds=1, warmup=0, sample=pictures[:1])
        assert session.resident.blocks == ()
        last = tiny_pack.graph.cuts[2]
        expected = pictures[:1]
        for name in ("b0", "b1"):
            artifact, block = tiny_pack.artifact(name, "onnx"), tiny_pack.graph[name]
            start, end = tiny_pack.graph.cuts[block.start], tiny_pack.graph.cuts[block.end]
            program = engine.load(
                name, tiny_pack.read(artifact), "contiguous", [(start.shape, "float32")], (end.shape, "float32")
            )
            expected = program([expected])
    assert [feature.shape for feature in given] == [last.shape]
    np.testing.assert_allclose(given[0], expected, atol=1e-6)


def test_a_sample_of_the_wrong_form_is_refused(session: Session) -> None:
    with pytest.raises(DataError, match=r"the sample is float32 \(1, 3\); the pack takes float32 \(1, 3, 16, 16\)"):
        session.measure([FAST], sample=np.zeros((1, 3), np.float32))


@pytest.mark.parametrize("chain", [(), ("b0", "b2"), ("b1", "b0"), ("nothing",)])
def test_a_chain_that_is_none_is_refused(session: Session, chain: tuple[str, ...]) -> None:
    with pytest.raises(GraphError):
        session.measure([FAST, chain])


def test_garbage_collection_is_back_on_after_measuring(session: Session) -> None:
    during: list[bool] = []
    session.measure([FAST], rounds=2, warmup=1, progress=lambda done, total: during.append(gc.isenabled()))
    assert during == [True] * 3
    gc.disable()
    try:
        session.measure([FAST], rounds=1, warmup=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


# Evaluating


def trie_edges(subnets: Sequence[Subnet]) -> Counter[str]:
    """How often each block stands in the trie of these paths."""
    return Counter(prefix[-1] for prefix in {subnet[:end] for subnet in subnets for end in range(1, len(subnet) + 1)})


def test_a_shared_prefix_runs_once(watched: Session, spy: Spy, data: Dataset) -> None:
    subnets = list(watched.pack.graph.paths())
    edges = trie_edges(subnets)
    assert sum(edges.values()) < sum(map(len, subnets))
    evaluation = watched.evaluate(plan_of(watched.pack, subnets), data)
    called = Counter(spy.calls)
    assert {name: called[f"block {name!r}"] for name in edges} == {
        name: count * len(data) for name, count in edges.items()
    }
    assert evaluation.block_runs == sum(edges.values()) * len(data)
    assert called["metric 'top1'"] == called["metric 'agreement'"] == len(subnets) * len(data)
    assert len(spy.loads) == len(set(spy.loads)) == len(edges) + 2


def test_the_oracle_runs_only_for_a_metric_that_reads_it(watched: Session, spy: Spy, data: Dataset) -> None:
    watched.evaluate(plan_of(watched.pack, [FAST], ["top1"]), data)
    assert "block 'b0'" not in spy.calls
    watched.evaluate(plan_of(watched.pack, [FAST], ["agreement"]), data)
    assert spy.calls.count("block 'b0'") == len(data)


def test_an_evaluation_is_what_each_subnet_gives_alone(session: Session, data: Dataset, pictures: np.ndarray) -> None:
    oracle = session.pack.graph.oracle
    subnets = [*session.pack.graph.paths(), session.pack.graph.subnet(FAST)]
    seen: list[tuple[int, int]] = []
    evaluation = session.evaluate(plan_of(session.pack, subnets), data, lambda done, total: seen.append((done, total)))
    answers = {subnet: outputs(session, subnet, pictures).argmax(1) for subnet in subnets}
    assert len(np.unique(answers[oracle])) > 1
    labels = data.labels
    assert labels is not None
    for index, subnet in enumerate(subnets):
        for metric, right in (("top1", labels), ("agreement", answers[oracle])):
            correct = (answers[subnet] == right).astype(np.float64)
            np.testing.assert_array_equal(
                evaluation.sums[metric][index], np.stack([correct, np.ones(len(data))], axis=1)
            )
            quality = evaluation.quality(metric)[index]
            assert (quality.metric, quality.n) == (metric, len(data))
            assert quality.value == pytest.approx(correct.mean())
    assert evaluation.quality("agreement")[subnets.index(oracle)].value == 1
    assert len({quality.value for quality in evaluation.quality("agreement")}) > 1
    assert evaluation.subnets == tuple(subnets)
    assert (evaluation.images, evaluation.engine, evaluation.threads) == (len(data), session.info.engine, 1)
    assert evaluation.seconds > 0
    assert seen == [(done, len(data)) for done in range(1, len(data) + 1)]


def test_a_block_that_runs_on_two_prefixes_does_not_overwrite_its_output(
    session: Session, data: Dataset, pictures: np.ndarray
) -> None:
    """The oracle's output waits in its slot while the last block runs again for every other subnet."""
    others = [subnet for subnet in session.pack.graph.paths() if subnet != session.pack.graph.oracle]
    together = session.evaluate(plan_of(session.pack, others, ["agreement"]), data)
    for index, subnet in enumerate(others):
        alone = session.evaluate(plan_of(session.pack, [subnet], ["agreement"]), data)
        np.testing.assert_array_equal(together.sums["agreement"][index], alone.sums["agreement"][0])


def test_missing_labels_are_missed_only_by_a_metric_that_needs_them(
    session: Session, pictures: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "pictures.npy", pictures)
    data = open_data(tmp_path / "pictures.npy", None, None, session.pack.graph.cuts[0])
    assert session.evaluate(plan_of(session.pack, [FAST], ["agreement"]), data).images == len(pictures)
    with pytest.raises(DataError, match="metric 'top1' needs labels and the data has none"):
        session.evaluate(plan_of(session.pack, [FAST]), data)


def test_images_that_do_not_fit_are_named_with_both_shapes(session: Session, tmp_path: Path) -> None:
    from adaptivenet.toolkit.graph import Cut

    np.save(tmp_path / "larger.npy", np.zeros((2, 3, 20, 20), np.float32))
    data = open_data(tmp_path / "larger.npy", None, None, Cut(0, (1, 3, 20, 20)))
    with pytest.raises(
        DataError, match=r"image 0 is float32 \(1, 3, 20, 20\); the pack takes float32 \(1, 3, 16, 16\)"
    ):
        session.evaluate(plan_of(session.pack, [FAST], ["agreement"]), data)


def test_no_images_are_no_evaluation(session: Session, data: Dataset) -> None:
    with pytest.raises(DataError, match="no images"):
        session.evaluate(plan_of(session.pack, [FAST]), data.subset([]))


def test_a_plan_for_another_pack_is_refused(session: Session, data: Dataset) -> None:
    from adaptivenet.toolkit.graph import Block, BlockGraph, Cut

    graph = session.pack.graph
    metrics = {"agreement": session.pack.metrics["agreement"]}
    strange = BlockGraph(
        [Cut(index, (1, 2)) for index in range(4)],
        [Block(f"b{index}", index, index + 1, "original") for index in range(3)],
    )
    renamed = BlockGraph(graph.cuts, [Block(f"c{index}", index, index + 1, "original") for index in range(3)])
    for other, block in ((strange, "b0"), (renamed, "c0")):
        with pytest.raises(PlanError, match=f"block {block!r} of the plan is not one of pack 'tiny'"):
            session.evaluate(compile_plan(other, [other.oracle], metrics), data)
    for name, operands in (("bleu", ("output", "label")), ("agreement", ("output", "label")), ("top1", ("output",))):
        with pytest.raises(PlanError, match=f"metric {name!r} of the plan is not one of pack 'tiny'"):
            session.evaluate(compile_plan(graph, [FAST], {name: operands}), data)


def test_the_engine_says_nothing_on_standard_error(tiny_pack: BlockPack) -> None:
    """A first use in a fresh process, where the C++ runtimes like to describe the machine."""
    code = (
        "import sys; from adaptivenet.toolkit.devices import connect; from adaptivenet.toolkit.pack import BlockPack; "
        "import numpy as np; pack = BlockPack.open(sys.argv[1])\n"
        "with connect(sys.argv[2], threads=2).open(pack) as session:\n"
        "    session.activate(pack.graph.oracle); session.infer(np.zeros((1, 3, 16, 16), np.float32))"
    )
    for address in ENGINES:
        command = [sys.executable, "-c", code, os.fspath(tiny_pack.path), address]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        assert (ran.stdout, ran.stderr) == ("", "")
