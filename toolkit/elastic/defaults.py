"""Torch's defaults: float32 on the CPU, whatever a program around us, or a module that it imports, has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def ordinary_defaults() -> Iterator[None]:
    """New tensors are float32 on the CPU inside; afterwards the defaults are what they were before.

    Also a function's decorator.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    elsewhere = device.type != "cpu"
    torch.set_default_dtype(torch.float32)
    try:
        # Not entered where the default is the CPU anyway: it slows down every operation.
        with torch.device("cpu") if elsewhere else nullcontext():
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device if elsewhere else None)
