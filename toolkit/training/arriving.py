"""Last layers fitted once more, to the features that really arrive.

`initialise` fits every alternative to what the teacher gives it to read. In a subnet it reads what the alternatives
before it gave, and errors add up. Here subnets run over the same batches, cut by cut. At each cut, the alternatives
that end there are fitted again: from what arrives where they start, by any of the subnets, and from the teacher's own
feature, to the teacher's feature; then the subnets go on with what the fitted blocks give. So a block makes up for a
part of the error of those before it (the asymmetric reconstruction of Zhang et al., 2015, over many paths at once).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import chain

import torch

from ..elastic.supernet import Supernet
from ..graph.graph import Subnet
from .initialise import Example, Features, Work, fit, held_by_originals, held_out, teacher

_MOST_IMAGES = 128  # the features of every subnet are held in memory for all of them


def fit_arriving(
    supernet: Supernet,
    batches: Sequence[torch.Tensor],
    subnets: Sequence[Subnet],
    *,
    until: float = math.inf,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Fits the alternatives of `supernet` in place to what arrives on the ways of `subnets`; returns the local losses.

    `batches` are those of `initialise`; of each, so many images are taken that all have at most 128. Every subnet runs
    over all of them: few subnets, which the blocks can be right for, are better than many (see docs/training.md). A fit
    that makes the error worse on what is held out is undone. The local losses (on the teacher's own features, held out)
    may rise by it. Blocks whose turn comes after `until` (of `time.monotonic`), and those that no subnet reaches by way
    of another alternative, stay as they are. Blocks that read several cuts do, too, unless no
    alternative lies before all but their start.
    """
    most = max(1, _MOST_IMAGES // len(batches))
    fitting, held = held_out([batch[:most] for batch in batches])
    parts = [*fitting, *held]
    graph, first = supernet.graph, len(fitting)
    ways = [[_Way(supernet, subnet) for subnet in subnets] for _ in parts]
    losses: dict[str, float] = {}
    fixed = held_by_originals(supernet)
    first_replaced = min((block.start for block in supernet.alternatives()), default=0)
    with torch.no_grad():
        for cut, features in teacher(supernet, parts):
            for block in supernet.alternatives():
                if block.end != cut:
                    continue
                given: list[Example] = [([found[at] for at in graph.reads(block)], found) for found in features]
                arriving: list[list[Example]] = [
                    [(way.given(graph.reads(block), found), found) for way in along if block.start in way.arrived]
                    for along, found in zip(ways, features, strict=True)
                ]
                to_fit, to_judge = [*chain(*arriving[:first])], [*chain(*arriving[first:])]
                others_as_they_were = all(at <= first_replaced for at in graph.reads(block)[1:])
                if to_fit and others_as_they_were and time.monotonic() < until:
                    work = Work(supernet, block, fixed, given[:first] + to_fit, given[first:] + to_judge)
                    work.loss()
                    work.take(fit)
                losses[block.name] = Work(supernet, block, fixed, given[:first], given[first:]).loss()
                progress(len(losses), len(supernet.alternatives()))
            for along, found in zip(ways, features, strict=True):
                for way in along:
                    way.go_on(cut, found)
    return losses


class _Way:
    """A subnet on its way over a batch. `arrived` is what it gave at each cut that blocks still read, where that is not
    the teacher's feature."""

    def __init__(self, supernet: Supernet, subnet: Subnet) -> None:
        self._supernet = supernet
        self._ending_at = {supernet.graph[name].end: supernet.graph[name] for name in subnet}
        self.arrived: dict[int, torch.Tensor] = {}

    def go_on(self, cut: int, found: Features) -> None:
        """Runs the block that ends at `cut`, if one does, and forgets what no block reads behind it."""
        graph = self._supernet.graph
        block = self._ending_at.get(cut)
        if block is not None and cut < graph.end:
            reads = graph.reads(block)
            if not block.is_original or not self.arrived.keys().isdisjoint(reads):
                self.arrived[cut] = self._supernet.blocks[block.name](*self.given(reads, found))
        for at in list(self.arrived):
            if max(other.end for other in graph.blocks if at in (other.start, *other.reads)) <= cut:
                del self.arrived[at]

    def given(self, reads: Sequence[int], found: Features) -> list[torch.Tensor]:
        """What a block is given at the cuts that it reads."""
        return [self.arrived.get(at, found[at]) for at in reads]
