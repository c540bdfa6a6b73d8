"""Cuts, blocks, and the graph whose paths are the subnets.

A pretrained network is a chain of blocks. Between two blocks lies a *cut*: one tensor. Every block, original or
alternative, is an edge from one cut to a later one, and a subnet is a path from the first cut to the last. This module
is plain data: it knows nothing of torch, files or devices, and everything else speaks in its words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from .errors import GraphError

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
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
    `pruned` (thinner inside; `ratio` is the share of inner channels taken out), `skip` (lets the feature through), or
    the name of a kind of the user's own. `source` is the place in the model that it was made from.
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

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise GraphError(
                f"block name {self.name!r}: at most 64 letters, digits, '-' and '_', a letter or digit first"
            )
        if not _KIND.fullmatch(self.kind):
            raise GraphError(
                f"block {self.name!r} has kind {self.kind!r}: at most 32 lower-case letters, digits, '-' and '_'"
            )
        if not 0 <= self.start < self.end:
            raise GraphError(f"block {self.name!r} goes from cut {self.start} to cut {self.end}; it must go forward")
        if self.kind == "original" and self.end != self.start + 1:
            raise GraphError(f"original block {self.name!r} spans {self.end - self.start} cuts; it must span one")


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

    `taps` are inner cuts that every path must visit, because the head (what ends at the last cut) reads them. Raises
    GraphError when the cuts are not numbered 0..N, a name occurs twice, the original blocks are not one chain, or a
    block jumps over a tap.
    """

    def __init__(self, cuts: Sequence[Cut], blocks: Iterable[Block], taps: Iterable[int] = ()) -> None:
        self.cuts = tuple(cuts)
        self.blocks = tuple(sorted(blocks, key=lambda b: (b.start, b.end, b.kind != "original", b.kind, b.name)))
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
            for tap in self.taps:
                if block.start < tap < block.end:
                    raise GraphError(f"block {block.name!r} jumps over cut {tap}, which is a tap")
        starts = [block.start for block in self.blocks if block.kind == "original"]
        if starts != list(range(self.end)):
            raise GraphError(f"there must be one original block from each cut to the next: they start at {starts}")
        if any(not 0 < tap < self.end for tap in self.taps):
            raise GraphError(f"taps {self.taps}: a tap is an inner cut, 1 to {self.end - 1}")

    @property
    def end(self) -> int:
        """The index of the last cut."""
        return len(self.cuts) - 1

    def __getitem__(self, name: str) -> Block:
        try:
            return self._by_name[name]
        except KeyError:
            raise GraphError(f"there is no block {name!r} in this graph of {len(self.blocks)} blocks") from None

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
        return Subnet(self, (block.name for block in self.blocks if block.kind == "original"))

    def subnet(self, names: Iterable[str]) -> Subnet:
        """The path with these block names. Raises GraphError when it is not one."""
        return Subnet(self, names)

    def reads(self, block: Block) -> tuple[int, ...]:
        """The cuts whose features `block` takes, in order: where it starts, then, for a head, every tap.

        A head is a block that ends at the last cut.
        """
        taps = self.taps if block.end == self.end else ()
        return (block.start, *(tap for tap in taps if tap != block.start))

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

    def with_losses(self, losses: Mapping[str, float]) -> BlockGraph:
        """The same graph with local distillation losses noted on the named blocks."""
        return BlockGraph(
            self.cuts,
            (replace(block, loss=losses.get(block.name, block.loss)) for block in self.blocks),
            self.taps,
        )
