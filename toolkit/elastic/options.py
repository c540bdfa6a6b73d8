"""The alternatives of a block: merged and pruned ones.

Every alternative starts from what it replaces. A merged block is a copy of the one block of its span that already
leads from the span's first cut to its last by shape; the others of the span, which keep the shape, are left out. A
pruned block is a copy that has lost the inner channels of least magnitude, as torch-pruning groups and ranks them;
its first and its last cut stay as they are.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Sequence

import torch
from torch import fx, nn

_ROUND_TO = 8  # channel counts in multiples of 8 suit the vector units that the blocks will run on


def merged(span: Sequence[fx.GraphModule], shapes: Sequence[tuple[int, ...]]) -> fx.GraphModule | None:
    """One block in place of `span`; None where no block of the span leads from its first cut to its last.

    `shapes` are those of the cuts around the blocks: one more than there are blocks.
    """
    for index, block in enumerate(span):
        if (shapes[index], shapes[index + 1]) == (shapes[0], shapes[-1]) and (
            shapes[0] == shapes[-1] or shapes[index] != shapes[index + 1]
        ):
            return trainable_copy(block)
    return None


def pruned(block: fx.GraphModule, shape: tuple[int, ...], ratio: float) -> fx.GraphModule | None:
    """The block without the share `ratio` of its inner channels; None where it has no inner channels to lose.

    `shape` is that of the block's input at batch size 1. Importance is the group magnitude (L2 over everything that
    goes with a channel; Fang et al., DepGraph, CVPR 2023).
    """
    import torch_pruning

    thinner = trainable_copy(block)
    example = torch.zeros(shape)
    with torch.no_grad():
        expected = thinner(example).shape
    before = _count(thinner)
    # A block that fails in between is expected, and fx reports a failing graph on stderr besides raising.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch_pruning").setLevel(logging.ERROR)
        try:
            torch_pruning.pruner.BasePruner(
                thinner,
                example,
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=ratio,
                round_to=_ROUND_TO,
                ignored_layers=_output_layers(thinner),
            ).step()
            with torch.no_grad():
                actual = thinner(example).shape
        except (RuntimeError, ValueError, IndexError, KeyError, AttributeError, TypeError, AssertionError):
            return None  # the block's inner shapes are tied to its outer ones in a way that does not survive pruning
    return thinner if actual == expected and _count(thinner) < before else None


def trainable_copy(block: fx.GraphModule) -> fx.GraphModule:
    """A deep copy, in eval mode, whose parameters can be trained."""
    twin = copy.deepcopy(block).eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    return twin


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _output_layers(block: fx.GraphModule) -> list[nn.Module]:
    """The layers whose output channels are the channels of the block's output: they must stay."""
    layers = []
    waiting = [node for node in block.graph.nodes if node.op == "output"]
    seen: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op == "call_module":
            layer = block.get_submodule(str(node.target))
            if any(True for _ in layer.parameters()):
                layers.append(layer)
            if isinstance(layer, nn.Linear) or (isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == 1):
                continue  # it mixes its input channels: what lies before it is free
        waiting.extend(node.all_input_nodes)
    return layers
