"""How good a trained supernet is on images that it was not trained on: the oracle, every option, and random subnets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import TrainingError
from ..graph import Subnet
from ..quality import Quality
from .batches import TrainingData, label_of, stacked
from .losses import local_losses
from .placement import find_device, placed
from .subnet_draws import SubnetDraws
from .supernet import Supernet

BUDGETS = (0.9, 0.8, 0.7, 0.6, 0.5)
_REACH = 0.025  # of the oracle's multiply-accumulates: how far from its budget a sampled subnet may lie


@dataclass(frozen=True)
class BudgetQuality:
    """The quality of `subnets` random subnets that cost `budget` (a share of the oracle's MACs) ± 2.5 points.

    Where there are no such subnets, `subnets` is 0 and the rest None.
    """

    budget: float
    subnets: int
    mean: float | None = None
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True)
class Validation:
    """`metric` is `top1` where the images have labels, else `agreement` with the oracle; both are shares of images.

    `oracle` is the oracle's quality (1 for agreement, by definition), `losses` every alternative's local loss, all
    measured on the same `images`.
    """

    metric: str
    images: int
    oracle: Quality
    losses: dict[str, float]
    budgets: tuple[BudgetQuality, ...]


def validate(
    supernet: Supernet,
    data: TrainingData,
    *,
    budgets: Sequence[float] = BUDGETS,
    subnets: int = 10,
    batch_size: int = 32,
    seed: int = 0,
    device: str = "cpu",
) -> Validation:
    """Measures the oracle, every alternative, and `subnets` random subnets around each of `budgets` (shares of MACs).

    The network must give class scores of shape (batch, classes). The same seed draws the same subnets. Raises
    TrainingError when there are no images, for another output, and for labels that are no class of the network.
    """
    if not len(data):
        raise TrainingError("there are no images to validate on")
    draws = SubnetDraws(supernet.graph, 0.0)
    rng = random.Random(f"{seed}/validate")
    sampled = [draws.near(budget, _REACH, subnets, rng) for budget in budgets]
    place = find_device(device)
    right: dict[Subnet, int] = dict.fromkeys([supernet.graph.oracle, *(path for paths in sampled for path in paths)], 0)
    sums: dict[str, float] = {}
    labelled = label_of(data, 0) is not None
    with placed(supernet, place), torch.no_grad():
        for first in range(0, len(data), batch_size):
            indices = range(first, min(first + batch_size, len(data)))
            batch = stacked([data.image(index) for index in indices], indices, place)
            truth = _classes(supernet(batch))
            if labelled:
                labels = torch.tensor([label_of(data, index) for index in indices], device=place)
                _check_labels(labels, supernet.graph.cuts[-1].shape[1])
                truth = labels
            for subnet in right:
                right[subnet] += int((_classes(supernet(batch, subnet)) == truth).sum())
            for name, loss in local_losses(supernet, [batch]).items():
                sums[name] = sums.get(name, 0.0) + loss * len(indices)
    metric = "top1" if labelled else "agreement"
    return Validation(
        metric,
        len(data),
        Quality.from_counts(metric, right[supernet.graph.oracle], len(data)),
        {name: total / len(data) for name, total in sums.items()},
        tuple(_summary(budget, [right[path] / len(data) for path in paths]) for budget, paths in zip(budgets, sampled)),
    )


def _summary(budget: float, qualities: Sequence[float]) -> BudgetQuality:
    if not qualities:
        return BudgetQuality(budget, 0)
    mean = sum(qualities) / len(qualities)
    return BudgetQuality(budget, len(qualities), mean, min(qualities), max(qualities))


def _classes(output: torch.Tensor) -> torch.Tensor:
    if output.dim() != 2 or output.shape[1] < 2:
        raise TrainingError(
            f"the network gives {tuple(output.shape)}: quality is known for class scores of shape (batch, classes)"
        )
    return output.argmax(1)


def _check_labels(labels: torch.Tensor, classes: int) -> None:
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise TrainingError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, and the network has {classes} classes: "
            "give labels of this network"
        )
