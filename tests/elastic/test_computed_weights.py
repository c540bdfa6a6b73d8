"""Layers whose weights are computed from others: they are trained, pruned and counted as those that have their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify, prune
from adaptivenet.toolkit.elastic.tracing.trace import trace
from torch import nn
from torch.nn import functional as F
from written import EXAMPLE, Written, assert_same, targets

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


class Standardised(nn.Conv2d):
    """A convolution of which each filter has mean 0 and variance 1, as in BiT, times a gain of its own."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 3, padding=1)
        self.gain = nn.Parameter(torch.rand(out, 1, 1, 1) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (1, self.out_channels, -1)
        weight = F.batch_norm(self.weight.reshape(*shape), None, None, training=True, momentum=0.0)
        return F.conv2d(x, weight.reshape_as(self.weight) * self.gain, self.bias, padding=self.padding)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = Standardised(8, 16), Standardised(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(F.relu(self.wide(x)))


def test_standardised_convolutions_are_layers_of_their_own(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    supernet = elastify(model.eval(), EXAMPLE, kinds=[prune(0.5)])
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x), rtol=1e-5, atol=1e-5)
    supernet.save(tmp_path / "supernet")
    loaded = Supernet.load(tmp_path / "supernet")
    assert torch.equal(loaded(x), supernet(x))
    for block in loaded.alternatives():
        weights = dict(loaded.blocks[block.name].named_parameters())
        assert block.params == 2 * 8 * 8 * 9 + 8 + 8, "half of the hidden channels"
        loaded.blocks[block.name](torch.randn(1, 8, 6, 6)).sum().backward()
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights.values())
    assert all(weight.grad is None for name in loaded.graph.oracle for weight in loaded.blocks[name].parameters())


def by_input(self: Written, x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, self.second.weight * x.mean(), padding=1)


def written(self: Written, x: torch.Tensor) -> torch.Tensor:
    weight = self.second.weight * 2
    weight[0] = 0
    return F.conv2d(x, weight, padding=1)


@pytest.mark.parametrize("function", [by_input, written])
def test_weights_that_depend_on_the_input_or_are_written_into_stay_functions(function: object) -> None:
    model = Written(function)  # type: ignore[arg-type]
    traced = trace(model, EXAMPLE)
    assert torch.conv2d in targets(traced)
    assert_same(model, traced)
