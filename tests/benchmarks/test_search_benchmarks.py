"""What benchmarks.search and benchmarks.skew compute from a table of truth, on tables made by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from adaptivenet.toolkit.graph.graph import Block, Subnet
from adaptivenet.toolkit.search import Evolutionary, Result, Strategy, Surrogate, Trial
from graphs import chain

from benchmarks.regret import Regret
from benchmarks.search import figures_of, inside, of_tables
from benchmarks.searching import Trace, simulate
from benchmarks.simulated import Simulated
from benchmarks.skew import Draw, draw, gain, halves, weighted, with_shares
from benchmarks.truth import Truth


def space(pictures: int = 40, classes: int = 4) -> Truth:
    """Four original blocks, each with a pruned one: 16 subnets that are the better the more they keep, with noise."""
    graph = chain(4, tuple(Block(f"p{at}", at, at + 1, "pruned", loss=0.1 * (at + 1)) for at in range(4)))
    rng = np.random.default_rng(0)
    cost = {block.name: 1.0 if block.kind == "original" else 0.4 for block in graph.blocks}
    share = [0.95 - sum(graph[name].loss or 0 for name in subnet) / 2 for subnet in graph.paths()]
    right = rng.random((16, pictures)) < np.array(share)[:, None]
    return Truth(graph, cost, right, (np.arange(pictures) % classes).astype(np.uint8), {})


class Scripted(Strategy):
    """Asks for what it was given, and holds for best what it was told last."""

    def __init__(self, asked: Sequence[Sequence[Trial]]) -> None:
        self.asked = list(asked)
        self.told: list[Sequence[Result]] = []

    def ask(self, n: int) -> list[Trial]:
        return list(self.asked[len(self.told)]) if len(self.told) < len(self.asked) else []

    def tell(self, results: Sequence[Result]) -> None:
        self.told.append(results)

    def estimate(self) -> dict[Subnet, float]:
        return {result.subnet: float(at) for at, results in enumerate(self.told) for result in results}


def test_image_evaluations_are_counted_once() -> None:
    truth = space()
    oracle, fast = truth.graph.oracle, truth.graph.subnet(["p0", "p1", "p2", "p3"])
    strategy = Scripted([[Trial(oracle, 10)], [Trial(oracle, 25), Trial(fast, 5)], [Trial(fast, 5), Trial(oracle, 20)]])
    pictures = np.random.default_rng(3).permutation(40)
    trace = simulate(truth, strategy, pictures, [1.6, 4.0], limit=10**6)
    assert trace.spent.tolist() == [10, 30, 30]
    assert trace.chosen.tolist() == [
        [-1, truth.row[oracle]],
        [truth.row[fast], truth.row[oracle]],
        [truth.row[fast], truth.row[oracle]],
    ]
    for results, sizes in zip(strategy.told, [[10], [25, 5], [5, 20]]):
        for result, size in zip(results, sizes):
            expected = truth.hits[truth.row[result.subnet], pictures[:size]]
            assert result.scores.tolist() == expected.tolist()


def test_a_search_ends_at_its_limit() -> None:
    truth = space()
    trials = [[Trial(subnet, 40)] for subnet in truth.subnets]
    assert simulate(truth, Scripted(trials), np.arange(40), [4.0], limit=100).spent.tolist() == [40, 80, 120]


@pytest.mark.parametrize("make", [Surrogate, Evolutionary])
def test_a_real_strategy_runs_against_a_table(make: type[Strategy]) -> None:
    truth = space()
    budgets = [4.0, 2.8]
    strategy = make(truth.graph, truth.cost, budgets, images=40, seed=0)  # type: ignore[call-arg]
    trace = simulate(truth, strategy, np.arange(40), budgets, limit=10**6)
    assert (np.diff(trace.spent) >= 0).all()
    assert trace.spent[-1] <= 16 * 40
    for row, budget in zip(trace.chosen[-1], budgets):
        assert truth.fits(budget)[row]


def test_the_regret_of_the_optimum_is_nothing() -> None:
    truth = space()
    budget = 2.8
    best = int(np.argmax(np.where(truth.fits(budget), truth.accuracy, -1)))
    other = truth.row[truth.graph.subnet(["p0", "p1", "p2", "p3"])]
    traces = [
        Trace(np.array([10, 20, 40]), np.array([[-1], [other], [best]])),
        Trace(np.array([15, 30]), np.array([[best], [best]])),
    ]
    regret = Regret.over_seeds(truth, traces, 0, budget)
    away = truth.accuracy[best] - truth.accuracy[other]
    assert away > 0.2
    assert regret.at.tolist() == [10, 15, 20, 30, 40]
    assert regret.of_seeds[0].tolist() == pytest.approx([math.inf, math.inf, away, away, 0])
    assert regret.of_seeds[1].tolist() == [math.inf, 0, 0, 0, 0]
    assert regret.mean.tolist() == pytest.approx([math.inf, math.inf, away / 2, away / 2, 0])
    assert regret.there == 40


def curve(*points: tuple[int, float]) -> Regret:
    at, regret = zip(*points)
    return Regret(np.array(at), np.array([regret]))


def test_a_strategy_is_there_when_it_stays() -> None:
    assert curve((10, 5), (20, 0.1), (30, 0.2), (40, 0.05), (50, 0.1)).there == 40
    assert curve((10, 0), (20, 0)).there == 10
    assert math.isinf(curve((10, 0), (20, 0.3)).there)


def test_the_figures() -> None:
    slow, quick = curve((900, 1.0), (1000, 0.0)), curve((10, 1.0), (50, 0.0))
    never = curve((10, 1.0), (3000, 0.2))
    single = {
        "surrogate": {0.9: quick, 0.5: curve((5, 1.0), (20, 0.0))},
        "evolutionary": {0.9: never, 0.5: slow},
        "evolutionary, small": {0.9: slow, 0.5: curve((400, 0.0))},
        "random": {0.9: quick, 0.5: quick},
    }
    front = {0.9: quick, 0.5: curve((5, 1.0), (80, 0.0))}
    figures = figures_of(single, front)
    assert figures["image_evaluations_evolutionary_over_surrogate"] == 20
    assert figures["front_over_one_budget"] == pytest.approx(80 / 400)
    assert figures["lower_bounds"] == 0
    # Nothing gets there: the cheaper size's whole cost is a lower bound.
    single["evolutionary, small"][0.9] = curve((10, 1.0), (2000, 0.3))
    figures = figures_of(single, front)
    assert figures["lower_bounds"] == 1
    assert figures["image_evaluations_evolutionary_over_surrogate"] == 20
    single["surrogate"][0.9] = never
    assert figures_of(single, front)["image_evaluations_evolutionary_over_surrogate"] == 0
    assert figures_of(single, {0.9: never, 0.5: quick})["front_over_one_budget"] == 0


def test_the_figures_of_all_tables_are_those_of_the_worst_and_of_all_that_was_asked() -> None:
    figures = of_tables({"real": (20.0, [True] * 6), "simulated": (8.0, [True, False])})
    assert figures["worst_table_evaluations_ratio"] == 8
    assert figures["posterior_covered_pct"] == pytest.approx(100 * 7 / 8)
    assert figures["tables"]["simulated"] == {"evaluations_ratio": 8.0, "covered_pct": 50.0}


@pytest.mark.parametrize("metric", ["top1", "agreement"])
def test_the_table_of_a_simulated_network_is_what_its_subnets_score(metric: str) -> None:
    network = Simulated("pairs", metric, seed=3, length=4, pictures=300)
    truth = network.table()
    assert truth.subnets == tuple(network.graph.paths())
    for subnet, row in truth.row.items():
        assert truth.accuracy[row] == pytest.approx(100 * network.scores(subnet).mean())
    assert truth.budget(1.0) == pytest.approx(sum(network.cost[name] for name in network.graph.oracle))


def test_what_is_asked_of_the_model_was_not_seen_on_all_pictures() -> None:
    network = Simulated("additive", seed=3, length=4, pictures=300)
    truth = network.table()
    seen = [Result(subnet, network.scores(subnet)) for subnet in truth.subnets]
    assert inside(truth, seen[:-2], 0) == inside(truth, seen[:-2], 1)
    assert len(inside(truth, seen[:-2], 0)) == 2
    halves = [Result(result.subnet, result.scores[:150]) for result in seen]
    held = inside(truth, halves, 0)
    assert len(held) == min(500, len(truth.subnets))
    assert np.mean(held) > 0.8
    wrong = [Result(result.subnet, np.zeros(150)) for result in seen]
    assert np.mean(inside(truth, wrong, 0)) < 0.5, "what was told is not so"


def test_halves_share_every_class_evenly() -> None:
    labels = np.repeat(np.arange(3), [10, 7, 4]).astype(np.uint8)
    one, other = halves(labels, np.random.default_rng(0))
    assert not set(one) & set(other)
    assert np.bincount(labels[one]).tolist() == np.bincount(labels[other]).tolist() == [5, 3, 2]


def test_pictures_are_drawn_with_the_shares_of_their_classes() -> None:
    labels = np.repeat(np.arange(3), 50).astype(np.uint8)
    among = np.random.default_rng(0).permutation(150)
    drawn = with_shares(among, labels, np.array([0.8, 0.2, 0.0]), 50, np.random.default_rng(1))
    assert len(set(drawn)) == 50
    counts = np.bincount(labels[drawn], minlength=3)
    assert counts[2] == 0
    assert 30 <= counts[0] <= 49


def test_accuracy_is_weighted_by_class() -> None:
    hits = np.array([[True, True, False, True], [False, False, True, True]])
    labels = np.array([0, 0, 1, 1], np.uint8)
    assert weighted(hits, labels, np.array([0.5, 0.5])).tolist() == [75, 50]
    assert weighted(hits, labels, np.array([1.0, 0.0])).tolist() == [100, 0]


def test_one_device_of_its_own() -> None:
    truth = space(pictures=400)
    one = draw(truth, 0.1, seed=5)
    assert one.own.shape == one.balanced.shape == (5,)
    assert 0 <= one.oracle <= 100
    again = draw(truth, 0.1, seed=5)
    assert (one.own == again.own).all()


def test_the_gain_and_its_interval() -> None:
    draws = [Draw(np.array([50.0 + gained]), np.array([50.0]), 60.0) for gained in (1.0, 2.0, 3.0)]
    mean, low, high = gain(draws)
    assert mean == pytest.approx(2)
    assert high - mean == pytest.approx(mean - low) == pytest.approx(1.96 / math.sqrt(3))
