"""Blocks that end in the ways that blocks end, and supernets of one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.elastic.kinds import trainable_copy
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut
from torch import nn
from torch.nn import functional as F


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def calibration(shape: Sequence[int], batches: int = 4, size: int = 8, seed: int = 1) -> list[torch.Tensor]:
    """Correlated noise: the channels have different sizes and means, as features do."""
    channels = shape[0] if len(shape) == 3 else shape[-1]
    view = (-1, 1, 1) if len(shape) == 3 else (-1,)
    scale, mean = torch.linspace(0.5, 2, channels).view(view), torch.linspace(-1, 1, channels).view(view)
    return [noise(size, *shape, seed=seed + index) * scale + mean for index in range(batches)]


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms with statistics and weights of which each matters."""
    for index, norm in enumerate(m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean = noise(norm.num_features, seed=seed + 4 * index) * 0.2
        norm.running_var = noise(norm.num_features, seed=seed + 4 * index + 1).square() + 0.5
        norm.weight.data = noise(norm.num_features, seed=seed + 4 * index + 2) * 0.3 + 1
        norm.bias.data = noise(norm.num_features, seed=seed + 4 * index + 3) * 0.3
    return module.eval()


class ReluEnded(nn.Module):
    """As in ResNet; the last convolution has no bias, the norm behind it has."""

    def __init__(self, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.last, self.bn2 = nn.Conv2d(8, 6, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(6)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.last(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + x[:, :, :: self.stride, :: self.stride])


class MBConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.bn1 = nn.Conv2d(6, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.depthwise, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16)
        self.last, self.bn3 = nn.Conv2d(16, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_ = F.relu6(self.bn1(self.expand(x)))
        return x + self.drop(self.bn3(self.last(F.relu6(self.bn2(self.depthwise(x_))))))


class Mlp(nn.Module):
    """The second half of a transformer's block, with a layer scale as small as ConvNeXt starts with."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.last = nn.LayerNorm(6), nn.Linear(6, 12), nn.Linear(12, 6)
        self.gamma = nn.Parameter(torch.linspace(0.2, 1, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.gamma * self.last(F.gelu(self.up(self.norm(x))))


class ChannelsLast(nn.Module):
    """As in ConvNeXt: linear layers on the permuted feature, permuted back behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up, self.last = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Linear(6, 12), nn.Linear(12, 6)
        self.gamma = nn.Parameter(torch.full((6,), 1e-2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.last(F.gelu(self.up(self.conv(x).permute(0, 2, 3, 1))))
        return (self.gamma * out).permute(0, 3, 1, 2) + 0.01 * x


class Repeated(nn.Module):
    """Behind the last layer its output is spread over four positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(6, 8, 3, 2, 1), nn.Conv2d(8, 6, 3, padding=(1, 2), dilation=(1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.last(F.silu(self.conv(x))), scale_factor=2.0)


def stand_in(model: nn.Module, shape: Sequence[int], change: Callable[[nn.Module], object] | None = None) -> Supernet:
    """One original block and a copy of it that was changed."""
    torch.manual_seed(0)
    original = trace(model.eval(), noise(2, *shape))
    copied = trainable_copy(original)
    if change:
        with torch.no_grad():
            change(copied)
    with torch.no_grad():
        end = tuple(original(noise(1, *shape)).shape)
    graph = BlockGraph(
        [Cut(0, (1, *shape)), Cut(1, end)], [Block("b0", 0, 1, "original"), Block("b0-x", 0, 1, "changed")]
    )
    return Supernet(graph, {"b0": original, "b0-x": copied})


def scrambled(module: nn.Module) -> None:
    """The last layer, and the bias behind it, are lost."""
    last = module.get_submodule("last")
    last.weight.copy_(noise(*last.weight.shape, seed=9) * last.weight.std())  # type: ignore[operator, arg-type, union-attr]
    norm = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)][-1:]
    for layer in (last, *norm):
        if layer.bias is not None:
            layer.bias.zero_()  # type: ignore[operator, union-attr]


IMAGE, TOKENS = (6, 12, 12), (40, 6)
BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "relu-ended": (ReluEnded, IMAGE),
    "relu-ended, strided": (lambda: ReluEnded(5, 2), IMAGE),
    "mbconv": (MBConv, IMAGE),
    "mlp": (Mlp, TOKENS),
    "channels last": (ChannelsLast, IMAGE),
    "repeated": (Repeated, IMAGE),
}
