"""What lies at the edges of budgets: subnets that are a little over, and timings that do not tell on which side."""

from __future__ import annotations

from ..graph.front import Front, FrontPoint
from ..profiling.budgets import near_miss, over, tolerance
from ..profiling.profile import Profile
from .milliseconds import decimals_for


def beside(front: Front, budget_ms: float, allowed_ms: float, chosen: FrontPoint) -> str | None:
    """What stands beside a chosen point of a subnet that nearly met the budget: `0.6% over: top1 52.5%`."""
    missed = near_miss(front, allowed_ms, chosen)
    return f"{_percent(over(missed, budget_ms))} over: {_quality(missed)}" if missed else None


def notes(profile: Profile) -> list[str]:
    """A sentence on each choice that is a whole network, is over its budget, may be, or has a near miss."""
    found, ms = [], decimals_for(profile)
    for choice in profile.choices:
        point, limit = choice.point, choice.budget_ms
        latency, within = f"{ms(point.latency_ms)} ms", f"{ms(point.half_width_ms)} ms"
        too_slow = over(point, limit)
        if profile.graph[point.subnet[0]].is_network:
            found.append(
                f"{choice.budget}: no subnet of blocks within it is better than the network {point.subnet[0]!r} as one "
                "program, which is chosen."
            )
        if point.latency_ms > choice.allowed_ms:
            found.append(
                f"{choice.budget}: the fastest subnet takes {latency} ± {within}, {_percent(too_slow)} over the limit "
                f"of {ms(limit)} ms: its timing does not tell that it misses the budget."
            )
        elif too_slow > 0:
            found.append(
                f"{choice.budget}: the chosen subnet is {_percent(too_slow)} over the limit of {ms(limit)} ms, which "
                f"the tolerance of {choice.tolerance:.1%} allows."
            )
        elif point.latency_ms + point.half_width_ms > limit and point.subnet not in (
            profile.graph.oracle,
            profile.graph.reference,
        ):
            found.append(
                f"{choice.budget}: the chosen subnet's {latency} ± {within} (95% interval) reach over the limit of "
                f"{ms(limit)} ms."
            )
        missed = near_miss(profile.within_limits, choice.allowed_ms, point)
        if missed:
            reach = missed.latency_ms - missed.half_width_ms <= choice.allowed_ms
            found.append(
                f"{choice.budget}: a subnet of {ms(missed.latency_ms)} ms ± {ms(missed.half_width_ms)} ms is "
                f"{_percent(over(missed, limit))} over{', no more than its timing can tell' if reach else ''}, and has "
                f"{_quality(missed)}, the chosen one {_quality(point)}: --tolerance {tolerance(over(missed, limit))} "
                "takes it."
            )
    return found


def _quality(point: FrontPoint) -> str:
    quality = point.qualities[0] if point.qualities else None
    return f"{quality.metric} {quality.text}" if quality else "no quality measured"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else "under 0.1%"
