"""Factors that are set from features: never worse on them than without, and the better start of a block."""

from __future__ import annotations

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify, lowrank, merge
from adaptivenet.toolkit.elastic.kinds import trainable_copy
from adaptivenet.toolkit.elastic.lowrank import factorised, factors_of
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.training.factors import fit_factors
from adaptivenet.toolkit.training.initialise import initialise
from blocks import calibration, lively, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F


def error(block: nn.Module, original: nn.Module, batches: list[torch.Tensor]) -> float:
    with torch.no_grad():
        return sum(float((block(x) - original(x)).square().sum()) for x in batches)


@settings(max_examples=20, deadline=None)
@given(
    sides=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    kind=st.sampled_from(["linear", "1x1", "3x3"]),
    fits=st.booleans(),
    bias=st.booleans(),
    ratio=st.floats(0.2, 0.8),
    seed=st.integers(0, 99),
)
def test_on_the_features_that_reach_a_layer_it_is_no_worse_than_without_them(
    sides: tuple[int, int], kind: str, fits: bool, bias: bool, ratio: float, seed: int
) -> None:
    torch.manual_seed(seed)
    layer: nn.Module = nn.Linear(*sides, bias=bias)
    shape: tuple[int, ...] = (5, sides[0])
    if kind != "linear":
        shape, size = (sides[0], 5, 4), int(kind[0])
        layer = nn.Conv2d(*sides, size, padding=size // 2, bias=bias)
    original = trace(nn.Sequential(layer).eval(), noise(2, *shape))
    block = factorised(trainable_copy(original), ratio)
    if block is None:
        return
    mixed = noise(sides[0], sides[0], seed=seed) / sides[0] ** 0.5  # so that inputs are correlated
    along = "...c,cd->...d" if kind == "linear" else "nc...,cd->nd..."
    batches = [torch.einsum(along, x, mixed) for x in calibration(shape, 3, 6, seed)]
    plain = error(block, original, batches)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("adaptivenet.toolkit.training.factors._MOST_FITTED", 1152 if fits else 1)
        assert fit_factors(block, original, [[x] for x in batches])
    assert error(block, original, batches) <= plain * (1 + 1e-4)


class Transformer(nn.Module):
    """Tokens in front of a head; each block has attention, whose layers arrive at each other changed, and an MLP."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.project = nn.Linear(24, 72), nn.Linear(24, 24)
            self.up, self.down = nn.Linear(24, 96), nn.Linear(96, 24)
            self.norm1, self.norm2 = nn.LayerNorm(24), nn.LayerNorm(24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
            x = x + self.project(F.scaled_dot_product_attention(q, k, v))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 24, 4, 4), nn.Linear(24, 5)
        self.blocks = nn.Sequential(*(self.Block() for _ in range(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


def supernet() -> Supernet:
    torch.manual_seed(0)
    return elastify(lively(Transformer()), torch.zeros(1, 3, 16, 16), kinds=[lowrank(0.5), merge(2)])


def test_blocks_start_nearer_to_the_teacher_and_only_those_with_factors_change() -> None:
    net = supernet()
    result = initialise(net, calibration((3, 16, 16), 8, 8), ("factors", "fit"))
    blocks = {block.name: block for block in net.alternatives()}
    made = {name for name, block in blocks.items() if block.kind == "lowrank"}
    assert made == {"b01-l50", "b02-l50", "b03-l50"}
    assert set(result.kept["factors"]) == made
    for name in made:
        (replaced,) = net.graph.replaced_by(blocks[name])
        assert len(list(factors_of(net.blocks[name], net.blocks[replaced]))) == 4
        assert result.losses["factors"][name] < 0.7 * result.losses["weights"][name]
        assert result.losses["fit"][name] <= result.losses["factors"][name]
    for name in blocks.keys() - made:
        assert result.losses["factors"][name] == result.losses["weights"][name]


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Conv2d(24, 48, 3, padding=1), nn.Linear(48, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(input=self.up(input=x).movedim(1, -1)).movedim(-1, 1)


def test_layers_that_are_called_by_keyword_are_fitted_too() -> None:
    torch.manual_seed(0)
    original = trace(ByKeyword().eval(), noise(2, 24, 6, 6))
    block = factorised(trainable_copy(original), 0.5)
    assert block is not None
    batches = calibration((24, 6, 6), 4, 8)
    plain = error(block, original, batches)
    with torch.no_grad():
        assert fit_factors(block, original, [[x] for x in batches])
    assert error(block, original, batches) < plain


def test_what_only_looks_like_factors_is_left() -> None:
    """As a kind of the user's own may have it."""
    original = trace(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1)).eval(), noise(2, 8, 6, 6))
    (path,) = (name for name, module in original.named_modules() if isinstance(module, nn.Conv2d))
    for layers in ([nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 3, padding=1)], [nn.Conv2d(8, 8, 1)], [nn.ReLU(), nn.ReLU()]):
        block = trainable_copy(original)
        block.set_submodule(path, nn.Sequential(*layers))
        assert not fit_factors(block, original, [[noise(8, 8, 6, 6)]])


def test_a_layer_that_gives_nothing_leaves_finite_factors() -> None:
    torch.manual_seed(0)
    original = trace(nn.Sequential(nn.ReLU(), nn.Linear(32, 32)).eval(), noise(2, 32))
    block = factorised(trainable_copy(original), 0.5)
    assert block is not None
    with torch.no_grad():
        assert fit_factors(block, original, [[-noise(8, 32).abs()]])
    assert all(bool(torch.isfinite(tensor).all()) for tensor in block.parameters())
