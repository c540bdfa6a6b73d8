"""The best subnets for every latency budget at once, when quality is additive.

With one value a block, the best path within a budget is a knapsack along a chain. Dynamic programming from the last cut
keeps, for every cut and every number of ticks, the k best ways onward; one pass answers all budgets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .graph import BlockGraph, Subnet
from .ticks import Ticks, fastest_and_slowest, of_every_block, within


def best_paths(
    graph: BlockGraph,
    cost: Mapping[str, float],
    value: Mapping[str, float],
    budgets: Sequence[float],
    k: int = 1,
    resolution: float | None = None,
) -> list[list[Subnet]]:
    """For each budget, the `k` distinct paths of highest total `value` whose total `cost` is within it, best first.

    `cost`, `budgets` and `resolution` (see `Ticks`) are in milliseconds; `value` has any unit, higher is better. A
    budget that no path meets has an empty list. No path over its budget is ever returned. Where ticks had to be
    rounded, a path within half a tick a block of the budget may be passed over; otherwise the answer is exact.
    Raises ProfileError for a block without a finite cost or value, ValueError for a budget that is NaN or `k` below 1.
    """
    if k < 1 or any(math.isnan(budget) for budget in budgets):
        raise ValueError(f"k is {k} and the budgets are {list(budgets)}; k must be at least 1, a budget a number")
    if not budgets:
        return []
    values = of_every_block(graph, value, "value")
    ticks = Ticks.counting(graph, cost, resolution)
    slack = 0 if ticks.exact else graph.end // 2 + 1
    ways = _Ways(graph, ticks.of, values, k, ticks.last(max(budgets)) + slack)
    fastest, _ = fastest_and_slowest(graph, cost)

    def fits(path: Subnet, budget: float) -> bool:
        return within(0.0, math.fsum(cost[name] for name in path), budget)

    def best(budget: float) -> list[Subnet]:
        found: list[Subnet] = []
        for path in ways.best_first(ticks.last(budget) + slack):
            if fits(path, budget):
                found.append(path)
            if len(found) == k:
                break
        # Rounding may have crowded out the fastest path at its own budget.
        return found or ([fastest] if fits(fastest, budget) else [])

    return [best(budget) for budget in budgets]


class _Ways:
    """The k best ways from each cut to the last, for each length in ticks up to `longest`.

    For one cut, `lengths` (L,) is sorted; row r of `values` (L, k) holds the best values at `lengths[r]`, best first,
    -inf where there are fewer ways; `choices` (L, k) says by which block each goes on (its place among those leaving,
    times k) and with which of the k ways from there (added).
    """

    def __init__(
        self, graph: BlockGraph, ticks: Mapping[str, int], value: Mapping[str, float], k: int, longest: int
    ) -> None:
        self.graph, self.ticks, self.k = graph, ticks, k
        self.lengths: dict[int, NDArray[np.int64]] = {graph.end: np.zeros(1, np.int64)}
        self.values: dict[int, NDArray[np.float64]] = {graph.end: np.full((1, k), -np.inf)}
        self.values[graph.end][0, 0] = 0.0
        self.choices: dict[int, NDArray[np.int32]] = {}
        for at in reversed(range(graph.end)):
            leaving = graph.leaving[at]
            reached = [self.lengths[block.end] + ticks[block.name] for block in leaving]
            lengths = np.unique(np.concatenate(reached))
            lengths = lengths[lengths <= longest]
            table = np.full((len(lengths), len(leaving) * k), -np.inf)
            for place, (block, reach) in enumerate(zip(leaving, reached, strict=True)):
                short = reach <= longest
                rows = np.searchsorted(lengths, reach[short])
                table[rows, place * k : (place + 1) * k] = self.values[block.end][short] + value[block.name]
            order = np.argsort(-table, axis=1, kind="stable")[:, :k]
            self.lengths[at] = lengths
            self.values[at] = np.take_along_axis(table, order, axis=1)
            self.choices[at] = order.astype(np.int32)

    def best_first(self, longest: int) -> Iterator[Subnet]:
        """Whole paths of at most `longest` ticks, best value first: the k best at each length, not more."""
        rows = int(np.searchsorted(self.lengths[0], longest, side="right"))
        values = self.values[0][:rows].ravel()
        for entry in np.argsort(-values, kind="stable"):
            if values[entry] == -np.inf:
                return
            yield self.path(int(entry))

    def path(self, entry: int) -> Subnet:
        """The path behind one entry of the first cut's table."""
        row, rank = divmod(entry, self.k)
        at, names, left = 0, [], int(self.lengths[0][row])
        while at != self.graph.end:
            place, rank = divmod(int(self.choices[at][np.searchsorted(self.lengths[at], left), rank]), self.k)
            block = self.graph.leaving[at][place]
            names.append(block.name)
            at, left = block.end, left - self.ticks[block.name]
        return self.graph.subnet(names)
