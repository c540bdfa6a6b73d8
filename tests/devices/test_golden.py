"""The same requests on every device: the same outputs to 1e-4, the same scores, the same errors.

What is expected comes from ONNX Runtime in this process. The devices are this computer with ExecuTorch, the C++ runner
on this computer with both engines, and a phone (see phones.py) in both ways that reach it; without their runners they
are left out.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.base import Device, Session
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import elastify, prune
from adaptivenet.toolkit.errors import (
    DataError,
    DeviceError,
    EngineMissing,
    FeaturesLost,
    GraphError,
    PackError,
    PlanError,
)
from adaptivenet.toolkit.graph.sampling import PathSampler
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import Plan, compile_plan
from adaptivenet.toolkit.search import Evaluator
from engines import THIN, plan_of
from gated import gated
from packs import edit_manifest
from phones import WAYS, address_by
from runners import bundle_for
from small import Residual, alive
from tapped import CLASSES as TAPPED_CLASSES
from tapped import tapped
from torch import nn

REFERENCE = "local:onnxruntime"
METRICS = ("fidelity", "top1", "miou", "miou-agreement", "cosine", "l1=4", "psnr=4", "si-snr")


@pytest.fixture(params=["local", "runner", "runner:onnxruntime", *WAYS])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    address = str(request.param)
    if address in WAYS:
        bundle_for("arm64-v8a")
        address = address_by(address, request)
    elif address != "local":
        bundle_for("")
    device = connect_or_skip(address)
    yield device
    device.close()


def connect_or_skip(address: str) -> Device:
    try:
        return connect(address)
    except EngineMissing as error:
        pytest.skip(f"{error}; scripts/onnxruntime_headers && scripts/build_runner host")


@pytest.fixture(scope="module")
def tapped_pack(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> BlockPack:
    path = tmp_path_factory.mktemp("packs") / "tapped"
    return export_pack(tapped(), path, name="tapped", metrics=METRICS, classes=TAPPED_CLASSES, jobs=1)


@pytest.fixture(scope="module")
def gated_pack(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> BlockPack:
    return export_pack(gated(), tmp_path_factory.mktemp("packs") / "gated", metrics=("fidelity", "cosine"), jobs=1)


def rows_for(pack: BlockPack, count: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(count, *pack.graph.cuts[0].shape[1:])).astype(np.float32)


class Scoring(nn.Module):
    """A classifier of the pixels of its input, or a detector."""

    def __init__(self, detector: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Residual(8) for _ in range(2)))
        self.head = nn.Conv2d(8, 9, 1)
        self.end = nn.Sequential(nn.Sigmoid(), nn.Flatten(2)) if detector else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self.head(self.blocks(self.stem(x))))


@pytest.fixture(scope="module", params=[("top5",), ("boxes",)], ids=["top5", "boxes"])
def scored_pack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> BlockPack:
    torch.manual_seed(2)
    net = elastify(alive(Scoring(request.param == ("boxes",))), torch.zeros(1, 3, 16, 16), kinds=[prune(0.5)])
    return export_pack(net, tmp_path_factory.mktemp("packs") / "scored", metrics=request.param, jobs=1)


def data_for(pack: BlockPack, folder: Path, pictures: np.ndarray) -> Dataset:
    labels = np.random.default_rng(4).integers(0, 5, (len(pictures), *pack.label[1:]))
    np.savez(folder / "pictures.npz", images=pictures, labels=labels)
    return open_data(folder / "pictures.npz", None, pack.classes, pack.graph.cuts[0])


def check_outputs(device: Device, pack: BlockPack, pictures: np.ndarray, subnets: list[tuple[str, ...]]) -> None:
    with device.open(pack) as session, connect(REFERENCE).open(pack) as reference:
        for subnet in subnets:
            session.activate(subnet)
            reference.activate(subnet)
            for picture in pictures:
                expected = reference.infer(picture[None])
                found = session.infer(picture[None])
                assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
                np.testing.assert_allclose(found, expected, atol=1e-4)


def check_scores(device: Device, pack: BlockPack, plan: Plan, data: Dataset, tolerance: float = 0.0) -> None:
    seen: list[tuple[int, int]] = []
    with device.open(pack) as session, connect(REFERENCE).open(pack) as reference:
        found = session.evaluate(plan, data, lambda done, total: seen.append((done, total)))
        expected = reference.evaluate(plan, data)
    assert found.sums.keys() == expected.sums.keys()
    for metric, sums in expected.sums.items():
        np.testing.assert_allclose(found.sums[metric], sums, rtol=0, atol=tolerance)
    assert (found.images, found.block_runs, found.subnets) == (expected.images, expected.block_runs, expected.subnets)
    assert (found.engine, found.threads) == (device.info.engine, device.info.threads)
    assert seen == [(done, len(data)) for done in range(1, len(data) + 1)]


# Outputs and scores


def test_every_subnet_gives_the_same_output(device: Device, tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    check_outputs(device, tiny_pack, pictures[:3], list(tiny_pack.graph.paths()))


def test_a_head_with_taps_gives_the_same_output(device: Device, tapped_pack: BlockPack, pictures: np.ndarray) -> None:
    check_outputs(device, tapped_pack, pictures[:2] / 10, list(tapped_pack.graph.paths())[::3])


def test_blocks_that_read_earlier_cuts_give_the_same_output(device: Device, gated_pack: BlockPack) -> None:
    check_outputs(device, gated_pack, rows_for(gated_pack, 2), list(gated_pack.graph.paths()))


def test_blocks_that_read_earlier_cuts_get_the_same_scores(
    device: Device, gated_pack: BlockPack, tmp_path: Path
) -> None:
    """In one plan, and in plans that begin from what earlier ones kept."""
    np.savez(tmp_path / "rows.npz", images=rows_for(gated_pack, 4))
    data = open_data(tmp_path / "rows.npz", None, None, gated_pack.graph.cuts[0])
    paths = list(gated_pack.graph.paths())
    check_scores(device, gated_pack, compile_plan(gated_pack.graph, paths, gated_pack.metrics), data, tolerance=1e-4)
    with device.open(gated_pack) as session, connect(REFERENCE).open(gated_pack) as reference:
        ours, theirs = (Evaluator(each, gated_pack.metrics, 1 << 22) for each in (session, reference))
        for seed in range(3):
            subnets = random.Random(seed).sample(paths, 4)
            found, expected = (each.evaluate(subnets, data) for each in (ours, theirs))
            for metric, sums in expected.sums.items():
                np.testing.assert_allclose(found.sums[metric], sums, rtol=0, atol=1e-4)
            assert found.block_runs == expected.block_runs


def test_fifty_subnets_get_the_same_scores(
    device: Device, wide_pack: BlockPack, pictures: np.ndarray, tmp_path: Path
) -> None:
    graph = wide_pack.graph
    subnets = PathSampler(graph, {block.name: 1.0 for block in graph.blocks}).sample(50, random.Random(5))
    plan = compile_plan(graph, subnets, wide_pack.metrics)
    assert len({tuple(subnet) for subnet in plan.subnets}) > 25
    check_scores(device, wide_pack, plan, data_for(wide_pack, tmp_path, pictures))


def test_maps_with_taps_get_the_same_scores(
    device: Device, tapped_pack: BlockPack, pictures: np.ndarray, tmp_path: Path
) -> None:
    plan = compile_plan(tapped_pack.graph, list(tapped_pack.graph.paths()), tapped_pack.metrics)
    data = data_for(tapped_pack, tmp_path, pictures[:4] / 10)
    check_scores(device, tapped_pack, plan, data, tolerance=1e-3)  # not all of them count


def test_ranks_and_boxes_get_the_same_scores(
    device: Device, scored_pack: BlockPack, pictures: np.ndarray, tmp_path: Path
) -> None:
    plan = compile_plan(scored_pack.graph, list(scored_pack.graph.paths()), scored_pack.metrics)
    if "boxes" in scored_pack.metrics:
        np.savez(tmp_path / "pictures.npz", images=pictures[:6])
        data = open_data(tmp_path / "pictures.npz", None, None, scored_pack.graph.cuts[0])
    else:
        data = data_for(scored_pack, tmp_path, pictures[:6])
    # Engines round differently: a box at the edge of what counts may be in both by one of them, and it counts twice.
    at_an_edge = "boxes" in scored_pack.metrics and device.info.engine != "onnxruntime"
    check_scores(device, scored_pack, plan, data, tolerance=2 if at_an_edge else 0)


def test_data_in_several_files_is_the_same_data(
    device: Device, tiny_pack: BlockPack, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptivenet.toolkit.devices.phone.contents.FILE_BYTES", 5 * pictures[0].nbytes)
    plan = compile_plan(tiny_pack.graph, list(tiny_pack.graph.paths()), tiny_pack.metrics)
    check_scores(device, tiny_pack, plan, data_for(tiny_pack, tmp_path, pictures))


def test_labels_that_no_metric_reads_need_not_be_there(
    device: Device, tiny_pack: BlockPack, pictures: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "pictures.npy", pictures)
    data = open_data(tmp_path / "pictures.npy", None, None, tiny_pack.graph.cuts[0])
    plan = compile_plan(tiny_pack.graph, [tiny_pack.graph.oracle], {"agreement": tiny_pack.metrics["agreement"]})
    check_scores(device, tiny_pack, plan, data)


# Features that outlive a plan


def test_generations_get_the_same_scores_with_features_kept(
    device: Device, tapped_pack: BlockPack, pictures: np.ndarray, tmp_path: Path
) -> None:
    """The same plans, the same blocks run, on two pieces by turns; and taps."""
    data = data_for(tapped_pack, tmp_path, pictures[:6] / 10)
    pieces = [data.subset(range(4)), data.subset(range(4, 6))]
    paths = list(tapped_pack.graph.paths())
    drawn = [random.Random(seed).sample(paths, 5) for seed in range(4)]
    with device.open(tapped_pack) as session, connect(REFERENCE).open(tapped_pack) as reference:
        assert session.keeps_features
        ours, theirs = (Evaluator(each, tapped_pack.metrics, 1 << 22) for each in (session, reference))
        for number, subnets in enumerate(drawn):
            found, expected = (each.evaluate(subnets, pieces[number % 2]) for each in (ours, theirs))
            for metric, sums in expected.sums.items():
                np.testing.assert_allclose(found.sums[metric], sums, rtol=0, atol=1e-4)
            plain = session.evaluate(compile_plan(tapped_pack.graph, subnets, tapped_pack.metrics), pieces[number % 2])
            np.testing.assert_array_equal(found.sums["fidelity"], plain.sums["fidelity"])
            assert found.block_runs == expected.block_runs
            assert found.block_runs < plain.block_runs or number < 2


def keeping(pack: BlockPack) -> tuple[Plan, Plan]:
    """A plan that keeps the oracle's first feature, and one that begins from it."""
    metrics, first = {"agreement": pack.metrics["agreement"]}, pack.graph.oracle[:1]
    plans = [
        compile_plan(pack.graph, [pack.graph.oracle], metrics, kept=kept, keep={3: first}) for kept in ({}, {3: first})
    ]
    assert [plan.block_runs for plan in plans] == [3, 2]
    return plans[0], plans[1]


def test_what_is_kept_is_of_one_session_one_data_and_one_path(
    device: Device, tiny_pack: BlockPack, pictures: np.ndarray, tmp_path: Path
) -> None:
    data = data_for(tiny_pack, tmp_path, pictures)
    other = data.subset(range(3))
    keep, begin = keeping(tiny_pack)
    top1 = {"top1": tiny_pack.metrics["top1"]}
    thin = compile_plan(tiny_pack.graph, [THIN], top1, kept={3: THIN[:1]}, keep={})
    message = "the features under key 3, which a plan begins from, are not kept here; evaluate without them"
    with device.open(tiny_pack) as session:

        def lost(plan: Plan, data: Dataset) -> None:
            with pytest.raises(FeaturesLost) as caught:
                session.evaluate(plan, data)
            assert str(caught.value) == message

        lost(begin, data)
        session.evaluate(keep, other)
        lost(begin, data)
        session.evaluate(keep, data)
        session.forget()
        lost(begin, data)
        lost(begin, other)
        session.evaluate(keep, data)
        session.evaluate(keep, other)
        lost(thin, data)  # the key is there, of another path
        lost(begin, data)
        assert session.evaluate(begin, other).block_runs == 2 * len(other)
        session.evaluate(keep, data)
        session.evaluate(plan_of(tiny_pack, [THIN]), data)  # leaves everything as it is
        for _ in range(2):
            found = session.evaluate(begin, data)
            assert found.block_runs == 2 * len(data)
            np.testing.assert_array_equal(found.sums["agreement"], np.ones((1, len(data), 2)))
    with device.open(tiny_pack) as session:
        lost(begin, data)


# Paging


def test_paging_moves_the_same_blocks(device: Device, tiny_pack: BlockPack) -> None:
    local = connect(f"local:{device.info.engine}")  # bytes are those of the backend
    with device.open(tiny_pack) as session, local.open(tiny_pack) as reference:
        assert (session.resident.blocks, session.resident.bytes) == ((), 0)
        first = tiny_pack.graph.oracle
        # The runner on a phone may have kept what the session before had loaded.
        session.activate(first)
        reference.activate(first)
        for subnet in (first, ("b0", "b1-p50", "b2"), ("b0-m2", "b2"), ("b0-m2", "b2"), first):
            found, expected = session.activate(subnet), reference.activate(subnet)
            assert {**found.to_json(), "ms": 0} == {**expected.to_json(), "ms": 0}
            assert found.ms > 0
            assert session.resident == reference.resident


def test_two_sessions_of_one_device_do_not_mix(
    device: Device, tiny_pack: BlockPack, wide_pack: BlockPack, pictures: np.ndarray
) -> None:
    with device.open(tiny_pack) as one, device.open(wide_pack) as other:
        one.activate(tiny_pack.graph.oracle)
        before = one.infer(pictures[:1])
        other.activate(wide_pack.graph.oracle)
        assert not np.array_equal(other.infer(pictures[:1]), before)
        output, ms = one.infer_timed(pictures[:1])
        np.testing.assert_array_equal(output, before)
        assert ms > 0
        assert one.resident.blocks == tuple(tiny_pack.graph.oracle)


def test_measuring_leaves_the_active_subnet(device: Device, tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    chains = [("b0",), ("b1", "b2"), tiny_pack.graph.oracle, ("b0-m2",)]
    with device.open(tiny_pack) as session:
        session.activate(("b0-m2", "b2"))
        before = session.infer(pictures[:1])
        times = session.measure(chains, 6, 2, progress=lambda done, total: seen.append((done, total)))
        assert [latency.repetitions for latency in times] == [6] * 4
        assert all(latency.median_ms > 0 and latency.spread_ms >= 0 for latency in times)
        assert session.measure(chains[:1], 1, 0, sample=pictures[:1])[0].repetitions == 1
        np.testing.assert_array_equal(session.infer(pictures[:1]), before)
    assert seen == [(done, 8) for done in range(1, 9)]


def test_blocks_are_timed_within_their_chains(device: Device, tiny_pack: BlockPack) -> None:
    chains = [("b0",), ("b1", "b2"), tiny_pack.graph.oracle, ("b0-m2",)]
    with device.open(tiny_pack) as session:
        begin = time.perf_counter()
        in_situ = session.samples_in_situ(chains, rounds=6, warmup=2)
        took_ms = (time.perf_counter() - begin) * 1e3
        whole = session.samples(chains, rounds=6, warmup=0)
    lists = [len(chain) if session.stamps_cuts else 1 for chain in chains]
    assert [[len(times) for times in blocks] for blocks in in_situ] == [[6] * count for count in lists]
    assert all(ms > 0 for blocks in in_situ for times in blocks for ms in times)
    assert sum(ms for blocks in in_situ for times in blocks for ms in times) < took_ms
    assert [len(times) for times in whole] == [6] * len(chains)


def test_blocks_of_maps_and_taps_are_timed_within_their_chains(device: Device, tapped_pack: BlockPack) -> None:
    subnets = list(tapped_pack.graph.paths())[::3]
    with device.open(tapped_pack) as session:
        in_situ = session.samples_in_situ(subnets, rounds=2, warmup=1)
    lists = [len(subnet) if session.stamps_cuts else 1 for subnet in subnets]
    assert [[len(times) for times in blocks] for blocks in in_situ] == [[2] * count for count in lists]


def test_blocks_that_read_earlier_cuts_are_timed_alone_and_within_their_chains(
    device: Device, gated_pack: BlockPack
) -> None:
    chains = [*((block.name,) for block in gated_pack.graph.blocks), ("b2", "b3-late"), *gated_pack.graph.paths()]
    with device.open(gated_pack) as session:
        latencies = session.measure(chains, rounds=2, warmup=1)
        in_situ = session.samples_in_situ(chains, rounds=2, warmup=1)
    assert all(latency.median_ms > 0 for latency in latencies)
    lists = [len(chain) if session.stamps_cuts else 1 for chain in chains]
    assert [[len(times) for times in blocks] for blocks in in_situ] == [[2] * count for count in lists]


# Errors


def test_the_same_mistakes_are_refused_with_the_same_words(
    device: Device, tiny_pack: BlockPack, wide_pack: BlockPack, pictures: np.ndarray, tmp_path: Path
) -> None:
    graph = tiny_pack.graph
    data = data_for(tiny_pack, tmp_path, pictures)
    np.save(tmp_path / "bare.npy", pictures)
    bare = open_data(tmp_path / "bare.npy", None, None, graph.cuts[0])
    plan = compile_plan(graph, [graph.oracle], tiny_pack.metrics)
    foreign = compile_plan(wide_pack.graph, [wide_pack.graph.oracle], wide_pack.metrics)
    mistakes: list[tuple[type[Exception], Callable[[Session], object]]] = [
        (DeviceError, lambda session: session.infer(pictures[:1])),
        (GraphError, lambda session: session.activate(("b0", "b2"))),
        (GraphError, lambda session: session.activate(("b0", "b1", "nothing"))),
        (GraphError, lambda session: session.measure([("b1", "b0")])),
        (GraphError, lambda session: session.measure([()])),
        (DataError, lambda session: session.measure([("b0",)], sample=np.zeros((1, 3), np.float32))),
        (ValueError, lambda session: session.measure([("b0",)], rounds=0)),
        (PlanError, lambda session: session.evaluate(foreign, data)),
        (DataError, lambda session: session.evaluate(plan, bare)),
        (DataError, lambda session: session.evaluate(plan, data.subset([]))),
        (DataError, lambda session: session.activate(graph.oracle) and session.infer(pictures[:2])),
        (DeviceError, lambda session: session.close() or session.infer(pictures[:1])),
    ]
    with device.open(tiny_pack) as session, connect(REFERENCE).open(tiny_pack) as reference:
        for kind, mistake in mistakes:
            with pytest.raises(kind) as found:
                mistake(session)
            with pytest.raises(kind) as expected:
                mistake(reference)
            assert (type(found.value), str(found.value)) == (type(expected.value), str(expected.value))


def test_a_pack_without_the_engines_artifacts_is_refused(device: Device, tiny_pack: BlockPack, tmp_path: Path) -> None:
    has, lacks = ("executorch", "onnx") if device.info.engine == "onnxruntime" else ("onnx", "executorch")
    shutil.copytree(tiny_pack.path, tmp_path / "half")

    def leave_out(manifest: dict[str, Any]) -> None:
        for what in (*manifest["blocks"], *manifest["metrics"].values()):
            del what["artifacts"][lacks]

    edit_manifest(tmp_path / "half", leave_out)
    with pytest.raises(PackError, match=rf"no {lacks} artifacts.*it has {has}"):
        device.open(BlockPack.open(tmp_path / "half"))
