"""Whether a phone got slower while it was measured, as phones do when they get hot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ...latency import Latency

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


def warning(slowdown: float, rounds: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What to say about it; `before` and `after` are the states of the machine that `measure` reports."""
    text = (
        f"warning: the device got {slowdown - 1:.0%} slower while it was measured (the longest chain: the median of "
        f"the last {rounds // 4} of {rounds} rounds against the first {rounds // 4})"
    )
    heat = [max(hot) for state in (before, after) if (hot := [t for t in state["temperatures"].values() if t])]
    if len(heat) == 2:
        text += f"; its hottest sensor went from {heat[0]:.0f} to {heat[1]:.0f} °C"
    speeds = [max(khz) for state in (before, after) if (khz := [k for k in state["khz"] if k])]
    if len(speeds) == 2 and speeds[0] != speeds[1]:
        text += f", its clock from {speeds[0] / 1e6:.2f} to {speeds[1] / 1e6:.2f} GHz"
    return text + "; let it cool down and measure again, or measure in fewer rounds"
