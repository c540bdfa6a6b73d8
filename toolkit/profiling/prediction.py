"""What a subnet takes, predicted from its blocks, with an error that was learned from subnets measured whole.

A block that runs alone is not the block in a subnet: its input lies in another cache, its threads have just been woken.
So some subnets are measured whole in the same rounds as the blocks, with time-stamps at their cuts where they have
some, and each block's latency is corrected by what they tell: the relative corrections are independent, and small
unless the measurements say otherwise (Bayesian linear regression, averaged over how small, and over how far the
measurements stray, by the marginal likelihood). What int8 blocks all have in common is learned beside that: alone, they
convert what they take and give, and their smaller weights stay in the caches. Two constants are learned as well, where
the measurements ask for them: one for every block, because to go from a block to the next takes time that a block alone
does not show, and one for every subnet, because long ones take more than in proportion when they no longer fit the
caches. The time-stamps tell the blocks from each other; how much all together take comes from whole subnets alone,
because medians do not add up. What is searched by stays a sum along the path; what is predicted of one subnet has what
it takes beyond that as well, such as conversions where blocks of two precisions meet (see `borders`). Its error follows
from what is left of the uncertainty: it is larger for a subnet whose number of blocks, or whose length, is unlike those
of the subnets that were measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ProfileError
from ..graph.graph import Subnet

_OWN = (0.001, 0.02, 0.05, 0.1, 0.2)  # how far a block's correction strays: a standard deviation
_NOISE = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # of a whole subnet's latency about its sum
_NOISE_IN_SITU = (0.01, 0.03, 0.1, 0.4)  # of a block's latency in one subnet about that in others
_CONSTANTS = (0.001, 0.2)  # of the two constants: in a typical block's latency, and in a tenth of a typical subnet's
LATER = 0.01  # how far the device may have another speed when a subnet is measured: less is taken for noise
_SHARED = 0.1  # how far a correction that all blocks share strays from the level of the measurements
_LEAST_LEFT = 0.05  # of what a subnet takes, when what no block's latency can say is taken off
_TWO_SIDED = 1.96  # standard deviations on either side of a 95% interval
# Columns: the corrections shared in whole subnets and in situ, and by all int8 blocks besides; the constants of a block
# and of a subnet; each block's.
_WHOLE, _IN_SITU, _OF_INT8, _OF_BLOCK, _OF_SUBNET, _OWNED = range(6)


class Predictor:
    """Latencies of subnets in milliseconds. `ms` has each block's, corrected: they add up along a path."""

    def __init__(
        self,
        alone: Mapping[str, float],
        whole: Mapping[Subnet, float],
        in_situ: Mapping[Subnet, Sequence[float]] | None = None,
        networks: Mapping[str, float] | None = None,
        beyond: Callable[[Iterable[str]], float] | None = None,
        later: float = LATER,
        constant: float = 0.0,
    ) -> None:
        """Learns from each block's latency `alone`, from subnets measured `whole`, at least one, and from the
        latencies of the blocks of some subnets `in_situ`, all in ms. `networks` are blocks that are a subnet alone, and
        what they take: nothing is predicted there. `beyond` gives what a subnet takes that no block's latency can say,
        in ms: it is in what was measured whole, and in what is predicted, not in `ms`. `later` is by how much, a
        standard deviation, what a subnet takes differs from one time to the next. `constant` is how many ms longer a
        subnet of next to nothing takes at the time that is predicted than when all these were measured; what takes as
        long as the oracle takes no longer, and what is between takes a part of it in proportion.

        Raises ProfileError for a block without a latency and when nothing takes any time.
        """
        self._columns = {name: column for column, name in enumerate(alone)}
        self._ms = np.array(list(alone.values()))
        self._later = later
        self._beyond = beyond or (lambda names: 0.0)
        sums = np.array([self._sum(subnet) for subnet in whole])
        measured = np.array([max(_LEAST_LEFT * ms, ms - self._beyond(subnet)) for subnet, ms in whole.items()])
        if not len(sums) or sums.min() <= 0 or measured.min() <= 0:
            raise ProfileError("latencies cannot be predicted from subnets that take no time, or from none")
        self._block_ms, self._subnet_ms = float(np.median(self._ms)), 0.1 * float(np.median(sums))
        graph = next(iter(whole)).graph
        self._int8 = np.array([graph[name].precision == "int8" for name in alone])
        of_whole = _Evidence(np.array([self._features(subnet) for subnet in whole]), measured, sums)
        of_blocks = self._evidence_in_situ(in_situ or {})
        fits = [
            _Fits(own, constants, noise_in_situ, of_whole, of_blocks)
            for own, constants, noise_in_situ in itertools.product(_OWN, _CONSTANTS, _NOISE_IN_SITU)
        ]
        likelihood = np.array([fit.log_likelihood for fit in fits])
        weights = np.exp(likelihood - likelihood.max())
        weights /= weights.sum()
        corrections = np.array([fit.corrections for fit in fits])
        mean = np.einsum("fn,fnc->c", weights, corrections)
        strayed = (corrections - mean) * np.sqrt(weights)[:, :, None]
        strayed = strayed.reshape(-1, len(mean))
        covariance = sum(fit.covariance(each) for fit, each in zip(fits, weights))
        self._covariance: NDArray[np.float64] = covariance + strayed.T @ strayed
        self._noise = float(weights.sum(axis=0) @ np.square(_NOISE)) + later**2
        # Every subnet covers all cuts: a constant that all have is divided among its blocks by how many they cover.
        covered = np.array([graph[name].end - graph[name].start for name in alone]) / (len(graph.cuts) - 1)
        corrected = self._ms * (1 + mean[_WHOLE] + mean[_OF_INT8] * self._int8 + mean[_OWNED:])
        corrected += mean[_OF_BLOCK] * self._block_ms + mean[_OF_SUBNET] * self._subnet_ms * covered
        corrected = of_whole.level * np.maximum(corrected, 0)
        if constant:
            oracle_ms = sum(corrected[self._column(name)] for name in graph.oracle)
            corrected = np.maximum(corrected + constant * (covered - corrected / oracle_ms), 0)
        self._ms *= of_whole.level
        self._block_ms, self._subnet_ms = of_whole.level * self._block_ms, of_whole.level * self._subnet_ms
        self._networks = dict(networks or {})
        self.ms = {name: float(corrected[column]) for name, column in self._columns.items()} | self._networks

    def predict(self, subnet: Iterable[str]) -> tuple[float, float]:
        """The latency of a subnet in ms, and half the width of its 95% interval.

        Raises ProfileError for a block without a latency.
        """
        names = list(subnet)
        if len(names) == 1 and names[0] in self._networks:
            return self._networks[names[0]], _TWO_SIDED * self._later * self._networks[names[0]]
        features = self._features(names)
        variance = features @ self._covariance @ features + self._noise
        predicted = math.fsum(self.ms[name] for name in names) + self._beyond(names)
        return predicted, float(_TWO_SIDED * math.sqrt(variance) * self._sum(names))

    def _features(self, names: Iterable[str]) -> NDArray[np.float64]:
        """Of a whole subnet: 1 for the shared correction, the share of int8 blocks in the sum, the constants' and each
        block's."""
        shares = np.zeros(len(self._columns))
        columns = [self._column(name) for name in names]
        shares[columns] = self._ms[columns]
        total = shares.sum()
        if total <= 0:
            return np.concatenate([[1.0, 0.0, 0.0, 0.0, 0.0], shares])
        constants = [len(columns) * self._block_ms / total, self._subnet_ms / total]
        return np.concatenate([[1.0, 0.0, shares @ self._int8 / total], constants, shares / total])

    def _evidence_in_situ(self, in_situ: Mapping[Subnet, Sequence[float]]) -> _Evidence:
        columns = np.array([self._column(name) for subnet in in_situ for name in subnet], int)
        measured = np.array([ms for times in in_situ.values() for ms in times])
        taking_time = (measured > 0) & (self._ms[columns] > 0)
        columns, measured = columns[taking_time], measured[taking_time]
        rows = np.zeros((len(columns), _OWNED + len(self._columns)))
        rows[:, _IN_SITU] = 1
        rows[:, _OF_INT8] = self._int8[columns]
        rows[:, _OF_BLOCK] = self._block_ms / self._ms[columns]
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
    """Measurements: their `level`, a factor, over what was expected, and how far they are `over` that, by share."""

    def __init__(self, rows: NDArray[np.float64], measured: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
        self.rows = rows
        self.level = float(measured.sum() / expected.sum()) if len(measured) else 1.0
        self.over: NDArray[np.float64] = measured / (self.level * expected) - 1
        self.gram: NDArray[np.float64] = rows.T @ rows
        self.moment: NDArray[np.float64] = rows.T @ self.over


class _Fits:
    """The corrections when they stray by `own` and the blocks in situ by their noise, all standard deviations: one fit
    for each noise of whole subnets that is thought of.

    There are hundreds of fits and hundreds of columns, but few whole subnets, and in situ a row has one block only. So
    what is learned in situ is found without the inverse of a large matrix (Schur complement), and whole subnets are
    added to it as few measurements to a known prior: `log_likelihood[noise]`, `corrections[noise][column]`.
    """

    def __init__(
        self, own: float, constants: float, noise_in_situ: float, whole: _Evidence, in_situ: _Evidence
    ) -> None:
        prior = np.full(len(whole.moment), own**2)
        prior[[_WHOLE, _IN_SITU, _OF_INT8]] = _SHARED**2
        prior[[_OF_BLOCK, _OF_SUBNET]] = constants**2
        self._before, log_det = _inverse(np.diag(1 / prior) + in_situ.gram / noise_in_situ**2)
        moment = in_situ.moment / noise_in_situ**2
        known = self._before @ moment
        spread = log_det + np.log(prior).sum() + 2 * len(in_situ.over) * math.log(noise_in_situ)
        square = in_situ.over @ in_situ.over / noise_in_situ**2 - moment @ known
        # Whole subnets, turned so that they are independent: each has its own variance, to which the noise is added.
        reached = self._before @ whole.rows.T
        variance, turned = np.linalg.eigh(whole.rows @ reached)
        self._gain = 1 / (np.maximum(variance, 0) + np.square(_NOISE)[:, None])
        self._reached = reached @ turned
        over = turned.T @ (whole.over - whole.rows @ known)
        self.corrections: NDArray[np.float64] = known + (self._gain * over) @ self._reached.T
        self.log_likelihood: NDArray[np.float64] = -0.5 * (
            square + spread + self._gain @ over**2 - np.log(self._gain).sum(axis=1)
        )

    def covariance(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of what is left of the uncertainty in each fit, times its weight."""
        learned = (self._reached * (weights @ self._gain)) @ self._reached.T
        return np.asarray(weights.sum() * self._before - learned, np.float64)


def _inverse(precision: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The inverse of a matrix that is diagonal beyond its first columns, and the logarithm of its determinant."""
    variances = 1 / np.diag(precision)[_OWNED:]
    across = precision[:_OWNED, _OWNED:] * variances
    shared = precision[:_OWNED, :_OWNED] - across @ precision[_OWNED:, :_OWNED]
    corner = np.linalg.inv(shared)
    inverse = np.zeros_like(precision)
    inverse[:_OWNED, :_OWNED] = corner
    inverse[:_OWNED, _OWNED:] = -corner @ across
    inverse[_OWNED:, :_OWNED] = inverse[:_OWNED, _OWNED:].T
    inverse[_OWNED:, _OWNED:] = across.T @ corner @ across + np.diag(variances)
    return inverse, float(np.linalg.slogdet(shared)[1] - np.log(variances).sum())
