"""How close subnets are to the original network on some pictures: divergence of the outputs, and agreement."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..elastic.supernet import Supernet
from ..graph.graph import Subnet
from ..graph.quality import Quality
from .batches import TrainingData, stacked
from .losses import output_loss
from .placement import placed


@dataclass(frozen=True)
class Closeness:
    """`divergence` is the mean distance from the original's output: Kullback-Leibler divergence for class scores of
    shape (batch, classes), else the squared error over the variance of the original's output; 0 is perfect.
    `agreement` is the share of images, or of places, for which the class is the original's; None without class scores.
    """

    divergence: float
    agreement: Quality | None


def closeness(
    supernet: Supernet,
    subnets: Sequence[Subnet],
    data: TrainingData,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Subnet, Closeness]:
    """Of each subnet, in float32, on all images of `data`. `progress(images done, images in all)` is called after each
    batch."""
    scores, unused = supernet.scores is not None, torch.ones(())
    far = dict.fromkeys(subnets, 0.0)
    right = dict.fromkeys(subnets, 0)
    places = 0
    moments = torch.zeros(3, dtype=torch.float64)  # the numbers that the original gives: how many, their sum, squares
    with placed(supernet, device), torch.no_grad():
        for first in range(0, len(data), batch_size):
            indices = range(first, min(first + batch_size, len(data)))
            batch = stacked([data.image(index) for index in indices], indices, device)
            features = supernet.features(batch)
            wanted = features[-1]
            exact = wanted.double()
            moments += torch.stack([torch.tensor(exact.numel()), exact.sum().cpu(), exact.square().sum().cpu()])
            places += wanted.argmax(1).numel() if scores else 0
            for subnet in subnets:
                _, output = deque(supernet.walk(batch, subnet, features), maxlen=1).pop()
                if scores and wanted.dim() == 2:
                    far[subnet] += len(indices) * float(output_loss(output, wanted, unused, scores))
                else:
                    far[subnet] += float((output.double() - exact).square().sum())
                if scores:
                    right[subnet] += int((output.argmax(1) == wanted.argmax(1)).sum())
            progress(indices.stop, len(data))
    count, total, squares = moments.tolist()
    unit = len(data) if scores and len(supernet.graph.cuts[-1].shape) == 2 else max(squares - total**2 / count, 1e-12)
    return {
        subnet: Closeness(
            0.0 if far[subnet] < 0 else far[subnet] / unit,  # a divergence of 0 is at times rounded to less
            Quality.from_counts("agreement", right[subnet], places, len(data)) if scores else None,
        )
        for subnet in subnets
    }
