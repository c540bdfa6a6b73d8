"""The end of a search: which subnets are measured whole, and what they take.

A search goes by predicted latencies. What is measured is a little more or less, and then other subnets may be the best
within a budget than those that were predicted to be. These are measured as well. Whatever is measured was first seen on
all of the search's pictures: what few pictures promised is not what a front is drawn by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..devices.base import Session
from ..graph.graph import BlockGraph, Subnet
from ..graph.latency import Latency
from .measuring import Precision, Samples, take_samples

FIRST, AGAIN, EDGES = "time finalists", "time more finalists", "time below edges"
# What is predicted within so large a share of a budget may be measured within it, and so many of the best are tried.
_CHOSEN_AGAIN = 4  # times at most, when seeing the finalists on all pictures changes who they are
_OF_BUDGET = ((1.03, 3), (1.0, 1), (0.98, 1))


def choose_finalists(
    graph: BlockGraph,
    predicted: Mapping[Subnet, float],
    estimate: Mapping[Subnet, float],
    targets: Sequence[float],
    budgets: Sequence[float],
) -> list[Subnet]:
    """The subnets worth measuring, the oracle first: the networks that are one program, the fastest, for each target
    the best within it and the best near it (see `near`), and for each budget some of the best that may be measured
    within it.

    `predicted`, `targets` and `budgets` are in milliseconds; `estimate` is what the search thinks of the quality of the
    subnets that it evaluated, among which the oracle is.
    """
    ranked = sorted(estimate, key=lambda subnet: (-estimate[subnet], predicted[subnet]))
    chosen = dict.fromkeys([graph.oracle, *graph.networks, min(ranked, key=lambda subnet: predicted[subnet])])
    wanted = [(target, 1) for target in targets]
    wanted += [(share * budget, number) for budget in budgets for share, number in _OF_BUDGET]
    for most, number in wanted:
        chosen |= dict.fromkeys([subnet for subnet in ranked if predicted[subnet] <= most][:number])
    for some in near(targets, predicted).values():
        chosen |= dict.fromkeys([subnet for subnet in ranked if subnet in some][:1])
    return list(chosen)


def near(targets: Sequence[float], predicted: Mapping[Subnet, float]) -> dict[float, set[Subnet]]:
    """For each target the subnets that are predicted to take no more and more than the target a step below.

    A step is an even share of the way from the first target to the last: some targets are closer together than that.
    """
    step = (max(targets) - min(targets)) / max(1, len(targets) - 1) if targets else 0.0
    return {
        target: {subnet for subnet, ms in predicted.items() if target - step < ms <= target * (1 + 1e-9)}
        for target in targets
    }


def time_subnets(
    session: Session,
    subnets: Sequence[Subnet],
    usual_ms: float,
    precision: Precision,
    progress: Callable[[int, int], None],
    keep: Callable[[Samples], None],
) -> dict[Subnet, Latency]:
    """What the oracle and some subnets take in turn with it, corrected to the speed at which it takes `usual_ms`."""
    oracle = session.pack.graph.oracle
    samples = take_samples(session, subnets, oracle, precision, progress)
    keep(samples)
    corrected = samples.corrected(usual_ms)
    timed = {subnet: each.latency() for subnet, each in zip(subnets, corrected.timed, strict=True)}
    return {oracle: corrected.anchor.latency(), **timed}


def time_finalists(
    session: Session,
    predicted: Mapping[Subnet, float],
    see: Callable[[Sequence[Subnet]], Mapping[Subnet, float]],
    targets: Sequence[float],
    budgets: Sequence[float],
    usual_ms: float,
    precision: Precision,
    controls: Sequence[Subnet],
    predict_again: Callable[[Mapping[Subnet, Latency]], Callable[[Subnet], float]],
    progress: Callable[[str, int, int], None],
    keep: Callable[[str, Samples], None],
) -> tuple[dict[Subnet, Latency], dict[Subnet, Latency]]:
    """What the finalists take on the device, the oracle first, and what `controls` take, timed beside the first.

    `keep` is given each stage's timings as they were taken.

    `see` has subnets evaluated on all of the search's pictures, and returns what is thought of every evaluated subnet
    then. `predicted` has the evaluated ones and the networks that are one program. The latencies are corrected to the
    speed at which the oracle, the anchor, takes `usual_ms`. When the first finalists are measured, `predict_again`
    learns from them and the controls what others take, and whatever is among the best within a budget by that is
    measured too, once.
    """
    graph = session.pack.graph
    measured: dict[Subnet, Latency] = {}
    again: dict[Subnet, Latency] = {}
    for stage in (FIRST, AGAIN):
        chosen = _seen(graph, predicted, see, targets if stage == FIRST else (), budgets)
        new = [subnet for subnet in chosen if subnet not in measured and subnet != graph.oracle]
        if measured and not new:
            break
        beside = [] if measured else [subnet for subnet in controls if subnet not in new]
        timed = [*new, *beside]
        found = time_subnets(session, timed, usual_ms, precision, partial(progress, stage), partial(keep, stage))
        again |= {subnet: found[subnet] for subnet in controls if subnet in found}
        # First timings stand: budgets are shares of one of them.
        measured = {subnet: found[subnet] for subnet in (graph.oracle, *new)} | measured
        predict = predict_again(again | measured)
        predicted = {
            subnet: measured[subnet].median_ms if subnet in measured else predict(subnet) for subnet in predicted
        }
    return measured, again


def _seen(
    graph: BlockGraph,
    predicted: Mapping[Subnet, float],
    see: Callable[[Sequence[Subnet]], Mapping[Subnet, float]],
    targets: Sequence[float],
    budgets: Sequence[float],
) -> list[Subnet]:
    """Finalists, chosen again for as long as seeing them on all pictures changes who they are."""
    chosen: list[Subnet] = []
    for _ in range(_CHOSEN_AGAIN):
        estimate = see(chosen)
        before, chosen = chosen, choose_finalists(graph, predicted, estimate, targets, budgets)
        if set(chosen) <= set(before):
            break
    see(chosen)
    return chosen
