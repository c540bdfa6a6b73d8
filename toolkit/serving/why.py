"""A decision of the controller in one line of English, with the numbers that it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .decision import Budgets, Kind, Point
from .sensors import Sensors
from .speed import Speed


def why(
    says: Kind,
    cause: Kind,
    points: Sequence[Point],
    here: int,
    to: int,
    speed: Speed,
    sensors: Sensors,
    budgets: Budgets,
    limit_ms: float,
    tried: int | None = None,
) -> str:
    """Why `to` runs from now on, and ran `here`; `says` is the decision's kind, `cause` what has changed. `tried` will
    be, after a while."""

    def milliseconds(at: int) -> float:
        return points[at].latency_ms * speed.slowdown * speed.tail

    def allowed(at: int) -> str:
        return f"{milliseconds(at):.2f} ms of {limit_ms:.2f} ms allowed"

    def named(at: int) -> str:
        return f"{points[at].latency_ms:.2f} ms"

    line = f"{_because(cause, speed, sensors, budgets, len(points))}: "
    if says is Kind.BOUNDED:
        line += "no more steps up in this minute; " if here == to else "the last switch of this minute; "
    if says is Kind.NOTHING_FITS:
        line += f"nothing fits; {named(to)}, the fastest, takes {allowed(to)}"
    elif here == to:
        line += f"{named(to)} takes {allowed(to)}"
    elif milliseconds(here) > limit_ms:
        line += f"{named(here)} would take {allowed(here)}; {named(to)} fits"
    elif cause is Kind.SLOWER and to < here:
        line += f"{named(here)} would take about {allowed(here)}; {named(to)} fits surely"
    else:
        line += f"from {named(here)} to {named(to)}, which takes {allowed(to)}"
    if points[to].resident_mb is None and (budgets.memory_mb is not None or sensors.memory_mb < math.inf):
        line += "; its memory is not known"
    if points[to].energy_mj is None and budgets.energy_mj is not None:
        line += "; its energy is not known"
    return line if tried is None else f"{line}; {named(tried)} will be tried"


def in_words(slowdown: float) -> str:
    """`1.30 times slower than profiled`."""
    if slowdown == 1.0:
        return "as fast as profiled"
    if slowdown < 1.0:
        return f"{1.0 / slowdown:.2f} times faster than profiled"
    return f"{slowdown:.2f} times slower than profiled"


def _because(cause: Kind, speed: Speed, sensors: Sensors, budgets: Budgets, points: int) -> str:
    if cause is Kind.NOISE:
        return f"percentile {budgets.percentile:.0f} is {speed.tail:.2f} times the median, {in_words(speed.slowdown)}"
    if cause is Kind.LOAD:
        return f"other programs have the processors for {100.0 * sensors.waited:.0f}% of the time"
    if cause is Kind.MEMORY and sensors.memory_mb < math.inf:
        return f"free memory leaves points of at most {sensors.memory_mb:.0f} MB"
    if cause is Kind.MEMORY:
        return "free memory leaves all points"
    if cause is Kind.HEAT:
        return f"heat leaves {sensors.hottest + 1} of {points} points"
    if cause is Kind.ENERGY:
        return "the battery is low" if sensors.saving else "the battery need not be spared"
    if cause is Kind.BUDGET:
        return f"other budgets, {in_words(speed.slowdown)}"
    return in_words(speed.slowdown)
