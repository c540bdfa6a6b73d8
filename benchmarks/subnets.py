"""Subnets that do not depend on any measurement."""

from __future__ import annotations

import random

from adaptivenet.toolkit.graph.graph import BlockGraph, Subnet
from adaptivenet.toolkit.graph.sampling import PathSampler


def draw_by_macs(graph: BlockGraph, count: int, seed: int) -> list[Subnet]:
    """`count` subnets drawn uniformly over all, of which the multiply-accumulates of the blocks are the cost."""
    cost = {block.name: float(block.macs) for block in graph.blocks}
    return PathSampler(graph, cost).sample(count, random.Random(seed))
