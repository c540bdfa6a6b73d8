"""The controller at its limits: nothing fits, cold starts, absurd input, other budgets; what it says; its traces."""

from __future__ import annotations

import itertools
import json
import math
import random
from typing import Any

import pytest
from adaptivenet.toolkit.serving.controller import Controller
from adaptivenet.toolkit.serving.decision import Budgets, Kind, Point
from adaptivenet.toolkit.serving.simulator import Record, replay, serve
from controller_traces import FILE, points, traces
from controlling import (
    COLD,
    MOST,
    WITHIN,
    fronts,
    noisy,
    run,
    seeds,
    within,
)
from hypothesis import given, settings
from hypothesis import strategies as st

# (d) Nothing fits


@given(fronts, st.floats(1.5, 30.0), st.integers(6, 60))
def test_the_fastest_serves_when_nothing_fits_and_it_says_so(times: list[float], slowdown: float, before: int) -> None:
    budget = times[0] * 1.01
    controller = Controller(points(*times), Budgets(budget))
    _, at_s = run(controller, [1.0] * before)
    run(controller, [slowdown] * 40, at_s)
    assert (controller.point, controller.decision.kind) == (0, Kind.NOTHING_FITS)
    assert f"of {budget:.2f} ms allowed" in controller.decision.why
    assert Controller(points(*times), Budgets(times[0] * 0.99)).decision.kind is Kind.NOTHING_FITS


# (e) Cold starts


@given(fronts, st.floats(2.0, 50.0), st.lists(st.floats(0.05, 1000.0), min_size=COLD, max_size=COLD))
def test_the_first_inferences_are_not_counted(times: list[float], budget: float, cold: list[float]) -> None:
    """Nor do they make more of a hiccup that comes after them."""
    controller = Controller(points(*times), Budgets(budget))
    first = controller.point
    ran, _ = run(controller, [*cold, 5.0, 1.0, 5.0, *[1.0] * 60])
    assert set(ran) == {first}
    assert controller.slowdown == 1.0


@given(fronts, st.floats(1.6, 30.0), st.floats(1.6, 5.0))
def test_an_extreme_slowdown_is_answered_even_then(times: list[float], step: float, more: float) -> None:
    """At the start, and again just after the switch that it brought."""
    budget = times[-1]
    controller = Controller(points(*times), Budgets(budget))
    _, at_s = run(controller, [step] * WITHIN)
    assert within(controller, step, budget)
    run(controller, [step * more] * WITHIN, at_s)
    assert within(controller, step * more, budget)


def test_other_steps_just_after_a_switch_take_three_inferences_more() -> None:
    controller = Controller(points(5.0, 6.5, 10.0), Budgets(10.0))
    _, at_s = run(controller, [1.0] * 50)
    _, at_s = run(controller, [1.4] * WITHIN, at_s)
    assert controller.point == 1
    run(controller, [1.4 * 1.3] * (WITHIN + COLD), at_s)
    assert controller.point == 0


# While another point is loaded


@pytest.mark.parametrize("loads", [0, 3, 40])
def test_inferences_of_the_point_before_count_while_another_is_loaded(loads: int) -> None:
    """They tell how slow the device is, and are not those that the new point is cold for."""
    controller = Controller(points(5.0, 6.5, 8.0), Budgets(8.1))
    _, at_s = run(controller, [1.0] * 50)
    _, at_s = run(controller, [1.3] * WITHIN, at_s)
    assert controller.point == 0
    for _ in range(loads):
        at_s += 8.0 * 1.3 / 1000
        controller.observe(at_s, 8.0 * 1.3, 2)
    assert controller.slowdown == pytest.approx(1.3)
    _, at_s = run(controller, [4.0] * COLD, at_s)
    assert controller.slowdown == pytest.approx(1.3), "a cold start"
    assert controller.point == 0
    for _ in range(100):
        at_s += 8.0 / 1000
        controller.observe(at_s, 8.0, 2)
    assert (controller.point, controller.slowdown) == (2, 1.0)


# What is no number


@given(fronts, st.lists(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -3.0]), max_size=30))
def test_latencies_that_are_none_are_ignored(times: list[float], wrong: list[float]) -> None:
    one, other = (Controller(points(*times), Budgets(10.0)) for _ in range(2))
    rng = random.Random(5)
    at_s = 0.0
    for number in range(100):
        for ms in wrong[number::20]:
            assert other.observe(math.nan, ms) is None
        ms = one.points[one.point].latency_ms * rng.choice([1.0, 1.0, 1.3])
        at_s += ms / 1000
        assert one.observe(at_s, ms) == other.observe(at_s, ms)


@given(fronts, st.lists(st.floats(1e-300, 1e300), min_size=20, max_size=60))
def test_absurd_latencies_do_no_harm(times: list[float], absurd: list[float]) -> None:
    controller = Controller(points(*times), Budgets(times[-1]))
    for ms in absurd:
        controller.observe(math.nan, ms)
    run(controller, [1.0] * 600, 1e6)
    assert controller.point == len(times) - 1


def test_a_clock_that_goes_back_stands_still() -> None:
    controller = Controller(points(5.0, 8.0), Budgets(8.5))
    _, at_s = run(controller, [1.0] * 20, 100.0)
    run(controller, [2.0] * 5, at_s)
    assert controller.point == 0
    run(controller, [1.0] * 100, 0.0)
    assert controller.point == 0, "no second has passed since the switch"
    run(controller, [1.0] * 2, at_s + 2)
    assert controller.point == 1


# Budgets


def test_other_budgets_are_a_decision_like_others() -> None:
    controller = Controller([Point(5.0, 30, 8), Point(8.0, 50, 12), Point(12.0, None, 20)], Budgets(13.0))
    assert controller.point == 2
    cases: list[tuple[Budgets, int, Kind]] = [
        (Budgets(9.0), 1, Kind.BUDGET),
        (Budgets(4.0), 0, Kind.NOTHING_FITS),
        (Budgets(13.0), 2, Kind.BUDGET),
        (Budgets(13.0, memory_mb=40), 2, Kind.BUDGET),
        (Budgets(10.0, memory_mb=40), 0, Kind.BUDGET),
        (Budgets(13.0, energy_mj=12), 1, Kind.BUDGET),
    ]
    for number, (budgets, point, kind) in enumerate(cases):
        decision = controller.set_budget(number, budgets)
        assert (decision.point, decision.kind) == (point, kind), budgets
        assert ("its memory is not known" in decision.why) == (number == 3)


def test_budgets_that_change_all_the_time_are_bounded_too() -> None:
    controller = Controller(points(5.0, 8.0, 12.0), Budgets(13.0))
    ran = []
    for number in range(100):
        ran.append(controller.set_budget(number / 10, Budgets(13.0 if number % 2 else 9.0)).point)
    assert sum(one != other for one, other in itertools.pairwise(ran)) <= MOST
    assert controller.decision.kind is Kind.BOUNDED


@pytest.mark.parametrize(("noise", "point"), [(0.02, 2), (0.09, 1)])
def test_a_percentile_is_learned(noise: float, point: int) -> None:
    """With a noise of 2% the 95th percentile is 3% above the median, with 9% it is 15%."""
    rng = random.Random(0)
    controller = Controller(points(5.0, 7.0, 9.0), Budgets(9.5, 95))
    _, at_s = run(controller, noisy(rng, 1.0, noise, 3000))
    assert controller.point == point
    controller.set_budget(at_s, Budgets(9.5))
    assert controller.point == 2, "the median is within"


# Why


def test_it_says_why() -> None:
    controller = Controller(points(5.33, 6.85, 8.23), Budgets(10.0))
    _, at_s = run(controller, [1.0] * 40)
    run(controller, [1.5] * 4, at_s)
    assert controller.decision.kind is Kind.SLOWER
    assert controller.decision.why == (
        "1.50 times slower than profiled: 8.23 ms would take 12.35 ms of 10.00 ms allowed; 5.33 ms fits"
    )


@given(fronts, seeds, st.floats(1.1, 5.0))
@settings(max_examples=30)
def test_a_decision_tells_the_state(times: list[float], seed: int, height: float) -> None:
    """Whoever follows the decisions knows the point and the slowdown at any time; none repeats the one before."""
    controller = Controller(points(*times), Budgets(times[-1] * 1.1))
    latest = controller.decision
    for step in serve(controller, lambda at_s: height if at_s % 2 < 1 else 1.0, 5, 0.05, random.Random(seed)):
        if step.decision is not None:
            assert step.decision != latest
            latest = step.decision
        assert (controller.point, controller.slowdown) == (latest.point, latest.slowdown)


# The same everywhere


VECTORS = json.loads(FILE.read_text())


def test_the_traces_are_what_writes_them() -> None:
    """Else: `python tests/controller_traces.py`."""
    assert traces() == VECTORS


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_it_decides_as_the_runner_does(case: dict[str, Any]) -> None:
    """The runner's own tests read the same traces."""
    controller = Controller([Point(**point) for point in case["points"]], Budgets(**case["budgets"]))
    told = [(0, controller.decision)]
    for after, each in enumerate(case["records"], 1):
        if isinstance(each, list):
            decision = controller.observe(*each)
        else:
            (decision,) = (step.decision for step in replay(controller, [Record.from_json(each)]))
        if decision is not None:
            told.append((after, decision))
    found = [[after, each.point, each.slowdown, each.kind.value, each.why] for after, each in told]
    assert found == case["decisions"]


def test_the_traces_show_every_kind() -> None:
    assert {decision[3] for case in VECTORS["cases"] for decision in case["decisions"]} == {kind.value for kind in Kind}
