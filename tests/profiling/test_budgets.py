"""What budgets come to: the oracle always meets 100%, and what lies close to a budget's edge is chosen or told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.errors import BudgetError, ProfileError
from adaptivenet.toolkit.graph.front import Front, FrontPoint
from adaptivenet.toolkit.graph.graph import Subnet
from adaptivenet.toolkit.graph.latency import Latency
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import compile_plan
from adaptivenet.toolkit.profiling.budgets import (
    Limits,
    choose,
    near_miss,
    require_known_energy,
    tolerance,
    within_limits,
)
from adaptivenet.toolkit.profiling.edges import below_edges
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Budget, Settings, parse_tolerance
from adaptivenet.toolkit.profiling.verify import divide
from adaptivenet.toolkit.serving.controller import Controller
from adaptivenet.toolkit.serving.decision import Budgets, Kind, points_of
from given_times import give_times
from hypothesis import given
from hypothesis import strategies as st
from packs import GRAPH, WIDE

QUICK = Settings(evaluations=20, search_images=6, verify_images=6, rounds=10)
PATHS = sorted(GRAPH.paths())


def front(*measured: float, spread: float = 0.0) -> Front:
    return Front(FrontPoint(subnet, ms, ms, spread, 25) for subnet, ms in zip(PATHS, measured))


def profiled(pack: BlockPack, data: Dataset, *budgets: str, **settings: Any) -> Profile:
    with connect("local:onnxruntime").open(pack) as session:
        return profile(session, data, replace(QUICK, budgets=budgets, **settings))


SLOW = {"b0": 1.0, "b1": 1.0, "b2": 1.0, "b0-m2": 3.0, "b0-p50": 2.0, "b1-p50": 2.0}
FAST = {"b0": 1.0, "b1": 1.0, "b2": 1.0, "b0-m2": 1.0, "b0-p50": 0.9, "b1-p50": 0.8}


def test_the_oracle_always_meets_a_hundred_percent(
    tiny_pack: BlockPack, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Timed a second time, the oracle seems to be 1% slower than itself.
    give_times(monkeypatch, SLOW, 1.01)
    found = profiled(tiny_pack, data, "100%", "110%")
    for choice in found.choices:
        assert choice.point.subnet == GRAPH.oracle
        assert choice.point.latency_ms == found.oracle.median_ms
    with pytest.raises(BudgetError, match=r"budget of 99% .* the fastest takes 3 ms, 100% of the whole network's 3 ms"):
        profiled(tiny_pack, data, "99%")


def test_a_tolerance_takes_what_is_a_little_over(
    tiny_pack: BlockPack, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_times(monkeypatch, FAST)
    with pytest.raises(BudgetError, match=r"the fastest takes 2 ms, 67% .*; --tolerance 0\.6% takes it"):
        profiled(tiny_pack, data, "1.99ms")
    found = profiled(tiny_pack, data, "1.99ms", tolerance=0.006)
    (choice,) = found.choices
    assert choice.point.latency_ms == pytest.approx(2.0)
    assert choice.budget_ms == 1.99, "the budget is what was asked for"
    assert found.document["settings"]["tolerance"] == 0.006


@pytest.mark.parametrize(
    ("budget", "tolerant", "chosen"),
    [("2ms", 0, 2.0), ("1.99ms", 0, 1.0), ("1.99ms", 0.01, 2.0), ("50%", 0, 2.0), ("49.9%", 0, 1.0), ("100%", 0, 4.0)],
)
def test_what_is_chosen(budget: str, tolerant: float, chosen: float) -> None:
    assert choose(front(1.0, 2.0, 4.0), Budget(budget, tolerant), 4.0).latency_ms == chosen


def test_the_fastest_is_chosen_where_its_timing_cannot_tell_that_it_is_over() -> None:
    wavering = front(2.0, 4.0, spread=0.1)
    within = Latency(2.0, 0.1, 25).half_width_ms
    assert within == pytest.approx(0.0364, abs=1e-4)
    assert choose(wavering, Budget(f"{2 - 0.9 * within:.6f}ms"), 4.0).latency_ms == 2.0
    with pytest.raises(BudgetError, match="no subnet meets a budget"):
        choose(wavering, Budget(f"{2 - 1.1 * within:.6f}ms"), 4.0)
    with pytest.raises(BudgetError, match="no subnet meets a budget"):
        choose(front(2.0, 4.0, spread=10.0), Budget("1.9ms"), 4.0)  # such a timing tells nothing
    with pytest.raises(BudgetError, match=r"--tolerance 1% takes it"):
        choose(front(2.0, 4.0), Budget("1.9802ms"), 4.0)


@given(st.floats(0, 0.03), st.floats(0.5, 100))
def test_the_tolerance_that_is_named_takes_it(too_slow: float, ms: float) -> None:
    budget = Budget(f"{ms:.6f}ms", parse_tolerance(tolerance(too_slow)))
    assert budget.allowed_ms(1.0) >= float(f"{ms:.6f}") * (1 + too_slow) * (1 - 1e-12)
    assert budget.tolerance <= too_slow + 0.001 + 1e-12


def test_a_near_miss() -> None:
    points = front(1.0, 2.0, 2.02, 2.05, 4.0)
    budget = Budget("2ms")
    chosen = choose(points, budget, 4.0)
    assert chosen.latency_ms == 2.0
    missed = near_miss(points, 2.0, chosen)
    assert missed
    assert missed.latency_ms == 2.05
    assert near_miss(points, 3.0, points.points[3]) is None


def costly(*costs: tuple[float, float | None, float | None]) -> Front:
    """A front of points with latency, memory and energy."""
    return Front(
        FrontPoint(
            *(subnet, ms, ms, 0.0, 25),
            resident_mb=resident_mb,
            energy_mj=energy_mj,
            energy_spread_mj=None if energy_mj is None else 0.1,
            energy_repetitions=0 if energy_mj is None else 5,
        )
        for subnet, (ms, resident_mb, energy_mj) in zip(PATHS, costs)
    )


COSTLY = costly((1.0, 50.0, 8.0), (2.0, 30.0, 12.0), (3.0, None, 9.0), (4.0, 60.0, None))


@pytest.mark.parametrize(
    ("memory_mb", "energy_mj", "kept"),
    [
        (None, None, [1.0, 2.0, 3.0, 4.0]),
        (50.0, None, [1.0, 2.0, 3.0]),
        (49.9, None, [2.0, 3.0]),
        (None, 9.0, [1.0, 3.0, 4.0]),
        (30.0, 9.0, [3.0]),
    ],
)
def test_limits_leave_what_keeps_them_and_what_is_not_known(
    memory_mb: float | None, energy_mj: float | None, kept: list[float]
) -> None:
    found = within_limits(COSTLY, Limits(memory_mb, energy_mj))
    assert [point.latency_ms for point in found.points] == kept
    budget = Budget("3.5ms")
    assert choose(found, budget, 4.0).latency_ms == max(ms for ms in kept if ms <= 3.5)


def test_limits_that_nothing_keeps_name_what_comes_nearest() -> None:
    known = costly((1.0, 50.0, 8.0), (2.0, 30.0, 12.0))
    with pytest.raises(BudgetError, match=r"no subnet keeps to 20 MB: the smallest takes 30 MB \(measured\)"):
        within_limits(known, Limits(20.0))
    with pytest.raises(BudgetError, match=r"no subnet keeps to 7\.5 mJ: the thriftiest takes 8 mJ an inference"):
        within_limits(known, Limits(None, 7.5))
    with pytest.raises(BudgetError, match=r"keeps to 40 MB and 9 mJ: the thriftiest of that size takes 12 mJ"):
        within_limits(known, Limits(40.0, 9.0))
    limits = Limits(40.0)
    with pytest.raises(BudgetError, match=r"no subnet within 40 MB meets a budget of 1ms .*: the fastest takes 2 ms"):
        choose(within_limits(known, limits), Budget("1ms"), 4.0, limits)
    with pytest.raises(BudgetError, match=r"the smallest takes 7 MB \(its artifacts\)"):
        within_limits(costly((1.0, None, None)), Limits(5.0), lambda point: 7.0)
    with pytest.raises(BudgetError, match="a limit of 5 mJ cannot be kept: the profile tells the energy of no subnet"):
        require_known_energy(costly((1.0, 3.0, None)), Limits(None, 5.0))
    require_known_energy(known, Limits(None, 5.0))
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BudgetError, match="must be a positive number"):
            Limits(wrong)


COSTS = st.none() | st.floats(0.0, 100.0)


@given(
    st.lists(st.tuples(st.floats(0.5, 100.0), COSTS, COSTS), min_size=1, max_size=5),
    st.floats(0.1, 100.0),
    st.none() | st.floats(0.1, 100.0),
    st.none() | st.floats(0.1, 100.0),
)
def test_what_is_chosen_within_limits_is_what_the_controller_begins_with(
    points: list[tuple[float, float | None, float | None]],
    budget_ms: float,
    memory_mb: float | None,
    energy_mj: float | None,
) -> None:
    front = costly(*points)
    controller = Controller(points_of(front), Budgets(float(f"{budget_ms:.6f}"), 50.0, memory_mb, energy_mj))
    try:
        chosen = choose(within_limits(front, Limits(memory_mb, energy_mj)), Budget(f"{budget_ms:.6f}ms"), 100.0)
    except BudgetError:
        assert controller.decision.kind is Kind.NOTHING_FITS
    else:
        assert chosen == front.rising[controller.point]


COST = {
    block.name: {"original": 1.0, "merged": 1.95}.get(block.kind, 0.95 if block.ratio == 0.5 else 0.97)
    for block in WIDE.blocks
} | {"b1-p50": 0.3}
FASTEST = WIDE.subnet(("b0-p50", "b1-p50", "b2-p50", "b3-p50", "b4"))


def predict(subnet: Subnet) -> float:
    return sum(COST[name] for name in subnet)


def latencies(*subnets: Subnet) -> dict[Subnet, float]:
    return {subnet: predict(subnet) for subnet in subnets}


def test_subnets_just_within_a_budget_are_tried_where_a_good_one_missed_it() -> None:
    ms = latencies(WIDE.oracle, FASTEST)  # 5 and 4.15
    thinner = [WIDE.replace(WIDE.oracle, WIDE[f"b{at}-p75"]) for at in range(4)]  # 4.97
    estimate = {WIDE.oracle: 0.9, FASTEST: 0.3}
    tried = below_edges(WIDE, predict, ms, estimate, [4.99])
    assert sorted(tried[:4]) == sorted(thinner)
    assert list(latencies(*tried).values()) == pytest.approx([4.97] * 4 + [4.95] * 2), "the slowest six"
    known = {**estimate, thinner[0]: 0.8}
    assert sorted(below_edges(WIDE, predict, ms, known, [4.99])[:3]) == sorted(thinner[1:])
    assert below_edges(WIDE, predict, ms, {**estimate, FASTEST: 0.89}, [4.99]) == [], "nothing is lost"
    assert below_edges(WIDE, predict, ms, estimate, [4.8, 5.0]) == [], "5 ms is 4% over, and within"
    slower = {subnet: 1.02 * each for subnet, each in ms.items()}  # what is like the one that missed will be so too
    assert below_edges(WIDE, predict, slower, estimate, [4.99]) == []
    assert sorted(below_edges(WIDE, predict, slower, estimate, [5.09])[:4]) == sorted(thinner)


def test_a_profile_looks_below_the_edge_of_a_budget(
    wide_pack: BlockPack, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_times(monkeypatch, COST)
    settings: dict[str, Any] = {"evaluations": 2, "metric": "agreement"}
    found = profiled(wide_pack, data, "4.99ms", **settings)
    assert found.document["search"]["subnets"] == 2 + 6
    assert found.document["search"]["image_evaluations"] == (2 + 6) * 6
    assert found.document["seconds"]["look below edges"] > 0
    known = latencies(WIDE.oracle, FASTEST)
    tried = below_edges(WIDE, predict, known, {WIDE.oracle: 1.0, FASTEST: 0.0}, [4.99])
    pictures, _ = divide(data, None, QUICK)
    plan = compile_plan(WIDE, [FASTEST, *tried], {"agreement": wide_pack.metrics["agreement"]}, 10**6)
    with connect("local:onnxruntime").open(wide_pack) as session:
        fastest, *scored = (quality.value for quality in session.evaluate(plan, pictures).quality("agreement"))
    better = {subnet for subnet, quality in zip(tried, scored, strict=True) if quality > fastest}
    timed = found.document["samples"]["time below edges"]["chains"]
    assert 0 < len(better) < len(tried) == 6
    assert set(map(WIDE.subnet, timed)) == better, "on the pictures of the search, the others only tie with the fastest"
    (choice,) = found.choices
    within = [point for point in found.front.points if point.latency_ms <= 4.99]
    assert choice.point == max(within, key=lambda point: (point.qualities[0].value, -point.latency_ms))
    assert profiled(wide_pack, data, "4.8ms", **settings).document["search"]["subnets"] == 2


def test_the_half_width_is_that_of_the_median() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        found = Latency.from_samples(rng.normal(10.0, 1.0, 41).tolist())
        inside += abs(found.median_ms - 10.0) <= found.half_width_ms
    assert 0.90 <= inside / 400 <= 0.98
    assert Latency(1.0, 0.0, 0).half_width_ms == 0.0


@pytest.mark.parametrize("text", ["1", "-1%", "1ms", "", "51%", "nan%", "abc"])
def test_what_is_no_tolerance(text: str) -> None:
    with pytest.raises(BudgetError, match="is not a tolerance: write it like 1%"):
        parse_tolerance(text)


def test_tolerances() -> None:
    assert [parse_tolerance(text) for text in ("1%", "0.5 %", "0%")] == [0.01, 0.005, 0.0]
    for value in (-0.1, 0.51, float("nan")):
        with pytest.raises(ProfileError, match="tolerance is"):
            Settings(tolerance=value)
