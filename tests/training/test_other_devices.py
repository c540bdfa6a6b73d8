"""What the initialisation adds up lies where the blocks do. Fake tensors know their device and have no numbers, so that
this is seen without a GPU: torch refuses to mix two devices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from adaptivenet.toolkit.training.endings import _noise
from adaptivenet.toolkit.training.initialise import _Pooled
from adaptivenet.toolkit.training.least_squares import NormalEquations
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

LAYERS: dict[str, tuple[Callable[[], nn.Conv1d | nn.Conv2d | nn.Linear], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(4, 8, device="cuda"), (2, 5, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3, padding=1, device="cuda"), (2, 4, 6)),
    "conv2d": (lambda: nn.Conv2d(4, 8, 3, padding=1, device="cuda"), (2, 4, 6, 6)),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rows", [7, 10_000])
def test_a_layer_is_fitted_where_it_is(kind: str, rows: int) -> None:
    make, shape = LAYERS[kind]
    with FakeTensorMode(), torch.no_grad():
        layer, fed = make(), torch.randn(shape, device="cuda")
        equations = NormalEquations(layer)
        equations.add(fed, layer(fed), rows)
        sums = [getattr(equations, name) for name in ("squares", "products", "sum_x", "sum_y", "squares_y")]
        assert {each.device.type for each in sums} == {"cuda"}


def test_statistics_are_taken_where_the_norm_is() -> None:
    with FakeTensorMode(), torch.no_grad():
        pooled = _Pooled(nn.BatchNorm2d(4, device="cuda"))
        assert pooled.mean.device.type == pooled.squares.device.type == "cuda"


def test_what_a_block_is_tried_with_is_where_it_is() -> None:
    with FakeTensorMode():
        assert _noise(torch.zeros(2, 3, device="cuda"), 1).device.type == "cuda"
