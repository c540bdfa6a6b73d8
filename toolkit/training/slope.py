"""Whether a training was long enough, from the slope of its loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import sqrt
from statistics import fmean, variance

_LEAST_STEPS = 16
_SURE = 2.0  # standard errors
_WORTH = 0.02  # of the loss


def fall_at_the_end(losses: Sequence[float]) -> float | None:
    """By which share of itself the mean loss fell from the third quarter of the steps to the last.

    0 where it fell by less than 2%, or by no more than its noise explains; None for fewer than 16 steps.
    """
    quarter = len(losses) // 4
    if len(losses) < _LEAST_STEPS:
        return None
    third, last = losses[-2 * quarter : -quarter], losses[-quarter:]
    fall, noise = fmean(third) - fmean(last), sqrt((variance(third) + variance(last)) / quarter)
    return fall / fmean(third) if fall > max(_SURE * noise, _WORTH * fmean(third)) else 0.0


def largest_fall(history: Sequence[tuple[str, float]]) -> float | None:
    """The largest fall of all phases of a run; `history` has the kind of phase and the loss of every step."""
    falls = [fall_at_the_end([loss for _, loss in phase]) for _, phase in groupby(history, key=lambda step: step[0])]
    return max((fall for fall in falls if fall is not None), default=None)
