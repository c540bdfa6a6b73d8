"""What each block costs on a device, and what that predicts for a subnet.

A latency table has one measured number a block; a subnet's latency is predicted as the sum along its path. `Ticks` puts
the same numbers on a whole-number scale, because the two dynamic programs (`sampling` and `search.best_paths`) count
paths per latency, and counting needs latencies that meet exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .errors import ProfileError
from .graph import Block, BlockGraph, Subnet

# With at most so many distinct path latencies, counting them one by one is quick: nothing needs to be rounded.
_EXACT_LEVELS = 20_000
_ORACLE_TICKS = 5000
# Sums of decimal fractions differ in the last binary digits; a latency this close to an edge is on the edge.
_EDGE = 1e-9


def number(value: object, what: str, lowest: float = 0.0) -> float:
    """`value` as a float. Raises ProfileError naming `what` unless it is a finite number of at least `lowest`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ProfileError(f"{what} is {value!r}; it must be a number")
    if not lowest <= value < math.inf or not math.isfinite(value):
        raise ProfileError(f"{what} is {value}; it must be finite and at least {lowest:g}")
    return float(value)


@dataclass(frozen=True)
class Latency:
    """How long something took, in milliseconds: always measured, never predicted.

    `spread_ms` is the interquartile range, p75 - p25; percentiles are nearest-rank, so each is a time that occurred.
    `repetitions` says how often it was measured; 0 means that the number came from elsewhere, without its spread.
    """

    median_ms: float
    spread_ms: float
    repetitions: int

    @classmethod
    def from_samples(cls, milliseconds: Sequence[float]) -> Latency:
        """Summarise single timings. Raises ValueError when there are none."""
        if not milliseconds:
            raise ValueError("no timings to summarise")
        ranked = sorted(milliseconds)

        def percentile(percent: int) -> float:
            return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]

        return cls(percentile(50), percentile(75) - percentile(25), len(ranked))

    def to_json(self) -> dict[str, Any]:
        """A plain dict of the three fields."""
        return {"median_ms": self.median_ms, "spread_ms": self.spread_ms, "repetitions": self.repetitions}

    @classmethod
    def from_json(cls, doc: object, what: str = "latency") -> Latency:
        """Read what `to_json` wrote. Raises ProfileError naming `what` when it is something else."""
        if not isinstance(doc, dict) or doc.keys() != {"median_ms", "spread_ms", "repetitions"}:
            raise ProfileError(f"{what} must have exactly median_ms, spread_ms and repetitions: got {str(doc)[:80]}")
        repetitions = number(doc["repetitions"], f"{what}: repetitions")
        if not repetitions.is_integer():
            raise ProfileError(f"{what}: repetitions is {repetitions}; it must be a whole number")
        median = number(doc["median_ms"], f"{what}: median_ms")
        return cls(median, number(doc["spread_ms"], f"{what}: spread_ms"), int(repetitions))


@dataclass(frozen=True)
class LatencyTable:
    """One latency for each block, all from the same device."""

    blocks: Mapping[str, Latency]

    @classmethod
    def from_ms(cls, milliseconds: Mapping[str, float]) -> LatencyTable:
        """A table from elsewhere, that says only how many milliseconds a block takes."""
        return cls(
            {name: Latency(number(ms, f"latency of block {name!r}"), 0.0, 0) for name, ms in milliseconds.items()}
        )

    @property
    def ms(self) -> dict[str, float]:
        """Block name to median milliseconds: the cost that samplers and searches take."""
        return {name: latency.median_ms for name, latency in self.blocks.items()}

    def predict_ms(self, subnet: Iterable[str]) -> float:
        """The sum along the path: a prediction in milliseconds. Raises ProfileError for a block without a latency."""
        return math.fsum(self._of(name).median_ms for name in subnet)

    def _of(self, name: str) -> Latency:
        try:
            return self.blocks[name]
        except KeyError:
            raise ProfileError(f"the latency table has no block {name!r}; measure this pack again") from None

    def to_json(self) -> dict[str, Any]:
        """Block name to latency, as plain dicts."""
        return {name: latency.to_json() for name, latency in self.blocks.items()}

    @classmethod
    def from_json(cls, doc: object) -> LatencyTable:
        """Read what `to_json` wrote. Raises ProfileError naming the block that is wrong."""
        if not isinstance(doc, dict):
            raise ProfileError(f"a latency table must be an object with one entry a block: got {str(doc)[:80]}")
        return cls({name: Latency.from_json(entry, f"latency of block {name!r}") for name, entry in doc.items()})


def of_every_block(
    graph: BlockGraph, numbers: Mapping[str, float], what: str, lowest: float = -math.inf
) -> dict[str, float]:
    """The number of each block of `graph`. Raises ProfileError when one is missing, not finite or below `lowest`."""
    missing = [block.name for block in graph.blocks if block.name not in numbers]
    if missing:
        raise ProfileError(f"no {what} for {len(missing)} of {len(graph.blocks)} blocks, first {missing[0]!r}")
    return {
        block.name: number(float(numbers[block.name]), f"{what} of block {block.name!r}", lowest)
        for block in graph.blocks
    }


def fastest_and_slowest(graph: BlockGraph, cost: Mapping[str, float]) -> tuple[Subnet, Subnet]:
    """The two ends of the search space: the paths with the smallest and the largest total cost."""

    def extreme(sign: int) -> Subnet:
        best: dict[int, tuple[float, tuple[str, ...]]] = {graph.end: (0.0, ())}

        def onward(block: Block) -> tuple[float, tuple[str, ...]]:
            total, names = best[block.end]
            return total + sign * cost[block.name], (block.name, *names)

        for at in reversed(range(graph.end)):
            best[at] = min((onward(block) for block in graph.leaving[at]), key=lambda way: way[0])
        return graph.subnet(best[0][1])

    return extreme(1), extreme(-1)


def within(low: float, latency: float, high: float) -> bool:
    """Whether a latency lies in a window, edges included, to nine digits."""
    return low * (1 - _EDGE) <= latency <= high * (1 + _EDGE)


@dataclass(frozen=True)
class Ticks:
    """The latencies of a graph's blocks in whole numbers of `unit` milliseconds.

    When `exact`, a path's ticks are its latency to the last digits of a float. Otherwise they differ by at most half a
    tick a block: at the default of 5000 ticks for the oracle, 0.01% of the oracle's latency for each block of a path.
    """

    of: Mapping[str, int]
    unit: Fraction
    exact: bool

    @classmethod
    def counting(cls, graph: BlockGraph, cost: Mapping[str, float], resolution: float | None = None) -> Ticks:
        """Choose the scale for `cost`, in milliseconds a block.

        `resolution` is the length of a tick in milliseconds. Without it, ticks are exact where that is affordable (few
        paths, or costs that share a unit: whole numbers, two decimals), else 1/5000 of the oracle's latency.
        Raises ProfileError for a block without a cost, ValueError for a resolution that is not positive.
        """
        if resolution is not None and not (math.isfinite(resolution) and resolution > 0):
            raise ValueError(f"the resolution is {resolution} ms; it must be positive")
        decimal = {name: Fraction(repr(ms)) for name, ms in of_every_block(graph, cost, "latency", 0.0).items()}
        lossless = _exact_unit(graph, decimal) if resolution is None else None
        oracle = sum((decimal[name] for name in graph.oracle), Fraction(0))
        coarse = (oracle or max(decimal.values())) / _ORACLE_TICKS if resolution is None else Fraction(str(resolution))
        unit = lossless or coarse
        of = {name: round(ms / unit) for name, ms in decimal.items()}
        return cls(of, unit, bool(lossless) or all(of[name] * unit == ms for name, ms in decimal.items()))

    def first(self, low: float) -> int:
        """The smallest number of ticks inside a window that begins at `low` milliseconds."""
        if low == math.inf:
            return sum(self.of.values()) + 1
        return math.ceil(Fraction(max(low, 0.0)) * (1 - Fraction(_EDGE)) / self.unit)

    def last(self, high: float) -> int:
        """The largest number of ticks that a path can have inside a window that ends at `high` ms; -1 below zero."""
        everything = sum(self.of.values())
        if high == math.inf:
            return everything
        return min(everything, math.floor(Fraction(high) * (1 + Fraction(_EDGE)) / self.unit)) if high >= 0 else -1


def _exact_unit(graph: BlockGraph, decimal: Mapping[str, Fraction]) -> Fraction | None:
    """A unit that loses nothing and yet keeps the distinct path latencies few enough to count; None without one."""
    everything = sum(decimal.values(), Fraction(0))
    if graph.count() <= _EXACT_LEVELS:
        # The paths bound the distinct latencies, so the unit may be as fine as floating point itself.
        return everything / 2**53 or Fraction(1)
    denominator = math.lcm(*(ms.denominator for ms in decimal.values()))
    unit = Fraction(math.gcd(*(int(ms * denominator) for ms in decimal.values())) or 1, denominator)
    return unit if everything / unit <= _EXACT_LEVELS else None
