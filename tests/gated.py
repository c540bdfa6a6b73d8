"""A small supernet, built by hand, whose input is a picture and a time step as one row, which later blocks read too.

    0 ── b0 ──> 1 ── b1, b1-p50, b1-skip ──> 2 ── b2 ──> 3 ── b3, b3-late ──> 4
                1 ───────── b1-m2 ─────────────────────> 3

b1, b1-p50, b2 and b1-m2 read cut 0 besides where they start, and b3-late cuts 0 and 1. There are no taps.
"""

from __future__ import annotations

import torch
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut
from torch import fx, nn

STEP = 4  # the numbers of a time step, after those of the picture
SIDE = 8
PICTURE = 3 * SIDE * SIDE
GRAPH = BlockGraph(
    [
        Cut(0, (1, PICTURE + STEP)),
        Cut(1, (1, 8, SIDE, SIDE)),
        Cut(2, (1, 8, SIDE, SIDE)),
        Cut(3, (1, 12, SIDE // 2, SIDE // 2)),
        Cut(4, (1, 5)),
    ],
    [
        Block("b0", 0, 1, "original"),
        Block("b1", 1, 2, "original", reads=(0,)),
        Block("b1-p50", 1, 2, "pruned", ratio=0.5, reads=(0,)),
        Block("b1-skip", 1, 2, "skip"),
        Block("b2", 2, 3, "original", reads=(0,)),
        Block("b1-m2", 1, 3, "merged", reads=(0,)),
        Block("b3", 3, 4, "original"),
        Block("b3-late", 3, 4, "late", reads=(0, 1)),
    ],
)


class Picture(nn.Module):
    """What takes the picture out of the row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(row[:, :PICTURE].reshape(-1, 3, SIDE, SIDE)))


class Gated(nn.Module):
    """`x + f(x) * gate(row)`, or without `x +` where the shapes differ."""

    def __init__(self, inputs: int, inside: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(inputs, inside, 3, stride, 1), nn.Conv2d(inside, outputs, 1)
        self.gate = nn.Linear(STEP, outputs)
        self.adds = inputs == outputs

    def forward(self, x: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.gate(row[:, PICTURE:])).unsqueeze(-1).unsqueeze(-1)
        inside = self.out(torch.relu(self.conv(x))) * gate
        return x + inside if self.adds else inside


class Skip(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.mean((2, 3)))


class Late(nn.Module):
    """Scores from the last feature, from the first, and from the row."""

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.shallow, self.step = nn.Linear(12, 5), nn.Linear(8, 5), nn.Linear(STEP, 5)

    def forward(self, x: torch.Tensor, row: torch.Tensor, shallow: torch.Tensor) -> torch.Tensor:
        return self.deep(x.mean((2, 3))) + self.shallow(shallow.mean((2, 3))) + self.step(row[:, PICTURE:])


def gated(seed: int = 0) -> Supernet:
    """The supernet, with weights drawn from the seed."""
    torch.manual_seed(seed)
    modules = {
        "b0": Picture(),
        "b1": Gated(8, 8, 8),
        "b1-p50": Gated(8, 4, 8),
        "b1-skip": Skip(),
        "b2": Gated(8, 12, 12, 2),
        "b1-m2": Gated(8, 6, 12, 2),
        "b3": Scores(),
        "b3-late": Late(),
    }
    blocks = {name: fx.symbolic_trace(module.eval()) for name, module in modules.items()}
    return Supernet(GRAPH, blocks, "tests.gated:gated")
