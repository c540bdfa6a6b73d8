"""A controller driven by latencies, and fronts to drive it on: what its tests share."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from adaptivenet.toolkit.serving.controller import Controller
from adaptivenet.toolkit.serving.simulator import Step
from hypothesis import strategies as st

WITHIN = 5  # inferences until a step is answered,
COLD = 3  # and as many more just after a switch
MINUTE_S, MOST = 60.0, 12

fronts = st.lists(st.floats(2.0, 40.0), min_size=1, max_size=7, unique=True).map(sorted)
seeds = st.integers(0, 2**32)


def random_front(rng: random.Random) -> list[float]:
    """Points that are 0.1 to 50% apart."""
    times = [rng.uniform(2, 12)]
    for _ in range(rng.randint(1, 6)):
        times.append(times[-1] * rng.choice([1.001, 1.01, 1.03, 1.05, 1.1, 1.2, 1.3, 1.5]))
    return times


def run(controller: Controller, ratios: Iterable[float], at_s: float = 0.0) -> tuple[list[int], float]:
    """The points after inferences on a device that is so many times slower than profiled, and when they ended."""
    ran = []
    for ratio in ratios:
        ms = ratio * controller.points[controller.point].latency_ms
        at_s += ms / 1000
        controller.observe(at_s, ms)
        ran.append(controller.point)
    return ran, at_s


def noisy(rng: random.Random, level: float, noise: float, count: int) -> list[float]:
    return [level * max(0.1, rng.gauss(1, noise)) for _ in range(count)]


def within(controller: Controller, slowdown: float, budget: float) -> bool:
    """Whether the point that runs is within the budget by the device's true median, or the fastest."""
    return controller.point == 0 or controller.points[controller.point].latency_ms * slowdown <= budget


def switches(steps: Sequence[Step]) -> list[float]:
    return [step.at_s for step in steps if step.switched]


def most_in_a_minute(times: Sequence[float]) -> int:
    return max((sum(start <= at_s < start + MINUTE_S for at_s in times) for start in times), default=0)
