"""Asks a strategy, evaluates on a device, tells the strategy, until it is done or the evaluations are spent."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..devices.base import Session
from ..graph.graph import Subnet
from .base import Result, Strategy, Trial
from .evaluator import Evaluator


@dataclass(frozen=True)
class Searched:
    """What a search cost: subnets that were evaluated, how often a subnet met an image, of how many images, blocks that
    ran, and seconds on the device."""

    subnets: int
    image_evaluations: int
    images: int
    block_runs: int
    seconds: float

    def __add__(self, other: Searched) -> Searched:
        """This search and then `other`, which went on with it."""
        return Searched(
            other.subnets,
            self.image_evaluations + other.image_evaluations,
            other.images,
            self.block_runs + other.block_runs,
            self.seconds + other.seconds,
        )


def search(
    session: Session,
    strategy: Strategy,
    data: Dataset,
    metric: str,
    *,
    image_evaluations: int,
    at_once: int = 100,
    limit_bytes: int = 256 << 20,
    progress: Callable[[int, int], None] | None = None,
) -> Searched:
    """Makes the trials that `strategy` asks for, on the images of `data` in their order, by `metric`.

    One subnet on one image is one image evaluation; so many are made at most, the trials of at most `at_once` subnets
    in one plan. What the strategy has results of already is not evaluated again. `limit_bytes` bounds the memory for
    features, those kept between plans included (see `Evaluator`). `progress(done, total)` counts image evaluations, the
    total being the most. Raises PlanError over the limit, DataError for images that do not fit.
    """
    done = 0
    with Evaluator(session, {metric: session.pack.metrics[metric]}, limit_bytes) as evaluator:
        heats = _Heats(evaluator, data, metric)
        heats.results |= strategy.results
        while trials := _affordable(strategy.ask(at_once), heats.results, image_evaluations - done):

            def report(more: int, before: int = done) -> None:
                if progress:
                    progress(before + more, image_evaluations)

            done += heats.run(trials, report)
            strategy.tell([heats.results[trial.subnet] for trial in trials])
    return Searched(len(heats.results), done, len(data), heats.block_runs, heats.seconds)


def complete(
    session: Session, strategy: Strategy, subnets: Sequence[Subnet], data: Dataset, metric: str, **options: Any
) -> Searched:
    """Has `subnets` seen on all images of `data`, where they were not, and tells the strategy; see `search`."""
    missing = [subnet for subnet in subnets if subnet not in strategy.results or strategy.results[subnet].n < len(data)]
    rest = _Rest(strategy, [Trial(subnet, len(data)) for subnet in missing])
    return search(session, rest, data, metric, image_evaluations=len(missing) * len(data), **options)


class _Rest(Strategy):
    """Certain trials, whose results go to another strategy."""

    def __init__(self, of: Strategy, trials: list[Trial]) -> None:
        self.of, self.trials = of, trials
        self.results = of.results

    def ask(self, n: int) -> list[Trial]:
        """See `Strategy.ask`."""
        asked, self.trials = self.trials[:n], self.trials[n:]
        return asked

    def tell(self, results: Sequence[Result]) -> None:
        """See `Strategy.tell`."""
        self.of.tell(results)


def _affordable(trials: Sequence[Trial], results: Mapping[Subnet, Result], left: int) -> list[Trial]:
    """The first trials, for as long as there are image evaluations left for them."""
    costs = itertools.accumulate(trial.images - _seen(results, trial.subnet) for trial in trials)
    return [trial for trial, cost in zip(trials, costs) if cost <= left]


def _seen(results: Mapping[Subnet, Result], subnet: Subnet) -> int:
    return results[subnet].n if subnet in results else 0


def _after(report: Callable[[int], None], before: int, more: int) -> None:
    report(before + more)


class _Heats:
    """Trials made on a device. `results` has those of each subnet on all images that it has seen."""

    def __init__(self, evaluator: Evaluator, data: Dataset, metric: str) -> None:
        self.evaluator, self.data, self.metric = evaluator, data, metric
        self.results: dict[Subnet, Result] = {}
        self.block_runs = 0
        self.seconds = 0.0

    def run(self, trials: Sequence[Trial], report: Callable[[int], None]) -> int:
        """How many image evaluations the trials took. Those on the same images share one plan."""
        seen = {trial.subnet: _seen(self.results, trial.subnet) for trial in trials}
        ends = sorted({*seen.values(), *(trial.images for trial in trials)})
        done = 0
        for first, last in itertools.pairwise(ends):
            subnets = [trial.subnet for trial in trials if seen[trial.subnet] <= first and trial.images >= last]
            if subnets:
                self._evaluate(subnets, range(first, last), partial(_after, report, done))
                done += len(subnets) * (last - first)
        return done

    def _evaluate(self, subnets: Sequence[Subnet], images: range, report: Callable[[int], None]) -> None:
        evaluation = self.evaluator.evaluate(
            subnets, self.data.subset(images), lambda done, total: report(done * len(subnets))
        )
        self.block_runs += evaluation.block_runs
        self.seconds += evaluation.seconds
        for subnet, sums in zip(subnets, evaluation.sums[self.metric], strict=True):
            self.results[subnet] = self._with(subnet, sums)

    def _with(self, subnet: Subnet, sums: NDArray[np.float64]) -> Result:
        """The result of a subnet with what more images gave: a score need not be a mean over them."""
        score = self.evaluator.session.pack.scored[self.metric]
        before = self.results.get(subnet)
        if before is not None and before.sums is None:  # a strategy of one's own may keep the scores alone
            return Result(subnet, np.concatenate([before.scores, score.of_images(self.metric, sums)]))
        sums = sums if before is None or before.sums is None else np.concatenate([before.sums, sums])
        return Result(subnet, score.of_images(self.metric, sums), sums)
