"""Measuring until the numbers are good enough: timings from a device, taken in rounds, watched and corrected.

Every round times every chain once, so that a slow moment falls on all of them alike, and the *anchor* beside them: one
long chain, whose time tells how fast the device was in that round. Where it was slower or faster for several rounds on
end (another program, a lower clock), the times of these rounds are divided by how much. Rounds go on until the median
of every chain is known well enough, or a cap is reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from statistics import median
from typing import Any

from ..devices.base import Session
from ..devices.conditions import Conditions
from ..graph.latency import Latency

_WINDOW = 5  # rounds in which a slow moment is told from a single slow run
_STEADY = 0.02  # a device this close to its usual speed has it
_WARM = 0.03  # the anchor's medians in two batches of warm-up may differ by so much
_WARMUP_BATCHES = 4
_BATCH = 5  # rounds of warm-up, and by which the rounds grow


@dataclass(frozen=True)
class Precision:
    """When to stop: the 95% interval of every median lies `within` this share of it, or `most` rounds were taken.

    At least `least` rounds are. Raises ValueError for numbers that make no sense.
    """

    within: float = 0.01
    least: int = 10
    most: int = 100

    def __post_init__(self) -> None:
        if not (self.within >= 0 and 1 <= self.least <= self.most):
            raise ValueError(f"no precision: within {self.within}, {self.least} to {self.most} rounds")


@dataclass(frozen=True)
class Timed:
    """A chain and the milliseconds that each of its blocks took while it ran: `in_situ_ms[block][round]`.

    Where a device runs it as one program, there is one list alone: the milliseconds of all blocks together.
    """

    chain: tuple[str, ...]
    in_situ_ms: tuple[tuple[float, ...], ...]

    @property
    def stamped(self) -> bool:
        """Whether its blocks are told apart."""
        return len(self.in_situ_ms) == len(self.chain)

    @cached_property
    def ms(self) -> tuple[float, ...]:
        """The milliseconds of the whole chain, round by round."""
        return tuple(math.fsum(each) for each in zip(*self.in_situ_ms))

    def latency(self) -> Latency:
        """The latency of the whole chain."""
        return Latency.from_samples(self.ms)

    def in_situ(self) -> list[float]:
        """The median of every block in the running chain, in milliseconds. Only of a chain that is `stamped`."""
        return [Latency.from_samples(times).median_ms for times in self.in_situ_ms]

    def divided_by(self, factors: Sequence[float]) -> Timed:
        """The same with the times of each round divided by the round's factor."""
        corrected = (tuple(time / by for time, by in zip(times, factors, strict=True)) for times in self.in_situ_ms)
        return Timed(self.chain, tuple(corrected))

    def to_json(self) -> dict[str, Any]:
        """The chain and the milliseconds of each of its blocks, round by round, rounded to a nanosecond."""
        return {"chain": list(self.chain), "ms": [[round(ms, 6) for ms in times] for times in self.in_situ_ms]}


@dataclass(frozen=True)
class Samples:
    """Timings of chains and of the anchor from the same rounds, after `warmup` rounds of warm-up.

    `conditions` are those of the device from before the warm-up to the end, None where it does not tell.
    """

    timed: tuple[Timed, ...]
    anchor: Timed
    warmup: int
    conditions: Conditions | None = None

    @property
    def rounds(self) -> int:
        """How many rounds were taken, warm-up left out."""
        return len(self.anchor.ms)

    def usual_ms(self) -> float:
        """What the anchor takes at the device's usual speed."""
        return median(_levels(self.anchor.ms))

    def corrected(self, usual_ms: float | None = None) -> Samples:
        """The same timings, each divided by how slow the device was in its round.

        `usual_ms` is what the anchor takes at the speed to correct to, where that is another's; None: as in these.
        """
        slow = slowness(self.anchor.ms, usual_ms)
        timed = tuple(each.divided_by(slow) for each in self.timed)
        return replace(self, timed=timed, anchor=self.anchor.divided_by(slow))

    def slow_rounds(self) -> int:
        """In how many rounds the device did not have its usual speed."""
        return sum(factor != 1.0 for factor in slowness(self.anchor.ms))

    def uncertainty(self) -> float:
        """The widest 95% interval of a chain's median: half its width, as a share of the median."""
        return max((half_width(each.ms) for each in self.timed), default=0.0)

    def to_json(self, in_situ: bool = False) -> dict[str, Any]:
        """The milliseconds of every whole chain and of the anchor, rounded to a nanosecond.

        With `in_situ`, also those of the blocks in chains of several and in the anchor, where they are told apart.
        """
        chains = (*self.timed, self.anchor) if in_situ else ()
        several = [each for each in chains if len(each.chain) > 1 and each.stamped]
        return {
            "chains": [list(each.chain) for each in self.timed],
            "ms": [[round(ms, 6) for ms in each.ms] for each in self.timed],
            "anchor_ms": [round(ms, 6) for ms in self.anchor.ms],
            "warmup": self.warmup,
            **({"in_situ": [each.to_json() for each in several]} if several else {}),
        }


def take_samples(
    session: Session,
    chains: Sequence[Sequence[str]],
    anchor: Sequence[str],
    precision: Precision | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Times `chains` and the `anchor` on the device of `session`, after a warm-up that ends when the anchor is steady.

    `progress(done, total)` counts rounds; the total is the cap. Raises what `Session.samples_in_situ` raises.
    """
    precision = precision or Precision()
    asked = [*map(tuple, chains), tuple(anchor)]
    conditions: list[Conditions] = []

    def note_conditions() -> None:
        if session.conditions:
            conditions.append(session.conditions)

    def more(rounds: int, done: int) -> list[list[list[float]]]:
        tell = (lambda at, _: progress(done + at, precision.most)) if progress else None
        times = session.samples_in_situ(asked, rounds, 0, progress=tell)
        note_conditions()
        return times

    with session.holding():
        warmup, before = 0, math.inf
        for _ in range(_WARMUP_BATCHES):
            now = median(session.samples(asked, _BATCH, 0)[-1])
            note_conditions()
            warmup += _BATCH
            if abs(before - now) <= _WARM * now:
                break
            before = now
        taken: list[list[list[float]]] = []
        rounds = 0
        while rounds < precision.most:
            # A device may load its blocks anew for a call: the further it is from the end, the more rounds one takes.
            batch = precision.least if not rounds else max(_BATCH, rounds // 2)
            batch = min(batch, precision.most - rounds)
            found = more(batch, rounds)
            taken = taken or [[[] for _ in blocks] for blocks in found]
            for blocks, further in zip(taken, found, strict=True):
                for times, new in zip(blocks, further, strict=True):
                    times += new
            rounds += batch
            *timed, of_anchor = (Timed(chain, tuple(map(tuple, blocks))) for chain, blocks in zip(asked, taken))
            samples = Samples(tuple(timed), of_anchor, warmup, Conditions.over_all(conditions) if conditions else None)
            if samples.corrected().uncertainty() <= precision.within:
                break
    if progress:
        progress(precision.most, precision.most)
    return samples


def slowness(anchor_ms: Sequence[float], usual_ms: float | None = None) -> list[float]:
    """How many times slower than usual the device was in each round; exactly 1.0 where it was as usual.

    The anchor's running median over five rounds, over `usual_ms` or the median of all: a single slow run is not the
    device's.
    """
    if not anchor_ms:
        return []
    levels = _levels(anchor_ms)
    usual = median(levels) if usual_ms is None else usual_ms
    return [1.0 if abs(each - usual) <= _STEADY * usual else each / usual for each in levels]


def _levels(anchor_ms: Sequence[float]) -> list[float]:
    """The running median."""
    half = _WINDOW // 2
    return [median(anchor_ms[max(0, at - half) : at + half + 1]) for at in range(len(anchor_ms))]


def half_width(samples: Sequence[float]) -> float:
    """Half the width of the median's 95% interval, as a share of the median; infinite for fewer than six samples.

    The interval lies between two of the samples and holds whatever they are distributed like: the number of samples
    below the true median is binomial (David and Nagaraja, Order Statistics, 3rd edition, section 7.1).
    """
    below = _below(len(samples))
    if below is None:
        return math.inf
    ranked = sorted(samples)
    low, high = ranked[below], ranked[-1 - below]
    return (high - low) / 2 / max(median(ranked), 1e-12)


@cache
def _below(count: int) -> int | None:
    """How many samples may be left out at either end of the interval; None when even all of them are too few."""
    outside, left_out = 0.0, None
    for at in range(count // 2):
        outside += math.comb(count, at) / 2**count
        if outside > 0.025:
            break
        left_out = at
    return left_out
