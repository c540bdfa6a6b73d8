"""Blocks for a known front: every stretch of blocks that its subnets only take together becomes one block.

A border between two blocks costs something, and each program has bytes of its own. Where a front is known, as when an
app ships it, most borders are needed by none of its subnets. The original network counts as one of them, because every
pack has it: its blocks end at every cut that is left, so that there is one from each to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import ExportError, GraphError, ProfileError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Subnet, reads_together
from adaptivenet.toolkit.graph.profiled import is_added, subnets_in
from adaptivenet.toolkit.profiling.profile import Profile
from torch import nn

from .networks import one_program


def stretches_of(graph: BlockGraph, subnets: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """The stretches of blocks that the subnets and the oracle only take together, of one precision, between kept cuts.

    Networks that are one program are left out. Raises GraphError for what is no subnet.
    """
    networks = set(graph.networks)
    paths = list(dict.fromkeys([graph.oracle, *(path for path in map(graph.subnet, subnets) if path not in networks)]))
    takers: dict[str, set[int]] = {}
    for at, path in enumerate(paths):
        for name in path:
            takers.setdefault(name, set()).add(at)

    def apart(one: Block, other: Block) -> bool:
        return takers[one.name] != takers[other.name] or one.precision != other.precision or one.end in graph.kept

    ends = {one.end for path in paths for one, other in pairwise(map(graph.__getitem__, path)) if apart(one, other)}
    found: dict[tuple[str, ...], None] = {}
    for path in paths:
        stretch: list[str] = []
        for name in path:
            if stretch and (
                apart(graph[stretch[-1]], graph[name]) or (0 in takers[name] and graph[name].start in ends)
            ):
                found[tuple(stretch)] = None
                stretch = []
            stretch.append(name)
        found[tuple(stretch)] = None
    return list(found)


@dataclass(frozen=True)
class Fused:
    """A pack for some subnets alone: its graph, a supernet that has all its blocks in float32, and the name of each
    stretch of blocks that is one block there."""

    supernet: Supernet
    graph: BlockGraph
    names: Mapping[tuple[str, ...], str]

    def path(self, subnet: Sequence[str]) -> Subnet:
        """The subnet as a path of the pack. Raises GraphError for one that the pack was not made for."""
        begins = {stretch[0]: stretch for stretch in self.names}
        path, at = [], 0
        while at < len(subnet):
            stretch = begins.get(subnet[at], ())
            if not stretch or tuple(subnet[at : at + len(stretch)]) != stretch:
                raise GraphError(f"the pack was not made for a subnet with {subnet[at]!r} in this place")
            path.append(self.names[stretch])
            at += len(stretch)
        return self.graph.subnet(path)


def fuse(supernet: Supernet, graph: BlockGraph, subnets: Sequence[Sequence[str]]) -> Fused:
    """What a pack for the subnets alone holds: one block of each stretch, and only the cuts between stretches.

    `graph` has the blocks of the supernet and int8 variants of them. A block that is made of several is called by the
    cuts that it led from and to, `f03-07`, and its source names them, those in float32 for int8 blocks, too. It is
    `original` where all of them are and it spans one cut of the pack, `skip` where all are skips, else `fused`. Blocks
    in float32 and in int8 that are made of the same have names and twins like others. Raises GraphError for what is no
    subnet, ExportError for blocks that cannot be joined.
    """
    networks = [path for path in dict.fromkeys(map(graph.subnet, subnets)) if path in graph.networks]
    stretches = stretches_of(graph, subnets)
    borders = sorted({graph[stretch[-1]].end for stretch in stretches} | {0})
    new = {cut: at for at, cut in enumerate(borders)}
    modules: dict[str, nn.Module] = {}
    blocks: dict[tuple[str, ...], Block] = {}  # in float32, by what they are made of
    wanted: list[Block] = []
    names: dict[tuple[str, ...], str] = {}
    for stretch in [*stretches, *map(tuple, networks)]:
        parts = [graph[name] for name in stretch]
        floats = tuple(part.twin_of or part.name for part in parts)
        if floats not in blocks:
            start, end = new[parts[0].start], new[parts[-1].end]
            place: dict[str, Any] = {"start": start, "end": end, "reads": [new[cut] for cut in reads_together(parts)]}
            if len(parts) == 1:
                own = replace(parts[0], name=floats[0], precision="float32", twin_of=None, **place)
                modules[own.name] = supernet.blocks[own.name]
            else:
                taken = {*modules, *(block.name for block in graph.blocks)}
                own = Block(
                    _free(f"f{parts[0].start:02d}-{parts[-1].end:02d}", taken),
                    kind=_kind(parts, end - start),
                    source=", ".join(floats),
                    params=sum(part.params for part in parts),
                    macs=sum(part.macs for part in parts),
                    loss=_sum(part.loss for part in parts),
                    **place,
                )
                modules[own.name] = one_program(supernet, floats)
            blocks[floats] = own
        own = blocks[floats]
        if parts[0].precision == "int8":
            own = own.quantised()
        wanted.append(own)
        names[stretch] = own.name
    cuts = [replace(graph.cuts[cut], index=at) for at, cut in enumerate(borders)]
    taps = [new[tap] for tap in graph.taps]
    joined = supernet.with_blocks(BlockGraph(cuts, blocks.values(), taps), modules)
    return Fused(joined, BlockGraph(cuts, wanted, taps), names)


def _kind(parts: Sequence[Block], cuts: int) -> str:
    """The kind of a block that is made of several and spans so many cuts of the pack."""
    kinds = {part.kind for part in parts}
    return "skip" if kinds == {"skip"} else "original" if kinds == {"original"} and cuts == 1 else "fused"


def _sum(losses: Iterable[float | None]) -> float | None:
    known = list(losses)
    return None if None in known else sum(loss for loss in known if loss is not None)


def _free(name: str, taken: Set[str]) -> str:
    """The name, or one like it, that is free, as is that of a variant in int8."""
    count, found = 1, name
    while {found, f"{found}-int8"} & taken:
        count += 1
        found = f"{name}-{count}"
    return found


def front_of(profile: Profile, graph: BlockGraph, what: str) -> list[Subnet]:
    """The subnets of a profile's front, in the graph of the pack that the supernet would be exported to.

    Raises ExportError for a profile of another pack (see `subnets_in`), and where it has what the pack would have only
    if it were asked for.
    """
    subnets = [point.subnet for point in profile.front.points]
    taken = {name for subnet in subnets for name in subnet}
    for block in profile.graph.blocks:
        if is_added(block) and block.name in taken and block.name not in graph:
            how = "--int8 and --calibrate make it" if block.precision == "int8" else "--also adds it"
            raise ExportError(f"the front of {what} has the block {block.name!r}, which the pack would not have: {how}")
    try:
        return subnets_in(graph, profile.graph, subnets, what)
    except ProfileError as error:
        raise ExportError(str(error)) from error
