"""What subnets scored, as a model of quality takes it: means over stretches of the images, and how far to trust them.

A stretch lies between two numbers of images that subnets have seen: whoever saw more has a mean on it. Quality has a
scale with two ends, from the share that a ruined subnet still gets (`Scale.floor`) to 1; a model works on its logit,
where there are no ends.

The error of a mean has two parts. One is the subnet's own and counts like that of a share of right answers. The other
is the luck of the draw: a stretch of easy images is easy for all, the more alike for subnets that share more blocks. It
has one size for all subnets, on the logit, which is learned from single images (`luck`) and never from what a model
cannot explain: so the misfit of bad subnets is not taken for luck that good ones had too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph.graph import BlockGraph, Subnet
from .base import Result

_Array = NDArray[np.float64]

_MOST_ALIKE = 0.95  # two subnets' scores never go together more than this,
_LEAST_OWN = 0.3  # and of the variance of one image's score so much at least is a subnet's own
# Subnets go together less where one is better than the other, but not those that are alike in this, of which
# `correlation` is asked: the variance of what they have in common is so many times what it comes to.
_LUCKIER = 1.3
_LEAST_DISPERSION = 1e-3  # of scores against right or wrong ones: even equal scores say nothing of other images


@dataclass(frozen=True)
class Scale:
    """Qualities from `floor` to 1 against levels from minus to plus infinity; `bend` says how they come to 1.

    Of a quality q in the part p above the floor, the level is f with p = (1 + exp(-f / bend)) ** -bend (a generalised
    logistic curve: Richards, Journal of Experimental Botany 10, 1959). With a bend of 1 it is the logit: a network that
    is nearly perfect is hard to harm. With one near 0 it is the logarithm of p, and 0 is as good as perfect: each harm
    counts at once. Which of them adds up better is for the results to say.
    """

    floor: float = 0.0
    bend: float = 1.0

    def quality(self, levels: _Array) -> _Array:
        """Of any shape. Float64, and never above 1."""
        found: _Array = self.floor + (1 - self.floor) * np.exp(-self.bend * np.logaddexp(0.0, -levels / self.bend))
        return found

    def slope(self, levels: _Array) -> _Array:
        """How much more quality a little more of the level is."""
        found: _Array = (self.quality(levels) - self.floor) * 0.5 * (1 - np.tanh(0.5 * levels / self.bend))
        return found

    def level(self, qualities: _Array) -> _Array:
        """The inverse of `quality`, for what is above the floor and below 1."""
        part = (qualities - self.floor) / (1 - self.floor)
        found: _Array = -self.bend * np.log(np.expm1(-np.log(part) / self.bend))
        return found


class Observed:
    """Results as values: the mean of each subnet on each stretch that it saw.

    `means`, `counts`, `of` and `stretch` are (values,): the mean; how many answers that are right or wrong say as much;
    the place of the subnet among `subnets`; and the number of the stretch. `lengths` (stretches,) is in images.
    `population` is how many images matter; None: those that were seen are a draw from many more.
    """

    def __init__(self, graph: BlockGraph, results: Sequence[Result], population: int | None) -> None:
        self.graph, self.population = graph, population
        self.subnets = [result.subnet for result in results]
        ends = sorted({result.n for result in results})
        self.lengths = np.diff([0, *ends]).astype(np.float64)
        places = [ends.index(result.n) + 1 for result in results]
        self.of = np.repeat(np.arange(len(results)), places)
        self.stretch = np.concatenate([np.arange(place) for place in places])
        scores = [result.scores for result in results]
        bounds = list(itertools.pairwise([0, *ends]))
        means = [row[begin:end].mean() for row in scores for begin, end in bounds if end <= len(row)]
        self.means = np.clip(np.array(means, dtype=np.float64), 0.0, 1.0)
        self.images = np.array([result.n for result in results], dtype=np.float64)
        # Four more images, two right and two wrong (Agresti and Coull, The American Statistician 52, 1998): a share of
        # none or of all says little about itself.
        self.shares = (np.array([row.sum() for row in scores]) + 2) / (self.images + 4)
        self._variance = self._of_one_image(scores)
        least = int(self.images.min())
        alike = shared_blocks(graph, self.subnets)
        level, slope = correlation(np.array([row[:least] for row in scores]), alike)
        self._alike, self._most_alike = level + slope * alike, level + slope

    def luck(self, scale: Scale) -> tuple[_Array, _Array]:
        """The covariance (values, values) of the errors that come of the images, on the logit, and `counts` (values,).

        `counts` is how many answers that are right or wrong, drawn independently, say as much as the value does.
        """
        per_image = np.equal.outer(self.stretch, self.stretch) / self.lengths[self.stretch]
        if self.population:
            per_image = per_image - 1 / self.population
        part = np.maximum(0.5 / (self.images + 2), (self.shares - scale.floor) / (1 - scale.floor))
        slope = scale.slope(scale.level(scale.floor + (1 - scale.floor) * part))
        better = self.shares >= np.median(self.shares)
        load = float(np.median((np.sqrt(self._variance) / slope)[better]))
        common = _LUCKIER * load**2 * self._alike[np.ix_(self.of, self.of)] * per_image
        own = np.maximum(_LEAST_OWN, 1 - self._most_alike * (load * slope) ** 2 / self._variance)
        dispersion = own * self._variance / (self.shares * (1 - self.shares))
        return common, self.lengths[self.stretch] / dispersion[self.of]

    def _of_one_image(self, scores: Sequence[_Array]) -> _Array:
        """The variance of one image's score, for each subnet. Where it saw few images, it is much like the others'."""
        spread = np.array([row.var() for row in scores])
        mean = np.array([row.mean() for row in scores])
        possible = float(self.images @ (mean * (1 - mean)))
        usual = float(self.images @ spread) / possible if possible > 0 else 1.0
        usual = min(1.0, max(_LEAST_DISPERSION, usual))
        most = self.shares * (1 - self.shares)
        dispersion = (self.images * spread + 2 * usual * most) / (self.images * mean * (1 - mean) + 2 * most)
        found: _Array = np.maximum(_LEAST_DISPERSION, dispersion) * most
        return found


def correlation(scores: _Array, alike: _Array) -> tuple[float, float]:
    """How much the scores of two subnets (subnets, images) go together: the more, the more blocks they share.

    Level and slope of a straight line through all pairs, each by its correlation: few images tell little of one pair.
    """
    centred = scores - scores.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    varied = np.flatnonzero(norms)
    if len(varied) < 3 or scores.shape[1] < 3:
        return 0.0, 0.0
    centred = centred[varied] / norms[varied, None]
    pairs = np.triu_indices(len(varied), 1)
    return _line(alike[np.ix_(varied, varied)][pairs], (centred @ centred.T)[pairs])


def shared_blocks(graph: BlockGraph, subnets: Sequence[Subnet]) -> _Array:
    """The share of its way that each subnet has in common with each other: float64 (subnets, subnets), 0 to 1.

    A block in int8 counts for the same in float32, and the whole network for its blocks.
    """
    columns = {block.name: column for column, block in enumerate(graph.blocks)}
    of_block = np.zeros((len(columns), len(columns)))  # what each block has of the way, by the blocks it counts for
    for block in graph.blocks:
        known = graph.in_float32(block) or block
        for part in graph.oracle if known.kind == "whole" else (known.name,):
            length = graph[part].end - graph[part].start
            of_block[columns[block.name], columns[part]] = math.sqrt(length / graph.end)
    rows = np.zeros((len(subnets), len(columns)))
    for row, subnet in enumerate(subnets):
        rows[row] = of_block[[columns[name] for name in subnet]].sum(axis=0)
    found: _Array = rows @ rows.T
    return found


def _line(alike: _Array, correlation: _Array) -> tuple[float, float]:
    """Level and slope, neither below 0, of the line by least squares, or of one from 0 through the points' middle where
    that would begin below; it ends at `_MOST_ALIKE` at most."""
    apart = alike - alike.mean()
    slope = max(0.0, float(apart @ correlation) / max(1e-12, float(apart @ apart)))
    level = float(correlation.mean() - slope * alike.mean())
    if level < 0:
        level, slope = 0.0, max(0.0, float(correlation.mean() / max(1e-12, alike.mean())))
    shrink = min(1.0, _MOST_ALIKE / max(1e-12, level + slope))
    return shrink * level, shrink * slope
