"""Checks a plan before it runs: each instruction is done on the names of blocks in the place of features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import GraphError, PlanError
from ..graph.graph import BlockGraph, Subnet
from .instructions import INPUT, LABEL, MOST_KEY, Drop, Free, Instruction, Keep, Recall, Run, Score

Prefix = tuple[str, ...]
"""How a path begins, from cut 0 on: the blocks that made a feature."""


def kept_before(graph: BlockGraph, prefix: Prefix) -> list[Prefix]:
    """The prefixes that end on the way of `prefix` at cuts that later blocks may read, in the order of the cuts."""
    ends = [graph[name].end for name in prefix[:-1]]
    return [prefix[: at + 1] for at, end in enumerate(ends) if end in graph.kept]


@dataclass(frozen=True)
class Checked:
    """What the instructions of a plan come to; the fields mean what they mean in `Plan`."""

    slots: int
    peak_bytes: int
    block_runs: int
    kept_bytes: int
    keeps: Mapping[int, Prefix]


def check_instructions(
    graph: BlockGraph,
    instructions: Sequence[Instruction],
    subnets: Sequence[Subnet],
    metrics: Mapping[str, Sequence[str]],
    kept: Mapping[int, Prefix] | None,
) -> Checked:
    """Does the instructions one by one, without running a block, and says what they come to.

    `metrics` maps each metric to the operands of its program. `kept` is what is kept before the plan runs; None: the
    plan neither reads nor keeps such features. Raises PlanError for the first thing that is wrong.
    """
    check = _Check(graph, subnets, metrics, kept)
    for number, instruction in enumerate(instructions):
        check.take(number, instruction)
    return check.result()


class _Check:
    """Knows, for each slot that is full and for each key, the blocks that made the feature there."""

    def __init__(
        self,
        graph: BlockGraph,
        subnets: Sequence[Subnet],
        metrics: Mapping[str, Sequence[str]],
        kept: Mapping[int, Prefix] | None,
    ) -> None:
        self.graph, self.subnets, self.metrics = graph, subnets, metrics
        self.slots, self.block_runs = LABEL + 1, 0
        self._step = ""
        self._scored: set[tuple[int, str]] = set()
        # A feature is what one instruction made. A slot and a key may hold the same one; its bytes are counted once.
        self._features: list[Prefix] = []
        self._holders: Counter[int] = Counter()
        self._alive = self.peak_bytes = 0
        self._in_slot: dict[int, int] = {}
        self._under_key: dict[int, int] = {}
        self._may_keep = kept is not None
        for key, prefix in (kept or {}).items():
            self._require_kept(key, prefix)
            self._hold(self._under_key, key, self._new(prefix))
        self._kept_before = self._alive
        self._hold(self._in_slot, INPUT, self._new(()))

    def result(self) -> Checked:
        """After the last instruction."""
        if self._in_slot:
            raise PlanError(f"the plan never frees slots {sorted(self._in_slot)}")
        if len(self._scored) != len(self.subnets) * len(self.metrics):
            raise PlanError(
                f"the plan makes {len(self._scored)} scores for {len(self.subnets)} subnets by {len(self.metrics)} "
                "metrics"
            )
        keeps = {key: self._features[feature] for key, feature in sorted(self._under_key.items())}
        return Checked(self.slots, self.peak_bytes, self.block_runs, max(self._kept_before, self._alive), keeps)

    def take(self, number: int, instruction: Instruction) -> None:
        """Does one instruction."""
        self._step = f"plan instruction {number}"
        match instruction:
            case Run(name, sources, target):
                self._run(name, sources, target)
            case Score(subnet, metric, operands):
                self._score(subnet, metric, operands)
            case Free(slot):
                self._read(slot)
                self._release(self._in_slot, slot)
            case Recall(key, slot):
                feature = self._look_up(key)
                self._require_empty(slot)
                self._hold(self._in_slot, slot, feature)
            case Keep(slot, key):
                feature = self._read(slot)
                self._require_unused(key)
                if slot == INPUT:
                    raise PlanError(f"{self._step} keeps the input, which every plan is given")
                self._hold(self._under_key, key, feature)
            case Drop(key):
                self._look_up(key)
                self._release(self._under_key, key)

    def _run(self, name: str, sources: Sequence[int], target: int) -> None:
        paths = [self._features[self._read(slot)] for slot in sources]
        if name not in self.graph:
            raise PlanError(f"{self._step} runs block {name!r}, which this pack does not have")
        cuts, reads = tuple(map(self._cut, paths)), self.graph.reads(self.graph[name])
        if cuts != reads:
            raise PlanError(f"{self._step} runs block {name!r} on the features at cuts {cuts}; it reads {reads}")
        path = paths[0]
        if any(other != path[: len(other)] for other in paths):
            raise PlanError(f"{self._step} runs block {name!r} on features of different paths")
        self._require_empty(target)
        self._hold(self._in_slot, target, self._new((*path, name)))
        self.block_runs += 1

    def _score(self, subnet: int, metric: str, operands: Sequence[int]) -> None:
        what = f"{self._step} scores subnet {subnet}"
        known = 0 <= subnet < len(self.subnets) and metric in self.metrics
        if not known or (subnet, metric) in self._scored:
            raise PlanError(f"{what} by {metric!r}: unknown, or scored already")
        self._scored.add((subnet, metric))
        paths = [None if slot == LABEL else self._features[self._read(slot)] for slot in operands]
        wanted = self.metrics[metric]
        if [path is None for path in paths] != [operand == "label" for operand in wanted]:
            raise PlanError(f"{what}: metric {metric!r} reads other operands, {', '.join(wanted)}")
        outputs = {"label": None, "output": self.subnets[subnet], "oracle": self.graph.oracle}
        if paths != [outputs[operand] for operand in wanted]:
            raise PlanError(f"{what} by features that are not its own output")

    def _read(self, slot: int) -> int:
        if slot not in self._in_slot:
            raise PlanError(f"{self._step} reads slot {slot}, which is empty")
        return self._in_slot[slot]

    def _look_up(self, key: int) -> int:
        if key not in self._under_key:
            raise PlanError(f"{self._step} names key {key}, under which nothing is kept")
        return self._under_key[key]

    def _require_empty(self, slot: int) -> None:
        if slot in self._in_slot or not LABEL < slot <= self.slots:
            raise PlanError(f"{self._step} writes slot {slot}: it must be empty, from {LABEL + 1} to {self.slots}")
        self.slots = max(self.slots, slot + 1)

    def _require_unused(self, key: int) -> None:
        if not self._may_keep:
            raise PlanError(f"{self._step} keeps a feature, in a plan that does not say what is kept")
        if key in self._under_key or not 0 <= key <= MOST_KEY:
            raise PlanError(f"{self._step} keeps a feature under key {key}: it must be unused, from 0 to {MOST_KEY}")

    def _require_kept(self, key: int, prefix: Prefix) -> None:
        if not 0 <= key <= MOST_KEY:
            raise PlanError(f"the plan begins from key {key}: keys are from 0 to {MOST_KEY}")
        at = 0
        try:
            for name in prefix:
                block = self.graph[name]
                if block.start != at:
                    raise GraphError(f"block {name!r} starts at cut {block.start}, but the path is at cut {at}")
                at = block.end
        except GraphError as error:
            raise PlanError(f"plan key {key}: {error}") from None
        if not prefix:
            raise PlanError(f"plan key {key}: no blocks made what is kept there")

    def _cut(self, prefix: Prefix) -> int:
        return self.graph[prefix[-1]].end if prefix else 0

    def _new(self, prefix: Prefix) -> int:
        self._features.append(prefix)
        return len(self._features) - 1

    def _hold(self, holder: dict[int, int], number: int, feature: int) -> None:
        holder[number] = feature
        self._holders[feature] += 1
        if self._holders[feature] == 1:
            self._alive += self._bytes(feature)
            self.peak_bytes = max(self.peak_bytes, self._alive)

    def _release(self, holder: dict[int, int], number: int) -> None:
        feature = holder.pop(number)
        self._holders[feature] -= 1
        if not self._holders[feature]:
            self._alive -= self._bytes(feature)

    def _bytes(self, feature: int) -> int:
        return self.graph.cuts[self._cut(self._features[feature])].bytes
