"""Export: programs compute what torch computes, unchanged blocks are taken over, bundles hold what is used."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.export import bundle_pack, export_pack
from adaptivenet.export import programs as programs_module
from adaptivenet.export.jobs import REVISIONS, jobs_of
from adaptivenet.export.metrics import metric_program
from adaptivenet.export.networks import with_networks
from adaptivenet.export.onnx_part import Place
from adaptivenet.export.programs import export_program
from adaptivenet.toolkit.data import open_data
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.local.executorch_engine import ROOM
from adaptivenet.toolkit.elastic import Supernet, elastify, merge, prune, skip
from adaptivenet.toolkit.errors import ExportError, GraphError, PackError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import compile_plan
from small_training import Residual, Small
from torch import nn

PREPROCESSING = Preprocessing(16, 16, 16)
CLASSES = ("ant", "bee", "cat", "dog", "emu")
ENGINES = {"local:executorch": "executorch", "local:onnxruntime": "onnx"}


pytestmark = pytest.mark.usefixtures("one_thread")


def supernet(seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    return elastify(
        Small(2).eval(), torch.zeros(1, 3, 16, 16), kinds=[merge(2), prune(0.34)], preprocessing=PREPROCESSING
    )


class Detector(Small):
    """Two answers, one of them from the middle."""

    def __init__(self) -> None:
        super().__init__(2)
        self.boxes = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        x = self.blocks[0](self.stem(x))
        last = self.blocks[1](x)
        return {"boxes": self.boxes(x), "scores": self.head(last.mean((2, 3)))}


@pytest.fixture(scope="module")
def net() -> Supernet:
    return supernet()


@pytest.fixture(scope="module")
def told() -> list[tuple[int, int, str]]:
    return []


@pytest.fixture(scope="module")
def pack(net: Supernet, told: list[tuple[int, int, str]], tmp_path_factory: pytest.TempPathFactory) -> BlockPack:
    path = tmp_path_factory.mktemp("packs") / "small"
    return export_pack(net, path, name="small", classes=CLASSES, jobs=2, progress=lambda *what: told.append(what))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(3)
    return (rng.normal(0, 1, (6, 3, 16, 16)) + rng.normal(0, 10, (6, 3, 1, 1))).astype(np.float32)


def test_every_program_is_there_and_verified(net: Supernet, pack: BlockPack, told: list[tuple[int, int, str]]) -> None:
    assert [path.name for path in pack.path.parent.iterdir()] == ["small"]
    assert BlockPack.open(pack.path).digest == pack.digest
    assert [block for block in pack.graph.blocks if not block.is_network] == list(net.graph.blocks)
    assert pack.graph.reference == ("whole",)
    assert pack.graph["whole"].params == sum(net.graph[name].params for name in net.graph.oracle)
    assert (pack.name, pack.preprocessing, pack.classes) == ("small", PREPROCESSING, CLASSES)
    assert pack.backends == ("executorch", "onnx")
    assert pack.metrics == {"top1": ("output", "label"), "agreement": ("output", "oracle")}
    artifacts = list(pack.artifacts())
    assert len(artifacts) == 2 * (len(net.graph.blocks) + 3) == len(told)
    for artifact in artifacts:
        assert artifact.max_abs_error is not None
        assert artifact.tolerance is not None
        assert 0 <= artifact.max_abs_error <= artifact.tolerance
        assert artifact.made_from is not None
    assert any(artifact.max_abs_error for artifact in artifacts), "an error of exactly 0 everywhere is no measurement"
    layouts = {backend: pack.artifact("b01", backend).layout for backend in pack.backends}
    assert layouts == {"executorch": "channels_last", "onnx": "contiguous"}


def test_progress_counts_to_the_end(told: list[tuple[int, int, str]], pack: BlockPack) -> None:
    assert [done for done, _, _ in told] == list(range(1, len(told) + 1))
    assert {total for _, total, _ in told} == {len(told)}
    assert not any("unchanged" in what for _, _, what in told)


@pytest.mark.parametrize("address", ENGINES)
def test_the_engines_infer_what_torch_computes(
    net: Supernet, pack: BlockPack, images: np.ndarray, address: str
) -> None:
    subnets = list(net.graph.paths())
    random.Random(0).shuffle(subnets)
    with connect(address).open(pack) as session:
        for subnet in [net.graph.oracle, *subnets[:5]]:
            session.activate(subnet)
            for image in images[:2]:
                with torch.no_grad():
                    expected = net(torch.from_numpy(image[None]), subnet).numpy()
                np.testing.assert_allclose(session.infer(image[None]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("address", ENGINES)
def test_the_engines_evaluate_what_torch_computes(
    net: Supernet, pack: BlockPack, images: np.ndarray, tmp_path: Path, address: str
) -> None:
    labels = np.arange(len(images), dtype=np.int64) % 5
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    data = open_data(tmp_path / "images.npz", PREPROCESSING, CLASSES, net.graph.cuts[0])
    subnets = list(net.graph.paths())
    plan = compile_plan(pack.graph, [pack.graph.subnet(subnet) for subnet in subnets], pack.metrics)
    with connect(address).open(pack) as session:
        sums = session.evaluate(plan, data).sums
    with torch.no_grad():
        best = np.stack([net(torch.from_numpy(images), subnet).argmax(1).numpy() for subnet in subnets])
    oracle = best[subnets.index(net.graph.oracle)]
    np.testing.assert_array_equal(sums["top1"][:, :, 0], best == labels)
    np.testing.assert_array_equal(sums["agreement"][:, :, 0], best == oracle)
    assert (sums["top1"][:, :, 1] == 1).all()
    assert len({tuple(row) for row in best}) > 1, "the subnets must differ for this to show anything"


def test_no_path_of_this_machine_is_in_a_program(pack: BlockPack) -> None:
    """Programs are shared: who made them and where is nobody's business."""
    here = [os.getcwd(), os.path.dirname(torch.__file__), str(Path.home()), str(pack.path.parent), sys.prefix]
    patterns = [re.escape(path.encode()) for path in here if len(path) > 4]
    patterns += [rb"/(?:home|tmp|usr|root|work|var|Users|opt)/[\w.]", rb"site-packages", rb"\w\.py\b", rb"Traceback"]
    for artifact in pack.artifacts():
        data = pack.read(artifact)
        found = [re.search(pattern, data) for pattern in patterns]
        assert not any(found), (artifact.file, [match for match in found if match])


def test_inputs_of_executorch_are_not_planned_and_there_is_room_behind_outputs(pack: BlockPack) -> None:
    """So a program reads its inputs where they are, and the next one may read past the end of its output."""
    artifacts = [artifact for artifact in pack.artifacts() if artifact.file.endswith(".pte")]
    for artifact in artifacts:
        method = method_of(pack.read(artifact))
        assert not [at for at in method.inputs if method.values[at].val.allocation_info], artifact.file
        for at in method.outputs:
            tensor = method.values[at].val
            place = tensor.allocation_info
            end = place.memory_offset_low + 4 * prod(tensor.sizes)  # float32
            assert end + ROOM <= method.non_const_buffer_sizes[place.memory_id], artifact.file
    assert len(artifacts) == len(pack.graph.blocks) + len(pack.metrics)


@pytest.mark.parametrize("module", [nn.Identity(), nn.Flatten()], ids=["identity", "flatten"])
def test_an_output_that_is_an_input_has_memory_of_its_own(module: nn.Module) -> None:
    program = export_program("block 'b00'", module, [torch.randn(1, 3, 4, 4)], "executorch")
    method = method_of(program.data)
    assert all(method.values[at].val.allocation_info for at in method.outputs)


def method_of(data: bytes) -> Any:
    """The one method of an ExecuTorch program, as its schema describes it."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    (method,) = deserialize_pte_binary(data).program.execution_plan
    return method


def test_a_new_revision_of_the_exporter_takes_nothing_over(
    net: Supernet, pack: BlockPack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(REVISIONS, "onnx", REVISIONS["onnx"] + 1)
    told: list[str] = []
    export_pack(
        *(net, tmp_path / "again", ["onnx"]), reuse=pack.path, progress=lambda done, total, what: told.append(what)
    )
    assert told
    assert not any(what.endswith("unchanged") for what in told)


def test_reuse_exports_nothing_twice(net: Supernet, pack: BlockPack, tmp_path: Path) -> None:
    told: list[str] = []
    again = export_pack(
        *(net, tmp_path / "again"),
        name="small",
        classes=CLASSES,
        reuse=pack.path,
        progress=lambda done, total, what: told.append(what),
    )
    assert len(told) == len(list(pack.artifacts()))
    assert all(what.endswith("unchanged") for what in told)
    assert again.digest == pack.digest
    (tmp_path / "again" / again.artifact("b00", "onnx").file).read_bytes()


def test_only_a_block_that_changed_is_exported_again(pack: BlockPack, tmp_path: Path) -> None:
    changed = supernet()
    name = next(block.name for block in changed.graph.blocks if block.kind == "pruned")
    with torch.no_grad():
        next(changed.blocks[name].parameters()).mul_(1.5)
    shutil.copytree(pack.path, tmp_path / "pack")
    told: list[str] = []
    # Without `reuse`: the pack that is being replaced is looked at.
    again = export_pack(
        *(changed, tmp_path / "pack", ["executorch", "onnx"]),
        name="small",
        overwrite=True,
        progress=lambda done, total, what: told.append(what),
    )
    made = sorted(what for what in told if not what.endswith("unchanged"))
    assert made == [f"{name} for executorch", f"{name} for onnx"]
    assert again.artifact(name, "onnx") != pack.artifact(name, "onnx")
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    subnet = next(path for path in changed.graph.paths() if name in path)
    with connect("local:onnxruntime").open(again) as session, torch.no_grad():
        session.activate(subnet)
        np.testing.assert_allclose(session.infer(x.numpy()), changed(x, subnet).numpy(), rtol=1e-4, atol=1e-4)


def test_a_program_that_was_damaged_is_exported_anew(net: Supernet, pack: BlockPack, tmp_path: Path) -> None:
    shutil.copytree(pack.path, tmp_path / "pack")
    file = tmp_path / "pack" / pack.artifact("b01", "onnx").file
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    told: list[str] = []
    again = export_pack(
        *(net, tmp_path / "pack"), name="small", classes=CLASSES, overwrite=True, jobs=1,
        progress=lambda done, total, what: told.append(what),
    )  # fmt: skip
    assert [what for what in told if not what.endswith("unchanged")] == ["b01 for onnx"]
    assert BlockPack.open(tmp_path / "pack").digest == again.digest == pack.digest


class Sharing(Residual):
    """It has its activation together with other blocks, and a norm, whose buffers a file of tensors sorts."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x + self.conv2(self.act(self.bn(self.conv1(x)))))


def test_a_supernet_that_was_saved_and_loaded_is_made_from_the_same(tmp_path: Path) -> None:
    model, act = Small(2), nn.ReLU6()
    model.blocks = nn.Sequential(*(Sharing(act) for _ in range(3)))
    net = elastify(model.eval(), torch.zeros(1, 3, 16, 16), kinds=[merge(2), prune(0.5)])
    net.save(tmp_path / "once")
    once = Supernet.load(tmp_path / "once")
    once.save(tmp_path / "twice")

    def made_from(net: Supernet) -> dict[tuple[str, str], str]:
        net = with_networks(net)
        metrics = [metric_program("top1", net.graph.cuts[-1].shape)]
        jobs = jobs_of(net, net.graph, ["executorch", "onnx"], metrics, None)
        return {(job.name, job.backend): job.made_from for job in jobs}

    first = made_from(net)
    assert ("whole", "onnx") in first
    assert first == made_from(once) == made_from(Supernet.load(tmp_path / "twice"))
    with torch.no_grad():
        next(once.blocks["b01"].parameters()).mul_(1.5)
    changed = made_from(once)
    assert {name for name, _ in changed if changed[name, "onnx"] != first[name, "onnx"]} == {"b01", "whole"}


class Viewing(nn.Module):
    """A head that needs its input contiguous, as LeNet's and AlexNet's do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.size(0), -1)


@pytest.mark.parametrize("backend", ENGINES.values())
def test_a_block_that_runs_on_contiguous_tensors_only_is_exported(backend: str) -> None:
    program = export_program("block 'b05'", Viewing(), [torch.randn(1, 8, 8, 8)], backend, Place("b05", (5,), 6))
    assert (program.layout, program.max_abs_error) == ("contiguous", 0.0)


def test_an_existing_path_is_refused_before_any_work(net: Supernet, pack: BlockPack, tmp_path: Path) -> None:
    before = pack.digest
    with pytest.raises(PackError, match="exists already"):
        export_pack(net, pack.path)
    assert BlockPack.open(pack.path).digest == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"the only copy")
    with pytest.raises(PackError, match="is not a block pack and will not be overwritten"):
        export_pack(net, tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "cat.jpg").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backends": ["tensorflow"]}, r"unknown backends \['tensorflow'\]: choose from executorch, onnx"),
        ({"backends": []}, "unknown backends"),
        ({"jobs": 0}, "cannot export with 0 jobs"),
        ({"name": ""}, r"\$\.name"),
        ({"reuse": "nothing"}, "no programs can be taken over from nothing"),
        ({"jobs": -1}, "cannot export with -1 jobs"),
        ({"sample": torch.zeros(2, 3, 16, 16)}, r"the sample has shape \(2, 3, 16, 16\); the first cut has"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    net: Supernet, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises((ExportError, PackError), match=message):
        export_pack(net, tmp_path / "pack", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


# Programs that are refused


class Moody(nn.Module):
    """Computes something else whenever it is called."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * next(_CALLS)


_CALLS = itertools.count(1)


@pytest.mark.parametrize("size", [1.0, 1e-4])
@pytest.mark.parametrize("backend", ENGINES.values())
def test_a_program_that_computes_something_else_is_refused(backend: str, size: float) -> None:
    with pytest.raises(
        ExportError, match=f"block 'b07' on {backend} differs from torch by .*, more than the tolerance"
    ):
        export_program("block 'b07'", Moody(), [size * torch.randn(1, 3, 4, 4)], backend)


def test_the_tolerance_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module, x = nn.Conv2d(32, 32, 3).eval(), torch.randn(1, 32, 8, 8)
    program = export_program("block 'b00'", module, [x], "onnx")
    assert 0 < program.max_abs_error < 1e-4
    monkeypatch.setattr(programs_module, "RELATIVE_TOLERANCE", 1e-12)
    with pytest.raises(ExportError, match=r"differs from torch by .*: the exported program is refused"):
        export_program("block 'b00'", module, [x], "onnx")


def test_nan_is_never_within_the_tolerance() -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sqrt()

    with pytest.raises(ExportError, match="differs from torch by nan"):
        export_program("block 'b00'", Root(), [-torch.ones(1, 3, 4, 4)], "onnx")


# Bundles


@pytest.mark.parametrize("backend", ENGINES.values())
def test_a_bundle_holds_one_backend_and_the_blocks_that_are_used(
    net: Supernet, pack: BlockPack, images: np.ndarray, tmp_path: Path, backend: str
) -> None:
    subnet = next(path for path in pack.graph.paths() if any("-m" in name for name in path))
    bundle = bundle_pack(pack, tmp_path / "bundle", backend=backend, subnets=[subnet])
    assert BlockPack.open(tmp_path / "bundle").digest == bundle.digest != pack.digest
    assert bundle.backends == (backend,)
    assert {block.name for block in bundle.graph.blocks} == {*pack.graph.oracle, *subnet}
    assert (bundle.preprocessing, bundle.classes, bundle.metrics) == (pack.preprocessing, pack.classes, pack.metrics)
    assert bundle.manifest["provenance"]["bundled from"] == pack.digest
    files = {f"blobs/{file.name}" for file in (tmp_path / "bundle" / "blobs").iterdir()}
    assert files == {artifact.file for artifact in bundle.artifacts()}
    assert size(bundle) < size(pack) / 2
    address = next(address for address, name in ENGINES.items() if name == backend)
    with connect(address).open(bundle) as session, torch.no_grad():
        session.activate(subnet)
        expected = net(torch.from_numpy(images[:1]), subnet).numpy()
        np.testing.assert_allclose(session.infer(images[:1]), expected, rtol=1e-4, atol=1e-4)


def size(pack: BlockPack) -> int:
    return sum(file.stat().st_size for file in (pack.path / "blobs").iterdir())


def test_a_bundle_of_everything_has_every_block(pack: BlockPack, tmp_path: Path) -> None:
    bundle = bundle_pack(pack, tmp_path / "bundle", backend="onnx")
    assert bundle.graph == pack.graph
    assert all(bundle.artifact(b.name, "onnx") == pack.artifact(b.name, "onnx") for b in pack.graph.blocks)


def test_bundles_that_cannot_be_are_refused(pack: BlockPack, tmp_path: Path) -> None:
    onnx = bundle_pack(pack, tmp_path / "onnx", backend="onnx", subnets=[])
    with pytest.raises(PackError, match="has no programs for 'executorch': it has onnx"):
        bundle_pack(onnx, tmp_path / "bundle", backend="executorch")
    with pytest.raises(GraphError, match="no block 'b99'"):
        bundle_pack(pack, tmp_path / "bundle", backend="onnx", subnets=[["b99"]])
    with pytest.raises(PackError, match="exists already"):
        bundle_pack(pack, tmp_path / "onnx", backend="onnx")
    (pack.path / pack.artifact("b00", "onnx").file).rename(tmp_path / "moved")
    try:
        with pytest.raises(PackError, match="missing"):
            bundle_pack(pack, tmp_path / "bundle", backend="onnx")
    finally:
        (tmp_path / "moved").rename(pack.path / pack.artifact("b00", "onnx").file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx"]


def test_several_answers_go_through_a_pack_in_one_row(tmp_path: Path) -> None:
    model = Detector().eval()
    detector = elastify(model, torch.randn(1, 3, 16, 16), kinds=[merge(2), prune(0.5), skip()])
    made = export_pack(detector, tmp_path / "pack", backends=("onnx",), jobs=1)
    assert made.outputs == detector.outputs == (("boxes", (1, 4, 7, 7)), ("scores", (1, 5)))
    assert list(made.metrics) == ["fidelity"]
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        answer = model(x)
    with connect("local:onnxruntime").open(made) as session:
        session.activate(made.graph.oracle)
        row = torch.from_numpy(session.infer(x.numpy()))
    boxes, scores = row.split([prod(shape) for _, shape in made.outputs], 1)
    torch.testing.assert_close(boxes.reshape(1, 4, 7, 7), answer["boxes"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores, answer["scores"], rtol=1e-4, atol=1e-4)
    bundled = bundle_pack(made, tmp_path / "app", backend="onnx", subnets=[made.graph.oracle])
    assert bundled.outputs == made.outputs
