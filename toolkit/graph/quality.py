"""How good a subnet is, with how sure we are of it.

Metric programs on the device return sums over images; a `Score` says what they come to, and here that gets its
interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ProfileError
from .latency import number
from .score import LARGEST, SHARE, Score

_Z95 = 1.959963984540054  # the 97.5% quantile of the normal distribution
_BESIDE = 2  # more images than were seen lie as far from the mean as the farthest one that was
_FIELDS = ("metric", "value", "low", "high", "n")


@dataclass(frozen=True)
class Quality:
    """A quality from 0 to 1, higher is better, measured on `n` images as `value`; `low` to `high` is its 95% interval.

    `score` says what the metric's own numbers are, of which 0 is the worst and 1 the best: `in_words` shows these.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    score: Score = SHARE

    @classmethod
    def from_images(
        cls, metric: str, images: NDArray[np.float64], score: Score = SHARE, value: float | None = None
    ) -> Quality:
        """The quality of a set whose images say (images,) of it, as `Score.of_images` has it.

        `value` is what is reported of the set in place of its mean. The interval is Wilson's, for as many images that
        are right or wrong as tell as much as these do: so many more as their variance is smaller than that of right or
        wrong ones with the same mean (as with the effective sample size of surveys: Dean and Pagano, Journal of Survey
        Statistics and Methodology 3, 2015). The image that is the farthest from the mean counts three times in that
        variance: of few images, there are others as far that were not drawn. Where no two differ nothing is known of
        that, and there is no interval.
        Raises DataError where there are no images.
        """
        if not len(images):
            raise DataError(f"metric {metric!r} scored no images; it needs at least one")
        mean = min(1.0, max(0.0, float(images.mean())))
        value = mean if value is None else value
        if score.is_share and np.isin(images, (0.0, 1.0)).all():
            return cls(metric, value, *_wilson(value, len(images)), len(images), score)
        away = np.square(images - mean)
        spread = float(away.sum() + _BESIDE * away.max()) / len(images)
        many = len(images) * mean * (1 - mean) / spread if spread > 0 else 0.0
        low, high = _wilson(value, many) if many else (value, value)
        return cls(metric, value, low, high, len(images), score)

    @classmethod
    def from_counts(cls, metric: str, correct: float, count: float, images: int | None = None) -> Quality:
        """The share `correct / count`, found on `images` images (when None, `count`), with Wilson's score interval
        (Wilson 1927).

        Unlike the textbook interval it stays inside 0 to 1 and keeps a width when all or none are correct. It is meant
        for images that are right or wrong. Where an image counts in parts (its share of correct pixels, its fidelity)
        it is conservative: a number between 0 and 1 with the mean p has at most the variance p (1 - p) of a right or
        wrong with the same mean, so the true interval is no wider. The pixels of one image are not independent, which
        is why images and not pixels are the sample.
        Raises DataError when nothing was counted or the sums are not a share.
        """
        if not (count >= 1 and 0 <= correct <= count and float(count).is_integer()):
            raise DataError(f"metric {metric!r} counted {correct} correct of {count}; it needs at least one image")
        n = int(count) if images is None else images
        share = correct / count
        return cls(metric, share, *_wilson(share, n), n)

    @property
    def text(self) -> str:
        """The score with its unit, such as 88.5% or 31.42 dB."""
        return self.score.text(self.value)

    @property
    def in_words(self) -> str:
        """The metric, the score with its unit, and the interval, or on how many pictures it is one and the same."""
        if self.low == self.high:
            return f"{self.metric} {self.text} (on {'1 picture' if self.n == 1 else f'all {self.n} pictures'})"
        low, high = (self.score.number(each) for each in sorted((self.low, self.high), key=self.score.of))
        return f"{self.metric} {self.text} ({low}–{high})"

    def to_json(self) -> dict[str, Any]:
        """A plain dict: the five fields, and where the score is no share, `score`, which has them in its unit."""
        own: dict[str, Any] = {key: getattr(self, key) for key in _FIELDS}
        if self.score == SHARE:
            return own
        shown = {key: self.score.of(own[key]) for key in ("value", "low", "high")}
        return {**own, "score": {**self.score.to_json(), **shown}}

    @classmethod
    def from_json(cls, doc: object) -> Quality:
        """Read what `to_json` wrote. Raises ProfileError when it is something else."""
        if not isinstance(doc, dict) or doc.keys() - {"score"} != {*_FIELDS}:
            raise ProfileError(f"a quality must have exactly metric, value, low, high and n: got {str(doc)[:80]}")
        value, low, high, n = (number(doc[key], f"quality {key}") for key in ("value", "low", "high", "n"))
        if not (isinstance(doc["metric"], str) and low <= value <= high <= 1 and n >= 1 and n.is_integer()):
            raise ProfileError(f"a quality needs low <= value <= high <= 1 and n images: got {str(doc)[:120]}")
        found = cls(doc["metric"], value, low, high, int(n), _score(doc["score"]) if "score" in doc else SHARE)
        if doc.get("score") != found.to_json().get("score"):
            raise ProfileError(f"the score of a quality is not what its value says: got {str(doc)[:200]}")
        return found


def _score(doc: object) -> Score:
    if not isinstance(doc, dict) or not {"unit", "worst", "best"} <= doc.keys() or not isinstance(doc["unit"], str):
        raise ProfileError(f"the score of a quality must have a unit, worst and best: got {str(doc)[:80]}")
    worst, best = (number(doc[key], f"the {key} score", -LARGEST) for key in ("worst", "best"))
    try:
        return Score(doc["unit"], worst, best)
    except ValueError as error:
        raise ProfileError(str(error)) from None


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's score interval for a share of `n` answers, with the share in it."""
    weight = _Z95**2 / n
    middle = (share + weight / 2) / (1 + weight)
    reach = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach))
