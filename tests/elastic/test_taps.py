"""Heads that read several features and blocks that let one through: saved, exported, and run on a device."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.export import bundle_pack, export_pack
from adaptivenet.export.metrics import MODULES
from adaptivenet.toolkit.cli.profile import main as profile_command
from adaptivenet.toolkit.cli.run import main as run_command
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.local.executorch_engine import ExecuTorchEngine
from adaptivenet.toolkit.devices.local.interpreter import (
    Assemble,
    Engine,
    Part,
    Program,
    Tensor,
    TensorType,
    first_readers,
)
from adaptivenet.toolkit.devices.local.local import LocalDevice
from adaptivenet.toolkit.devices.local.onnxruntime_engine import OnnxRuntimeEngine
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import DataError, ModelError, PackError
from adaptivenet.toolkit.graph.quality import Quality
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import compile_plan
from adaptivenet.toolkit.profiling.verify import choose_metric
from click.testing import CliRunner
from packs import edit_manifest
from tapped import CLASSES, GRAPH, tapped

METRICS = ("fidelity", "top1", "agreement")
IMAGES = 6

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net() -> Supernet:
    return tapped()


@pytest.fixture(scope="module")
def pack(net: Supernet, tmp_path_factory: pytest.TempPathFactory) -> BlockPack:
    path = tmp_path_factory.mktemp("packs") / "tapped"
    return export_pack(net, path, name="tapped", metrics=METRICS, classes=CLASSES, jobs=2)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(3)
    return (rng.normal(0, 1, (IMAGES, 3, 16, 16)) + rng.normal(0, 3, (IMAGES, 3, 1, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(4).integers(0, len(CLASSES), (IMAGES, 8, 8))


@pytest.fixture(scope="module")
def data(images: np.ndarray, labels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("data") / "maps.npz"
    np.savez(path, images=images, labels=labels)
    return open_data(path, None, CLASSES, GRAPH.cuts[0])


def torch_output(net: Supernet, image: np.ndarray, subnet: Sequence[str]) -> np.ndarray:
    if tuple(subnet) == ("whole",):  # which a pack has, and a supernet has not
        subnet = net.graph.oracle
    with torch.no_grad():
        return np.asarray(net(torch.from_numpy(image), subnet).numpy())


def test_a_head_and_a_skip_are_saved_and_loaded(net: Supernet, images: np.ndarray, tmp_path: Path) -> None:
    net.save(tmp_path / "supernet")
    again = Supernet.load(tmp_path / "supernet")
    assert again.graph == net.graph
    assert again.graph.taps == (0, 1, 3)
    for subnet in net.graph.paths():
        np.testing.assert_array_equal(
            torch_output(again, images[:1], subnet), torch_output(net, images[:1], subnet), err_msg=str(subnet)
        )
    assert not [key for key in again.state_dict() if "skip" in key]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda doc: doc.update(taps=[1]), "block 'head' does not run"),
        (lambda doc: doc.update(taps=[]), "block 'head' does not run"),
        (lambda doc: doc.update(taps=[1, 2, 3]), "block 'b1-m2' jumps over cut 2, which is a tap"),
        (lambda doc: head(doc)[1].update(target="deep"), "duplicate argument 'deep'"),
        (lambda doc: head(doc)[1].update(name="deep"), "is damaged"),
        (lambda doc: head(doc)[1].update(target="*deep"), "is no name"),
        (lambda doc: head(doc).insert(5, head(doc).pop(1)), "do not lead from its inputs, which come first"),
        (lambda doc: head(doc).pop(1), "is damaged"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    net: Supernet, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    net.save(tmp_path / "supernet")
    recipe = tmp_path / "supernet" / "supernet.json"
    doc = json.loads(recipe.read_text())
    change(doc)
    recipe.write_text(json.dumps(doc))
    with pytest.raises(ModelError, match=message):
        Supernet.load(tmp_path / "supernet")


def head(doc: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations of the head in a recipe."""
    nodes: list[dict[str, Any]] = next(b["program"]["nodes"] for b in doc["blocks"] if b["name"] == "head")
    return nodes


def test_every_program_is_verified_and_says_its_layout(net: Supernet, pack: BlockPack) -> None:
    assert BlockPack.open(pack.path).graph == pack.graph
    assert [block for block in pack.graph.blocks if not block.is_network] == list(net.graph.blocks)
    assert pack.graph.taps == net.graph.taps
    assert pack.graph.reads(pack.graph["whole"]) == (0,)
    assert pack.metrics == {name: MODULES[name].operands for name in METRICS}
    assert pack.sums["fidelity"] == ("fidelity", "count")
    for artifact in pack.artifacts():
        assert artifact.max_abs_error is not None
        assert artifact.tolerance is not None
        assert artifact.max_abs_error <= artifact.tolerance
    for name in ("head", "b1-skip"):
        layouts = {backend: pack.artifact(name, backend).layout for backend in pack.backends}
        assert layouts == {"executorch": "channels_last", "onnx": "contiguous"}


def test_only_what_changed_is_exported_again(net: Supernet, pack: BlockPack, tmp_path: Path) -> None:
    changed = tapped()
    with torch.no_grad():
        changed.blocks["head"].shallow.weight += 1
    told: list[str] = []
    backends = ["onnx"]
    again = export_pack(
        changed,
        tmp_path / "pack",
        backends,
        metrics=METRICS,
        reuse=pack.path,
        jobs=1,
        progress=lambda done, total, what: told.append(what),
    )
    assert {what for what in told if "unchanged" not in what} == {"head for onnx", "whole for onnx"}
    assert len(told) == len(GRAPH.blocks) + 1 + len(METRICS)
    assert again.artifact("head-p50", "onnx") == pack.artifact("head-p50", "onnx")


@pytest.mark.parametrize("taps", [[], [1], [3]])
def test_a_head_with_other_inputs_than_its_pack_says_is_refused(
    pack: BlockPack, address: str, tmp_path: Path, taps: list[int]
) -> None:
    refused = r"block 'head' takes (float32 \(1, \d+, \d+, \d+\)( \+ )?){4} and gives"
    if address == "local:onnxruntime":
        borders = ", ".join(f"cut{cut}" for cut in (4, *taps))
        refused = f"block 'head' is no ONNX program .*: its inputs are not {borders} and its output cut5"
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "blobs").symlink_to(pack.path / "blobs")
    (tmp_path / "pack" / "manifest.json").write_bytes((pack.path / "manifest.json").read_bytes())
    edit_manifest(tmp_path / "pack", lambda manifest: manifest.update(taps=taps))
    (tmp_path / "pack" / "blobs").unlink()
    (pack.path / "blobs").rename(tmp_path / "pack" / "blobs")
    try:
        edited = BlockPack.open(tmp_path / "pack")
        with (
            connect(address).open(edited) as session,
            pytest.raises(PackError, match=refused),
        ):
            session.activate(edited.graph.oracle)
    finally:
        (tmp_path / "pack" / "blobs").rename(pack.path / "blobs")


def test_a_bundle_keeps_the_taps(net: Supernet, pack: BlockPack, images: np.ndarray, tmp_path: Path) -> None:
    subnet = ("b0", "b1-skip", "b2", "b3-skip", "head-p50")
    bundle = bundle_pack(pack, tmp_path / "bundle", backend="onnx", subnets=[subnet])
    assert bundle.graph.taps == (0, 1, 3)
    assert {block.name for block in bundle.graph.blocks} == {*GRAPH.oracle, *subnet}
    with connect("local:onnxruntime").open(bundle) as session:
        session.activate(subnet)
        np.testing.assert_allclose(session.infer(images[:1]), torch_output(net, images[:1], subnet), atol=1e-4)


def test_every_subnet_infers_what_torch_computes(
    net: Supernet, pack: BlockPack, images: np.ndarray, address: str
) -> None:
    with connect(address).open(pack) as session:
        for subnet in pack.graph.paths():
            session.activate(subnet)
            for index in range(2):
                image = images[index : index + 1]
                np.testing.assert_allclose(
                    session.infer(image), torch_output(net, image, subnet), rtol=1e-4, atol=1e-4, err_msg=str(subnet)
                )


def test_an_evaluation_is_what_torch_computes(
    net: Supernet, pack: BlockPack, data: Dataset, images: np.ndarray, labels: np.ndarray, address: str
) -> None:
    subnets = list(pack.graph.paths())
    with connect(address).open(pack) as session:
        evaluation = session.evaluate(compile_plan(pack.graph, subnets, pack.metrics), data)
    prefixes = {subnet[:end] for subnet in subnets for end in range(1, len(subnet) + 1)}
    assert evaluation.block_runs == len(prefixes) * IMAGES
    for number, subnet in enumerate(subnets):
        for index in range(IMAGES):
            output, oracle = (
                torch_output(net, images[index : index + 1], path) for path in (subnet, pack.graph.oracle)
            )
            expected = max(0.0, 1 - ((output - oracle) ** 2).sum() / ((oracle - oracle.mean()) ** 2).sum())
            np.testing.assert_allclose(evaluation.sums["fidelity"][number, index], [expected, 1], atol=1e-4)
            answer = output.argmax(1)[0]
            same = {"top1": answer == labels[index], "agreement": answer == oracle.argmax(1)[0]}
            for metric, correct in same.items():
                # Where two scores are almost equal, the engine may choose the other one: a pixel or two.
                np.testing.assert_allclose(evaluation.sums[metric][number, index], [correct.sum(), 64], atol=2)
    best = evaluation.quality("fidelity")[subnets.index(pack.graph.oracle)]
    assert (best.value, best.high, best.n) == (1, 1, IMAGES)
    whole = subnets.index(pack.graph.reference)
    others = [quality.value for at, quality in enumerate(evaluation.quality("fidelity")) if at != whole]
    assert len(set(others)) == len(subnets) - 1
    assert evaluation.quality("fidelity")[whole].value == pytest.approx(1, abs=1e-6)
    # An interval from six images, though 384 pixels were counted.
    pixels = evaluation.quality("top1")[0]
    assert pixels.n == IMAGES
    counted = Quality.from_counts("top1", round(384 * pixels.value), 384)
    assert pixels.high - pixels.low > 1.2 * (counted.high - counted.low)


class Recorder:
    """A real engine that notes what each program is given: a chain's programs, or the one that it is assembled to."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.version = engine.name, engine.version
        self.backend, self.threads = engine.backend, engine.threads
        self.check_threads, self.tensor, self.array = engine.check_threads, engine.tensor, engine.array
        self.assemble: Assemble | None = self.assembled if engine.assemble else None
        self.given: list[tuple[str, list[np.ndarray]]] = []

    def load(self, what: str, data: bytes, layout: str, takes: Sequence[TensorType], gives: TensorType) -> Program:
        return self.noted(what, self.engine.load(what, data, layout, takes, gives))

    def assembled(self, parts: Sequence[Part], types: Sequence[TensorType]) -> Program:
        assert self.engine.assemble
        return self.noted(" ".join(part.what for part in parts), self.engine.assemble(parts, types))

    def noted(self, what: str, program: Program) -> Program:
        def noted(operands: Sequence[Tensor], keep: bool = True) -> Tensor:
            self.given.append((what, [self.engine.array(operand) for operand in operands]))
            return program(operands, keep)

        return noted


@pytest.fixture
def recorder(address: str) -> Recorder:
    return Recorder(ExecuTorchEngine(1) if address == "local:executorch" else OnnxRuntimeEngine(1))


@pytest.mark.parametrize("chain", [("head",), ("b3-skip", "head-p50"), ("b2", "b3", "head"), tuple(GRAPH.oracle)])
def test_a_head_is_measured_with_all_its_features(
    net: Supernet, pack: BlockPack, images: np.ndarray, recorder: Recorder, chain: tuple[str, ...]
) -> None:
    """What the chain makes itself comes from the chain, everything before it from the oracle."""
    with LocalDevice("local", recorder).open(pack) as session:
        (latency,) = session.measure([chain], rounds=2, warmup=0, sample=images[:1])
    assert latency.repetitions == 2
    assert latency.median_ms > 0
    start = pack.graph[chain[0]].start
    with torch.no_grad():
        features = dict(enumerate(net.features(torch.from_numpy(images[:1]))[: start + 1]))
        for name in chain:
            reads = pack.graph.reads(pack.graph[name])
            features[pack.graph[name].end] = net.blocks[name](*(features[cut] for cut in reads))
    program = chain[-1:] if session.stamps_cuts else chain
    cuts = list(first_readers(pack.graph, [pack.graph[name] for name in program]))
    given = [arrays for what, arrays in recorder.given if what == " ".join(f"block {name!r}" for name in program)]
    assert len(given) == 4  # two rounds, and in each of them once before it is timed
    for arrays in given:
        for cut, array in zip(cuts, arrays, strict=True):
            np.testing.assert_allclose(array, features[cut].numpy(), rtol=1e-4, atol=1e-5)


def test_all_blocks_are_measured_in_one_go(pack: BlockPack, recorder: Recorder) -> None:
    blocks = [(block.name,) for block in pack.graph.blocks]
    with LocalDevice("local", recorder).open(pack) as session:
        latencies = session.measure(blocks, rounds=3, warmup=1)
    assert all(latency.median_ms > 0 for latency in latencies)
    calls = Counter(what for what, _ in recorder.given)
    once = Counter(f"block {name!r}" for name in GRAPH.oracle[:-1])  # they made the inputs
    assert calls == Counter({f"block {name!r}": 8 for (name,) in blocks}) + once  # timed, and before that


def test_an_outputs_memory_is_not_its_inputs(pack: BlockPack, address: str) -> None:
    """A skip's program gives a tensor of its own: overwriting its input later must not change it."""
    engine: Engine = ExecuTorchEngine(1) if address == "local:executorch" else OnnxRuntimeEngine(1)
    artifact = pack.artifact("b1-skip", engine.backend)
    shape = GRAPH.cuts[1].shape
    program = engine.load("skip", pack.read(artifact), artifact.layout, [(shape, "float32")], (shape, "float32"))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for keep in (True, False):
        given = engine.tensor(x.copy(), artifact.layout)
        output = program([given], keep)
        given[:] = 7
        np.testing.assert_array_equal(engine.array(output), x)


def test_from_the_pack_to_serving(
    net: Supernet, pack: BlockPack, data: Dataset, images: np.ndarray, labels: np.ndarray, address: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "maps.npz", images=images, labels=labels)
    found = tmp_path / "profile.json"
    given = [str(pack.path), "--device", address, "--data", str(tmp_path / "maps.npz"), "--budget", "1000ms"]
    settings = ["--rounds", "3", "--evaluations", "12", "--search-images", "3", "--out", str(found), "--json"]
    done = CliRunner().invoke(profile_command, [*given, *settings], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert {block["name"] for block in document["blocks"]} == {block.name for block in pack.graph.blocks}
    assert document["search"]["metric"] == "top1"
    (budget,) = document["budgets"]
    assert {quality["metric"] for quality in budget["also"]} == {"fidelity", "agreement"}
    serve = [str(pack.path), str(found), "--data", str(tmp_path / "maps.npz"), "--budget", "1000ms", "--count", "4"]
    served = CliRunner().invoke(run_command, [*serve, "--json"], catch_exceptions=False)
    assert served.exit_code == 0, served.output
    assert json.loads(served.stdout)["answers"] is None  # a map of classes is not one answer
    with connect(address).open(pack) as session:
        session.activate(budget["subnet"])
        expected = torch_output(net, images[:1], budget["subnet"])
        np.testing.assert_allclose(session.infer(images[:1]), expected, rtol=1e-4, atol=1e-4)


def test_labels_must_have_the_outputs_shape(pack: BlockPack, data: Dataset, images: np.ndarray, tmp_path: Path) -> None:
    assert pack.label == (1, 8, 8)
    assert data.subset([0]).digest != data.subset([1]).digest
    np.savez(tmp_path / "classes.npz", images=images, labels=np.zeros(IMAGES, np.int64))
    classes = open_data(tmp_path / "classes.npz", None, CLASSES, GRAPH.cuts[0])
    assert choose_metric(pack, data, None) == "top1"
    assert choose_metric(pack, classes, None) == "fidelity"
    with pytest.raises(
        DataError, match=r"'top1' needs labels, and classes.npz has some of shape \(1,\): .* \(1, 8, 8\)"
    ):
        choose_metric(pack, classes, "top1")
    plan = compile_plan(GRAPH, [GRAPH.oracle], {"top1": pack.metrics["top1"]})
    with (
        connect("local:onnxruntime").open(pack) as session,
        pytest.raises(DataError, match=r"needs labels of shape \(1, 8, 8\), and those of the data have \(1,\)"),
    ):
        session.evaluate(plan, classes)
