"""An evaluation as a program: run a block, score a subnet, free a slot.

Subnets share prefixes, and `compile_plan` writes down how every distinct prefix is run once (see `walk`); a device
only interprets that, and knows in advance how much feature memory it takes. The label's slot stays full to the end,
every other one is freed by the plan. What a device keeps from one plan to the next is part of the plan too: where it
begins, and what it keeps and drops.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from ..errors import GraphError, PlanError
from ..graph.graph import BlockGraph, Subnet
from ..plurals import number_of
from .check import Prefix, check_instructions
from .instructions import (
    INPUT,
    LABEL,
    Drop,
    Free,
    Instruction,
    Keep,
    Recall,
    Run,
    Score,
    instruction_from_json,
    instruction_to_json,
    list_of,
    strings,
    whole,
)
from .walk import walk_trie

__all__ = [
    "INPUT",
    "LABEL",
    "OPERANDS",
    "Drop",
    "Free",
    "Instruction",
    "Keep",
    "Plan",
    "Prefix",
    "Recall",
    "Run",
    "Score",
    "check_metrics",
    "compile_plan",
]

OPERANDS = ("output", "oracle", "label")
_FIELDS = {"subnets", "metrics", "slots", "peak_bytes", "block_runs", "instructions"}


@dataclass(frozen=True)
class Plan:
    """A checked program that scores `subnets[k]` by every one of `metrics`.

    `slots` is one more than the highest slot number. `peak_bytes` is the most feature memory in use at once for one
    image, the input, what later blocks read and what is kept of it included, the label not; while a block runs, its
    inputs and its output count. `block_runs` is the number of `Run` instructions.

    `kept` says what the device must have kept before, of every image: under each key, the feature that these blocks
    made; `keeps` is the same for afterwards, and `kept_bytes` the larger of their sizes for one image. A plan whose
    `kept` is None has nothing to do with what is kept, and leaves it as it is. Build one by `compile_plan` or
    `Plan.from_json`.
    """

    instructions: tuple[Instruction, ...]
    slots: int
    subnets: tuple[Subnet, ...]
    metrics: tuple[str, ...]
    peak_bytes: int
    block_runs: int
    kept: Mapping[int, Prefix] | None = None
    keeps: Mapping[int, Prefix] | None = None
    kept_bytes: int = 0

    def peak_over(self, images: int) -> int:
        """The most feature memory in use at once, in bytes, while it is run on so many images one after another."""
        return self.peak_bytes + (images - 1) * self.kept_bytes

    def to_json(self) -> dict[str, Any]:
        """A plain document; an instruction is a short list that begins with its name."""
        document = {
            "subnets": [list(subnet) for subnet in self.subnets],
            "metrics": list(self.metrics),
            "slots": self.slots,
            "peak_bytes": self.peak_bytes,
            "block_runs": self.block_runs,
            "instructions": [instruction_to_json(instruction) for instruction in self.instructions],
        }
        if self.kept is not None:
            document["kept"] = [[key, list(prefix)] for key, prefix in self.kept.items()]
            document["kept_bytes"] = self.kept_bytes
        return document

    @classmethod
    def from_json(cls, graph: BlockGraph, metrics: Mapping[str, tuple[str, ...]], doc: object) -> Plan:
        """Read what `to_json` wrote, and trust none of it: every instruction is checked before the plan is returned.

        `metrics` are those of the pack, as for `compile_plan`; a plan may use some of them.

        Raises PlanError when the document has another form, evaluates nothing, names an unknown block, subnet, metric,
        slot or key, reads an empty slot, overwrites a full one, runs a block on features that are not the ones it reads
        or not of one path, scores a subnet by another one's output or by other operands than the metric's, leaves one
        unscored or a slot unfreed, or misstates its size.
        """
        if not isinstance(doc, dict) or doc.keys() not in (_FIELDS, _FIELDS | {"kept", "kept_bytes"}):
            raise PlanError(
                f"a plan must be an object with exactly {', '.join(sorted(_FIELDS))}, and perhaps kept, kept_bytes"
            )
        names = strings(doc["metrics"], "metrics")
        if unknown := [name for name in names if name not in metrics]:
            raise PlanError(f"there is no metric {unknown[0]!r}; there are {', '.join(metrics)}")
        if len(set(names)) < len(names):
            raise PlanError(f"plan metrics must each be named once: got {', '.join(names)}")
        subnets = []
        for blocks in list_of(doc["subnets"], "subnets"):
            try:
                subnets.append(graph.subnet(strings(blocks, "a subnet")))
            except GraphError as error:
                raise PlanError(f"plan subnet {len(subnets)}: {error}") from None
        instructions = [instruction_from_json(entry) for entry in list_of(doc["instructions"], "instructions")]
        _require_any(subnets, names)
        kept = _kept(doc["kept"]) if "kept" in doc else None
        plan = _checked(graph, instructions, subnets, names, metrics, kept)
        for name in ("slots", "peak_bytes", "block_runs", "kept_bytes"):
            if name in doc and whole(doc[name], name) != getattr(plan, name):
                raise PlanError(f"the plan states {name} {doc[name]}; its instructions come to {getattr(plan, name)}")
        return plan


def compile_plan(
    graph: BlockGraph,
    subnets: Sequence[Iterable[str]],
    metrics: Mapping[str, tuple[str, ...]],
    limit_bytes: int | None = None,
    *,
    kept: Mapping[int, Prefix] | None = None,
    keep: Mapping[int, Prefix] | None = None,
) -> Plan:
    """The plan that scores each of `subnets` by each of `metrics` with the fewest block runs.

    `metrics` maps a metric to the operands of its program: "output" (of the subnet), "oracle" (the oracle's output) and
    "label". Where one wants "oracle", the oracle runs first, asked for or not, and its output is held to the end. A
    subnet that is asked for twice runs once and is scored twice. `limit_bytes` bounds `peak_bytes`.

    `kept` is what the device keeps already, and `keep` what it is to keep afterwards: prefixes that are kept under the
    same key now, and prefixes of `subnets` (or of the oracle, where it runs) under keys that are unused now.
    Raises GraphError for a subnet that is not a path of `graph`; PlanError over the limit, for an unknown operand, a
    metric that does not read the output, or when there is nothing to evaluate.
    """
    _require_any(subnets, metrics)
    check_metrics(metrics)
    paths = tuple(graph.subnet(names) for names in subnets)
    key_of = [{prefix: key for key, prefix in (keys or {}).items()} for keys in (kept, keep)]
    instructions = walk_trie(graph, paths, metrics, *key_of)
    plan = _checked(graph, instructions, paths, tuple(metrics), metrics, kept)
    if limit_bytes is not None and plan.peak_bytes > limit_bytes:
        raise PlanError(
            f"evaluating {number_of(len(paths), 'subnet')} needs {number_of(plan.peak_bytes, 'byte')} of features at "
            f"once, the limit is "
            f"{limit_bytes}; evaluate fewer at a time or raise the limit"
        )
    return plan


def check_metrics(metrics: Mapping[str, tuple[str, ...]]) -> None:
    """Raise PlanError for an operand that is unknown, or a metric that does not read the output."""
    for metric, operands in metrics.items():
        if not set(operands) <= set(OPERANDS) or "output" not in operands:
            raise PlanError(f"metric {metric!r} reads {operands}: known are {OPERANDS}, and it must read 'output'")


def _checked(
    graph: BlockGraph,
    instructions: Sequence[Instruction],
    subnets: Sequence[Subnet],
    names: Sequence[str],
    metrics: Mapping[str, Sequence[str]],
    kept: Mapping[int, Prefix] | None,
) -> Plan:
    found = check_instructions(graph, instructions, subnets, {name: metrics[name] for name in names}, kept)
    return Plan(
        tuple(instructions),
        found.slots,
        tuple(subnets),
        tuple(names),
        found.peak_bytes,
        found.block_runs,
        kept,
        None if kept is None else found.keeps,
        found.kept_bytes,
    )


def _require_any(subnets: Sequence[object], metrics: Sized) -> None:
    if not subnets or not metrics:
        raise PlanError(
            f"nothing to evaluate: {number_of(len(subnets), 'subnet')}, {number_of(len(metrics), 'metric')}; give at "
            f"least one of each"
        )


def _kept(value: object) -> dict[int, Prefix]:
    kept: dict[int, Prefix] = {}
    for entry in list_of(value, "kept"):
        if len(list_of(entry, "kept")) != 2 or whole(entry[0], "key") in kept:
            raise PlanError(f"plan kept must be pairs of a key and blocks, each key once: got {str(value)[:80]}")
        kept[entry[0]] = strings(entry[1], f"key {entry[0]}")
    return kept
