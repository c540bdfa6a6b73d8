"""A small supernet, built by hand, whose head reads features from three depths, as a feature pyramid does, and the
input itself, as what restores pictures does.

    0 ── b0 ──> 1 ── b1, b1-skip ──> 2 ── b2 ──> 3 ── b3, b3-skip ──> 4 ── head, head-p50 ──> 5
                1 ──────── b1-m2 ─────────────> 3

Cuts 0, 1 and 3 are taps: a head reads cuts 4, 0, 1 and 3. Its output is a map of class scores, (1, 5, 8, 8).
"""

from __future__ import annotations

import torch
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut
from torch import fx, nn

CLASSES = ("ant", "bee", "cat", "dog", "emu")
GRAPH = BlockGraph(
    [
        Cut(0, (1, 3, 16, 16)),
        Cut(1, (1, 8, 8, 8)),
        Cut(2, (1, 8, 8, 8)),
        Cut(3, (1, 12, 4, 4)),
        Cut(4, (1, 12, 4, 4)),
        Cut(5, (1, len(CLASSES), 8, 8)),
    ],
    [
        Block("b0", 0, 1, "original"),
        Block("b1", 1, 2, "original"),
        Block("b2", 2, 3, "original"),
        Block("b3", 3, 4, "original"),
        Block("head", 4, 5, "original"),
        Block("b1-skip", 1, 2, "skip"),
        Block("b1-m2", 1, 3, "merged"),
        Block("b3-skip", 3, 4, "skip"),
        Block("head-p50", 4, 5, "pruned", ratio=0.5),
    ],
    taps=(0, 1, 3),
)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.conv(x))


class Skip(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Head(nn.Module):
    """Adds the deep features, enlarges them, looks at them beside the shallow ones, and adds the input, shrunk."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.deep, self.middle, self.shallow = nn.Conv2d(12, width, 1), nn.Conv2d(12, width, 1), nn.Conv2d(8, width, 1)
        self.scores = nn.Conv2d(2 * width, len(CLASSES), 3, padding=1)

    def forward(
        self, deep: torch.Tensor, picture: torch.Tensor, shallow: torch.Tensor, middle: torch.Tensor
    ) -> torch.Tensor:
        top = nn.functional.interpolate(self.deep(deep) + self.middle(middle), scale_factor=2.0, mode="nearest")
        colours = nn.functional.pad(nn.functional.avg_pool2d(picture, 2), (0, 0, 0, 0, 0, len(CLASSES) - 3))
        return self.scores(torch.relu(torch.cat([top, self.shallow(shallow)], 1))) + 0.1 * colours


def tapped(seed: int = 0) -> Supernet:
    """The supernet, with weights drawn from the seed."""
    torch.manual_seed(seed)
    modules = {
        "b0": nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()),
        "b1": Residual(8),
        "b2": nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()),
        "b3": Residual(12),
        "head": Head(8),
        "b1-skip": Skip(),
        "b1-m2": nn.Conv2d(8, 12, 3, 2, 1),
        "b3-skip": Skip(),
        "head-p50": Head(4),
    }
    blocks = {name: fx.symbolic_trace(module.eval()) for name, module in modules.items()}
    return Supernet(GRAPH, blocks, "tests.tapped:tapped", Preprocessing(16, 16, 16))
