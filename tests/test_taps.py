"""Heads that read several features, blocks that let one through, and outputs that are no class scores."""

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
from adaptivenet.export.metrics import MODULES, Fidelity, choose_metrics, example_inputs
from adaptivenet.export.programs import export_program
from adaptivenet.toolkit.cli.profile import main as profile_command
from adaptivenet.toolkit.cli.run import main as run_command
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices import connect
from adaptivenet.toolkit.devices.executorch_engine import ExecuTorchEngine
from adaptivenet.toolkit.devices.interpreter import Engine, PlanRunner, Program, Tensor, TensorType
from adaptivenet.toolkit.devices.local import LocalDevice
from adaptivenet.toolkit.devices.onnxruntime_engine import OnnxRuntimeEngine
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import DataError, ExportError, ModelError, PackError, PlanError
from adaptivenet.toolkit.graph import BlockGraph, Subnet
from adaptivenet.toolkit.pack import BlockPack
from adaptivenet.toolkit.plan import Free, Plan, Run, Score, compile_plan
from adaptivenet.toolkit.profile import choose_metric
from adaptivenet.toolkit.quality import Quality
from click.testing import CliRunner
from graphs import block_graphs
from hypothesis import given
from hypothesis import strategies as st
from packs import edit_manifest
from tapped import CLASSES, GRAPH, tapped
from torch import nn

ENGINES = {"local:executorch": "executorch", "local:onnxruntime": "onnx"}
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


@pytest.fixture(params=ENGINES)
def address(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def torch_output(net: Supernet, image: np.ndarray, subnet: Sequence[str]) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(net(torch.from_numpy(image), subnet).numpy())


# Saved as data


def test_a_head_and_a_skip_are_saved_and_loaded(net: Supernet, images: np.ndarray, tmp_path: Path) -> None:
    net.save(tmp_path / "supernet")
    again = Supernet.load(tmp_path / "supernet")
    assert again.graph == net.graph
    assert again.graph.taps == (1, 3)
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


# Plans


class Mix(nn.Module):
    """Any number of features, mixed into one number that tells their values and their order."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.shift = sum(name.encode()) / 100

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.sin(x * (place + 1) + self.shift) for place, x in enumerate(features)]).sum()


@st.composite
def requests(draw: st.DrawFn) -> tuple[BlockGraph, list[Subnet]]:
    graph = draw(block_graphs().filter(lambda graph: graph.taps))
    return graph, draw(st.lists(st.sampled_from(list(graph.paths())), min_size=1, max_size=8))


@given(requests())
def test_a_plan_gives_each_subnet_the_output_that_the_supernet_gives(
    request: tuple[BlockGraph, list[Subnet]],
) -> None:
    graph, subnets = request
    supernet = Supernet(graph, {block.name: Mix(block.name) for block in graph.blocks})
    plan = compile_plan(graph, subnets, {"m": ("output", "oracle")})
    programs = {name: as_program(block) for name, block in supernet.blocks.items()}
    x = torch.tensor(0.5)
    runner = PlanRunner(plan, programs, {"m": lambda operands, keep=True: tuple(operands)})
    outputs = {score.subnet: found for score, found in runner(x, None)}
    expected = {number: (supernet(x, subnet), supernet(x)) for number, subnet in enumerate(subnets)}
    assert outputs == expected


def as_program(block: nn.Module) -> Program:
    return lambda operands, keep=True: block(*operands)


def test_taps_wait_for_the_last_head_and_no_longer() -> None:
    short = ("b0", "b1-m2", "b3-skip", "head")
    plan = compile_plan(GRAPH, [short, (*short[:-1], "head-p50")], {"top1": ("output", "label")})
    assert plan.instructions == (
        Run("b0", (0,), 2),
        Free(0),
        Run("b1-m2", (2,), 3),
        Run("b3-skip", (3,), 4),
        Run("head", (4, 2, 3), 5),
        Score(0, "top1", (5, 1)),
        Free(5),
        Run("head-p50", (4, 2, 3), 5),
        Free(2),
        Free(3),
        Free(4),
        Score(1, "top1", (5, 1)),
        Free(5),
    )
    bytes_at = [cut.bytes for cut in GRAPH.cuts]
    last = bytes_at[4] + bytes_at[1] + bytes_at[3] + bytes_at[5]
    assert plan.peak_bytes == max(bytes_at[0] + bytes_at[1], last)
    with pytest.raises(PlanError, match=f"needs {plan.peak_bytes} bytes"):
        compile_plan(GRAPH, [short], {"top1": ("output", "label")}, limit_bytes=plan.peak_bytes - 1)
    assert plan.to_json()["instructions"][4] == ["run", "head", [4, 2, 3], 5]
    assert Plan.from_json(GRAPH, json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([4], r"runs block 'head' on the features at cuts \(4,\); it reads \(4, 1, 3\)"),
        ([4, 3, 2], r"on the features at cuts \(4, 3, 1\)"),
        ([4, 2, 3, 3], r"on the features at cuts \(4, 1, 3, 3\)"),
        ([4, 2, 7], "reads slot 7, which is empty"),
        ([4, 2, 1], "reads slot 1, which is empty"),
    ],
)
def test_a_head_reads_its_cuts_in_order(sources: list[int], message: str) -> None:
    doc = compile_plan(GRAPH, [("b0", "b1-m2", "b3-skip", "head")], {"top1": ("output", "label")}).to_json()
    doc["instructions"][4][2] = sources
    with pytest.raises(PlanError, match=message):
        Plan.from_json(GRAPH, doc)


def test_a_head_reads_features_of_one_path() -> None:
    """The other path's feature at the same cut has the right shape, and would give a number that looks right."""
    subnets = [("b0", "b1", "b2", "b3", "head"), ("b0", "b1-m2", "b3", "head")]
    doc = compile_plan(GRAPH, subnets, {"agreement": ("output", "oracle")}).to_json()
    steps = doc["instructions"]
    doc["subnets"] = doc["subnets"][:1]
    first_head = next(place for place, step in enumerate(steps) if step[:2] == ["run", "head"])
    steps.insert(first_head, ["run", "b1-m2", steps[first_head][2][1:2], 9])
    unused = max(step[-1] for step in steps[:first_head] if step[0] == "run") + 1
    steps[first_head][-1] = unused
    steps[first_head + 1][2][2] = unused
    with pytest.raises(PlanError, match="runs block 'head' on features of different paths"):
        Plan.from_json(GRAPH, doc)


# Exported and packed


def test_every_program_is_verified_and_says_its_layout(net: Supernet, pack: BlockPack) -> None:
    assert BlockPack.open(pack.path).graph == net.graph == pack.graph
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
    assert [what for what in told if "unchanged" not in what] == ["head for onnx"]
    assert len(told) == len(GRAPH.blocks) + len(METRICS)
    assert again.artifact("head-p50", "onnx") == pack.artifact("head-p50", "onnx")


@pytest.mark.parametrize("taps", [[], [1], [3]])
def test_a_head_with_other_inputs_than_its_pack_says_is_refused(
    pack: BlockPack, address: str, tmp_path: Path, taps: list[int]
) -> None:
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
            pytest.raises(PackError, match=r"block 'head' takes (float32 \(1, \d+, \d, \d\)( \+ )?){3} and gives"),
        ):
            session.activate(edited.graph.oracle)
    finally:
        (tmp_path / "pack" / "blobs").rename(pack.path / "blobs")


def test_a_bundle_keeps_the_taps(net: Supernet, pack: BlockPack, images: np.ndarray, tmp_path: Path) -> None:
    subnet = ("b0", "b1-skip", "b2", "b3-skip", "head-p50")
    bundle = bundle_pack(pack, tmp_path / "bundle", backend="onnx", subnets=[subnet])
    assert bundle.graph.taps == (1, 3)
    assert {block.name for block in bundle.graph.blocks} == {*GRAPH.oracle, *subnet}
    with connect("local:onnxruntime").open(bundle) as session:
        session.activate(subnet)
        np.testing.assert_allclose(session.infer(images[:1]), torch_output(net, images[:1], subnet), atol=1e-4)


# On a device


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
    assert len({quality.value for quality in evaluation.quality("fidelity")}) == len(subnets)
    # An interval from six images, though 384 pixels were counted.
    pixels = evaluation.quality("top1")[0]
    assert pixels.n == IMAGES
    assert pixels.high - pixels.low > 0.3


class Recorder:
    """A real engine that notes what each program is given."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.version = engine.name, engine.version
        self.backend, self.threads = engine.backend, engine.threads
        self.check_threads, self.tensor, self.array = engine.check_threads, engine.tensor, engine.array
        self.given: list[tuple[str, list[np.ndarray]]] = []

    def load(self, what: str, data: bytes, layout: str, takes: Sequence[TensorType], gives: TensorType) -> Program:
        program = self.engine.load(what, data, layout, takes, gives)

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
    given = [arrays for what, arrays in recorder.given if what == f"block {chain[-1]!r}"]
    assert len(given) == 2
    for arrays in given:
        assert len(arrays) == 3
        for cut, array in zip((4, 1, 3), arrays):
            np.testing.assert_allclose(array, features[cut].numpy(), rtol=1e-4, atol=1e-5)


def test_all_blocks_are_measured_in_one_go(pack: BlockPack, recorder: Recorder) -> None:
    blocks = [(block.name,) for block in pack.graph.blocks]
    with LocalDevice("local", recorder).open(pack) as session:
        latencies = session.measure(blocks, rounds=3, warmup=1)
    assert all(latency.median_ms > 0 for latency in latencies)
    calls = Counter(what for what, _ in recorder.given)
    once = Counter(f"block {name!r}" for name in GRAPH.oracle[:-1])  # they made the inputs
    assert calls == Counter({f"block {name!r}": 4 for (name,) in blocks}) + once


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


# Labels that are maps


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


# Metrics


@pytest.mark.parametrize(
    ("wanted", "shape", "chosen"),
    [
        (None, (1, 5), ("top1", "agreement")),
        (None, (1, 5, 8, 8), ("top1", "agreement")),
        (None, (1, 1, 8, 8), ("fidelity",)),
        (None, (1, 1), ()),
        ((), (1, 5), ()),
        (("fidelity",), (1, 400), ("fidelity",)),
        (("fidelity", "agreement", "fidelity"), (1, 400), ("fidelity", "agreement")),
    ],
)
def test_metrics_are_those_asked_for_or_those_that_the_output_has(
    wanted: Sequence[str] | None, shape: tuple[int, ...], chosen: tuple[str, ...]
) -> None:
    assert choose_metrics(wanted, shape) == chosen


@pytest.mark.parametrize(
    ("wanted", "shape", "message"),
    [
        ("bleu", (1, 5), "unknown metric 'bleu': choose from top1, agreement, fidelity"),
        ("top1", (1, 1, 8, 8), "'top1' needs outputs with class scores along dimension 1"),
        ("fidelity", (1, 1), r"'fidelity' needs outputs with several numbers: these have shape \(1, 1\)"),
    ],
)
def test_metrics_that_make_no_sense_are_refused(wanted: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        choose_metrics([wanted], shape)


def test_fidelity_is_the_share_of_the_oracles_variance() -> None:
    torch.manual_seed(0)
    fidelity, oracle = Fidelity(), torch.randn(1, 40) * 30 + 100
    mean = torch.full_like(oracle, float(oracle.mean()))
    for output, expected in [
        (oracle, 1),
        (mean, 0),
        (-oracle, 0),
        (oracle * 1e30, 0),
        ((oracle + mean) / 2, 0.75),
    ]:
        torch.testing.assert_close(fidelity(output, oracle), torch.tensor([expected, 1.0]), atol=1e-5, rtol=0)
    assert fidelity(mean, mean).tolist() == [1, 1]
    assert fidelity(mean + 1e-3, mean).tolist() == [0, 1]


def test_fidelity_is_exported_for_the_concatenated_heads_of_a_detector() -> None:
    inputs = example_inputs("fidelity", (1, 400))
    assert 0.5 < Fidelity()(*inputs)[0] < 0.9, "a value of 0 or 1 would verify nothing"
    program = export_program("metric 'fidelity'", Fidelity().eval(), inputs, "onnx")
    assert program.max_abs_error < 1e-5


def test_an_interval_is_from_images_whatever_was_counted() -> None:
    assert Quality.from_counts("top1", 3, 4) == Quality.from_counts("top1", 3, 4, 4)
    pixels = Quality.from_counts("top1", 300, 400, 4)
    assert (pixels.value, pixels.low, pixels.high, pixels.n) == (0.75, *interval(3, 4), 4)
    assert Quality.from_counts("fidelity", 2.5, 4, 4).value == 0.625


def interval(correct: float, count: float) -> tuple[float, float]:
    quality = Quality.from_counts("m", correct, count)
    return quality.low, quality.high


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_wilsons_interval_is_wide_enough_for_means(values: list[float]) -> None:
    """It holds the interval that counts as many rights and wrongs: no numbers between 0 and 1 vary more."""
    mean = float(np.mean(values))
    assert np.var(values) <= mean * (1 - mean) + 1e-12
    quality = Quality.from_counts("fidelity", min(sum(values), len(values)), len(values))
    assert quality.low - 1e-9 <= mean <= quality.high + 1e-9
