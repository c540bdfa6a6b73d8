"""Simulated annealing: walkers that step to a mutant when it is better, and now and then when it is not.

Kirkpatrick, Gelatt and Vecchi, Optimization by Simulated Annealing, Science 220 (1983). Every subnet is evaluated on
all images.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from ..graph.graph import BlockGraph, Subnet
from ..graph.sampling import PathSampler
from .base import Result, Strategy, Trial
from .moves import mutant, near_budget, require_reachable

_HOT, _COLD = 0.03, 0.001  # the first and the last temperature, as a share of quality
_TRIES = 50  # for a step that stays within the budget


class Annealing(Strategy):
    """For each of `budgets` (milliseconds, predicted) so many `walkers`, which make so many `steps` each.

    Raises BudgetError, naming the fastest subnet, for a budget below it.
    """

    def __init__(
        self,
        graph: BlockGraph,
        cost: Mapping[str, float],
        budgets: Sequence[float],
        images: int,
        *,
        walkers: int = 4,
        steps: int = 100,
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.images = images
        self.steps = steps
        self.results: dict[Subnet, Result] = {}
        self._rng = random.Random(seed)
        self._sampler = PathSampler(graph, cost)
        for budget in budgets:
            require_reachable(self._sampler, budget)
        self._budgets = [budget for budget in budgets for _ in range(walkers)]
        self._at: list[Subnet] = []
        self._next = [graph.oracle, self._sampler.fastest]  # the two ends of every front come first
        self._step = 0

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
        return cls(graph, cost, targets, images, walkers=1, steps=max(1, evaluations // len(targets)), seed=seed)

    def ask(self, n: int) -> list[Trial]:
        """See `Strategy.ask`."""
        while all(subnet in self.results for subnet in self._next):
            if self._step > self.steps:
                return []
            self._advance()
        waiting = dict.fromkeys(subnet for subnet in self._next if subnet not in self.results)
        return [Trial(subnet, self.images) for subnet in waiting][:n]

    def _advance(self) -> None:
        """Every walker takes its step, or not, and says where it would go next."""
        if not self._step:
            self._next = [near_budget(self._sampler, budget, 1, self._rng)[0] for budget in self._budgets]
        else:
            heat = _HOT * (_COLD / _HOT) ** (self._step / self.steps)
            known = zip(self._at or self._next, self._next, strict=True)
            self._at = [new if self._taken(old, new, heat) else old for old, new in known]
            self._next = [self._neighbour(at, budget) for at, budget in zip(self._at, self._budgets, strict=True)]
        self._step += 1

    def _taken(self, old: Subnet, new: Subnet, heat: float) -> bool:
        gain = self.results[new].quality - self.results[old].quality
        return gain >= 0 or self._rng.random() < math.exp(gain / heat)

    def _neighbour(self, at: Subnet, budget: float) -> Subnet:
        for _ in range(_TRIES):
            other = mutant(self.graph, at, self._rng)
            if other != at and self._sampler.latency_ms(other) <= budget:
                return other
        return at
