"""How the sums of a metric become a score: one rule for all metrics, and a unit and a range for each.

A metric program returns for each image as many parts as wholes. They add up over images, and the score of a set is the
mean of the ratios, of each sum of parts to the sum of its wholes, over those whose whole is not 0. With one part and
one whole that is a share of right answers, or the mean of what each image scored; with a part and a whole for each
class, intersections and unions, it is the mean intersection over union.

A search wants a number from 0 to 1 that is better when it is higher: the quality, which is how far the score is on its
way from the worst that it may be to the best.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..plurals import number_of

_Array = NDArray[np.float64]

_ROUNDING = 1e-5  # of the range: sums are float32, and what adds up to the best may come out a little beyond it
_STEPS = 4  # decimals of the range that are shown
LONGEST_UNIT = 16  # characters
LARGEST, NARROWEST = 1e9, 1e-9  # of worst and best: their largest size, and the least that they are apart


@dataclass(frozen=True)
class Score:
    """What a metric's scores are: numbers from `worst` to `best`, which is below `worst` where less is better.

    `unit` is what stands behind the number: `dB`, nothing, or `share` for a share that is shown in percent.
    """

    unit: str = "share"
    worst: float = 0.0
    best: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError for a unit or ends that no pack may have."""
        if len(self.unit) > LONGEST_UNIT or any(ord(each) < 32 or 127 <= ord(each) < 160 for each in self.unit):
            raise ValueError(f"a score's unit is at most {LONGEST_UNIT} characters on one line: got {self.unit[:80]!r}")
        if not max(abs(self.worst), abs(self.best)) <= LARGEST:  # also for NaN
            raise ValueError(f"a score's worst and best lie between -1e9 and 1e9: got {self.worst:g} and {self.best:g}")
        if abs(self.best - self.worst) < NARROWEST:
            raise ValueError("the worst and the best of its score are the same: they must be at least 1e-9 apart")

    def of(self, quality: float) -> float:
        """The score that a quality from 0 to 1 stands for, in the metric's own unit."""
        return self.worst + quality * (self.best - self.worst)

    @property
    def less_is_better(self) -> bool:
        """Whether a lower score is a better one."""
        return self.best < self.worst

    @property
    def is_share(self) -> bool:
        """Whether the score is shown in percent."""
        return self.unit == "share"

    @property
    def axis(self) -> str:
        """The unit that an axis of `drawn` numbers has: %, the metric's own, or none."""
        return "%" if self.is_share else self.unit

    def drawn(self, quality: float) -> float:
        """The score of a quality as a figure shows it: a share in percent."""
        return 100 * self.of(quality) if self.is_share else self.of(quality)

    def number(self, quality: float) -> str:
        """The score of a quality as text without its unit; a share in percent, with its sign."""
        score = self.of(quality)
        if self.is_share:
            return f"{score:.1%}"
        return f"{score:.{max(0, _STEPS - round(math.log10(abs(self.best - self.worst))))}f}"

    def text(self, quality: float) -> str:
        """The score of a quality as text, with its unit."""
        return self.number(quality) if self.is_share else f"{self.number(quality)} {self.unit}".rstrip()

    def of_images(self, metric: str, sums: _Array) -> _Array:
        """What each image says of the quality: float64 (images,), whose mean is the quality of them all.

        `sums` is (images, 2 · ratios): the parts, then the wholes. Where every image has the same wholes that is the
        image's own quality. Elsewhere the score is no mean over images, and these are its pseudo-values: the quality,
        and the number of images times what each of them moved it by, to first order (the infinitesimal jackknife:
        Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6). Single ones may lie beyond 0
        and 1. An image whose wholes are all 0 moves nothing; where no image has any, all are 0.

        Raises DataError where a score lies outside of its range, or a whole is below 0.
        """
        parts, wholes = np.split(np.asarray(sums, np.float64), 2, axis=1)
        self._check(metric, parts, wholes)
        total = wholes.sum(axis=0)
        used = total > 0
        if not used.any():
            return np.zeros(len(sums))
        parts, wholes, total = parts[:, used], wholes[:, used], total[used]
        if (wholes == wholes[0]).all():
            scores = (parts / wholes).mean(axis=1)
        else:
            ratios = parts.sum(axis=0) / total
            moved = ((parts - ratios * wholes) / total).mean(axis=1)
            scores = ratios.mean() + len(sums) * moved
        found: _Array = (scores - self.worst) / (self.best - self.worst)
        return found

    def of_all(self, metric: str, sums: _Array) -> float:
        """The quality of a set of images, of which `sums` (images, 2 · ratios) are. Raises DataError as `of_images`
        does, and where nothing was counted."""
        if not np.any(np.asarray(sums)[:, sums.shape[1] // 2 :] > 0):
            raise DataError(
                f"metric {metric!r} counted nothing on {number_of(len(sums), 'image')}; it needs at least one that "
                f"counts"
            )
        return min(1.0, max(0.0, float(self.of_images(metric, sums).mean())))

    def _check(self, metric: str, parts: _Array, wholes: _Array) -> None:
        low, high = sorted((self.worst, self.best))
        if (wholes < 0).any():
            raise DataError(f"metric {metric!r} counted {wholes.min():g}; a whole is at least 0")
        scores = parts[wholes > 0] / wholes[wholes > 0]
        room = _ROUNDING * (high - low)
        outside = scores[(scores < low - room) | (scores > high + room)]
        if outside.size:
            unit = "" if self.is_share else f" {self.unit}".rstrip()
            raise DataError(
                f"metric {metric!r} gave {outside[0]:g}{unit} on an image, and its scores lie between {low:g} and "
                f"{high:g}{unit}: clamp them in the metric, or say another range"
            )

    def to_json(self) -> dict[str, Any]:
        """A plain dict of the three fields."""
        return asdict(self)


SHARE = Score()
