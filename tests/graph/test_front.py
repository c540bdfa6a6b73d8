"""Quality with its interval, and the front of subnets worth switching between."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from adaptivenet.toolkit.errors import BudgetError, DataError, ProfileError
from adaptivenet.toolkit.graph.front import Front, FrontPoint
from adaptivenet.toolkit.graph.graph import Block
from adaptivenet.toolkit.graph.quality import Quality
from graphs import chain
from hypothesis import given
from hypothesis import strategies as st

GRAPH = chain(2, (Block("m0", 0, 2, "merged"), Block("p1", 1, 2, "pruned")))
ORACLE, MERGED, PRUNED = GRAPH.oracle, GRAPH.subnet(["m0"]), GRAPH.subnet(["o0", "p1"])


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [  # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(correct: int, count: int, low: float, high: float) -> None:
    quality = Quality.from_counts("top1", correct, count)
    assert quality.value == correct / count
    assert (quality.low, quality.high) == pytest.approx((low, high), abs=5e-5)
    assert quality.n == count


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_interval_holds_the_value_and_mirrors(count: int, share: float) -> None:
    correct = round(count * share)
    quality, mirror = Quality.from_counts("m", correct, count), Quality.from_counts("m", count - correct, count)
    assert 0 <= quality.low <= quality.value <= quality.high <= 1
    assert quality.low < quality.high
    assert (1 - mirror.high, 1 - mirror.low) == pytest.approx((quality.low, quality.high), abs=1e-12)
    assert Quality.from_json(json.loads(json.dumps(quality.to_json()))) == quality


@pytest.mark.parametrize("counts", [(0, 0), (3, 2), (-1, 2), (math.nan, 2), (1, math.nan), (1, math.inf), (1, 2.5)])
def test_sums_that_are_no_counts_are_refused(counts: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="metric 'top1' counted"):
        Quality.from_counts("top1", *counts)


def rated(value: int) -> Quality:
    return Quality.from_counts("agreement", value, 100)


FRONT = Front(
    [
        FrontPoint(ORACLE, 9.0, 10.0, 0.5, 30, rated(100)),
        FrontPoint(
            *(MERGED, 4.0, 5.0, 0.25, 30, rated(80)),
            resident_mb=3.5,
            energy_mj=2.5,
            energy_spread_mj=0.5,
            energy_repetitions=5,
        ),
        FrontPoint(PRUNED, 7.0, None, quality=rated(95)),
    ]
)


def test_points_are_sorted_by_latency() -> None:
    assert [point.subnet for point in FRONT.points] == [MERGED, PRUNED, ORACLE]
    assert [point.latency_ms for point in FRONT.points] == [5.0, 7.0, 10.0]  # measured where measured
    assert repr(FRONT) == "Front(3 points, 5 to 10 ms)"


@pytest.mark.parametrize(
    ("budget", "best"), [(5.0, MERGED), (6.9, MERGED), (7.0, PRUNED), (9.5, PRUNED), (10.0, ORACLE), (math.inf, ORACLE)]
)
def test_best_within_a_budget(budget: float, best: tuple[str, ...]) -> None:
    assert FRONT.best(budget).subnet == best


def test_of_points_that_are_reported_to_be_as_good_the_fastest_is_best() -> None:
    beaten = FrontPoint(ORACLE, 3.0, quality=rated(70))  # only the oracle may stand there: see profiling.verify
    front = Front([FrontPoint(MERGED, 1.0, quality=rated(80)), FrontPoint(PRUNED, 2.0, quality=rated(80)), beaten])
    assert front.best(9.0).subnet == front.best(2.5).subnet == MERGED
    assert Front([FrontPoint(MERGED, 1.0), FrontPoint(PRUNED, 2.0)]).best(9.0).subnet == PRUNED, "nothing is reported"
    assert [point.subnet for point in front.rising] == [MERGED]


def test_an_oracle_that_is_worse_than_a_faster_point_hides_none_that_is_better_than_both() -> None:
    middle = FrontPoint(PRUNED, 2.0, quality=rated(90))
    front = Front([FrontPoint(MERGED, 1.0, quality=rated(80)), middle, FrontPoint(ORACLE, 3.0, quality=rated(80))])
    assert front.best(9.0) == middle
    assert [point.subnet for point in front.rising] == [MERGED, PRUNED]
    assert [point.subnet for point in FRONT.rising] == [MERGED, PRUNED, ORACLE]


def test_a_budget_below_the_fastest_names_it() -> None:
    with pytest.raises(BudgetError, match=r"no subnet meets a budget of 4\.5 ms; the fastest takes 5 ms \(measured\)"):
        FRONT.best(4.5)
    with pytest.raises(BudgetError, match=r"the fastest takes 1 ms \(predicted\)"):
        Front([FrontPoint(MERGED, 1.0)]).best(math.nan)


def test_a_front_has_points() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        Front([])


def test_a_front_survives_json() -> None:
    again = Front.from_json(GRAPH, json.loads(json.dumps(FRONT.to_json())))
    assert again == FRONT
    assert hash(again) == hash(FRONT)
    assert Front(FRONT.points[:2]) != FRONT
    assert FRONT.points != FRONT
    assert again.points[0].subnet.graph is GRAPH


POINT = FRONT.points[0].to_json()
QUALITY = POINT["quality"]


@pytest.mark.parametrize(
    "doc",
    [
        None,
        {},
        [],
        [None],
        [{**POINT, "extra": 1}],
        [{key: POINT[key] for key in POINT if key != "subnet"}],
        [{**POINT, "subnet": "m0"}],
        [{**POINT, "subnet": [0]}],
        [{**POINT, "predicted_ms": None}],
        [{**POINT, "predicted_ms": math.nan}],
        [{**POINT, "predicted_ms": -1.0}],
        [{**POINT, "measured_ms": "5"}],
        [{**POINT, "measured_ms": None}],
        [{**POINT, "spread_ms": None}],
        [{**POINT, "repetitions": 0}],
        [{**POINT, "repetitions": 1.5}],
        [{**POINT, "repetitions": True}],
        [{**POINT, "resident_mb": -0.5}],
        [{**POINT, "resident_mb": "3"}],
        [{**POINT, "energy_mj": None}],
        [{**POINT, "energy_spread_mj": None}],
        [{**POINT, "energy_repetitions": 0}],
        [{**POINT, "energy_repetitions": 1.5}],
        [{key: POINT[key] for key in POINT if key != "energy_repetitions"}],
        [{**POINT, "quality": 0.8}],
        [{**POINT, "quality": {**QUALITY, "extra": 1}}],
        [{**POINT, "quality": {**QUALITY, "metric": 3}}],
        [{**POINT, "quality": {**QUALITY, "value": 0.999}}],
        [{**POINT, "quality": {**QUALITY, "high": 1.5}}],
        [{**POINT, "quality": {**QUALITY, "low": -0.5}}],
        [{**POINT, "quality": {**QUALITY, "n": 0}}],
        [{**POINT, "quality": {**QUALITY, "n": 99.5}}],
    ],
)
def test_damaged_fronts_are_refused(doc: Any) -> None:
    with pytest.raises(ProfileError) as caught:
        Front.from_json(GRAPH, doc)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [["x"], ["o0"], ["m0", "o1"]])
def test_a_front_of_another_pack_is_refused(names: list[str]) -> None:
    with pytest.raises(ProfileError, match="this front belongs to another pack"):
        Front.from_json(GRAPH, [{**POINT, "subnet": names}])
