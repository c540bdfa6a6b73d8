"""Which alternatives a supernet can go without: fewer to train, to export, to time and to store.

Judged before the first gradient step, by costs and local losses, in two steps:

*Dominated* alternatives go first, whatever the limit of storage: another alternative between the same cuts costs no
more and has no larger local loss, or the original block costs less. A loss that is lower by less than 2% does not count
as lower. What costs as much as the original stays: multiply-accumulates do not tell what another activation or another
type of layer is worth. So do alternatives without parameters: there is nothing to train or to store.

Where storage is still above its limit, the alternatives follow that the *front is hardly worse without*, for the bytes
that they take: one after the other, the one whose absence raises the front the least a byte. The front is the least sum
of local losses within each of several budgets; it is taken in the mean over guesses of what is not known yet: what the
losses will be after training, which differ from today's by the factor that `doubted` draws, and what blocks cost on the
device. What is nearly as good as another stays in some of them, and what is never near the front in none.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.graph import Block, BlockGraph
from .subnet_draws import doubted

_MARGIN = 0.02  # of a loss, which is measured on few pictures
_TICKS = 1000  # of the oracle's cost: what costs are rounded to
_BUDGETS = (0.4, 0.98, 10)  # shares of the oracle's cost: the first, the last, how many
_GUESSES = 8

Table = NDArray[np.float64]  # (guesses, ticks + 1): the least loss within so many ticks


@dataclass(frozen=True)
class Thinned:
    """The names of alternatives to leave out: `dominated` ones, and those that go for `storage`.

    `before` and `after` are the parameters of all blocks over the original ones', which is what they take to store.
    """

    dominated: tuple[str, ...]
    storage: tuple[str, ...]
    before: float
    after: float

    @property
    def names(self) -> tuple[str, ...]:
        """All that is left out."""
        return (*self.dominated, *self.storage)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Thinned:
        """What `asdict` gave, read from json."""
        return cls(tuple(document["dominated"]), tuple(document["storage"]), document["before"], document["after"])


def thin(
    graph: BlockGraph,
    cost: Mapping[str, float],
    losses: Mapping[str, float],
    limit: float,
    guesses: Sequence[Mapping[str, float]] = (),
) -> Thinned:
    """What to leave out of `graph` so that all blocks take at most `limit` times what the original ones do.

    `cost` is a number for each block, `losses` the local loss of each alternative, finite. `guesses` are other costs
    that blocks may turn out to have, which the front is judged by as much as by `cost`. Original blocks always stay,
    and so does what has no parameters. Dominated alternatives go even where `limit` has room for them.
    """
    own = sum(block.params for block in graph.blocks if block.is_original)
    dominated = _dominated(graph, cost, losses)
    left = {block.name: block for block in graph.blocks if block.name not in dominated}
    stored = sum(block.params for block in left.values())
    for_storage: list[str] = []
    fronts = [_Fronts(graph, each, losses) for each in (cost, *guesses)]
    while stored > limit * own:
        by_each = [front.without_each(list(left.values())) for front in fronts]
        worse = {name: sum(found[name] for found in by_each) for name in left}
        candidates = [block for block in left.values() if not block.is_original and block.params]
        if not candidates:
            break
        goes = min(candidates, key=lambda block: (worse[block.name] / block.params, -block.params))
        for_storage.append(goes.name)
        stored -= goes.params
        del left[goes.name]
    before = sum(block.params for block in graph.blocks)
    return Thinned(tuple(dominated), tuple(for_storage), before / max(own, 1), stored / max(own, 1))


def _dominated(graph: BlockGraph, cost: Mapping[str, float], losses: Mapping[str, float]) -> list[str]:
    found: list[str] = []
    # The dearest first, and of equally dear ones the worst: of two that dominate each other, one stays.
    for block in sorted(graph.blocks, key=lambda block: (-cost[block.name], -losses.get(block.name, 0.0))):
        if block.is_original or not block.params:
            continue
        others = [
            other
            for other in graph.leaving[block.start]
            if other.end == block.end and other is not block and other.name not in found
        ]
        cheaper = [
            other
            for other in others
            if cost[other.name] < cost[block.name] or (cost[other.name] == cost[block.name] and not other.is_original)
        ]
        least = (1 - _MARGIN) * min((losses.get(other.name, 0.0) for other in cheaper), default=np.inf)
        if losses[block.name] >= least:
            found.append(block.name)
    return found


class _Fronts:
    """The least sum of losses within each of some costs, for each of `_GUESSES` guesses of the losses.

    A cost that no path meets counts like all losses together.
    """

    def __init__(self, graph: BlockGraph, cost: Mapping[str, float], losses: Mapping[str, float]) -> None:
        oracle = sum(cost[name] for name in graph.oracle) or 1.0
        self._end = graph.end
        self._ticks = {name: round(_TICKS * each / oracle) for name, each in cost.items()}
        rng = random.Random("thinning")
        guesses = [doubted(graph, losses, rng) for _ in range(_GUESSES)]
        self._losses = {
            block.name: np.array([guess[block.name] for guess in guesses])[:, None] for block in graph.blocks
        }
        self._unmet = max(sum(guess.values()) for guess in guesses)
        self._budgets = [round(share * _TICKS) for share in np.linspace(*_BUDGETS)]

    def without_each(self, blocks: Sequence[Block]) -> dict[str, float]:
        """By how much the front of a graph with these blocks is worse without each of them, in the mean."""
        to_here, from_here = self._tables(blocks), self._tables(blocks, backwards=True)
        through = {block.name: self._through(block, to_here[block.start], from_here[block.end]) for block in blocks}
        worse = {}
        for block in blocks:
            # Every path takes exactly one of the blocks that cross the place behind this cut.
            crossing = [other.name for other in blocks if other.start <= block.start < other.end]
            others = [through[name] for name in crossing if name != block.name]
            now = np.min([through[block.name], *others], axis=0, initial=self._unmet)
            worse[block.name] = float((np.min(others, axis=0, initial=self._unmet) - now).mean())
        return worse

    def _tables(self, blocks: Sequence[Block], backwards: bool = False) -> list[Table]:
        """For each cut, the least loss on a way from the first cut to it, or from it to the last."""
        tables = [np.full((_GUESSES, _TICKS + 1), np.inf) for _ in range(self._end + 1)]
        tables[self._end if backwards else 0][:] = 0.0
        for block in sorted(blocks, key=lambda block: -block.start if backwards else block.end):
            known, reached = (block.end, block.start) if backwards else (block.start, block.end)
            ticks = self._ticks[block.name]
            if ticks <= _TICKS:
                longer = tables[reached][:, ticks:]
                ways = tables[known][:, : _TICKS + 1 - ticks] + self._losses[block.name]
                np.minimum(longer, ways, out=longer)
        return tables

    def _through(self, block: Block, to_here: Table, from_here: Table) -> Table:
        """The least loss of a path that takes `block`, of shape (guesses, budgets)."""
        found = np.full((_GUESSES, len(self._budgets)), np.inf)
        for number, budget in enumerate(self._budgets):
            left = budget - self._ticks[block.name]
            if left >= 0:
                ways = to_here[:, : left + 1] + from_here[:, left::-1]
                found[:, number] = ways.min(axis=1) + self._losses[block.name][:, 0]
        return found
