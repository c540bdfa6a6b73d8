"""What points take of memory and energy, as columns of a table; what was not measured at all has none."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph.front import FrontPoint

_MEMORY = (
    "Resident: by how many MB (10⁶ bytes) a process of its own grows when it loads the network and infers with it, "
    "measured once; what the engine itself takes is not in it."
)
_ENERGY = "Energy: what an inference takes above what the device takes idle, median and IQR of {} measurements."


def cost_columns(points: Sequence[FrontPoint]) -> list[list[str]]:
    """The heads of columns with what points take of memory and energy, and the row of each point. A column is left out
    where nothing in it was measured."""
    columns = []
    if any(point.resident_mb is not None for point in points):
        columns.append(["resident MB", *(_or_not(point.resident_mb, ".1f") for point in points)])
    if any(point.energy_mj is not None for point in points):
        columns.append(["energy mJ", *(_or_not(point.energy_mj, ".3g") for point in points)])
        columns.append(["energy IQR mJ", *(_or_not(point.energy_spread_mj, ".2g") for point in points)])
    return [list(row) for row in zip(*columns)] if columns else [[] for _ in (None, *points)]


def _or_not(value: float | None, how: str) -> str:
    return "not measured" if value is None else format(value, how)


def cost_words(points: Sequence[FrontPoint]) -> list[str]:
    """A sentence on each of memory and energy, where it was measured."""
    words = [_MEMORY] if any(point.resident_mb is not None for point in points) else []
    if rounds := max((point.energy_repetitions for point in points), default=0):
        words.append(_ENERGY.format(rounds))
    return words
