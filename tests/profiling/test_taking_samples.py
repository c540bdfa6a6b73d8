"""Measuring until it is good enough: when to stop, slow moments found and corrected, raw timings kept."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import pytest
from adaptivenet.toolkit.devices.conditions import Conditions
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.measuring import Precision, Samples, Timed, half_width, slowness, take_samples
from engines import ENGINES
from hypothesis import given
from hypothesis import strategies as st

TIMES = st.floats(0.1, 100)


class Played:
    """A session whose timings a test makes up: `speed(round)` times what a chain takes, with some noise."""

    def __init__(self, speed: Callable[[int], float] = lambda at: 1.0, noise: float = 0.0) -> None:
        self.speed, self.noise = speed, noise
        self.conditions: Conditions | None = None
        self.rounds = 0
        self.calls: list[int] = []
        self.rng = random.Random(0)

    def samples_in_situ(
        self, chains: Sequence[Sequence[str]], rounds: int, warmup: int, progress: Any = None
    ) -> list[list[list[float]]]:
        assert warmup == 0
        self.calls.append(rounds)
        times: list[list[list[float]]] = [[[] for _ in chain] for chain in chains]
        for _ in range(rounds):
            speed = self.speed(self.rounds)
            for blocks in times:
                for block in blocks:
                    block.append(speed * math.exp(self.rng.gauss(0, self.noise)))
            self.rounds += 1
        return times

    def holding(self) -> AbstractContextManager[None]:
        return nullcontext()

    def samples(self, chains: Sequence[Sequence[str]], rounds: int, warmup: int) -> list[list[float]]:
        return [[sum(each) for each in zip(*blocks)] for blocks in self.samples_in_situ(chains, rounds, warmup)]


def play(session: Played, precision: Precision, **options: Any) -> Samples:
    return take_samples(session, [("a",), ("a", "b")], ("a", "b", "c"), precision, **options)  # type: ignore[arg-type]


def test_what_does_not_waver_is_timed_no_longer_than_it_must() -> None:
    session = Played()
    samples = play(session, Precision(0.01, 10, 100))
    assert session.calls == [5, 5, 10], "two batches of warm-up, and the least"
    assert samples.warmup == 10
    assert [each.ms for each in samples.timed] == [(1.0,) * 10, (2.0,) * 10]
    assert samples.anchor == Timed(("a", "b", "c"), ((1.0,) * 10,) * 3)
    assert [each.latency().median_ms for each in samples.timed] == [1.0, 2.0]


def test_warm_up_goes_on_until_the_anchor_is_steady() -> None:
    session = Played(lambda at: 1 + max(0.0, 15 - at) / 10)
    assert play(session, Precision(0.5, 10, 100)).warmup == 20
    hopeless = Played(lambda at: 1.0 + at)
    assert play(hopeless, Precision(1.0, 10, 10)).warmup == 20, "and not without end"


@given(st.floats(0.01, 0.3), st.sampled_from([0.01, 0.05, 0.2]), st.integers(1, 20), st.integers(20, 120))
def test_it_ends_when_it_is_precise_or_at_the_cap(noise: float, within: float, least: int, most: int) -> None:
    told: list[tuple[int, int]] = []
    samples = play(
        Played(noise=noise), Precision(within, least, most), progress=lambda done, total: told.append((done, total))
    )
    assert least <= samples.rounds <= most
    assert samples.corrected().uncertainty() <= within or samples.rounds == most
    assert told[-1] == (most, most)


def test_a_slow_phase_is_corrected_and_a_slow_run_is_not() -> None:
    phase = Played(lambda at: 1.4 if 20 <= at < 45 else 1.0, noise=1e-4)
    samples = play(phase, Precision(0.0, 10, 60))
    assert 20 <= samples.slow_rounds() <= 30
    corrected = samples.corrected()
    for each in (*corrected.timed, corrected.anchor):
        for times in (each.ms, *each.in_situ_ms):
            assert max(times) == pytest.approx(median(times), rel=0.01)
    assert corrected.slow_rounds() == 0
    blip = Played(lambda at: 5.0 if at == 30 else 1.0, noise=1e-4)
    assert play(blip, Precision(0.0, 10, 60)).slow_rounds() == 0


def test_timings_are_corrected_to_the_speed_of_others() -> None:
    now = Samples((Timed(("a",), ((3.0,) * 9,)),), Timed(("o", "p"), ((1.0,) * 9, (2.0,) * 9)), 0)
    assert now.usual_ms() == 3.0
    then = now.corrected(usual_ms=2.0)
    assert then.timed[0].ms == pytest.approx([2.0] * 9)
    assert then.anchor.in_situ() == pytest.approx([2 / 3, 4 / 3])
    assert now.corrected(usual_ms=2.99) == now, "the same, but for noise"


@given(st.lists(TIMES, max_size=40))
def test_slowness_is_one_where_the_device_is_as_usual(anchor: list[float]) -> None:
    factors = slowness(anchor)
    assert len(factors) == len(anchor)
    assert all(factor == 1.0 or abs(factor - 1) > 0.019 for factor in factors)
    assert slowness([2 * time for time in anchor]) == pytest.approx(factors)


@given(st.lists(TIMES, min_size=1, max_size=60), st.floats(0.1, 10))
def test_the_interval_is_of_samples_and_scales_with_nothing(samples: list[float], scale: float) -> None:
    width = half_width(samples)
    assert (width == math.inf) == (len(samples) < 6)
    assert half_width([scale * each for each in samples]) == pytest.approx(width)
    assert half_width([samples[0]] * max(6, len(samples))) == 0


def test_the_interval_holds_the_true_median_in_95_of_100_cases() -> None:
    rng = random.Random(0)
    for count in (6, 15, 40, 100):
        hits = 0
        for _ in range(2000):
            ranked = sorted(rng.lognormvariate(0, 1) for _ in range(count))  # its median is 1
            low, high = interval_of(ranked)
            hits += low <= 1.0 <= high
        assert hits >= 0.94 * 2000, count


def interval_of(ranked: list[float]) -> tuple[float, float]:
    """The pair of samples, as far in as each other, that `half_width` measures between."""
    width = half_width(ranked) * 2 * median(ranked)
    pairs = ((low, high) for low, high in zip(ranked, reversed(ranked)) if low <= high)
    return next(pair for pair in pairs if pair[1] - pair[0] == pytest.approx(width))


@pytest.mark.parametrize("wrong", [(-0.1, 1, 2), (0.1, 0, 2), (0.1, 3, 2), (math.nan, 1, 2)])
def test_a_precision_that_makes_no_sense_is_refused(wrong: tuple[float, int, int]) -> None:
    with pytest.raises(ValueError, match="no precision"):
        Precision(*wrong)


@pytest.mark.parametrize("address", ENGINES)
def test_a_device_is_sampled_and_every_timing_is_kept(address: str, tiny_pack: BlockPack) -> None:
    graph = tiny_pack.graph
    chains = [(block.name,) for block in graph.blocks]
    with connect(address).open(tiny_pack) as session:
        samples = take_samples(session, chains, graph.oracle, Precision(0.0, 5, 12))
    assert samples.rounds == 12
    assert [len(each.ms) for each in samples.timed] == [12] * len(chains)
    assert all(time > 0 for each in (*samples.timed, samples.anchor) for time in each.ms)
    document = samples.to_json()
    assert document["chains"] == [list(chain) for chain in chains]
    assert document["anchor_ms"] == pytest.approx(samples.anchor.ms, abs=1e-6)
    assert "in_situ" not in document
    if not session.stamps_cuts:
        assert "in_situ" not in samples.to_json(in_situ=True)
        return
    (oracle,) = samples.to_json(in_situ=True)["in_situ"]
    assert oracle["chain"] == list(graph.oracle)
    assert [sum(each) for each in zip(*oracle["ms"])] == pytest.approx(document["anchor_ms"], abs=1e-5)


TIMED = st.integers(1, 4).flatmap(
    lambda rounds: st.lists(st.lists(TIMES, min_size=rounds, max_size=rounds), min_size=1, max_size=5)
)


@given(TIMED, st.floats(0.5, 2))
def test_the_blocks_of_a_chain_add_up_to_it(in_situ: list[list[float]], factor: float) -> None:
    chain = tuple(f"b{at}" for at in range(len(in_situ)))
    timed = Timed(chain, tuple(map(tuple, in_situ)))
    assert len(timed.in_situ()) == len(chain)
    assert all(median in times for median, times in zip(timed.in_situ(), in_situ))
    assert sum(timed.ms) == pytest.approx(sum(map(sum, in_situ)))
    slower = timed.divided_by([1 / factor] * len(timed.ms))
    assert slower.ms == pytest.approx([factor * ms for ms in timed.ms])
    assert slower.in_situ() == pytest.approx([factor * ms for ms in timed.in_situ()])
