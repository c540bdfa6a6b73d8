"""How good a trained supernet is on images that it was not trained on: the oracle, every option, and random subnets."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..data.classes import IGNORE
from ..elastic.defaults import ordinary_defaults
from ..elastic.supernet import Supernet
from ..errors import TrainingError
from ..graph.doubts import guessing, one_answer
from ..graph.graph import Subnet
from ..graph.quality import Quality
from ..plurals import number_of
from .batches import Part, TrainingData, label_of, labels_of, stacked
from .losses import local_losses
from .placement import find_device, placed
from .subnet_draws import SubnetDraws

FEWEST = 8  # images to validate on where time is short
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
    measured on the same `images`. `warnings` are reasons to doubt all of it, a sentence each.
    """

    metric: str
    images: int
    oracle: Quality
    losses: dict[str, float]
    budgets: tuple[BudgetQuality, ...]
    warnings: tuple[str, ...] = ()


def check(supernet: Supernet, data: TrainingData) -> None:
    """Raises TrainingError for a network, or labels, that `validate` will refuse: no long training need come before."""
    if not len(data):
        raise TrainingError("there are no images to validate on")
    shape = supernet.graph.cuts[-1].shape
    if len(shape) not in (2, 4) or shape[1] < 2:
        raise TrainingError(
            f"the network gives {shape}: quality is known for class scores of shape (batch, classes) or (batch, "
            "classes, height, width); train without validation, and export with a --metric that fits"
        )
    data.image(0)
    if (label := label_of(data, 0)) is not None:
        every = range(len(data)) if np.ndim(label) == 0 else range(1)  # maps are read from the disk: not all of them
        _check_labels(labels_of(data, every, torch.device("cpu")), (shape[0], *shape[2:]), shape[1])


@ordinary_defaults()
def validate(
    supernet: Supernet,
    data: TrainingData,
    *,
    budgets: Sequence[float] = BUDGETS,
    subnets: int = 10,
    batch_size: int = 32,
    seed: int = 0,
    device: str = "cpu",
    seconds: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Validation:
    """Measures the oracle, every alternative, and `subnets` random subnets around each of `budgets` (shares of MACs).

    The network must give class scores of shape (batch, classes), or for each place (batch, classes, height, width):
    then quality is the share of places. The same seed draws the same subnets. With a limit of
    `seconds`, fewer subnets run, on fewer images, so that it is kept: at least one subnet a budget, on `FEWEST` images.
    `progress(images done, images in all)` is called after each batch. Raises TrainingError for what `check` refuses,
    and where there is no time even for that.
    """
    check(supernet, data)
    place = find_device(device)
    labelled = label_of(data, 0) is not None
    with placed(supernet, place), torch.no_grad():
        if seconds is not None:
            until = time.monotonic() + seconds
            affordable, paths = _within(supernet, data, len(budgets), subnets, seconds, place)
            if (len(affordable), paths) != (len(data), subnets):  # small batches: the clock is looked at between them
                data, subnets, batch_size = affordable, paths, min(batch_size, FEWEST)
        draws = SubnetDraws(supernet.graph, 0.0)
        rng = random.Random(f"{seed}/validate")
        sampled = [draws.near(budget, _REACH, subnets, rng) for budget in budgets]
        right: dict[Subnet, int] = dict.fromkeys(
            [supernet.graph.oracle, *(path for near in sampled for path in near)], 0
        )
        sums: dict[str, float] = {}
        answers: set[int] = set()
        images, count = 0, 0
        for first in range(0, len(data), batch_size):
            if images and seconds is not None and time.monotonic() > until:
                break
            indices = range(first, min(first + batch_size, len(data)))
            batch = stacked([data.image(index) for index in indices], indices, place)
            truth = _classes(supernet(batch))
            answers.update(truth.unique().tolist())
            if labelled:
                labels = labels_of(data, indices, place)
                _check_labels(labels, tuple(truth.shape), supernet.graph.cuts[-1].shape[1])
                truth = labels
            count += int((truth != IGNORE).sum())
            for subnet in right:
                right[subnet] += int((_classes(supernet(batch, subnet)) == truth).sum())
            for name, loss in local_losses(supernet, [batch]).items():
                sums[name] = sums.get(name, 0.0) + loss * len(indices)
            images += len(indices)
            progress(images, len(data))
    metric = "top1" if labelled else "agreement"
    oracle = Quality.from_counts(metric, right[supernet.graph.oracle], count, images)
    doubts = [guessing(oracle, supernet.graph.cuts[-1].shape[1])] if labelled else []
    doubts += [one_answer(f"class {answers.pop()}", images)] if len(answers) == 1 else []
    return Validation(
        metric,
        images,
        oracle,
        {name: total / images for name, total in sums.items()},
        tuple(_summary(budget, [right[path] / count for path in near]) for budget, near in zip(budgets, sampled)),
        tuple(doubt for doubt in doubts if doubt),
    )


def _within(
    supernet: Supernet, data: TrainingData, budgets: int, subnets: int, seconds: float, place: torch.device
) -> tuple[TrainingData, int]:
    """The images and the number of subnets a budget for which there is time, from the oracle's time for a few images.

    Both are cut by the same factor. Raises TrainingError where there is time for next to none.
    """
    count = min(FEWEST, len(data))
    batch = stacked([data.image(index) for index in range(count)], range(count), place)
    supernet(batch)  # the first run takes longer
    began = time.monotonic()
    supernet(batch)
    once = (time.monotonic() - began) / count
    macs = sum(supernet.graph[name].macs for name in supernet.graph.oracle)
    blocks = 2 + sum(block.macs for block in supernet.graph.blocks) / max(macs, 1)  # of what does not depend on subnets

    def needed(images: int, paths: int) -> float:
        return once * images * (blocks + budgets * paths)

    if needed(count, 1) > seconds:
        raise TrainingError(
            f"no time is left to validate: {number_of(count, 'image')} would take {needed(count, 1):.0f} s; give it "
            f"more minutes"
        )
    share = min(1.0, math.sqrt(seconds / needed(len(data), subnets)))
    paths = max(1, int(subnets * share))
    images = max(count, int(len(data) * min(1.0, seconds / needed(len(data), paths))))
    return Part(data, range(images)), paths


def _summary(budget: float, qualities: Sequence[float]) -> BudgetQuality:
    if not qualities:
        return BudgetQuality(budget, 0)
    mean = sum(qualities) / len(qualities)
    return BudgetQuality(budget, len(qualities), mean, min(qualities), max(qualities))


def _classes(output: torch.Tensor) -> torch.Tensor:
    return output.argmax(1)


def _check_labels(labels: torch.Tensor, shape: tuple[int, ...], classes: int) -> None:
    """Of labels, and the shape of the network's answers, of which the number of images does not count."""
    if labels.shape[1:] != shape[1:]:
        raise TrainingError(
            f"labels have shape {tuple(labels.shape)}, and the network's answers {shape}: give labels of this network"
        )
    counted = labels[labels != IGNORE]
    if len(counted) and not 0 <= int(counted.min()) <= int(counted.max()) < classes:
        raise TrainingError(
            f"labels go from {int(counted.min())} to {int(counted.max())}, and the network has "
            f"{number_of(classes, 'class', 'classes')}: "
            "give labels of this network"
        )
