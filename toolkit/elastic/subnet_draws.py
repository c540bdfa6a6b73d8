"""Which subnets a step trains: drawn evenly over the range of costs, or by a random walk through the graph."""

from __future__ import annotations

import random
from collections.abc import Mapping

from ..errors import BudgetError, TrainingError
from ..graph import BlockGraph, Subnet
from ..sampling import PathSampler

_WIDTH = 0.01  # of the oracle's cost: how far from the drawn cost a subnet may lie, at first
_DEAREST = 0.98  # of the oracle's cost: beyond, there is next to nothing but the oracle itself


class SubnetDraws:
    """Draws subnets that have something to learn: never the oracle.

    `cost` is one number a block, in any unit: milliseconds from a latency table, or, by default, multiply-accumulates.
    `cheapest` is the lower end of the range, as a share of the oracle's cost. Raises TrainingError when a block has no
    cost.
    """

    def __init__(self, graph: BlockGraph, cheapest: float, cost: Mapping[str, float] | None = None) -> None:
        if cost is not None and (missing := [block.name for block in graph.blocks if block.name not in cost]):
            raise TrainingError(f"block {missing[0]} has no cost: give one for each of {len(graph.blocks)} blocks")
        self.graph = graph
        self.cost = {block.name: float(block.macs if cost is None else cost[block.name]) for block in graph.blocks}
        self.oracle = sum(self.cost[name] for name in graph.oracle)
        self._cheapest = cheapest
        self._sampler = PathSampler(graph, self.cost)

    def by_cost(self, n: int, rng: random.Random) -> list[Subnet]:
        """1 to `n` subnets, fewer where the oracle was drawn: first a cost, uniformly, then a subnet near it."""
        fastest = self._sampler.latency_ms(self._sampler.fastest)
        low = max(self._cheapest * self.oracle, fastest)
        subnets = []
        for _ in range(n):
            subnets.append(self.about(low + rng.random() * (_DEAREST * self.oracle - low), rng))
        return [subnet for subnet in subnets if subnet != self.graph.oracle] or self.by_walk(1, rng)

    def about(self, target: float, rng: random.Random) -> Subnet:
        """A subnet whose cost is within 1% of the oracle's from `target`; 2%, 4% and so on where there is none."""
        width = _WIDTH * self.oracle
        while not self._sampler.count(target - width, target + width):
            width *= 2
        return self._sampler.sample(1, rng, target - width, target + width)[0]

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
