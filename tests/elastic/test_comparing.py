"""A trace is held to the numbers that its model gives: small ones, those of each output, and none that are NaN."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from adaptivenet.export.networks import noise_for
from adaptivenet.toolkit.elastic import elastify
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.errors import ModelError
from torch import nn
from torch.nn import functional as F
from written import EXAMPLE, Written, assert_same

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def by_batch(x: torch.Tensor) -> torch.Tensor:
    return x * (5 if len(x) > 2 else 1)


def small(self: Any, x: torch.Tensor) -> torch.Tensor:
    return by_batch(x) * 1e-6


def small_of_two(self: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"large": x.flatten(1) * 1e3, "small": by_batch(x).flatten(1) * 1e-6}


@pytest.mark.parametrize("function", [small, small_of_two])
def test_an_output_of_small_numbers_is_held_to_them(function: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match="computes something else at batch size 3"):
        trace(Written(function), EXAMPLE)


class Logarithm(nn.Module):
    """A network that begins with a logarithm, as those for sounds do, and goes on in a way of the test's choice."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(3)]
        self.body, self.function = nn.Sequential(nn.Conv2d(3, 4, 3), *layers), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 3, 8, 8), all positive."""
        return self.function(self.body(x.log()).mean((2, 3)))


def test_a_network_that_has_no_answer_for_noise_is_compared_on_what_it_has_one_for() -> None:
    model, x = Logarithm().eval(), torch.rand(4, 3, 8, 8)
    assert torch.equal(trace(model, EXAMPLE.abs())(x), model(x))
    with pytest.raises(ModelError, match="computes something else at batch size 3"):
        trace(Logarithm(by_batch), EXAMPLE.abs())


def test_a_network_that_has_no_answer_for_the_example_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"answers with NaN to the example, which reaches from -.* the first of --data"
    ):
        trace(Logarithm(), EXAMPLE)


def test_programs_are_verified_on_noise_that_a_network_has_an_answer_for() -> None:
    supernet = elastify(Logarithm(), EXAMPLE.abs())
    assert supernet(noise_for(supernet)).isfinite().all()


@pytest.mark.parametrize("place", ["conv.weight", "norm.running_mean"])
def test_weights_that_are_not_finite_are_named(place: str) -> None:
    model = Written(lambda self, x: self.norm(x))
    model.norm = nn.BatchNorm2d(8)
    model.state_dict()[place].view(-1)[0] = torch.nan
    with pytest.raises(ModelError, match=f"numbers that are not finite in {place}"):
        trace(model, EXAMPLE)


def test_infinite_numbers_in_a_mask_are_none_of_these() -> None:
    model = Written(lambda self, x: (x + self.mask).softmax(-1))
    model.register_buffer("mask", torch.full((8, 8), -torch.inf).triu(1))
    assert_same(model, trace(model, EXAMPLE))


@pytest.mark.parametrize("mixes", [True, False])
def test_a_network_that_computes_over_its_batch_is_noted(mixes: bool) -> None:
    blocks = [
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3, track_running_stats=not mixes)) for _ in "ab"
    ]
    supernet = elastify(nn.Sequential(*blocks), EXAMPLE)
    assert [("alone than beside others" in note) for note in supernet.notes] == [True] * mixes


def test_a_model_that_keeps_what_cannot_be_copied_is_traced() -> None:
    model = Written(lambda self, x: self.second(x))
    model.lock = threading.Lock()  # type: ignore[assignment]
    model.second.logger = open("/dev/null")  # type: ignore[assignment]  # noqa: SIM115
    with model.second.logger:  # type: ignore[union-attr]
        assert_same(model, trace(model, EXAMPLE))


class InHalf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.conv(x).float()


def test_what_turns_autocast_on_is_told_so() -> None:
    with pytest.raises(ModelError, match=r"turns on torch\.autocast in its forward"):
        trace(InHalf(), EXAMPLE)


def with_numpy(self: Any, x: torch.Tensor) -> torch.Tensor:
    return F.relu(torch.from_numpy(x.detach().numpy().clip(-1, 1)))


def test_what_goes_on_with_numpy_is_told_so() -> None:
    with pytest.raises(ModelError, match=r"cannot be traced at test_comparing\.py:\d+: it goes on with numpy"):
        trace(Written(with_numpy), EXAMPLE)


class OfTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + step


def test_a_network_of_several_inputs_is_not_made_elastic_with_one() -> None:
    with pytest.raises(ModelError, match=r"needs step too; it has x, step: .* \(--input NAME=SHAPE:TYPE\)"):
        elastify(OfTwo(), EXAMPLE)
