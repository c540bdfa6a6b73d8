"""Latencies, tables, and the whole-number scale that the dynamic programs count on."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import pytest
from adaptivenet.toolkit.errors import ProfileError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph
from adaptivenet.toolkit.graph.latency import Latency, LatencyTable
from adaptivenet.toolkit.graph.ticks import Ticks, fastest_and_slowest, within
from graphs import chain, costed_graphs, total
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("samples", "median", "spread", "repetitions"),
    [
        ([7.0], 7.0, 0.0, 1),
        ([3.0, 1.0], 1.0, 2.0, 2),  # nearest rank: p25 and p50 are the first, p75 the second
        ([4.0, 1.0, 3.0, 2.0], 2.0, 2.0, 4),
        ([float(ms) for ms in range(100, 0, -1)], 50.0, 50.0, 100),
    ],
)
def test_latency_from_samples(samples: list[float], median: float, spread: float, repetitions: int) -> None:
    assert Latency.from_samples(samples) == Latency(median, spread, repetitions)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_the_median_is_a_time_that_occurred(samples: list[float]) -> None:
    latency = Latency.from_samples(samples)
    assert latency.median_ms in samples
    assert 0 <= latency.spread_ms <= max(samples) - min(samples)


def test_no_samples_no_latency() -> None:
    with pytest.raises(ValueError, match="no timings"):
        Latency.from_samples([])


def test_table_predicts_the_sum() -> None:
    table = LatencyTable({"a": Latency(1.5, 0.1, 9), "b": Latency(2.25, 0.2, 9)})
    assert table.ms == {"a": 1.5, "b": 2.25}
    assert table.predict_ms(("a", "b")) == 3.75
    with pytest.raises(ProfileError, match="the latency table has no block 'c'"):
        table.predict_ms(("a", "c"))


def test_table_survives_json() -> None:
    table = LatencyTable({"a": Latency(1.1, 0.1, 9), "b": Latency(0.0, 0.0, 1)})
    assert LatencyTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_table_from_elsewhere_claims_no_measurement() -> None:
    assert LatencyTable.from_ms({"a": 2}).blocks == {"a": Latency(2.0, 0.0, 0)}
    with pytest.raises(ProfileError, match="latency of block 'a' is -1"):
        LatencyTable.from_ms({"a": -1.0})


GOOD = {"median_ms": 1.0, "spread_ms": 0.5, "repetitions": 3}


@pytest.mark.parametrize(
    "doc",
    [
        None,
        [],
        {"a": 3.0},
        {"a": {"median_ms": 1.0, "spread_ms": 0.5}},
        {"a": {**GOOD, "extra": 1}},
        {"a": {**GOOD, "median_ms": "1.0"}},
        {"a": {**GOOD, "median_ms": True}},
        {"a": {**GOOD, "median_ms": math.nan}},
        {"a": {**GOOD, "median_ms": math.inf}},
        {"a": {**GOOD, "median_ms": -1.0}},
        {"a": {**GOOD, "spread_ms": None}},
        {"a": {**GOOD, "repetitions": 2.5}},
    ],
)
def test_damaged_tables_are_refused(doc: Any) -> None:
    with pytest.raises(ProfileError):
        LatencyTable.from_json(doc)


@given(costed_graphs())
def test_fastest_and_slowest(case: tuple[BlockGraph, dict[str, float]]) -> None:
    graph, cost = case
    totals = [total(cost, path) for path in graph.paths()]
    fastest, slowest = fastest_and_slowest(graph, cost)
    assert total(cost, fastest) == pytest.approx(min(totals))
    assert total(cost, slowest) == pytest.approx(max(totals))


@pytest.mark.parametrize(
    ("costs", "unit"), [((6.0, 9.0), 3), ((0.25, 1.0), Fraction(1, 4)), ((0.1, 0.2), Fraction(1, 10)), ((0.0, 0.0), 1)]
)
def test_costs_with_a_common_unit_are_exact(costs: tuple[float, float], unit: Fraction) -> None:
    graph = many_paths()
    ticks = Ticks.counting(graph, {block.name: costs[block.kind == "pruned"] for block in graph.blocks})
    assert ticks.exact
    assert ticks.unit == unit


def many_paths(length: int = 16) -> BlockGraph:
    return chain(length, tuple(Block(f"p{at}", at, at + 1, "pruned") for at in range(length)))


def test_many_paths_at_odd_costs_fall_back_to_5000_ticks_for_the_oracle() -> None:
    graph = many_paths()
    cost = {block.name: math.pi + block.start / math.e for block in graph.blocks}
    ticks = Ticks.counting(graph, cost)
    assert not ticks.exact
    assert ticks.unit * 5000 == pytest.approx(total(cost, graph.oracle))
    assert abs(sum(ticks.of[name] for name in graph.oracle) - 5000) <= graph.end / 2


def test_a_free_oracle_still_has_a_scale() -> None:
    graph = many_paths()
    cost = {block.name: 0.0 if block.kind == "original" else math.sqrt(block.end) for block in graph.blocks}
    ticks = Ticks.counting(graph, cost)
    assert ticks.unit * 5000 == pytest.approx(4.0)
    assert ticks.of["p15"] == 5000


@given(costed_graphs(), st.floats(0.01, 5))
def test_ticks_round_each_block_to_the_nearest(case: tuple[BlockGraph, dict[str, float]], resolution: float) -> None:
    graph, cost = case
    ticks = Ticks.counting(graph, cost, resolution)
    for name, ms in cost.items():
        assert abs(ticks.of[name] * resolution - ms) <= resolution * 0.5000001
    assert Ticks.counting(graph, cost).exact  # few paths: never rounded unless asked to


def test_window_edges_are_included() -> None:
    ticks = Ticks.counting(chain(2), {"o0": 0.1, "o1": 0.4}, 0.1)
    assert (ticks.first(0.3), ticks.last(0.3)) == (3, 3)
    assert (ticks.first(0.1 + 0.2), ticks.last(0.1 + 0.2)) == (3, 3)  # a shade more than 0.3
    assert (ticks.first(0.301), ticks.last(0.299)) == (4, 2)
    assert (ticks.first(-math.inf), ticks.last(math.inf)) == (0, 5)
    assert (ticks.first(math.inf), ticks.last(-1.0)) == (6, -1)
    assert ticks.last(1e300) == 5  # no path is longer than all blocks together
    assert within(0.3, 0.1 + 0.2, 0.3)
    assert not within(0.3, 0.301, 0.3)


@pytest.mark.parametrize("resolution", [0.0, -1.0, math.nan, math.inf])
def test_a_tick_has_a_length(resolution: float) -> None:
    with pytest.raises(ValueError, match="resolution"):
        Ticks.counting(chain(1), {"o0": 1.0}, resolution)


def test_every_block_needs_a_cost() -> None:
    with pytest.raises(ProfileError, match="no latency for 1 of 2 blocks, first 'o1'"):
        Ticks.counting(chain(2), {"o0": 1.0})
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ProfileError, match="latency of block 'o1'"):
            Ticks.counting(chain(2), {"o0": 1.0, "o1": bad})
