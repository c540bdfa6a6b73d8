"""What is known of every subnet's quality from those that were evaluated, some on more images than others.

The logit of a subnet's quality, on a scale from the share that a ruined subnet still gets to 1, is a Gaussian process
over paths (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 3): a sum over its
alternatives, each of which takes something wherever it stands, the more the larger its local distillation loss; a term
for each two alternatives that it has both; and one of the subnet's own. Terms of any two alternatives explain more than
those of neighbours only, and cost nothing: which two subnets share follows from which alternatives they share. These
terms are the larger the more the alternatives take: what is seen of subnets that are nearly as good as the original
says little about ruined ones. A block in int8 takes what the same block in float32 takes, and a little more of its own.

How large these are, where the scale ends and how it bends is not known either. Near what was seen, all answers agree;
far from it each says something else. So no one answer is taken: a posterior is a mixture of the plausible ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ..graph.graph import BlockGraph, Subnet
from . import laplace
from .base import Result
from .observed import Observed, Scale

_Array = NDArray[np.float64]

_PRIOR, _HIGH = 0.9, 0.995  # the quality that is expected before anything is known, and one that few will have
_LEVEL = 0.6  # the prior's deviation of what all subnets share, by how far these two qualities are apart
# The other standard deviations, in levels of a logit, where `_PRIOR` is:
_PER_LOSS = 0.5  # of what an alternative of the median loss takes for its loss,
_LARGEST = 10.0  # a loss of more medians than this is out of all proportion, and says as little as none:
_UNKNOWN = 2.0  # what such an alternative takes is another matter than what others do;
_OWN = (0.05, 0.2, 0.7, 2.0)  # of what any other takes besides,
_INT8 = 0.3  # of that, for what int8 takes from a block beside what that takes in float32,
_CURVE = 0.5  # of what any two together take more in the mean, by the product of what each takes,
_PAIR = (0.1, 0.3, 1.0)  # of what two of them take about that, by the root of that product,
_MISFIT = (0.05, 0.15, 0.4)  # and of a subnet about all of that, by what its alternatives take
_ALWAYS = 0.3  # and a little more: nothing is known without a doubt
_RUINED = 3.0  # what an alternative takes counts up to here: a subnet is ruined then
_USUAL = (0.3, 0.3, 0.15)
_FLOORS = (0.0, 0.9)  # shares of the worst subnet's quality that the lower end of the scale may be at,
_BENDS = (10.0, 1.0, 0.1)  # and how it may come to its upper end
_LEARNED_FROM = 100  # results at most, and with so many
_REFITTED = 1.3  # times as many results as before, and these are learned anew
# No network is such a process, and what is wrong with it is wrong of many results at once: any number of them speaks
# for one answer and against another like less than so many (a coarsened posterior: Miller and Dunson, Journal of the
# American Statistical Association 114, 2019).
_SPEAKING = 25
_LEAST_WEIGHT = 0.03  # what is less plausible is left out
_QUANTILES = 201  # by which one part of a mixture is put beside the others
_ROUNDING = 1e-8  # what a posterior covariance may be off by

Deviations = tuple[float, float, float]


@dataclass(frozen=True)
class Hypothesis:
    """One answer to what is not known, and how plausible it is; the weights of all come to 1."""

    scale: Scale
    deviations: Deviations
    weight: float = 1.0

    @property
    def prior(self) -> tuple[float, float]:
        """The level that is expected of a subnet of which nothing is known, and the standard deviation of that."""
        expected, high = self.scale.level(np.array([_PRIOR, _HIGH])).tolist()
        return expected, _LEVEL * (high - expected)

    @property
    def unit(self) -> float:
        """How many levels of this scale are one of a logit's, where `_PRIOR` is: so are deviations alike for all."""
        return _PRIOR * (1 - _PRIOR) / float(self.scale.slope(np.array(self.prior[0])))

    def weighed(self, parts: tuple[_Array, ...]) -> _Array:
        """The covariance of the parts (see `QualityModel.parts`), of the same shape, in levels."""
        found, *scaled = parts
        for deviation, part in zip(self.deviations, scaled, strict=True):
            found = found + deviation**2 * part
        return self.prior[1] ** 2 + self.unit**2 * found


class QualityModel:
    """A model of one graph's subnets. `population` is how many images matter; None: those of the search are a draw."""

    def __init__(self, graph: BlockGraph, population: int | None = None) -> None:
        self.graph = graph
        self.population = population
        alternatives = [block for block in graph.blocks if not block.is_original]
        self.columns = {block.name: column for column, block in enumerate(alternatives)}
        floats = [graph.in_float32(block) for block in alternatives]
        self._columns_of = {
            block.name: [
                self.columns[name] for name in (block.name, known.name if known else "") if name in self.columns
            ]
            for block, known in zip(alternatives, floats, strict=True)
        }
        losses = [
            max(0.0, (block.loss or 0.0) - (known.loss or 0.0 if known else 0.0))
            for block, known in zip(alternatives, floats, strict=True)
        ]
        if not any(losses):  # then the number of blocks that each replaces is all that is known
            losses = [float(block.end - block.start) for block in alternatives]
        in_float32 = [loss for loss, block in zip(losses, alternatives) if block.precision == "float32"]
        median = np.median([loss for loss in in_float32 if loss] or [loss for loss in losses if loss] or [1.0])
        self._losses = np.array(losses) / median
        self._alike = (self._losses > 0) & (self._losses <= _LARGEST)
        self._losses[~self._alike] = 0
        own = np.array([1.0 if block.precision == "float32" else _INT8**2 for block in alternatives])
        self._own = np.where(self._alike, own, 0.0)  # of the variance of what alternatives take besides
        self._sizes = np.full(len(losses), _USUAL[0])
        self._hypotheses: list[Hypothesis] = []
        self._fitted_to = 0

    def fit(self, results: Sequence[Result]) -> Posterior:
        """What the results say. At least one is needed."""
        observed = Observed(self.graph, results, self.population)
        if len(results) > _REFITTED * self._fitted_to:
            self._fitted_to = len(results)
            self._hypotheses = self._plausible(self._telling(results))
        return Posterior(self, observed, self._hypotheses)

    def _telling(self, results: Sequence[Result]) -> Observed:
        """Some of the results, those on most images first. All of them would take long and teach little more."""
        ranked = sorted(results, key=lambda result: -result.n)
        rest = ranked[_LEARNED_FROM // 2 :]
        some = [*ranked[: _LEARNED_FROM // 2], *rest[:: 1 + 2 * len(rest) // _LEARNED_FROM]]
        return Observed(self.graph, some, self.population)

    def rows(self, subnets: Sequence[Subnet]) -> _Array:
        """For each subnet 1 where it has an alternative, itself or in int8: float64 (subnets, alternatives)."""
        rows = np.zeros((len(subnets), len(self.columns)))
        for row, subnet in enumerate(subnets):
            rows[row, [column for name in subnet for column in self._columns_of.get(name, ())]] = 1
        return rows

    def by_block(self, of_alternatives: _Array) -> dict[str, float]:
        """What each block takes, from what the alternatives take: float64 (alternatives,)."""
        columns_of = {block.name: self._columns_of.get(block.name, []) for block in self.graph.blocks}
        return {name: float(of_alternatives[columns].sum()) for name, columns in columns_of.items()}

    def of_blocks(self, hypothesis: Hypothesis) -> _Array:
        """The prior covariance of what the alternatives take: float64 (alternatives, alternatives)."""
        own = np.diag(np.where(self._alike, hypothesis.deviations[0] ** 2 * self._own, _UNKNOWN**2))
        covariance: _Array = hypothesis.unit**2 * (_PER_LOSS**2 * np.outer(self._losses, self._losses) + own)
        return covariance

    def parts(self, ones: Sequence[Subnet], others: Sequence[Subnet]) -> tuple[_Array, ...]:
        """What the prior covariance of two lists of logits of quality is the weighed sum of: what is fixed,
        alternatives, pairs, and subnets that are in both, each float64 (ones, others)."""
        a, b = self.rows(ones), self.rows(others)
        numbers = {subnet: number for number, subnet in enumerate(others)}
        same = np.zeros((len(ones), len(others)))
        for row, subnet in enumerate(ones):
            if subnet in numbers:
                same[row, numbers[subnet]] = np.square(_ALWAYS + a[row] @ self._sizes)
        fixed = self._trend(a).T @ self._trend(b) + _UNKNOWN**2 * (a * ~self._alike) @ b.T
        return fixed, (a * self._own) @ b.T, _pairs((a * self._sizes) @ b.T, (a * self._sizes**2) @ b.T), same

    def parts_of_each(self, subnets: Sequence[Subnet]) -> tuple[_Array, ...]:
        """The same of the variance of each: float64 (subnets,)."""
        rows = self.rows(subnets)
        taken = rows @ self._sizes
        fixed: _Array = np.square(self._trend(rows)).sum(axis=0) + _UNKNOWN**2 * rows @ ~self._alike
        return fixed, rows @ self._own, _pairs(taken, rows @ self._sizes**2), np.square(_ALWAYS + taken)

    def _trend(self, rows: _Array) -> _Array:
        """What each subnet has of the two deviations of the mean, by loss and by pair: float64 (2, subnets)."""
        by_pair = _CURVE * _pairs(rows @ self._sizes, rows @ self._sizes**2)
        return np.array([_PER_LOSS * (rows @ self._losses), by_pair])

    def _measured(self, observed: Observed) -> _Array:
        """About how much each alternative takes, in levels of a logit: float64 (alternatives,)."""
        hypothesis = Hypothesis(Scale(), _USUAL)
        values = np.ix_(observed.of, observed.of)
        parts = tuple(part[values] for part in self.parts(observed.subnets, observed.subnets))
        part = _Part(hypothesis, parts, observed)
        prior = self.of_blocks(hypothesis)
        across = self.rows(observed.subnets)[observed.of] @ prior
        variance = np.diag(prior) - np.square(part.inverse @ across).sum(axis=0)
        found: _Array = np.minimum(np.sqrt(np.square(across.T @ part.weights) + variance), _RUINED)
        return found

    def _plausible(self, observed: Observed) -> list[Hypothesis]:
        """The scales, each with its standard deviations, that the results speak for."""
        self._sizes = self._measured(observed)
        values = np.ix_(observed.of, observed.of)
        parts = tuple(part[values] for part in self.parts(observed.subnets, observed.subnets))
        worst = float(observed.shares.min())
        speaking = _SPEAKING / (_SPEAKING + len(observed.subnets))
        found, evidence = [], []
        for share, bend in itertools.product(_FLOORS, _BENDS):
            scale = Scale(share * min(0.5, worst), bend)
            usual = Hypothesis(scale, _USUAL)
            hypothesis = Hypothesis(scale, _averaged(usual, parts, observed, speaking))
            found.append(hypothesis)
            evidence.append(_fit(hypothesis, parts, observed)[0].evidence)
        weights = _weights(np.array(evidence), speaking)
        weights = np.where(weights < _LEAST_WEIGHT, 0.0, weights)
        kept = zip(found, (weights / weights.sum()).tolist(), strict=True)
        return [Hypothesis(each.scale, each.deviations, weight) for each, weight in kept if weight]


def _pairs(total: _Array, squares: _Array) -> _Array:
    """The sum over all pairs of the product of the two, from the sum and the sum of squares of each."""
    found: _Array = (np.square(total) - squares) / 2
    return found


def _weights(likelihood: _Array, speaking: float) -> _Array:
    """From log likelihoods: how plausible each answer is, all together 1."""
    weights = np.exp(speaking * (likelihood - likelihood.max()))
    shares: _Array = weights / weights.sum()
    return shares


def _fit(hypothesis: Hypothesis, parts: tuple[_Array, ...], observed: Observed) -> tuple[laplace.Fit, _Array]:
    """The process by one hypothesis at what was observed, and the covariance (values, values) of that."""
    common, counts = observed.luck(hypothesis.scale)
    known = hypothesis.weighed(parts) + common
    return laplace.fit(known, hypothesis.prior[0], observed.means, counts, hypothesis.scale), known


def _averaged(usual: Hypothesis, parts: tuple[_Array, ...], observed: Observed, speaking: float) -> Deviations:
    """Standard deviations: their squares are the mean of the grid's, weighed by how plausible they are.

    Of few results most of the grid is plausible, and its likeliest point would promise too much.
    """
    fit, known = _fit(usual, parts, observed)
    values, variance = fit.pseudo
    away = values - usual.prior[0]
    error = known - usual.weighed(parts) + np.diag(variance)
    grid = list(itertools.product(_OWN, _PAIR, _MISFIT))
    likelihood = np.empty(len(grid))
    for place, deviations in enumerate(grid):
        root = np.linalg.cholesky(Hypothesis(usual.scale, deviations).weighed(parts) + error)
        likelihood[place] = -0.5 * np.square(np.linalg.solve(root, away)).sum() - np.log(np.diag(root)).sum()
    own, pair, misfit = np.sqrt(_weights(likelihood, speaking) @ np.square(grid)).tolist()
    return own, pair, misfit


class Posterior:
    """What the model makes of the results: a mixture, of one part for each hypothesis."""

    def __init__(self, model: QualityModel, observed: Observed, hypotheses: Sequence[Hypothesis]) -> None:
        self.model, self.observed = model, observed
        values = np.ix_(observed.of, observed.of)
        parts = tuple(part[values] for part in model.parts(observed.subnets, observed.subnets))
        self._mixed = [_Part(hypothesis, parts, observed) for hypothesis in hypotheses]
        self._weights = np.array([hypothesis.weight for hypothesis in hypotheses])

    def between(self, subnets: Sequence[Subnet], deviations: float) -> tuple[_Array, _Array]:
        """Qualities (n,) so many standard deviations below and above what is expected: those quantiles of a normal."""
        across, within = self.model.parts(self.observed.subnets, subnets), self.model.parts_of_each(subnets)
        steps = np.array([NormalDist().inv_cdf((step + 0.5) / _QUANTILES) for step in range(_QUANTILES)])
        found = []
        for part in self._mixed:
            mean, whitened, prior = part.levels(across, within)
            deviation = np.sqrt(np.maximum(prior - np.square(whitened).sum(axis=0), 0.0))
            found.append(part.hypothesis.scale.quality(mean + np.outer(steps, deviation)))
        qualities = np.concatenate(found)
        order = np.argsort(qualities, axis=0)
        reached = np.cumsum(np.repeat(self._weights / _QUANTILES, _QUANTILES)[order], axis=0)
        ends = []
        for share in (NormalDist().cdf(-deviations), NormalDist().cdf(deviations)):
            first = (reached < share - _ROUNDING).sum(axis=0, keepdims=True).clip(max=len(qualities) - 1)
            ends.append(np.take_along_axis(qualities, np.take_along_axis(order, first, axis=0), axis=0)[0])
        return ends[0], ends[1]

    def cautious(self, subnets: Sequence[Subnet]) -> dict[Subnet, float]:
        """What each subnet's quality is at least, give or take: one standard deviation below what is expected."""
        return dict(zip(subnets, self.between(subnets, 1.0)[0].tolist(), strict=True))

    def of_blocks(self, draws: int, rng: np.random.Generator) -> list[Mapping[str, float]]:
        """What each block adds to the logit: as is expected by the likeliest hypothesis, and then so many draws of what
        it may be, by any."""
        rows = self.model.rows(self.observed.subnets)[self.observed.of]
        likeliest = int(np.argmax(self._weights))
        drawn: list[_Array] = []
        for number in [likeliest, *rng.choice(len(self._mixed), draws, p=self._weights).tolist()]:
            part = self._mixed[number]
            prior = self.model.of_blocks(part.hypothesis)
            across = rows @ prior
            value = across.T @ part.weights
            if drawn:
                whitened = part.inverse @ across
                value = value + _root(prior - whitened.T @ whitened) @ rng.standard_normal(len(value))
            drawn.append(value)
        return [self.model.by_block(each) for each in drawn]

    def draw(self, subnets: Sequence[Subnet], draws: int, rng: np.random.Generator) -> tuple[_Array, _Array]:
        """Expected qualities (subnets,), and (draws, subnets) of what all of them may be together."""
        across, within = self.model.parts(self.observed.subnets, subnets), self.model.parts(subnets, subnets)
        expected, drawn = np.zeros(len(subnets)), []
        bounds = np.round(draws * np.cumsum([0.0, *self._weights])).astype(int)
        for part, weight, count in zip(self._mixed, self._weights, np.diff(bounds), strict=True):
            mean, whitened, prior = part.levels(across, within)
            scale = part.hypothesis.scale
            expected += weight * scale.quality(mean)
            root = _root(prior - whitened.T @ whitened)
            drawn.append(scale.quality(mean + rng.standard_normal((count, len(subnets))) @ root.T))
        return expected, np.concatenate(drawn)


class _Part:
    """What one hypothesis makes of the results."""

    def __init__(self, hypothesis: Hypothesis, parts: tuple[_Array, ...], observed: Observed) -> None:
        self.hypothesis, self.of = hypothesis, observed.of
        fit, known = _fit(hypothesis, parts, observed)
        self.weights = fit.weights
        self.inverse = np.linalg.inv(np.linalg.cholesky(known + np.diag(1 / fit.curvature)))

    def levels(self, across: tuple[_Array, ...], within: tuple[_Array, ...]) -> tuple[_Array, _Array, _Array]:
        """The expected logits of the qualities (n,) of any subnets; what the results take from the covariance, as a
        root (values, n); and the covariance before, as `within` is, of each or of all with one another."""
        known = self.hypothesis.weighed(across)[self.of]
        return self.hypothesis.prior[0] + known.T @ self.weights, self.inverse @ known, self.hypothesis.weighed(within)


def _root(covariance: _Array) -> _Array:
    """A matrix that gives the covariance, multiplied by its own transpose."""
    rounding = _ROUNDING * (1 + float(np.diag(covariance).max(initial=0.0)))
    return np.linalg.cholesky(covariance + rounding * np.eye(len(covariance))).astype(np.float64, copy=False)
