"""How slow the device is right now, and how much it wavers, learned from one latency after the other.

The ratio of an observed latency to the profiled one says how much slower the device is, whatever the reason, and holds
for the other points too. One such slowdown is believed in, at first none. Steps are found by cumulative sums of the
ratios' deviations in units of the noise (E. S. Page, "Continuous inspection schemes", Biometrika 1954); each deviation
is cut off, so that no single hiccup counts for much. What is too small for that is found by the median of every 32
ratios and its standard error, a control chart as W. A. Shewhart's. The noise is smoothed as TCP smooths the deviation
of its round trips (RFC 6298).

Only + - * /, square roots and comparisons are used, in one order, so that every language computes the same bits.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from itertools import pairwise

BAND = 0.03  # a profile may be off by so much: a smaller slowdown is taken for none, and is no change
GROUP = 32  # ratios that are looked at together
SURE = 16  # ratios from which a slowdown is known well enough to step up
_LEAST_NOISE, _MOST_NOISE = 0.01, 0.10  # beyond, what is learned would make it jump at nothing, or see nothing
_FIRST_NOISE = 0.05  # until it is learned
_GAIN = 0.25  # how much of what a group shows is taken over: beta in RFC 6298
# Where medians jump by more than this times what independent ratios would, the ratios are alike; sigma is multiplied by
# what is above it, up to twice.
_ALIKE, _MOST_ALIKE = 1.5, 2.0
_SLOW_GAIN = 0.125  # the same for how far medians are from one group to the next: alpha there
_SLACK = 1.5  # deviations of up to so many sigma add nothing: a sum drifts only when the slowdown has changed
_CUT = 4.0  # and one counts for no more than this
# A step of 5 sigma, 25% with a noise of 5%, is found in four ratios, five at most; three hiccups in a row are not. By
# D. Siegmund's approximation ("Sequential Analysis", 1985) noise alone reaches this once in 1e11 ratios; once in 1e7
# where the profile is off by 1% and the noise by a fifth.
_SLOWER_AT = 8.0
_FASTER_AT = 12.0  # five ratios at least: nothing is lost by being slow to speed up
_MOST_RATIO = 1e6  # so that nothing overflows
_MARGIN = 3.0  # standard errors between what is believed and what is reckoned with
_MEDIAN = 1.2533141373155003  # the standard error of a median, by that of a mean: the square root of pi / 2
_NORMAL = 0.886226925452758  # sigma by the mean distance of two values, for normal noise: half the square root of pi
_MAD = 1.482602218505602  # sigma by the median absolute deviation, for normal noise
_COLD = 3  # inferences after a start or a switch that are not counted: memory is allocated, caches are filled
_EXTREME = 1.5  # but five that are all so many times slower than believed, the cold ones among them, are no cold start
_YOUNG = 5
_KEPT = 4 * GROUP  # ratios from which a percentile is read
_RECENT = 2 * GROUP  # ratios that are remembered whatever has changed meanwhile
_FAR = 2.0  # sigma above something, from which a ratio is above it by more than noise
_PERCENTILES = ((50.0, 0.0), (75.0, 0.6745), (90.0, 1.2816), (95.0, 1.6449), (99.0, 2.3263))  # in sigma, normal noise


class Change(enum.Enum):
    """What a latency has changed of what is believed."""

    NONE = 0
    SLOWER = 1
    FASTER = 2
    SURER = 3  # the slowdown was worked out anew, from more ratios
    NOISE = 4  # the percentile's distance from the median


class Speed:
    """`slowdown`, `noise` (sigma, as a share of the median), `tail` (the percentile by the median) and `sure`: from how
    many ratios the slowdown is known, at most 32, which the profile counts for.
    """

    def __init__(self, percentile: float) -> None:
        self.slowdown = 1.0
        self._drift = 1.0  # the slowdown as the groups since then have it, smoothed
        self.sure = GROUP
        self.noise = _FIRST_NOISE
        self._percentile = percentile
        self.tail = self._assumed_tail()
        self._ratios: list[float] = []  # since the slowdown last changed or another point runs, 32 at most
        self._count = 0  # of those, since a group was last looked at
        self._up = self._down = 0.0  # the two cumulative sums,
        self._up_run = self._down_run = 0  # and over how many ratios since they were 0
        self._error = _error(self.noise)  # the standard error of a group's median, as a share of it
        self._alike = 1.0  # by what sums grow too fast, because ratios that follow each other are alike
        self._median = 0.0  # of the group before, when nothing has changed since
        self._jumps = 0.0  # how far it is from one group to the next, smoothed
        self._kept: list[float] = []  # ratios by the median of their group
        self._recent: list[float] = []  # the last ratios, whatever has changed meanwhile
        self._since = 0  # of those, since the point that runs began to
        self._young = 0  # inferences since the point that runs began to
        self._least = math.inf  # of their ratios by the slowdown
        self._trial = False  # the first group of a point that was stepped up to

    @property
    def most(self) -> float:
        """The slowdown to reckon with: surely no less than it is. One that is as profiled needs no margin."""
        if self.slowdown == 1.0:
            return 1.0
        return self.slowdown * (1.0 + _MARGIN * self._error / math.sqrt(self.sure / GROUP))

    def require(self, percentile: float) -> None:
        """Budgets are for another percentile from now on."""
        self._percentile = percentile
        self.tail = self._tail()

    def switched(self, up: bool) -> None:
        """Another point runs from now on; `up`: a slower one."""
        self._forget(0)
        self._since = 0
        self._young, self._least, self._trial, self._median = 0, math.inf, up, 0.0

    def above(self, ratio: float, all_points: bool) -> tuple[int, int]:
        """How many of the last ratios, of all points or of the one that runs, were above this one by more than noise,
        and of how many."""
        of = self._recent if all_points else self._recent[len(self._recent) - self._since :]
        far = ratio * (1.0 + _FAR * max(BAND, self.noise))
        return sum(each > far for each in of), len(of)

    def observe(self, ratio: float, of_another: bool = False) -> Change:
        """After an inference that took `ratio` times what was profiled, a positive number.

        `of_another`: of a point that ran before, while the one that shall run is loaded. It is not cold.
        """
        ratio = min(max(ratio, 1.0 / _MOST_RATIO), _MOST_RATIO)
        by = ratio / self.slowdown
        if young := self._young < _YOUNG and not of_another:
            self._young += 1
            self._least = min(self._least, by)
            if self._young <= _COLD:
                return Change.NONE
        if len(self._recent) == _RECENT:
            del self._recent[0]
        self._recent.append(ratio)
        self._since = min(self._since + 1, _RECENT)
        if len(self._ratios) == GROUP:
            del self._ratios[0]
        self._ratios.append(ratio)
        self._count += 1
        if young and self._young == _YOUNG and self._least > _EXTREME and len(self._ratios) > 1:
            return self._believe((self._ratios[-2] + ratio) / 2.0, 2, Change.SLOWER)
        sigma = max(BAND, self.noise) * self._alike
        z = (by - 1.0) / sigma
        self._up = max(0.0, self._up + min(z, _CUT) - _SLACK)
        self._up_run = min(self._up_run + 1, len(self._ratios)) if self._up > 0.0 else 0
        self._down = max(0.0, self._down + min(-z, _CUT) - _SLACK)
        self._down_run = min(self._down_run + 1, len(self._ratios)) if self._down > 0.0 else 0
        if self._up >= _SLOWER_AT:
            median = _median(sorted(self._ratios[-self._up_run :]))
            far = median * (1.0 + _CUT * sigma)
            if ratio <= far:
                return self._believe(median, self._up_run, Change.SLOWER)
            # It does not belong to the others: a hiccup, or the first of a step that is larger. The next one tells.
            if self._ratios[-2] > far:
                return self._believe(min(ratio, self._ratios[-2]), 2, Change.SLOWER)
        if self._down >= _FASTER_AT:
            return self._believe(_median(sorted(self._ratios[-self._down_run :])), self._down_run, Change.FASTER)
        if self.sure < SURE and len(self._ratios) == SURE:
            return self._believe(_median(sorted(self._ratios)), SURE, Change.SURER)
        return self._look_at_group() if self._count >= GROUP and len(self._ratios) == GROUP else Change.NONE

    def _look_at_group(self) -> Change:
        """After 32 ratios without a step."""
        ranked = sorted(self._ratios)
        median = _median(ranked)
        error = self._error
        off = median / self.slowdown - 1.0
        trial, self._trial, self._count = self._trial, False, 0
        if self.sure < GROUP:
            self._learn(ranked, median)
            return self._believe(median, GROUP, Change.SURER)
        # What was stepped up to is suspected: the profile may be off for this point alone.
        if off > BAND + (error if trial else 3.0 * error):
            return self._believe(median, GROUP, Change.SLOWER)
        if off < -(BAND + 3.0 * error):
            return self._believe(median, GROUP, Change.FASTER)
        change = self._learn(ranked, median)
        if self.slowdown != 1.0:
            self._drift += _GAIN * (median - self._drift)
            if abs(self._drift - 1.0) <= BAND or abs(self._drift - self.slowdown) > error * self.slowdown:
                return self._believe(self._drift, GROUP, Change.SURER)
        return change

    def _learn(self, ranked: Sequence[float], median: float) -> Change:
        """The noise and the tail, from a group in ascending order."""
        deviation = _median(sorted(abs(ratio - median) for ratio in ranked))
        seen = min(max(_MAD * deviation / median, _LEAST_NOISE), _MOST_NOISE)
        self.noise += _GAIN * (seen - self.noise)
        if self._median > 0.0:
            self._jumps += _SLOW_GAIN * (abs(median / self._median - 1.0) - self._jumps)
        self._median = median
        jumps = _NORMAL * self._jumps
        self._error = max(_error(self.noise), jumps)
        self._alike = min(max(jumps / (_ALIKE * _error(self.noise)), 1.0), _MOST_ALIKE)
        if len(self._kept) == _KEPT:
            del self._kept[:GROUP]
        self._kept.extend(ratio / median for ratio in ranked)
        tail = self._tail()
        if abs(tail - self.tail) <= BAND * self.tail:
            return Change.NONE
        self.tail = tail
        return Change.NOISE

    def _believe(self, slowdown: float, sure: int, change: Change) -> Change:
        self._drift = slowdown
        self.slowdown = 1.0 if abs(slowdown - 1.0) <= BAND else slowdown
        self.sure = sure
        if change is Change.SURER:
            self._forget(len(self._ratios))
        else:
            self._forget(min(sure, len(self._ratios)))
            self._median = 0.0
        return change

    def _forget(self, but: int) -> None:
        """All ratios but the last few, and the sums."""
        del self._ratios[: len(self._ratios) - but]
        self._count = 0
        self._up = self._down = 0.0
        self._up_run = self._down_run = 0

    def _tail(self) -> float:
        """The percentile of the ratios that were kept, by nearest rank; what normal noise has while they are few."""
        if self._percentile == 50.0 or len(self._kept) < _KEPT:
            return self._assumed_tail()
        rank = math.ceil(self._percentile * _KEPT / 100.0)
        return max(1.0, sorted(self._kept)[rank - 1])

    def _assumed_tail(self) -> float:
        (low, from_sigma), (high, to_sigma) = next(
            pair for pair in pairwise(_PERCENTILES) if self._percentile <= pair[1][0]
        )
        sigmas = from_sigma + (to_sigma - from_sigma) * (self._percentile - low) / (high - low)
        return 1.0 + sigmas * self.noise


def _error(noise: float) -> float:
    """The standard error of a group's median, if its ratios have nothing to do with each other."""
    return _MEDIAN * noise / math.sqrt(float(GROUP))


def _median(ranked: Sequence[float]) -> float:
    """Of ratios in ascending order."""
    half = len(ranked) // 2
    return ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2.0
