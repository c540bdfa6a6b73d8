"""A model around a function of the test's choice, and what a trace of it must compute: what the tracer is tested on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

EXAMPLE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Written(nn.Module):
    """A convolution, then a function of the test's choice, then the mean over the pixels."""

    def __init__(self, function: Callable[[Written, torch.Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        x = self.function(self, self.conv(x))
        return x.mean((2, 3)) if isinstance(x, torch.Tensor) and x.dim() == 4 else x


def inputs() -> list[torch.Tensor]:
    """Batches of several sizes and very different values."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(n, 3, 8, 8, generator=generator) * scale + scale / 2 for n, scale in ((1, 1), (4, -9), (2, 9))]


def assert_same(model: nn.Module, traced: nn.Module) -> None:
    model.eval()
    with torch.no_grad():
        for x in inputs():
            torch.testing.assert_close(traced(x.clone()), model(x.clone()), rtol=1e-5, atol=1e-5)


def targets(traced: fx.GraphModule) -> list[Any]:
    return [node.target for node in traced.graph.nodes]
