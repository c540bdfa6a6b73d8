"""What one batch of a phase trains, and the loss of each: blocks on their own, or sampled subnets."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch.nn import functional as F

from ..data.classes import IGNORE
from ..elastic.supernet import Supernet
from ..errors import TrainingError
from ..graph.graph import Subnet
from .batches import Batch
from .losses import branch_loss, local_loss, output_loss
from .phases import Phase, Training
from .subnet_draws import SubnetDraws

_LEAST = 0.02  # what a subnet's expected loss counts as at least


class Objective:
    """The losses of a run. `variances` are those of the teacher's feature at every cut, `cost` as for `SubnetDraws`.

    `expected` is every alternative's local loss before the first step: where the front is looked for. With `given`
    subnets only these are trained, each as likely as the others; the number of each is what its loss is multiplied by.

    Every loss is a mean over the images of a batch, so that parts of a batch add up to the whole.
    """

    def __init__(
        self,
        supernet: Supernet,
        training: Training,
        variances: Sequence[torch.Tensor],
        cost: Mapping[str, float] | None,
        device: torch.device,
        expected: Mapping[str, float],
        given: Mapping[Subnet, float] | None = None,
    ) -> None:
        self._supernet, self._training, self._variances = supernet, training, variances
        self._cost, self._device, self._expected, self._given = cost, device, expected, given

    def losses(self, phase: Phase, batch: Batch, step: int) -> Iterator[tuple[str, torch.Tensor, float]]:
        """What a batch trains, one by one, so that one graph at a time is in memory.

        Each is its name, its loss, and the weight of the loss in the gradient. Raises TrainingError for labels that
        are no class of the network.
        """
        x = batch.images
        with torch.no_grad(), self._precision():
            features = [x] if phase.kind == "tune" else self._supernet.features(x)
        if phase.kind == "local":
            for block in self._supernet.alternatives():
                with self._precision():
                    loss = local_loss(self._supernet, block, features, self._variances[block.end])
                yield f"block {block.name}", loss, 1.0
            return
        subnets = self._subnets(phase.subnets, step)
        for subnet in subnets:
            with self._precision():
                loss = self._subnet_loss(phase, subnet, batch, features)
            yield f"subnet {' '.join(subnet)}", loss, self._weight(subnet) / len(subnets)

    def _weight(self, subnet: Subnet) -> float:
        """What a subnet's loss counts: where subnets near the front are trained, the less the larger it is expected to
        be. Otherwise the cheapest, which stay far away, spoil the blocks that they share with the best."""
        if self._given:
            return self._given[subnet]
        if self._training.sampling != "front":
            return 1.0
        return 1.0 / max(_LEAST, sum(self._expected.get(name, 0.0) for name in subnet))

    def _subnet_loss(
        self, phase: Phase, subnet: Subnet, batch: Batch, features: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        known = () if phase.kind == "tune" else features
        outputs = dict(self._supernet.walk(batch.images, subnet, known))
        output = outputs[self._supernet.graph[subnet[-1]]]
        if phase.kind == "tune":
            return _label_loss(output, batch)
        if phase.kind == "branch":
            return branch_loss(outputs, features, self._variances)
        loss = output_loss(output, features[-1], self._variances[-1], self._supernet.scores is not None)
        return loss + phase.features * branch_loss(outputs, features, self._variances) if phase.features else loss

    def _subnets(self, n: int, step: int) -> list[Subnet]:
        rng = random.Random(f"{self._training.seed}/subnets/{step}")
        if self._given:
            return rng.sample(list(self._given), min(n, len(self._given)))
        draws = {
            "front": lambda: self._draws.near_front(n, rng, self._expected),
            "cost": lambda: self._draws.by_cost(n, rng),
            "walk": lambda: self._draws.by_walk(n, rng),
        }
        return draws[self._training.sampling]()

    @cached_property
    def _draws(self) -> SubnetDraws:
        return SubnetDraws(self._supernet.graph, self._training.cheapest, self._cost)

    def _precision(self) -> torch.autocast:
        # Entered for one forward pass at a time: inside, cast weights are kept, and a later pass needs its own.
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._training.precision == "bfloat16")


def _label_loss(output: torch.Tensor, batch: Batch) -> torch.Tensor:
    assert batch.labels is not None
    counted = batch.labels[batch.labels != IGNORE]
    low, high = int(counted.min()), int(counted.max())
    if output.dim() not in (2, 4) or not 0 <= low <= high < output.shape[1]:
        raise TrainingError(
            f"labels go from {low} to {high}, and the network's output has shape {tuple(output.shape)}: tuning needs "
            "one score for every class; give labels of this network"
        )
    if batch.labels.shape != (output.shape[0], *output.shape[2:]):
        raise TrainingError(
            f"labels have shape {tuple(batch.labels.shape)}, and the network's output {tuple(output.shape)}: give a "
            "label of the output's shape without its dimension 1"
        )
    return F.cross_entropy(output.float(), batch.labels, ignore_index=IGNORE)
