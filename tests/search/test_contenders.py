"""Every budget's best is looked for near that budget, also where next to nothing is known of much cheaper subnets."""

from __future__ import annotations

import numpy as np
from adaptivenet.toolkit.graph.graph import Block, Subnet
from adaptivenet.toolkit.search import Surrogate, first_look
from adaptivenet.toolkit.search.base import Result
from graphs import chain

LENGTH, IMAGES = 27, 200
GRAPH = chain(
    LENGTH,
    tuple(
        Block(f"{kind[0]}{at}", at, at + 1, kind, loss=loss)
        for kind, loss in (("pruned", 0.03), ("skip", 0.1))
        for at in range(1, LENGTH - 1)
    ),
)
COST = {block.name: {"original": 1.0, "pruned": 0.7, "skip": 0.001}[block.kind] for block in GRAPH.blocks}
BUDGETS = (2.04, 5.0, 8.0, 10.0, 10.2, 10.4, 10.6, 12.0, 12.2, 14.0, 14.2, 18.0, 18.2, 22.0, 22.2, 24.0)


def quality(subnet: Subnet) -> float:
    """A block alone does little harm, and half of them are ruin."""
    harm = sum({"original": 0.0, "pruned": 0.3, "skip": 1.0}[GRAPH[name].kind] for name in subnet)
    return 0.1 + 0.8 / (1 + float(np.exp(harm - 8)))


def test_every_budget_is_searched_near_itself() -> None:
    search, rng, used = Surrogate(GRAPH, COST, BUDGETS, IMAGES), np.random.default_rng(0), 0
    order = rng.permutation(IMAGES)
    while used < 3 * first_look(GRAPH, IMAGES) and (trials := search.ask(100)):
        results = []
        for trial in trials:
            seen = search.results[trial.subnet].n if trial.subnet in search.results else 0
            used += trial.images - seen
            right = order < quality(trial.subnet) * IMAGES
            results.append(Result(trial.subnet, right[: trial.images].astype(float)))
        search.tell(results)
        if first_look(GRAPH, IMAGES) > used:
            continue
        for budget, subnets in zip(BUDGETS, search._by_promise(), strict=True):
            unseen = [sum(COST[name] for name in subnet) for subnet in subnets if subnet not in search.results]
            assert all(cost > 0.5 * budget for cost in unseen), f"for {budget} ms"
    for budget in (5.0, 8.0, 12.0):
        near = [subnet for subnet in search.results if 0.8 * budget < sum(COST[name] for name in subnet) <= budget]
        assert near, f"no subnet of about {budget} ms was looked at"
