"""Whether a device got slower while it was timed, as phones do when they get hot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ..devices.conditions import Conditions

LIMIT = 1.05  # a device that is slower at the end by more than this factor is reported
_LEAST = 5  # rounds that are compared at either end: from fewer, nothing can be said


@dataclass(frozen=True)
class Slowdown:
    """The anchor took `factor` times as long in the last `compared` of `rounds` as in the first `compared`."""

    factor: float
    rounds: int
    compared: int

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary with the same names."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Slowdown:
        """What `to_json` made."""
        return cls(document["factor"], document["rounds"], document["compared"])

    def in_words(self, stage: str, conditions: Conditions | None) -> str:
        """What to say about it, with what the device was like."""
        text = (
            f"the device got {self.factor - 1:.0%} slower during {stage} (the oracle: the median of the last "
            f"{self.compared} of {self.rounds} rounds against the first {self.compared})"
        )
        if conditions and (changes := conditions.changes()):
            text += f"; {' and '.join(changes)}"
        return text + "; latencies are corrected to its usual speed then: measure again when it is cool and idle"


def slowdown(anchor_ms: Sequence[float]) -> Slowdown | None:
    """How much slower the last quarter of the rounds was than the first, or the last five rounds, if they are more.

    None when the medians differ by at most 5%, or when the lower quartile at the end is not above the upper quartile
    at the beginning: latencies that always vary so much are no sign of heat. None for fewer than ten rounds.
    """
    compared = max(_LEAST, len(anchor_ms) // 4)
    if len(anchor_ms) < 2 * compared:
        return None
    first, last = sorted(anchor_ms[:compared]), sorted(anchor_ms[-compared:])
    factor = median(last) / median(first)
    left_out = compared // 8
    if factor <= LIMIT or last[left_out] <= first[-1 - left_out]:
        return None
    return Slowdown(factor, len(anchor_ms), compared)
