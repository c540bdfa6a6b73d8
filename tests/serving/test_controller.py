"""The controller: a healthy device keeps its first choice, one that is slower is followed at once and never in circles.

Sensors are in test_sensors.py, traces in test_simulator.py.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from adaptivenet.toolkit.errors import BudgetError, ProfileError
from adaptivenet.toolkit.serving.controller import Controller
from adaptivenet.toolkit.serving.decision import Budgets, Kind, Point, Signals
from adaptivenet.toolkit.serving.simulator import serve
from controller_traces import APART, EDGE, points
from controlling import (
    COLD,
    MOST,
    WITHIN,
    fronts,
    most_in_a_minute,
    noisy,
    random_front,
    run,
    seeds,
    switches,
    within,
)
from hypothesis import given, settings
from hypothesis import strategies as st

# The first choice


def test_it_starts_at_the_best_point_of_a_device_as_profiled() -> None:
    for budget, point in ((9.5, 4), (9.4, 3), (8.23, 2), (5.33, 0)):
        decision = Controller(points(*EDGE), Budgets(budget)).decision
        assert (decision.point, decision.slowdown, decision.kind) == (point, 1.0, Kind.START)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_budgets_must_be_some(wrong: float) -> None:
    for budgets in (
        {"latency_ms": wrong},
        {"latency_ms": 1.0, "memory_mb": wrong},
        {"latency_ms": 1, "energy_mj": wrong},
    ):
        with pytest.raises(BudgetError, match="must be a positive number"):
            Budgets(**budgets)
    with pytest.raises(BudgetError, match="percentile from 50 to 99"):
        Budgets(5.0, wrong)


@pytest.mark.parametrize("wrong", [(), (8.0, 5.0), (0.0, 5.0), (-1.0,), (math.nan,), (5.0, math.inf)])
def test_points_must_be_a_front(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ProfileError, match="ascending order"):
        Controller(points(*wrong), Budgets(10))


# (a) A healthy device


@pytest.mark.parametrize(("noise", "off"), [(0.05, 1.0), (0.03, 1.0), (0.05, 0.99), (0.05, 1.01)])
def test_a_healthy_device_keeps_its_first_choice(noise: float, off: float) -> None:
    """Of 10,000 inferences at 98 to 100% of the budget, also where the profile is off by 1%, as medians of ten are."""
    for seed in range(12):
        rng = random.Random(f"{noise} {off} {seed}")
        times = random_front(rng)
        budget = rng.choice(times) / rng.uniform(0.98, 1.0)
        if seed < 2:
            times, budget = [(list(EDGE), 8.24), (list(APART), 8.15)][seed]
        controller = Controller(points(*times), Budgets(budget))
        first = controller.point
        ran, _ = run(controller, noisy(rng, off, noise, 10_000))
        assert ran.count(first) >= 9_950, (seed, times, budget)


@given(fronts, st.floats(1.0, 50.0), st.lists(st.floats(1.0, 1000.0), min_size=3, max_size=3), st.integers(0, 30))
def test_three_hiccups_in_a_row_change_nothing(
    times: list[float], budget: float, hiccups: list[float], at: int
) -> None:
    controller = Controller(points(*times), Budgets(budget))
    first = controller.point
    ran, _ = run(controller, [*[1.0] * (at + COLD + 2), *hiccups, *[1.0] * 50])
    assert set(ran) == {first}


def hiccups(rng: random.Random) -> list[float]:
    return [ratio * (rng.uniform(1.5, 10) if rng.random() < 0.02 else 1) for ratio in noisy(rng, 1.0, 0.05, 10_000)]


def heavy(rng: random.Random) -> list[float]:
    return [max(0.2, 1 + rng.choice([-1, 1]) * rng.expovariate(28)) for _ in range(10_000)]


def waves(rng: random.Random) -> list[float]:
    """Ratios that are alike for some ten inferences: medians of 32 waver much more than those of independent ones."""
    ratios, off = [], 0.0
    for _ in range(10_000):
        off = 0.9 * off + rng.gauss(0, 0.013)
        ratios.append(1 + off)
    return ratios


@pytest.mark.parametrize(("how", "least"), [(hiccups, 0.995), (heavy, 0.995), (waves, 0.92)])
def test_other_noise_is_hardly_worse(how: Callable[[random.Random], list[float]], least: float) -> None:
    for seed in range(8):
        rng = random.Random(f"{how.__name__} {seed}")
        times = random_front(rng)
        controller = Controller(points(*times), Budgets(rng.choice(times) / rng.uniform(0.98, 1.0)))
        first = controller.point
        ran, _ = run(controller, how(rng))
        assert ran.count(first) >= least * len(ran), seed


def test_what_was_estimated_wrong_is_mended() -> None:
    """A slowdown of 4%, believed after hiccups, is gone some groups later, though it is no change that is found."""
    controller = Controller(points(5.0, 8.0), Budgets(8.05))
    _, at_s = run(controller, [1.0] * 40)
    _, at_s = run(controller, [1.3] * 8 + [1.045] * 60, at_s)
    assert (controller.point, controller.slowdown) == (0, pytest.approx(1.045))
    run(controller, [1.01] * 400, at_s)
    assert (controller.point, controller.slowdown) == (1, 1.0)


# (b) Steps


@given(fronts, st.floats(0.3, 1.0), st.floats(1.25, 20.0), st.integers(6, 100))
def test_a_step_is_answered_within_five_inferences_and_the_way_back_within_three_seconds(
    times: list[float], share: float, step: float, before: int
) -> None:
    budget = max(times[0], times[-1] * share)
    controller = Controller(points(*times), Budgets(budget))
    first = controller.point
    _, at_s = run(controller, [1.0] * before)
    _, at_s = run(controller, [step] * WITHIN, at_s)
    assert within(controller, step, budget)
    for _ in range(200):
        _, at_s = run(controller, [step], at_s)
        assert within(controller, step, budget)
    ended_s = at_s
    while controller.point != first and at_s < ended_s + 3:
        _, at_s = run(controller, [1.0], at_s)
    assert controller.point == first


@pytest.mark.parametrize(
    ("step", "noise", "least"), [(1.25, 0.05, 0.985), (1.25, 0.03, 1.0), (1.5, 0.05, 1.0), (4, 0.05, 1)]
)
def test_steps_are_answered_also_in_noise(step: float, noise: float, least: float) -> None:
    """A step of 25% is five sigma of a noise of 5%: in one case of 400 it takes an inference more."""
    answered, runs, back = 0, 200, 0
    for seed in range(runs):
        rng = random.Random(f"{step} {noise} {seed}")
        times = random_front(rng)
        budget = rng.choice(times) / rng.uniform(0.8, 1.0)
        controller = Controller(points(*times), Budgets(budget))
        first = controller.point
        _, at_s = run(controller, noisy(rng, 1.0, noise, rng.randint(10, 200)))
        _, at_s = run(controller, noisy(rng, step, noise, WITHIN), at_s)
        answered += within(controller, step, budget)
        _, at_s = run(controller, noisy(rng, step, noise, 200), at_s)
        ended_s = at_s
        while controller.point != first and at_s < ended_s + 3:
            _, at_s = run(controller, noisy(rng, 1.0, noise, 1), at_s)
        back += controller.point == first
    assert answered >= least * runs
    assert back == runs


@pytest.mark.parametrize(("step", "inferences"), [(1.06, 80), (1.08, 40), (1.1, 20), (1.15, 8)])
def test_smaller_steps_take_longer(step: float, inferences: int) -> None:
    """With a noise of 3%, as docs/adapting.md has it."""
    answered = 0
    for seed in range(50):
        rng = random.Random(f"{step} {seed}")
        controller = Controller(points(5.0, 8.0), Budgets(8.1))
        _, at_s = run(controller, noisy(rng, 1.0, 0.03, 100))
        run(controller, noisy(rng, step, 0.03, inferences), at_s)
        answered += controller.point == 0
    assert answered >= 45


def test_what_is_worked_out_from_few_inferences_is_worked_out_again() -> None:
    """A point that the first estimate was too unsure of is stepped up to when more inferences say that it fits."""
    rng = random.Random(1)
    controller = Controller(points(5.0, 7.2, 10.0), Budgets(10.0))
    _, at_s = run(controller, noisy(rng, 1.0, 0.05, 100))
    ran, _ = run(controller, noisy(rng, 1.3, 0.05, 400), at_s)
    assert 0 in ran
    assert ran[-1] == 1
    assert controller.slowdown == pytest.approx(1.3, rel=0.03)


# (c) In circles


@given(
    fronts, seeds, st.floats(0.5, 1.3), st.floats(-2, 1.7), st.floats(1.02, 8), st.floats(0.1, 0.9), st.floats(0, 0.08)
)
@settings(max_examples=40)
def test_no_wave_brings_more_switches_than_the_bound(
    times: list[float], seed: int, share: float, log_period: float, height: float, duty: float, noise: float
) -> None:
    period = 10**log_period

    def wave(at_s: float) -> float:
        return height if at_s % period < period * duty else 1.0

    controller = Controller(points(*times), Budgets(max(times[0], times[-1] * share)))
    steps = list(serve(controller, wave, 130, noise, random.Random(seed)))
    assert most_in_a_minute(switches(steps)) <= MOST


records = st.one_of(
    st.tuples(st.floats(0, 20), st.floats(0.5, 500)),
    st.tuples(st.floats(0, 20), st.builds(Budgets, st.floats(1, 60), st.sampled_from([50, 75, 95]))),
    st.tuples(
        st.floats(0, 20),
        st.builds(Signals, free_mb=st.floats(1, 500), headroom=st.floats(0, 1.2), waited=st.floats(0, 1)),
    ),
)


@given(fronts, st.lists(records, max_size=120))
def test_nothing_at_all_brings_more_switches_than_the_bound(times: list[float], given_records: list[Any]) -> None:
    controller = Controller([Point(ms, 10 * ms) for ms in times], Budgets(20.0))
    at_s, switched = 0.0, []
    for after_s, what in given_records:
        at_s += after_s / 10
        for _ in range(6):
            before = controller.point
            match what:
                case Budgets():
                    controller.set_budget(at_s, what)
                case Signals():
                    controller.sense(at_s, what)
                case _:
                    controller.observe(at_s, what)
            if controller.point != before:
                switched.append(at_s)
    assert most_in_a_minute(switched) <= MOST


@pytest.mark.parametrize("half_s", [0.5, 2.0, 7.0, 20.0])
def test_a_wave_is_within_the_budget_all_the_same(half_s: float) -> None:
    """The bound is kept by stepping up less often, not by staying on a point that is over the budget."""
    over = slow = 0
    for seed in range(6):
        rng = random.Random(f"{half_s} {seed}")
        times = random_front(rng)
        height = rng.uniform(1.3, 4)
        budget = times[-1] * rng.uniform(0.8, 1.1)
        controller, at_s, of_phase = Controller(points(*times), Budgets(budget)), 0.0, 0
        was = 1.0
        while at_s < 90:
            level = height if int(at_s / half_s) % 2 else 1.0
            of_phase = of_phase + 1 if level == was else 1
            was = level
            if level > 1 and of_phase > WITHIN + COLD:
                slow += 1
                over += not within(controller, height, budget)
            _, at_s = run(controller, noisy(rng, level, 0.03, 1), at_s)
    assert slow > 500
    assert over <= 0.001 * slow


def test_steps_up_that_fail_come_more_and_more_rarely() -> None:
    """The point above takes 20% more than it was profiled with: it is tried again, after longer and longer."""
    rng = random.Random(0)
    controller = Controller(points(60.0, 80.0, 100.0), Budgets(101.0))
    at_s, ups = 0.0, []
    while at_s < 400:
        ran = controller.point
        ms = controller.points[ran].latency_ms * (1.2 if ran == 2 else 1.0) * rng.gauss(1, 0.03)
        at_s += ms / 1000
        controller.observe(at_s, ms)
        if controller.point > ran:
            ups.append(at_s)
    waits = [after - before for before, after in itertools.pairwise(ups)]
    assert len(ups) <= 11
    assert waits[-3] > 30
    assert waits[-2] > 60
    assert waits[-1] > 120


@pytest.mark.parametrize("half_s", [0.25, 0.4, 0.8])
def test_when_a_device_has_ceased_to_alternate_the_better_point_is_back_soon(half_s: float) -> None:
    """As on a core that is shared for half of the time: its faster moments are no reason to use the switches up."""
    for seed in range(6):
        rng = random.Random(seed)
        controller = Controller(points(3.6, 4.4, 7.4, 9.4), Budgets(11.3))
        steps = list(serve(controller, lambda at_s: 2.3 if int(at_s / half_s) % 2 else 1.05, 60, 0.03, rng))
        assert sum(step.ms > 11.3 for step in steps if step.ms) < 0.01 * len(steps)
        ended_s = at_s = steps[-1].at_s
        while controller.point != 3 and at_s < ended_s + 3:
            _, at_s = run(controller, noisy(rng, 1.05, 0.03, 1), at_s)
        assert controller.point == 3


def test_a_device_that_becomes_slow_is_not_the_fault_of_the_point_that_was_tried() -> None:
    """Slow for two seconds every eight: each time it is over, the better point is back as soon as the first time."""
    rng = random.Random(0)
    controller = Controller(points(8.0, 12.0, 20.0), Budgets(21.0))
    at_s, back = 0.0, []
    for _ in range(4):
        for level, seconds in ((1.0, 6.0), (1.6, 2.0)):
            began_s, until_s, was = at_s, at_s + seconds, controller.point
            while at_s < until_s:
                ran, at_s = run(controller, noisy(rng, level, 0.03, 1), at_s)
                if level == 1.0 and was < ran[-1] == 2:
                    back.append(at_s - began_s)
                    was = 2
    assert len(back) == 3
    assert max(back) < 1.5


def test_what_was_stepped_up_to_is_suspected() -> None:
    """3.4% over the profile is within the dead band of the first choice, but not of a point that is tried."""
    controller = Controller(points(5.0, 8.0), Budgets(8.05))
    at_s, ran = 0.0, []
    for number in range(1200):
        at = controller.point
        ms = controller.points[at].latency_ms * (1.5 if 500 <= number < 600 else 1.034 if at == 1 else 1.0)
        at_s += ms / 1000
        controller.observe(at_s, ms)
        ran.append(at)
    assert set(ran[:500]) == {1}
    assert set(ran[620:]) == {0, 1}
    assert ran[-1] == 0


def test_a_step_up_that_was_right_ends_the_waiting() -> None:
    rng = random.Random(3)
    controller = Controller(points(5.0, 8.0), Budgets(8.5))
    at_s = 0.0
    for slow_s, fast_s in ((1, 3), (1, 3), (1, 5), (1, 70), (1, 3)):
        for level, seconds in ((1.5, slow_s), (1.0, fast_s)):
            until_s = at_s + seconds
            while at_s < until_s:
                ran, at_s = run(controller, noisy(rng, level, 0.03, 1), at_s)
    assert ran == [1]


def test_the_last_switch_of_a_minute_goes_to_the_fastest() -> None:
    """A device that gets slower and slower: no switch is left then, and none is needed."""
    controller = Controller(points(*(30 * 1.06**at for at in range(30))), Budgets(170))
    at_s, said = 0.0, []
    while at_s < 50:
        ms = controller.points[controller.point].latency_ms * (1 + at_s / 11)
        at_s += ms / 1000
        if decision := controller.observe(at_s, ms):
            said.append((decision.kind, decision.point))
    (last,) = (number for number, each in enumerate(said) if each == (Kind.BOUNDED, 0))
    assert len({point for _, point in said[: last + 1]}) == MOST
    assert {point for _, point in said[last:]} == {0}
