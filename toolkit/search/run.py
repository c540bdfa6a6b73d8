"""Asks a strategy, evaluates on a device, tells the strategy, until it is done or the evaluations are spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..data import Dataset
from ..devices import Session
from ..plan import compile_plan
from .base import Result, Strategy


@dataclass(frozen=True)
class Searched:
    """What a search cost: subnets evaluated, images each, blocks run over all images, seconds on the device."""

    subnets: int
    images: int
    block_runs: int
    seconds: float


def search(
    session: Session,
    strategy: Strategy,
    data: Dataset,
    metric: str,
    *,
    evaluations: int,
    at_once: int = 100,
    limit_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Searched:
    """Evaluates at most `evaluations` subnets on all of `data` by `metric`, `at_once` in one plan.

    `limit_bytes` bounds the memory for features. `progress(done, total)` counts image evaluations, the total being an
    upper bound. Raises PlanError over the limit, DataError for images that do not fit.
    """
    operands = {metric: session.pack.metrics[metric]}
    subnets = runs = 0
    seconds = 0.0
    while subnets < evaluations:
        asked = strategy.ask(min(at_once, evaluations - subnets))
        if not asked:
            break
        plan = compile_plan(session.pack.graph, asked, operands, limit_bytes)
        before = subnets

        def report(done: int, total: int, before: int = before, asked_for: int = len(asked)) -> None:
            if progress:
                progress(before * total + done * asked_for, evaluations * total)

        evaluation = session.evaluate(plan, data, report)
        qualities = evaluation.quality(metric)
        strategy.tell([Result(subnet, quality.value, len(data)) for subnet, quality in zip(asked, qualities)])
        subnets += len(asked)
        runs += evaluation.block_runs
        seconds += evaluation.seconds
    return Searched(subnets, len(data), runs, seconds)
