"""The controller: which point of the front to run, given how the device is right now.

No clock and no sensor is read here: times, latencies and signals are given, and the same ones bring the same decisions
in every language (tests/vectors/controller.json). docs/adapting.md says what it does, and why its constants are what
they are. It steps down at once. It steps up when enough inferences say so and some time has passed, which is the longer
the more such steps have failed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import ProfileError
from .decision import Budgets, Decision, Kind, Point, Signals
from .sensors import Sensors
from .speed import SURE, Change, Speed
from .why import why

_MINUTE_S, _SWITCHES = 60.0, 12  # at most so many switches in any minute
_UPS = 9  # a step up needs a minute with at most so many: so the steps down that may follow are never refused
_WAIT_S, _LONGEST_WAIT_S = 0.25, 120.0  # from a switch to the next step up,
_FAILED = 4.0  # times as long after each that fails by the fault of its point
_FAULTLESS = 8  # not the point's fault: one in so many inferences after it would have been over the budget as well
_SPARING = 4  # a step up needs that of the last inferences no more than 2 / (this and the last minute's switches) would
_SMALL, _SMALL_WAIT_S = 1.05, 2.0  # and at least so long to a point that is less than 5% slower: it gains little
_TRIED_S = 10.0  # a step up from which time or load force a step down within so long has failed

_CHANGES = {Change.SLOWER: Kind.SLOWER, Change.FASTER: Kind.FASTER, Change.SURER: Kind.FASTER, Change.NOISE: Kind.NOISE}
_BY_TIME = (Kind.SLOWER, Kind.NOISE, Kind.LOAD)


class Controller:
    """Decides for `points`, fastest first, under `budgets`. `decision` is the latest one; it begins with the best point
    of a device that is as profiled, or with the fastest where nothing fits.

    Times are seconds of one clock that does not go back; one that does, or is no number, stands still. Raises
    ProfileError for points that are no front.
    """

    def __init__(self, points: Sequence[Point], budgets: Budgets) -> None:
        self.points = tuple(points)
        times = [point.latency_ms for point in self.points]
        if not times or times != sorted(times) or not (times[0] > 0 and math.isfinite(times[-1])):
            raise ProfileError(f"a front needs at least one point, and positive latencies in ascending order: {times}")
        self.budgets = budgets
        self._speed = Speed(budgets.percentile)
        self._sensors = Sensors(self.points)
        self._now_s = 0.0
        self._switches_s: list[float] = []  # the last ones, as many as a minute may have
        self._switched_s = -math.inf
        self._wait_s = _WAIT_S
        self._tried_s: float | None = None  # when it last stepped up, until that has proved right or wrong
        self._failed: int | None = None  # the point of a try that failed, until it is known by whose fault
        self._again_s = math.inf  # when to try what had to wait
        best = self._best(0, 1.0)
        kind = Kind.NOTHING_FITS if best is None else Kind.START
        self._cause = Kind.START  # of the latest decision
        self.decision = Decision(best or 0, 1.0, kind, "")
        self.decision = self._decision(kind, best or 0)

    @property
    def point(self) -> int:
        """The index of the point to run."""
        return self.decision.point

    @property
    def slowdown(self) -> float:
        """How many times slower than profiled the device is believed to be."""
        return self._speed.slowdown

    @property
    def noise(self) -> float:
        """The standard deviation of latencies, as a share of the median, without their tail."""
        return self._speed.noise

    def observe(self, ended_s: float, latency_ms: float, ran: int | None = None) -> Decision | None:
        """After an inference of `point` that took `latency_ms` by the profile's clock and ended at `ended_s`.

        `ran` is the point that ran where that is another one, because `point` is still loaded, or cannot be. The
        decision, where one was made, which need not be a switch. A latency that is no positive number is ignored.
        """
        if not (math.isfinite(latency_ms) and latency_ms > 0):
            return None
        self._pass(ended_s if math.isfinite(ended_s) else self._now_s + latency_ms / 1000.0)
        of = self.point if ran is None else ran
        change = self._speed.observe(latency_ms / self.points[of].latency_ms, of != self.point)
        if self._now_s > self._sensors.until_s and (kind := self._sensors.look(self._now_s, self.point)) is not None:
            return self._decide(kind)
        if change is not Change.NONE:
            return self._decide(_CHANGES[change])
        if self._now_s >= self._again_s:
            return self._decide(self._cause)
        return None

    def sense(self, at_s: float, signals: Signals) -> Decision | None:
        """What sensors say at a time, at any rate; the decision, where one was made."""
        self._pass(at_s)
        kind = self._sensors.give(self._now_s, signals, self.point)
        return None if kind is None else self._decide(kind)

    def set_budget(self, at_s: float, budgets: Budgets) -> Decision:
        """Other budgets from now on, and the decision for them."""
        self._pass(at_s)
        self.budgets = budgets
        self._speed.require(budgets.percentile)
        return self._decide(Kind.BUDGET) or self.decision

    def _pass(self, at_s: float) -> None:
        if math.isfinite(at_s):
            self._now_s = max(self._now_s, at_s)

    @property
    def _limit_ms(self) -> float:
        """What an inference may take by the profile's clock, which leaves out the time in which others run."""
        return self.budgets.latency_ms * (1.0 - self._sensors.waited)

    def _takes_ms(self, at: int, slowdown: float) -> float:
        return self.points[at].latency_ms * slowdown * self._speed.tail

    def _may(self, at: int, slowdown: float) -> bool:
        """Whether a point fits all budgets; what is not known of it fits."""
        point, budgets, sensors = self.points[at], self.budgets, self._sensors
        if at > sensors.hottest or self._takes_ms(at, slowdown) > self._limit_ms:
            return False
        if sensors.held_mb and sensors.held_mb[at] > sensors.memory_mb:
            return False
        if point.resident_mb is not None and budgets.memory_mb is not None and point.resident_mb > budgets.memory_mb:
            return False
        return point.energy_mj is None or budgets.energy_mj is None or point.energy_mj <= budgets.energy_mj

    def _best(self, here: int, slowdown_here: float) -> int | None:
        """The best point that fits, reckoning with `slowdown_here` for the point `here`; None where none does."""
        most = self._speed.most
        fits = [at for at in range(len(self.points)) if self._may(at, slowdown_here if at == here else most)]
        if not fits:
            return None
        best = fits[-1]
        if not self._sensors.saving:
            return best
        thrifty = [at for at in fits if self._cost(at, best) <= self._cost(best, at) / 2.0]
        return thrifty[-1] if thrifty else fits[0]

    def _cost(self, at: int, other: int) -> float:
        """The energy of a point; its time where the energy of either of two is not known."""
        point, beside = self.points[at], self.points[other]
        return point.latency_ms if point.energy_mj is None or beside.energy_mj is None else point.energy_mj

    def _decide(self, kind: Kind) -> Decision | None:
        """What to run, now that something has changed, or that what had to wait may be tried."""
        here, sure, now_s = self.point, self._speed.sure >= SURE, self._now_s
        self._again_s = math.inf
        if self._tried_s is not None and now_s - self._tried_s > _TRIED_S:
            self._wait_s, self._tried_s = _WAIT_S, None
        # Few inferences tell that the device is slower, but not how much: then what runs needs a margin as well.
        best = self._best(here, self._speed.slowdown if sure else self._speed.most)
        to = 0 if best is None else best
        self._cause = kind = self._in_direction(kind, to - here)
        recent = sum(now_s - at_s < _MINUTE_S for at_s in self._switches_s)
        careful = to > here and self._may(here, self._speed.slowdown)
        if careful and kind is not Kind.BUDGET:
            if sure:
                self._judge_try()
            wanted, to = to, self._best_lately(here, to, recent)
            if to == here:
                self._again_s = now_s + _WAIT_S
                return self._stay(kind, wanted)
        if to == here:
            if kind in (Kind.SLOWER, Kind.FASTER) and self.slowdown == self.decision.slowdown:
                return None
            return self._stay(kind if best is not None else Kind.NOTHING_FITS)
        most = _UPS if careful else _SWITCHES - 1
        if recent > most:
            self._again_s = self._switches_s[-1 - most] + _MINUTE_S
            return self._stay(Kind.BOUNDED)
        small = self.points[to].latency_ms < _SMALL * self.points[here].latency_ms
        from_s = self._switched_s + (max(self._wait_s, _SMALL_WAIT_S) if small else self._wait_s)
        if careful and kind is not Kind.BUDGET and not (sure and now_s >= from_s):
            if sure:
                self._again_s = from_s
            return self._stay(kind, to)
        if best is None:
            return self._switch(Kind.NOTHING_FITS, to)
        if not careful and recent == _SWITCHES - 1:
            # The last switch of this minute goes to the fastest point that fits: it need not be followed by another.
            fastest = next(at for at in range(len(self.points)) if self._may(at, self._speed.most))
            return self._switch(kind if fastest == to else Kind.BOUNDED, fastest)
        return self._switch(kind, to)

    def _best_lately(self, here: int, best: int, recent: int) -> int:
        """The best point up to `best` that would have been within the budget in most of the last inferences, in the
        more of them the more of this minute's switches are used up; `here` where there is none.

        What the device alternates with is so taken for its state, not each of the two in turn.
        """
        for at in range(best, here, -1):
            over, of = self._over_lately(at, all_points=True)
            if (_SPARING + recent) * over <= 2 * of and self._may(at, self._speed.most):
                return at
        return here

    def _judge_try(self) -> None:
        """Now that a step up is possible again: was the last one that failed its point's own fault?

        Where the point below was slow at times as well, the device had become slower, and the wait stays what it was.
        """
        if self._failed is None:
            return
        over, of = self._over_lately(self._failed, all_points=False)
        if _FAULTLESS * over < of:
            self._wait_s = min(_FAILED * self._wait_s, _LONGEST_WAIT_S)
        self._failed = None

    def _over_lately(self, at: int, all_points: bool) -> tuple[int, int]:
        """How many of the last inferences would have been over the budget as ones of `at`, and of how many."""
        return self._speed.above(self._limit_ms / self.points[at].latency_ms, all_points)

    def _in_direction(self, kind: Kind, up: int) -> Kind:
        """A slowdown that was worked out anew can go either way."""
        if kind not in (Kind.SLOWER, Kind.FASTER):
            return kind
        if up == 0:
            return Kind.SLOWER if self.slowdown > self.decision.slowdown else Kind.FASTER
        return Kind.FASTER if up > 0 else Kind.SLOWER

    def _stay(self, says: Kind, tried: int | None = None) -> Decision | None:
        """The point stays, and `tried` will be tried. None where that is nothing new."""
        decision = self._decision(says, self.point, tried)
        if decision == self.decision:
            return None
        self.decision = decision
        return decision

    def _switch(self, says: Kind, to: int) -> Decision:
        up = to > self.point
        if up:
            self._tried_s, self._failed = self._now_s, None
        elif self._tried_s is not None and self._cause in _BY_TIME:
            self._failed, self._tried_s = self.point, None
        self._switched_s = self._now_s
        self._switches_s = [*self._switches_s[1 - _SWITCHES :], self._now_s]
        self.decision = self._decision(says, to)
        self._speed.switched(up)
        return self.decision

    def _decision(self, says: Kind, to: int, tried: int | None = None) -> Decision:
        known = (self._speed, self._sensors, self.budgets, self._limit_ms)
        line = why(says, self._cause, self.points, self.point, to, *known, tried)
        return Decision(to, self.slowdown, says, line)
