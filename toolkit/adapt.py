"""The controller: which point of the front to run, given how slow the device is right now.

A pure function of the front, the budget and what was observed. The ratio of observed to expected latency says how much
slower the device is than when it was profiled, whatever the reason (heat, other work, a lower clock), and holds for the
other points too. One slow inference among normal ones is a hiccup and changes nothing: the middle one of the last three
ratios counts. Stepping down is then immediate; stepping up waits until there has been room for a while, so that a
device at the edge does not swap back and forth.
"""

from __future__ import annotations

from dataclasses import dataclass

from .front import Front

_WEIGHT = 0.2  # of one observation in the running slowdown
_OUTLIER = 4.0  # a ratio is held to this many times the running slowdown: recovering must not take for ever
_ROOM = 0.95  # a slower point must fit into this share of the budget
_PATIENCE = 10  # inferences in a row that a slower point must have fitted


@dataclass(frozen=True)
class Controller:
    """The state between two inferences: `point` (its index in the front), `slowdown`, `fitting` and `recent`.

    `fitting` counts the inferences in a row for which a slower point would have fitted. `recent` holds the ratios of
    observed to expected latency of the last two.
    """

    point: int
    slowdown: float = 1.0
    fitting: int = 0
    recent: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def start(cls, front: Front, budget_ms: float) -> Controller:
        """The best point for the budget on a device as fast as when it was profiled. Raises BudgetError for none."""
        return cls(front.points.index(front.best(budget_ms)))

    def observe(self, front: Front, budget_ms: float, observed_ms: float) -> Controller:
        """The state after an inference that took `observed_ms`; page its `point` in when it has changed.

        When nothing fits, it is the fastest point: the controller never stops serving.
        """
        ratio = observed_ms / front.points[self.point].latency_ms
        typical = sorted((*self.recent, ratio))[1]
        recent = (self.recent[1], ratio)
        slowdown = (1 - _WEIGHT) * self.slowdown + _WEIGHT * min(typical, _OUTLIER * self.slowdown)
        fits = _slowest(front, budget_ms / slowdown)
        if fits < self.point:
            return Controller(fits, slowdown, recent=recent)
        roomy = _slowest(front, _ROOM * budget_ms / slowdown)
        if roomy <= self.point:
            return Controller(self.point, slowdown, recent=recent)
        if self.fitting + 1 < _PATIENCE:
            return Controller(self.point, slowdown, self.fitting + 1, recent)
        return Controller(roomy, slowdown, recent=recent)


def _slowest(front: Front, limit_ms: float) -> int:
    """The index of the slowest point within the limit; 0 when none is."""
    return max((index for index, point in enumerate(front.points) if point.latency_ms <= limit_ms), default=0)
