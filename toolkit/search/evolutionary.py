"""AdaptiveNet's own search: a population for each budget, bred by mutation and crossover.

Wen et al., AdaptiveNet, MobiCom 2023, section 4.3. The paths of the first generation are drawn uniformly near the
budget, by counting rather than by rejection. A mutation replaces a stretch of the path by a random one between the same
two cuts; a crossover takes one parent's path up to a cut that both visit, and the other's from there on. Every subnet
is evaluated on all images.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence

from ..graph.graph import BlockGraph, Subnet
from ..graph.sampling import PathSampler
from .base import Result, Strategy, Trial
from .moves import crossover, mutant, near_budget, require_reachable

_GENERATIONS = 10  # in a profile, where evaluations are few
_TRIES = 50  # for a child within the budget that is not known yet


class Evolutionary(Strategy):
    """One population of `population` subnets for each of `budgets` (milliseconds, predicted), `generations` of them.

    The `parents` share of each generation that is best breeds the next: half of it mutants, half crossovers. Raises
    BudgetError, naming the fastest subnet, for a budget below it.
    """

    def __init__(
        self,
        graph: BlockGraph,
        cost: Mapping[str, float],
        budgets: Sequence[float],
        images: int,
        *,
        population: int = 50,
        generations: int = 10,
        parents: float = 0.25,
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.images = images
        self.population = population
        self.generations = generations
        self.parents = parents
        self.results: dict[Subnet, Result] = {}
        self._rng = random.Random(seed)
        self._sampler = PathSampler(graph, cost)
        # The two ends of every front, which may be the same.
        self._waiting = list(dict.fromkeys([graph.oracle, self._sampler.fastest]))
        for budget in budgets:
            require_reachable(self._sampler, budget)
        self._budgets = tuple(budgets)
        self._populations: list[list[Subnet]] = [[] for _ in budgets]
        self._generation = 0

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
        each = max(1, evaluations // len(targets))
        population = max(4, each // _GENERATIONS)
        return cls(graph, cost, targets, images, population=population, generations=_GENERATIONS, seed=seed)

    def ask(self, n: int) -> list[Trial]:
        """See `Strategy.ask`."""
        while not any(subnet not in self.results for subnet in self._waiting):
            if self._generation == self.generations or not self._budgets:
                return []
            self._populations = [
                self._next_generation(budget, before)
                for budget, before in zip(self._budgets, self._populations, strict=True)
            ]
            self._generation += 1
            # One subnet of each budget in turn: wherever the evaluations end, every budget had its share of them.
            in_turn = itertools.zip_longest(*self._populations)
            self._waiting = list(dict.fromkeys(subnet for some in in_turn for subnet in some if subnet is not None))
        return [Trial(subnet, self.images) for subnet in self._waiting if subnet not in self.results][:n]

    def _next_generation(self, budget: float, before: Sequence[Subnet]) -> list[Subnet]:
        if not before:
            return list(dict.fromkeys(near_budget(self._sampler, budget, self.population, self._rng)))
        ranked = sorted(before, key=lambda subnet: self.results[subnet].quality, reverse=True)
        best = ranked[: max(2, math.ceil(self.parents * self.population))]
        children = dict.fromkeys(best)
        for index in range(self.population - len(best)):
            breed = self._mutant if index % 2 else self._crossover
            children[self._child(breed, best, budget)] = None
        return list(children)

    def _child(self, breed: Callable[[Sequence[Subnet]], Subnet], parents: Sequence[Subnet], budget: float) -> Subnet:
        """A child within the budget, if possible one that was not evaluated yet; else one of the parents."""
        fallback = self._rng.choice(parents)
        for _ in range(_TRIES):
            child = breed(parents)
            if self._sampler.latency_ms(child) <= budget:
                fallback = child
                if child not in self.results:
                    break
        return fallback

    def _mutant(self, parents: Sequence[Subnet]) -> Subnet:
        return mutant(self.graph, self._rng.choice(parents), self._rng)

    def _crossover(self, parents: Sequence[Subnet]) -> Subnet:
        return crossover(self.graph, self._rng.choice(parents), self._rng.choice(parents), self._rng)
