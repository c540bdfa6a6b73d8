"""Random block graphs, and what brute force says about them. Shared by the tests of everything that walks a graph."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut, Subnet
from hypothesis import strategies as st


def chain(length: int, extra: tuple[Block, ...] = (), taps: tuple[int, ...] = ()) -> BlockGraph:
    """A plain graph: original blocks o0, o1, … between cuts of one float32 each, and `extra` blocks."""
    cuts = [Cut(index, (1,)) for index in range(length + 1)]
    return BlockGraph(cuts, [*(Block(f"o{at}", at, at + 1, "original") for at in range(length)), *extra], taps)


@st.composite
def block_graphs(draw: st.DrawFn, max_blocks: int = 5, max_alternatives: int = 7) -> BlockGraph:
    """Up to 6 cuts of random shapes and dtypes, up to 7 merged or pruned blocks, perhaps with taps or `reads`.

    Perhaps with whole networks as one program. At most some hundreds of paths, so that a test can list them all.
    """
    length = draw(st.integers(1, max_blocks))
    earlier = st.sets(st.integers(0, length - 1), max_size=2)
    taps = draw(earlier) if length > 1 else set()
    kept = draw(earlier) if length > 1 and draw(st.booleans()) else set()
    shapes = st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))
    dtypes = st.sampled_from(["float32", "float16", "uint8"])
    cuts = [Cut(index, draw(shapes), draw(dtypes)) for index in range(length + 1)]

    def reads(start: int) -> tuple[int, ...]:
        return tuple(cut for cut in sorted(kept) if cut < start and draw(st.booleans()))

    blocks = [Block(f"o{at}", at, at + 1, "original", reads=reads(at)) for at in range(length)]
    for number in range(draw(st.integers(0, max_alternatives))):
        start = draw(st.integers(0, length - 1))
        furthest = min([cut for cut in taps | kept if cut > start], default=length)
        end = draw(st.integers(start + 1, furthest))
        kind = "pruned" if end == start + 1 else "merged"
        blocks.append(Block(f"{kind}{number}", start, end, kind, reads=reads(start)))
    for precision in draw(st.sets(st.sampled_from(["float32", "int8"]))):
        blocks.append(Block(f"whole-{precision}", 0, length, "whole", precision=precision))
    return BlockGraph(cuts, draw(st.permutations(blocks)), taps)


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


def whole_costs(graph: BlockGraph) -> st.SearchStrategy[dict[str, float]]:
    """Whole milliseconds a block, often equal, sometimes 0."""
    return st.fixed_dictionaries({block.name: st.integers(0, 12).map(float) for block in graph.blocks})


def real_costs(graph: BlockGraph) -> st.SearchStrategy[dict[str, float]]:
    """Any milliseconds a block, as a clock would give them."""
    return st.fixed_dictionaries({block.name: st.floats(0.01, 20.0) for block in graph.blocks})


@st.composite
def costed_graphs(draw: st.DrawFn, max_blocks: int = 5) -> tuple[BlockGraph, dict[str, float]]:
    """A graph with whole or with real costs."""
    graph = draw(block_graphs(max_blocks))
    return graph, draw(st.one_of(whole_costs(graph), real_costs(graph)))


def total(numbers: Mapping[str, float], subnet: Subnet) -> float:
    """The sum along a path."""
    return math.fsum(numbers[name] for name in subnet)
