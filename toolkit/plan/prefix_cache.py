"""The prefix cache: which features a device keeps of every piece of data, and the plans that begin from them.

A device only does what its plans say; that the cache knows what it keeps, and chooses what to keep next, is decided
here, from what the subnets share and how good they were (see `prefix_worth`). Everything together stays within one
limit: what is kept of all images of all pieces, and what a plan needs besides while it runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from ..errors import PlanError
from ..graph.graph import BlockGraph, Subnet
from ..plurals import number_of
from .instructions import INPUT, Instruction, Recall, Run
from .plan import Plan, Prefix, check_metrics, compile_plan
from .prefix_worth import Worth
from .walk import walk_trie

_PARENTS = 25  # of the best subnets so far, from which the next are taken to descend
_NEW_SHARE = 0.25  # of the next subnets descend from those that are being evaluated now, whose quality nobody knows yet


@dataclass
class _Piece:
    """What is kept of a piece of data."""

    images: int
    kept: Mapping[int, Prefix] = field(default_factory=dict)
    bytes: int = 0  # for one image


class PrefixCache:
    """Decides what is kept on one device, within `limit_bytes` of features.

    Ask for a plan, run it, and say that it `ran`; when that failed, `forget` the piece.
    """

    def __init__(self, graph: BlockGraph, metrics: Mapping[str, tuple[str, ...]], limit_bytes: int) -> None:
        check_metrics(metrics)
        self.graph, self.metrics, self.limit_bytes = graph, dict(metrics), limit_bytes
        self._pieces: dict[str, _Piece] = {}
        self._quality: dict[Subnet, float] = {}
        # A plan holds one feature a cut at most, on the path that it is on, and the oracle's output.
        self._working_bytes = sum(cut.bytes for cut in graph.cuts) + graph.cuts[-1].bytes
        reads_oracle = any("oracle" in operands for operands in metrics.values())
        self._certain: Prefix | None = graph.oracle if reads_oracle else None

    def plan(self, subnets: Sequence[Sequence[str]], data: str, images: int) -> Plan:
        """The plan that scores `subnets` on the piece `data`, a name for so many images.

        Raises PlanError when it needs more than the limit, whatever is kept.
        """
        piece = self._pieces.setdefault(data, _Piece(images))
        kept = {prefix: key for key, prefix in piece.kept.items()}
        paths = [self.graph.subnet(names) for names in subnets]
        instructions = walk_trie(self.graph, paths, self.metrics, kept, {})
        made = [
            prefix
            for prefix in _made(instructions, piece.kept)
            if prefix == self._certain or self._cut(prefix) < self.graph.end
        ]
        # The image that a plan is run on may hold both what was kept of it and what is to be kept: where there is no
        # room for that, because another piece has come in between, nothing new is kept.
        for new in (made, []):
            worth = Worth(self.graph, self._expected(paths), [self._certain] if self._certain else [])
            chosen = worth.choose(new, kept, self._room(data))
            unused = (key for key in count() if key not in piece.kept)
            keep = {kept[prefix] if prefix in kept else next(unused): prefix for prefix in chosen}
            plan = compile_plan(self.graph, paths, self.metrics, kept=piece.kept, keep=keep)
            needed = self._others(data) + plan.peak_over(images)
            if needed <= self.limit_bytes:
                return plan
        raise PlanError(
            f"evaluating {number_of(len(subnets), 'subnet')} needs {number_of(needed, 'byte')} of features at once, "
            f"the limit is "
            f"{self.limit_bytes}; evaluate fewer at a time or raise the limit"
        )

    def ran(self, plan: Plan, data: str, qualities: Sequence[float]) -> None:
        """Notes that a plan did what it says on a piece, and how good its subnets are."""
        assert plan.keeps is not None
        piece = self._pieces[data]
        piece.kept = plan.keeps
        piece.bytes = sum(self.graph.cuts[self._cut(prefix)].bytes for prefix in plan.keeps.values())
        self._quality |= zip(plan.subnets, qualities)

    def forget(self, data: str | None = None) -> None:
        """Notes that nothing is kept of a piece any more, or of none."""
        for name in [data] if data else list(self._pieces):
            self._pieces[name] = _Piece(self._pieces[name].images)

    def _expected(self, asked: Sequence[Subnet]) -> dict[Prefix, float]:
        """How many of the next subnets, as many as are asked for now, are expected to descend from each."""
        new = dict.fromkeys(asked)
        best = heapq.nlargest(_PARENTS, self._quality, key=lambda subnet: self._quality[subnet])
        expected: dict[Prefix, float] = {subnet: len(new) / len(best) for subnet in best}
        for subnet in new:
            expected[subnet] = expected.get(subnet, 0.0) + _NEW_SHARE
        return expected

    def _room(self, data: str) -> int:
        """The bytes that may be kept of each image of a piece: its share of the limit, as far as there is room."""
        room = self.limit_bytes - self._working_bytes
        piece = self._pieces[data]
        share = room * piece.images // sum(piece.images for piece in self._pieces.values())
        return min(share, room - self._others(data)) // (piece.images + 1)

    def _others(self, data: str) -> int:
        return sum(piece.images * piece.bytes for name, piece in self._pieces.items() if name != data)

    def _cut(self, prefix: Prefix) -> int:
        return self.graph[prefix[-1]].end


def _made(instructions: Sequence[Instruction], kept: Mapping[int, Prefix]) -> Iterator[Prefix]:
    """What the blocks that these instructions run make."""
    slots: dict[int, Prefix] = {INPUT: ()}
    for step in instructions:
        if isinstance(step, Recall):
            slots[step.slot] = kept[step.key]
        elif isinstance(step, Run):
            slots[step.target] = (*slots[step.sources[0]], step.block)
            yield slots[step.target]
