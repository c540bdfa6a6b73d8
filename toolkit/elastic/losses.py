"""How far a block is from what it stands in for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..graph import Block


def local_loss(module: nn.Module, features: Sequence[torch.Tensor], block: Block) -> torch.Tensor:
    """The mean squared error of `module`'s output against the teacher's feature, over that feature's variance.

    `features` holds the teacher's feature at every cut, batch first. `module` stands at `block`: it is fed with the
    feature at the block's start cut and compared at its end cut. A scalar, without a unit: 0 is perfect, and a block
    that gives the feature's mean has 1.
    """
    target = features[block.end]
    error: torch.Tensor = (module(features[block.start]) - target).square().mean()
    return error / target.var().clamp_min(1e-12)
