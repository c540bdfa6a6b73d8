"""What every block of a pack takes on a device, alone and in situ, and what predicts a subnet's latency from that.

Alone, a block is a chain of one. In situ, it is timed within subnets that run whole, with time-stamps at their cuts
where the device reads its clock there: the oracle, random subnets chosen so that every block occurs in one of them, the
one with the least work, and the one with the fewest blocks: what is predicted lies between those that were measured.
Where there are no such time-stamps, because the device joins blocks to one program, pairs of neighbours are timed too
(see `borders`).
All are timed in the same rounds, and networks that are one program beside them: these are not predicted, what they take
alone is what they take. By what these tell, some subnets are found that are like those that a search will choose (see
`likely`), timed whole in turn with the oracle, and learned from as well. A few of the first ones are timed again with
them, and a few of them whenever others are measured later. The oracle, the anchor, says by which share the device got
slower or faster until then. Where it did not do so in proportion, a shared memory being busier, say, what all others
have in common is a constant, which these tell (`slower_by`); how much they differ beyond that is how much what is
predicted may differ from what is measured.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..devices.base import Session
from ..graph.graph import PRECISIONS, BlockGraph, Subnet
from ..graph.latency import Latency, LatencyTable
from ..graph.sampling import PathSampler
from ..graph.ticks import fastest_and_slowest
from .borders import Borders, neighbours
from .likely import likely_subnets
from .measuring import Precision, Samples, take_samples
from .prediction import LATER, Predictor

BLOCKS, LIKELY = "measure", "measure likely subnets"
_LEARNED_FROM = 12  # random subnets that are measured whole; more where so many do not hold every block
_LIKELY = 10  # subnets like those that a search will choose
_AGAIN = 4  # subnets that are timed again with them, and so many of them again later
_DOUBT = 4  # how many such differences the usual one counts for
_RIDGE = 0.3  # of the squares of shares: a subnet of half the oracle's latency has 0.25
_MOST = 0.1  # of the oracle's latency: a constant beyond that is none
_DRAWN = 4  # of these, so many at least are drawn from all, where a pack has int8 blocks: most have both precisions


@dataclass(frozen=True)
class BlockTiming:
    """What was measured, as it came from the device, and the latencies and the predictor that follow from it.

    `reference` is the latency of what budgets are shares of (see `BlockGraph.reference`).
    """

    samples: Samples
    likely: Samples
    table: LatencyTable
    oracle: Latency
    reference: Latency
    predictor: Predictor
    controls: tuple[Subnet, ...]
    """Subnets that were timed, to be timed again whenever others are measured."""
    learn: Callable[[Mapping[Subnet, Latency]], Predictor]
    """What predicts for the time at which further subnets were measured whole. Those that were timed before, networks
    among them, tell what the device's speed is then: the oracle does, but others do not get slower by the same share.
    The rest of their difference is learned as an error."""


def time_blocks(
    session: Session, precision: Precision, seed: int = 0, progress: Callable[[str, int, int], None] | None = None
) -> BlockTiming:
    """Times every block of the pack, alone and in situ. Raises what `Session.samples_in_situ` raises.

    `progress(stage, done, total)` counts the rounds of each stage, `BLOCKS` and `LIKELY`.
    """
    graph = session.pack.graph
    names = [block.name for block in graph.blocks]
    subnets = subnets_to_time(graph, seed)
    chains = [*((name,) for name in names), *subnets, *neighbours(session)]
    tell = progress or (lambda stage, done, total: None)
    samples = take_samples(session, chains, graph.oracle, precision, partial(tell, BLOCKS))
    corrected, known = samples.corrected(), [*subnets, graph.oracle]
    chosen = [each for each in likely_subnets(graph, learn(corrected, known).ms, _LIKELY, seed) if each not in known]
    again = _some(subnets)
    likely = take_samples(session, [*chosen, *again], graph.oracle, precision, partial(tell, LIKELY))
    first, then = (
        {each.chain: each.latency().median_ms for each in of.timed}
        for of in (corrected, likely.corrected(samples.usual_ms()))
    )
    apart = [then[tuple(subnet)] / first[tuple(subnet)] - 1 for subnet in again]
    likely_ms = {subnet: then[tuple(subnet)] for subnet in chosen}

    usual_ms = corrected.anchor.latency().median_ms

    def learn_more(measured: Mapping[Subnet, Latency]) -> Predictor:
        before = {subnet: (first | then).get(tuple(subnet)) for subnet in measured if subnet != graph.oracle}
        again_ms = [(ms, measured[subnet].median_ms) for subnet, ms in before.items() if ms]
        constant = slower_by(again_ms, usual_ms)
        since = [(now - constant * (1 - ms / usual_ms)) / ms - 1 for ms, now in again_ms]
        later = math.sqrt((_DOUBT * LATER**2 + sum(each**2 for each in apart + since)) / (_DOUBT + len(apart + since)))
        # As they would have been measured then: what is learned from has one speed.
        new = {
            subnet: (measured[subnet].median_ms - constant) / (1 - constant / usual_ms)
            for subnet, ms in before.items()
            if ms is None
        }
        return learn(corrected, known, further=likely_ms | new, later=later, constant=constant)

    table = LatencyTable(dict(zip(names, (each.latency() for each in corrected.timed))))
    oracle = corrected.anchor.latency()
    reference = oracle if graph.reference == graph.oracle else table.blocks[graph.reference[0]]
    return BlockTiming(samples, likely, table, oracle, reference, learn_more({}), tuple(_some(chosen)), learn_more)


def slower_by(again_ms: Iterable[tuple[float, float]], oracle_ms: float) -> float:
    """The constant, in ms, that explains best what subnets took before and take later, each a pair, corrected to the
    speed at which the oracle takes `oracle_ms`. What takes next to nothing takes all of it more, and what takes as long
    as the oracle none. By least squares; few pairs, or such as are nearly as slow as the oracle, tell little (ridge).
    """
    pairs = [(1 - before / oracle_ms, later - before) for before, later in again_ms]
    found = sum(share * more for share, more in pairs) / (_RIDGE + sum(share**2 for share, _ in pairs))
    return max(-_MOST * oracle_ms, min(found, _MOST * oracle_ms))


def _some(subnets: Sequence[Subnet]) -> Sequence[Subnet]:
    """A few of them, from the first to the last."""
    return subnets[:: max(1, len(subnets) // _AGAIN)][:_AGAIN]


def subnets_to_time(graph: BlockGraph, seed: int) -> list[Subnet]:
    """Subnets at both ends and random ones, in which, with the oracle, every block occurs.

    The oracle is not among them, nor is a network that is one program.
    """
    whole, rng = graph, random.Random(seed)
    graph = graph.of_blocks
    work = {block.name: float(block.macs) for block in graph.blocks}
    ends = [fastest_and_slowest(graph, cost)[0] for cost in (work, dict.fromkeys(work, 1.0))]
    chosen: dict[Subnet, None] = dict.fromkeys(subnet for subnet in ends if subnet != graph.oracle)
    seen = {name for subnet in (graph.oracle, *chosen) for name in subnet}
    int8 = [block for block in graph.blocks if block.precision == "int8"]
    if int8:  # the original blocks, as far as they are there in int8: what is chosen is often much the same
        originals = graph.originals("float32") | graph.originals("int8")
        chosen[graph.subnet(originals[start].name for start in range(graph.end))] = None
    without = {block.name for block in graph.blocks if not block.is_original} - {
        known.name for block in int8 if (known := graph.in_float32(block))
    }
    for precision in PRECISIONS:
        # Blocks of one precision together: a border between two is another one than a border between two of a kind.
        alike = {block.name for block in graph.blocks if block.precision == precision}
        if precision == "int8" and int8:  # what is there in float32 only, as a skip is, stands among these too
            alike |= without
            seen -= without
        while missing := alike - seen:
            # All the rest together is worth less than one block that is missing.
            worth = {
                block.name: 2 * len(graph.cuts) * (block.name in missing)
                + (block.name in alike)
                + rng.random() / len(graph.blocks)
                for block in graph.blocks
            }
            _, subnet = fastest_and_slowest(graph, worth)
            chosen[subnet] = None
            seen |= set(subnet)
    drawn = PathSampler(graph, work).sample(max(_DRAWN if int8 else 0, _LEARNED_FROM - len(chosen)), rng)
    return [whole.subnet(subnet) for subnet in dict.fromkeys([*chosen, *drawn]) if subnet != graph.oracle]


def learn(
    samples: Samples,
    subnets: Iterable[Subnet],
    in_situ: bool = True,
    further: Mapping[Subnet, float] | None = None,
    later: float = LATER,
    constant: float = 0.0,
) -> Predictor:
    """A predictor from the blocks that `samples` has alone, and from those of its chains that are in `subnets`.

    `further` are subnets that were measured elsewhere, and what they took, in milliseconds, at the same speed; networks
    that are one program do not count. `later` and `constant` are a `Predictor`'s.

    Without `in_situ`, and where the blocks of these are not told apart, only what they took whole is used. Where pairs
    of neighbours are among the chains, what they tell of borders is used; see `Borders`.
    """
    subnets = list(subnets)
    graph = subnets[0].graph
    by_chain = {each.chain: each for each in (*samples.timed, samples.anchor)}
    chains_ms = {chain: each.latency().median_ms for chain, each in by_chain.items()}
    borders = Borders.of(graph, chains_ms)
    alone = {chain[0]: ms for chain, ms in chains_ms.items() if len(chain) == 1}
    networks = {name: alone.pop(name) for (name,) in graph.networks if name in alone}
    timed = {subnet: by_chain[subnet] for subnet in subnets}
    whole = {subnet: each.latency().median_ms for subnet, each in timed.items()}
    whole |= {subnet: ms for subnet, ms in (further or {}).items() if subnet not in graph.networks}
    return Predictor(
        {name: borders.among_its_like(name, ms) for name, ms in alone.items()},
        whole,
        {subnet: each.in_situ() for subnet, each in timed.items() if in_situ and each.stamped},
        networks,
        borders.conversions,
        later,
        constant,
    )
