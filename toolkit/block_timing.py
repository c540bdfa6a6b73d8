"""What every block of a pack takes on a device, alone and in situ, and what predicts a subnet's latency from that.

Alone, a block is a chain of one. In situ, it is timed within subnets that run whole, with time-stamps at their cuts:
the oracle, and random subnets chosen so that every block occurs in one of them. All are timed in the same rounds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .devices import Session
from .graph import BlockGraph, Subnet
from .latency import Latency, LatencyTable, fastest_and_slowest
from .measuring import Precision, Samples, take_samples
from .prediction import Predictor
from .sampling import PathSampler

_LEARNED_FROM = 12  # random subnets that are measured whole; more where so many do not hold every block


@dataclass(frozen=True)
class BlockTiming:
    """What was measured, as it came from the device, and the latencies and the predictor that follow from it."""

    samples: Samples
    table: LatencyTable
    oracle: Latency
    predictor: Predictor


def time_blocks(
    session: Session, precision: Precision, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> BlockTiming:
    """Times every block of the pack, alone and in situ. Raises what `Session.samples_in_situ` raises."""
    graph = session.pack.graph
    names = [block.name for block in graph.blocks]
    subnets = subnets_to_time(graph, seed)
    samples = take_samples(session, [*((name,) for name in names), *subnets], graph.oracle, precision, progress)
    corrected = samples.corrected()
    table = LatencyTable(dict(zip(names, (each.latency() for each in corrected.timed))))
    return BlockTiming(samples, table, corrected.anchor.latency(), learn(corrected, [*subnets, graph.oracle]))


def subnets_to_time(graph: BlockGraph, seed: int) -> list[Subnet]:
    """Random subnets in which, with the oracle, every block occurs; the oracle is not among them."""
    rng = random.Random(seed)
    chosen: dict[Subnet, None] = {}
    missing = {block.name for block in graph.blocks}.difference(graph.oracle)
    while missing:
        # All the random parts together are worth less than one block that is missing.
        worth = {block.name: (block.name in missing) + rng.random() / len(graph.blocks) for block in graph.blocks}
        _, subnet = fastest_and_slowest(graph, worth)
        chosen[subnet] = None
        missing -= set(subnet)
    work = {block.name: float(block.macs) for block in graph.blocks}
    drawn = PathSampler(graph, work).sample(max(0, _LEARNED_FROM - len(chosen)), rng)
    return [subnet for subnet in dict.fromkeys([*chosen, *drawn]) if subnet != graph.oracle]


def learn(samples: Samples, subnets: Iterable[Subnet], in_situ: bool = True) -> Predictor:
    """A predictor from the blocks that `samples` has alone, and from those of its chains that are in `subnets`.

    Without `in_situ`, of these only what they took whole is used.
    """
    alone = {each.chain[0]: each.latency().median_ms for each in samples.timed if len(each.chain) == 1}
    by_chain = {each.chain: each for each in (*samples.timed, samples.anchor)}
    timed = {subnet: by_chain[subnet] for subnet in subnets}
    whole = {subnet: each.latency().median_ms for subnet, each in timed.items()}
    return Predictor(alone, whole, {subnet: each.in_situ() for subnet, each in timed.items()} if in_situ else {})
