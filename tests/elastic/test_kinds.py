"""Kinds of alternatives: merged, pruned and skipped blocks, kinds of one's own, and options that make no sense."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from adaptivenet.toolkit.elastic import Kind, elastify, merge, prune, skip
from adaptivenet.toolkit.errors import ModelError
from small import Small
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("make", [lambda: merge(1), lambda: prune(0.0), lambda: prune(1.0)])
def test_options_that_make_no_sense_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ModelError, match=r"cannot merge 1|cannot prune"):
        make()


def test_two_kinds_with_one_tag_are_refused() -> None:
    with pytest.raises(ModelError, match="two kinds of alternatives have one tag: p50, p50"):
        elastify(Small().eval(), torch.zeros(1, 3, 8, 8), kinds=[prune(0.5), prune(0.501)])


def test_a_narrow_block_is_not_pruned_twice_to_the_same_width() -> None:
    supernet = elastify(Small().eval(), torch.zeros(1, 3, 8, 8), kinds=[prune(0.4), prune(0.5), prune(0.9)])
    pruned = [block.name for block in supernet.graph.blocks if block.kind == "pruned"]
    assert pruned == [f"b0{at}-{tag}" for at in (1, 2, 3) for tag in ("p40", "p90")]


def test_a_kind_of_ones_own_is_one_function() -> None:
    def averaged(span: Sequence[nn.Module], features: Sequence[torch.Tensor]) -> nn.Module | None:
        """A channel mixer in place of two blocks that keep the shape."""
        assert len(span) == 2
        assert len(features) == 3
        if features[0].shape != features[2].shape:
            return None
        channels = features[0].shape[1]
        return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    supernet = elastify(Small().eval(), torch.randn(1, 3, 8, 8), kinds=[Kind("mixer", averaged, length=2)])
    mixers = [block for block in supernet.graph.blocks if block.kind == "mixer"]
    assert [(block.name, block.start, block.end) for block in mixers] == [("b01-mixer", 1, 3), ("b02-mixer", 2, 4)]
    assert all(block.params > 0 and block.macs > 0 for block in mixers)
    x = torch.randn(2, 3, 8, 8)
    supernet(x, ["b00", "b01-mixer", "b03", "b04"]).sum().backward()
    assert all(weight.grad is not None for weight in supernet.blocks["b01-mixer"].parameters())
    assert all(weight.grad is None for name in supernet.graph.oracle for weight in supernet.blocks[name].parameters())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(8, 4, 1), r"block 'b01-odd' of kind 'odd' gives \(1, 4, 4, 4\), and cut 2 is \(1, 8, 4, 4\)"),
        (nn.Conv2d(5, 8, 1), r"block 'b01-odd' of kind 'odd' does not run"),
    ],
)
def test_a_kind_that_does_not_lead_to_its_cut_is_named(module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        elastify(Small().eval(), torch.randn(1, 3, 8, 8), kinds=[Kind("odd", lambda span, features: module)])


def test_what_is_skipped_passes_through() -> None:
    supernet = elastify(Small().eval(), torch.randn(1, 3, 8, 8), kinds=[skip()])
    skips = [block for block in supernet.graph.blocks if block.kind == "skip"]
    assert skips
    x = torch.randn(2, 3, 8, 8)
    for block in skips:
        feature = supernet.features(x)[block.start]
        assert torch.equal(supernet.blocks[block.name](feature), feature)
        assert (block.params, block.macs) == (0, 0)


def test_a_block_of_a_plain_chain_is_skipped_where_it_keeps_the_shape() -> None:
    class Plain(Small):
        def __init__(self) -> None:
            super().__init__()
            widths = [8, 8, 12, 12]
            self.blocks = nn.Sequential(
                *(
                    nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 1))
                    for before, after in itertools.pairwise(widths)
                ),
                nn.Conv2d(12, 8, 1),
            )

    supernet = elastify(Plain().eval(), torch.randn(1, 3, 8, 8))
    graph = supernet.graph
    skipped = {graph.originals("float32")[block.start].source for block in graph.blocks if block.kind == "skip"}
    assert skipped == {"blocks.0", "blocks.2"}
