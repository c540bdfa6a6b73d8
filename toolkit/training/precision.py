"""Which precision a step of training is faster in on this machine: `auto` finds it out by timing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import torch

from .batches import Batch
from .objective import Objective
from .phases import Phase

_IMAGES = 8
_ROUNDS = 3
_HOPELESS = 2.0  # times float32's time: what does not take bfloat16 by itself takes many times as long
_WORTH = 0.9  # of float32's time: what bfloat16 must save at least, for its rounding


def faster_precision(objectives: Mapping[str, Objective], images: torch.Tensor) -> str:
    """`bfloat16` where a local step on a few of the `images` takes at most 0.9 of its time in `float32`, else that.

    `objectives` has one for each of the two. The least of three times counts, in turn, or the first where bfloat16
    takes over twice as long; gradients are thrown away. Also `float32` where an operation of a block refuses bfloat16,
    or a loss is not finite.
    """
    batch, local = Batch(images[:_IMAGES]), Phase("local", 1, 0.0)
    least = dict.fromkeys(objectives, math.inf)
    for _ in range(_ROUNDS):
        for name, objective in objectives.items():
            began, losses = time.perf_counter(), []
            try:
                for _, loss, _ in objective.losses(local, batch, 0):
                    if loss.requires_grad:
                        loss.backward()
                    losses.append(loss.detach())
                if images.is_cuda:
                    torch.cuda.synchronize(images.device)
            except RuntimeError:
                if name == "bfloat16":
                    return "float32"
                raise
            least[name] = min(least[name], time.perf_counter() - began)
            if not all(map(math.isfinite, losses)):
                return "float32"
        if least["bfloat16"] > _HOPELESS * least["float32"]:
            break
    return "bfloat16" if least["bfloat16"] <= _WORTH * least["float32"] else "float32"
