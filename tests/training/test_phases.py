"""The settings of a run and what follows from them: steps, learning rates, and what is drawn of subnets and shifts."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.errors import TrainingError
from adaptivenet.toolkit.training.batches import shifted
from adaptivenet.toolkit.training.phases import Phase, Training
from adaptivenet.toolkit.training.subnet_draws import SubnetDraws, doubted
from hypothesis import given
from hypothesis import strategies as st
from small_training import LOCAL, SETTINGS, supernet

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("checkpoint_every", 0), ("loaders", 0), ("cheapest", -0.1), ("shift", -1)]
)
def test_settings_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(TrainingError, match=f"{name} is {value}; it must be at least"):
        replace(SETTINGS, **{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "locl"}, "the kind of a phase is 'locl'; known are local, branch, subnets, tune"),
        ({"steps": -1}, "steps is -1; it must be at least 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan; it must be at least 0"),
        ({"subnets": 0}, "subnets is 0; it must be at least 1"),
    ],
)
def test_phases_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(LOCAL, **change)


@pytest.mark.parametrize("change", [{"gradient_clip": 0.0}, {"max_minutes": math.nan}, {"max_minutes": -1.0}])
def test_limits_are_above_zero(change: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match=r"is (0.0|nan|-1.0); it must be above 0"):
        replace(SETTINGS, **change)


def test_threads_beyond_counting_are_refused() -> None:
    with pytest.raises(TrainingError, match="loaders is 100000; more than 256 threads only wait"):
        replace(SETTINGS, loaders=100_000)


@given(steps=st.integers(0, 5000), parts=st.lists(st.integers(0, 300), min_size=1, max_size=4).filter(any))
def test_steps_are_divided_in_the_recipes_proportions(steps: int, parts: list[int]) -> None:
    training = Training(tuple(Phase("local", part, 1e-3) for part in parts))
    found = training.lasting(steps)
    assert found.steps == steps
    for phase, part in zip(found.phases, parts):
        assert abs(phase.steps - steps * part / sum(parts)) < 1


@given(parts=st.lists(st.integers(0, 9) | st.integers(10, 200), min_size=1, max_size=4).filter(any))
def test_in_every_phase_the_rate_rises_for_a_while_and_falls_towards_nothing(parts: list[int]) -> None:
    training = Training(tuple(Phase("local", part, number + 1.0) for number, part in enumerate(parts)))
    rates = [training.at(step) for step in range(training.steps)]
    for phase in training.phases:
        own = [rate for at, rate in rates if at is phase]
        assert len(own) == phase.steps
        rising = max(1, min(20, phase.steps // 5))
        assert own[: rising - 1] == sorted(own[: rising - 1])
        assert own[rising:] == sorted(own[rising:], reverse=True)
        assert all(0.9 * phase.learning_rate < rate <= phase.learning_rate for rate in own[rising - 1 : rising])
        assert own[:1] <= [1.01 * phase.learning_rate / rising]
    with pytest.raises(IndexError):
        training.at(training.steps)


@given(down=st.integers(-5, 5), right=st.integers(-6, 6))
def test_a_shift_moves_pixels_and_fills_with_zeros(down: int, right: int) -> None:
    image = np.arange(1, 1 + 2 * 6 * 7, dtype=np.float32).reshape(1, 2, 6, 7)
    moved = shifted(image, down, right)
    for y in range(6):
        for x in range(7):
            inside = 0 <= y - down < 6 and 0 <= x - right < 7
            expected = image[:, :, y - down, x - right] if inside else np.zeros((1, 2))
            assert np.array_equal(moved[:, :, y, x], expected)


def test_costs_of_the_users_own_decide_which_subnets_are_drawn() -> None:
    graph = supernet().graph
    with pytest.raises(TrainingError, match=r"block .* has no cost: give one for each of"):
        SubnetDraws(graph, 0.5, {})
    # By these costs pruned blocks are free and merged ones as dear as what they replace.
    costs = {block.name: 0.0 if block.kind == "pruned" else float(block.end - block.start) for block in graph.blocks}
    draws, rng = SubnetDraws(graph, 0.0, costs), random.Random(0)
    drawn = [draws.by_cost(1, rng)[0] for _ in range(300)]
    shares = Counter(round(sum(costs[name] for name in subnet) / draws.oracle, 3) for subnet in drawn)
    assert shares.keys() == {0.4, 0.6, 0.8, 1.0}  # three, two, one or none of the three blocks for nothing
    assert min(shares[cost] for cost in (0.4, 0.6, 0.8)) > 40
    walked = draws.by_walk(300, rng)
    assert graph.oracle not in walked
    assert set(walked) == {path for path in graph.paths() if path != graph.oracle}


def test_subnets_near_the_front_are_those_that_lose_least_within_a_cost() -> None:
    graph = supernet().graph
    costs = {block.name: 1.0 if block.kind == "pruned" else 2.0 * (block.end - block.start) for block in graph.blocks}
    losses = {block.name: 9.0 if block.kind == "merged" else 0.1 for block in graph.blocks if not block.is_original}
    draws, rng = SubnetDraws(graph, 0.0, costs), random.Random(0)
    drawn = draws.near_front(200, rng, losses)
    assert graph.oracle not in drawn
    assert {graph[name].kind for subnet in drawn for name in subnet} == {"original", "pruned"}
    assert {round(sum(costs[name] for name in subnet)) for subnet in drawn} == {7, 8, 9}
    assert {name for subnet in drawn for name in subnet if graph[name].kind == "pruned"} == {
        block.name for block in graph.blocks if block.kind == "pruned"
    }, "equally good ones are all drawn"
    worse = draws.near_front(200, rng, losses | {"b01-p50": 9.0})
    assert sum("b01-p50" in subnet for subnet in worse) < sum("b01-p50" in subnet for subnet in drawn) / 1.5


def test_the_front_itself_is_one_subnet_for_each_of_its_costs() -> None:
    graph = supernet().graph
    costs = {block.name: 1.0 if block.kind == "pruned" else 2.0 * (block.end - block.start) for block in graph.blocks}
    losses = {block.name: 9.0 if block.kind == "merged" else 0.1 for block in graph.blocks if not block.is_original}
    draws = SubnetDraws(graph, 0.0, costs)
    found = draws.front(12, losses)
    assert sorted(sum(costs[name] for name in subnet) for subnet in found) == [7.0, 8.0, 9.0], "the same one only once"
    assert found == draws.front(12, losses)
    assert draws.front(1, losses | {"b01-p50": 0.01})[0][1] == "b01-p50"


def test_what_is_expected_of_losses_is_another_guess_each_time() -> None:
    graph = supernet().graph
    name = graph.blocks[1].name
    rng = random.Random(0)
    guesses = [doubted(graph, {name: 0.2}, rng)[name] for _ in range(400)]
    assert len(set(guesses)) == 400
    assert np.median(guesses) == pytest.approx(0.2, rel=0.2)
    assert all(doubted(graph, {}, rng)[block.name] == 0.0 for block in graph.blocks)
