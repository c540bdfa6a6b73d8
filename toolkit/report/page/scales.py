"""From numbers to places in a picture: scales, ticks, and marks that must not overlap."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_CLOSE = 1e-9
_NARROWEST = 1e-3  # numbers that hardly differ are not drawn as if they did


@dataclass(frozen=True)
class Scale:
    """A straight line through (`low`, `start`) and (`high`, `stop`): numbers to pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def around(values: Iterable[float], least: float = 0.0, most: float = math.inf) -> tuple[float, float]:
    """The ends of an axis that holds all `values`, none of them at an end unless that is `least` or `most`."""
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    room = max(0.05 * (high - low), _NARROWEST * abs(high), _CLOSE)
    return max(least, low - room), min(most, high + room)


def ticks(low: float, high: float, at_most: int) -> list[tuple[float, str]]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`, at most `at_most` + 1 of them, and as text."""
    least = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - _CLOSE))
    decimals = max(0, -math.floor(math.log10(step) + _CLOSE))
    first, last = math.ceil(low / step - _CLOSE), math.floor(high / step + _CLOSE)
    return [(number * step, f"{number * step:.{decimals}f}") for number in range(first, last + 1)]


def lanes(spans: Sequence[tuple[float, float]]) -> list[int]:
    """For each span (from, to) the lowest lane in which it overlaps none of those before it in order of their begin."""
    ends: list[float] = []
    lane = [0] * len(spans)
    for at in sorted(range(len(spans)), key=lambda at: spans[at]):
        begin, end = spans[at]
        lane[at] = next((free for free, taken in enumerate(ends) if taken <= begin), len(ends))
        ends[lane[at] : lane[at] + 1] = [end]
    return lane
