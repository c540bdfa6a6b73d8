"""Counting and drawing subnets within a latency window, against lists of all paths."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.errors import BudgetError, ProfileError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut, Subnet
from adaptivenet.toolkit.graph.sampling import PathSampler
from adaptivenet.toolkit.graph.ticks import within
from graphs import chain, costed_graphs, total
from hypothesis import assume, given
from hypothesis import strategies as st

Case = tuple[BlockGraph, dict[str, float]]


def inside(graph: BlockGraph, cost: dict[str, float], low: float, high: float) -> set[Subnet]:
    return {path for path in graph.paths() if within(low, total(cost, path), high)}


@st.composite
def windows(draw: st.DrawFn) -> tuple[BlockGraph, dict[str, float], float, float]:
    """A window whose edges are often exactly the latency of some path."""
    graph, cost = draw(costed_graphs())
    edges = st.one_of(st.sampled_from([total(cost, path) for path in graph.paths()]), st.floats(0, 80))
    low, high = sorted((draw(edges), draw(edges)))
    return graph, cost, low, high


@given(windows())
def test_counts_exactly_the_paths_in_the_window(case: tuple[BlockGraph, dict[str, float], float, float]) -> None:
    graph, cost, low, high = case
    sampler = PathSampler(graph, cost)
    assert sampler.count(low, high) == len(inside(graph, cost, low, high))
    assert sampler.count() == graph.count()
    assert sampler.count(high=high) == len(inside(graph, cost, 0, high))
    assert sampler.count(low=low) == len(inside(graph, cost, low, inf))


@given(windows())
def test_ranks_number_the_paths_of_the_window(case: tuple[BlockGraph, dict[str, float], float, float]) -> None:
    """A draw is a uniform rank, so a bijection from ranks to paths is exact uniformity."""
    graph, cost, low, high = case
    sampler = PathSampler(graph, cost)
    count = sampler.count(low, high)
    numbered = [sampler.path(rank, low, high) for rank in range(count)]
    assert len(set(numbered)) == count
    assert set(numbered) == inside(graph, cost, low, high)
    for rank in (-1, count):
        with pytest.raises(IndexError, match="no subnet number"):
            sampler.path(rank, low, high)


@given(windows())
def test_each_path_is_equally_likely_block_by_block(case: tuple[BlockGraph, dict[str, float], float, float]) -> None:
    """The chance of a path, multiplied up over its choices among the ways onward, is one over the count."""
    graph, cost, low, high = case
    sampler = PathSampler(graph, cost)
    count = sampler.count(low, high)
    assume(count)
    first, last = sampler.ticks.first(low), sampler.ticks.last(high)

    def ways(at: int, spent: int) -> int:
        return sampler._ways[at].between(first - spent, last - spent)

    for path in inside(graph, cost, low, high):
        chance, at, spent = Fraction(1), 0, 0
        for name in path:
            here = ways(at, spent)
            at, spent = graph[name].end, spent + sampler.ticks.of[name]
            chance *= Fraction(ways(at, spent), here)
        assert chance == Fraction(1, count)


@given(windows(), st.integers(0, 2**32))
def test_samples_lie_in_the_window(case: tuple[BlockGraph, dict[str, float], float, float], seed: int) -> None:
    graph, cost, low, high = case
    sampler = PathSampler(graph, cost)
    allowed = inside(graph, cost, low, high)
    if allowed:
        assert set(sampler.sample(20, random.Random(seed), low, high)) <= allowed
    else:
        with pytest.raises(BudgetError, match="found no subnet"):
            sampler.sample(1, random.Random(seed), low, high)


@given(costed_graphs(), st.floats(0.05, 3), st.integers(0, 2**32), st.data())
def test_coarse_ticks_never_let_a_sample_out(case: Case, resolution: float, seed: int, data: st.DataObject) -> None:
    graph, cost = case
    sampler = PathSampler(graph, cost, resolution)
    totals = sorted(total(cost, path) for path in graph.paths())
    slack = resolution * graph.end / 2 * 1.001
    high = data.draw(st.sampled_from(totals))
    surely = sum(ms <= high - slack for ms in totals)
    # At the fastest subnet the edge itself is rounded too, so that it is always found.
    perhaps = sum(ms <= high + (2 * slack if high <= totals[0] + slack else slack) for ms in totals)
    assert surely <= sampler.count(high=high) <= perhaps
    for path in sampler.sample(10, random.Random(seed), 0.0, high):
        assert within(0.0, total(cost, path), high)


@given(costed_graphs(), st.floats(0.05, 3))
def test_the_fastest_is_found_at_its_own_latency(case: Case, resolution: float) -> None:
    graph, cost = case
    sampler = PathSampler(graph, cost, resolution)
    fastest = min(total(cost, path) for path in graph.paths())
    assert sampler.latency_ms(sampler.fastest) == pytest.approx(fastest)
    [path] = sampler.sample(1, random.Random(0), 0.0, fastest)
    assert total(cost, path) == pytest.approx(fastest)


TRIANGLE = chain(2, (Block("m0", 0, 2, "merged"), Block("p1", 1, 2, "pruned")))


@pytest.mark.parametrize(
    ("low", "high"), [(0, 3.9), (4.1, 4.9), (9.5, inf), (9, 4), (inf, inf), (-2, -1), (-inf, -inf), (9, -inf)]
)
def test_an_empty_window_names_what_there_is(low: float, high: float) -> None:
    sampler = PathSampler(TRIANGLE, {"o0": 3, "o1": 6, "m0": 4, "p1": 2})
    assert sampler.count(low, high) == 0
    with pytest.raises(BudgetError, match=r"the fastest takes 4 ms, the slowest 9 ms; widen the window$") as caught:
        sampler.sample(1, random.Random(0), low, high)
    assert "\n" not in str(caught.value)


def test_a_window_that_only_rounding_fills_is_empty() -> None:
    sampler = PathSampler(TRIANGLE, {"o0": 3.4, "o1": 6.4, "m0": 4.4, "p1": 2.4}, resolution=1.0)
    assert sampler.count(9.0, 9.2) == 1  # o0 + o1 are 9 ticks, and 9.8 ms
    with pytest.raises(BudgetError, match=r"found no subnet of 9 to 9\.2 ms"):
        sampler.sample(1, random.Random(0), 9.0, 9.2)


def test_a_seed_reproduces() -> None:
    sampler = PathSampler(TRIANGLE, {"o0": 3, "o1": 6, "m0": 4, "p1": 2})
    first, again, other = (sampler.sample(30, random.Random(seed)) for seed in (5, 5, 6))
    assert first == again != other
    assert sampler.sample(0, random.Random(5)) == []


def test_a_cost_must_be_known() -> None:
    with pytest.raises(ProfileError, match="no latency for 1 of 4 blocks, first 'm0'"):
        PathSampler(TRIANGLE, {"o0": 3, "o1": 6, "p1": 2})


def wide(length: int) -> tuple[BlockGraph, dict[str, float]]:
    """`length` cuts onward, six ways from most, at odd costs."""
    rng = random.Random(7)
    spans = [(at, at + span) for at in range(length) for span in (1, 1, 1, 2, 3) if at + span <= length]
    graph = BlockGraph(
        [Cut(index, (1,)) for index in range(length + 1)],
        [Block(f"o{at}", at, at + 1, "original") for at in range(length)]
        + [
            Block(f"a{number}", start, end, "merged" if end > start + 1 else "pruned")
            for number, (start, end) in enumerate(spans)
        ],
    )
    return graph, {block.name: rng.uniform(0.5, 1.5) for block in graph.blocks}


def test_draws_are_uniform() -> None:
    """Chi-square over the paths of one window; the draws are seeded, so this cannot fail by chance."""
    graph, cost = wide(4)
    sampler = PathSampler(graph, cost)
    paths = inside(graph, cost, 3.0, 4.0)
    assert len(paths) > 50
    drawn = Counter(sampler.sample(40 * len(paths), random.Random(11), 3.0, 4.0))
    chi_square = sum((drawn[path] - 40) ** 2 / 40 for path in paths)
    freedom = len(paths) - 1
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5  # five standard deviations


def test_a_deep_graph_is_counted_exactly_and_sampled_in_a_narrow_window() -> None:
    graph, cost = wide(60)
    sampler = PathSampler(graph, cost)
    assert sampler.count() == graph.count() > 10**37
    oracle = sampler.latency_ms(graph.oracle)
    narrow, wider = (sampler.count(0.6 * oracle, to * oracle) for to in (0.602, 0.7))
    assert 0 < narrow < wider < sampler.count()
    for path in sampler.sample(100, random.Random(0), 0.6 * oracle, 0.602 * oracle):
        assert 0.6 * oracle <= total(cost, path) <= 0.602 * oracle
    fastest = sampler.latency_ms(sampler.fastest)
    assert set(sampler.sample(3, random.Random(0), 0.0, fastest)) == {sampler.fastest}


def authors_table(model: str) -> tuple[BlockGraph, dict[str, float]]:
    """The graph and the latencies of a ResNet that AdaptiveNet's authors measured on a Xiaomi 12."""
    folder = os.environ.get("ADAPTIVENET_DATA")
    path = Path(folder or ".") / "authors_latency_ms.json"
    if not folder or not path.is_file():
        pytest.skip("needs authors_latency_ms.json in the folder named by ADAPTIVENET_DATA")
    table: list[Any] = json.loads(path.read_text())["devices"]["xiaomi"][model]
    table = [options if isinstance(options, list) else [options] for options in table]
    cost, blocks = {}, []
    for at, options in enumerate(table):
        for place, ms in enumerate(options):
            block = Block(f"b{at}-{place}", at, at + place + 1, "merged" if place else "original")
            blocks.append(block)
            cost[block.name] = ms
    return BlockGraph([Cut(index, (1,)) for index in range(len(table) + 1)], blocks), cost


def test_a_real_phone_with_few_paths_is_exact() -> None:
    graph, cost = authors_table("resnet50")
    sampler = PathSampler(graph, cost)
    oracle = total(cost, graph.oracle)
    for budget in (0.6, 0.75, 0.9):
        window = ((budget - 0.05) * oracle, budget * oracle)
        paths = inside(graph, cost, *window)
        assert sampler.count(*window) == len(paths) > 0
        assert set(sampler.sample(200, random.Random(1), *window)) <= paths


def test_a_real_phone_with_many_paths() -> None:
    graph, cost = authors_table("resnet101")
    sampler = PathSampler(graph, cost)
    assert sampler.count() == graph.count() > 10**8
    oracle = total(cost, graph.oracle)
    drawn = sampler.sample(300, random.Random(1), 0.74 * oracle, 0.75 * oracle)
    assert len(set(drawn)) > 290
    assert all(0.74 * oracle <= total(cost, path) <= 0.75 * oracle for path in drawn)
