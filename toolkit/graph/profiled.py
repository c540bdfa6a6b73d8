"""A front that was profiled, in the graph of the supernet that its pack was exported from.

A profile tells little of a block: its name, from where to where it leads, and what kind it is (`OF_BLOCK`). A pack has
what a supernet has, and besides, where it was asked for, int8 variants and whole networks as one program.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import GraphError, ProfileError
from ..plurals import number_of
from .graph import Block, BlockGraph, Subnet

OF_BLOCK = ("name", "start", "end", "kind", "ratio", "precision")
_JOINED = re.compile(r"f[0-9]{2,}-[0-9]{2,}(-[0-9]+)?")  # what a pack for a front calls blocks made of several


def is_added(block: Block) -> bool:
    """Whether a pack has the block only where it was asked for: one in int8, or a network beside the original."""
    return block.precision == "int8" or block.kind in ("resized", "also")


def subnets_in(graph: BlockGraph, profiled: BlockGraph, subnets: Sequence[Sequence[str]], what: str) -> list[Subnet]:
    """Subnets of a profile, whose graph is `profiled`, as subnets of `graph`; `what` names the profile in errors.

    Raises ProfileError where the profile is of another pack: where it has another number of cuts, or a block of it is
    not there, or leads between other cuts, or differs in kind, ratio or precision. Blocks that were added to the pack
    count only where one of the subnets takes them. A profile does not tell weights: that of a supernet with the same
    blocks and other weights passes.
    """
    _check_alike(graph, profiled, what)
    taken = {name for subnet in subnets for name in subnet}
    for block in profiled.blocks:
        if is_added(block) and block.name not in taken:
            continue
        if block.name not in graph:
            raise ProfileError(f"{what} is a profile of another pack: the supernet has no block {block.name!r}")
        if any(getattr(block, each) != getattr(graph[block.name], each) for each in OF_BLOCK):
            raise ProfileError(f"{what} is a profile of another pack: its block {block.name!r} is another one")
    try:
        return [graph.subnet(subnet) for subnet in subnets]
    except GraphError as error:
        raise ProfileError(f"{what} is a profile of another pack: {error}") from error


def in_float32(graph: BlockGraph, profiled: BlockGraph, subnets: Sequence[Sequence[str]], what: str) -> list[Subnet]:
    """The same in the graph of the supernet itself, each subnet once.

    A block in int8 is the one that it was quantised from. Networks that are one program are left out, since a supernet
    does not have them. Raises ProfileError as `subnets_in` does.
    """
    _check_alike(graph, profiled, what)
    variants = [block.quantised() for block in graph.blocks if block.precision == "float32"]
    networks = [block for block in profiled.blocks if block.is_network]
    added = [block for block in (*variants, *networks) if block.name not in graph]
    exported = BlockGraph(graph.cuts, [*graph.blocks, *added], graph.taps)
    found = [subnet for subnet in subnets_in(exported, profiled, subnets, what) if subnet not in exported.networks]
    return list(dict.fromkeys(graph.subnet(exported[name].twin_of or name for name in subnet) for subnet in found))


def _check_alike(graph: BlockGraph, profiled: BlockGraph, what: str) -> None:
    for block in profiled.blocks:
        name = block.name.removesuffix("-int8")
        if name not in graph and _JOINED.fullmatch(name):
            raise ProfileError(
                f"{what} is a profile of another pack: its block {name!r} is several of the supernet's, as in a "
                "pack that was made for a front; give the profile of that front"
            )
    if profiled.end != graph.end:
        blocks = number_of(profiled.end, "block")
        raise ProfileError(
            f"{what} is a profile of another pack: its network has {blocks} in a row, and the supernet's {graph.end}"
        )
