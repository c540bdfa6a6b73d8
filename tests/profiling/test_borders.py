"""What borders cost, on a device that joins blocks: features come in and go out once, precisions are converted."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise, product

import pytest
from adaptivenet.toolkit.graph.graph import PRECISIONS, Block, BlockGraph
from adaptivenet.toolkit.graph.sampling import PathSampler
from adaptivenet.toolkit.profiling.borders import Borders
from graphs import chain
from hypothesis import given
from hypothesis import strategies as st

LENGTH = 6
GRAPH: BlockGraph = chain(
    LENGTH,
    (
        *(Block(f"o{at}-int8", at, at + 1, "original", precision="int8") for at in range(LENGTH)),
        *(Block(f"skip{at}", at, at + 1, "skip") for at in range(1, LENGTH - 1)),
        *(Block(f"m{at}-int8", at, at + 2, "merged", precision="int8") for at in range(LENGTH - 1)),
    ),
)
ORIGINALS = {(block.start, block.precision): block.name for block in GRAPH.blocks if block.kind == "original"}
PAIRS = [
    (ORIGINALS[cut - 1, before], ORIGINALS[cut, after])
    for cut in range(1, LENGTH)
    for before, after in product(PRECISIONS, PRECISIONS)
]


class Joining:
    """A device that joins the blocks of a chain. A skip costs nothing, wherever it stands."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.work = {block.name: rng.uniform(1, 2) for block in GRAPH.blocks}
        self.in_or_out = {key: rng.uniform(0, 0.4) for key in product(range(LENGTH + 1), PRECISIONS)}
        self.converting = {
            (cut, before, after): rng.uniform(0, 0.3) * (before != after)
            for cut, before, after in product(range(LENGTH + 1), PRECISIONS, PRECISIONS)
        }

    def ms(self, names: Sequence[str]) -> float:
        blocks = [block for block in map(GRAPH.__getitem__, names) if block.kind != "skip"]
        if not blocks:
            return 0.0
        total = math.fsum(self.work[block.name] for block in blocks)
        total += self.in_or_out[blocks[0].start, blocks[0].precision]
        total += self.in_or_out[blocks[-1].end, blocks[-1].precision]
        # A skip keeps the shape, so that a conversion costs the same before it and behind it.
        return total + sum(self.converting[one.end, one.precision, other.precision] for one, other in pairwise(blocks))


@given(st.integers(0, 10_000))
def test_blocks_and_conversions_add_up_to_a_subnet(seed: int) -> None:
    device = Joining(seed)
    alone = {(block.name,): device.ms((block.name,)) for block in GRAPH.blocks}
    borders = Borders.of(GRAPH, {**alone, **{pair: device.ms(pair) for pair in PAIRS}})
    among = {block.name: borders.among_its_like(block.name, alone[block.name,]) for block in GRAPH.blocks}
    for subnet in PathSampler(GRAPH, device.work).sample(20, random.Random(seed)):
        predicted = math.fsum(among[name] for name in subnet) + borders.conversions(subnet)
        assert predicted == pytest.approx(device.ms(subnet)), subnet


def test_without_pairs_a_block_takes_what_it_takes_alone() -> None:
    borders = Borders.of(GRAPH, {(block.name,): 1.0 for block in GRAPH.blocks})
    assert {borders.among_its_like(block.name, 1.0) for block in GRAPH.blocks} == {1.0}
    assert borders.conversions(GRAPH.subnet(["o0", "o1-int8", "o2", "o3", "o4", "o5"])) == 0.0


def test_noise_makes_no_block_free_and_no_conversion_a_gain() -> None:
    noisy = {(block.name,): 1.0 for block in GRAPH.blocks} | dict.fromkeys(PAIRS[:2], 0.0)
    borders = Borders.of(GRAPH, noisy)  # a pair of float32, and of float32 before int8, at cut 1
    assert borders.among_its_like("o0", 1.0) == pytest.approx(0.05)
    assert borders.among_its_like("o1-int8", 1.0) == 1.0
    assert borders.conversions(["o0", "o1-int8", *(f"o{at}" for at in range(2, LENGTH))]) == 0.0
