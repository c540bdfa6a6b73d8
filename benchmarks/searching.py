"""Runs a search strategy against a table of truth instead of a device, and counts what it would have cost there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from adaptivenet.toolkit.graph.graph import Subnet
from adaptivenet.toolkit.search import Result, Strategy
from numpy.typing import NDArray

from .truth import Truth

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5)  # of the oracle's latency: the budgets
AT_ONCE = 10  # trials for one ask


@dataclass(frozen=True)
class Trace:
    """What a search would have recommended after each of its tells.

    `spent` (tells,) counts the image evaluations until then: one subnet on one picture, each pair once. `chosen`
    (tells, budgets) is the recommended subnet's row in the table, -1 while none within the budget is evaluated.
    """

    spent: NDArray[np.int64]
    chosen: NDArray[np.int64]


def simulate(
    truth: Truth, strategy: Strategy, pictures: NDArray[np.int64], budgets: Sequence[float], limit: int
) -> Trace:
    """Asks and tells until the strategy is done or `limit` image evaluations are spent.

    `pictures` are the search's images, in its order, as columns of the table. What is recommended for a budget, in
    milliseconds, is the subnet of highest estimate that fits.
    """
    fits = [truth.fits(budget) for budget in budgets]
    seen: dict[Subnet, int] = {}
    spent, chosen = [], []
    while sum(seen.values()) < limit and (trials := strategy.ask(AT_ONCE)):
        for trial in trials:
            seen[trial.subnet] = max(trial.images, seen.get(trial.subnet, 0))
        strategy.tell(
            [
                Result(trial.subnet, truth.hits[truth.row[trial.subnet], pictures[: trial.images]].astype(np.float64))
                for trial in trials
            ]
        )
        spent.append(sum(seen.values()))
        chosen.append(_recommended(truth, strategy, fits))
    return Trace(np.array(spent), np.array(chosen))


def _recommended(truth: Truth, strategy: Strategy, fits: Sequence[NDArray[np.bool_]]) -> list[int]:
    estimate = strategy.estimate()
    rows = np.array([truth.row[subnet] for subnet in estimate])
    values = np.array(list(estimate.values()))
    best = []
    for fitting in fits:
        among = np.flatnonzero(fitting[rows])
        best.append(int(rows[among[np.argmax(values[among])]]) if len(among) else -1)
    return best
