"""Whether a trace computes what its model does, found on inputs that the model has an answer for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

_ROUNDING = 1e-4  # of the largest number in an output, or of 1 where that is less
_MIXED = 1e-3  # of the largest number in an output: farther apart than rounding in another batch brings them
_MIXED_SHARE = 0.1  # of the numbers in an output: where a network rounds to codes, a few may be others


def alike(one: torch.Tensor, other: torch.Tensor, widths: Sequence[int] = ()) -> bool:
    """Whether two answers are the same but for rounding.

    What rounding may change is measured by the largest number in an output: one of small numbers is held to them. Of
    several outputs in one row, batch first, each has one of the `widths`.
    """
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    if len(widths) > 1:
        return all(map(alike, one.split(list(widths), 1), other.split(list(widths), 1)))
    return torch.allclose(one, other, rtol=1e-4, atol=_ROUNDING * min(1.0, largest(other)), equal_nan=True)


def largest(tensor: torch.Tensor) -> float:
    """The largest magnitude of the finite numbers in a tensor; 0 where there are none."""
    finite = tensor[tensor.isfinite()]
    return float((finite if finite.is_complex() else finite.double()).abs().max()) if finite.numel() else 0.0


def noises(one: torch.Tensor, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of inputs to try a model on besides `one`: normal noise; numbers from 0 to 1; `one` with noise multiplied.

    A logarithm or a root has an answer for the last two.
    """
    noise = torch.randn(one.shape, generator=generator)
    yield noise, one - noise
    yield torch.rand(one.shape, generator=generator), torch.rand(one.shape, generator=generator)
    first, second = (one * (0.5 + torch.rand(one.shape, generator=generator)) for _ in range(2))
    yield first, second


def undefined(outputs: Iterable[torch.Tensor]) -> float:
    """The share of numbers that are NaN, in the output that has most of them."""
    return max(float(output.isnan().double().mean()) for output in outputs)


def mixes(alone: torch.Tensor, beside: torch.Tensor) -> bool:
    """Whether the answer to an input changes with the other inputs of its batch: `(1, …)` alone, and beside them."""
    apart = (alone.double() - beside.double()).abs() > _MIXED * largest(alone)
    return float(apart.double().mean()) > _MIXED_SHARE


def first_undefined(model: nn.Module) -> str | None:
    """The name of the first weight of a model that is not finite, or of the first buffer that holds NaN.

    A buffer may be infinite: that is how masks are written.
    """
    weights = (name for name, tensor in model.named_parameters() if not bool(tensor.isfinite().all()))
    buffers = (name for name, tensor in model.named_buffers() if bool(tensor.isnan().any()))
    return next(itertools.chain(weights, buffers), None)
