"""Subnets like those that a search will choose: cheap for what they lose, from the fastest to the slowest."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.graph.best_paths import best_paths
from adaptivenet.toolkit.graph.graph import Block, Subnet
from adaptivenet.toolkit.graph.latency import Latency
from adaptivenet.toolkit.profiling.block_timing import BlockTiming, slower_by, time_blocks
from adaptivenet.toolkit.profiling.likely import likely_subnets
from adaptivenet.toolkit.profiling.measuring import Precision
from graphs import block_graphs, chain, real_costs
from hypothesis import given, settings
from hypothesis import strategies as st


@given(st.data())
@settings(deadline=None)
def test_each_is_a_subnet_of_blocks_that_is_not_slower_than_the_oracle_or_is_the_fastest(data: st.DataObject) -> None:
    graph = data.draw(block_graphs())
    cost = data.draw(real_costs(graph))
    number, seed = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 9))
    found = likely_subnets(graph, cost, number, seed)
    assert found == likely_subnets(graph, cost, number, seed)
    assert len(found) == len(set(found)) <= number
    assert graph.oracle not in found
    taken = {subnet: sum(cost[name] for name in subnet) for subnet in found}
    for subnet, ms in taken.items():
        assert not any(graph[name].is_network for name in subnet)
        assert ms <= sum(cost[name] for name in graph.oracle) * (1 + 1e-9) or ms == min(taken.values())


LENGTH = 12
NAMES = [(f"{kind[0]}{at}", at, kind) for kind in ("original", "pruned") for at in range(LENGTH)]
GRAPH = chain(
    LENGTH,
    tuple(Block(name, at, at + 1, kind) for name, at, kind in NAMES if kind == "pruned")
    + tuple(Block(f"{name}-int8", at, at + 1, kind, precision="int8", twin_of=name) for name, at, kind in NAMES),
)
WORK = {
    block.name: (1.0 if block.kind == "original" else 0.6) * (0.4 if block.precision == "int8" else 1.0)
    for block in GRAPH.blocks
}


def test_they_reach_from_nearly_all_int8_to_nearly_all_original() -> None:
    counts = [sum(GRAPH[name].precision == "int8" for name in subnet) for subnet in likely_subnets(GRAPH, WORK, 8)]
    assert max(counts) >= LENGTH - 1
    assert min(counts) <= LENGTH // 3


class SmallCache:
    """A device that joins blocks to one program. Its last blocks have most of the weights.

    These fit its cache, in int8, unless nearly all of them run: then a subnet takes a tenth more. No block or pair
    shows that, and few random subnets do.
    """

    stamps_cuts, conditions = False, None

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.pack = SimpleNamespace(graph=GRAPH)
        self.ms = {name: ms * self.rng.uniform(0.5, 1.5) for name, ms in WORK.items()}

    def true_ms(self, names: Sequence[str]) -> float:
        """What a chain takes."""
        last = {f"o{at}-int8" for at in range(LENGTH // 2, LENGTH)}
        return sum(self.ms[name] for name in names) * (1.1 if len(last - set(names)) <= 1 else 1.0)

    def samples_in_situ(
        self, chains: Sequence[Sequence[str]], rounds: int, warmup: int, progress: Any = None
    ) -> list[list[list[float]]]:
        return [[[self.true_ms(names) * (1 + self.rng.gauss(0, 0.01)) for _ in range(rounds)]] for names in chains]

    def holding(self) -> AbstractContextManager[None]:
        return nullcontext()

    def samples(self, chains: Sequence[Sequence[str]], rounds: int, warmup: int) -> list[list[float]]:
        return [ms for [ms] in self.samples_in_situ(chains, rounds, warmup)]


def front_of(device: SmallCache, seed: int) -> list[Subnet]:
    """The best subnets for twelve budgets, where int8 loses little, by what blocks take alone."""
    rng = random.Random(1000 + seed)
    lost = {name: 0.0 if GRAPH[name].kind == "original" else rng.uniform(0, 1) for name in WORK}
    lost |= {name: lost[GRAPH[name].twin_of or ""] + rng.uniform(0, 0.05) for name in WORK if name.endswith("-int8")}
    fastest, slowest = min(device.ms.values()) * LENGTH, sum(device.ms[name] for name in GRAPH.oracle)
    budgets = [fastest + (slowest - fastest) * share for share in np.linspace(0.25, 0.6, 12)]
    found = best_paths(GRAPH, device.ms, {name: -each for name, each in lost.items()}, budgets)
    return [subnet for each in found for subnet in each if subnet != GRAPH.oracle]


def test_what_a_front_has_in_common_is_learned() -> None:
    errors, inside = [], []
    for seed in range(6):
        device: Any = SmallCache(seed)
        predictor = time_blocks(device, Precision(0.01, 10, 40), seed).predictor
        for subnet in front_of(device, seed):
            true = device.true_ms(subnet)
            predicted, stated = predictor.predict(subnet)
            errors.append((predicted - true) / true)
            inside.append(abs(predicted - true) <= stated)
    assert np.median(np.abs(errors)) <= 0.04
    assert np.mean(inside) >= 0.8, "from blocks, pairs and random subnets alone it is 0.72"


class Unsteady(SmallCache):
    """A device on which each subnet has another latency every time it is loaded, by 6%, but for the oracle."""

    def samples_in_situ(
        self, chains: Sequence[Sequence[str]], rounds: int, warmup: int, progress: Any = None
    ) -> list[list[list[float]]]:
        found = super().samples_in_situ(chains, rounds, warmup)
        factors = [1.0 if tuple(names) == GRAPH.oracle else self.rng.choice([0.94, 1.06]) for names in chains]
        return [[[ms * factor for ms in blocks] for blocks in of] for of, factor in zip(found, factors, strict=True)]


def test_a_device_that_takes_another_time_later_has_larger_stated_errors() -> None:
    stated = []
    for kind in (SmallCache, Unsteady):
        device: Any = kind(0)
        predictor = time_blocks(device, Precision(0.01, 10, 10), 0).predictor
        subnet = GRAPH.subnet(f"o{at}-int8" for at in range(LENGTH))
        predicted, error = predictor.predict(subnet)
        stated.append(error / predicted)
    assert stated[0] < 0.1 < stated[1]


def controls_of(timing: BlockTiming, device: SmallCache, factor: float, constant: float) -> dict[Subnet, Latency]:
    """What the controls take later, every second of them by `factor` more and the others by as much less, and all by a
    constant that the oracle does not take."""
    found = {}
    for number, subnet in enumerate(timing.controls):
        ms = device.true_ms(subnet) * (1 + (factor if number % 2 else -factor))
        ms += constant * (1 - ms / timing.oracle.median_ms)
        found[subnet] = Latency.from_samples([ms] * 10)
    return {GRAPH.oracle: timing.oracle, **found}


@pytest.mark.parametrize("constant", [-0.3, 0.0, 0.3])
def test_what_controls_take_longer_than_the_oracle_tells_is_predicted_of_others(constant: float) -> None:
    device: Any = SmallCache(0)
    timing = time_blocks(device, Precision(0.01, 10, 10), 0)
    assert 2 <= len(timing.controls) <= 4
    assert any(GRAPH[name].precision == "int8" for subnet in timing.controls for name in subnet)
    later = controls_of(timing, device, 0.0, constant)
    for precision in ("", "-int8"):
        subnet = GRAPH.subnet(f"o{at}{precision}" for at in range(LENGTH))
        predicted, error = timing.predictor.predict(subnet)
        again, wider = timing.learn(later).predict(subnet)
        expected = constant * (1 - predicted / timing.oracle.median_ms)
        assert again - predicted == pytest.approx(expected, abs=0.4 * abs(expected) + 0.02)
        assert wider < 1.3 * error


def test_what_was_timed_before_and_takes_now_more_and_now_less_widens_the_stated_errors() -> None:
    device: Any = SmallCache(0)
    timing = time_blocks(device, Precision(0.01, 10, 10), 0)
    subnet = GRAPH.subnet(f"o{at}-int8" for at in range(LENGTH))
    predicted, error = timing.predictor.predict(subnet)
    stated = []
    for factor in (0.0, 0.07):
        again, wider = timing.learn(controls_of(timing, device, factor, 0.0)).predict(subnet)
        assert again == pytest.approx(predicted, rel=0.04)
        stated.append(wider / predicted)
    assert stated[0] < 1.1 * error / predicted
    assert stated[1] > 0.07


@given(st.floats(-0.3, 0.3), st.lists(st.floats(0.1, 9.0), min_size=6, max_size=12))
def test_a_constant_is_found_again_and_never_exaggerated(constant: float, before: list[float]) -> None:
    pairs = [(ms, ms + constant * (1 - ms / 10)) for ms in before]
    found = slower_by(pairs, 10.0)
    assert 0 <= found * math.copysign(1, constant) <= abs(constant) + 1e-12
    if sum((1 - ms / 10) ** 2 for ms in before) > 3:
        assert found == pytest.approx(constant, rel=0.1)
    assert slower_by([], 10.0) == slower_by([(10.0, 11.0)], 10.0) == 0.0
