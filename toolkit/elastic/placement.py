"""Where the arithmetic of training runs: this machine's CPU or a CUDA GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import TrainingError
from .supernet import Supernet

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


@contextmanager
def placed(supernet: Supernet, device: torch.device) -> Iterator[None]:
    """The supernet on `device`, and afterwards back where it was."""
    home = next(supernet.parameters()).device
    supernet.to(device)
    try:
        yield
    finally:
        supernet.to(home)
