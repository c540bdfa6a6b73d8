"""Whether a phone got slower while it was measured, as phones do when they get hot."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ...latency import Latency
from ..conditions import Conditions

LIMIT = 1.05  # so many times slower at the end than at the beginning is said
_LEAST = 4  # rounds in a quarter: fewer say nothing


def throttling(samples_ms: Sequence[float]) -> float | None:
    """How many times slower the last quarter of the rounds was than the first, by their medians.

    None unless it is more than 5%, and more than the first quarter's own spread: what wavers anyway is no throttling.
    """
    quarter = len(samples_ms) // 4
    if quarter < _LEAST:
        return None
    first, last = samples_ms[:quarter], samples_ms[-quarter:]
    before, after = median(first), median(last)
    if after <= before * LIMIT or after - before <= Latency.from_samples(first).spread_ms:
        return None
    return after / before


def warning(slowdown: float, rounds: int, conditions: Conditions) -> str:
    """What to say about it."""
    text = (
        f"warning: the device got {slowdown - 1:.0%} slower while it was measured (the longest chain: the median of "
        f"the last {rounds // 4} of {rounds} rounds against the first {rounds // 4})"
    )
    if changes := conditions.changes():
        text += f"; {' and '.join(changes)}"
    return text + "; measure again with --cool, or in fewer rounds"
