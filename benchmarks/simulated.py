"""Networks that never were: tables of truth of many kinds, so that a search is not fitted to the one it was made with.

A simulated network has a chain of blocks and alternatives of random cost, each of which does some damage. A picture is
right while its margin is above the damage that the subnet does to it; below that the network answers one class for all.
How the damages of several alternatives come to one is the table's `kind`:

- `additive`: they add up;
- `convex`: they add up, and the sum counts with the power 1.6, so that many small ones are worse than they seem alone;
- `cliff`: as additive, until a limit of each network's own is passed, from which on nothing is left;
- `pairs`: they add up, and any two that stand together do as much again, or undo a part of it;
- `worst`: the largest counts, the others a quarter;
- `noise`: each adds noise, and the margin is divided by the root of it all (a signal-to-noise ratio);
- `neighbours`: they add up, and of two without an original between them the smaller counts twice;
- `saturated`: they add up, and of a sum of d counts d / (1 + d / 2);
- `decay`: shares that are kept are multiplied, whatever the margins are: of the pictures by rank, the first are right.

`OPEN` are the kinds that an earlier model of quality was developed with, `HELD_OUT` those that it was tried on in the
end. The model of today was developed with both, and `LATER` are those that were looked at once, when it was done.

The metrics are `top1` (the original is right on about nine pictures of ten), `agreement` (the original is always right)
and `fidelity` (each picture scores 1 less its damage, at least 0; the original always 1).
"""

from __future__ import annotations

import itertools
import math
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut, Subnet
from numpy.typing import NDArray

from .truth import Truth

_Array = NDArray[np.float64]

OPEN = ("additive", "convex", "cliff", "pairs")
HELD_OUT = ("worst", "noise", "decay")
LATER = ("neighbours", "saturated")
METRICS = ("top1", "agreement", "fidelity")
_TOP1 = 1.44  # of a standard normal margin, 92.5% is above -1.44


@dataclass(frozen=True)
class Simulated:
    """One network: `length` blocks with `alternatives` to each, on `pictures` of `classes`, scored by `metric`.

    `damage` scales what alternatives do: with 1, most subnets of many alternatives are at chance. `shared` is how much
    of a picture's margin is the same for all subnets, from 0 to 1. The same numbers make the same table.
    """

    kind: str
    metric: str = "top1"
    seed: int = 0
    length: int = 12
    alternatives: int = 2
    pictures: int = 4000
    classes: int = 10
    damage: float = 1.0
    shared: float = 0.7

    @cached_property
    def graph(self) -> BlockGraph:
        """Pruned blocks, and every fourth alternative a merged one that replaces two or three."""
        rng = random.Random(self.seed)
        blocks = [Block(f"o{at}", at, at + 1, "original") for at in range(self.length)]
        for at in range(self.length):
            for number in range(self.alternatives):
                end = at + rng.choice([1, 1, 1, 2, 3] if number else [1])
                if end <= self.length:
                    blocks.append(Block(f"a{at}-{number}", at, end, "pruned" if end == at + 1 else "merged"))
        return BlockGraph([Cut(at, (1,)) for at in range(self.length + 1)], blocks)

    @cached_property
    def cost(self) -> Mapping[str, float]:
        """Milliseconds of each block."""
        rng = random.Random(self.seed + 1)
        cost = {name: rng.uniform(0.5, 1.5) for name in self.graph.oracle}
        for block in self.graph.blocks:
            if not block.is_original:
                cost[block.name] = rng.uniform(0.2, 0.8) * sum(cost[name] for name in self.graph.replaced_by(block))
        return cost

    @cached_property
    def taken(self) -> Mapping[str, float]:
        """The damage of each alternative alone, in standard deviations of the margins: most little, some much."""
        rng = np.random.default_rng(self.seed + 2)
        return {
            block.name: float(0.35 * self.damage * (block.end - block.start) ** 0.5 * rng.lognormal(-0.5, 1.0))
            for block in self.graph.blocks
            if not block.is_original
        }

    def scores(self, subnet: Subnet) -> _Array:
        """What the subnet scores on each picture: float64 (pictures,), 0 to 1."""
        own = np.random.default_rng([self.seed, zlib.crc32(" ".join(subnet).encode())])
        names = [name for name in subnet if name in self.taken]
        if not names and self.metric != "top1":
            return np.ones(self.pictures)
        total = self._total(names, own)
        difficulty, of_block = self._pictures
        noise = own.standard_normal(self.pictures)
        if names:
            weights = np.array([self.taken[name] for name in names])
            rows = np.array([of_block[name] for name in names])
            noise = math.sqrt(0.5) * (noise + weights @ rows / float(np.linalg.norm(weights)))
        else:
            noise[:] = 0
        if self.metric == "fidelity":
            damage = 0.08 * total * np.exp(self.shared * difficulty + (1 - self.shared) * noise)
            return np.maximum(0.0, 1 - damage)
        answer = own.integers(self.classes)
        lucky = self._labels == answer
        if self.kind == "decay":
            share = (0.925 if self.metric == "top1" else 1.0) * math.exp(-0.15 * total)
            rank = math.sqrt(self.shared) * difficulty + math.sqrt(1 - self.shared) * noise
            right = rank <= np.quantile(rank, share)
            return np.asarray(right | (lucky & (own.random(self.pictures) < 1 - share)), dtype=np.float64)
        margin = _TOP1 + difficulty if self.metric == "top1" else np.abs(_TOP1 + difficulty)
        if self.kind == "noise":
            own_noise = 0.25 * total * ((1 - self.shared) * 3 * noise + self.shared)
            right = margin > own_noise
        else:
            right = margin > 0.5 * total + (1 - self.shared) * min(1.0, total) * noise
        return np.asarray(right | (lucky & ~right), dtype=np.float64)

    def table(self) -> Truth:
        """All subnets on all pictures. Not for `fidelity`, where a picture is neither right nor wrong."""
        hits = np.array([self.scores(subnet) == 1 for subnet in self.graph.paths()])
        made = {"by": "benchmarks.simulated", "kind": self.kind, "metric": self.metric, "seed": self.seed}
        return Truth(self.graph, self.cost, hits, self._labels.astype(np.uint8), made)

    @cached_property
    def _pictures(self) -> tuple[_Array, Mapping[str, _Array]]:
        """How easy each picture is, and what it has to do with each alternative."""
        rng = np.random.default_rng(self.seed + 3)
        of_block = {name: rng.standard_normal(self.pictures) for name in self.taken}
        return rng.standard_normal(self.pictures), of_block

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        return np.random.default_rng(self.seed + 4).integers(self.classes, size=self.pictures)

    def _total(self, names: list[str], own: np.random.Generator) -> float:
        """The damage of a subnet, with a little that nothing explains."""
        each = sorted((self.taken[name] for name in names), reverse=True)
        total = sum(each)
        match self.kind:
            case "convex":
                total = total**1.6
            case "cliff":
                limit = self.damage * (1.0 + random.Random(self.seed + 5).random())
                total = total if total < limit else total + 6
            case "pairs":
                for place, one in enumerate(names):
                    for other in names[place + 1 :]:
                        factor = np.random.default_rng([self.seed, zlib.crc32(f"{one} {other}".encode())])
                        total += min(self.taken[one], self.taken[other]) * float(factor.normal(0.05, 0.25))
            case "worst":
                total = each[0] + 0.25 * sum(each[1:]) if each else 0.0
            case "neighbours":
                for one, other in itertools.pairwise(names):
                    if self.graph[one].end == self.graph[other].start:
                        total += min(self.taken[one], self.taken[other])
            case "saturated":
                total = total / (1 + total / 2)
            case "noise":
                total = math.sqrt(sum(damage**2 for damage in each)) * 2
        return max(0.0, total) * float(own.lognormal(0.0, 0.1))
