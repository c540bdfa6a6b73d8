"""Whether more steps would help: curves that fall, that do not, and that are too short or too noisy to tell."""

from __future__ import annotations

import random

import pytest
from adaptivenet.toolkit.training.slope import fall_at_the_end, largest_fall


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize(("power", "falls"), [(0.5, True), (1.0, True), (0.0, False)])
def test_a_power_law_still_falls_and_a_constant_does_not(power: float, falls: bool, noise: float) -> None:
    rng = random.Random(0)
    losses = [(step + 1) ** -power * (1 + rng.uniform(-noise, noise)) for step in range(200)]
    fall = fall_at_the_end(losses)
    assert fall is not None
    assert (fall > 0) == falls
    if falls and not noise:
        assert fall == pytest.approx(1 - _mean(losses[150:]) / _mean(losses[100:150]))


def test_noise_and_rising_losses_are_no_fall() -> None:
    rng = random.Random(0)
    assert fall_at_the_end([rng.uniform(0, 1) for _ in range(100)]) == 0
    assert fall_at_the_end([float(step) for step in range(100)]) == 0
    assert fall_at_the_end([1.0] * 15) is None


def test_each_phase_is_judged_by_itself() -> None:
    """A phase begins at another loss than the one before ends at: that is no slope."""
    falling = [("local", 1 / (step + 1)) for step in range(40)]
    assert largest_fall([("local", 9.0)] * 20 + [("subnets", 1.0)] * 20) == 0
    assert largest_fall([*falling, *[("subnets", 1.0)] * 20]) == fall_at_the_end([loss for _, loss in falling])
    assert largest_fall([("local", 1.0)] * 10 + [("subnets", 1.0)] * 10) is None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
