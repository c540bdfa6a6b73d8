"""Sensors: what they say takes points away and gives them back; one that is dead or lies is as none."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from adaptivenet.toolkit.errors import DataError
from adaptivenet.toolkit.serving.controller import Controller
from adaptivenet.toolkit.serving.decision import Budgets, Decision, Kind, Point, Signals
from adaptivenet.toolkit.serving.simulator import Record, Step, serve
from hypothesis import given, settings
from hypothesis import strategies as st

POINTS = [Point(5.0, 40, 6), Point(8.0, 60, 8), Point(10.0, 90, 10), Point(14.0, 140, 15), Point(20.0, 200, 24)]
Says = Callable[[float], Signals]


def said(seconds: float, says: Says, every_s: float = 1.0) -> Iterator[Record]:
    """Records of what sensors say at a time."""
    for number in range(int(seconds / every_s)):
        yield Record(number * every_s, signals=says(number * every_s))


def served(
    seconds: float, says: Says, budgets: Budgets | None = None, points: list[Point] = POINTS, every_s: float = 1.0
) -> list[Step]:
    controller = Controller(points, budgets or Budgets(25.0))
    signals = said(seconds, says, every_s)
    return list(serve(controller, lambda at_s: 1.0, seconds, 0.03, random.Random(0), signals))


def at(steps: list[Step], at_s: float) -> int:
    """The point that ran at a time."""
    return next(step.ran for step in steps if step.at_s > at_s and step.ms is not None)


def kinds(steps: list[Step]) -> set[Kind]:
    return {step.decision.kind for step in steps if step.decision}


# What honest sensors do


def test_heat_takes_a_point_at_a_time_and_gives_it_back_when_it_is_gone() -> None:
    def heat(at_s: float) -> Signals:
        return Signals(celsius=(60 if at_s < 20 or at_s >= 60 else 84.5) + at_s % 3 / 10, throttles_at=85.0)

    steps = served(160, heat)
    assert [at(steps, at_s) for at_s in (19, 22, 33, 44, 55, 79, 100, 120, 140)] == [4, 3, 2, 1, 0, 1, 2, 3, 4]
    assert kinds(steps) == {Kind.HEAT}


def test_a_state_may_stand_still_and_counts_at_once() -> None:
    """Two minutes at the limit, said every second: a sensor would be taken for stuck. Then it is silent."""

    def heat(at_s: float) -> Signals:
        return Signals(headroom=1.0, states=frozenset({"headroom"})) if at_s < 200 else Signals()

    steps = served(260, heat)
    assert [at(steps, at_s) for at_s in (1, 11, 40, 199, 228, 232)] == [3, 2, 0, 0, 0, 4]
    assert at(served(60, lambda at_s: Signals(headroom=1.0)), 50) == 4, "a sensor that has never moved"


def test_states_are_written_and_read_as_names() -> None:
    signals = Signals(headroom=1.0, battery=50.0, states=frozenset({"headroom", "battery"}))
    assert signals.to_json() == {"headroom": 1.0, "battery": 50.0, "states": ["battery", "headroom"]}
    assert Signals.from_json(signals.to_json()) == signals
    for wrong in (["charging"], "headroom", [3]):
        with pytest.raises(DataError, match="states must name sensors"):
            Signals.from_json({"headroom": 1.0, "states": wrong})


def test_headroom_is_heat_too() -> None:
    """In the dead band between 0.85 and 0.95 nothing changes."""
    steps = served(60, lambda at_s: Signals(headroom=(0.97 if at_s < 15 else 0.9) + at_s % 3 / 100))
    assert at(steps, 5) == 3
    assert {at(steps, at_s) for at_s in (20, 40, 58)} == {2}
    same = served(60, lambda at_s: Signals(headroom=0.9 + at_s % 3 / 100, celsius=20 + at_s % 3, throttles_at=90))
    assert kinds(same) == set()


def test_short_memory_takes_what_is_short() -> None:
    """50 MB are short of 128: the point of 140 MB goes, from 200 MB, then again 50 when that did not help."""
    steps = served(60, lambda at_s: Signals(free_mb=(50.0 if 10 <= at_s < 17 else 400.0) + at_s % 2))
    assert [at(steps, at_s) for at_s in (9, 12, 16.5, 26, 30, 40)] == [4, 2, 0, 0, 3, 4]
    assert kinds(steps) == {Kind.MEMORY}


def test_memory_pressure_takes_the_next_smaller_point() -> None:
    steps = served(60, lambda at_s: Signals(pressure=(30.0 if 10 <= at_s < 15 else 0.1) + at_s % 2 / 10))
    assert [at(steps, at_s) for at_s in (9, 12, 20, 24)] == [4, 3, 3, 4]


def test_what_is_not_known_of_a_point_is_said() -> None:
    """Within a budget for memory, it fits; when memory is short, it holds as much as any faster one."""
    unknown = [replace(point, resident_mb=None) for point in POINTS]
    budgets = Budgets(25.0, memory_mb=50)
    assert Controller(unknown, budgets).point == 4
    assert "its memory is not known" in Controller(unknown, budgets).decision.why

    def short(at_s: float) -> Signals:
        return Signals(free_mb=90.0 + at_s % 3)

    assert kinds(served(20, short, points=unknown)) == set(), "no point is known to take less"
    partly = [*POINTS[:3], *unknown[3:]]
    assert at(served(20, short, points=partly), 4) == 0


def test_a_low_battery_is_spared() -> None:
    """With half of the energy, while it is not charged."""
    steps = served(60, lambda at_s: Signals(battery=18.0 - at_s // 5, charging=at_s >= 40))
    assert [at(steps, at_s) for at_s in (14, 25, 39, 44)] == [4, 2, 2, 4]
    assert kinds(steps) == {Kind.ENERGY}
    silent = [replace(point, energy_mj=None) for point in POINTS]
    assert at(served(30, lambda at_s: Signals(battery=18.0 - at_s // 5), points=silent), 25) == 2, "half of the time"


def test_load_leaves_less_of_the_budget() -> None:
    """Waiting for half of the time, an inference of 10 ms takes 20."""
    steps = served(40, lambda at_s: Signals(waited=(0.5 if 10 <= at_s < 20 else 0.03) + at_s % 3 / 100), Budgets(21.5))
    assert [at(steps, at_s) for at_s in (9, 12, 18, 23)] == [4, 2, 2, 4]
    assert kinds(steps) == {Kind.LOAD}
    busy = served(40, lambda at_s: Signals(waited=0.9 + at_s % 3 / 100), Budgets(20.5))
    assert Kind.NOTHING_FITS in kinds(busy)


# Sensors that are dead or lie


def decisions(seconds: float, seed: int, signals: list[Record]) -> list[tuple[float, Decision]]:
    """Of inferences on a device that gets slower for some time."""
    controller = Controller(POINTS, Budgets(21.0))
    steps = serve(controller, lambda at_s: 1.5 if 2 < at_s < 5 else 1.0, seconds, 0.05, random.Random(seed), signals)
    return [(step.at_s, step.decision) for step in steps if step.decision is not None]


wrong = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, -1e9, 1e12])
# Below and above what can be, for each.
lies = st.builds(
    Signals,
    free_mb=wrong | st.just(0.0),
    pressure=wrong | st.floats(100.1, 1e6),
    celsius=wrong.filter(lambda value: value != -1.0) | st.floats(151, 1e4),
    throttles_at=wrong | st.floats(0, 29),
    headroom=wrong | st.floats(3.1, 1e3),
    battery=wrong | st.just(0.0),
    charging=st.booleans(),
    waited=wrong | st.floats(1.01, 50),
)


@given(st.lists(st.tuples(st.floats(0, 8), lies), max_size=30), st.integers(0, 1000))
@settings(max_examples=60)
def test_values_that_cannot_be_are_as_no_sensor(given_lies: list[tuple[float, Signals]], seed: int) -> None:
    signals = [Record(at_s, signals=lie) for at_s, lie in given_lies]
    assert decisions(8, seed, signals) == decisions(8, seed, [])


stuck = st.builds(
    Signals,
    free_mb=st.floats(1, 100),
    pressure=st.floats(10, 100),
    celsius=st.floats(60, 150),
    throttles_at=st.floats(30, 60),
    headroom=st.floats(0.95, 3),
    battery=st.floats(1, 15),
    waited=st.floats(0.2, 1),
)


@given(stuck, st.integers(0, 1000))
@settings(max_examples=40)
def test_a_sensor_that_has_always_been_stuck_is_as_none(says: Signals, seed: int) -> None:
    assert decisions(8, seed, list(said(8, lambda at_s: says, 0.25))) == decisions(8, seed, [])


@pytest.mark.parametrize(
    ("alarm", "moving"),
    [
        (Signals(headroom=1.0), Signals(headroom=0.5)),
        (Signals(celsius=89.0, throttles_at=90.0), Signals(celsius=40.0, throttles_at=90.0)),
        (Signals(free_mb=60.0), Signals(free_mb=900.0)),
        (Signals(pressure=40.0), Signals(pressure=0.2)),
        (Signals(waited=0.5), Signals(waited=0.02)),
    ],
)
def test_a_sensor_that_gets_stuck_or_falls_silent_is_none_after_a_while(alarm: Signals, moving: Signals) -> None:
    stops = served(220, lambda at_s: moving if at_s < 5 else alarm, Budgets(21.0))
    assert at(stops, 20) < 4
    assert at(stops, 134) == 4
    silent = served(80, lambda at_s: moving if at_s < 5 else alarm if at_s < 8 else Signals(), Budgets(21.0))
    assert at(silent, 20) < 4
    assert at(silent, 45) == 4
    once = served(20, lambda at_s: alarm if at_s == 6 else moving, Budgets(21.0))
    assert kinds(once) == set(), "one alarm among others is none"


def test_a_sensor_that_comes_back_is_believed_again() -> None:
    def says(at_s: float) -> Signals:
        return Signals(headroom=0.5 + at_s % 2 / 100) if at_s < 10 else Signals()

    def later(at_s: float) -> Signals:
        return says(at_s) if at_s < 60 else Signals(headroom=0.99 + at_s % 2 / 100)

    steps = served(80, later)
    assert at(steps, 59) == 4
    assert at(steps, 64) < 4


def test_other_signals_are_refused() -> None:
    with pytest.raises(DataError, match="no signal 'humidity'; there are free_mb, pressure"):
        Signals.from_json({"humidity": 3})
