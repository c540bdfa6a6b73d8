"""The metric programs that a pack carries: output and target → sums that add up over images.

A program returns `(correct, count)` as float32 of shape (2,). Class scores lie along dimension 1: for an output of
shape (1, classes) `count` is 1, for one of shape (1, classes, height, width) it is the number of pixels.
"""

from __future__ import annotations

import torch
from torch import nn

SUMS = ("correct", "count")


class Top1(nn.Module):
    """Whether the highest score is the label's. `label` is int64, of the output's shape without its dimension 1."""

    def forward(self, output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The two sums."""
        return _count(output.argmax(1) == label)


class Agreement(nn.Module):
    """Whether the highest score is where the oracle has its own: quality without labels."""

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The two sums."""
        return _count(output.argmax(1) == oracle.argmax(1))


def _count(correct: torch.Tensor) -> torch.Tensor:
    hits = correct.to(torch.float32).reshape(-1)
    return torch.stack((hits.sum(), torch.ones_like(hits).sum()))


OPERANDS = {"top1": ("output", "label"), "agreement": ("output", "oracle")}
MODULES: dict[str, type[nn.Module]] = {"top1": Top1, "agreement": Agreement}


def example_inputs(metric: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs to export and verify a metric with, for outputs of `shape`."""
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(shape, generator=generator)
    if metric == "top1":
        return output, output.argmax(1)
    return output, torch.randn(shape, generator=generator)
