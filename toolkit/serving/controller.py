"""The controller: which point of the front to run, given how slow the device is right now.

A pure function of the front, the budget and what was observed. The ratio of observed to expected latency says how much
slower the device is than when it was profiled, whatever the reason (heat, other work, a lower clock), and holds for the
other points too. The controller believes in one such slowdown, at first in none, and runs the best point for it. It
believes in another one only when the ratios are surely different: almost all of many, or all of some by far. So noise
and hiccups change nothing, and a device that is as fast as when it was profiled keeps the point that was chosen for it.
The first inferences of a point are not counted: memory is allocated then, and caches are cold. Points that are reported
to be no better than a faster one are never run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..graph.front import Front

_COLD = 5  # inferences after a start or a switch that are not counted
_MANY, _ODD, _BAND = 20, 2, 1.03  # all but two of twenty ratios are more than 3% off
_SOME, _FAR = 8, 1.10  # or all of eight are more than 10% off
_INSIDE_SOME, _INSIDE_MANY = 1, 5  # from either end, the ratios that bound about 95% for the median (binomial)


@dataclass(frozen=True)
class Controller:
    """The state between two inferences: `point` (its index in the front), `slowdown`, `recent`, `settled` and `cold`.

    `recent` holds ratios of observed to expected latency since the slowdown last changed, twenty at most. When there
    are twenty, the slowdown is worked out once more from them and is `settled`. `cold` counts the inferences that are
    not counted yet.
    """

    point: int
    slowdown: float = 1.0
    recent: tuple[float, ...] = ()
    settled: bool = True
    cold: int = _COLD

    @classmethod
    def start(cls, front: Front, budget_ms: float) -> Controller:
        """The best point for the budget on a device as fast as when it was profiled. Raises BudgetError for none."""
        return cls(front.points.index(front.best(budget_ms)))

    def observe(self, front: Front, budget_ms: float, observed_ms: float) -> Controller:
        """The state after an inference that took `observed_ms`; page its `point` in when it has changed.

        When nothing fits, it is the fastest point: the controller never stops serving.
        """
        if self.cold:
            return replace(self, cold=self.cold - 1)
        recent = (*self.recent, observed_ms / front.points[self.point].latency_ms)[-_MANY:]
        some, many = sorted(recent[-_SOME:]), sorted(recent)
        if len(some) == _SOME and self._differs(some[0], some[-1], _FAR):
            return self._believing(_slowdown(some, _INSIDE_SOME), front, budget_ms)
        if len(many) < _MANY:
            return replace(self, recent=recent)
        if self._differs(many[_ODD], many[-1 - _ODD], _BAND):
            return self._believing(_slowdown(many, _INSIDE_MANY), front, budget_ms)
        if self.settled:
            return replace(self, recent=recent)
        return replace(self._believing(_slowdown(many, _INSIDE_MANY), front, budget_ms), recent=recent, settled=True)

    def _differs(self, low: float, high: float, times: float) -> bool:
        """Whether ratios from `low` to `high` are all so many times more, or less, than the slowdown."""
        return low > self.slowdown * times or high * times < self.slowdown

    def _believing(self, slowdown: float, front: Front, budget_ms: float) -> Controller:
        point = _best(front, budget_ms / slowdown)
        return Controller(point, slowdown, settled=False, cold=0 if point == self.point else _COLD)


def _slowdown(ranked: Sequence[float], inside: int) -> float:
    """The median of ratios in ascending order, or exactly 1 where its interval does not exclude that."""
    if ranked[inside] <= _BAND and ranked[-1 - inside] * _BAND >= 1:
        return 1.0
    half = len(ranked) // 2
    return (ranked[half - 1] + ranked[half]) / 2


def _best(front: Front, limit_ms: float) -> int:
    """The index of the best point within the limit; 0, which is the fastest, when none is."""
    return front.points.index(front.best(max(limit_ms, front.points[0].latency_ms)))
