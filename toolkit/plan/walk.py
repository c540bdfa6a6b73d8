"""The depth-first walk of a trie of paths, written down as instructions.

Paths laid over each other form a trie. Walking it depth first runs every distinct prefix once, while features wait in
numbered slots for the branches that still need them. A prefix whose feature is kept already is not run: what lies
behind it is walked from there. A block may read several slots: where it starts, and what is kept for it of the cuts
before (`BlockGraph.kept`), which waits until the last head has run. The input waits until the end where blocks behind
the first cut read it, as whatever begins at a kept prefix may need it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from ..graph.graph import BlockGraph, Subnet
from .check import Prefix, kept_before
from .instructions import INPUT, LABEL, Drop, Free, Instruction, Keep, Recall, Run, Score


@dataclass
class _Node:
    """One distinct prefix: what goes on from there, and the numbers of the subnets that it completes."""

    prefix: Prefix
    cut: int
    children: dict[str, _Node] = field(default_factory=dict)
    completes: list[int] = field(default_factory=list)
    need: int = 0


def walk_trie(
    graph: BlockGraph,
    paths: Sequence[Subnet],
    metrics: Mapping[str, tuple[str, ...]],
    kept: Mapping[Prefix, int],
    keep: Mapping[Prefix, int],
) -> list[Instruction]:
    """The instructions of the walk of the trie of `paths`.

    `kept` are the keys of the prefixes that it begins from, `keep` those that it ends with: those that are in `kept`
    keep their keys, the others are prefixes of `paths` and have keys that are unused in `kept`.
    """
    walk = _Walk(graph, metrics, kept, keep)
    walk.over(paths)
    return walk.instructions


class _Walk:
    """The slots that are free at each moment of a walk, and the instructions so far."""

    def __init__(
        self,
        graph: BlockGraph,
        metrics: Mapping[str, tuple[str, ...]],
        kept: Mapping[Prefix, int],
        keep: Mapping[Prefix, int],
    ) -> None:
        self.graph, self.metrics = graph, metrics
        self.instructions: list[Instruction] = []
        self._kept, self._keep = kept, keep
        self._new = {prefix: key for prefix, key in keep.items() if prefix not in kept}
        self._input_is_read_later = 0 in graph.kept
        self._unused = count(2)
        self._freed: list[int] = []
        self._oracle_slot = -1
        self._oracle_is_read = any("oracle" in operands for operands in metrics.values())

    def over(self, paths: Sequence[Subnet]) -> None:
        """Walks the trie of these paths, once."""
        root = _Node((), 0)
        if self._oracle_is_read:
            self._insert(root, self.graph.oracle)
        for number, path in enumerate(paths):
            self._insert(root, path).completes.append(number)
        starts: list[_Node] = []
        if self._prune(root, starts):
            starts.append(root)
        elif not self._input_is_read_later:
            self._free(INPUT)
        for start in starts:
            self._measure(start)
        # The root frees the input, and the oracle's output must be there before any other score.
        for start in sorted(starts, key=lambda start: (not self._leads_to_oracle(start), start is not root)):
            self._walk_from(start)
        if self._oracle_is_read:
            self._free(self._oracle_slot)
        if self._input_is_read_later:
            self.instructions.append(Free(INPUT))
        self._drop(set(self._kept) - set(self._keep))

    def _insert(self, root: _Node, path: Subnet) -> _Node:
        node = root
        for name in path:
            if name not in node.children:
                node.children[name] = _Node((*node.prefix, name), self.graph[name].end)
            node = node.children[name]
        return node

    def _is_start(self, node: _Node) -> bool:
        return node.prefix in self._kept and all(each in self._kept for each in kept_before(self.graph, node.prefix))

    def _prune(self, node: _Node, starts: list[_Node]) -> bool:
        """Whether anything is left to do behind a node, or there, once what begins at kept prefixes is taken away.

        These are appended to `starts`.
        """
        for name, child in list(node.children.items()):
            needed = self._prune(child, starts)
            if self._is_start(child):
                if needed:
                    starts.append(child)
                needed = False
            if not needed:
                del node.children[name]
        is_oracle = self._oracle_is_read and node.prefix == self.graph.oracle
        return bool(node.children or node.completes or node.prefix in self._new or is_oracle)

    def _leads_to_oracle(self, start: _Node) -> bool:
        """Whether the oracle's output is made, or recalled, from here."""
        node = start
        while node.children:
            block = self.graph.oracle[len(node.prefix) : len(node.prefix) + 1]
            if not block or block[0] not in node.children:
                return False
            node = node.children[block[0]]
        return self._oracle_is_read and node.prefix == self.graph.oracle

    def _measure(self, node: _Node) -> int:
        """Note, bottom up, the most bytes that the walk from a node on needs, the node's own feature included."""
        own = self.graph.cuts[node.cut].bytes
        *others, last = sorted(map(self._measure, node.children.values())) or [0]
        if node.cut in self.graph.kept:
            node.need = own + last
            return node.need
        outputs = [self.graph.cuts[child.cut].bytes for child in node.children.values()]
        node.need = max(own + max(outputs, default=0), own + max(others, default=0), last)
        return node.need

    def _walk_from(self, start: _Node) -> None:
        on_oracle = start.prefix == self.graph.oracle[: len(start.prefix)]
        if not start.prefix:
            self._visit(start, {0: INPUT}, (), on_oracle)
            return
        before = kept_before(self.graph, start.prefix) if start.children else []
        held = {self.graph[prefix[-1]].end: self._recall(prefix) for prefix in (*before, start.prefix)}
        given = {0: INPUT} if self._input_is_read_later else {}
        self._visit(start, given | held, tuple(held[self.graph[prefix[-1]].end] for prefix in before), on_oracle)

    def _in_order(self, node: _Node, on_oracle: bool) -> Iterator[tuple[str, _Node, bool]]:
        """The children, those on the oracle's path marked.

        The last one visited no longer has to leave the node's feature waiting, so the hungriest goes last. But when
        scores compare with the oracle, its output must be there before any of them.
        """

        def place(name: str) -> tuple[bool, int]:
            return not (self._oracle_is_read and is_oracle(name)), node.children[name].need

        def is_oracle(name: str) -> bool:
            return on_oracle and self.graph[name].is_original

        for name in sorted(node.children, key=place):
            yield name, node.children[name], is_oracle(name)

    def _visit(self, node: _Node, held: Mapping[int, int], to_free: tuple[int, ...], on_oracle: bool) -> None:
        """Walk on from a node. `held` are the slots of its own cut and of what is kept of the cuts before it, by cut.

        Of these, `to_free` are the slots that nobody reads after what is walked from here: its last run frees them.
        """
        if not node.children:
            self._finish(node, held[node.cut], to_free, on_oracle)
        waiting = {cut: slot for cut, slot in held.items() if cut in self.graph.kept}
        left = len(node.children)
        for name, child, still_on_oracle in self._in_order(node, on_oracle):
            target = self._empty_slot()
            block = self.graph[name]
            self.instructions.append(Run(name, tuple(held[cut] for cut in self.graph.reads(block)), target))
            if child.prefix in self._new:
                self.instructions.append(Keep(target, self._new[child.prefix]))
            left -= 1
            ending = () if left else (*to_free, held[node.cut])
            # Any block up to the head may read what is kept, so that it waits until that has run.
            over = [slot for slot in ending if block.end == self.graph.end or slot not in waiting.values()]
            for slot in over:
                self._free(slot)
            later = tuple(slot for slot in ending if slot not in over)
            self._visit(child, {**waiting, child.cut: target}, later, still_on_oracle)

    def _finish(self, node: _Node, slot: int, to_free: tuple[int, ...], on_oracle: bool) -> None:
        """The end of a branch: an output, or a feature that is made only to be kept."""
        keep = on_oracle and self._oracle_is_read and node.cut == self.graph.end
        if keep:
            self._oracle_slot = slot
        slots = {"output": slot, "oracle": self._oracle_slot, "label": LABEL}
        for number in node.completes:
            for metric, operands in self.metrics.items():
                self.instructions.append(Score(number, metric, tuple(slots[operand] for operand in operands)))
        for each in (*to_free, *(() if keep else (slot,))):
            self._free(each)

    def _recall(self, prefix: Prefix) -> int:
        slot = self._empty_slot()
        self.instructions.append(Recall(self._kept[prefix], slot))
        return slot

    def _drop(self, prefixes: set[Prefix]) -> None:
        """Drop what is kept under these prefixes as soon as nothing recalls it any more."""
        dropped = {self._kept[prefix] for prefix in prefixes}
        after = {step.key: at for at, step in enumerate(self.instructions) if isinstance(step, Recall)}
        for key in sorted(dropped, key=lambda key: (after.get(key, -1), key), reverse=True):
            self.instructions.insert(after.get(key, -1) + 1, Drop(key))

    def _empty_slot(self) -> int:
        return heapq.heappop(self._freed) if self._freed else next(self._unused)

    def _free(self, slot: int) -> None:
        if slot != INPUT:
            heapq.heappush(self._freed, slot)
        elif self._input_is_read_later:
            return
        self.instructions.append(Free(slot))
