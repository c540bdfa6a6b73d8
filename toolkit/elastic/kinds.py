"""The kinds of alternatives that a block, or several in a row, may have.

A kind is a name and one function, `(span of original blocks, features at the cuts around them) -> module or None`. The
features are the original network's on the example, one more than there are blocks; a module leads from the first to the
last, and None says that this span allows no such alternative. `elastify(..., kinds=[...])` takes any list of kinds.
Every kind here starts from what it replaces.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import fx, nn

from ..errors import ModelError
from .lowrank import factorised
from .pruning.pruning import Pruner

Make = Callable[[Sequence[fx.GraphModule], Sequence[torch.Tensor]], nn.Module | None]


@dataclass(frozen=True)
class Kind:
    """One way to make an alternative.

    `name` is the block's kind, `make` the function, `length` how many blocks in a row it replaces. `tag` is what the
    names of its blocks end in, the kind's name unless given; `ratio` is noted on the blocks. `copies` is how many times
    the memory of a block's weights it takes to make one, at most and about.
    """

    name: str
    make: Make
    length: int = 1
    tag: str = ""
    ratio: float | None = None
    copies: float = 3


def merge(length: int) -> Kind:
    """One block in place of `length`: a copy of the one that leads from the first cut to the last by shape.

    The others of the span, which keep the shape, are left out. Where all keep it, the first is copied.
    """
    if length < 2:
        raise ModelError(f"cannot merge {length}: a merged block replaces at least 2")
    return Kind("merged", _merged, length, f"m{length}", copies=1)


def prune(ratio: float) -> Kind:
    """The block without the share `ratio` of its inner channels, heads and hidden features; see `pruning`."""
    if not 0 < ratio < 1:
        raise ModelError(f"cannot prune {ratio}: a share between 0 and 1 is needed")
    return Kind(
        "pruned",
        lambda span, features: _pruner(span[0], tuple(features[0].shape)).thinner(ratio),
        tag=f"p{round(ratio * 100):02d}",
        ratio=ratio,
    )


def lowrank(ratio: float) -> Kind:
    """The block with layers factorised, so that these keep the share `ratio` of their multiply-accumulates.

    See `lowrank` in this package.
    """
    if not 0 < ratio < 1:
        raise ModelError(f"cannot factorise to {ratio}: a share between 0 and 1 is needed")
    return Kind(
        "lowrank",
        lambda span, features: factorised(trainable_copy(span[0]), ratio),
        tag=f"l{round(ratio * 100):02d}",
        ratio=ratio,
    )


def skip() -> Kind:
    """Nothing in place of a block that keeps its input's shape: the feature passes through."""
    return Kind("skip", _skipped, copies=0)


def trainable_copy(block: fx.GraphModule) -> fx.GraphModule:
    """A deep copy, in eval mode, whose parameters can be trained."""
    twin = copy.deepcopy(block).eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return twin


def _merged(span: Sequence[fx.GraphModule], features: Sequence[torch.Tensor]) -> fx.GraphModule | None:
    shapes = [feature.shape for feature in features]
    for index, block in enumerate(span):
        if (shapes[index], shapes[index + 1]) == (shapes[0], shapes[-1]) and (
            shapes[0] == shapes[-1] or shapes[index] != shapes[index + 1]
        ):
            return trainable_copy(block)
    return None


@lru_cache(maxsize=1)  # the ratios of one block come one after another
def _pruner(block: fx.GraphModule, shape: tuple[int, ...]) -> Pruner:
    others = [node.meta["alone"] for node in block.graph.nodes if node.op == "placeholder"][1:]
    return Pruner(trainable_copy(block), shape, *others)


def forget_blocks() -> None:
    """Lets go of what is kept of the block that was pruned last."""
    _pruner.cache_clear()


def _skipped(span: Sequence[fx.GraphModule], features: Sequence[torch.Tensor]) -> fx.GraphModule | None:
    if features[0].shape != features[1].shape:
        return None
    passing = fx.Graph()
    passing.output(passing.placeholder("x"))
    return fx.GraphModule(nn.Module(), passing, class_name="Block").eval()
