"""Sets the factors of layers, as `lowrank` blocks have them, from what the layers that they replace give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..elastic.lowrank import Factors, Layer, factors_of, numbers_of
from .least_squares import MOST_ROWS, NormalEquations, drawn

Inputs = Sequence[torch.Tensor]  # of a block, for one batch
_MOST_FITTED = 1152  # inputs, 128 channels under a 3x3 kernel: 2304 take 6 s of a core, and ResNet-50 has 6 such layers


def fit_factors(block: nn.Module, original: nn.Module, batches: Sequence[Inputs]) -> bool:
    """Sets the factors in `block` in closed form for these inputs of it and of `original`; False where it has none.

    Pair after pair: the layer that they replace is fitted by least squares, from what arrives in `block`, which the
    factors before have changed, to what it gives in `original`. The factors are the first principal components of
    what it gives then (reduced-rank regression; Izenman, 1975). Layers with more than 1152 inputs (channels times
    kernel) are not fitted: their factors are the components of what they give in `original`.
    """
    pairs = list(factors_of(block, original))
    for pair, layer in pairs:
        if layer.weight[0].numel() <= _MOST_FITTED:
            _regress(block, original, pair, layer, batches)
        else:
            _analyse(original, pair, layer, batches)
    return bool(pairs)


def _regress(block: nn.Module, original: nn.Module, pair: Factors, layer: Layer, batches: Sequence[Inputs]) -> None:
    equations = NormalEquations(layer)
    for inputs in batches:
        fed, _ = _called(block, pair.narrow, inputs)
        _, wanted = _called(original, layer, inputs)
        equations.add(fed, wanted, max(1, MOST_ROWS // len(batches)))
    if (solution := equations.solve(with_bias=True)) is not None:
        weight, bias = solution
        mean = equations.sum_x / equations.count
        covariance = equations.squares / equations.count - torch.outer(mean, mean)
        pair.set(weight, bias, weight @ mean + bias, weight @ covariance @ weight.T)


def _analyse(original: nn.Module, pair: Factors, layer: Layer, batches: Sequence[Inputs]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for inputs in batches:
        _, given = _called(original, layer, inputs)
        every = (given if isinstance(layer, nn.Linear) else given.movedim(1, -1)).flatten(0, -2)
        index = drawn(len(every), max(1, MOST_ROWS // len(batches)), generator)
        rows.append(every[index.to(every.device)].double())
    outputs = torch.cat(rows)
    pair.set(*numbers_of(layer), outputs.mean(0), torch.cov(outputs.T, correction=0))


def _called(block: nn.Module, layer: nn.Module, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer reads, and what it gives, when the block reads `inputs`."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any], given: torch.Tensor) -> None:
        seen.append((args[0] if args else named["input"], given))

    hook = layer.register_forward_hook(note, with_kwargs=True)
    try:
        block(*inputs)
    finally:
        hook.remove()
    return seen[0]
