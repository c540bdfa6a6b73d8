"""Which features are worth keeping: those that are expected to save most work for their bytes.

The next subnets are taken to descend from known ones: each goes along with a parent up to a cut of its path, every one
as likely as the others, and then its own way. What it goes along with must be run, unless a feature further down is
kept. `expected` children a parent make the number of those that need a prefix Poisson distributed, and siblings run it
once: a prefix that λ children need costs its last block with a probability of 1 - exp(-λ).
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from ..graph.graph import BlockGraph
from .check import Prefix, kept_before

_CERTAIN = 40.0  # so many children that one of them is sure to come
_COPYING = 5  # multiply-accumulates in the time in which a byte is copied, about


class Worth:
    """The expected saving of keeping prefixes, given how many children each subnet is `expected` to have.

    `certain` are paths that every plan needs whole.
    """

    def __init__(self, graph: BlockGraph, expected: Mapping[Prefix, float], certain: Iterable[Prefix] = ()) -> None:
        self._graph = graph
        self._size = {block.name: graph.cuts[block.end].bytes for block in graph.blocks}
        self._children: defaultdict[Prefix, float] = defaultdict(float)  # that need a prefix, as far as none is kept
        for path, children in expected.items():
            for length in range(1, len(path)):
                self._children[path[:length]] += children * (len(path) - length) / len(path)
        for path in certain:
            for length in range(1, len(path) + 1):
                self._children[path[:length]] += _CERTAIN
        self._kept: set[Prefix] = set()
        self._stays: set[Prefix] = set()
        self._copying = _COPYING if any(block.macs for block in graph.blocks) else 0

    def choose(self, made: Collection[Prefix], kept: Collection[Prefix], limit_bytes: int) -> list[Prefix]:
        """What to keep, of prefixes that are `made` or `kept` already: greedily, what saves most for each byte.

        A prefix is kept with what blocks behind it may read of the cuts on its way. One that is made must save more
        than copying it takes. Everything together has at most `limit_bytes`.
        """
        available = {*made, *kept}
        self._stays = set(kept)
        left = limit_bytes
        queue = [entry for prefix in sorted(available) if (entry := self._entry(prefix))]
        heapq.heapify(queue)
        while queue:
            _, prefix = heapq.heappop(queue)
            entry = self._entry(prefix)
            # What is kept by now may have made it worth less than others.
            if entry is None or (queue and entry > queue[0]):
                if entry:
                    heapq.heappush(queue, entry)
                continue
            together = self._together(prefix)
            size = sum(map(self._bytes, together))
            if size <= left and available.issuperset(together):
                left -= size
                for each in together:
                    self._keep(each)
        return sorted(self._kept)

    def _entry(self, prefix: Prefix) -> tuple[float, Prefix] | None:
        if prefix in self._kept:
            return None
        saving, size = self._saving(prefix), sum(map(self._bytes, self._together(prefix)))
        if saving <= (0 if prefix in self._stays else self._copying * size):
            return None
        return -saving / size, prefix

    def _saving(self, prefix: Prefix) -> float:
        """The work that is saved, in multiply-accumulates."""
        fewer = self._children[prefix]
        saving = 0.0
        for node in self._uncovered(prefix):
            before = self._children[node]
            work = max(1, self._graph[node[-1]].macs)
            saving += work * (math.exp(-max(0.0, before - fewer)) - math.exp(-before))
        return saving

    def _keep(self, prefix: Prefix) -> None:
        fewer = self._children[prefix]
        for node in self._uncovered(prefix):
            self._children[node] = max(0.0, self._children[node] - fewer)
        self._kept.add(prefix)

    def _uncovered(self, prefix: Prefix) -> list[Prefix]:
        """The prefix and those before it, back to one that is kept."""
        nodes = []
        for length in range(len(prefix), 0, -1):
            node = prefix[:length]
            if node in self._kept:
                break
            nodes.append(node)
        return nodes

    def _together(self, prefix: Prefix) -> list[Prefix]:
        """The prefix after those on its way that must be kept with it, as far as they are not kept yet."""
        if not self._graph.kept:
            return [prefix]
        return [each for each in (*kept_before(self._graph, prefix), prefix) if each not in self._kept]

    def _bytes(self, prefix: Prefix) -> int:
        return self._size[prefix[-1]]
