"""Cuts, blocks, and the graph whose paths are the subnets.

A pretrained network is a chain of blocks. Between two blocks lies a *cut*: one tensor. Every block, original or
alternative, is an edge from one cut to a later one, and a subnet is a path from the first cut to the last. This module
is plain data: it knows nothing of torch, files or devices, and everything else speaks in its words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any

from ..errors import GraphError
from ..plurals import number_of

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
PRECISIONS = ("float32", "int8")
NETWORKS = ("whole", "resized", "also")  # kinds of block that are a network as one program
_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int8": 1, "uint8": 1, "bool": 1}


@dataclass(frozen=True)
class Cut:
    """The one tensor between two blocks.

    `shape` is the whole shape at batch size 1, for example `(1, 24, 56, 56)`; `dtype` is numpy's name for the type.
    """

    index: int
    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPE_BYTES:
            raise GraphError(f"cut {self.index} has dtype {self.dtype!r}; known are {', '.join(_DTYPE_BYTES)}")
        if any(side < 1 for side in self.shape):
            raise GraphError(f"cut {self.index} has shape {self.shape}; every side must be at least 1")

    @property
    def bytes(self) -> int:
        """The size of one feature at this cut."""
        return prod(self.shape) * _DTYPE_BYTES[self.dtype]


@dataclass(frozen=True)
class Block:
    """One way to get from cut `start` to cut `end`.

    `kind` is `original` (then `end == start + 1`), or what made the alternative: `merged` (replaces several blocks),
    `pruned` (thinner inside; `ratio` is the share of inner channels taken out), `lowrank` (layers factorised; `ratio`
    is the share of multiply-accumulates that each keeps), `skip` (lets the feature through), `whole` (the original
    network as one program), `resized` (the same on a smaller picture), `also` (another network, as one program), or the
    name of a kind of the user's own.
    `precision` is `float32`, or `int8` for a block that is quantised inside: cuts stay what they are. `twin_of` is the
    float32 block that an int8 one was quantised from, by name; a pack need not have that. `source` is the place in the
    model that it was made from. `reads` are the cuts that it takes besides `start`, ascending, each below it: a mask or
    a time step that came with the input, an earlier feature.
    `params` and `macs` (multiply-accumulates at batch 1) are counted, not measured. `loss` is the local distillation
    loss: the squared error of the block's output over the variance of the original feature, None before training.
    """

    name: str
    start: int
    end: int
    kind: str
    source: str = ""
    ratio: float | None = None
    params: int = 0
    macs: int = 0
    loss: float | None = None
    precision: str = "float32"
    twin_of: str | None = None
    reads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads", tuple(self.reads))  # JSON has lists, which do not hash
        if not _NAME.fullmatch(self.name):
            raise GraphError(
                f"block name {self.name!r}: at most 64 letters, digits, '-' and '_', a letter or digit first"
            )
        if not _KIND.fullmatch(self.kind):
            raise GraphError(
                f"block {self.name!r} has kind {self.kind!r}: at most 32 lower-case letters, digits, '-' and '_'"
            )
        if self.precision not in PRECISIONS:
            raise GraphError(f"block {self.name!r} has precision {self.precision!r}; known are {', '.join(PRECISIONS)}")
        if self.twin_of is not None and self.precision == "float32":
            raise GraphError(f"block {self.name!r} is in float32 and says that it was quantised from {self.twin_of!r}")
        if not 0 <= self.start < self.end:
            raise GraphError(f"block {self.name!r} goes from cut {self.start} to cut {self.end}; it must go forward")
        if self.kind == "original" and self.end != self.start + 1:
            raise GraphError(f"original block {self.name!r} spans {self.end - self.start} cuts; it must span one")
        below = (-1, *self.reads, self.start)
        if any(cut <= before for before, cut in pairwise(below)):
            raise GraphError(
                f"block {self.name!r} starts at cut {self.start} and reads cuts {list(self.reads)} besides: they must "
                "be ascending, and before its start"
            )

    @property
    def is_original(self) -> bool:
        """Whether it is a block of the pretrained network as it was trained, in float32."""
        return self.kind == "original" and self.precision == "float32"

    @property
    def is_network(self) -> bool:
        """Whether it is a network as one program, the original or another."""
        return self.kind in NETWORKS

    def quantised(self) -> Block:
        """Its variant in int8, as packs have it."""
        return replace(self, name=f"{self.name}-int8", precision="int8", twin_of=self.name)


def reads_together(blocks: Sequence[Block]) -> tuple[int, ...]:
    """The `reads` of one block in place of these, which follow each other: what they name of the cuts before them."""
    return tuple(sorted({cut for block in blocks for cut in block.reads if cut < blocks[0].start}))


class Subnet(tuple[str, ...]):
    """A tuple of block names that is a path through `graph`; anything else cannot be built.

    Raises GraphError for an unknown block, a gap, or a path that does not go from the first cut to the last.
    Compares, hashes and prints as the tuple of names it is.
    """

    graph: BlockGraph

    def __new__(cls, graph: BlockGraph, names: Iterable[str]) -> Subnet:
        subnet = super().__new__(cls, names)
        at = 0
        for name in subnet:
            block = graph[name]
            if block.start != at:
                raise GraphError(
                    f"not a subnet: block {name!r} starts at cut {block.start}, but the path is at cut {at}"
                )
            at = block.end
        if at != graph.end:
            raise GraphError(f"not a subnet: the path ends at cut {at}, the last cut is {graph.end}")
        subnet.graph = graph
        return subnet

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.graph, tuple(self)

    @property
    def cuts(self) -> tuple[int, ...]:
        """The cuts that the path visits, from 0 to the last."""
        return (0, *(self.graph[name].end for name in self))


class BlockGraph:
    """Cuts and the blocks between them: the search space. Immutable.

    `taps` are cuts before the last that a head (what ends at the last cut) reads, so that a path visits all of them;
    cut 0 is one where heads read the input itself. A block from the first cut to the last is no head: it reads the
    input only, and jumps over all taps, and over all cuts that a block names in its `reads`. Raises GraphError when the
    cuts are not numbered 0..N, a name occurs twice, the original blocks are not one chain, another block jumps over
    such a cut, a `whole` or `also` block does not go from the first cut to the last, or the twin of an int8 block is
    here and no float32 block between the same cuts.
    """

    def __init__(self, cuts: Sequence[Cut], blocks: Iterable[Block], taps: Iterable[int] = ()) -> None:
        self.cuts = tuple(cuts)
        self.blocks = tuple(sorted(blocks, key=lambda b: (b.start, b.end, not b.is_original, b.kind, b.name)))
        self.taps = tuple(sorted(set(taps)))
        self._by_name = {block.name: block for block in self.blocks}
        if [cut.index for cut in self.cuts] != list(range(len(self.cuts))) or len(self.cuts) < 2:
            raise GraphError(f"cuts must be numbered 0, 1, 2, …: got {[cut.index for cut in self.cuts]}")
        if len(self._by_name) != len(self.blocks):
            counts = Counter(block.name for block in self.blocks)
            twice = sorted(name for name, count in counts.items() if count > 1)
            raise GraphError(f"block names occur twice: {', '.join(twice)}")
        for block in self.blocks:
            if block.end > self.end:
                raise GraphError(f"block {block.name!r} ends at cut {block.end}; the last cut is {self.end}")
            if block.is_network and (block.start, block.end) != (0, self.end):
                raise GraphError(
                    f"block {block.name!r} of kind {block.kind!r} must go from the first cut to the last: it goes from "
                    f"cut {block.start} to cut {block.end}"
                )
            twin = self.in_float32(block)
            if twin and (twin.start, twin.end, twin.precision) != (block.start, block.end, "float32"):
                raise GraphError(
                    f"block {block.name!r} says that it was quantised from {twin.name!r}, which is no float32 block "
                    f"from cut {block.start} to cut {block.end}"
                )
            for cut in self.kept:
                if block.start < cut < block.end and (block.start, block.end) != (0, self.end):
                    what = "a tap" if cut in self.taps else "one that other blocks read"
                    raise GraphError(f"block {block.name!r} jumps over cut {cut}, which is {what}")
        starts = [block.start for block in self.blocks if block.is_original]
        if starts != list(range(self.end)):
            raise GraphError(f"there must be one original block from each cut to the next: they start at {starts}")
        if any(not 0 <= tap < self.end for tap in self.taps):
            raise GraphError(f"taps {self.taps}: a tap is a cut before the last, 0 to {self.end - 1}")

    @property
    def end(self) -> int:
        """The index of the last cut."""
        return len(self.cuts) - 1

    def __getitem__(self, name: str) -> Block:
        try:
            return self._by_name[name]
        except KeyError:
            raise GraphError(
                f"there is no block {name!r} in this graph of {number_of(len(self.blocks), 'block')}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BlockGraph):
            return NotImplemented
        return (self.cuts, self.blocks, self.taps) == (other.cuts, other.blocks, other.taps)

    def __hash__(self) -> int:
        return hash((self.cuts, self.blocks, self.taps))

    def __reduce__(self) -> tuple[Any, ...]:
        # Without what is cached: the oracle refers back to the graph, and could not be rebuilt before it.
        return BlockGraph, (self.cuts, self.blocks, self.taps)

    def __repr__(self) -> str:
        return f"BlockGraph({len(self.cuts)} cuts, {len(self.blocks)} blocks, {self.count()} subnets)"

    @cached_property
    def leaving(self) -> tuple[tuple[Block, ...], ...]:
        """For each cut, the blocks that start there."""
        return tuple(tuple(block for block in self.blocks if block.start == cut.index) for cut in self.cuts)

    @cached_property
    def oracle(self) -> Subnet:
        """The path of original blocks: the pretrained model itself."""
        return Subnet(self, (block.name for block in self.blocks if block.is_original))

    @cached_property
    def of_blocks(self) -> BlockGraph:
        """The same without the networks that are one program."""
        return BlockGraph(self.cuts, [block for block in self.blocks if not block.is_network], self.taps)

    @cached_property
    def networks(self) -> tuple[Subnet, ...]:
        """The networks that are one program: the original in each precision, and others."""
        return tuple(Subnet(self, [block.name]) for block in self.blocks if block.is_network)

    @cached_property
    def reference(self) -> Subnet:
        """What latency budgets are shares of: the original network in float32 as one program, or else the oracle."""
        whole = [block.name for block in self.blocks if block.kind == "whole" and block.precision == "float32"]
        return Subnet(self, whole[:1]) if whole else self.oracle

    def subnet(self, names: Iterable[str]) -> Subnet:
        """The path with these block names. Raises GraphError when it is not one."""
        return Subnet(self, names)

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """The cuts whose features are kept for later blocks: the taps, and what blocks name in their `reads`."""
        return tuple(sorted({*self.taps, *(cut for block in self.blocks for cut in block.reads)}))

    def reads(self, block: Block) -> tuple[int, ...]:
        """The cuts whose features `block` takes, in order: where it starts, then its `reads` and, for a head, every
        tap, ascending.

        A head is a block that ends at the last cut and does not start at the first.
        """
        taps = self.taps if block.end == self.end and block.start else ()
        return (block.start, *sorted({*block.reads, *taps} - {block.start}))

    def in_float32(self, block: Block) -> Block | None:
        """The float32 block that an int8 one was quantised from; None for any other, and where that is not here."""
        return None if block.twin_of is None else self._by_name.get(block.twin_of)

    def originals(self, precision: str) -> dict[int, Block]:
        """The original blocks in that precision, by the cut where they start: of int8, as many as there are."""
        found = (block for block in self.blocks if block.kind == "original" and block.precision == precision)
        return {block.start: block for block in found}

    def replaced_by(self, block: Block) -> tuple[str, ...]:
        """The names of the original blocks in whose place `block` stands."""
        return self.oracle[block.start : block.end]

    def replace(self, subnet: Subnet, block: Block) -> Subnet:
        """`subnet` with the stretch from `block.start` to `block.end` replaced by `block`.

        Raises GraphError when `subnet` does not visit both cuts.
        """
        cuts = subnet.cuts
        if block.start not in cuts or block.end not in cuts:
            raise GraphError(f"block {block.name!r} cannot replace a stretch of a path that skips one of its cuts")
        return Subnet(self, (*subnet[: cuts.index(block.start)], block.name, *subnet[cuts.index(block.end) :]))

    def count(self) -> int:
        """The number of subnets, exactly."""
        ways = [0] * self.end + [1]
        for block in reversed(self.blocks):
            ways[block.start] += ways[block.end]
        return ways[0]

    def paths(self) -> Iterator[Subnet]:
        """Every subnet, depth first. There are `count()` of them: often more than can be visited."""

        def walk(at: int, names: tuple[str, ...]) -> Iterator[Subnet]:
            if at == self.end:
                yield Subnet(self, names)
            for block in self.leaving[at]:
                yield from walk(block.end, (*names, block.name))

        return walk(0, ())

    def without(self, names: Collection[str]) -> BlockGraph:
        """The same graph less the named blocks. Raises GraphError for one that is not here, and for an original one."""
        for name in names:
            if self[name].is_original:
                raise GraphError(f"block {name!r} is an original one: it cannot be left out")
        return BlockGraph(self.cuts, (block for block in self.blocks if block.name not in names), self.taps)

    def with_losses(self, losses: Mapping[str, float]) -> BlockGraph:
        """The same graph with local distillation losses noted on the named blocks."""
        return BlockGraph(
            self.cuts,
            (replace(block, loss=losses.get(block.name, block.loss)) for block in self.blocks),
            self.taps,
        )
