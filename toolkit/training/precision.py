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


def faster_precision(objectives: Mapping[str, Objective], images: torch.Tensor, seconds: float = math.inf) -> str:
    """`bfloat16` where a local step on a few of the `images` takes at most 0.9 of its time in `float32`, else that.

    `objectives` has one for each of the two. The least of three times counts, in turn, or of as many as there is time
    for in `seconds`; gradients are thrown away. Also `float32` where a step in bfloat16 takes over twice as long, which
    ends it, where not one in each was done in time, where an operation of a block refuses bfloat16, and where a loss is
    not finite.
    """
    batch, until = Batch(images[:_IMAGES]), time.perf_counter() + seconds
    least = dict.fromkeys(objectives, math.inf)
    for number in range(_ROUNDS):
        for name in ("float32", "bfloat16"):
            most = math.inf if name == "float32" else _HOPELESS * least["float32"]
            try:
                took = _seconds_of_step(objectives[name], batch, most, math.inf if number else until)
            except RuntimeError:
                if name == "bfloat16":
                    return "float32"
                raise
            if not math.isfinite(took):
                return "float32"
            least[name] = min(least[name], took)
        if time.perf_counter() > until:
            break
    return "bfloat16" if least["bfloat16"] <= _WORTH * least["float32"] else "float32"


def _seconds_of_step(objective: Objective, batch: Batch, most: float, until: float) -> float:
    """What a local step takes; infinity where it was ended after `most` seconds or at the moment `until`, and where a
    loss is not finite."""
    began, losses = time.perf_counter(), []
    for _, loss, _ in objective.losses(Phase("local", 1, 0.0), batch, 0):
        if loss.requires_grad:
            loss.backward()
        losses.append(loss.detach())
        if (now := time.perf_counter()) - began > most or now > until:
            return math.inf
    if batch.images.is_cuda:
        torch.cuda.synchronize(batch.images.device)
    took = time.perf_counter() - began
    return took if all(map(math.isfinite, losses)) else math.inf
