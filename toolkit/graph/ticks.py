"""Latencies of paths: the two ends, what lies within a window, and whole numbers to count with.

`Ticks` puts latencies on a whole-number scale, because the two dynamic programs (`sampling` and `best_paths`) count
paths per latency, and counting needs latencies that meet exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..errors import ProfileError
from .graph import Block, BlockGraph, Subnet
from .latency import number

# With at most so many distinct path latencies, counting them one by one is quick: nothing needs to be rounded.
_EXACT_LEVELS = 20_000
_ORACLE_TICKS = 5000
# Sums of decimal fractions differ in the last binary digits; a latency this close to an edge is on the edge.
_EDGE = 1e-9


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
