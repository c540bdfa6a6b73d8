"""How good a subnet is, with how sure we are of it.

Metric programs on the device return sums over images; here the first over the second becomes a share with its interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import DataError, ProfileError
from .latency import number

_Z95 = 1.959963984540054  # the 97.5% quantile of the normal distribution


@dataclass(frozen=True)
class Quality:
    """A share from 0 to 1, measured on `n` images as `value`; `low` to `high` is its 95% interval."""

    metric: str
    value: float
    low: float
    high: float
    n: int

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
        share, weight = correct / count, _Z95**2 / n
        middle = (share + weight / 2) / (1 + weight)
        reach = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
        return cls(metric, share, min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach)), n)

    def to_json(self) -> dict[str, Any]:
        """A plain dict of the five fields."""
        return {"metric": self.metric, "value": self.value, "low": self.low, "high": self.high, "n": self.n}

    @classmethod
    def from_json(cls, doc: object) -> Quality:
        """Read what `to_json` wrote. Raises ProfileError when it is something else."""
        if not isinstance(doc, dict) or doc.keys() != {"metric", "value", "low", "high", "n"}:
            raise ProfileError(f"a quality must have exactly metric, value, low, high and n: got {str(doc)[:80]}")
        value, low, high, n = (number(doc[key], f"quality {key}") for key in ("value", "low", "high", "n"))
        if not (isinstance(doc["metric"], str) and low <= value <= high <= 1 and n >= 1 and n.is_integer()):
            raise ProfileError(f"a quality needs low <= value <= high <= 1 and n images: got {str(doc)[:120]}")
        return cls(doc["metric"], value, low, high, int(n))
