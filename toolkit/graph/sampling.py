"""Uniformly random subnets within a latency window, by counting.

For every cut, dynamic programming counts the ways to reach the last cut in exactly so many ticks. Inside a window the
paths are thereby numbered 0, 1, 2, … in a fixed order, and a random number is a random path: every path of the window
is equally likely, however rare. (Drawing from all paths and throwing away those that miss the budget would throw away
nearly everything near the fastest subnet.)
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate

from ..errors import BudgetError
from .graph import BlockGraph, Subnet
from .ticks import Ticks, fastest_and_slowest, within

_REDRAWS = 1000


class _Ways:
    """How many ways lead from one cut to the last, by their length in ticks. Exact: Python's own integers."""

    def __init__(self, ways: Mapping[int, int]) -> None:
        self.lengths = sorted(ways)
        self._before = [0, *accumulate(ways[length] for length in self.lengths)]

    def items(self) -> zip[tuple[int, int]]:
        counts = (after - before for before, after in zip(self._before, self._before[1:], strict=False))
        return zip(self.lengths, counts, strict=True)

    def between(self, first: int, last: int) -> int:
        """The number of ways of `first` to `last` ticks, both included."""
        return max(0, self._before[bisect_right(self.lengths, last)] - self._before[bisect_left(self.lengths, first)])


class PathSampler:
    """Counts, numbers and draws the subnets of `graph` whose latency lies in a window.

    `cost` is milliseconds a block; `resolution` the length of a tick in milliseconds (see `Ticks` for the default, and
    for when ticks are exact). A window includes both its edges. Where ticks had to be rounded, a path within half a
    tick a block of an edge (a whole tick, where the edge is the fastest subnet) may be counted on the wrong side of it;
    `sample` still returns only paths truly inside.
    """

    def __init__(self, graph: BlockGraph, cost: Mapping[str, float], resolution: float | None = None) -> None:
        self.graph = graph
        self.ticks = Ticks.counting(graph, cost, resolution)
        self._cost = dict(cost)
        self.fastest, self.slowest = fastest_and_slowest(graph, cost)
        self._ways: dict[int, _Ways] = {graph.end: _Ways({0: 1})}
        for at in reversed(range(graph.end)):
            ways: defaultdict[int, int] = defaultdict(int)
            for block in graph.leaving[at]:
                ticks = self.ticks.of[block.name]
                for length, count in self._ways[block.end].items():
                    ways[length + ticks] += count
            self._ways[at] = _Ways(ways)

    def latency_ms(self, subnet: Subnet) -> float:
        """The predicted latency: the sum of the costs along the path."""
        return math.fsum(self._cost[name] for name in subnet)

    def count(self, low: float = 0.0, high: float = math.inf) -> int:
        """The number of subnets with a latency of `low` to `high` milliseconds."""
        return self._ways[0].between(*self._window(low, high))

    def path(self, rank: int, low: float = 0.0, high: float = math.inf) -> Subnet:
        """Subnet number `rank` of the window: each rank below `count(low, high)` is another subnet.

        Raises IndexError for any other rank.
        """
        first, last = self._window(low, high)
        if not 0 <= rank < self._ways[0].between(first, last):
            raise IndexError(f"there is no subnet number {rank} between {low} and {high} ms")
        at, names = 0, []
        while at != self.graph.end:
            for block in self.graph.leaving[at]:
                ticks = self.ticks.of[block.name]
                ways = self._ways[block.end].between(first - ticks, last - ticks)
                if rank < ways:
                    break
                rank -= ways
            names.append(block.name)
            at, first, last = block.end, first - ticks, last - ticks
        return self.graph.subnet(names)

    def sample(self, n: int, rng: random.Random, low: float = 0.0, high: float = math.inf) -> list[Subnet]:
        """`n` subnets from the window, each uniformly and independently of the others (so some may be equal).

        The only draws repeated are those that the rounding of ticks put on the wrong side of an edge.
        Raises BudgetError, with the fastest and the slowest latency there is, when the window is empty.
        """
        count = self.count(low, high)
        if count == 0:
            raise self._empty(low, high)
        return [self._draw(count, rng, low, high) for _ in range(n)]

    def _draw(self, count: int, rng: random.Random, low: float, high: float) -> Subnet:
        for _ in range(_REDRAWS):
            subnet = self.path(rng.randrange(count), low, high)
            if within(low, self.latency_ms(subnet), high):
                return subnet
        raise self._empty(low, high)

    def _window(self, low: float, high: float) -> tuple[int, int]:
        first, last = self.ticks.first(low), self.ticks.last(high)
        if within(low, self.latency_ms(self.fastest), high):
            # Rounding must not hide the one path that everybody who asks for less is pointed at.
            at = sum(self.ticks.of[name] for name in self.fastest)
            first, last = min(first, at), max(last, at)
        return first, last

    def _empty(self, low: float, high: float) -> BudgetError:
        fastest, slowest = self.latency_ms(self.fastest), self.latency_ms(self.slowest)
        return BudgetError(
            f"found no subnet of {low:.6g} to {high:.6g} ms (predicted): the fastest takes {fastest:.6g} ms, "
            f"the slowest {slowest:.6g} ms; widen the window"
        )
