"""What comes before the first gradient step: alternatives initialised, thinned out, and fitted to what arrives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..elastic.supernet import Supernet
from .arriving import fit_arriving
from .initialise import initialise
from .phases import Training
from .subnet_draws import SubnetDraws, costs_of
from .thinning import Thinned, thin

Preparing = Callable[[str, int, int], None]
_WORST = 1e9  # a local loss: that of a constant is 1


@dataclass(frozen=True)
class Begun:
    """`losses`: step → alternative → its local loss, for `arriving` of those that are left only. `thinned` is None
    where all were to stay."""

    losses: dict[str, dict[str, float]]
    thinned: Thinned | None


def begin(
    supernet: Supernet,
    calibration: Sequence[torch.Tensor],
    training: Training,
    cost: Mapping[str, float] | None,
    seconds: float,
    preparing: Preparing,
) -> Begun:
    """Changes weights of `supernet` in place; what is to be left out is only named. `seconds` bounds it, about."""
    until = time.monotonic() + seconds
    what = "initialising" if training.initialise else "measuring blocks"
    losses = initialise(
        supernet,
        calibration,
        training.initialise,
        until=until,
        progress=lambda done, total: preparing(what, done, total),
    ).losses
    known, thinned = expected(losses, training), None
    if training.storage is not None:
        guesses = [] if cost else [by_layers_too(supernet)]
        own = sum(block.params for block in supernet.graph.blocks if block.is_original)
        limit = max(training.storage, training.storage_least / max(own, 1))
        thinned = thin(supernet.graph, costs_of(supernet.graph, cost), known, limit, guesses)
    if training.arriving:
        left = supernet.without(thinned.names) if thinned else supernet
        subnets = SubnetDraws(left.graph, training.cheapest, cost).front(training.arriving, known)
        losses["arriving"] = fit_arriving(
            left,
            calibration,
            subnets,
            until=until,
            progress=lambda done, total: preparing("fitting to what arrives", done, total),
        )
    return Begun(losses, thinned)


def by_layers_too(supernet: Supernet) -> dict[str, float]:
    """What blocks cost by the multiply-accumulates and the number of their layers, which count alike in the oracle.

    A layer costs something however thin it is: a block of half the channels takes more than half of the time, two
    blocks merged into one do not.
    """

    def layers(name: str) -> int:
        return sum(any(True for _ in module.parameters(recurse=False)) for module in supernet.blocks[name].modules())

    counts = {block.name: np.array([block.macs, layers(block.name)], float) for block in supernet.graph.blocks}
    whole = np.maximum(sum(counts[name] for name in supernet.graph.oracle), 1)
    return {name: float((count / whole).sum()) for name, count in counts.items()}


def expected(losses: Mapping[str, Mapping[str, float]], training: Training) -> Mapping[str, float]:
    """Every alternative's local loss as initialised: by it the front is expected before anything is trained.

    A loss that is not finite is taken for a very large one, so that the front does not lead through its block.
    """
    known = losses[training.initialise[-1] if training.initialise else "weights"]
    return {name: loss if math.isfinite(loss) else _WORST for name, loss in known.items()}
