"""The metric programs that a pack carries: output and target → sums that add up over images.

A program returns two sums as float32 of shape (2,), of which the second, `count`, says how much was counted: quality is
the first over the second. `top1` and `agreement` are for class scores, which lie along dimension 1 of the output: for
one of shape (1, classes) `count` is 1, for one of shape (1, classes, height, width) it is the number of pixels.
`fidelity` is for all other outputs: boxes, distances, the concatenated heads of a detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

import torch
from adaptivenet.toolkit.errors import ExportError
from torch import nn

_LEAST_VARIANCE = 1e-30  # where the oracle's output is constant, only the same output is faithful


class Top1(nn.Module):
    """Whether the highest score is the label's. `label` is int64, of the output's shape without its dimension 1.

    A label below 0 is not counted.
    """

    operands: ClassVar = ("output", "label")
    sums: ClassVar = ("correct", "count")

    def forward(self, output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The two sums."""
        return torch.stack((_sum(output.argmax(1) == label), _sum(label >= 0)))


class Agreement(nn.Module):
    """Whether the highest score is where the oracle has its own: quality without labels."""

    operands: ClassVar = ("output", "oracle")
    sums: ClassVar = ("correct", "count")

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The two sums."""
        same = output.argmax(1) == oracle.argmax(1)
        return torch.stack((_sum(same), _sum(torch.ones_like(same))))


class Fidelity(nn.Module):
    """The share of the variance of the oracle's output that the output explains: quality without labels.

    That is R², the coefficient of determination, 1 - ‖output - oracle‖² / ‖oracle - mean(oracle)‖², taken over one
    image's output and held at 0 from below: 1 for the same output, 0 for one no better than a constant.
    """

    operands: ClassVar = ("output", "oracle")
    sums: ClassVar = ("fidelity", "count")

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The fidelity of this image, and 1."""
        error = (output - oracle).square().sum()
        variance = (oracle - oracle.mean()).square().sum()
        fidelity = (1 - error / variance.clamp(min=_LEAST_VARIANCE)).clamp(min=0)
        return torch.stack((fidelity, torch.ones_like(fidelity)))


def _sum(counted: torch.Tensor) -> torch.Tensor:
    return counted.to(torch.float32).reshape(-1).sum()


MODULES: dict[str, type[Top1 | Agreement | Fidelity]] = {"top1": Top1, "agreement": Agreement, "fidelity": Fidelity}


def choose_metrics(wanted: Sequence[str] | None, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The metrics for outputs of `shape`: those `wanted`, or when None those that the shape allows to expect.

    An output with several numbers along dimension 1 is taken for class scores (`top1`, `agreement`), any other one of
    several numbers is not (`fidelity`), and for a single number there is none. Raises ExportError for a metric that
    does not exist or cannot be computed for the shape.
    """
    scores, several = len(shape) >= 2 and shape[1] > 1, prod(shape) > 1
    if wanted is None:
        return ("top1", "agreement") if scores else ("fidelity",) if several else ()
    for metric in wanted:
        if metric not in MODULES:
            raise ExportError(f"unknown metric {metric!r}: choose from {', '.join(MODULES)}")
        if not (several if metric == "fidelity" else scores):
            need = "several numbers" if metric == "fidelity" else "class scores along dimension 1"
            raise ExportError(f"metric {metric!r} needs outputs with {need}: these have shape {shape}")
    return tuple(dict.fromkeys(wanted))


def example_inputs(metric: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs to export and verify a metric with, for outputs of `shape`."""
    generator = torch.Generator().manual_seed(0)
    output, other = (torch.randn(shape, generator=generator) for _ in range(2))
    if metric == "top1":
        return output, output.argmax(1)
    if metric == "fidelity":  # of unrelated outputs it is 0, whatever the program does
        return output, output + 0.5 * other
    return output, other
