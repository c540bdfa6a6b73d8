"""What the alternatives are given before the first step of training, from a few batches and without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .losses import local_losses
from .supernet import Supernet


@dataclass(frozen=True)
class Initialised:
    """The local loss of every alternative: as it was made (`weights`), and after each step of the initialisation."""

    losses: dict[str, dict[str, float]]


def initialise(
    supernet: Supernet, batches: Sequence[torch.Tensor], steps: Sequence[str] = ("statistics",)
) -> Initialised:
    """Gives the alternatives' batch norms the statistics of their own inputs: the plain mean over `batches`."""
    losses = {"weights": local_losses(supernet, batches)}
    for step in steps:
        _recalibrate(supernet, batches)
        losses[step] = local_losses(supernet, batches)
    return Initialised(losses)


def _recalibrate(supernet: Supernet, batches: Sequence[torch.Tensor]) -> None:
    norms = {
        block.name: [m for m in supernet.blocks[block.name].modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for block in supernet.alternatives()
    }
    moments = {norm: norm.momentum for group in norms.values() for norm in group}
    for norm in moments:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a cumulative mean
        norm.train()
    with torch.no_grad():
        for batch in batches:
            features = supernet.features(batch)
            for block in supernet.alternatives():
                if norms[block.name]:
                    supernet.blocks[block.name](features[block.start])
    for norm, momentum in moments.items():
        norm.momentum = momentum
        norm.eval()
