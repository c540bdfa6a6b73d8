"""What is known of every subnet's quality from those that were evaluated, some on more images than others.

The logarithm of a subnet's quality is a Gaussian process over paths (Rasmussen and Williams, Gaussian Processes for
Machine Learning, 2006, chapter 2): a sum over its alternatives, each of which takes a share of quality wherever it
stands, with the local distillation losses as the prior; a term for each two alternatives that it has both; and one of
the subnet's own. How large these are is learned with them. Terms of any two alternatives explain more than those of
neighbours only, and cost nothing: two subnets that share n alternatives share n (n - 1) / 2 of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..graph import BlockGraph, Subnet
from .base import Result
from .observed import Observed

_Array = NDArray[np.float64]

_LEVEL = 2.0  # the prior's standard deviations, of log qualities: of what all subnets share,
_PER_LOSS = 1.0  # of what the alternative of the largest local loss takes,
_OWN = (0.02, 0.06, 0.2)  # of what an alternative takes besides,
_PAIR = (0.01, 0.03)  # of two of them together,
_MISFIT = (0.005, 0.02)  # and of a subnet about all of that
_REFITTED = 1.2  # times as many results as before, and these are learned anew
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
        observed = Observed(self.graph, results, self.population)
        if len(results) > _REFITTED * self._fitted_to:
            self._fitted_to = len(results)
            self._scale = self._plausible(observed)
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
        shared = a @ b.T
        return fixed, shared, shared * (shared - 1) / 2, same

    def _plausible(self, observed: Observed) -> tuple[float, float, float]:
        """Standard deviations by the results: their squares are the mean of the grid's, weighed by likelihood.

        Of few results most of the grid is plausible, and its likeliest point would promise too much.
        """
        parts = self._parts(observed.subnets, observed.subnets)
        grid = list(itertools.product(_OWN, _PAIR, _MISFIT))
        likelihood = np.empty(len(grid))
        for place, scale in enumerate(grid):
            root = np.linalg.cholesky(_of_values(_weighed(parts, scale), observed))
            misfit = np.square(np.linalg.solve(root, observed.values)).sum()
            likelihood[place] = -0.5 * misfit - np.log(np.diag(root)).sum()
        weight = np.exp(likelihood - likelihood.max())
        own, pair, misfit = np.sqrt(weight @ np.square(grid) / weight.sum()).tolist()
        return own, pair, misfit

    def _loss(self, name: str) -> float:
        """The block's local loss; where there is none, the number of blocks it replaces is all that is known."""
        block = self.graph[name]
        return float(block.end - block.start) if block.loss is None else block.loss


def _weighed(parts: tuple[_Array, ...], scale: tuple[float, float, float]) -> _Array:
    found, *scaled = parts
    for deviation, part in zip(scale, scaled, strict=True):
        found = found + deviation**2 * part
    return found


def _of_values(prior: _Array, observed: Observed) -> _Array:
    """The covariance of what was observed, from the prior one of its subnets."""
    found: _Array = prior[np.ix_(observed.of, observed.of)] + observed.noise
    return found


class Posterior:
    """What the model makes of the results."""

    def __init__(self, model: QualityModel, observed: Observed) -> None:
        self.model, self.observed = model, observed
        known = _of_values(model.covariance(observed.subnets, observed.subnets), observed)
        self._inverse = np.linalg.inv(np.linalg.cholesky(known))
        self._solved = self._whitened(observed.values)

    def log_qualities(self, subnets: Sequence[Subnet]) -> tuple[_Array, _Array]:
        """The expected log qualities (n,) of any subnets, and their covariance (n, n)."""
        across = self._whitened(self.model.covariance(self.observed.subnets, subnets)[self.observed.of])
        return across.T @ self._solved, self.model.covariance(subnets, subnets) - across.T @ across

    def cautious(self, subnets: Sequence[Subnet]) -> dict[Subnet, float]:
        """What each subnet's quality is at least, give or take: one standard deviation below what is expected."""
        mean, covariance = self.log_qualities(subnets)
        low = mean - np.sqrt(np.maximum(np.diag(covariance), 0.0))
        return dict(zip(subnets, np.minimum(1.0, np.exp(low)).tolist()))

    def of_blocks(self, draws: int, rng: np.random.Generator) -> list[Mapping[str, float]]:
        """What each block adds to the log quality: as expected, and then so many draws of what it may be."""
        prior = self.model.of_blocks()
        across = self._whitened((self.model.rows(self.observed.subnets) @ prior)[self.observed.of])
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
