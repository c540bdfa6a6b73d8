"""What a plan is made of: run a block, score a subnet, free a slot; and what lets features outlive a plan.

Slots are numbered and last for one image. Slot 0 holds the input (the feature at cut 0) and slot 1 the label when a run
begins. Keys number the features that a device keeps of every image from one plan to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import PlanError

INPUT, LABEL = 0, 1
MOST_KEY = 2**31 - 1


@dataclass(frozen=True)
class Run:
    """Run `block` on the features in the slots `sources`; its output goes to slot `target`, which is empty.

    The sources are in the order of `BlockGraph.reads`: one, and what the block reads of earlier cuts.
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


@dataclass(frozen=True)
class Recall:
    """Put the feature that is kept under `key` into `slot`, which is empty. It stays kept."""

    key: int
    slot: int


@dataclass(frozen=True)
class Keep:
    """Keep the feature in `slot` under `key`, which is unused, for the plans to come. It stays in the slot as well."""

    slot: int
    key: int


@dataclass(frozen=True)
class Drop:
    """Keep the feature under `key` no longer."""

    key: int


Instruction: TypeAlias = Run | Score | Free | Recall | Keep | Drop


def instruction_to_json(instruction: Instruction) -> list[Any]:
    """A short list that begins with the instruction's name."""
    match instruction:
        case Run(block, sources, target):
            return ["run", block, list(sources), target]
        case Score(subnet, metric, operands):
            return ["score", subnet, metric, list(operands)]
        case Free(slot):
            return ["free", slot]
        case Recall(key, slot):
            return ["recall", key, slot]
        case Keep(slot, key):
            return ["keep", slot, key]
        case Drop(key):
            return ["drop", key]


def instruction_from_json(entry: object) -> Instruction:
    """Read what `instruction_to_json` wrote. Raises PlanError for anything else."""
    match entry:
        case ["run", str(block), list(sources), target]:
            return Run(block, tuple(whole(slot, "slot") for slot in sources), whole(target, "slot"))
        case ["score", subnet, str(metric), list(operands)]:
            return Score(whole(subnet, "subnet"), metric, tuple(whole(slot, "slot") for slot in operands))
        case ["free", slot]:
            return Free(whole(slot, "slot"))
        case ["recall", key, slot]:
            return Recall(whole(key, "key"), whole(slot, "slot"))
        case ["keep", slot, key]:
            return Keep(whole(slot, "slot"), whole(key, "key"))
        case ["drop", key]:
            return Drop(whole(key, "key"))
    raise PlanError(
        f"a plan instruction is run, score, free, recall, keep or drop with its operands: got {str(entry)[:80]}"
    )


def list_of(value: object, what: str) -> list[Any]:
    """A list of anything. Raises PlanError for something else."""
    if not isinstance(value, list):
        raise PlanError(f"plan {what} must be a list: got {str(value)[:80]}")
    return value


def strings(value: object, what: str) -> tuple[str, ...]:
    """A list of strings, as a tuple. Raises PlanError for something else."""
    if not all(isinstance(entry, str) for entry in list_of(value, what)):
        raise PlanError(f"plan {what} must be a list of strings: got {str(value)[:80]}")
    return tuple(list_of(value, what))


def whole(value: object, what: str) -> int:
    """A whole number. Raises PlanError for something else, such as a bool or 1.0."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise PlanError(f"plan {what} must be a whole number: got {str(value)[:80]}")
    return value
