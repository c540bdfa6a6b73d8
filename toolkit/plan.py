"""An evaluation as a program: run a block, score a subnet, free a slot.

Subnets share prefixes. Laid over each other they form a trie, and walking it depth first computes every distinct
prefix once, while features wait in numbered slots for the branches that still need them. `compile_plan` writes that
walk down as instructions; a device only interprets them, and knows in advance how much feature memory they take.

Slot 0 holds the input (the feature at cut 0) and slot 1 the label when a run begins; the label stays to the end, every
other slot is freed by the plan. A head reads several slots: where it starts, and the taps, which wait for the last
head that reads them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

from .errors import GraphError, PlanError
from .graph import BlockGraph, Subnet

INPUT, LABEL = 0, 1
OPERANDS = ("output", "oracle", "label")


@dataclass(frozen=True)
class Run:
    """Run `block` on the features in the slots `sources`; its output goes to slot `target`, which is empty.

    The sources are in the order of `BlockGraph.reads`: one, and for a head the taps as well.
    """

    block: str
    sources: tuple[int, ...]
    target: int


@dataclass(frozen=True)
class Score:
    """Give the slots `operands`, in this order, to the program of `metric`; its sums count for subnet `subnet`."""

    subnet: int
    metric: str
    operands: tuple[int, ...]


@dataclass(frozen=True)
class Free:
    """Forget what is in `slot`."""

    slot: int


Instruction: TypeAlias = Run | Score | Free


@dataclass(frozen=True)
class Plan:
    """A checked program that scores `subnets[k]` by every one of `metrics`.

    `slots` is one more than the highest slot number. `peak_bytes` is the most feature memory in use at once for one
    image, the input and the taps included, the label not; while a block runs, its inputs and its output count.
    `block_runs` is the number of `Run` instructions. Build it by `compile_plan` or `Plan.from_json`.
    """

    instructions: tuple[Instruction, ...]
    slots: int
    subnets: tuple[Subnet, ...]
    metrics: tuple[str, ...]
    peak_bytes: int
    block_runs: int

    def to_json(self) -> dict[str, Any]:
        """A plain document; an instruction is a short list that begins with its name."""
        return {
            "subnets": [list(subnet) for subnet in self.subnets],
            "metrics": list(self.metrics),
            "slots": self.slots,
            "peak_bytes": self.peak_bytes,
            "block_runs": self.block_runs,
            "instructions": [_instruction_to_json(instruction) for instruction in self.instructions],
        }

    @classmethod
    def from_json(cls, graph: BlockGraph, doc: object) -> Plan:
        """Read what `to_json` wrote, and trust none of it: the program is followed step by step before it is returned.

        Raises PlanError when the document has another form, names an unknown block, subnet, metric or slot, reads an
        empty slot, overwrites a full one, runs a block on features that are not the ones it reads or not of one path,
        scores a subnet by another one's output, leaves one unscored or a slot unfreed, or misstates its size.
        """
        fields = {"subnets", "metrics", "slots", "peak_bytes", "block_runs", "instructions"}
        if not isinstance(doc, dict) or doc.keys() != fields:
            raise PlanError(f"a plan must be an object with exactly {', '.join(sorted(fields))}")
        metrics = _strings(doc["metrics"], "metrics")
        subnets = []
        for names in _list(doc["subnets"], "subnets"):
            try:
                subnets.append(graph.subnet(_strings(names, "a subnet")))
            except GraphError as error:
                raise PlanError(f"plan subnet {len(subnets)}: {error}") from None
        instructions = [_instruction_from_json(entry) for entry in _list(doc["instructions"], "instructions")]
        plan = _checked(graph, instructions, subnets, metrics)
        for name in ("slots", "peak_bytes", "block_runs"):
            if _integer(doc[name], name) != getattr(plan, name):
                raise PlanError(f"the plan states {name} {doc[name]}; its instructions come to {getattr(plan, name)}")
        return plan


def compile_plan(
    graph: BlockGraph,
    subnets: Sequence[Iterable[str]],
    metrics: Mapping[str, tuple[str, ...]],
    limit_bytes: int | None = None,
) -> Plan:
    """The plan that scores each of `subnets` by each of `metrics` with the fewest block runs.

    `metrics` maps a metric to the operands of its program: "output" (of the subnet), "oracle" (the oracle's output) and
    "label". Where one wants "oracle", the oracle runs first, asked for or not, and its output is kept to the end. A
    subnet that is asked for twice runs once and is scored twice. `limit_bytes` bounds `peak_bytes`.
    Raises GraphError for a subnet that is not a path of `graph`; PlanError over the limit, for an unknown operand, a
    metric that does not read the output, or when there is nothing to evaluate.
    """
    if not subnets or not metrics:
        raise PlanError(
            f"nothing to evaluate: {len(subnets)} subnets, {len(metrics)} metrics; give at least one of each"
        )
    for metric, operands in metrics.items():
        if not set(operands) <= set(OPERANDS) or "output" not in operands:
            raise PlanError(f"metric {metric!r} reads {operands}: known are {OPERANDS}, and it must read 'output'")
    paths = tuple(graph.subnet(names) for names in subnets)
    walk = _Walk(graph, paths, metrics)
    plan = _checked(graph, walk.instructions, paths, tuple(metrics))
    if limit_bytes is not None and plan.peak_bytes > limit_bytes:
        raise PlanError(
            f"evaluating {len(paths)} subnets needs {plan.peak_bytes} bytes of features at once, the limit is "
            f"{limit_bytes}; evaluate fewer at a time or raise the limit"
        )
    return plan


@dataclass
class _Node:
    """One distinct prefix: where it ends, what goes on from there, and the numbers of the subnets that it completes."""

    cut: int
    children: dict[str, _Node] = field(default_factory=dict)
    completes: list[int] = field(default_factory=list)
    need: int = 0


class _Walk:
    """The depth-first walk of the trie of `paths`, as instructions."""

    def __init__(self, graph: BlockGraph, paths: Sequence[Subnet], metrics: Mapping[str, tuple[str, ...]]) -> None:
        self.graph, self.metrics = graph, metrics
        self.instructions: list[Instruction] = []
        self._unused = count(2)
        self._freed: list[int] = []
        self._oracle_slot = -1
        self._oracle_is_read = any("oracle" in operands for operands in metrics.values())
        root = _Node(0)
        if self._oracle_is_read:
            self._insert(root, graph.oracle)
        for number, path in enumerate(paths):
            self._insert(root, path).completes.append(number)
        self._measure(root)
        self._visit(root, {0: INPUT}, (), on_oracle=True)
        if self._oracle_is_read:
            self._free(self._oracle_slot)

    def _insert(self, root: _Node, path: Subnet) -> _Node:
        node = root
        for name in path:
            node = node.children.setdefault(name, _Node(self.graph[name].end))
        return node

    def _measure(self, node: _Node) -> int:
        """Note, bottom up, the most bytes that the walk from a node on needs, the node's own feature included."""
        own = self.graph.cuts[node.cut].bytes
        *others, last = sorted(map(self._measure, node.children.values())) or [0]
        if node.cut in self.graph.taps:
            node.need = own + last
            return node.need
        outputs = [self.graph.cuts[child.cut].bytes for child in node.children.values()]
        node.need = max(own + max(outputs, default=0), own + max(others, default=0), last)
        return node.need

    def _in_order(self, node: _Node, on_oracle: bool) -> Iterator[tuple[str, _Node, bool]]:
        """The children, those on the oracle's path marked.

        The last one visited no longer has to leave the node's feature waiting, so the hungriest goes last. But when
        scores compare with the oracle, its output must be there before any of them.
        """

        def place(name: str) -> tuple[bool, int]:
            return not (self._oracle_is_read and is_oracle(name)), node.children[name].need

        def is_oracle(name: str) -> bool:
            return on_oracle and self.graph[name].kind == "original"

        for name in sorted(node.children, key=place):
            yield name, node.children[name], is_oracle(name)

    def _visit(self, node: _Node, held: Mapping[int, int], spent: tuple[int, ...], on_oracle: bool) -> None:
        """Walk on from a node. `held` are the slots of its own cut and of the taps before it, by cut.

        Of these, `spent` are the slots that nobody reads any more after the walk: its last run frees them.
        """
        if not node.children:
            self._finish(node, held[node.cut], on_oracle)
        waiting = {cut: slot for cut, slot in held.items() if cut in self.graph.taps}
        left = len(node.children)
        for name, child, still_on_oracle in self._in_order(node, on_oracle):
            target = heapq.heappop(self._freed) if self._freed else next(self._unused)
            block = self.graph[name]
            self.instructions.append(Run(name, tuple(held[cut] for cut in self.graph.reads(block)), target))
            left -= 1
            ending = () if left else (*spent, held[node.cut])
            # Only the head reads the taps, so that they wait until it has run.
            over = [slot for slot in ending if block.end == self.graph.end or slot not in waiting.values()]
            for slot in over:
                self._free(slot)
            later = tuple(slot for slot in ending if slot not in over)
            self._visit(child, {**waiting, child.cut: target}, later, still_on_oracle)

    def _finish(self, node: _Node, slot: int, on_oracle: bool) -> None:
        keep = on_oracle and self._oracle_is_read
        if keep:
            self._oracle_slot = slot
        slots = {"output": slot, "oracle": self._oracle_slot, "label": LABEL}
        for number in node.completes:
            for metric, operands in self.metrics.items():
                self.instructions.append(Score(number, metric, tuple(slots[operand] for operand in operands)))
        if not keep:
            self._free(slot)

    def _free(self, slot: int) -> None:
        self.instructions.append(Free(slot))
        if slot != INPUT:
            heapq.heappush(self._freed, slot)


def _checked(
    graph: BlockGraph, instructions: Sequence[Instruction], subnets: Sequence[Subnet], metrics: Sequence[str]
) -> Plan:
    """Follow the program, knowing of each full slot the blocks that made what it holds, and add up what it takes."""
    made_by: dict[int, tuple[str, ...]] = {INPUT: ()}
    slots, block_runs = LABEL + 1, 0
    alive = peak = graph.cuts[0].bytes
    scored: set[tuple[int, str]] = set()

    def cut(path: tuple[str, ...]) -> int:
        return graph[path[-1]].end if path else 0

    def read(slot: int, step: str) -> tuple[str, ...]:
        if slot not in made_by:
            raise PlanError(f"plan {step} reads slot {slot}, which is empty")
        return made_by[slot]

    for number, instruction in enumerate(instructions):
        step = f"instruction {number}"
        match instruction:
            case Run(name, sources, target):
                paths = [read(slot, step) for slot in sources]
                if name not in graph:
                    raise PlanError(f"plan {step} runs block {name!r}, which this pack does not have")
                block = graph[name]
                cuts = tuple(map(cut, paths))
                if cuts != graph.reads(block):
                    raise PlanError(
                        f"plan {step} runs block {name!r} on the features at cuts {cuts}; it reads {graph.reads(block)}"
                    )
                path = paths[0]
                if any(other != path[: len(other)] for other in paths):
                    raise PlanError(f"plan {step} runs block {name!r} on features of different paths")
                if target in made_by or not LABEL < target <= slots:
                    raise PlanError(f"plan {step} writes slot {target}: it must be empty, from {LABEL + 1} to {slots}")
                made_by[target] = (*path, name)
                slots = max(slots, target + 1)
                block_runs += 1
                alive += graph.cuts[block.end].bytes
                peak = max(peak, alive)
            case Score(subnet, metric, operands):
                if not 0 <= subnet < len(subnets) or metric not in metrics or (subnet, metric) in scored:
                    raise PlanError(f"plan {step} scores subnet {subnet} by {metric!r}: unknown, or scored already")
                scored.add((subnet, metric))
                read_from = [read(slot, step) for slot in operands if slot != LABEL]
                own = subnets[subnet]
                if own not in read_from or any(path not in (own, graph.oracle) for path in read_from):
                    raise PlanError(f"plan {step} scores subnet {subnet} by features that are not its own output")
            case Free(slot):
                alive -= graph.cuts[cut(read(slot, step))].bytes
                del made_by[slot]
    if made_by:
        raise PlanError(f"the plan never frees slots {sorted(made_by)}")
    if len(scored) != len(subnets) * len(metrics):
        raise PlanError(f"the plan makes {len(scored)} scores for {len(subnets)} subnets by {len(metrics)} metrics")
    return Plan(tuple(instructions), slots, tuple(subnets), tuple(metrics), peak, block_runs)


def _instruction_to_json(instruction: Instruction) -> list[Any]:
    match instruction:
        case Run(block, sources, target):
            return ["run", block, list(sources), target]
        case Score(subnet, metric, operands):
            return ["score", subnet, metric, list(operands)]
        case Free(slot):
            return ["free", slot]


def _instruction_from_json(entry: object) -> Instruction:
    match entry:
        case ["run", str(block), list(sources), target]:
            return Run(block, tuple(_integer(slot, "slot") for slot in sources), _integer(target, "slot"))
        case ["score", subnet, str(metric), list(operands)]:
            return Score(_integer(subnet, "subnet"), metric, tuple(_integer(slot, "slot") for slot in operands))
        case ["free", slot]:
            return Free(_integer(slot, "slot"))
    raise PlanError(f"a plan instruction is run, score or free with its operands: got {str(entry)[:80]}")


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise PlanError(f"plan {what} must be a list: got {str(value)[:80]}")
    return value


def _strings(value: object, what: str) -> tuple[str, ...]:
    if not all(isinstance(entry, str) for entry in _list(value, what)):
        raise PlanError(f"plan {what} must be a list of strings: got {str(value)[:80]}")
    return tuple(_list(value, what))


def _integer(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise PlanError(f"plan {what} must be a whole number: got {str(value)[:80]}")
    return value
