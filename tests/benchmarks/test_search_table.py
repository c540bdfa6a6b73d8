"""The table of truth of the search benchmarks: what it holds is what direct evaluation gives, and comes back whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.elastic import elastify, merge, prune
from adaptivenet.toolkit.graph.ticks import within
from small import Small, alive

from benchmarks.hits import hits
from benchmarks.truth import CIFAR10, Truth

pytestmark = pytest.mark.usefixtures("one_thread")


class Noise:
    """Random pictures with random labels."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.standard_normal((count, 1, 3, 16, 16), np.float32)
        self.labels = rng.integers(0, 5, count)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def label(self, index: int) -> int:
        return int(self.labels[index])


def made_up(pictures: int = 19) -> Truth:
    """A table of random hits."""
    graph = elastify(alive(Small()), torch.zeros(1, 3, 16, 16), kinds=[merge(2), prune(0.5)]).graph
    rng = np.random.default_rng(1)
    cost = {block.name: float(rng.uniform(1, 2)) / (1 if block.kind == "original" else 3) for block in graph.blocks}
    right = rng.random((graph.count(), pictures)) < 0.7
    labels = rng.integers(0, 5, pictures).astype(np.uint8)
    return Truth(graph.with_losses({"b01-p50": 0.25}), cost, right, labels, {"by": "a test"})


def test_hits_are_those_of_every_subnet_alone(seeded: None) -> None:
    supernet = elastify(alive(Small()), torch.zeros(1, 3, 16, 16), kinds=[merge(2), prune(0.5)])
    pictures = Noise(23)
    subnets = list(supernet.graph.paths())[::-1]
    told: list[tuple[int, int]] = []
    found = hits(supernet, subnets, pictures, batch_size=10, progress=lambda *done: told.append(done))
    with torch.no_grad():
        x = torch.from_numpy(np.concatenate(list(pictures.images)))
        expected = np.array([supernet(x, subnet).argmax(1).numpy() == pictures.labels for subnet in subnets])
    assert (found == expected).all()
    assert found.any()
    assert not found.all()
    assert len({row.tobytes() for row in found}) > 1
    assert told == [(10, 23), (20, 23), (23, 23)]


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    truth = made_up()
    truth.write(tmp_path / "new" / "table.npz")
    again = Truth.read(tmp_path / "new" / "table.npz")
    assert again.graph == truth.graph
    assert again.graph["b01-p50"].loss == 0.25
    assert again.cost == truth.cost
    assert again.made == truth.made
    assert again.hits.dtype == bool
    assert (again.hits == truth.hits).all()
    assert (again.labels == truth.labels).all()


def test_hits_of_another_shape_are_refused() -> None:
    truth = made_up()
    with pytest.raises(ValueError, match="do not make"):
        Truth(truth.graph, truth.cost, truth.hits[1:], truth.labels, truth.made)


def test_the_optimum_of_a_budget() -> None:
    truth = made_up()
    latency = [sum(truth.cost[name] for name in subnet) for subnet in truth.subnets]
    oracle = sum(truth.cost[name] for name in truth.graph.oracle)
    for share in (1.0, 0.9, 0.7):
        budget = truth.budget(share)
        assert budget == pytest.approx(share * oracle)
        fits = [within(0, ms, budget) for ms in latency]
        assert truth.fits(budget).tolist() == fits
        right = [sum(row) for row, fitting in zip(truth.hits, fits) if fitting]
        assert truth.optimum(budget) == pytest.approx(100 * max(right) / len(truth.labels))
        best = np.flatnonzero(truth.accuracy == truth.optimum(budget))
        assert any(fits[row] for row in best)


def test_the_table_that_ships() -> None:
    truth = Truth.read(CIFAR10)
    assert truth.hits.shape == (len(truth.subnets), 2000)
    assert len(truth.subnets) >= 2000
    assert sorted(set(truth.labels.tolist())) == list(range(10))
    alternatives = [block for block in truth.graph.blocks if block.kind != "original"]
    assert all(block.loss is not None for block in alternatives)
    assert truth.accuracy[truth.row[truth.graph.oracle]] > 80
    assert CIFAR10.stat().st_size < 2_000_000
    # Every budget leaves a choice, and a tighter one costs accuracy.
    fits = [truth.fits(truth.budget(share)) for share in (0.9, 0.8, 0.7, 0.6, 0.5)]
    assert min(int(fitting.sum()) for fitting in fits) > 100
    best = [truth.accuracy[fitting].max() for fitting in fits]
    assert best[0] - best[-1] > 3
