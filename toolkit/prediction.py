"""What a subnet takes, predicted from its blocks, with an error that was learned from subnets measured whole.

A block that runs alone is not the block in a subnet: its input lies in another cache, its threads have just been woken.
So some subnets are measured whole in the same rounds as the blocks, with time-stamps at their cuts, and each block's
latency is corrected by what they tell: the relative corrections are independent, and small unless the measurements say
otherwise (Bayesian linear regression, averaged over how small, and over how far the measurements stray, by the marginal
likelihood). The time-stamps tell the blocks from each other; how much all together take comes from whole subnets alone,
because medians do not add up. A predicted latency stays a sum along the path, which is what searching needs, and
its error follows from what is left of the uncertainty.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import ProfileError
from .graph import Subnet

_OWN = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2)  # how far a block's correction strays: a standard deviation
_NOISE = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # of a whole subnet's latency about its sum
_NOISE_IN_SITU = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of a block's latency in one subnet about that in others
_SHARED = 0.1  # how far a correction that all blocks share strays from the level of the measurements
_TWO_SIDED = 1.96  # standard deviations on either side of a 95% interval
_WHOLE, _IN_SITU, _OWNED = 0, 1, 2  # columns: the corrections shared in whole subnets and in situ, then each block's


class Predictor:
    """Latencies of subnets in milliseconds. `ms` has each block's, corrected: they add up along a path."""

    def __init__(
        self,
        alone: Mapping[str, float],
        whole: Mapping[Subnet, float],
        in_situ: Mapping[Subnet, Sequence[float]] | None = None,
    ) -> None:
        """Learns from each block's latency `alone`, from subnets measured `whole`, at least one, and from the
        latencies of the blocks of some subnets `in_situ`, all in ms.

        Raises ProfileError for a block without a latency and when nothing takes any time.
        """
        self._columns = {name: column for column, name in enumerate(alone)}
        self._ms = np.array(list(alone.values()))
        sums, measured = np.array([self._sum(subnet) for subnet in whole]), np.array(list(whole.values()))
        if not len(sums) or sums.min() <= 0 or measured.min() <= 0:
            raise ProfileError("latencies cannot be predicted from subnets that take no time, or from none")
        of_whole = _Evidence(np.array([self._features(subnet) for subnet in whole]), measured, sums)
        of_blocks = self._evidence_in_situ(in_situ or {})
        fits = [
            _Fit(own, noise, of_whole, noise_in_situ, of_blocks)
            for own, noise, noise_in_situ in itertools.product(_OWN, _NOISE, _NOISE_IN_SITU)
        ]
        likelihood = np.array([fit.log_likelihood for fit in fits])
        weights = np.exp(likelihood - likelihood.max())
        weights /= weights.sum()
        corrections = np.array([fit.corrections for fit in fits])
        mean = weights @ corrections
        strayed = corrections - mean
        covariances = sum(weight * fit.covariance for weight, fit in zip(weights, fits))
        self._covariance: NDArray[np.float64] = covariances + (strayed.T * weights) @ strayed
        self._noise = float(weights @ [fit.noise**2 for fit in fits])
        self._ms *= of_whole.level
        corrected = self._ms * np.maximum(1 + mean[_WHOLE] + mean[_OWNED:], 0)
        self.ms = {name: float(corrected[column]) for name, column in self._columns.items()}

    def predict(self, subnet: Iterable[str]) -> tuple[float, float]:
        """The latency of a subnet in ms, and half the width of its 95% interval.

        Raises ProfileError for a block without a latency.
        """
        names = list(subnet)
        features = self._features(names)
        variance = features @ self._covariance @ features + self._noise
        return math.fsum(self.ms[name] for name in names), float(_TWO_SIDED * math.sqrt(variance) * self._sum(names))

    def _features(self, names: Iterable[str]) -> NDArray[np.float64]:
        """Of a whole subnet: 1 for the shared correction, and each block's share in the sum."""
        shares = np.zeros(len(self._columns))
        for name in names:
            shares[self._column(name)] = self._ms[self._column(name)]
        total = shares.sum()
        return np.concatenate([[1.0, 0.0], shares / total if total > 0 else shares])

    def _evidence_in_situ(self, in_situ: Mapping[Subnet, Sequence[float]]) -> _Evidence:
        columns = np.array([self._column(name) for subnet in in_situ for name in subnet], int)
        measured = np.array([ms for times in in_situ.values() for ms in times])
        taking_time = (measured > 0) & (self._ms[columns] > 0)
        columns, measured = columns[taking_time], measured[taking_time]
        rows = np.zeros((len(columns), _OWNED + len(self._columns)))
        rows[:, _IN_SITU] = 1
        rows[range(len(columns)), _OWNED + columns] = 1
        return _Evidence(rows, measured, self._ms[columns])

    def _sum(self, names: Iterable[str]) -> float:
        return float(sum(self._ms[self._column(name)] for name in names))

    def _column(self, name: str) -> int:
        try:
            return self._columns[name]
        except KeyError:
            raise ProfileError(f"the latency table has no block {name!r}; measure this pack again") from None


class _Evidence:
    """Measurements, as far as a fit needs them: their `level`, a factor, over what was expected, and what is left."""

    def __init__(self, rows: NDArray[np.float64], measured: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
        self.count = len(measured)
        self.level = float(measured.sum() / expected.sum()) if self.count else 1.0
        over = measured / (self.level * expected) - 1
        self.gram: NDArray[np.float64] = rows.T @ rows
        self.moment: NDArray[np.float64] = rows.T @ over
        self.square = float(over @ over)


class _Fit:
    """The corrections when they stray by `own` and the measurements by their noise, all standard deviations."""

    def __init__(self, own: float, noise: float, whole: _Evidence, noise_in_situ: float, in_situ: _Evidence) -> None:
        self.noise = noise
        prior = np.full(len(whole.moment), own**2)
        prior[:_OWNED] = _SHARED**2
        precision = np.diag(1 / prior) + whole.gram / noise**2 + in_situ.gram / noise_in_situ**2
        moment = whole.moment / noise**2 + in_situ.moment / noise_in_situ**2
        square = whole.square / noise**2 + in_situ.square / noise_in_situ**2
        self.covariance = np.asarray(np.linalg.inv(precision), np.float64)
        self.corrections: NDArray[np.float64] = self.covariance @ moment
        spread = np.linalg.slogdet(precision)[1] + np.log(prior).sum()
        spread += 2 * (whole.count * math.log(noise) + in_situ.count * math.log(noise_in_situ))
        self.log_likelihood = float(-0.5 * (square - moment @ self.corrections + spread))
