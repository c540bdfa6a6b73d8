"""Milliseconds as text, with as many decimals as a network asks for: some take 0.05 ms, others 500."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from ..profiling.profile import Profile


def decimals(values: Iterable[float]) -> int:
    """How many decimals show two digits of the smallest of these numbers that is not 0; 2 to 6."""
    smallest = min((value for value in values if value > 0), default=1.0)
    return min(6, max(2, 1 - math.floor(math.log10(smallest))))


def decimals_for(profile: Profile) -> Callable[[float], str]:
    """What writes latencies of a profile's subnets, with the same decimals for all."""
    places = decimals([*(point.latency_ms for point in profile.front.points), profile.reference.median_ms])
    return lambda ms: f"{ms:.{places}f}"
