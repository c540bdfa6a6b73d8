"""A small network, made elastic, images for it, and a short run that can be killed: what training is tested on."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify, merge, prune
from adaptivenet.toolkit.training.phases import Phase, Training
from torch import nn

LOCAL, SUBNETS = Phase("local", 6, 1e-3), Phase("subnets", 6, 2e-4, subnets=2, features=0.5)
SETTINGS = Training((LOCAL, SUBNETS), batch_size=4, calibration_batches=2, checkpoint_every=4)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn, self.conv2 = nn.Conv2d(8, 24, 3, padding=1), nn.BatchNorm2d(24), nn.Conv2d(24, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(x + self.conv2(nn.functional.relu(self.bn(self.conv1(x)))))


class Small(nn.Module):
    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 5)
        self.blocks = nn.Sequential(*(Residual() for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Noise:
    """Images of noise, always the same."""

    def __init__(self, count: int = 10, seed: int = 0) -> None:
        self.images = np.random.default_rng(seed).normal(size=(count, 1, 3, 12, 12)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]


class Labelled(Noise):
    """The same with the labels 0 to 4, to which `add` may be added."""

    def __init__(self, count: int = 10, seed: int = 0, add: int = 0) -> None:
        super().__init__(count, seed)
        self.add = add

    def label(self, index: int) -> int:
        return index % 5 + self.add


def teacher(seed: int = 0) -> nn.Module:
    """A network whose batch norms know the images, as a trained one's do."""
    torch.manual_seed(seed)
    model = Small()
    with torch.no_grad():
        model.head.weight.mul_(10)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        for index in range(10):
            model(torch.from_numpy(Noise().image(index)))
    return model.eval()


def supernet(seed: int = 0) -> Supernet:
    """The teacher made elastic, with alternatives that are untrained. A new one each time."""
    return copy.deepcopy(_made(seed))


@lru_cache
def _made(seed: int) -> Supernet:
    kinds = [merge(2), merge(3), prune(0.5)]
    return elastify(teacher(seed), torch.zeros(1, 3, 12, 12), kinds=kinds)


def weights(net: Supernet) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


class Killed(Exception):
    pass


def killed_at(step: int) -> Any:
    def progress(phase: str, done: int, total: int, loss: float) -> None:
        if done == step:
            raise Killed

    return progress


def assert_bit_exact(actual: Supernet, expected: Supernet) -> None:
    mine, other = weights(actual), weights(expected)
    assert mine.keys() == other.keys()
    assert [name for name in mine if not torch.equal(mine[name], other[name])] == []


def curves(folder: Path) -> dict[str, list[float]]:
    """What TensorBoard would draw from a folder of logs: the values of each curve, in the order of steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {name: [point.value for point in found.Scalars(name)] for name in found.Tags()["scalars"]}
