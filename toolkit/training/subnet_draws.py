"""Which subnets a step trains: drawn evenly over the range of costs, near the front, or by a random walk."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from ..errors import BudgetError, TrainingError
from ..graph.best_paths import best_paths
from ..graph.graph import BlockGraph, Subnet
from ..graph.sampling import PathSampler

_WIDTH = 0.01  # of the oracle's cost: how far from the drawn cost a subnet may lie, at first
_DEAREST = 0.98  # of the oracle's cost: beyond, there is next to nothing but the oracle itself
_TICKS = 500  # of the oracle's cost: what costs are rounded to where the best subnet is looked for
_DOUBT = 0.25  # the standard deviation of the logarithm of what local losses may be wrong by


class SubnetDraws:
    """Draws subnets that have something to learn: never the oracle.

    `cost` is one number a block, in any unit: milliseconds from a latency table, or, by default, multiply-accumulates.
    `cheapest` is the lower end of the range, as a share of the oracle's cost. Raises TrainingError when a block has no
    cost.
    """

    def __init__(self, graph: BlockGraph, cheapest: float, cost: Mapping[str, float] | None = None) -> None:
        self.graph = graph
        self.cost = costs_of(graph, cost)
        self.oracle = sum(self.cost[name] for name in graph.oracle)
        self._cheapest = cheapest
        self._sampler = PathSampler(graph, self.cost)
        self._resolution = self.oracle / _TICKS or None

    def by_cost(self, n: int, rng: random.Random) -> list[Subnet]:
        """1 to `n` subnets, fewer where the oracle was drawn: first a cost, uniformly, then a subnet near it."""
        low = self._lowest()
        subnets = []
        for _ in range(n):
            subnets.append(self.about(low + rng.random() * (_DEAREST * self.oracle - low), rng))
        return [subnet for subnet in subnets if subnet != self.graph.oracle] or self.by_walk(1, rng)

    def _lowest(self) -> float:
        return max(self._cheapest * self.oracle, self._sampler.latency_ms(self._sampler.fastest))

    def about(self, target: float, rng: random.Random) -> Subnet:
        """A subnet whose cost is within 1% of the oracle's from `target`; 2%, 4% and so on where there is none."""
        width = _WIDTH * self.oracle
        while not self._sampler.count(target - width, target + width):
            width *= 2
        return self._sampler.sample(1, rng, target - width, target + width)[0]

    def near_front(self, n: int, rng: random.Random, losses: Mapping[str, float]) -> list[Subnet]:
        """`n` subnets, fewer where the oracle was drawn: first a cost, uniformly, then the best within it.

        The best is the one with the least sum of local losses, where each block's is first multiplied by a factor of
        its own (see `doubted`). The idea of training where the front is expected is AttentiveNAS's (Wang et al., 2021).
        """
        low = self._lowest()
        subnets = []
        for _ in range(n):
            most = low + rng.random() * (_DEAREST * self.oracle - low)
            value = {name: -loss for name, loss in doubted(self.graph, losses, rng).items()}
            subnets += best_paths(self.graph, self.cost, value, [most], resolution=self._resolution)[0]
        return [subnet for subnet in subnets if subnet != self.graph.oracle] or self.by_walk(1, rng)

    def front(self, n: int, losses: Mapping[str, float]) -> list[Subnet]:
        """The subnets with the least sum of local losses within `n` costs that divide the range evenly; none where all
        cost more."""
        low, value = self._lowest(), {block.name: -losses.get(block.name, 0.0) for block in self.graph.blocks}
        budgets = [low + (at + 0.5) / n * (_DEAREST * self.oracle - low) for at in range(n)]
        best = best_paths(self.graph, self.cost, value, budgets, resolution=self._resolution)
        return [
            subnet
            for subnet in dict.fromkeys(subnet for found in best for subnet in found)
            if subnet != self.graph.oracle
        ]

    def by_walk(self, n: int, rng: random.Random) -> list[Subnet]:
        """`n` subnets; at every cut, each block that starts there is equally likely."""
        subnets: list[Subnet] = []
        while len(subnets) < n:
            at, names = 0, []
            while at != self.graph.end:
                block = rng.choice(self.graph.leaving[at])
                names.append(block.name)
                at = block.end
            if tuple(names) != self.graph.oracle:
                subnets.append(self.graph.subnet(names))
        return subnets

    def near(self, share: float, reach: float, n: int, rng: random.Random) -> list[Subnet]:
        """`n` subnets that cost `share` of the oracle, give or take `reach` of it; none when there are none."""
        low, high = (share - reach) * self.oracle, (share + reach) * self.oracle
        try:
            return self._sampler.sample(n, rng, low, high)
        except BudgetError:
            return []


def costs_of(graph: BlockGraph, cost: Mapping[str, float] | None) -> dict[str, float]:
    """The cost of each block: as given, or else its multiply-accumulates. Raises TrainingError where one is missing."""
    if cost is not None and (missing := [block.name for block in graph.blocks if block.name not in cost]):
        raise TrainingError(f"block {missing[0]} has no cost: give one for each of {len(graph.blocks)} blocks")
    return {block.name: float(block.macs if cost is None else cost[block.name]) for block in graph.blocks}


def doubted(graph: BlockGraph, losses: Mapping[str, float], rng: random.Random) -> dict[str, float]:
    """What the blocks' local losses may come to be: each times a log-normal factor of its own, 0 without a loss.

    The factor stands for what is not known yet: what training will do for a block, and what its error does to others.
    """
    return {block.name: losses.get(block.name, 0.0) * math.exp(_DOUBT * rng.gauss(0, 1)) for block in graph.blocks}
