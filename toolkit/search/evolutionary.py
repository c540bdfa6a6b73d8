"""AdaptiveNet's own search: a population for each budget, bred by mutation and crossover.

Wen et al., AdaptiveNet, MobiCom 2023, section 4.3. The paths of the first generation are drawn uniformly near the
budget, by counting rather than by rejection. A mutation replaces a stretch of the path by a random one between the same
two cuts; a crossover takes one parent's path up to a cut that both visit, and the other's from there on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

from ..errors import BudgetError
from ..graph import BlockGraph, Subnet
from ..sampling import PathSampler
from .base import Result, Strategy

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
        *,
        population: int = 50,
        generations: int = 10,
        parents: float = 0.25,
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.population = population
        self.generations = generations
        self.parents = parents
        self.results: dict[Subnet, Result] = {}
        self._rng = random.Random(seed)
        self._sampler = PathSampler(graph, cost)
        # The two ends of every front, which may be the same.
        self._waiting = list(dict.fromkeys([graph.oracle, self._sampler.fastest]))
        for budget in budgets:
            if not self._sampler.count(high=budget):
                raise BudgetError(
                    f"no subnet meets a budget of {budget:.4g} ms: the fastest takes "
                    f"{self._sampler.latency_ms(self._sampler.fastest):.4g} ms (predicted)"
                )
        self._rounds = [budget for budget in budgets for _ in range(generations)]
        self._round = 0
        self._generation: list[Subnet] = []

    def ask(self, n: int) -> list[Subnet]:
        """See `Strategy.ask`."""
        while not any(subnet not in self.results for subnet in self._waiting):
            if self._round == len(self._rounds):
                return []
            self._waiting = self._next_generation(self._rounds[self._round], self._round % self.generations == 0)
            self._round += 1
        return [subnet for subnet in self._waiting if subnet not in self.results][:n]

    def tell(self, results: Sequence[Result]) -> None:
        """See `Strategy.tell`."""
        self.results |= {result.subnet: result for result in results}

    def estimate(self) -> dict[Subnet, float]:
        """The measured qualities, as they are."""
        return {subnet: result.quality for subnet, result in self.results.items()}

    def _next_generation(self, budget: float, first: bool) -> list[Subnet]:
        if first:
            low = self._sampler.latency_ms(self._sampler.fastest)
            width = 0.05 * budget
            while not self._sampler.count(max(low, budget - width), budget):
                width *= 2
            drawn = self._sampler.sample(self.population, self._rng, max(low, budget - width), budget)
            self._generation = list(dict.fromkeys(drawn))
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
        parent = self._rng.choice(parents)
        cuts = parent.cuts
        first = self._rng.randrange(len(parent))
        last = self._rng.randint(first + 1, min(first + 3, len(parent)))
        stretch: list[str] = []
        at = cuts[first]
        while at != cuts[last]:
            # A block that jumps over the end of the stretch is no choice; the original one never does.
            block = self._rng.choice([block for block in self.graph.leaving[at] if block.end <= cuts[last]])
            stretch.append(block.name)
            at = block.end
        return self.graph.subnet((*parent[:first], *stretch, *parent[last:]))

    def _crossover(self, parents: Sequence[Subnet]) -> Subnet:
        one, other = self._rng.choice(parents), self._rng.choice(parents)
        shared = sorted(set(one.cuts) & set(other.cuts))
        cut = self._rng.choice(shared[1:-1] or shared)
        return self.graph.subnet((*one[: one.cuts.index(cut)], *other[other.cuts.index(cut) :]))
