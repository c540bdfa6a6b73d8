"""The end of a search: which subnets are measured whole, and what they take.

A search goes by predicted latencies. What is measured is a little more or less, and then other subnets may be the best
within a budget than those that were predicted to be. These are measured as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median

from .devices import Session
from .graph import BlockGraph, Subnet
from .latency import Latency
from .measuring import Precision, Samples, take_samples

FIRST, AGAIN = "time finalists", "time more finalists"
# What is predicted within so large a share of a budget may be measured within it, and so many of the best are tried.
_OF_BUDGET = ((1.03, 3), (1.0, 1), (0.98, 1))


def choose_finalists(
    graph: BlockGraph,
    predicted: Mapping[Subnet, float],
    estimate: Mapping[Subnet, float],
    targets: Sequence[float],
    budgets: Sequence[float],
) -> list[Subnet]:
    """The subnets worth measuring, the oracle first: the fastest, for each target the best within it, and for each
    budget some of the best that may be measured within it.

    `predicted`, `targets` and `budgets` are in milliseconds; `estimate` is what the search thinks of the quality of the
    subnets that it evaluated, among which the oracle is.
    """
    ranked = sorted(estimate, key=lambda subnet: (-estimate[subnet], predicted[subnet]))
    chosen = dict.fromkeys([graph.oracle, min(ranked, key=lambda subnet: predicted[subnet])])
    wanted = [(target, 1) for target in targets]
    wanted += [(share * budget, number) for budget in budgets for share, number in _OF_BUDGET]
    for most, number in wanted:
        chosen |= dict.fromkeys([subnet for subnet in ranked if predicted[subnet] <= most][:number])
    return list(chosen)


def time_finalists(
    session: Session,
    predicted: Mapping[Subnet, float],
    estimate: Mapping[Subnet, float],
    targets: Sequence[float],
    budgets: Sequence[float],
    usual_ms: float,
    precision: Precision,
    progress: Callable[[str, int, int], None],
    keep: Callable[[str, Samples], None],
) -> dict[Subnet, Latency]:
    """What the finalists take on the device, the oracle first. `keep` is given each stage's timings as they were taken.

    The latencies are corrected to the speed at which the oracle, the anchor, takes `usual_ms`. When the first finalists
    are measured, the predictions are scaled by what they were off, and whatever is among the best within a budget by
    that is measured too, once.
    """
    graph = session.pack.graph
    measured: dict[Subnet, Latency] = {}
    for stage in (FIRST, AGAIN):
        chosen = choose_finalists(graph, predicted, estimate, targets if stage == FIRST else (), budgets)
        new = [subnet for subnet in chosen if subnet not in measured and subnet != graph.oracle]
        if measured and not new:
            break
        samples = take_samples(session, new, graph.oracle, precision, partial(progress, stage))
        keep(stage, samples)
        corrected = samples.corrected(usual_ms)
        measured.setdefault(graph.oracle, corrected.anchor.latency())
        measured |= {subnet: each.latency() for subnet, each in zip(new, corrected.timed, strict=True)}
        off = median(latency.median_ms / predicted[subnet] for subnet, latency in measured.items())
        predicted = {
            subnet: measured[subnet].median_ms if subnet in measured else off * ms for subnet, ms in predicted.items()
        }
    return measured
