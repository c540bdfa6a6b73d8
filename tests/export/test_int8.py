"""Int8 variants and whole networks in a pack: made by the real quantisers, run by the real engines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from adaptivenet.export import bundle_pack, export_pack
from adaptivenet.export.calibration import cuts_of_one_scale
from adaptivenet.export.int8 import Calibration
from adaptivenet.export.memo import calibrate_on_one_thread
from adaptivenet.export.onnx_part import Place
from adaptivenet.export.programs import export_program
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.local.interpreter import Part
from adaptivenet.toolkit.devices.local.onnx_assembly import assemble
from adaptivenet.toolkit.elastic import Supernet, elastify, lowrank, prune, skip
from adaptivenet.toolkit.errors import ExportError
from adaptivenet.toolkit.graph.graph import Block
from adaptivenet.toolkit.pack.pack import BlockPack
from graphs import chain
from packs import block_programs
from small_training import Small
from tapped import tapped
from torch import nn

BACKENDS = {"executorch": "local:executorch", "onnx": "local:onnxruntime"}

pytestmark = pytest.mark.usefixtures("one_thread")


def inputs(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


class Smaller(nn.Module):
    """Another network of the same input and output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Supernet:
    torch.manual_seed(0)
    return elastify(Small(2).eval(), torch.zeros(1, 3, 16, 16), kinds=[prune(0.34), lowrank(0.5), skip()])


@pytest.fixture(scope="module")
def pack(net: Supernet, tmp_path_factory: pytest.TempPathFactory) -> BlockPack:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("packs") / "small"
    return export_pack(net, path, jobs=2, calibrate=inputs(8), also={"smaller": Smaller().eval()})


def test_what_has_weights_is_there_in_int8_too(net: Supernet, pack: BlockPack) -> None:
    blocks = {block.name: block for block in pack.graph.blocks}
    assert pack.graph.oracle == net.graph.oracle
    assert pack.graph.networks == (("smaller",), ("smaller-int8",), ("whole",), ("whole-int8",))
    for name, block in blocks.items():
        if block.precision == "int8":
            of = blocks[name.removesuffix("-int8")]
            assert (of.start, of.end, of.kind, of.precision) == (block.start, block.end, block.kind, "float32")
            assert block.loss is not None
            assert block.loss > (of.loss or 0)
        else:
            assert (f"{name}-int8" in blocks) == (block.params > 0), "a skip has nothing to quantise"
        for backend in pack.backends:
            artifact = pack.artifact(name, backend)
            assert (artifact.snr_db is not None) == (block.precision == "int8") == (artifact.tolerance is None)
            assert artifact.snr_db is None or 10 < artifact.snr_db < 60
    assert BlockPack.open(pack.path).digest == pack.digest


@pytest.mark.parametrize("backend", BACKENDS)
def test_int8_is_near_the_network_and_float32_as_one_program_is_the_network(
    net: Supernet, pack: BlockPack, backend: str
) -> None:
    x = inputs(1, seed=9)
    with torch.no_grad():
        wanted = net(x).numpy()
    largest = np.abs(wanted).max()
    all_int8 = [f"{name}-int8" for name in net.graph.oracle]
    mixed = [name if at % 2 else f"{name}-int8" for at, name in enumerate(net.graph.oracle)]
    with connect(BACKENDS[backend]).open(pack) as session:
        for subnet, off in ((["whole"], 1e-5), (["whole-int8"], 0.1), (all_int8, 0.1), (mixed, 0.1)):
            session.activate(subnet)
            difference = np.abs(session.infer(x.numpy()) - wanted).max() / largest
            assert difference <= off
            assert (difference > 1e-5) == (off == 0.1), "int8 that changes nothing is not int8"


class Clipped(nn.Module):
    """Before its ReLU6, most values are far outside of what is left."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.clip = nn.ReLU6()
        self.last = nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            self.conv.weight.mul_(200)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.clip(self.conv(x)))


def test_cuts_that_a_skip_connects_have_one_scale(net: Supernet, pack: BlockPack, tmp_path: Path) -> None:
    blocks = (Block("s1", 1, 2, "skip"), Block("s4", 4, 5, "skip"), Block("s2", 2, 3, "skip"))
    assert cuts_of_one_scale(chain(6, blocks)) == [[0], [1, 2, 3], [4, 5], [6]]
    skips = [block.start for block in net.graph.blocks if block.kind == "skip"]
    assert len(skips) > 1
    path = [f"{name}-int8" for name in net.graph.oracle]
    for at in skips:
        path[at] = next(block.name for block in net.graph.blocks if block.kind == "skip" and block.start == at)
    parts = [
        Part(name, pack.read(pack.artifact(name, "onnx")), pack.graph.reads(pack.graph[name]), pack.graph[name].end)
        for name in path
    ]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(assemble(parts), options, providers=["CPUExecutionProvider"])
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert operators["Conv"] == 0, "with two scales, what is between them would be computed in float32"
    assert operators["QuantizeLinear"] <= 2, "at the input, and before the head's mean"


@pytest.mark.parametrize("backend", BACKENDS)
def test_ranges_are_those_behind_an_activation(backend: str) -> None:
    given = inputs(8)
    place = Place("b0", (0,), 1)
    made = export_program(
        "b0", Clipped().eval(), [given[:1]], backend, place, Calibration([(x.unsqueeze(0),) for x in given])
    )
    assert made.snr_db is not None
    assert made.snr_db > 25, "with the ranges before it, ExecuTorch's program has 12 dB"


@pytest.mark.parametrize("clip", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.5)])
@pytest.mark.parametrize("ends", [(-4.0, 8.0), (0.0, 8.0), (-0.5, 0.5)])
def test_an_activation_at_a_border_cuts_off_whatever_the_range_of_the_cut_is(
    clip: nn.Module, ends: tuple[float, float]
) -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), clip).eval()
    with torch.no_grad():
        block[0].weight.mul_(2)
        given = inputs(4)
        low, high = float(block(given).min()), float(block(given).max())
    calibration = Calibration([(x.unsqueeze(0),) for x in given], {1: (min(low, ends[0]), max(high, ends[1]))})
    made = export_program("b0", block, [given[:1]], "onnx", Place("b0", (0,), 1), calibration)
    assert made.snr_db is not None
    assert made.snr_db > 20


def test_biases_that_many_layers_share_become_one_for_each() -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(9) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.ReLU())]
    network, given = nn.Sequential(nn.Conv2d(3, 8, 3), *layers).eval(), inputs(4)
    calibration = Calibration([(x.unsqueeze(0),) for x in given])
    made = export_program("b0", network, [given[:1]], "onnx", Place("b0", (0,), 1), calibration)
    assert made.snr_db is not None
    assert made.snr_db > 15


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_transposed_convolutions_in_groups_have_int8_programs(backend: str, groups: int) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1, groups=groups)
    given = torch.randn(4, 8, 6, 6)
    calibration = Calibration([(x.unsqueeze(0),) for x in given])
    made = export_program("b0", layer.eval(), [given[:1]], backend, Place("b0", (0,), 1), calibration)
    assert made.snr_db is not None
    assert made.snr_db > 25


def test_what_int8_ruins_is_refused() -> None:
    class Outlier(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, torch.full((3, 1, 1, 1), 1e-6), groups=3)

    calibration = Calibration([(inputs(1),)], {0: (0.0, 1e6), 1: (0.0, 1e6)})
    with pytest.raises(ExportError, match=r"b0 in int8 on onnx has .* dB of signal to noise, less than 5"):
        export_program("b0", Outlier(), [inputs(1)], "onnx", Place("b0", (0,), 1), calibration)


def test_an_alternative_that_does_not_export_is_left_out_and_said(net: Supernet, tmp_path: Path) -> None:
    class Unexportable(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.matrix_exp(x)

    name = next(block.name for block in net.alternatives())
    broken = Supernet(net.graph, {**dict(net.blocks.items()), name: torch.fx.symbolic_trace(Unexportable())})
    said: list[str] = []
    made = export_pack(broken, tmp_path / "pack", ["onnx"], metrics=["agreement"], jobs=1, say=said.append)
    assert name not in made.graph
    assert len(made.graph.blocks) == len(net.graph.blocks)  # one less, and the whole network
    assert [line.split(":")[0] for line in said] == [f"{name} is left out"]


def test_networks_that_cannot_stand_for_the_original_are_refused(net: Supernet, tmp_path: Path) -> None:
    def export(**options: object) -> None:
        export_pack(net, tmp_path / "pack", ["onnx"], jobs=1, **options)  # type: ignore[arg-type]

    with pytest.raises(ExportError, match=r"wide gives \(1, 9\) and the supernet \(1, 5\)"):
        export(also={"wide": nn.Sequential(nn.Flatten(), nn.Linear(768, 9))})
    with pytest.raises(ExportError, match="has a block 'b00' already"):
        export(also={"b00": Smaller().eval()})
    with pytest.raises(ExportError, match=r"inputs to calibrate with have shape \(4, 3, 8, 8\)"):
        export(calibrate=torch.zeros(4, 3, 8, 8))
    assert not list(tmp_path.iterdir())


def test_taps_are_read_inside_a_whole_network(tmp_path: Path) -> None:
    net = tapped()
    made = export_pack(net, tmp_path / "pack", ["onnx"], jobs=1, calibrate=inputs(4))
    x = inputs(1, seed=5)
    with torch.no_grad():
        wanted = net(x).numpy()
    with connect("local:onnxruntime").open(made) as session:
        session.activate(["whole"])
        assert session.infer(x.numpy()) == pytest.approx(wanted, abs=1e-4)
        session.activate([f"{name}-int8" if f"{name}-int8" in made.graph else name for name in net.graph.oracle])
        assert np.abs(session.infer(x.numpy()) - wanted).max() < 0.2 * np.abs(wanted).max()


def test_a_bundle_keeps_a_whole_network_that_its_front_uses(pack: BlockPack, tmp_path: Path) -> None:
    front = [pack.graph.oracle, ["whole-int8"]]
    bundle = bundle_pack(pack, tmp_path / "bundle", backend="onnx", subnets=front)
    assert bundle.graph.networks == (("whole-int8",),)
    assert bundle.graph.reference == bundle.graph.oracle


def test_a_worker_calibrates_on_one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    base = calibrate.CalibraterBase
    monkeypatch.setattr(base, "create_inference_session", base.create_inference_session)  # it is put back afterwards
    (tmp_path / "model.onnx").write_bytes(block_programs()["b1"])
    on = SimpleNamespace(
        augmented_model_path=str(tmp_path / "model.onnx"), execution_providers=["CPUExecutionProvider"]
    )
    base.create_inference_session(on)
    before = on.infer_session.get_session_options()
    calibrate_on_one_thread.__wrapped__()
    base.create_inference_session(on)
    options = on.infer_session.get_session_options()
    assert (before.intra_op_num_threads, options.intra_op_num_threads) == (0, 1)
    assert options.graph_optimization_level == before.graph_optimization_level


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_of_tokens_and_time_steps_have_no_scale(backend: str) -> None:
    class Timed(nn.Module):
        """Reads from one row a picture, a step of 1,000 and the number of one of 30,000 words."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.words = nn.Conv2d(3, 8, 3, padding=1), nn.Embedding(30_000, 8)
            self.time = nn.Linear(8, 8)

        def forward(self, row: torch.Tensor) -> torch.Tensor:
            picture, step, word = row[:, :48].reshape(-1, 3, 4, 4), row[:, 48].long(), row[:, 49].long()
            angles = step.float()[:, None] * torch.tensor([1.0, 0.3, 0.1, 0.03])
            time = self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.words(word)
            return torch.relu(self.first(picture)) + time[:, :, None, None]

    torch.manual_seed(0)
    pictures = torch.randn(16, 48)
    rows = torch.cat([pictures, torch.randint(1000, (16, 1)).float(), torch.randint(30_000, (16, 1)).float()], 1)
    calibration = Calibration([(row[None],) for row in rows], {0: (-4.0, 30_000.0)}, row=0)
    made = export_program("b0", Timed().eval(), [rows[:1]], backend, Place("b0", (0,), 1), calibration)
    assert made.snr_db is not None
    assert made.snr_db > 20
