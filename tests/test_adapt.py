"""The controller: steps down at once, steps up with patience, and does not swap back and forth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.adapt import Controller
from adaptivenet.toolkit.errors import BudgetError
from adaptivenet.toolkit.front import Front, FrontPoint
from adaptivenet.toolkit.graph import Block
from graphs import chain
from hypothesis import given
from hypothesis import strategies as st

GRAPH = chain(1, tuple(Block(f"p{number}", 0, 1, "pruned") for number in range(8)))
PATHS = list(GRAPH.paths())


def front_of(*milliseconds: float) -> Front:
    return Front(FrontPoint(PATHS[at], ms, ms, 0.1, 30) for at, ms in enumerate(milliseconds))


FRONT = front_of(5.0, 8.0, 10.0, 14.0, 20.0)
fronts = st.lists(st.floats(0.5, 50.0), min_size=1, max_size=6, unique=True).map(lambda found: front_of(*found))


def latencies(front: Front) -> list[float]:
    return [point.latency_ms for point in front.points]


def drive(state: Controller, front: Front, budget: float, ratios: Iterable[float]) -> list[Controller]:
    """The states after inferences on a device that is so many times slower than when it was profiled."""
    states = []
    for ratio in ratios:
        state = state.observe(front, budget, ratio * latencies(front)[state.point])
        states.append(state)
    return states


@st.composite
def served(draw: st.DrawFn) -> tuple[Front, float, Controller]:
    """A front, a budget that it meets, and the controller at its start."""
    front = draw(fronts)
    budget = draw(st.floats(latencies(front)[0], 60.0))
    return front, budget, Controller.start(front, budget)


def test_it_starts_at_the_best_point_for_the_budget() -> None:
    assert Controller.start(FRONT, 12.0) == Controller(2)
    assert Controller.start(FRONT, 14.0) == Controller(3)
    with pytest.raises(BudgetError, match="the fastest takes 5 ms"):
        Controller.start(FRONT, 4.9)


@given(served(), st.lists(st.floats(0.05, 40.0), max_size=60))
def test_it_never_expects_to_be_over_the_budget_when_it_need_not(
    case: tuple[Front, float, Controller], ratios: list[float]
) -> None:
    front, budget, state = case
    for after in drive(state, front, budget, ratios):
        expected = after.slowdown * latencies(front)[after.point]
        assert after.point == 0 or expected <= budget * (1 + 1e-9)


@given(served(), st.floats(1.0, 8.0))
def test_a_device_that_slows_down_is_followed_at_once(case: tuple[Front, float, Controller], ratio: float) -> None:
    front, budget, state = case
    states = drive(state, front, budget, [ratio] * 40)
    points = [state.point, *(after.point for after in states)]
    assert points == sorted(points, reverse=True)
    assert states[-1].slowdown == pytest.approx(ratio, rel=1e-2)
    fits = [at for at, ms in enumerate(latencies(front)) if ms * ratio <= budget * 0.99]
    assert states[-1].point >= max(fits, default=0)
    assert states[-1].point == 0 or latencies(front)[states[-1].point] * ratio <= budget * 1.01
    # Down it goes with the very inference that makes the slowdown known.
    for before, after in zip([state, *states], states):
        slowest = max((at for at, ms in enumerate(latencies(front)) if ms <= budget / after.slowdown), default=0)
        assert after.point == min(before.point, slowest)


def test_twice_as_slow_is_known_within_a_few_inferences() -> None:
    states = drive(Controller.start(FRONT, 20.0), FRONT, 20.0, [2.0] * 20)
    assert states[1].point < 4
    assert states[19].point == 2


@given(served(), st.floats(0.05, 20.0))
def test_a_constant_ratio_never_oscillates(case: tuple[Front, float, Controller], ratio: float) -> None:
    front, budget, state = case
    points = [state.point, *(after.point for after in drive(state, front, budget, [ratio] * 200))]
    assert points in (sorted(points), sorted(points, reverse=True))
    assert len(set(points[100:])) == 1


@given(st.lists(st.floats(0.985, 1.015), min_size=300, max_size=300), st.floats(0.9, 1.1))
def test_noise_at_the_edge_of_a_budget_switches_at_most_once(noise: list[float], share: float) -> None:
    # 1.5% either way is less than the room that stepping up asks for: what was left is not gone back to.
    states = drive(Controller.start(FRONT, 14.0 / share), FRONT, 14.0 / share, noise)
    points = [state.point for state in states]
    assert sum(one != other for one, other in pairwise(points)) <= 1


@given(served(), st.floats(1.0, 1000.0), st.integers(0, 30))
def test_one_hiccup_changes_nothing(case: tuple[Front, float, Controller], hiccup: float, at: int) -> None:
    front, budget, state = case
    ratios = [1.0] * 40
    ratios[at] = hiccup
    assert {after.point for after in drive(state, front, budget, ratios)} == {state.point}


def test_stepping_up_is_patient_and_starts_over_after_a_relapse() -> None:
    slow = drive(Controller.start(FRONT, 20.0), FRONT, 20.0, [2.0] * 40)[-1]
    assert slow.point == 2
    up = drive(slow, FRONT, 20.0, [1.0] * 60)
    points = [state.point for state in up]
    assert points[-1] == 3  # 20 ms would fit, but without any room
    first = next(at for at, state in enumerate(up) if state.fitting)
    assert points[: first + 9] == [2] * (first + 9)
    assert points[first + 9] == 3

    almost = up[first + 8]
    assert almost.fitting == 9
    relapsed = drive(almost, FRONT, 20.0, [2.0] * 6)
    assert relapsed[-1].fitting == 0
    assert {state.point for state in relapsed} <= {2, 3}


def test_the_fastest_serves_when_nothing_fits() -> None:
    states = drive(Controller.start(FRONT, 6.0), FRONT, 6.0, [30.0] * 50)
    assert [state.point for state in states] == [0] * 50
    again = drive(states[-1], FRONT, 20.0, [1.0] * 100)
    assert again[-1].point == 3


@given(served(), st.lists(st.floats(0.05, 40.0), max_size=20))
def test_it_is_a_pure_function(case: tuple[Front, float, Controller], ratios: list[float]) -> None:
    front, budget, state = case
    assert drive(state, front, budget, ratios) == drive(state, front, budget, ratios)
    assert state == Controller.start(front, budget)


VECTORS = json.loads((Path(__file__).parent / "vectors" / "controller.json").read_text())


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_it_decides_as_the_runner_does(case: dict[str, Any]) -> None:
    """The runner's own tests read the same traces."""
    front, budget = front_of(*case["latencies_ms"]), case["budget_ms"]
    state = Controller.start(front, budget)
    points, slowdowns = [state.point], []
    for observed_ms in case["observed_ms"]:
        state = state.observe(front, budget, observed_ms)
        points.append(state.point)
        slowdowns.append(state.slowdown)
    assert points == case["points"]
    assert slowdowns == pytest.approx(case["slowdowns"], rel=1e-12)
