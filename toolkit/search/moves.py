"""From subnets to other subnets: what evolution and annealing are made of."""

from __future__ import annotations

import random

from ..errors import BudgetError
from ..graph.graph import BlockGraph, Subnet
from ..graph.sampling import PathSampler


def mutant(graph: BlockGraph, parent: Subnet, rng: random.Random) -> Subnet:
    """`parent` with a stretch of one to three blocks replaced by a random one between the same two cuts."""
    cuts = parent.cuts
    first = rng.randrange(len(parent))
    last = rng.randint(first + 1, min(first + 3, len(parent)))
    stretch: list[str] = []
    at = cuts[first]
    while at != cuts[last]:
        # A block that jumps over the end of the stretch is no choice; the original one never does.
        block = rng.choice([block for block in graph.leaving[at] if block.end <= cuts[last]])
        stretch.append(block.name)
        at = block.end
    return graph.subnet((*parent[:first], *stretch, *parent[last:]))


def crossover(graph: BlockGraph, one: Subnet, other: Subnet, rng: random.Random) -> Subnet:
    """The path of `one` up to a cut that both visit, and that of `other` from there on."""
    shared = sorted(set(one.cuts) & set(other.cuts))
    cut = rng.choice(shared[1:-1] or shared)
    return graph.subnet((*one[: one.cuts.index(cut)], *other[other.cuts.index(cut) :]))


def near_budget(sampler: PathSampler, budget: float, count: int, rng: random.Random) -> list[Subnet]:
    """`count` subnets drawn uniformly from those just within `budget`, in ms: the last 5% of it, or more if it must."""
    low = sampler.latency_ms(sampler.fastest)
    width = 0.05 * budget
    while not sampler.count(max(low, budget - width), budget):
        width *= 2
    return sampler.sample(count, rng, max(low, budget - width), budget)


def require_reachable(sampler: PathSampler, budget: float) -> None:
    """Raises BudgetError, naming the fastest subnet, for a `budget` in ms that no subnet meets."""
    if not sampler.count(high=budget):
        raise BudgetError(
            f"no subnet meets a budget of {budget:.4g} ms: the fastest takes "
            f"{sampler.latency_ms(sampler.fastest):.4g} ms (predicted)"
        )
