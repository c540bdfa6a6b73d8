"""The network as one program, which one ships without blocks, is timed and scored beside every front, and may win."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.export import bundle_pack, export_pack
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import elastify, prune
from adaptivenet.toolkit.graph.graph import BlockGraph
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from adaptivenet.toolkit.search import STRATEGIES
from given_times import give_times
from small_training import Small
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


class Twin(nn.Module):
    """The same answers as the original's, and faster: all of it but its blocks, whose branches are 0 there."""

    def __init__(self, original: Small) -> None:
        super().__init__()
        self.stem, self.head = original.stem, original.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.stem(x)).mean((2, 3)))


COST = {"whole": 7.5, "whole-32": 3.0, "twin": 2.0}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> BlockPack:
    torch.manual_seed(0)
    model = Small(6).eval()
    for block in model.blocks:
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)
    net = elastify(model, torch.zeros(1, 3, 64, 64), kinds=[prune(0.34)])
    path = tmp_path_factory.mktemp("packs") / "small"
    also = {"twin": Twin(model).eval()}
    return export_pack(net, path, ["onnx"], jobs=2, metrics=["fidelity"], also=also, resolutions=[0.5])


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(np.abs(rng.standard_normal((24, 3, 64, 64))).astype(np.float32))


@pytest.fixture(scope="module")
def made(pack: BlockPack, data: Dataset) -> Profile:
    settings = Settings(("100%", "60%"), evaluations=8, search_images=12, verify_images=12, rounds=10)
    cost = {block.name: 1.0 if block.is_original else 0.9 for block in pack.graph.blocks} | COST
    with pytest.MonkeyPatch.context() as monkeypatch, connect("local:onnxruntime").open(pack) as session:
        give_times(monkeypatch, cost)
        return profile(session, data, settings)


def test_budgets_are_shares_of_the_whole_network(pack: BlockPack, made: Profile) -> None:
    assert made.graph.reference == pack.graph.reference == ("whole",)
    whole = next(point for point in made.whole if point.subnet == ("whole",))
    assert whole.latency_ms == made.reference.median_ms
    assert [choice.budget_ms for choice in made.choices] == pytest.approx([whole.latency_ms, 0.6 * whole.latency_ms])


def test_networks_are_timed_and_scored_like_finalists(made: Profile) -> None:
    assert {point.subnet for point in made.whole} == {("whole",), ("whole-32",), ("twin",)}
    for point in made.whole:
        assert point.measured is not None
        assert point.repetitions == made.reference.repetitions
        assert point.quality is not None
        assert point.quality.n == 12
        same = point.subnet != ("whole-32",)
        assert (point.quality.value > 0.999) == same, "and what is slower and worse is not pooled with it"
    timed = made.document["samples"]["time finalists"]["chains"]
    assert [chain for chain in timed if len(chain) == 1] == [["twin"], ["whole-32"], ["whole"]]


def test_a_network_that_wins_is_chosen_and_the_profile_says_so(pack: BlockPack, made: Profile) -> None:
    assert [choice.point.subnet for choice in made.choices] == [("twin",), ("twin",)]
    assert [choice.page_in.loaded for choice in made.choices] == [("twin",), ("twin",)]
    assert made.graph.oracle in [point.subnet for point in made.front.points]
    best = made.front.best(made.reference.median_ms)
    assert best.subnet == ("twin",)


def test_what_a_network_takes_is_searched_for_as_a_budget_is(pack: BlockPack, data: Dataset) -> None:
    told: list[float] = []

    class Listening(STRATEGIES["surrogate"]):
        @classmethod
        def for_profile(cls, graph: BlockGraph, ms: Mapping[str, float], targets: Sequence[float], *rest: int) -> Any:
            told.extend(targets)
            return super().for_profile(graph, ms, targets, *rest)

    settings = Settings(("1000ms",), evaluations=4, search_images=12, verify_images=12, rounds=10, strategy=Listening)
    blocks = {block.name: 1.0 if block.is_original else 0.9 for block in pack.graph.blocks}
    cost = blocks | {"whole": 8.2, "whole-32": 7.9}
    for twin_ms, searched in ((7.77, True), (8.3, False)):
        told.clear()
        with pytest.MonkeyPatch.context() as monkeypatch, connect("local:onnxruntime").open(pack) as session:
            give_times(monkeypatch, cost | {"twin": twin_ms})
            profile(session, data, settings)
        assert any(target == pytest.approx(twin_ms, rel=1e-9) for target in told) == searched
        assert not any(target == pytest.approx(7.9, rel=1e-9) for target in told), "no block makes the picture smaller"


def test_it_is_served_like_a_subnet_also_out_of_a_bundle(
    pack: BlockPack, made: Profile, data: Dataset, tmp_path: Path
) -> None:
    made.save(tmp_path / "profile.json")
    subnets = [point.subnet for point in made.front.points]
    bundle = bundle_pack(pack, tmp_path / "bundle", backend="onnx", subnets=subnets)
    known = Profile.load(tmp_path / "profile.json", bundle)
    assert known.reference == made.reference, "budgets stay what they were"
    assert ("twin",) in [point.subnet for point in known.whole]
    with connect("local:onnxruntime").open(bundle) as session:
        session.activate(known.front.best(known.reference.median_ms).subnet)
        served = session.infer(data.image(0))
        session.activate(bundle.graph.oracle)
        assert served == pytest.approx(session.infer(data.image(0)), abs=1e-4)
