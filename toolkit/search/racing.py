"""The paired test by which candidates are dropped from a race: two subnets on the same images."""

from __future__ import annotations

import math

from .base import Result

_SIGMAS = 2.6  # one-sided, one in 200 equals is dropped


def is_worse(one: Result, other: Result, population: int | None = None) -> bool:
    """Whether `one` is surely worse than `other`, by what both did on the images that both saw.

    A paired z-test on the differences, which counts two more images on which the two were apart by one, once either
    way: a few images on which they agree prove nothing. `population` is the number of images that matter, all of which
    leave no doubt; None: the images are a draw from many more.
    """
    images = min(one.n, other.n)
    difference = one.scores[:images] - other.scores[:images]
    mean = float(difference.mean())
    if population and images >= population:
        return mean < 0
    variance = (float(((difference - mean) ** 2).sum()) + 2) / images
    left = 1 / images - (1 / population if population else 0.0)
    return mean < -_SIGMAS * math.sqrt(variance * left)
