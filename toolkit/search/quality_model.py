"""What is known of every subnet's quality from those that were evaluated, some on more images than others.

The logarithm of a subnet's quality is a Gaussian process over paths (Rasmussen and Williams, Gaussian Processes for
Machine Learning, 2006, chapter 2): a sum over its alternatives, each of which takes a share of quality wherever it
stands, with the local distillation losses as the prior; a term for each pair of alternatives that follow each other;
and one of the subnet's own. How large the three are is what makes the results likeliest, on a grid.

Scores on the same images go up and down together. So the errors of two measured qualities are correlated, and their
difference is known better than either: what a paired test makes use of.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..graph import BlockGraph, Subnet
from .base import Result

_Array = NDArray[np.float64]

_LEVEL = 2.0  # the prior's standard deviations, of log qualities: of what all subnets share,
_PER_LOSS = 1.0  # of what the alternative of the largest local loss takes,
_OWN = (0.05, 0.15, 0.4)  # of what a block takes besides,
_PAIR = (0.0, 0.02, 0.06)  # of a pair of neighbours,
_MISFIT = (0.005, 0.02, 0.06)  # and of a subnet about all of that
_JITTER = 1e-9
_ROUNDING = 1e-8  # what a posterior covariance may be off by


class QualityModel:
    """A model of one graph's subnets. `population` is how many images matter; None: those of the search are a draw."""

    def __init__(self, graph: BlockGraph, population: int | None = None) -> None:
        self.graph = graph
        self.population = population
        self.columns = {
            block.name: column for column, block in enumerate(b for b in graph.blocks if b.kind != "original")
        }
        losses = np.array([self._loss(name) for name in self.columns])
        self._losses = losses / losses.max(initial=1e-12)
        self._scale = (_OWN[1], _PAIR[1], _MISFIT[1])
        self._fitted_to = 0

    def fit(self, results: Sequence[Result]) -> Posterior:
        """What the results say. At least one is needed."""
        observed = Observed(results, self.population)
        if len(results) > 1.5 * self._fitted_to:
            self._fitted_to = len(results)
            self._scale = self._likeliest(observed)
        return Posterior(self, observed)

    def rows(self, subnets: Sequence[Subnet]) -> _Array:
        """For each subnet 1 where it has an alternative: float64 (subnets, alternatives)."""
        rows = np.zeros((len(subnets), len(self.columns)))
        for row, subnet in enumerate(subnets):
            rows[row, [self.columns[name] for name in subnet if name in self.columns]] = 1
        return rows

    def of_blocks(self) -> _Array:
        """The prior covariance of what the alternatives take: float64 (alternatives, alternatives)."""
        return _PER_LOSS**2 * np.outer(self._losses, self._losses) + self._scale[0] ** 2 * np.eye(len(self._losses))

    def covariance(self, ones: Sequence[Subnet], others: Sequence[Subnet]) -> _Array:
        """The prior covariance of two lists of log qualities: float64 (ones, others)."""
        return _weighed(self._parts(ones, others), self._scale)

    def _parts(self, ones: Sequence[Subnet], others: Sequence[Subnet]) -> tuple[_Array, ...]:
        """What a covariance is the weighed sum of: what is fixed, alternatives, pairs, and subnets that are in both."""
        a, b = self.rows(ones), self.rows(others)
        fixed: _Array = _LEVEL**2 + _PER_LOSS**2 * np.outer(a @ self._losses, b @ self._losses)
        numbers = {subnet: number for number, subnet in enumerate(others)}
        same = np.zeros((len(ones), len(others)))
        for row, subnet in enumerate(ones):
            if subnet in numbers:
                same[row, numbers[subnet]] = 1
        return fixed, a @ b.T, self._shared_pairs(ones, others), same

    def _shared_pairs(self, ones: Sequence[Subnet], others: Sequence[Subnet]) -> _Array:
        columns: dict[tuple[str, str], int] = {}
        entries = [
            [
                (row, columns.setdefault(pair, len(columns)))
                for row, subnet in enumerate(subnets)
                for pair in itertools.pairwise(subnet)
                if pair[0] in self.columns and pair[1] in self.columns
            ]
            for subnets in (ones, others)
        ]
        first, second = np.zeros((len(ones), len(columns))), np.zeros((len(others), len(columns)))
        for matrix, places in zip((first, second), entries, strict=True):
            for place in places:
                matrix[place] = 1
        found: _Array = first @ second.T
        return found

    def _likeliest(self, observed: Observed) -> tuple[float, float, float]:
        """The standard deviations under which the results are the likeliest."""
        parts = self._parts(observed.subnets, observed.subnets)

        @cache
        def likelihood(scale: tuple[float, float, float]) -> float:
            known = _weighed(parts, scale) + observed.noise
            fit = observed.log_quality @ np.linalg.solve(known, observed.log_quality)
            return float(-0.5 * fit - np.log(np.diag(np.linalg.cholesky(known))).sum())

        # One after the other from where it was last, twice: hardly ever another than the whole grid's best.
        best = self._scale
        for _ in range(2):
            best = max(((own, *best[1:]) for own in _OWN), key=likelihood)
            best = max(((best[0], pair, best[2]) for pair in _PAIR), key=likelihood)
            best = max(((*best[:2], misfit) for misfit in _MISFIT), key=likelihood)
        return best

    def _loss(self, name: str) -> float:
        """The block's local loss; where there is none, the number of blocks it replaces is all that is known."""
        block = self.graph[name]
        return float(block.end - block.start) if block.loss is None else block.loss


def _weighed(parts: tuple[_Array, ...], scale: tuple[float, float, float]) -> _Array:
    found, *scaled = parts
    for deviation, part in zip(scale, scaled, strict=True):
        found = found + deviation**2 * part
    return found


class Observed:
    """Results as log qualities (n,) with the covariance (n, n) of their errors, which comes of the choice of images."""

    def __init__(self, results: Sequence[Result], population: int | None) -> None:
        self.subnets = [result.subnet for result in results]
        images = np.array([result.n for result in results], dtype=np.float64)
        total = np.array([result.scores.sum() for result in results])
        # A share of none or of all says little about its own spread: two more images, one right and one wrong.
        share = (total + 1) / (images + 2)
        spread = np.array([result.scores.var() for result in results])
        variance = (images * spread + 2 * share * (1 - share)) / (images + 2)
        quality = np.maximum(total, 0.5) / images
        self.log_quality = np.log(quality)
        deviation = np.sqrt(variance) / quality
        # Of two subnets, the one that saw fewer images saw none that the other did not.
        per_image = 1 / np.maximum.outer(images, images) - (1 / population if population else 0.0)
        correlation = np.full((len(results), len(results)), _correlation(results))
        np.fill_diagonal(correlation, 1.0)
        self.noise = correlation * np.outer(deviation, deviation) * per_image + _JITTER * np.eye(len(results))


def _correlation(results: Sequence[Result]) -> float:
    """How much the scores of two subnets go together, image by image: the mean over pairs, on what all of them saw."""
    images = min(result.n for result in results)
    scores = np.array([result.scores[:images] for result in results])
    scores = scores[scores.std(axis=1) > 0]
    if len(scores) < 2 or images < 3:
        return 0.0
    scores = scores - scores.mean(axis=1, keepdims=True)
    scores /= np.linalg.norm(scores, axis=1, keepdims=True)
    pairs = len(scores) * (len(scores) - 1)
    return float(np.clip((np.square(scores.sum(axis=0)).sum() - len(scores)) / pairs, 0.0, 0.95))


class Posterior:
    """What the model makes of the results."""

    def __init__(self, model: QualityModel, observed: Observed) -> None:
        self.model, self.observed = model, observed
        known = model.covariance(observed.subnets, observed.subnets) + observed.noise
        self._inverse = np.linalg.inv(np.linalg.cholesky(known))
        self._solved = self._whitened(observed.log_quality)

    def log_qualities(self, subnets: Sequence[Subnet]) -> tuple[_Array, _Array]:
        """The expected log qualities (n,) of any subnets, and their covariance (n, n)."""
        across = self._whitened(self.model.covariance(self.observed.subnets, subnets))
        return across.T @ self._solved, self.model.covariance(subnets, subnets) - across.T @ across

    def expected(self, subnets: Sequence[Subnet]) -> dict[Subnet, float]:
        """The median of what each subnet's quality may be, at most 1."""
        across = self._whitened(self.model.covariance(self.observed.subnets, subnets))
        return dict(zip(subnets, np.minimum(1.0, np.exp(across.T @ self._solved)).tolist()))

    def of_blocks(self, draws: int, rng: np.random.Generator) -> list[Mapping[str, float]]:
        """What each block adds to the log quality: as expected, and then so many draws of what it may be."""
        prior = self.model.of_blocks()
        across = self._whitened(self.model.rows(self.observed.subnets) @ prior)
        mean = across.T @ self._solved
        drawn = [mean]
        if draws:
            drawn += list(mean + rng.standard_normal((draws, len(mean))) @ _root(prior - across.T @ across).T)
        names = [block.name for block in self.model.graph.blocks]
        return [dict.fromkeys(names, 0.0) | dict(zip(self.model.columns, each.tolist())) for each in drawn]

    def draw(self, subnets: Sequence[Subnet], draws: int, rng: np.random.Generator) -> tuple[_Array, _Array]:
        """Expected qualities (subnets,), and (draws, subnets) of what all of them may be together."""
        mean, covariance = self.log_qualities(subnets)
        drawn = mean + rng.standard_normal((draws, len(subnets))) @ _root(covariance).T
        return np.exp(mean), np.exp(drawn)

    def _whitened(self, values: _Array) -> _Array:
        found: _Array = self._inverse @ values
        return found


def _root(covariance: _Array) -> _Array:
    """A matrix that gives the covariance, multiplied by its own transpose."""
    return np.linalg.cholesky(covariance + _ROUNDING * np.eye(len(covariance))).astype(np.float64, copy=False)
