"""What a border between two blocks costs, on devices that join the blocks of a subnet to one program.

Alone, a block brings its features from the caller's layout, and where it is int8 from float32, and back. In a joined
program two neighbours of one precision spare that; an int8 block beside a float32 one converts still. So the original
blocks that meet at a cut are timed in pairs, in each combination of precisions: what two take less together than each
alone is what the border costs where they run alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..devices.base import Session
from ..graph.graph import PRECISIONS, BlockGraph

_LEAST_LEFT = 0.05  # of what a block takes alone, when what its borders cost then is taken off


def neighbours(session: Session) -> list[tuple[str, str]]:
    """At each inner cut the original blocks that meet there, in each precision, where a session joins them."""
    graph = session.pack.graph
    if session.stamps_cuts:
        return []
    originals = {precision: graph.originals(precision) for precision in PRECISIONS}
    pairs = [
        (originals[before].get(cut - 1), originals[after].get(cut))
        for before, after in itertools.product(PRECISIONS, PRECISIONS)
        for cut in range(1, graph.end)
    ]
    return [(one.name, other.name) for one, other in pairs if one and other]


@dataclass(frozen=True)
class Borders:
    """What pairs of neighbours tell: `saved_ms[cut, precision before it, precision after it]`, empty where no device
    joins blocks."""

    graph: BlockGraph
    saved_ms: Mapping[tuple[int, str, str], float]

    @classmethod
    def of(cls, graph: BlockGraph, chains_ms: Mapping[tuple[str, ...], float]) -> Borders:
        """From what chains take, in ms, of which pairs of neighbours count, and blocks alone."""
        saved = {}
        for chain, ms in chains_ms.items():
            blocks = [graph[name] for name in chain]
            if len(blocks) == 2 and all(block.kind == "original" for block in blocks):
                one, other = blocks
                saved[one.end, one.precision, other.precision] = sum(chains_ms[name,] for name in chain) - ms
        return cls(graph, saved)

    def among_its_like(self, name: str, alone_ms: float) -> float:
        """What a block adds to a program of blocks of its precision, in ms: half of each of its borders is its own."""
        block = self.graph[name]
        ends = [self._saved(cut, block.precision) for cut in (block.start, block.end)]
        return max(_LEAST_LEFT * alone_ms, alone_ms - sum(ends) / 2)

    def conversions(self, names: Iterable[str]) -> float:
        """What a subnet takes beyond that, in ms, because blocks of two precisions meet in it. A skip passes on what it
        is given."""
        blocks = [block for block in map(self.graph.__getitem__, names) if block.kind != "skip"]
        return sum(
            self._conversion(one.end, one.precision, other.precision) for one, other in itertools.pairwise(blocks)
        )

    def _conversion(self, cut: int, before: str, after: str) -> float:
        if before == after or (cut, before, after) not in self.saved_ms:
            return 0.0
        return max(0.0, (self._saved(cut, before) + self._saved(cut, after)) / 2 - self.saved_ms[cut, before, after])

    def _saved(self, cut: int, precision: str) -> float:
        return max(0.0, self.saved_ms.get((cut, precision, precision), 0.0))
