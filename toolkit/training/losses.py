"""What training minimises: how far a block's feature, or a subnet's output, is from the teacher's or from a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F

from ..elastic.supernet import Supernet, readable
from ..graph.graph import Block

_SMALLEST_VARIANCE = 1e-12  # a feature that is constant must not divide by zero


def relative_error(feature: torch.Tensor, target: torch.Tensor, variance: torch.Tensor | None = None) -> torch.Tensor:
    """The mean squared error of `feature` over the variance of `target`: 0 is perfect, 1 no better than a constant.

    Both have the same shape, whatever it is. A given `variance` (a scalar) stands in for that of the batch, which
    makes the error a plain mean over the images. Computed in float32.
    """
    target = target.float()
    scale = target.var() if variance is None else variance
    return F.mse_loss(feature.float(), target) / scale.clamp_min(_SMALLEST_VARIANCE)


def local_loss(
    supernet: Supernet, block: Block, features: Sequence[torch.Tensor], variance: torch.Tensor | None = None
) -> torch.Tensor:
    """The relative error of a block that reads the teacher's own features. `features` are the teacher's, one a cut."""
    module = supernet.blocks[block.name]
    given = (readable(module, features[cut]) for cut in supernet.graph.reads(block))
    return relative_error(module(*given), features[block.end], variance)


def local_losses(supernet: Supernet, batches: Sequence[torch.Tensor]) -> dict[str, float]:
    """Every alternative's local loss, the mean over `batches` of inputs."""
    alternatives = supernet.alternatives()
    sums = dict.fromkeys((block.name for block in alternatives), 0.0)
    with torch.no_grad():
        for batch in batches:
            features = supernet.features(batch)
            for block in alternatives:
                sums[block.name] += float(local_loss(supernet, block, features))
    return {name: total / len(batches) for name, total in sums.items()}


def variances(supernet: Supernet, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The variance of the teacher's feature at every cut, the mean over `batches` of inputs: scalars."""
    sums = [torch.zeros((), device=batches[0].device) for _ in supernet.graph.cuts]
    with torch.no_grad():
        for batch in batches:
            for cut, feature in enumerate(supernet.features(batch)):
                sums[cut] += feature.var()
    return [total / len(batches) for total in sums]


def branch_loss(
    outputs: Mapping[Block, torch.Tensor], features: Sequence[torch.Tensor], variances: Sequence[torch.Tensor]
) -> torch.Tensor:
    """The mean relative error behind a subnet's alternatives (Wen et al., MobiCom 2023).

    `outputs` are what the subnet's blocks gave, `features` and `variances` the teacher's, one a cut.
    """
    errors = [
        relative_error(output, features[block.end], variances[block.end])
        for block, output in outputs.items()
        if not block.is_original
    ]
    return torch.stack(errors).mean()


def output_loss(output: torch.Tensor, teacher: torch.Tensor, variance: torch.Tensor, scores: bool) -> torch.Tensor:
    """Kullback-Leibler divergence for class `scores` of shape (batch, classes), else the relative error.

    Several outputs in a row are no class scores, though they have that shape.
    """
    if scores and output.dim() == 2:
        student, wanted = F.log_softmax(output.float(), 1), F.log_softmax(teacher.float(), 1)
        return F.kl_div(student, wanted, log_target=True, reduction="batchmean")
    return relative_error(output, teacher, variance)
