"""Follows the channels, heads and hidden features of a block from layer to layer.

`follow` runs a block once and says of every tensor in it, weights included, what its axes are (see `axes`). An axis
that touches the block's input or output keeps its size, and so does one that meets an operation that is not known
here: whatever is not understood is left as it is.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from ..tracing.recorder import holds_tensors, shape_of
from .axes import Factor, fixed_axis, size_of
from .layers import layer_axes
from .operations import Axes, Followed, fix_all, rule_for

Shape = tuple[int, ...]


def follow(block: fx.GraphModule, shapes: Sequence[Shape]) -> Followed:
    """The axes of every tensor in `block`, whose inputs have `shapes`, the batch first. The block is run at 2."""
    follower = _Follower(block)
    with torch.no_grad():
        follower.run(*zeros_for(shapes, 2))
    return follower.found


def zeros_for(shapes: Sequence[Shape], batch: int) -> list[torch.Tensor]:
    """Zeros for all that a block reads, in a batch of so many."""
    return [torch.zeros(batch, *shape[1:]) for shape in shapes]


class _Follower(fx.Interpreter):
    def __init__(self, block: fx.GraphModule) -> None:
        super().__init__(block)
        self.found = Followed()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        large = isinstance(result, torch.Tensor) and result.numel() > 1  # what is no index: it is not kept
        self.found.values[n] = shape_of(result) if large else result
        if n.op == "placeholder":
            batch, *rest = result.shape
            self.found.axes[n] = [(Factor(batch, batch=True),), *(fixed_axis(size) for size in rest)]
        elif n.op == "output":
            self._fix_inputs(n)
        elif n.op == "get_attr":
            self.found.axes[n] = self._tensor(str(n.target), result)
        elif n.target is operator.setitem:
            self._fix_inputs(n)
        elif holds_tensors(result):
            try:
                axes = self._follow(n, result)
            except (LookupError, TypeError, ValueError, AttributeError):
                axes = None  # called in a way that is not known here
            if axes is None or not _fits(axes, result):
                self._fix_inputs(n)
                self._fix_weights(n)
                axes = _fixed(result)
            self.found.axes[n] = axes
        return result

    def _follow(self, n: fx.Node, result: Any) -> Any:
        if n.op == "call_module":
            path = str(n.target)
            module = self.submodules[path]
            return layer_axes(self.found, n, module, self._weights(path, module), result)
        rule = rule_for(n)
        return rule(self.found, n, result) if rule else None

    def _fix_inputs(self, n: fx.Node) -> None:
        for used in self.found.operands(n):
            fix_all(self.found.axes[used])

    def _fix_weights(self, n: fx.Node) -> None:
        """A module that is not understood keeps its weights as they are."""
        if n.op == "call_module":
            for axes in self._weights(str(n.target), self.submodules[str(n.target)]).values():
                fix_all(axes)

    def _tensor(self, name: str, value: torch.Tensor) -> Axes:
        if name not in self.found.tensors:
            self.found.tensors[name] = [(Factor(size),) for size in value.shape]
        return self.found.tensors[name]

    def _weights(self, path: str, module: nn.Module) -> dict[str, Axes]:
        named = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        return {name: self._tensor(f"{path}.{name}", value) for name, value in named}


def _fits(axes: Any, result: Any) -> bool:
    if isinstance(result, torch.Tensor):
        return isinstance(axes, list) and [size_of(axis) for axis in axes] == list(result.shape)
    return len(axes) == len(result) and all(_fits(some, item) for some, item in zip(axes, result, strict=True))


def _fixed(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return [fixed_axis(size) for size in result.shape]
    if isinstance(result, (tuple, list)):
        return [_fixed(item) for item in result]
    return None
