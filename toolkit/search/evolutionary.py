"""AdaptiveNet's own search: a population for each budget, bred by mutation and crossover.

Wen et al., AdaptiveNet, MobiCom 2023, section 4.3. The paths of the first generation are drawn uniformly near the
budget, by counting rather than by rejection. A mutation replaces a stretch of the path by a random one between the same
two cuts; a crossover takes one parent's path up to a cut that both visit, and the other's from there on. Every subnet
is evaluated on all images.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

from ..graph import BlockGraph, Subnet
from ..sampling import PathSampler
from .base import Result, Strategy, Trial
from .moves import crossover, mutant, near_budget, require_reachable

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
        self._rounds = [budget for budget in budgets for _ in range(generations)]
        self._round = 0
        self._generation: list[Subnet] = []

    def ask(self, n: int) -> list[Trial]:
        """See `Strategy.ask`."""
        while not any(subnet not in self.results for subnet in self._waiting):
            if self._round == len(self._rounds):
                return []
            self._waiting = self._next_generation(self._rounds[self._round], self._round % self.generations == 0)
            self._round += 1
        return [Trial(subnet, self.images) for subnet in self._waiting if subnet not in self.results][:n]

    def _next_generation(self, budget: float, first: bool) -> list[Subnet]:
        if first:
            self._generation = list(dict.fromkeys(near_budget(self._sampler, budget, self.population, self._rng)))
            return self._generation
        ranked = sorted(self._generation, key=lambda subnet: self.results[subnet].quality, reverse=True)
        best = ranked[: max(2, math.ceil(self.parents * self.population))]
        children = dict.fromkeys(best)
        for index in range(self.population - len(best)):
            breed = self._mutant if index % 2 else self._crossover
            children[self._child(breed, best, budget)] = None
        self._generation = list(children)
        return self._generation

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
