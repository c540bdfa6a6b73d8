"""Pruning: blocks of many architectures lose inner channels, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.elastic.pruning.axes import kept_positions
from adaptivenet.toolkit.elastic.pruning.pruning import Pruner
from adaptivenet.toolkit.elastic.tracing.trace import trace
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("one_thread")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(8, 32, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.BatchNorm2d(32),
            nn.Hardswish(),
        )
        self.squeeze = nn.Sequential(nn.Conv2d(32, 8, 1), nn.ReLU(), nn.Conv2d(8, 32, 1), nn.Sigmoid())
        self.out = nn.Conv2d(32, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        y = y * self.squeeze(y.mean((2, 3), keepdim=True))
        return x + self.out(y)


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(8, 32, 1), nn.Conv2d(32, 32, 3, padding=1, groups=8), nn.Conv2d(32, 8, 1)
        self.norm = nn.GroupNorm(8, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.c(F.relu(self.norm(self.b(F.relu(self.a(x))))))


class Ghost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.cheap = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.out = nn.Conv2d(32, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x).relu()
        y = torch.cat([y, self.cheap(y)], 1)
        return x + self.out(y[:, :32])


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 64), nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(2).transpose(1, 2)
        gate, value = self.up(x).chunk(2, dim=-1)
        y = x + self.down(F.silu(gate) * value)
        return y.transpose(1, 2).unflatten(2, (4, 4))


class Fused(nn.Module):
    """Attention with one projection for queries, keys and values, a bias from a table, and an MLP after it."""

    def __init__(self, own_softmax: bool) -> None:
        super().__init__()
        self.qkv, self.project = nn.Linear(16, 48), nn.Linear(16, 16)
        self.table = nn.Parameter(torch.randn(7, 4))
        self.register_buffer("index", torch.randint(0, 7, (16, 16)))
        self.norm = nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))
        self.own_softmax = own_softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        n = x.shape[1]
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1).unsqueeze(0)
        if self.own_softmax:
            attention = (q * (c // 4) ** -0.5) @ k.transpose(-2, -1) + bias
            y = attention.softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.project(y.transpose(1, 2).reshape(b, n, c))
        x = x + self.mlp(x)
        return x.transpose(1, 2).reshape(b, c, h, w)


class Separate(nn.Module):
    """Attention with three projections, heads folded into the batch, and a bias that is joined from parts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, 16) / 4)
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(16))
        self.register_buffer("k_bias", torch.zeros(16))
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.project = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        qkv = F.linear(x, self.weight, torch.cat((self.q_bias, self.k_bias, self.v_bias)))
        q, k, v = qkv.split([16, 16, 16], dim=-1)
        q, k, v = (part.view(b, -1, 4, 4).transpose(1, 2) for part in (q, k, v))
        y = ((q @ k.mT) * self.scale).softmax(-1) @ v
        x = x + self.project(y.permute(0, 2, 1, 3).flatten(2))
        return x.mT.reshape(b, c, h, w)


class Heads(nn.Module):
    """Attention with three projections and a function of the test's choice from (queries, keys, values) to answers."""

    def __init__(
        self, function: Callable[[Heads, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor], keys: int = 32
    ) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(*sides) for sides in ((8, 32), (8, keys), (8, keys), (32, 8)))
        self.register_buffer("turn", torch.randn(16, 8))
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(2).transpose(1, 2)
        y = self.out(self.function(self, self.q(x), self.k(x), self.v(x)))
        return y.transpose(1, 2).unflatten(dim=2, sizes=(4, 4))


def in_the_batch(self: Heads, *tensors: torch.Tensor) -> torch.Tensor:
    """Heads as more of a batch, with the number of tokens left open."""
    n = tensors[0].shape[0]
    folded = [t.view(n, 16, 4, 8).transpose(1, 2).contiguous().view(n * 4, -1, 8) for t in tensors]
    y = (folded[0] @ folded[1].mT).softmax(-1) @ folded[2]
    return y.view(n, 4, 16, 8).transpose(1, 2).reshape(n, 16, 32)


def one_head(self: Heads, *tensors: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(*tensors)


def shared_keys(self: Heads, *tensors: torch.Tensor) -> torch.Tensor:
    """Two heads of queries in a row to each of four heads of keys and values."""
    q, k, v = (t.unflatten(2, (-1, 4)).transpose(1, 2) for t in tensors)
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2)


def rotary(self: Heads, *tensors: torch.Tensor) -> torch.Tensor:
    q, k, v = (t.unflatten(2, (4, 8)).transpose(1, 2) for t in tensors)
    turned = [t * self.turn + torch.cat([-t[..., 4:], t[..., :4]], -1) * self.turn for t in (q, k)]
    shaped = [t.reshape(v.shape) for t in turned]
    return F.scaled_dot_product_attention(*shaped, v).transpose(1, 2).flatten(2)


BLOCKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    # name: (block, channels, how many groups of positions it can lose from)
    "depthwise with squeeze and excitation": (Residual, 8, 2),
    "grouped convolution and group norm": (Grouped, 8, 1),
    "concatenation": (Ghost, 8, 1),
    "gated": (Gated, 8, 1),
    "fused attention": (lambda: Fused(False), 16, 2),
    "fused attention, written out": (lambda: Fused(True), 16, 2),
    "separate attention": (Separate, 16, 1),
    "heads in the batch": (lambda: Heads(in_the_batch), 8, 1),
    "one head": (lambda: Heads(one_head), 8, 2),
    "heads that share keys": (lambda: Heads(shared_keys, keys=16), 8, 1),
    "rotary embedding": (lambda: Heads(rotary), 8, 1),
}


def pruner(name: str) -> Pruner:
    make, channels, _ = BLOCKS[name]
    torch.manual_seed(0)
    block = make().eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_()
    return Pruner(trace(block, torch.randn(1, channels, 4, 4)), (1, channels, 4, 4))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.8])
def test_a_thinner_block_is_the_block_with_those_weights_at_zero(name: str, ratio: float) -> None:
    made = pruner(name)
    assert len(made.importance) == BLOCKS[name][2]
    thinner = made.thinner(ratio)
    assert thinner is not None
    count = [sum(weight.numel() for weight in block.parameters()) for block in (thinner, made.block)]
    assert count[0] < count[1]
    kept = made.choose(ratio)
    zeroed = made.block  # it is not used again
    named = {**dict(zeroed.named_parameters()), **dict(zeroed.named_buffers())}
    for tensor_name, axes in made.found.tensors.items():
        for index, axis in enumerate(axes):
            gone = np.setdiff1d(np.arange(named[tensor_name].shape[index]), kept_positions(axis, kept))
            if named[tensor_name].is_floating_point():
                named[tensor_name].data.index_fill_(index, torch.from_numpy(gone), 0.0)
    for batch in (1, 3):
        x = torch.randn(batch, BLOCKS[name][1], 4, 4)
        with torch.no_grad():
            torch.testing.assert_close(thinner(x), zeroed(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_least_important_go(name: str) -> None:
    made = pruner(name)
    for leaf, kept in made.choose(0.5).items():
        importance = made.importance[leaf]
        gone = np.setdiff1d(np.arange(leaf.size), kept)
        assert len(gone)
        assert importance[kept].min() >= importance[gone].max()


def test_importance_is_that_of_weights_and_not_of_places() -> None:
    block = Residual().eval()
    with torch.no_grad():
        for weight in (block.body[0].weight, block.body[3].weight):
            weight[:24] *= 0.01
        block.out.weight[:, :24] *= 0.01
    made = Pruner(trace(block, torch.randn(1, 8, 4, 4)), (1, 8, 4, 4))
    widest = max(made.choose(0.7).values(), key=len)
    assert widest.tolist() == list(range(24, 32))


def test_layers_describe_themselves_after_pruning() -> None:
    thinned = [pruner(name).thinner(0.5) for name in BLOCKS]
    for layer in (nn.BatchNorm2d(16, affine=False), nn.InstanceNorm2d(16)):
        block = Between(lambda self, x: self.layer(x), layer).eval()
        thinned.append(Pruner(trace(block, torch.randn(1, 8, 4, 4)), (1, 8, 4, 4)).thinner(0.5))
    for thinner in thinned:
        assert thinner is not None
        for module in thinner.modules():
            if isinstance(module, nn.Conv2d):
                assert module.weight.shape[:2] == (module.out_channels, module.in_channels // module.groups)
            elif isinstance(module, nn.Linear):
                assert module.weight.shape == (module.out_features, module.in_features)
            elif isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d)):
                assert module.num_features == (8 if module.weight is None else len(module.weight))
            elif isinstance(module, nn.GroupNorm):
                assert module.num_channels == len(module.weight)


class Unknown(nn.Module):
    """Everything between its convolutions meets an operation that mixes positions in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).cumsum(1).sort(1).values)


class Between(nn.Module):
    """Two convolutions, and between them a function of the test's choice, perhaps with a layer."""

    def __init__(
        self, function: Callable[[Between, torch.Tensor], torch.Tensor], layer: nn.Module | None = None, width: int = 16
    ) -> None:
        super().__init__()
        self.a, self.b, self.layer = nn.Conv2d(8, 16, 1), nn.Conv2d(width, 8, 1), layer or nn.Identity()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.function(self, self.a(x)))


def along_channels(self: Between, x: torch.Tensor) -> torch.Tensor:
    """The layer works along the channels as if they were pixels."""
    return self.layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (4, 4))


class OfItsOwn(nn.Module):
    """Kept whole, because its control flow depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight if x.sum() < 1e9 else x


LEFT_ALONE = {
    "unknown": Unknown(),
    "one layer": nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
    "shifted channels": Between(lambda self, x: F.pad(x, (0, 0, 0, 0, 1, -1))),
    "pooled channels": Between(along_channels, nn.AvgPool1d(3, 1, 1)),
    "convolved channels": Between(
        along_channels, nn.Sequential(nn.Conv1d(16, 16, 3, padding=1), nn.AdaptiveAvgPool1d(16))
    ),
    "pooling that answers with indices": Between(
        lambda self, x: self.layer(x)[0], nn.MaxPool2d(1, return_indices=True)
    ),
    "recurrent": Between(
        lambda self, x: self.layer(x.flatten(2).mT)[0].mT.unflatten(2, (4, 4)), nn.LSTM(16, 16, batch_first=True)
    ),
    "attention of torch.nn": Between(
        lambda self, x: self.layer(*[x.flatten(2).mT] * 3)[0].mT.unflatten(2, (4, 4)),
        nn.MultiheadAttention(16, 4, batch_first=True),
    ),
    "kept whole": Between(lambda self, x: self.layer(x), OfItsOwn()),
}


@pytest.mark.parametrize("block", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_not_understood_or_has_nothing_inside_is_left_alone(block: nn.Module) -> None:
    made = Pruner(trace(block.eval(), torch.randn(1, 8, 4, 4)), (1, 8, 4, 4))
    assert not made.importance
    assert made.thinner(0.5) is None
