"""Search strategies against brute force on random graphs, and the loop that drives them on a real pack."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices import connect
from adaptivenet.toolkit.errors import BudgetError, PlanError
from adaptivenet.toolkit.graph import Block, BlockGraph, Subnet
from adaptivenet.toolkit.latency import fastest_and_slowest, within
from adaptivenet.toolkit.pack import BlockPack
from adaptivenet.toolkit.search import Evolutionary, Result, Strategy, Surrogate, search
from graphs import block_graphs, chain, costed_graphs, real_costs, total
from hypothesis import given, settings
from hypothesis import strategies as st

Quality = Callable[[Subnet], float]


def space(seed: int, length: int = 8, alternatives: int = 14) -> tuple[BlockGraph, dict[str, float], dict[str, float]]:
    """A random graph of some hundreds of paths, the milliseconds of each block, and what each takes from quality."""
    rng = random.Random(seed)
    extra = []
    for number in range(alternatives):
        start = rng.randrange(length)
        end = min(length, start + rng.choice([1, 1, 2, 3]))
        kind = "pruned" if end == start + 1 else "merged"
        extra.append(Block(f"{kind}{number}", start, end, kind))
    graph = chain(length, tuple(extra))
    cost = {block.name: rng.uniform(2, 6) for block in graph.blocks if block.kind == "original"}
    taken = dict.fromkeys(cost, 0.0)
    for block in extra:
        cost[block.name] = rng.uniform(0.3, 0.95) * sum(cost[name] for name in graph.replaced_by(block))
        taken[block.name] = rng.uniform(0.005, 0.12)
    return graph, cost, taken


def grid(graph: BlockGraph, cost: Mapping[str, float], steps: int = 9) -> list[float]:
    """Budgets from the fastest subnet to the oracle."""
    low, high = total(cost, fastest_and_slowest(graph, cost)[0]), total(cost, graph.oracle)
    return [low + (high - low) * step / (steps - 1) for step in range(steps)]


def exhaust(
    strategy: Strategy, quality: Quality, at_once: int = 10, images: int = 10**6, most: int = 2000
) -> list[list[Subnet]]:
    """Asks and tells until the strategy is done; every batch that it asked for."""
    batches: list[list[Subnet]] = []
    while asked := strategy.ask(at_once):
        batches.append(asked)
        strategy.tell([Result(subnet, quality(subnet), images) for subnet in asked])
        assert len(batches) < most, "the strategy does not end"
    return batches


def seen(batches: Sequence[Sequence[Subnet]]) -> list[Subnet]:
    return [subnet for batch in batches for subnet in batch]


def best(paths: Sequence[Subnet], cost: Mapping[str, float], quality: Quality, budget: float) -> float:
    return max(quality(path) for path in paths if within(0, total(cost, path), budget))


def multiplicative(taken: Mapping[str, float]) -> Quality:
    return lambda subnet: math.exp(-total(taken, subnet))


def additive(taken: Mapping[str, float]) -> Quality:
    return lambda subnet: max(0.0, 1 - total(taken, subnet))


# Surrogate


@pytest.mark.parametrize("form", [multiplicative, additive])
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("images", [200, 10**6])
def test_the_surrogate_finds_the_optimum_of_every_budget(
    form: Callable[[Mapping[str, float]], Quality], seed: int, images: int
) -> None:
    graph, cost, taken = space(seed)
    budgets, quality, paths = grid(graph, cost), form(taken), list(graph.paths())
    found = seen(exhaust(Surrogate(graph, cost, budgets), quality, images=images))
    for budget in budgets:
        assert best(found, cost, quality, budget) == best(paths, cost, quality, budget)
    assert len(found) <= 16 + 4 * len(budgets)
    assert len(found) < len(paths) / 2


def test_the_surrogate_trusts_measurements_more_the_more_images_there_are() -> None:
    # One alternative is said to be bad by its local loss and is good; the other the other way round.
    graph = chain(2, (Block("bad", 0, 1, "pruned", loss=0.01), Block("good", 1, 2, "pruned", loss=0.5)))
    taken = {"o0": 0.0, "o1": 0.0, "bad": 0.4, "good": 0.02}
    errors = []
    for images in (8, 10**6):
        strategy = Surrogate(graph, {"o0": 2, "o1": 2, "bad": 1, "good": 1}, [2, 3, 4])
        exhaust(strategy, multiplicative(taken), images=images)
        estimate = strategy.estimate()
        errors.append(max(abs(estimate[subnet] - multiplicative(taken)(subnet)) for subnet in graph.paths()))
    assert errors[1] < errors[0]
    assert errors[1] < 0.001


def test_the_surrogate_begins_with_both_ends_of_the_front_and_every_replacement() -> None:
    graph, cost, _ = space(1)
    fastest, _ = fastest_and_slowest(graph, cost)
    first = Surrogate(graph, cost, grid(graph, cost)).ask(1000)
    assert first[:2] == [graph.oracle, fastest]
    replaced = {tuple(graph.replace(graph.oracle, block)) for block in graph.blocks if block.kind != "original"}
    assert {tuple(subnet) for subnet in first[2:]} | {tuple(fastest)} == replaced | {tuple(fastest)}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_the_surrogate_asks_for(data: st.DataObject) -> None:
    graph = data.draw(block_graphs())
    cost = data.draw(real_costs(graph))
    rates = data.draw(st.fixed_dictionaries({b.name: st.floats(0, 1) for b in graph.blocks}))
    budgets = data.draw(st.lists(st.floats(0.1, 60.0), min_size=1, max_size=4))
    batches = exhaust(Surrogate(graph, cost, budgets), multiplicative(rates), data.draw(st.integers(1, 9)), images=50)
    asked = seen(batches)
    assert len(set(asked)) == len(asked)
    alternatives = [block for block in graph.blocks if block.kind != "original"]
    replacements = {graph.replace(graph.oracle, block) for block in alternatives}
    ends = {graph.oracle, fastest_and_slowest(graph, cost)[0]}
    for subnet in set(asked) - replacements - ends:
        assert within(0, total(cost, subnet), max(budgets))
    assert len(asked) <= graph.count()


def test_a_quality_of_nothing_is_no_trouble() -> None:
    graph, cost, _ = space(3)
    strategy = Surrogate(graph, cost, grid(graph, cost))
    exhaust(strategy, lambda subnet: 0.0, images=16)
    assert all(0 <= quality < 0.1 for quality in strategy.estimate().values())


# Evolutionary


@given(costed_graphs(), st.integers(0, 3), st.data())
@settings(max_examples=40, deadline=None)
def test_what_the_evolution_asks_for(case: tuple[BlockGraph, dict[str, float]], seed: int, data: st.DataObject) -> None:
    graph, cost = case
    fastest = fastest_and_slowest(graph, cost)[0]
    budgets = [total(cost, fastest) * factor + extra for factor, extra in ((1.0, 0.0), (1.0, 1.0), (1.5, 2.0))]
    # One budget at a time, or it could not be said which one a subnet was meant for.
    budget = data.draw(st.sampled_from(budgets))
    strategy = Evolutionary(graph, cost, [budget], population=8, generations=4, seed=seed)
    rates = {block.name: (sum(block.name.encode()) % 17) / 40 for block in graph.blocks}
    asked = seen(exhaust(strategy, multiplicative(rates), data.draw(st.integers(1, 9))))
    assert len(set(asked)) == len(asked)
    assert set(asked) <= set(graph.paths())
    for subnet in asked:
        assert subnet == graph.oracle or within(0, total(cost, subnet), budget)
    assert {graph.oracle, fastest} <= set(asked)
    assert len(asked) <= 2 + 8 * 4


@pytest.mark.parametrize("seed", range(4))
def test_the_evolution_comes_close_to_the_optimum(seed: int) -> None:
    graph, cost, taken = space(seed)
    budget, quality = grid(graph, cost)[4], multiplicative(taken)
    strategy = Evolutionary(graph, cost, [budget], population=30, generations=10, seed=seed)
    asked = seen(exhaust(strategy, quality))
    paths = list(graph.paths())
    fitting = sorted((quality(path) for path in paths if within(0, total(cost, path), budget)), reverse=True)
    assert best(asked, cost, quality, budget) >= fitting[len(fitting) // 50]
    assert strategy.estimate() == {subnet: quality(subnet) for subnet in asked}


def test_the_evolution_improves_on_its_first_generation() -> None:
    graph, cost, taken = space(5, length=10, alternatives=24)
    budget, quality = grid(graph, cost)[4], multiplicative(taken)

    def reached(generations: int) -> float:
        strategy = Evolutionary(graph, cost, [budget], population=12, generations=generations, seed=1)
        return best(seen(exhaust(strategy, quality)), cost, quality, budget)

    assert reached(8) > reached(1)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_the_evolution_refuses_a_budget_below_the_fastest(share: float) -> None:
    graph, cost, _ = space(2)
    low = grid(graph, cost)[0]
    with pytest.raises(BudgetError, match=f"the fastest takes {low:.4g} ms"):
        Evolutionary(graph, cost, [low * 2, low * share])


# Both


def strategies(graph: BlockGraph, cost: Mapping[str, float]) -> list[Strategy]:
    budgets = grid(graph, cost, 3)
    return [Surrogate(graph, cost, budgets), Evolutionary(graph, cost, budgets, population=10, generations=3, seed=4)]


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_ask_gives_at_most_so_many(at_once: int) -> None:
    graph, cost, taken = space(7)
    for strategy in strategies(graph, cost):
        batches = exhaust(strategy, multiplicative(taken), at_once)
        assert all(1 <= len(batch) <= at_once for batch in batches)
        assert strategy.ask(at_once) == []


def test_the_same_seed_asks_for_the_same() -> None:
    graph, cost, taken = space(8)
    for one, other in zip(strategies(graph, cost), strategies(graph, cost)):
        assert exhaust(one, multiplicative(taken)) == exhaust(other, multiplicative(taken))
    budgets = grid(graph, cost, 3)
    runs = [
        exhaust(Evolutionary(graph, cost, budgets, population=10, generations=3, seed=seed), multiplicative(taken))
        for seed in (4, 5)
    ]
    assert runs[0] != runs[1]


def test_a_graph_without_alternatives_is_searched_at_once() -> None:
    graph = chain(3)
    cost = {"o0": 1.0, "o1": 2.0, "o2": 3.0}
    for strategy in (Surrogate(graph, cost, [6.0]), Evolutionary(graph, cost, [6.0])):
        assert seen(exhaust(strategy, lambda subnet: 1.0)) == [graph.oracle]


# The loop


@pytest.fixture(scope="module")
def data(tiny_pack: BlockPack, pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    np.savez(path, images=pictures, labels=np.arange(len(pictures)) % 5)
    return open_data(path, None, tiny_pack.classes, tiny_pack.graph.cuts[0])


COST = {"b0": 4.0, "b1": 4.0, "b2": 1.0, "b0-m2": 3.0, "b0-p50": 2.0, "b1-p50": 2.0}


@pytest.mark.parametrize("address", ["local:executorch", "local:onnxruntime"])
def test_search_counts_the_blocks_that_ran(address: str, tiny_pack: BlockPack, data: Dataset) -> None:
    strategy = Surrogate(tiny_pack.graph, COST, [4.0, 6.0, 9.0])
    calls: list[tuple[int, int]] = []
    with connect(address).open(tiny_pack) as session:
        searched = search(
            session, strategy, data, "agreement", evaluations=50, progress=lambda *call: calls.append(call)
        )
    assert set(strategy.results) == set(tiny_pack.graph.paths())
    assert (searched.subnets, searched.images) == (5, 16)
    # First the oracle, m2, b0-p50 b1 and b0 b1-p50: 9 edges of their trie. Then b0-p50 b1-p50, with the oracle: 6.
    assert searched.block_runs == 16 * (9 + 1 + 6)
    assert searched.seconds > 0
    assert calls == sorted(calls)
    assert all(done <= total for done, total in calls)
    assert strategy.results[tiny_pack.graph.oracle] == Result(tiny_pack.graph.oracle, 1.0, 16)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_search_keeps_to_the_evaluations(limit: int, tiny_pack: BlockPack, data: Dataset) -> None:
    strategy = Evolutionary(tiny_pack.graph, COST, [6.0, 9.0])
    with connect("local:onnxruntime").open(tiny_pack) as session:
        searched = search(session, strategy, data, "top1", evaluations=limit, at_once=2)
    assert searched.subnets == len(strategy.results) == limit


def test_search_keeps_to_the_memory(tiny_pack: BlockPack, data: Dataset, tmp_path: Path) -> None:
    strategy = Surrogate(tiny_pack.graph, COST, [9.0])
    with (
        connect("local:onnxruntime").open(tiny_pack) as session,
        pytest.raises(PlanError, match=r"\b5000\b"),
    ):
        search(session, strategy, data, "agreement", evaluations=5, limit_bytes=5000)
    assert strategy.results == {}
