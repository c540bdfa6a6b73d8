"""Channels that are chosen by what reaches them: each costs what it costs, and the layer behind makes up for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify, merge, prune
from adaptivenet.toolkit.elastic.pruning.pruning import Pruner
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.training.channels import Elimination, Selection, Side
from adaptivenet.toolkit.training.initialise import initialise
from blocks import calibration, lively, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


def side(outputs: int, widths: list[int], seed: int) -> tuple[Side, torch.Tensor, torch.Tensor]:
    """A side with positions of such widths, scattered over its inputs, its weights and its second moments."""
    draw = torch.Generator().manual_seed(seed)
    inputs = sum(widths)
    rows = torch.randn(3 * inputs, inputs, generator=draw, dtype=torch.float64)
    rows = rows @ torch.randn(inputs, inputs, generator=draw, dtype=torch.float64)
    moments = rows.T @ rows / len(rows) + 1e-3 * torch.eye(inputs, dtype=torch.float64)
    weight = torch.randn(outputs, inputs, generator=draw, dtype=torch.float64)
    columns = torch.randperm(inputs, generator=draw).split(widths)
    return Side(columns, weight.clone(), torch.linalg.inv(moments)), weight, moments


def error_without(weight: torch.Tensor, moments: torch.Tensor, gone: torch.Tensor) -> float:
    """The least mean squared error of the outputs when the inputs `gone` are not read, from the normal equations."""
    stay = torch.tensor([at for at in range(len(moments)) if at not in set(gone.tolist())], dtype=torch.long)
    best = torch.linalg.solve(moments[stay][:, stay], moments[stay] @ weight.T).T
    apart = weight.clone()
    apart[:, stay] -= best
    return float((apart @ moments * apart).sum())


@settings(max_examples=40, deadline=None)
@given(
    outputs=st.integers(1, 5),
    widths=st.lists(st.integers(1, 3), min_size=3, max_size=7),
    gone=st.sets(st.integers(0, 6), max_size=3),
    seed=st.integers(0, 99),
)
def test_a_position_costs_what_the_best_weights_without_it_cost(
    outputs: int, widths: list[int], gone: set[int], seed: int
) -> None:
    asked, weight, moments = side(outputs, widths, seed)
    lost = sorted(at for at in gone if at < len(widths) - 1)
    left = [at for at in range(len(widths)) if at not in lost]
    before = torch.cat([torch.zeros(0, dtype=torch.long), *(asked.columns[at] for at in lost)])
    if lost:
        asked.remove(lost)
    costs = asked.costs(left)
    for cost, at in zip(costs.tolist(), left, strict=True):
        more = error_without(weight, moments, torch.cat([before, asked.columns[at]]))
        assert cost == pytest.approx(more - error_without(weight, moments, before), rel=1e-5, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(counts=st.permutations([2, 5, 9, 12]), seed=st.integers(0, 99))
def test_fewer_positions_are_some_of_more_in_whatever_order_they_are_asked_for(counts: list[int], seed: int) -> None:
    widths = [1] * 12
    one = Elimination([side(3, widths, seed)[0], side(2, widths, seed + 1)[0]], 12)
    kept = {count: one.kept(count) for count in counts}
    again = Elimination([side(3, widths, seed)[0], side(2, widths, seed + 1)[0]], 12)
    for count in sorted(counts, reverse=True):
        assert np.array_equal(again.kept(count), kept[count])
        assert len(kept[count]) == count
        assert np.array_equal(np.sort(kept[count]), kept[count])
    assert set(kept[2]) < set(kept[5]) < set(kept[9]) < set(kept[12]) == set(range(12))


class Copied(nn.Module):
    """A residual block whose last 16 of 32 inner channels say what the first do, by larger weights."""

    def __init__(self, norm: bool, bias: bool, size: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 32, 1)
        self.last = nn.Conv2d(32, 8, size, padding=size // 2, bias=bias)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        with torch.no_grad():
            self.first.weight[16:] = 3 * self.first.weight[:16]
            self.first.bias[16:] = 3 * self.first.bias[:16]  # type: ignore[index]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(self.last(torch.relu(self.first(x))))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("norm", "bias"), [(True, False), (False, True), (False, False)])
def test_what_others_say_as_well_goes_and_nothing_is_lost(norm: bool, bias: bool, size: int) -> None:
    torch.manual_seed(0)
    block = trace(lively(Copied(norm, bias, size)), noise(2, 8, 6, 6))
    batches = [[x] for x in calibration((8, 6, 6), 12, 16, 1)]
    fresh = noise(8, 8, 6, 6, seed=9)
    with torch.no_grad():
        thinner = Selection(block, [(1, 8, 6, 6)], batches).thinner(0.5)
        by_weights = Pruner(block, (1, 8, 6, 6)).thinner(0.5)
        assert thinner is not None
        assert by_weights is not None
        wanted = block(fresh) - fresh
        lost, lost_by_weights = ((made(fresh) - fresh - wanted).square().mean() for made in (thinner, by_weights))
    assert {name: value.shape for name, value in thinner.state_dict().items()} == {
        name: value.shape for name, value in by_weights.state_dict().items()
    }
    assert lost < 5e-3 * wanted.square().mean()
    assert lost < 0.05 * lost_by_weights


class Attending(nn.Module):
    """Attention whose projection is followed by a residual and an MLP: neither of its layers is the block's last."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.second = nn.LayerNorm(32), nn.LayerNorm(32)
        self.qkv, self.projection = nn.Linear(32, 96), nn.Linear(32, 32)
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, tokens, 3, 4, 8).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.projection(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.narrow(nn.functional.gelu(self.wide(self.second(x))))


def test_heads_and_hidden_features_are_chosen_together() -> None:
    torch.manual_seed(0)
    attending = Attending().eval()
    with torch.no_grad():
        attending.projection.weight[:, 8:24] *= 0.3  # of heads 1 and 2, which have by far the largest queries
        attending.qkv.weight.reshape(3, 4, 8, 32)[:2, 1:3] *= 30
    block = trace(attending, noise(2, 5, 32))
    batches = [[x] for x in calibration((5, 32), 3, 32, 1)]
    fresh = noise(16, 5, 32, seed=9)
    with torch.no_grad():
        thinner = Selection(block, [(1, 5, 32)], batches).thinner(0.5)
        assert thinner is not None
        by_weights = Pruner(block, (1, 5, 32)).thinner(0.5)
        assert by_weights is not None
        heads = [attending.qkv.weight.reshape(3, 4, 8, 32)[:, own].reshape(-1, 32) for own in ([0, 3], [1, 2])]
        assert torch.equal(thinner.get_submodule("qkv").weight, heads[0])
        assert torch.equal(by_weights.get_submodule("qkv").weight, heads[1])
        errors = [float((made(fresh) - block(fresh)).square().mean()) for made in (thinner, by_weights)]
    assert errors[0] < 0.8 * errors[1]


class Grouped(nn.Module):
    """Nothing but a convolution in groups reads the inner channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 32, 1), nn.Conv2d(32, 8, 3, padding=1, groups=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.last(torch.relu(self.first(x)))


def test_where_no_layer_can_be_asked_nothing_is_chosen() -> None:
    block = trace(lively(Grouped()), noise(2, 8, 6, 6))
    with torch.no_grad():
        assert Selection(block, [(1, 8, 6, 6)], [[noise(4, 8, 6, 6)]]).thinner(0.5) is None


class Residual(nn.Module):
    """Inner channels of which many say little."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 32, 3, padding=1), nn.Conv2d(32, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.3 * self.last(torch.relu(self.first(x)))


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 5)
        self.blocks = nn.Sequential(*(Residual() for _ in range(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def chain(kinds: list) -> Supernet:
    torch.manual_seed(0)
    return elastify(lively(Chain()), torch.zeros(1, 3, 12, 12), kinds=kinds)


def test_a_supernet_that_was_loaded_starts_as_one_that_was_made(tmp_path: Path) -> None:
    made = chain([merge(2), prune(0.25), prune(0.5)])
    made.save(tmp_path / "supernet")
    loaded = Supernet.load(tmp_path / "supernet")
    images = calibration((3, 12, 12), 4, 8, 1)
    first, second = initialise(made, images), initialise(loaded, images)
    assert first.losses["fit"] == pytest.approx(second.losses["fit"], rel=1e-4)
    pruned = {block.name for block in made.alternatives() if block.kind == "pruned"}
    assert pruned <= set(first.kept["channels"])
    plain = initialise(chain([merge(2), prune(0.25), prune(0.5)]), images, ("factors", "statistics", "fit")).losses
    assert sum(first.losses["fit"][name] for name in pruned) < 0.8 * sum(plain["fit"][name] for name in pruned)


def test_a_merged_block_becomes_the_copy_that_is_nearest() -> None:
    """Of two blocks of which the first does next to nothing, the second is the better one to keep."""
    net = chain([merge(2)])
    first, second = net.graph.oracle[1:3]
    with torch.no_grad():
        for name, parameter in net.blocks[first].named_parameters():
            if "last" in name:
                parameter.mul_(1e-3)
    merged = next(block for block in net.alternatives() if block.start == 1)
    images = calibration((3, 12, 12), 4, 8, 1)
    result = initialise(net, images, ("copies",))
    assert merged.name in result.kept["copies"]
    assert result.losses["copies"][merged.name] < 0.01 * result.losses["weights"][merged.name]
    for mine, theirs in zip(net.blocks[merged.name].parameters(), net.blocks[second].parameters(), strict=True):
        assert torch.equal(mine, theirs)
