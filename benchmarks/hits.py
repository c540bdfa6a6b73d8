"""Which pictures each of many subnets gets right, in torch: what subnets begin with alike is computed once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.graph.graph import Subnet
from adaptivenet.toolkit.training.batches import TrainingData
from numpy.typing import NDArray

from .datasets import batch

Progress = Callable[[int, int], None]


def hits(
    supernet: Supernet,
    subnets: Sequence[Subnet],
    pictures: TrainingData,
    batch_size: int = 50,
    progress: Progress = lambda done, total: None,
) -> NDArray[np.bool_]:
    """Of shape (subnets, pictures). `progress(pictures done, in all)` is called after each batch."""
    found = np.zeros((len(subnets), len(pictures)), bool)
    order = sorted(range(len(subnets)), key=lambda number: subnets[number])

    def walk(numbers: list[int], depth: int, x: torch.Tensor, labels: torch.Tensor, place: slice) -> None:
        for name, group in itertools.groupby(numbers, key=lambda number: subnets[number][depth]):
            y = supernet.blocks[name](x)
            longer = []
            for number in group:
                if len(subnets[number]) > depth + 1:
                    longer.append(number)
                else:
                    found[number, place] = (y.argmax(1) == labels).numpy()
            walk(longer, depth + 1, y, labels, place)

    with torch.no_grad():
        for first in range(0, len(pictures), batch_size):
            place = slice(first, min(first + batch_size, len(pictures)))
            walk(order, 0, *batch(pictures, range(place.start, place.stop)), place)
            progress(place.stop, len(pictures))
    return found
