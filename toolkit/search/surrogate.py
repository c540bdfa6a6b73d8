"""The default search: a model of quality fitted to everything measured so far, solved exactly, and raced.

The first subnets evaluated are the two ends of every front, the oracle and the fastest, and then the oracle with one
block replaced, for each block: these tell every block's worth apart, and they share the longest prefixes. After each
round a model is fitted (`quality_model`). What may be best under each budget follows from dynamic programming over its
blocks (`best_paths`), as expected and as they may be. These candidates race with those evaluated before, on growing
subsets of the same images: whoever is the likeliest to be the best gets more images, and whoever is surely worse than
the best of them by a paired test (`racing`) gets none. It is over when another choice would hardly be better anywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..graph.best_paths import best_paths
from ..graph.graph import BlockGraph, Subnet
from ..graph.ticks import fastest_and_slowest, within
from .base import Result, Strategy, Trial
from .quality_model import Posterior, QualityModel
from .racing import is_worse

_HALVINGS, _FEWEST = 4, 32  # a candidate's first heat is on a 16th of the images, or a larger part of few
_PROPOSED = 32  # paths of each budget that are the best as the blocks are expected to be,
_VARIED, _PROPOSED_EACH = 4, 4  # and in each of so many draws of what they may be
_CONTENDERS = 32  # of each budget that are compared in draws of their qualities
_DRAWS = 200
_AT_ONCE = (2, 6, 24)  # trials asked for before the model is fitted again: least and most of a budget, and of all


class Surrogate(Strategy):
    """Searches all `budgets` (milliseconds, predicted) at once. `cost` is the latency of each block in milliseconds.

    `images` is how many images there are to search on. They are taken for a draw from many more, unless
    `only_these`: then the best on these very images is looked for. It is over when for every budget the best choice is
    expected to be better than the one that would be made by less than `tolerance`, a share of quality.
    """

    def __init__(
        self,
        graph: BlockGraph,
        cost: Mapping[str, float],
        budgets: Sequence[float],
        images: int,
        *,
        only_these: bool = False,
        tolerance: float = 0.0005,
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.cost = dict(cost)
        self.budgets = tuple(budgets)
        self.tolerance = tolerance
        self.results: dict[Subnet, Result] = {}
        self._heats = _heats(images)
        self._population = images if only_these else None
        least, most, of_all = _AT_ONCE
        self._at_once = max(least, min(most, of_all // max(1, len(budgets))))
        self._model = QualityModel(graph, self._population)
        self._posterior: Posterior | None = None
        self._over = False
        self._rng = np.random.default_rng(seed)
        self._fastest, _ = fastest_and_slowest(graph, cost)
        self._seeds = _seeds(graph, self._fastest)

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
        return cls(graph, cost, targets, images, seed=seed)

    def ask(self, n: int) -> list[Trial]:
        """See `Strategy.ask`."""
        waiting = [subnet for subnet in self._seeds if subnet not in self.results]
        if waiting:
            return [Trial(subnet, self._heats[0]) for subnet in waiting[:n]]
        if self._over:
            return []
        in_turn = itertools.zip_longest(*self._by_promise())
        wanted = dict.fromkeys(subnet for subnets in in_turn for subnet in subnets if subnet is not None)
        self._over = not wanted
        return [Trial(subnet, self._next_heat(subnet)) for subnet in wanted][:n]

    def tell(self, results: Sequence[Result]) -> None:
        """See `Strategy.tell`."""
        super().tell(results)
        self._posterior = None

    def estimate(self) -> dict[Subnet, float]:
        """What the evaluated subnets scored, where that is on all images: it outweighs any model. Of the others, what
        the model, which has seen more images than any one subnet, thinks they are at least.

        Of two that are expected to be equally good, the one that was seen on more images is chosen: among many that
        were seen on few, some always look better than they are.
        """
        open_ones = [subnet for subnet in self.results if not self._is_done(subnet)]
        return super().estimate() | (self._fitted().cautious(open_ones) if open_ones else {})

    def _fitted(self) -> Posterior:
        if self._posterior is None:
            self._posterior = self._model.fit(list(self.results.values()))
        return self._posterior

    def _next_heat(self, subnet: Subnet) -> int:
        seen = self.results[subnet].n if subnet in self.results else 0
        return next((heat for heat in self._heats if heat > seen), seen)

    def _by_promise(self) -> list[list[Subnet]]:
        """For each budget the subnets to evaluate further, likeliest best first; none when it is clear."""
        subnets, fits = self._contenders()
        expected, drawn = self._fitted().draw(subnets, _DRAWS, self._rng)
        for number, subnet in enumerate(subnets):
            if self._is_done(subnet):  # as it will be estimated
                expected[number] = drawn[:, number] = self.results[subnet].quality
        return [self._of_budget(subnets, np.flatnonzero(fit), expected, drawn) for fit in fits]

    def _contenders(self) -> tuple[list[Subnet], NDArray[np.bool_]]:
        """What may be the best of some budget, and whether it is a contender for each: bool (budgets, subnets).

        Whatever was evaluated is, where it fits; what was not, for the budgets that it is proposed for. Of a much
        cheaper subnet next to nothing is known, and there are very many: some would always seem to be worth a look.
        """
        proposed = self._proposals()
        subnets = list(dict.fromkeys([*self.results, *(subnet for paths in proposed for subnet in paths)]))
        _, hope = self._fitted().between(subnets, 2.0)
        expected, _ = self._fitted().between(subnets, 0.0)
        cost = [sum(self.cost[name] for name in subnet) for subnet in subnets]
        fits = np.array([[within(0.0, each, budget) for each in cost] for budget in self.budgets], dtype=bool)
        fits = fits.reshape(len(self.budgets), len(subnets))
        for fit, paths in zip(fits, map(set, proposed), strict=True):
            fit &= [subnet in self.results or subnet in paths for subnet in subnets]
        kept: set[int] = set()
        for fit in fits:
            ranked = np.flatnonzero(fit)[np.argsort(-hope[fit], kind="stable")]
            best = [number for number in ranked if subnets[number] in self.results]
            kept |= {*ranked[:_CONTENDERS].tolist(), *sorted(best, key=lambda number: -expected[number])[:1]}
        numbers = sorted(kept)
        return [subnets[number] for number in numbers], fits[:, numbers]

    def _proposals(self) -> list[list[Subnet]]:
        """For each budget the best paths within it by the worth of the blocks, as expected and in some draws."""
        expected, *varied = self._fitted().of_blocks(_VARIED, self._rng)
        found = best_paths(self.graph, self.cost, expected, self.budgets, _PROPOSED)
        for value in varied:
            for paths, more in zip(found, best_paths(self.graph, self.cost, value, self.budgets, _PROPOSED_EACH)):
                paths += more
        return found

    def _of_budget(
        self,
        subnets: Sequence[Subnet],
        fitting: NDArray[np.intp],
        expected: NDArray[np.float64],
        drawn: NDArray[np.float64],
    ) -> list[Subnet]:
        known = [number for number in fitting if subnets[number] in self.results]
        if not known:
            return [subnets[number] for number in fitting[: self._at_once]]
        leader = max(known, key=lambda number: expected[number])
        racing = [number for number in fitting if not self._is_out(subnets[number], subnets[leader])]
        regret = np.maximum(drawn[:, racing].max(axis=1) - drawn[:, leader], 0).mean()
        if regret < self.tolerance:
            # What is chosen has seen all images: a lucky few do not make it so. So has the original where it fits:
            # it is on every front, and a few images tell little of one that is nearly perfect.
            needed = {subnets[leader], *(subnets[number] for number in fitting if subnets[number] == self.graph.oracle)}
            return [subnet for subnet in sorted(needed) if not self._is_done(subnet)]
        wins = np.bincount(drawn[:, racing].argmax(axis=1), minlength=len(racing))
        order = [racing[place] for place in np.argsort(-wins, kind="stable") if wins[place]]
        open_ones = [subnets[number] for number in order if not self._is_done(subnets[number])]
        return open_ones[: self._at_once]

    def _is_done(self, subnet: Subnet) -> bool:
        return subnet in self.results and self.results[subnet].n == self._heats[-1]

    def _is_out(self, subnet: Subnet, leader: Subnet) -> bool:
        result = self.results.get(subnet)
        return result is not None and is_worse(result, self.results[leader], self._population)


def first_look(graph: BlockGraph, images: int) -> int:
    """The image evaluations that a search on so many images begins with, before anything is known."""
    return len(_seeds(graph, graph.oracle)) * _heats(images)[0]


def _heats(images: int) -> list[int]:
    parts = (1 << halving for halving in reversed(range(_HALVINGS + 1)))
    return [math.ceil(images / part) for part in parts if part == 1 or images >= _FEWEST * part]


def _seeds(graph: BlockGraph, fastest: Subnet) -> list[Subnet]:
    return list(dict.fromkeys([graph.oracle, fastest, *_replace_one(graph)]))


def _replace_one(graph: BlockGraph) -> list[Subnet]:
    """For every alternative, the oracle with that one block in it.

    Not for the int8 variant of one: what it is in float32 says nearly all of it.
    """
    floats = {block.name: graph.in_float32(block) for block in graph.blocks}
    return [
        graph.replace(graph.oracle, block)
        for block in graph.blocks
        if not block.is_original and ((known := floats[block.name]) is None or known.is_original or block.is_network)
    ]
