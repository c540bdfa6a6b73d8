"""What a budget comes to on a front: the point that is chosen, and what lies close to the budget's edge."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BudgetError
from ..graph.front import Front, FrontPoint
from .settings import Budget

NEAR = 0.03  # a point that is over a budget by no more than this share of it nearly met it


@dataclass(frozen=True)
class Limits:
    """What a point may take besides time: megabytes (10^6 bytes) and millijoules an inference; None: any.

    What is not known of a point is within. Raises BudgetError for a limit that is no positive number.
    """

    memory_mb: float | None = None
    energy_mj: float | None = None

    def __post_init__(self) -> None:
        for what, value in (("memory", self.memory_mb), ("energy", self.energy_mj)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise BudgetError(f"the limit of {what} must be a positive number: got {value}")

    def __str__(self) -> str:
        each = ((self.memory_mb, "MB"), (self.energy_mj, "mJ"))
        return " and ".join(f"{value:g} {unit}" for value, unit in each if value is not None)


def within_limits(front: Front, limits: Limits, artifacts_mb: Callable[[FrontPoint], float] | None = None) -> Front:
    """The points worth running that keep the limits, as the controller would see them.

    `artifacts_mb` gives what a point whose memory was not measured takes at least, where that is to count. Raises
    BudgetError, naming what comes nearest, where no point keeps them.
    """
    if limits == Limits():
        return front

    def memory_mb(point: FrontPoint) -> float:
        if point.resident_mb is not None:
            return point.resident_mb
        return artifacts_mb(point) if artifacts_mb else 0.0

    small = [point for point in front.rising if memory_mb(point) <= (limits.memory_mb or math.inf)]
    if not small:
        least = min(front.rising, key=memory_mb)
        how = "its artifacts" if least.resident_mb is None else "measured"
        raise BudgetError(
            f"no subnet keeps to {limits.memory_mb:g} MB: the smallest takes {memory_mb(least):.4g} MB ({how})"
        )
    kept = [point for point in small if (point.energy_mj or 0.0) <= (limits.energy_mj or math.inf)]
    if not kept:
        least_mj, among = min(point.energy_mj or 0.0 for point in small), len(small) < len(front.rising)
        raise BudgetError(
            f"no subnet keeps to {limits}: the thriftiest{' of that size' if among else ''} takes {least_mj:.4g} mJ an "
            "inference (measured)"
        )
    return Front(kept)


def require_known_energy(front: Front, limits: Limits) -> None:
    """Raise BudgetError where energy is limited, and known of no point: then any would keep the limit."""
    if limits.energy_mj is not None and all(point.energy_mj is None for point in front.points):
        raise BudgetError(
            f"a limit of {limits.energy_mj:g} mJ cannot be kept: the profile tells the energy of no subnet; leave out "
            "--energy, or profile with --energy-rounds 5 where the device tells its energy"
        )


def choose(front: Front, budget: Budget, whole_ms: float, limits: Limits | None = None) -> FrontPoint:
    """The best point within the budget, its tolerance counted in; the front may be what is `within_limits`.

    Where the fastest is near and over by no more than its timing can tell, it is the fastest. `whole_ms` is the
    measured latency that a budget in percent is a share of. Raises BudgetError, naming the fastest, when nothing meets
    the budget.
    """
    allowed_ms, fastest = budget.allowed_ms(whole_ms), front.points[0]
    if not may_meet(fastest.latency_ms, fastest.half_width_ms, allowed_ms):
        raise BudgetError(unmet(budget, fastest.latency_ms, whole_ms, fastest.measured is not None, limits))
    return front.best(max(allowed_ms, fastest.latency_ms))


def may_meet(latency_ms: float, half_width_ms: float, allowed_ms: float) -> bool:
    """Whether what takes so long, give or take `half_width_ms`, is within, or near and perhaps within."""
    return latency_ms - min(half_width_ms, NEAR * allowed_ms) <= allowed_ms


def near_miss(front: Front, allowed_ms: float, chosen: FrontPoint) -> FrontPoint | None:
    """The slowest point that would be chosen if a little more were allowed; None when there is none."""
    near = [point for point in front.rising if chosen.latency_ms < point.latency_ms <= (1 + NEAR) * allowed_ms]
    return near[-1] if near else None


def over(point: FrontPoint, budget_ms: float) -> float:
    """By what share of the budget a point is over it; negative where it is within."""
    return point.latency_ms / budget_ms - 1


def unmet(
    budget: Budget, fastest_ms: float, whole_ms: float, measured: bool = True, limits: Limits | None = None
) -> str:
    """What an error says of a budget that nothing meets that keeps the limits."""
    budget_ms = budget.ms(whole_ms)
    too_slow = fastest_ms / budget_ms - 1
    return (
        f"no subnet {f'within {limits} ' if limits and limits != Limits() else ''}meets a budget of {budget.text} "
        f"({budget_ms:.4g} ms): the fastest takes {fastest_ms:.4g} ms, "
        f"{fastest_ms / whole_ms:.0%} of the whole network's {whole_ms:.4g} ms "
        f"({'measured' if measured else 'predicted'})"
        + (f"; --tolerance {tolerance(too_slow)} takes it" if too_slow <= NEAR else "")
    )


def tolerance(too_slow: float) -> str:
    """The tolerance, as one would type it, that takes what is over a budget by the share `too_slow`."""
    return f"{math.ceil(1000 * too_slow) / 10:g}%"
