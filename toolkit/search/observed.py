"""What subnets scored, as a model of quality takes it: log qualities on stretches of the images, and their errors.

A stretch lies between two numbers of images that subnets have seen: whoever saw more has a value for it. What the
images of a stretch are easier than others, they are for every subnet: so the values of those that saw it tell how the
others would have done there. That is a paired comparison, of all subnets with all at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..graph import BlockGraph, Subnet
from .base import Result

_Array = NDArray[np.float64]

_MOST_ALIKE = 0.95  # two subnets' scores never go together more than this
_JITTER = 1e-9


class Observed:
    """Results as values (n,) with the covariance (n, n) of their errors, which comes of the choice of images.

    `of` (n,) is the place of each value's subnet among `subnets`. Several values of one subnet weigh, by the lengths of
    their stretches, as much as its log quality. `population` is how many images matter; None: those that were seen are
    a draw from many more.
    """

    def __init__(self, graph: BlockGraph, results: Sequence[Result], population: int | None) -> None:
        self.subnets = [result.subnet for result in results]
        ends = sorted({result.n for result in results})
        stretches = [slice(begin, end) for begin, end in itertools.pairwise([0, *ends])]
        self.of = np.repeat(np.arange(len(results)), [ends.index(result.n) + 1 for result in results])
        stretch = np.concatenate([np.arange(ends.index(result.n) + 1) for result in results])

        images = np.array([result.n for result in results], dtype=np.float64)
        total = np.array([result.scores.sum() for result in results])
        # A share of none or of all says little about its own spread: two more images, one right and one wrong.
        share = np.clip((total + 1) / (images + 2), 0.0, 1.0)
        spread = np.array([result.scores.var() for result in results])
        variance = (images * spread + 2 * share * (1 - share)) / (images + 2)
        quality = np.maximum(total, 0.5) / images
        deviation = np.sqrt(variance) / quality  # of the log quality, for one image

        means = np.array(
            [result.scores[each].mean() for result in results for each in stretches if each.stop <= result.n]
        )
        self.values = np.log(quality)[self.of] + (means - (total / images)[self.of]) / quality[self.of]
        per_image = np.equal.outer(stretch, stretch) / np.diff([0, *ends])[stretch]
        if population:
            per_image = per_image - 1 / population
        of_subnets = correlations(graph, results) * np.outer(deviation, deviation)
        self.noise = of_subnets[np.ix_(self.of, self.of)] * per_image + _JITTER * np.eye(len(self.of))


def correlations(graph: BlockGraph, results: Sequence[Result]) -> _Array:
    """How much the scores of two subnets go together, image by image: float64 (results, results).

    The more blocks two subnets share, the more. How much more is a straight line through all pairs, each by what it did
    on the images that every subnet saw: few images tell little of a single pair.
    """
    shared = _shared(graph, [result.subnet for result in results])
    images = min(result.n for result in results)
    scores = np.array([result.scores[:images] for result in results])
    scores = scores - scores.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(scores, axis=1)
    varied = np.flatnonzero(norms)
    level = slope = 0.0
    if len(varied) > 2 and images > 2:
        scores = scores[varied] / norms[varied, None]
        pairs = np.triu_indices(len(varied), 1)
        level, slope = _line(shared[np.ix_(varied, varied)][pairs], (scores @ scores.T)[pairs])
    found: _Array = level + slope * shared
    np.fill_diagonal(found, 1.0)
    return found


def _shared(graph: BlockGraph, subnets: Sequence[Subnet]) -> _Array:
    """The share of its way that each subnet has in common with each other: float64 (subnets, subnets), 0 to 1."""
    columns = {block.name: column for column, block in enumerate(graph.blocks)}
    rows = np.zeros((len(subnets), len(columns)))
    for row, subnet in enumerate(subnets):
        for name in subnet:
            rows[row, columns[name]] = math.sqrt((graph[name].end - graph[name].start) / graph.end)
    found: _Array = rows @ rows.T
    return found


def _line(shared: _Array, correlation: _Array) -> tuple[float, float]:
    """Level and slope, neither below 0, of the line by least squares, or of one from 0 through the points' middle where
    that would begin below; it ends at `_MOST_ALIKE` at most."""
    apart = shared - shared.mean()
    slope = max(0.0, float(apart @ correlation) / max(1e-12, float(apart @ apart)))
    level = float(correlation.mean() - slope * shared.mean())
    if level < 0:
        level, slope = 0.0, max(0.0, float(correlation.mean() / max(1e-12, shared.mean())))
    shrink = min(1.0, _MOST_ALIKE / max(1e-12, level + slope))
    return shrink * level, shrink * slope
