"""The finalists of a search: chosen by what is predicted, and again when what is measured is something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Subnet
from adaptivenet.toolkit.profiling.finalists import AGAIN, FIRST, choose_finalists, time_finalists
from adaptivenet.toolkit.profiling.measuring import Precision
from graphs import block_graphs, chain, real_costs
from hypothesis import given, settings
from hypothesis import strategies as st


class Off:
    """A device on which every subnet but the oracle takes so many times what its blocks do."""

    conditions = None

    def __init__(self, graph: BlockGraph, cost: Mapping[str, float], factor: float) -> None:
        self.pack = SimpleNamespace(graph=graph)
        self.cost, self.factor = cost, factor

    def samples_in_situ(
        self, chains: Sequence[Sequence[str]], rounds: int, warmup: int, progress: Any = None
    ) -> list[list[list[float]]]:
        factors = [1.0 if tuple(each) == self.pack.graph.oracle else self.factor for each in chains]
        return [[[factor * self.cost[name]] * rounds for name in each] for each, factor in zip(chains, factors)]

    def holding(self) -> AbstractContextManager[None]:
        return nullcontext()

    def samples(self, chains: Sequence[Sequence[str]], rounds: int, warmup: int) -> list[list[float]]:
        return [[sum(each) for each in zip(*blocks)] for blocks in self.samples_in_situ(chains, rounds, warmup)]


def latency(cost: Mapping[str, float], subnet: Subnet) -> float:
    return sum(cost[name] for name in subnet)


@given(st.data())
@settings(deadline=None)
def test_what_is_chosen(data: st.DataObject) -> None:
    graph = data.draw(block_graphs())
    cost = data.draw(real_costs(graph))
    paths = sorted(
        {graph.oracle, *graph.networks, *data.draw(st.lists(st.sampled_from(sorted(graph.paths())), max_size=12))}
    )
    predicted = {path: latency(cost, path) for path in paths}
    estimate = {path: data.draw(st.floats(0, 1)) for path in paths}
    limits = st.lists(st.floats(0, 1.2 * max(predicted.values())), max_size=4)
    targets, budgets = data.draw(limits), data.draw(limits)
    chosen = choose_finalists(graph, predicted, estimate, targets, budgets)
    assert chosen[0] == graph.oracle
    assert set(graph.networks) <= set(chosen), "what one could ship without blocks is always measured"
    assert len(chosen) == len(set(chosen)) <= 2 + len(graph.networks) + 2 * len(targets) + 5 * len(budgets)
    assert min(predicted.values()) in [predicted[subnet] for subnet in chosen]
    for limit in targets + budgets:
        within = [estimate[path] for path in paths if predicted[path] <= limit]
        if within:
            assert max(estimate[path] for path in chosen if predicted[path] <= limit) == max(within)


def test_another_is_measured_where_a_finalist_turns_out_too_slow() -> None:
    graph = chain(5, tuple(Block(f"p{at}{kind}", at, at + 1, "pruned") for at in range(5) for kind in "abc"))
    worth = {"a": 0.9, "b": 0.7, "c": 0.5}
    cost = {block.name: 1.0 if block.kind == "original" else worth[block.name[-1]] for block in graph.blocks}
    predicted = {path: latency(cost, path) for path in graph.paths()}
    estimate = {path: ms + 1e-6 * number for number, (path, ms) in enumerate(predicted.items())}
    beside = graph.subnet(["p0b", "p1c", "p2a", "p3c", "p4b"])
    for factor in (0.9, 1.0, 1.06, 1.2):
        session: Any = Off(graph, cost, factor)
        told: dict[str, int] = {}
        stages: list[str] = []
        seen: set[Subnet] = set()
        finalist = min(predicted, key=lambda subnet: predicted[subnet])
        controls = [finalist, beside]
        learned: list[set[Subnet]] = []
        measured, again = time_finalists(
            session,
            predicted,
            lambda subnets, seen=seen: seen.update(subnets) or estimate,
            [2.5, 5.0],
            [4.0, 3.2],
            5.0,
            Precision(),
            controls,
            lambda measured, factor=factor, learned=learned: (
                learned.append(set(measured)) or (lambda subnet: factor * predicted[subnet])
            ),
            lambda stage, done, _, told=told: told.update({stage: done}),
            lambda stage, _, stages=stages: stages.append(stage),
        )
        true = {path: factor * ms for path, ms in predicted.items()} | {graph.oracle: 5.0}
        assert all(abs(measured[path].median_ms - true[path]) < 1e-9 for path in measured)
        assert next(iter(measured)) == graph.oracle
        assert set(measured) <= seen, "what is measured was seen on all pictures"
        assert beside not in measured
        assert finalist in measured
        assert set(again) == {finalist, beside}
        assert all(abs(again[path].median_ms - true[path]) < 1e-9 for path in again)
        assert all({beside, finalist, graph.oracle} <= known for known in learned)
        for budget in (4.0, 3.2):
            best = max(estimate[path] for path in measured if measured[path].median_ms <= budget)
            assert best >= max(estimate[path] for path in true if true[path] <= 0.98 * budget) - 1e-9
        assert list(told) == stages
        assert stages == ([FIRST] if factor == 1.0 else [FIRST, AGAIN])
