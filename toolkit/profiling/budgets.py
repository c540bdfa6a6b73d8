"""What a budget comes to on a front: the point that is chosen, and what lies close to the budget's edge."""

from __future__ import annotations

import math

from ..errors import BudgetError
from ..graph.front import Front, FrontPoint
from .settings import Budget

NEAR = 0.03  # a point that is over a budget by no more than this share of it nearly met it


def choose(front: Front, budget: Budget, whole_ms: float) -> FrontPoint:
    """The best point within the budget, its tolerance counted in.

    Where the fastest is near and over by no more than its timing can tell, it is the fastest. `whole_ms` is the
    measured latency that a budget in percent is a share of. Raises BudgetError, naming the fastest, when nothing meets
    the budget.
    """
    allowed_ms, fastest = budget.allowed_ms(whole_ms), front.points[0]
    if not may_meet(fastest.latency_ms, fastest.half_width_ms, allowed_ms):
        raise BudgetError(unmet(budget, fastest.latency_ms, whole_ms, fastest.measured is not None))
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


def unmet(budget: Budget, fastest_ms: float, whole_ms: float, measured: bool = True) -> str:
    """What an error says of a budget that nothing meets."""
    budget_ms = budget.ms(whole_ms)
    too_slow = fastest_ms / budget_ms - 1
    return (
        f"no subnet meets a budget of {budget.text} ({budget_ms:.4g} ms): the fastest takes {fastest_ms:.4g} ms, "
        f"{fastest_ms / whole_ms:.0%} of the whole network's {whole_ms:.4g} ms "
        f"({'measured' if measured else 'predicted'})"
        + (f"; --tolerance {tolerance(too_slow)} takes it" if too_slow <= NEAR else "")
    )


def tolerance(too_slow: float) -> str:
    """The tolerance, as one would type it, that takes what is over a budget by the share `too_slow`."""
    return f"{math.ceil(1000 * too_slow) / 10:g}%"
