"""Blocks of a few hundredths of a millisecond, on simulated devices: what a block costs alone is not what it adds."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.graph.graph import Block, Subnet
from adaptivenet.toolkit.profiling.block_timing import time_blocks
from adaptivenet.toolkit.profiling.measuring import Precision
from graphs import chain

LENGTH = 20
GRAPH = chain(
    LENGTH,
    tuple(
        Block(f"{kind}{span}-{start}", start, start + span, kind)
        for start in range(LENGTH)
        for kind, span in (("merged", 2), ("merged", 3), ("pruned", 1), ("skip", 1))
        if start + span <= LENGTH
    ),
)
MS = {"original": (0.06, 0.12), "merged": (0.06, 0.14), "pruned": (0.03, 0.08), "skip": (0.004, 0.008)}


@dataclass
class Simulated:
    """A device on which a block adds to a subnet what it takes alone, and then some.

    `call` ms are there only where a block runs alone, `border` ms only within a subnet; `own` is how far each block's
    cost strays there, `pair` how far it does after each other block. A subnet takes `cache` times its share in 2 ms
    more than its blocks do. With `joined`, every chain runs as one program, without time-stamps: it costs the `call`
    once, and what it takes to bring the features at its ends in and out, up to so many ms at a cut.
    """

    seed: int
    own: float = 0.05
    call: float = 0.0
    border: float = 0.0
    pair: float = 0.0
    cache: float = 0.0
    noise: float = 0.03
    joined: float = 0.0
    pack: Any = field(default_factory=lambda: SimpleNamespace(graph=GRAPH))
    conditions: None = None

    def __post_init__(self) -> None:
        rng = self.rng = random.Random(self.seed)
        self.work = {block.name: rng.uniform(*MS[block.kind]) for block in GRAPH.blocks}
        self.ends = [rng.uniform(0, self.joined) for _ in GRAPH.cuts]
        self.stamps_cuts = not self.joined
        self.inside = {name: ms * max(0.2, 1 + rng.gauss(0, self.own)) for name, ms in self.work.items()}

    def true_ms(self, names: Sequence[str]) -> list[float]:
        """What each block of a chain takes."""
        if self.joined:
            first, last = GRAPH[names[0]].start, GRAPH[names[-1]].end
            blocks = self.inside if len(names) > 1 else self.work
            return [sum(blocks[name] for name in names) + self.call + self.ends[first] + self.ends[last]]
        if len(names) == 1:
            return [self.work[names[0]] + self.call]
        longer = 1 + self.cache * sum(self.inside[name] for name in names) / 2
        after = [1.0, *(1 + random.Random(f"{self.seed} {two}").gauss(0, self.pair) for two in pairwise(names))]
        return [self.inside[name] * times * longer + self.border for name, times in zip(names, after, strict=True)]

    def samples_in_situ(
        self, chains: Sequence[Sequence[str]], rounds: int, warmup: int, progress: Any = None
    ) -> list[list[list[float]]]:
        def noisy(ms: float) -> float:
            return ms * math.exp(self.rng.gauss(0, self.noise)) * (5 if self.rng.random() < 0.01 else 1)

        return [[[noisy(ms) for _ in range(rounds)] for ms in self.true_ms(names)] for names in chains]

    def holding(self) -> AbstractContextManager[None]:
        return nullcontext()

    def samples(self, chains: Sequence[Sequence[str]], rounds: int, warmup: int) -> list[list[float]]:
        return [[sum(each) for each in zip(*blocks)] for blocks in self.samples_in_situ(chains, rounds, warmup)]


def like_a_front(seed: int) -> list[Subnet]:
    """Subnets of one or two kinds beside the original blocks, from few to many: some have half of the blocks."""
    rng, found = random.Random(seed), []
    for kinds in [("merged",), ("skip", "merged"), ("pruned",), ("skip",), ("pruned", "skip")] * 6:
        share, at, names = rng.random(), 0, []
        while at < LENGTH:
            here = [block for block in GRAPH.blocks if block.start == at]
            others = [block for block in here if block.kind in kinds]
            original = next(block for block in here if block.kind == "original")
            block = rng.choice(others) if others and rng.random() < share else original
            names.append(block.name)
            at = block.end
        found.append(GRAPH.subnet(names))
    return found


@pytest.mark.parametrize(
    "device",
    [
        {"call": 0.01},
        {"border": 0.012},
        {"call": 0.004, "border": 0.02, "own": 0.1},
        {"cache": 0.15},
        {"pair": 0.06, "border": 0.006},
        {"own": 0.12, "call": 0.008, "border": 0.008, "cache": 0.08, "pair": 0.04},
        {"joined": 0.03, "call": 0.01, "own": 0.0},
        {"joined": 0.06, "call": 0.02},
    ],
    ids=str,
)
def test_a_front_is_predicted_within_3_percent_and_the_stated_error_holds(device: dict[str, float]) -> None:
    errors, inside = [], []
    for seed in range(2):
        simulated: Any = Simulated(seed, **device)
        predictor = time_blocks(simulated, Precision(0.01, 10, 40), seed).predictor
        for subnet in like_a_front(seed):
            true = sum(simulated.true_ms(subnet))
            predicted, stated = predictor.predict(subnet)
            errors.append((predicted - true) / true)
            inside.append(abs(predicted - true) <= stated)
    assert np.median(np.abs(errors)) <= 0.03
    assert abs(np.median(errors)) <= 0.02, "neither above nor below on the whole"
    assert np.mean(inside) >= 0.85
