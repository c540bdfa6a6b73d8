"""Search strategies against brute force on random graphs, and the loop that drives them on a real pack."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.base import Evaluation
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.errors import BudgetError, PlanError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Subnet
from adaptivenet.toolkit.graph.ticks import fastest_and_slowest, within
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import Plan, compile_plan
from adaptivenet.toolkit.search import Annealing, Evolutionary, Random, Result, Strategy, Surrogate, Trial, search
from graphs import block_graphs, chain, costed_graphs, real_costs, space, total
from hypothesis import given, settings
from hypothesis import strategies as st

Quality = Callable[[Subnet], float]
Scores = Callable[[Subnet, int], np.ndarray]


def grid(graph: BlockGraph, cost: Mapping[str, float], steps: int = 9) -> list[float]:
    """Budgets from the fastest subnet to the oracle."""
    low, high = total(cost, fastest_and_slowest(graph, cost)[0]), total(cost, graph.oracle)
    return [low + (high - low) * step / (steps - 1) for step in range(steps)]


def alike(quality: Quality) -> Scores:
    """Every image scores the quality."""
    return lambda subnet, images: np.full(images, quality(subnet))


def right_or_wrong(quality: Quality, population: int, seed: int) -> Scores:
    """Images that are right or wrong, the hard ones for all subnets alike, by and large; the share right is exact."""
    difficulty = np.random.default_rng(seed).permutation(population) / population

    def scores(subnet: Subnet, images: int) -> np.ndarray:
        own = np.random.default_rng([seed, *"".join(subnet).encode()]).standard_normal(population)
        right = np.zeros(population)
        right[np.argsort(difficulty + 0.15 * own)[: round(quality(subnet) * population)]] = 1
        return right[:images]

    return scores


def exhaust(strategy: Strategy, scores: Scores, at_once: int = 10, most: int = 2000) -> list[list[Trial]]:
    """Asks and tells until the strategy is done; every batch that it asked for."""
    batches: list[list[Trial]] = []
    images: dict[Subnet, int] = {}
    while asked := strategy.ask(at_once):
        batches.append(asked)
        for trial in asked:
            assert trial.images > images.get(trial.subnet, 0), "nothing new would be seen"
            images[trial.subnet] = trial.images
        strategy.tell([Result(trial.subnet, scores(trial.subnet, trial.images)) for trial in asked])
        assert len(batches) < most, "the strategy does not end"
    return batches


def seen(batches: Sequence[Sequence[Trial]]) -> list[Subnet]:
    """The subnets in the order in which they were first asked for."""
    return list(dict.fromkeys(trial.subnet for batch in batches for trial in batch))


def spent(batches: Sequence[Sequence[Trial]]) -> int:
    """Image evaluations."""
    return sum({trial.subnet: trial.images for batch in batches for trial in batch}.values())


def best(paths: Sequence[Subnet], cost: Mapping[str, float], quality: Quality, budget: float) -> float:
    return max(quality(path) for path in paths if within(0, total(cost, path), budget))


def multiplicative(taken: Mapping[str, float]) -> Quality:
    return lambda subnet: math.exp(-total(taken, subnet))


def additive(taken: Mapping[str, float]) -> Quality:
    return lambda subnet: max(0.0, 1 - total(taken, subnet))


# Surrogate


@pytest.mark.parametrize("form", [multiplicative, additive])
@pytest.mark.parametrize("seed", range(2))
def test_the_surrogate_finds_the_optimum_of_every_budget(form: Callable[..., Quality], seed: int) -> None:
    graph, cost, taken = space(seed)
    budgets, quality, paths = grid(graph, cost), form(taken), list(graph.paths())
    images = 1000
    strategy = Surrogate(graph, cost, budgets, images, only_these=True, seed=seed)
    batches = exhaust(strategy, right_or_wrong(quality, images, seed), 100)
    estimate = strategy.estimate()
    for budget in budgets:
        chosen = max(
            (subnet for subnet in estimate if within(0, total(cost, subnet), budget)), key=lambda each: estimate[each]
        )
        assert quality(chosen) >= best(paths, cost, quality, budget) - 0.003
    assert spent(batches) < images * len(paths) / 4


@pytest.mark.parametrize("seed", range(3))
def test_whoever_is_worse_gets_few_images(seed: int) -> None:
    graph, cost, taken = space(seed)
    quality, images = multiplicative(taken), 2000
    strategy = Surrogate(graph, cost, grid(graph, cost)[4:5], images, only_these=True, seed=seed)
    exhaust(strategy, right_or_wrong(quality, images, seed), 100)
    seen_on = {subnet: result.n for subnet, result in strategy.results.items()}
    fully = [subnet for subnet, n in seen_on.items() if n == images]
    assert 1 <= len(fully) <= len(seen_on) / 3
    rest = [quality(subnet) for subnet in seen_on if subnet not in fully and total(cost, subnet) <= strategy.budgets[0]]
    assert np.mean([quality(subnet) for subnet in fully]) > np.mean(rest)


def test_what_is_measured_outweighs_the_local_losses() -> None:
    # One alternative is said to be bad by its local loss and is good; the other the other way round.
    graph = chain(2, (Block("bad", 0, 1, "pruned", loss=0.01), Block("good", 1, 2, "pruned", loss=0.5)))
    quality = multiplicative({"o0": 0.0, "o1": 0.0, "bad": 0.4, "good": 0.02})
    errors = []
    for images in (8, 10**4):
        strategy = Surrogate(graph, {"o0": 2, "o1": 2, "bad": 1, "good": 1}, [2, 3, 4], images, tolerance=0.0)
        exhaust(strategy, alike(quality))
        estimate = strategy.estimate()
        errors.append(max(abs(estimate[subnet] - quality(subnet)) for subnet in graph.paths()))
    assert max(errors) < 0.001


def test_the_surrogate_begins_with_both_ends_of_the_front_and_every_replacement() -> None:
    graph, cost, _ = space(1)
    fastest, _ = fastest_and_slowest(graph, cost)
    asked = Surrogate(graph, cost, grid(graph, cost), 500).ask(1000)
    assert {trial.images for trial in asked} == {63}  # an eighth: a sixteenth were fewer than 32
    first = [trial.subnet for trial in asked]
    assert first[:2] == [graph.oracle, fastest]
    replaced = {graph.replace(graph.oracle, block) for block in graph.blocks if block.kind != "original"}
    assert set(first[2:]) | {fastest} == replaced | {fastest}


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_what_the_surrogate_asks_for(data: st.DataObject) -> None:
    graph = data.draw(block_graphs())
    cost = data.draw(real_costs(graph))
    rates = data.draw(st.fixed_dictionaries({b.name: st.floats(0, 1) for b in graph.blocks}))
    budgets = data.draw(st.lists(st.floats(0.1, 60.0), min_size=1, max_size=4))
    images = data.draw(st.integers(1, 150))
    scores = right_or_wrong(multiplicative(rates), images, 0)
    only_these = data.draw(st.booleans())
    strategy = Surrogate(graph, cost, budgets, images, only_these=only_these)
    batches = exhaust(strategy, scores, data.draw(st.integers(1, 9)))
    alternatives = [block for block in graph.blocks if block.kind != "original"]
    replacements = {graph.replace(graph.oracle, block) for block in alternatives}
    ends = {graph.oracle, fastest_and_slowest(graph, cost)[0]}
    for subnet in set(seen(batches)) - replacements - ends:
        assert within(0, total(cost, subnet), max(budgets))
    assert all(trial.images <= images for batch in batches for trial in batch)
    assert all(0 <= quality <= 1 for quality in strategy.estimate().values())


def test_what_was_seen_on_all_images_outweighs_the_model() -> None:
    graph, cost, taken = space(2)
    strategy = Surrogate(graph, cost, grid(graph, cost), 200, seed=2)
    exhaust(strategy, right_or_wrong(additive(taken), 200, 2))
    estimate = strategy.estimate()
    whole = {subnet: result.quality for subnet, result in strategy.results.items() if result.n == 200}
    assert whole
    assert {subnet: estimate[subnet] for subnet in whole} == whole


def test_a_quality_of_nothing_is_no_trouble() -> None:
    graph, cost, _ = space(3, length=4, alternatives=4)
    strategy = Surrogate(graph, cost, grid(graph, cost), 16)
    exhaust(strategy, alike(lambda subnet: 0.0))
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
    strategy = Evolutionary(graph, cost, [budget], 50, population=8, generations=4, seed=seed)
    rates = {block.name: (sum(block.name.encode()) % 17) / 40 for block in graph.blocks}
    asked = seen(exhaust(strategy, alike(multiplicative(rates)), data.draw(st.integers(1, 9))))
    assert set(asked) <= set(graph.paths())
    for subnet in asked:
        assert subnet == graph.oracle or within(0, total(cost, subnet), budget)
    assert {graph.oracle, fastest} <= set(asked)
    assert len(asked) <= 2 + 8 * 4


@pytest.mark.parametrize("seed", range(4))
def test_the_evolution_comes_close_to_the_optimum(seed: int) -> None:
    graph, cost, taken = space(seed)
    budget, quality = grid(graph, cost)[4], multiplicative(taken)
    strategy = Evolutionary(graph, cost, [budget], 50, population=30, generations=10, seed=seed)
    asked = seen(exhaust(strategy, alike(quality)))
    paths = list(graph.paths())
    fitting = sorted((quality(path) for path in paths if within(0, total(cost, path), budget)), reverse=True)
    assert best(asked, cost, quality, budget) >= fitting[len(fitting) // 50]
    assert strategy.estimate() == pytest.approx({subnet: quality(subnet) for subnet in asked})
    assert {result.n for result in strategy.results.values()} == {50}


def test_the_evolution_improves_on_its_first_generation() -> None:
    graph, cost, taken = space(5, length=10, alternatives=24)
    budget, quality = grid(graph, cost)[4], multiplicative(taken)

    def reached(generations: int) -> float:
        strategy = Evolutionary(graph, cost, [budget], 50, population=12, generations=generations, seed=1)
        return best(seen(exhaust(strategy, alike(quality))), cost, quality, budget)

    assert reached(8) > reached(1)


@pytest.mark.parametrize(
    ("kind", "spent_on"),
    # Later on, a walker may be anywhere below its budget: what it was meant for cannot be told from where it is.
    [(Evolutionary, 20), (Evolutionary, 60), (Annealing, 20), (Random, 20), (Random, 60)],
)
def test_evaluations_are_shared_out_evenly_among_the_budgets(kind: Callable[..., Strategy], spent_on: int) -> None:
    graph, cost, taken = space(3, length=12, alternatives=30)
    budgets = grid(graph, cost)[4:9]
    strategy = kind(graph, cost, budgets, 50)
    asked: list[Subnet] = []
    while len(asked) < spent_on and (trials := strategy.ask(spent_on - len(asked))):
        asked += [trial.subnet for trial in trials]
        strategy.tell([Result(trial.subnet, alike(multiplicative(taken))(trial.subnet, 50)) for trial in trials])
    # The first two are the ends. A subnet is drawn from the last 5% of its budget, and these are further apart.
    meant = [min(budget for budget in budgets if within(0, total(cost, subnet), budget)) for subnet in asked[2:]]
    of_each = [meant.count(budget) for budget in budgets]
    assert max(of_each) - min(of_each) <= max(2, 0.6 * len(meant) / len(budgets))


# Annealing and random


@given(costed_graphs(), st.integers(0, 3), st.booleans(), st.data())
@settings(max_examples=40, deadline=None)
def test_what_annealing_and_chance_ask_for(
    case: tuple[BlockGraph, dict[str, float]], seed: int, anneal: bool, data: st.DataObject
) -> None:
    graph, cost = case
    fastest = fastest_and_slowest(graph, cost)[0]
    budget = total(cost, fastest) * data.draw(st.sampled_from([1.0, 1.2, 2.0]))
    strategy: Strategy = (
        Annealing(graph, cost, [budget], 50, walkers=2, steps=6, seed=seed)
        if anneal
        else Random(graph, cost, [budget], 50, draws=14, seed=seed)
    )
    rates = {block.name: (sum(block.name.encode()) % 17) / 40 for block in graph.blocks}
    batches = exhaust(strategy, alike(multiplicative(rates)), data.draw(st.integers(1, 9)))
    asked = seen(batches)
    ends = {graph.oracle, fastest}
    assert set(asked[: len(ends)]) == ends
    assert all(within(0, total(cost, subnet), budget) for subnet in asked if subnet != graph.oracle)
    assert len(asked) <= 2 + 14
    assert {trial.images for batch in batches for trial in batch} == {50}


@pytest.mark.parametrize("seed", range(4))
def test_annealing_comes_closer_than_chance(seed: int) -> None:
    graph, cost, taken = space(seed, length=10, alternatives=24)
    budget, quality = grid(graph, cost)[4], multiplicative(taken)
    walked = seen(exhaust(Annealing(graph, cost, [budget], 50, steps=100, seed=seed), alike(quality)))
    drawn = seen(exhaust(Random(graph, cost, [budget], 50, draws=len(walked), seed=seed), alike(quality)))
    assert best(walked, cost, quality, budget) > best(drawn, cost, quality, budget)


# All


@pytest.mark.parametrize("strategy", [Evolutionary, Annealing, Random])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_budget_below_the_fastest_is_refused(strategy: Callable[..., Strategy], share: float) -> None:
    graph, cost, _ = space(2)
    low = grid(graph, cost)[0]
    with pytest.raises(BudgetError, match=f"the fastest takes {low:.4g} ms"):
        strategy(graph, cost, [low * 2, low * share], 50)


def strategies(graph: BlockGraph, cost: Mapping[str, float], seed: int = 4) -> list[Strategy]:
    budgets = grid(graph, cost, 3)
    return [
        Surrogate(graph, cost, budgets, 200, seed=seed),
        Evolutionary(graph, cost, budgets, 200, population=10, generations=3, seed=seed),
        Annealing(graph, cost, budgets, 200, walkers=2, steps=10, seed=seed),
        Random(graph, cost, budgets, 200, draws=10, seed=seed),
    ]


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_ask_gives_at_most_so_many(at_once: int) -> None:
    graph, cost, taken = space(7)
    for strategy in strategies(graph, cost):
        batches = exhaust(strategy, right_or_wrong(multiplicative(taken), 200, 0), at_once)
        assert all(1 <= len(batch) <= at_once for batch in batches)
        assert strategy.ask(at_once) == []


def test_the_same_seed_asks_for_the_same() -> None:
    graph, cost, taken = space(8)
    runs = [
        [exhaust(each, right_or_wrong(multiplicative(taken), 200, 0)) for each in strategies(graph, cost, seed)]
        for seed in (4, 4, 5)
    ]
    assert runs[0] == runs[1]
    assert all(one != other for one, other in zip(runs[0], runs[2], strict=True))


def test_a_graph_without_alternatives_is_searched_at_once() -> None:
    graph = chain(3)
    cost = {"o0": 1.0, "o1": 2.0, "o2": 3.0}
    for kind in (Surrogate, Evolutionary, Annealing, Random):
        assert seen(exhaust(kind(graph, cost, [6.0], 50), alike(lambda subnet: 1.0))) == [graph.oracle]


# The loop


@pytest.fixture(scope="module")
def data(tiny_pack: BlockPack, pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    np.savez(path, images=pictures, labels=np.arange(len(pictures)) % 5)
    return open_data(path, None, tiny_pack.classes, tiny_pack.graph.cuts[0])


COST = {"b0": 4.0, "b1": 4.0, "b2": 1.0, "b0-m2": 3.0, "b0-p50": 2.0, "b1-p50": 2.0}


@pytest.mark.parametrize("address", ["local:executorch", "local:onnxruntime"])
def test_search_counts_the_blocks_that_ran(address: str, tiny_pack: BlockPack, data: Dataset) -> None:
    strategy = Surrogate(tiny_pack.graph, COST, [4.0, 6.0, 9.0], len(data), tolerance=0.0)
    calls: list[tuple[int, int]] = []
    with connect(address).open(tiny_pack) as session:
        searched = search(
            session, strategy, data, "agreement", image_evaluations=1000, progress=lambda *call: calls.append(call)
        )
    assert set(strategy.results) == set(tiny_pack.graph.paths())
    assert (searched.subnets, searched.images, searched.image_evaluations) == (5, 16, 5 * 16)
    # First the oracle, m2, b0-p50 b1 and b0 b1-p50: 10 edges of their trie. Then b0-p50 b1-p50, all of it: blocks that
    # are so small are sooner run again than kept. The oracle's output is there still.
    assert searched.block_runs == 16 * (10 + 3)
    assert searched.seconds > 0
    assert calls == sorted(calls)
    assert calls[-1] == (5 * 16, 1000)
    assert strategy.results[tiny_pack.graph.oracle].scores.tolist() == [1.0] * 16


class Scripted(Strategy):
    """Asks for what it is told to ask for."""

    def __init__(self, *batches: list[Trial]) -> None:
        self.results = {}
        self.batches = list(batches)

    def ask(self, n: int) -> list[Trial]:
        return self.batches.pop(0) if self.batches else []


def test_each_image_is_seen_once_by_each_subnet(tiny_pack: BlockPack, data: Dataset) -> None:
    one, two, three = itertools.islice(tiny_pack.graph.paths(), 3)
    strategy = Scripted(
        [Trial(one, 3), Trial(two, 5)], [Trial(one, 9), Trial(two, 9), Trial(three, 4)], [Trial(two, 16)]
    )
    pieces: list[tuple[int, int]] = []
    with connect("local:onnxruntime").open(tiny_pack) as session:
        whole = session.evaluate(compile_plan(tiny_pack.graph, [one, two, three], {"top1": ("output", "label")}), data)
        real = session.evaluate

        def noting(plan: Plan, piece: Dataset, *rest: Any) -> Evaluation:
            pieces.append((len(plan.subnets), len(piece)))
            return real(plan, piece, *rest)

        session.evaluate = noting  # type: ignore[method-assign]
        searched = search(session, strategy, data, "top1", image_evaluations=1000)
    for row, (subnet, images) in enumerate([(one, 9), (two, 16), (three, 4)]):
        assert strategy.results[subnet].scores.tolist() == whole.sums["top1"][row, :images, 0].tolist()
    assert searched.image_evaluations == 9 + 16 + 4 == sum(subnets * images for subnets, images in pieces)
    assert pieces == [(2, 3), (1, 2), (1, 3), (2, 1), (1, 1), (2, 4), (1, 7)]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_search_keeps_to_the_evaluations(limit: int, tiny_pack: BlockPack, data: Dataset) -> None:
    strategy = Evolutionary(tiny_pack.graph, COST, [6.0, 9.0], len(data))
    with connect("local:onnxruntime").open(tiny_pack) as session:
        searched = search(session, strategy, data, "top1", image_evaluations=limit * len(data) + 7, at_once=2)
    assert searched.subnets == len(strategy.results) == limit
    assert searched.image_evaluations == limit * len(data)


def test_search_keeps_to_the_memory(tiny_pack: BlockPack, data: Dataset) -> None:
    strategy = Surrogate(tiny_pack.graph, COST, [9.0], len(data))
    with (
        connect("local:onnxruntime").open(tiny_pack) as session,
        pytest.raises(PlanError, match=r"\b5000\b"),
    ):
        search(session, strategy, data, "agreement", image_evaluations=500, limit_bytes=5000)
    assert strategy.results == {}
