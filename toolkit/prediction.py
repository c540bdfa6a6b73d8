"""What a subnet takes, predicted from its blocks, with an error that was learned from subnets measured whole.

A block that runs alone is not the block in a subnet: its input lies in another cache, its threads have just been woken.
So some subnets are measured whole in the same rounds as the blocks, and each block's latency is corrected by what they
tell: the relative corrections are independent, and small unless the measurements say otherwise (Bayesian linear
regression, averaged over how small by the marginal likelihood). A predicted latency stays a sum along the path, which
is what searching needs, and its error follows from what is left of the uncertainty.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from .errors import ProfileError
from .graph import Subnet

_OWN = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2)  # how far a block's correction strays: a standard deviation
_NOISE = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)  # of a whole subnet's latency about its sum
_SHARED = 0.5  # how far the correction that all blocks share strays from none
_TWO_SIDED = 1.96  # standard deviations on either side of a 95% interval


class Predictor:
    """Latencies of subnets in milliseconds. `ms` has each block's, corrected: they add up along a path."""

    def __init__(self, alone: Mapping[str, float], whole: Mapping[Subnet, float]) -> None:
        """Learns from each block's latency `alone` and from subnets measured `whole`, all in ms and at least one.

        Raises ProfileError for a block without a latency and when nothing takes any time.
        """
        self._columns = {name: column for column, name in enumerate(alone)}
        self._alone = np.array([alone[name] for name in self._columns])
        features = np.array([self._features(subnet) for subnet in whole])
        sums = np.array([self._sum(subnet) for subnet in whole])
        if not len(sums) or sums.min() <= 0 or min(whole.values()) <= 0:
            raise ProfileError("latencies cannot be predicted from subnets that take no time, or from none")
        over = np.array(list(whole.values())) / sums - 1
        self._fits = [_Fit(features, over, own, noise) for own, noise in itertools.product(_OWN, _NOISE)]
        likelihood = np.array([fit.log_likelihood for fit in self._fits])
        self._weights = np.exp(likelihood - likelihood.max())
        self._weights /= self._weights.sum()
        corrections = self._weights @ [fit.corrections for fit in self._fits]
        corrected = self._alone * np.maximum(1 + corrections[0] + corrections[1:], 0)
        self.ms = {name: float(corrected[column]) for name, column in self._columns.items()}

    def predict(self, subnet: Iterable[str]) -> tuple[float, float]:
        """The latency of a subnet in ms, and half the width of its 95% interval.

        Raises ProfileError for a block without a latency.
        """
        names = list(subnet)
        features = self._features(names)
        means = np.array([features @ fit.corrections for fit in self._fits])
        variances = np.array([fit.variance(features) for fit in self._fits])
        variance = self._weights @ (variances + (means - self._weights @ means) ** 2)
        return math.fsum(self.ms[name] for name in names), float(_TWO_SIDED * math.sqrt(variance) * self._sum(names))

    def _features(self, names: Iterable[str]) -> NDArray[np.float64]:
        """1 for the shared correction, and each block's share in the sum."""
        shares = np.zeros(len(self._columns))
        for name in names:
            shares[self._column(name)] = self._alone[self._column(name)]
        total = shares.sum()
        return np.concatenate([[1.0], shares / total if total > 0 else shares])

    def _sum(self, names: Iterable[str]) -> float:
        return float(sum(self._alone[self._column(name)] for name in names))

    def _column(self, name: str) -> int:
        try:
            return self._columns[name]
        except KeyError:
            raise ProfileError(f"the latency table has no block {name!r}; measure this pack again") from None


class _Fit:
    """The corrections when they stray by `own` and whole subnets by `noise`, both standard deviations."""

    def __init__(self, features: NDArray[np.float64], over: NDArray[np.float64], own: float, noise: float) -> None:
        self._noise = noise
        self._prior = np.full(features.shape[1], own**2)
        self._prior[0] = _SHARED**2
        lower = np.linalg.cholesky((features * self._prior) @ features.T + noise**2 * np.eye(len(over)))
        white = np.linalg.solve(lower, over)
        self._gain = np.linalg.solve(lower, features * self._prior)
        self.corrections = self._gain.T @ white
        self.log_likelihood = float(-0.5 * white @ white - np.log(np.diag(lower)).sum())

    def variance(self, features: NDArray[np.float64]) -> float:
        """Of the relative latency of a subnet with these features, measured once."""
        known = self._gain @ features
        return float(features @ (self._prior * features) - known @ known + self._noise**2)
