"""Random search: subnets drawn uniformly just within each budget. What every other strategy has to beat."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from ..graph.graph import BlockGraph, Subnet
from ..graph.sampling import PathSampler
from .base import Result, Strategy, Trial
from .moves import near_budget, require_reachable


class Random(Strategy):
    """At most `draws` subnets for each of `budgets` (milliseconds, predicted), each evaluated on all images.

    Raises BudgetError, naming the fastest subnet, for a budget below it.
    """

    def __init__(
        self,
        graph: BlockGraph,
        cost: Mapping[str, float],
        budgets: Sequence[float],
        images: int,
        *,
        draws: int = 400,
        seed: int = 0,
    ) -> None:
        self.images = images
        self.results: dict[Subnet, Result] = {}
        rng, sampler = random.Random(seed), PathSampler(graph, cost)
        for budget in budgets:
            require_reachable(sampler, budget)
        drawn = [near_budget(sampler, budget, draws, rng) for budget in budgets]
        in_turn = [subnet for subnets in zip(*drawn, strict=True) for subnet in subnets]
        # The two ends of every front come first.
        self._order = list(dict.fromkeys([graph.oracle, sampler.fastest, *in_turn]))

    @classmethod
    def for_profile(
        cls,
        graph: BlockGraph,
        cost: Mapping[str, float],
        targets: Sequence[float],
        images: int,
        evaluations: int,
        seed: int,
    ) -> Strategy:
        """See `Strategy.for_profile`."""
        return cls(graph, cost, targets, images, draws=max(1, evaluations // len(targets)), seed=seed)

    def ask(self, n: int) -> list[Trial]:
        """See `Strategy.ask`."""
        return [Trial(subnet, self.images) for subnet in self._order if subnet not in self.results][:n]
