"""The k best paths per budget, against sorting all paths."""

from __future__ import annotations

import math
import random

import pytest
from adaptivenet.toolkit.errors import ProfileError
from adaptivenet.toolkit.graph.best_paths import best_paths
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Subnet
from adaptivenet.toolkit.graph.ticks import within
from graphs import chain, costed_graphs, total
from hypothesis import given
from hypothesis import strategies as st

Case = tuple[BlockGraph, dict[str, float]]


def values(graph: BlockGraph) -> st.SearchStrategy[dict[str, float]]:
    """Values a block: with many ties, or without any to speak of."""
    names = [block.name for block in graph.blocks]
    ties = st.fixed_dictionaries({name: st.integers(-3, 3).map(float) for name in names})
    return st.one_of(ties, st.fixed_dictionaries({name: st.floats(-1, 1) for name in names}))


def ranked(graph: BlockGraph, cost: dict[str, float], value: dict[str, float], budget: float) -> list[Subnet]:
    fits = [path for path in graph.paths() if within(0.0, total(cost, path), budget)]
    return sorted(fits, key=lambda path: -total(value, path))


@given(costed_graphs(), st.integers(1, 12), st.data())
def test_finds_the_k_best_for_every_budget(case: Case, k: int, data: st.DataObject) -> None:
    graph, cost = case
    value = data.draw(values(graph))
    latencies = sorted({total(cost, path) for path in graph.paths()})
    budgets = [
        *data.draw(st.permutations(latencies))[:6],
        *data.draw(st.lists(st.floats(-5, 90), max_size=3)),
        math.inf,
    ]
    found = best_paths(graph, cost, value, budgets, k)
    assert len(found) == len(budgets)
    for budget, paths in zip(budgets, found, strict=True):
        expected = ranked(graph, cost, value, budget)
        assert len(paths) == len(set(paths)) == min(k, len(expected))
        assert set(paths) <= set(expected)
        # Ties may be broken either way: it is the values that are unique.
        assert [total(value, path) for path in paths] == pytest.approx([total(value, path) for path in expected[:k]])


@given(costed_graphs(), st.integers(1, 5), st.floats(0.05, 3), st.data())
def test_coarse_ticks_never_break_a_budget(case: Case, k: int, resolution: float, data: st.DataObject) -> None:
    graph, cost = case
    value = data.draw(values(graph))
    budgets = sorted({total(cost, path) for path in graph.paths()})[:20]
    slack = resolution * graph.end / 2 * 1.001
    for budget, paths in zip(budgets, best_paths(graph, cost, value, budgets, k, resolution), strict=True):
        assert all(within(0.0, total(cost, path), budget) for path in paths)
        assert paths, "every budget here is met by some path, at least by the fastest"
        # Not worse than the true best of a budget that is smaller by what rounding can amount to, twice.
        surely = ranked(graph, cost, value, budget - 2 * slack)[:k]
        for path, bound in zip(paths, surely, strict=False):
            assert total(value, path) >= total(value, bound) - 1e-9
        assert len(paths) >= len(surely)


def test_a_budget_below_the_fastest_has_none() -> None:
    graph = chain(2, (Block("m0", 0, 2, "merged"),))
    cost, value = {"o0": 2.0, "o1": 3.0, "m0": 4.0}, {"o0": 0.0, "o1": 0.0, "m0": -1.0}
    assert best_paths(graph, cost, value, [3.9, 4.0, 5.0, -1.0]) == [[], [("m0",)], [("o0", "o1")], []]
    assert best_paths(graph, cost, value, [5.0], k=5) == [[("o0", "o1"), ("m0",)]]
    assert best_paths(graph, cost, value, [1e300]) == [[("o0", "o1")]]
    assert best_paths(graph, cost, value, []) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_must_be_finite(bad: float) -> None:
    with pytest.raises(ProfileError, match="value of block 'o0'"):
        best_paths(chain(1), {"o0": 1.0}, {"o0": bad}, [1.0])


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(ProfileError, match="no value for 1 of 1 blocks"):
        best_paths(chain(1), {"o0": 1.0}, {}, [1.0])
    with pytest.raises(ValueError, match="k is 0"):
        best_paths(chain(1), {"o0": 1.0}, {"o0": 0.0}, [1.0], k=0)
    with pytest.raises(ValueError, match="budgets are"):
        best_paths(chain(1), {"o0": 1.0}, {"o0": 0.0}, [math.nan])


def knapsack(graph: BlockGraph, cost: dict[str, float], value: dict[str, float], budget: int) -> float:
    """The best total value at whole costs: the textbook's table, forward, one row a cut, without any path."""
    best = [[-math.inf] * (budget + 1) for _ in graph.cuts]
    best[0] = [0.0] * (budget + 1)
    for block in graph.blocks:
        spent, gained = int(cost[block.name]), value[block.name]
        for left in range(spent, budget + 1):
            best[block.end][left] = max(best[block.end][left], best[block.start][left - spent] + gained)
    return best[-1][budget]


def deep_graph() -> BlockGraph:
    """60 blocks, six options from most cuts: far too many paths to list."""
    spans = [(at, at + span) for at in range(60) for span in (1, 1, 1, 2, 3) if at + span <= 60]
    kinds = ["pruned" if end == start + 1 else "merged" for start, end in spans]
    return chain(
        60, tuple(Block(f"a{n}", *span, kind) for n, (span, kind) in enumerate(zip(spans, kinds, strict=True)))
    )


def test_a_deep_graph_at_whole_costs_is_solved_exactly() -> None:
    rng, graph = random.Random(3), deep_graph()
    cost = {block.name: float(rng.randint(10, 30)) for block in graph.blocks}
    value = {block.name: cost[block.name] ** 0.5 + rng.uniform(0, 2) for block in graph.blocks}
    budgets = [500.0, 700.0, 900.0, 1200.0]
    for budget, paths in zip(budgets, best_paths(graph, cost, value, budgets, k=10), strict=True):
        gains = [total(value, path) for path in paths]
        assert gains[0] == pytest.approx(knapsack(graph, cost, value, int(budget)))
        assert gains == sorted(gains, reverse=True)
        assert len(set(paths)) == 10
        assert all(total(cost, path) <= budget for path in paths)


def test_a_deep_graph_at_odd_costs_loses_no_more_than_rounding() -> None:
    rng, graph = random.Random(4), deep_graph()
    cost = {block.name: rng.uniform(10, 30) for block in graph.blocks}
    value = {block.name: cost[block.name] ** 0.5 + rng.uniform(0, 2) for block in graph.blocks}
    # Whole costs below and above the real ones enclose the truth, whatever the ticks are.
    below = {name: float(math.floor(ms)) for name, ms in cost.items()}
    above = {name: float(math.ceil(ms)) for name, ms in cost.items()}
    for budget, [path] in zip([700.0, 900.0], best_paths(graph, cost, value, [700.0, 900.0]), strict=True):
        assert total(cost, path) <= budget
        worst, best = (knapsack(graph, whole, value, int(budget)) for whole in (above, below))
        assert worst <= total(value, path) <= best
