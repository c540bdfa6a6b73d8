"""The last linear layer of a block: found where there is one, and fitted by least squares to what can be reached."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from adaptivenet.toolkit.elastic.kinds import trainable_copy
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.training.initialise import initialise
from adaptivenet.toolkit.training.least_squares import NormalEquations, rows_of
from adaptivenet.toolkit.training.losses import local_loss
from blocks import BLOCKS, IMAGE, TOKENS, MBConv, Mlp, ReluEnded, calibration, lively, noise, scrambled, stand_in
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", BLOCKS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_lost_last_layer_is_found_again(name: str, seed: int) -> None:
    make, shape = BLOCKS[name]
    torch.manual_seed(seed)
    net = stand_in(lively(make(), seed), shape, scrambled)
    losses = initialise(net, calibration(shape, batches=8, size=16), ("fit",)).losses
    assert losses["weights"]["b0-x"] > 4e-3
    assert losses["fit"]["b0-x"] < 1e-3
    fresh = calibration(shape, batches=1, seed=77)[0]
    with torch.no_grad():
        features = net.features(fresh)
        assert float(local_loss(net, net.graph["b0-x"], features)) < 1e-3


class GroupedLast(MBConv):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(16, 6, 1, groups=2, bias=False)


class Gated(MBConv):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x) * torch.sigmoid(x)


class Pooled(MBConv):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(super().forward(x), 2)


class NormEnded(Mlp):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(x))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(6, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.relu(self.last(x)))


class ReluInside(MBConv):
    """The activation is not the last operation, so that there is no value before it to aim at."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + F.relu(super().forward(x))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (GroupedLast, IMAGE),
        (Gated, IMAGE),
        (Pooled, IMAGE),
        (NormEnded, TOKENS),
        (CalledTwice, IMAGE),
        (ReluInside, IMAGE),
    ],
)
def test_what_is_not_understood_is_left_alone(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    net = stand_in(lively(make()), shape, scrambled)
    before = copy.deepcopy(net.blocks["b0-x"].state_dict())
    result = initialise(net, calibration(shape), ("fit",))
    assert result.kept == {"fit": ()}
    assert result.losses["weights"] == result.losses["fit"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.blocks["b0-x"].state_dict().items())


@pytest.mark.parametrize("change", ["frozen", "shared", "another activation"])
def test_a_layer_that_must_not_change_does_not(change: str) -> None:
    net = stand_in(lively(ReluEnded()), IMAGE, scrambled)
    original, other = net.blocks["b0"], net.blocks["b0-x"]
    if change == "frozen":
        other.get_submodule("last").requires_grad_(False)
    elif change == "shared":
        other.last = original.last
        other.last.requires_grad_(True)  # type: ignore[operator, union-attr]
    else:
        net.blocks["b0-x"] = trainable_copy(
            trace(nn.Sequential(nn.Conv2d(6, 6, 1), nn.SiLU()).eval(), noise(2, *IMAGE))
        )
    before = copy.deepcopy(net.state_dict())
    assert initialise(net, calibration(IMAGE), ("fit",)).kept == {"fit": ()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.sampled_from([0, 1, (0, 2), "valid"]),
    mode=st.sampled_from(["zeros", "reflect"]),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_rows_times_weights_are_what_the_layer_gives(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: int | tuple[int, int] | str,
    mode: str,
    bias: bool,
) -> None:
    layer = nn.Conv2d(3, 4, kernel, stride, padding, dilation, bias=bias, padding_mode=mode)
    x = noise(2, 3, 8, 7)
    expected = layer(x).movedim(1, -1)
    index = torch.arange(expected[..., 0].numel()).flip(0)
    actual = F.linear(rows_of(layer, x, index, expected.shape[:-1]), layer.weight.flatten(1), layer.bias)
    torch.testing.assert_close(actual, expected.flatten(0, -2)[index])


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(3, 4, 5, padding="same", dilation=2), nn.Conv1d(3, 4, 2, 2), nn.Linear(9, 4)]
)
def test_rows_of_one_dimension(layer: nn.Conv1d | nn.Linear) -> None:
    x = noise(2, 3, 9)
    expected = layer(x) if isinstance(layer, nn.Linear) else layer(x).movedim(1, -1)
    index = torch.tensor([3, 1])
    actual = F.linear(rows_of(layer, x, index, expected.shape[:-1]), layer.weight.flatten(1), layer.bias)
    torch.testing.assert_close(actual, expected.flatten(0, -2)[index])


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_solution_minimises_what_it_says(with_bias: bool) -> None:
    """Against the gradient of the objective, by autograd."""
    layer = nn.Linear(5, 3, bias=with_bias)
    x, y = noise(40, 5) + 1, noise(40, 3, seed=1)
    equations = NormalEquations(layer)
    equations.add(x[:30], y[:30], 99)
    equations.add(x[30:], y[30:], 99)
    solution = equations.solve(with_bias)
    assert solution is not None
    weight, bias = (value.requires_grad_(True) for value in solution)
    x, y = x.double(), y.double()
    present = layer.weight.detach().double()
    spread, target = (x - x.mean(0), y - y.mean(0)) if with_bias else (x, y)
    average = spread.square().sum() / len(x)
    first = (
        torch.linalg.solve(spread.T @ spread + average * torch.eye(5), spread.T @ (target - spread @ present.T)).T
        + present
    )
    ridge = 10 * average * (target - spread @ first.T).square().sum() / target.square().sum()
    error = (x @ weight.T + (bias if with_bias else 0) - y).square().sum()
    (error + ridge * (weight - present).square().sum()).backward()
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-6
    if with_bias:
        assert bias.grad is not None
        assert bias.grad.abs().max() < 1e-6


def test_squares_of_many_inputs_are_those_of_all() -> None:
    x = noise(50, 300)
    equations = NormalEquations(nn.Linear(300, 2))
    equations.add(x[:20], noise(20, 2), 99)
    equations.add(x[20:], noise(30, 2), 99)
    torch.testing.assert_close(equations.squares, x.double().T @ x.double())


def test_no_more_rows_are_taken_than_asked_for() -> None:
    layer = nn.Conv2d(2, 3, 1)
    equations = NormalEquations(layer)
    for seed in range(3):
        equations.add(noise(4, 2, 8, 8, seed=seed), noise(4, 3, 8, 8), 10)
    assert equations.count == 30
