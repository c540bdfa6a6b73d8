"""Where the arithmetic of training runs: this machine's CPU or a CUDA GPU."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch

from ..elastic.supernet import Supernet
from ..errors import TrainingError
from ..graph.graph import BlockGraph
from .phases import Training

DEVICES = ("auto", "cpu", "cuda")


def find_device(name: str) -> torch.device:
    """The device called `cpu` or `cuda`, or with `auto` CUDA where there is one.

    Of several GPUs each worker that torchrun started takes its own. Raises TrainingError for a device that is not
    there.
    """
    if name not in DEVICES:
        raise TrainingError(f"device is {name!r}; known are {', '.join(DEVICES)}")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    number, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= count:
        raise TrainingError(
            f"device cuda:{number} was asked for and torch {torch.__version__} sees {count} of them: "
            "use device cpu, fewer workers, or a build of torch for your GPU"
        )
    return torch.device("cuda", number)


def check_memory(graph: BlockGraph, training: Training, device: torch.device) -> None:
    """Raises TrainingError when the batches of `training` cannot fit into the memory of `device`.

    What is counted is the least that is held at once: the calibration batches with two features each while blocks are
    initialised, and one batch with the features at all cuts. A step needs more than that.
    """
    sizes = [cut.bytes for cut in graph.cuts]
    pair = max(one + other for one, other in pairwise(sizes))
    needed = training.batch_size * max(training.calibration_batches * (sizes[0] + pair), sum(sizes))
    held = _memory(device)
    if needed > held:
        raise TrainingError(
            f"batch_size is {training.batch_size}, which needs at least {needed / 1e9:.1f} GB of memory, and {device} "
            f"has {held / 1e9:.1f} GB: at most {int(training.batch_size * held / needed)} could fit; take far fewer"
        )


def _memory(device: torch.device) -> float:
    """The bytes of memory that a device has in all; infinite where that is not known."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


@contextmanager
def placed(supernet: Supernet, device: torch.device) -> Iterator[None]:
    """The supernet on `device`, and afterwards back where it was."""
    home = next(supernet.parameters()).device
    supernet.to(device)
    try:
        yield
    finally:
        supernet.to(home)
