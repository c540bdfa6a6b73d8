"""Laplace's approximation of a Gaussian process that is seen through shares of right answers.

Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 3.4 and algorithm 3.1, with the expected
curvature in the place of the curvature (Fisher scoring), which is never negative, and the quasi-likelihood of shares
(Wedderburn, Biometrika 61, 1974): a mean counts like so many answers that are right or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .observed import Scale

_Array = NDArray[np.float64]

_STEPS, _ENOUGH = 50, 1e-4
_LEAST = 1e-9  # of a curvature, and of what is left to the ends of a share


@dataclass(frozen=True)
class Fit:
    """Where a process is the likeliest: `logits` and `curvature` (values,), and the log `evidence`.

    The evidence may be compared where counts differ: it is taken against a fit that hits every mean, and that counts as
    the peak of a normal density. `weights` (values,) are so that a covariance with the values times the weights is what
    is expected.
    """

    logits: _Array
    weights: _Array
    curvature: _Array
    evidence: float

    @property
    def pseudo(self) -> tuple[_Array, _Array]:
        """Values and variances (values,): seen with Gaussian errors of this size, they would come to the same fit."""
        return self.logits + self.weights / self.curvature, 1 / self.curvature


def fit(covariance: _Array, prior: float, means: _Array, counts: _Array, scale: Scale) -> Fit:
    """The mode of logits with the expected value `prior` and the `covariance`, of which the `means` were seen.

    `means` and `counts` are (values,): shares, and how many right or wrong answers they count for.
    """
    weights = np.zeros(len(means))
    logits = np.full(len(means), prior)
    reached = _likelihood(logits, means, counts, scale)
    for _ in range(_STEPS):
        gradient, curvature = _derivatives(logits, means, counts, scale)
        width = np.sqrt(curvature)
        wanted = curvature * (logits - prior) + gradient
        inner = np.linalg.solve(_balanced(covariance, width), width * (covariance @ wanted))
        step = wanted - width * inner - weights
        size, before = 1.0, reached
        while True:
            tried = weights + size * step
            at = covariance @ tried
            reached = _likelihood(prior + at, means, counts, scale) - 0.5 * float(tried @ at)
            if reached >= before - _ENOUGH or size < 1e-3:
                break
            size /= 2
        weights, logits = tried, prior + at
        if abs(reached - before) < _ENOUGH:
            break
    _, curvature = _derivatives(logits, means, counts, scale)
    root = np.linalg.cholesky(_balanced(covariance, np.sqrt(curvature)))
    hit = _log_likelihood(means, means, counts) - 0.5 * float(np.log(counts).sum())
    return Fit(logits, weights, curvature, reached - hit - float(np.log(np.diag(root)).sum()))


def _balanced(covariance: _Array, width: _Array) -> _Array:
    """A matrix as well-conditioned as can be: no eigenvalue is below 1."""
    found: _Array = np.eye(len(width)) + np.outer(width, width) * covariance
    return found


def _likelihood(logits: _Array, means: _Array, counts: _Array, scale: Scale) -> float:
    return _log_likelihood(scale.quality(logits), means, counts)


def _log_likelihood(share: _Array, means: _Array, counts: _Array) -> float:
    share = np.clip(share, _LEAST, 1 - _LEAST)
    return float(counts @ (means * np.log(share) + (1 - means) * np.log1p(-share)))


def _derivatives(logits: _Array, means: _Array, counts: _Array, scale: Scale) -> tuple[_Array, _Array]:
    """Of the log likelihood: the gradient, and the expected curvature, which is above 0."""
    share = np.clip(scale.quality(logits), _LEAST, 1 - _LEAST)
    slope = scale.slope(logits)
    variance = share * (1 - share)
    gradient = counts * slope * (means - share) / variance
    return gradient, np.maximum(_LEAST, counts * slope**2 / variance)
