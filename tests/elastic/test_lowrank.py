"""Layers factorised: what stays exact, what gets smaller, what is left as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify, lowrank
from adaptivenet.toolkit.elastic.kinds import trainable_copy
from adaptivenet.toolkit.elastic.lowrank import LAYERS, Factors, Layer, factorised, factors_of, numbers_of
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.errors import ModelError
from blocks import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Small
from torch import fx, nn

pytestmark = pytest.mark.usefixtures("one_thread")


def block_of(*layers: nn.Module, shape: tuple[int, ...]) -> fx.GraphModule:
    return trainable_copy(trace(nn.Sequential(*layers).eval(), noise(2, *shape)))


def set_for_noise(pair: Factors, layer: Layer) -> None:
    """For inputs that are independent, of mean 0 and variance 1."""
    weight, bias = numbers_of(layer)
    pair.set(weight, bias, bias, weight @ weight.T)


@settings(max_examples=30, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 2),
    mode=st.sampled_from(["zeros", "circular"]),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_at_full_rank_nothing_changes(
    channels: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    padding: int,
    mode: str,
    bias: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    sides = {"stride": stride, "dilation": dilation, "padding": padding}
    layer = nn.Conv2d(*channels, kernel, **sides, padding_mode=mode, bias=bias)
    rank = min(channels[1], layer.weight[0].numel())
    narrow = nn.Conv2d(channels[0], rank, kernel, **sides, padding_mode=mode, bias=False)
    wide = nn.Conv2d(rank, channels[1], 1)
    set_for_noise(Factors("conv", narrow, wide), layer)
    x = noise(2, channels[0], 7, 8, seed=seed)
    with torch.no_grad():
        torch.testing.assert_close(wide(narrow(x)), layer(x), rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(sides=st.tuples(st.integers(2, 12), st.integers(2, 12)), rank=st.integers(1, 12), seed=st.integers(0, 99))
def test_without_inputs_it_is_the_singular_value_decomposition(sides: tuple[int, int], rank: int, seed: int) -> None:
    torch.manual_seed(seed)
    rank = min(rank, *sides)
    layer = nn.Linear(*sides)
    pair = Factors("layer", nn.Linear(sides[0], rank, bias=False), nn.Linear(rank, sides[1]))
    set_for_noise(pair, layer)
    left, values, right = torch.linalg.svd(layer.weight, full_matrices=False)
    best = left[:, :rank] * values[:rank] @ right[:rank]
    torch.testing.assert_close(pair.wide.weight @ pair.narrow.weight, best, rtol=1e-4, atol=1e-5)
    large = int((values[:rank] > 0.01 * values[0]).sum())
    for factor in (pair.wide.weight.T, pair.narrow.weight):  # each has half of a component's size
        torch.testing.assert_close(factor[:large].norm(dim=1), values[:large].sqrt(), rtol=1e-3, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    sides=st.tuples(st.integers(16, 80), st.integers(16, 80)),
    ratio=st.floats(0.1, 0.9),
    kernel=st.sampled_from([1, 3]),
)
def test_what_is_factorised_gets_smaller(sides: tuple[int, int], ratio: float, kernel: int) -> None:
    block = block_of(nn.Conv2d(*sides, kernel, padding=kernel // 2, bias=False), shape=(sides[0], 4, 4))
    before = sum(tensor.numel() for tensor in block.parameters())
    made = factorised(block, ratio)
    after = sum(tensor.numel() for tensor in block.parameters())
    assert (after < before) == (made is not None)
    inputs = sides[0] * kernel**2
    if made is not None:  # as near to the ratio as ranks in fours or eights are
        assert abs(after - ratio * before) <= 8 * (inputs + sides[1]) + sides[1]
        assert made(noise(3, sides[0], 4, 4)).shape == (3, sides[1], 4, 4)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv2d(32, 32, 3, groups=32),), (32, 8, 8)),
        ((nn.Conv2d(32, 32, 3, groups=2),), (32, 8, 8)),
        ((nn.ConvTranspose2d(32, 32, 3),), (32, 8, 8)),
        ((nn.Conv2d(2, 4, 1), nn.Linear(8, 3)), (2, 8, 8)),
        ((nn.ReLU(),), (32, 8, 8)),
    ],
    ids=["depthwise", "grouped", "transposed", "too small", "no layer"],
)
def test_what_cannot_get_smaller_has_no_such_alternative(layers: tuple[nn.Module, ...], shape: tuple[int, ...]) -> None:
    block = block_of(*layers, shape=shape)
    before = str(block.graph)
    assert factorised(block, 0.5) is None
    assert str(block.graph) == before


def test_a_layer_that_is_called_twice_is_left() -> None:
    shared = nn.Linear(32, 32)
    assert factorised(block_of(shared, nn.ReLU(), shared, shape=(32,)), 0.5) is None


def tall(channels: int = 24) -> Supernet:
    torch.manual_seed(0)
    model = Small().eval()
    model.stem, model.head = nn.Conv2d(3, channels, 3, 2, 1), nn.Linear(channels, 5)
    model.blocks = nn.Sequential(*(type(model.blocks[0])(channels) for _ in range(3))).eval()
    return elastify(model.eval(), noise(1, 3, 16, 16), kinds=[lowrank(0.5), lowrank(0.25)])


def test_a_supernet_has_factorised_blocks_and_keeps_them_on_disk(tmp_path: Path) -> None:
    net = tall()
    made = [block for block in net.graph.blocks if block.kind == "lowrank"]
    assert [block.name for block in made] == [f"b0{at}-{tag}" for at in (1, 2, 3) for tag in ("l25", "l50")]
    for block in made:
        (replaced,) = net.graph.replaced_by(block)
        assert block.ratio is not None
        assert abs(block.macs / net.graph[replaced].macs - block.ratio) < 0.1
        assert all(parameter.requires_grad for parameter in net.blocks[block.name].parameters())
        pairs = list(factors_of(net.blocks[block.name], net.blocks[replaced]))
        assert [type(layer) for _, layer in pairs] == [nn.Conv2d, nn.Conv2d]
        assert all(type(layer) in LAYERS for pair, _ in pairs for layer in (pair.narrow, pair.wide))
    net.save(tmp_path / "net")
    again = Supernet.load(tmp_path / "net")
    x, subnet = noise(2, 3, 16, 16), ["b00", "b01-l25", "b02-l50", "b03", "b04"]
    assert again.graph == net.graph
    assert torch.equal(again(x, subnet), net(x, subnet))


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1.5])
def test_a_share_that_makes_no_sense_is_refused(ratio: float) -> None:
    with pytest.raises(ModelError, match=f"cannot factorise to {ratio}: a share between 0 and 1"):
        lowrank(ratio)
