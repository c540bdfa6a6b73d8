"""Subnets like those that a search will choose, before anything is known of quality.

What is chosen is not drawn at random: it has what is cheap wherever little is lost by it. Blocks that go well together
in that sense are found together in almost everything that is chosen, so what they take together, beyond what each alone
and random subnets tell of them, is an error that all predictions share. So some subnets are chosen as a search would,
by qualities that are made up, and measured beside the random ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from ..graph.best_paths import best_paths
from ..graph.graph import BlockGraph, Subnet
from ..graph.ticks import fastest_and_slowest

_LOST_BY_INT8 = (0.001, 1.0)  # from so little, in proportion to what another alternative loses, to as much


def likely_subnets(graph: BlockGraph, cost: Mapping[str, float], number: int, seed: int = 0) -> list[Subnet]:
    """The best subnets within `number` latencies from the fastest to the oracle's, each by qualities of its own.

    `cost` is in milliseconds, of every block that is no network. Original blocks lose nothing; every other loses, for
    each original that it stands for, an exponentially distributed share, and its int8 twin a little or a lot more, in
    each subnet another. The oracle is not among them; some may be the same.
    """
    blocks = graph.of_blocks
    cost = {block.name: cost[block.name] for block in blocks.blocks}
    rng = random.Random(seed)
    fastest, _ = fastest_and_slowest(blocks, cost)
    low, high = (sum(cost[name] for name in subnet) for subnet in (fastest, blocks.oracle))
    found = []
    for place in range(number):
        by_int8 = math.exp(rng.uniform(*map(math.log, _LOST_BY_INT8)))
        lost = {
            block.name: 0.0 if block.kind == "original" else rng.expovariate(1.0) * (block.end - block.start)
            for block in blocks.blocks
        }
        for block in blocks.blocks:
            if block.precision == "int8":
                known = blocks.in_float32(block)
                lost[block.name] = (lost[known.name] if known else 0.0) + by_int8 * rng.expovariate(1.0)
        budget = low + (high - low) * (place + 0.5) / number
        [best] = best_paths(blocks, cost, {name: -each for name, each in lost.items()}, [budget])
        found += [graph.subnet(subnet) for subnet in best]
    return [subnet for subnet in dict.fromkeys(found) if subnet != graph.oracle]
