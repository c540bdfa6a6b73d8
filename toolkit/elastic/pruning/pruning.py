"""Takes the least important channels, heads and hidden features out of a block.

Which positions belong together is found by `channels`: a channel goes with the filter that makes it, the normalisation
that scales it and the weights that read it; a head with its rows in the query, key and value layers and its columns in
the projection. The importance of a position is the magnitude of everything that goes with it (the group magnitude of
Fang et al., DepGraph, CVPR 2023), each weight tensor counted in its own mean, so that a large tensor has no more say
than a small one. The first and the last cut of the block stay as they are. A mean, a softmax or a normalisation over
channels is taken over those that stay.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from ..tracing.canonical import operation_name
from .axes import Axis, Factor, Kept, factors, has_batch, kept_positions, leaves, positions_of, size_of
from .channels import Shape, follow, zeros_for
from .layers import NORMS
from .operations import Axes, Followed

_FOLDS = {"reshape", "view", "_unsafe_view"}
_SPLITS = {"chunk", "split", "split_with_sizes", "tensor_split"}


class Pruner:
    """Makes thinner copies of one block. `shapes` are those of its inputs, the batch first."""

    def __init__(self, block: fx.GraphModule, *shapes: Shape) -> None:
        self.block = block
        self.shapes = shapes
        self.found = follow(block, shapes)
        parameters = dict(block.named_parameters(remove_duplicate=False))
        self._magnitudes = {
            name: _along_axes(parameters[name].detach()) for name in self.found.tensors if name in parameters
        }
        self.importance = {leaf: self._importance(leaf) for leaf in self._free()}

    def choose(self, ratio: float) -> dict[Factor, np.ndarray]:
        """Which positions stay, of every group of channels that loses some, when the share `ratio` is to go."""
        kept = {}
        for leaf, importance in self.importance.items():
            count = _rounded(leaf, ratio, self._width(leaf))
            if count < leaf.size:
                kept[leaf] = np.sort(np.argsort(-importance, kind="stable")[:count])
        return kept

    def thinner(self, ratio: float) -> fx.GraphModule | None:
        """A copy without the share `ratio` of its inner positions; None where there are none to lose."""
        kept = self.choose(ratio)
        return self.thinned(kept) if kept else None

    def thinned(self, kept: Kept) -> fx.GraphModule | None:
        """A copy with these positions of some leaves only; None where the block cannot be cut so."""
        thinner = copy.deepcopy(self.block)
        _Surgery(thinner, self.block, self.found, kept).perform()
        return thinner if self._still_fits(thinner) else None

    def _still_fits(self, thinner: fx.GraphModule) -> bool:
        output = self.block.graph.output_node().args[0]
        expected = self.found.values[output].shape[1:]  # type: ignore[index]
        with torch.no_grad():
            for batch in (1, 2):
                try:
                    if thinner(*zeros_for(self.shapes, batch)).shape != (batch, *expected):
                        return False
                except (RuntimeError, ValueError, IndexError):
                    return False  # a size in it is computed in a way that was not followed
        return True

    def _free(self) -> Iterator[Factor]:
        """The factors to thin: of every axis that has several, the outermost (heads before the size of a head)."""
        done: set[Factor] = set()
        inner = {leaf for axis in self._axes() for leaf in _inner(axis)}
        for axes in self.found.tensors.values():
            for axis in axes:
                for leaf in leaves(axis):
                    if _is_free(leaf) and leaf not in inner and leaf not in done:
                        done.add(leaf)
                        yield leaf

    def _axes(self) -> Iterator[Axis]:
        for axes in self.found.tensors.values():
            yield from axes

    def _width(self, leaf: Factor) -> int:
        """How many channels one position of the leaf stands for, in the widest weight that has it."""
        return max(
            (size_of(product) // leaf.size for axis in self._axes() for product in _products(axis) if leaf in product),
            default=1,
        )

    def _importance(self, leaf: Factor) -> np.ndarray:
        total = np.zeros(leaf.size)
        for name, magnitudes in self._magnitudes.items():
            for axis, along in zip(self.found.tensors[name], magnitudes, strict=True):
                positions = positions_of(axis, leaf)
                mine = positions >= 0
                if mine.any():
                    magnitude = np.bincount(positions[mine], along[mine], minlength=leaf.size)
                    total += magnitude / max(float(magnitude.mean()), 1e-30)
        return total


def _along_axes(weight: torch.Tensor) -> list[np.ndarray]:
    """For each axis of a weight, the sum of the squares at each position along it."""
    squares = weight.double().square()
    others = [[other for other in range(squares.dim()) if other != axis] for axis in range(squares.dim())]
    return [(squares.sum(away) if away else squares).numpy() for away in others]


def _is_free(leaf: Factor) -> bool:
    return not leaf.fixed and leaf.size > 1


def _inner(axis: Axis) -> Iterator[Factor]:
    """The leaves of the axis that lie inside of another free one, as the size of a head lies inside of the heads."""
    known = factors(axis)
    for factor in known:
        for part in factor.parts:
            yield from _inner((part,))
    free = [factor for factor in known if any(_is_free(leaf) for leaf in leaves((factor,)))]
    yield from leaves(tuple(free[1:]))


def _products(axis: Axis) -> Iterator[Axis]:
    """The axis as a product of leaves, or, where it is a concatenation, each of its parts so."""
    known = factors(axis)
    for factor in known:
        for part in factor.parts:
            yield from _products((part,))
    yield tuple(factor for factor in known if not factor.parts)


def _rounded(leaf: Factor, ratio: float, width: int) -> int:
    """How many positions stay: channels in eights where there are many, as suits the vector units they run on."""
    step = 1 if width > 1 or leaf.size < 8 else 4 if leaf.size < 32 else 8
    return max(step, 1, round(leaf.size * (1 - ratio) / step) * step)


class _Surgery:
    """Cuts a copy of a block down to the positions that are kept."""

    def __init__(self, thinner: fx.GraphModule, block: fx.GraphModule, found: Followed, kept: Kept) -> None:
        self.thinner, self.found, self.kept = thinner, found, kept
        self.original = dict(zip(thinner.graph.nodes, block.graph.nodes, strict=True))

    def perform(self) -> None:
        for name, axes in self.found.tensors.items():
            self._cut_tensor(name, axes)
        for path, module in self.thinner.named_modules():
            self._describe(path, module)
        for node in self.thinner.graph.nodes:
            if node.op in ("call_method", "call_function"):
                self._cut_sizes(node)
            elif node.op == "call_module" and isinstance(module := self.thinner.get_submodule(node.target), NORMS):
                module.num_features = self._size(self.found.axes[self.original[node]][1])
        self.thinner.recompile()

    def _size(self, axis: Axis) -> int:
        return len(kept_positions(axis, self.kept))

    def _changed(self, axis: Axis) -> bool:
        return any(leaf in self.kept for leaf in leaves(axis))

    def _cut_tensor(self, name: str, axes: Axes) -> None:
        if not any(self._changed(axis) for axis in axes):
            return
        path, _, leaf = name.rpartition(".")
        module = self.thinner.get_submodule(path)
        value = getattr(module, leaf)
        cut = value.detach()
        for index, axis in enumerate(axes):
            if self._changed(axis):
                cut = cut.index_select(index, torch.from_numpy(kept_positions(axis, self.kept)))
        if isinstance(value, nn.Parameter):
            setattr(module, leaf, nn.Parameter(cut, requires_grad=value.requires_grad))
        else:
            module._buffers[leaf] = cut

    def _describe(self, path: str, module: nn.Module) -> None:
        """Gives the layer's own account of its sizes."""
        if path in self.found.groups:
            count = self._size(self.found.groups[path])
            setattr(module, "num_groups" if isinstance(module, nn.GroupNorm) else "groups", count)
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor):
            return
        if isinstance(module, nn.Linear):
            module.out_features, module.in_features = weight.shape
        elif isinstance(module, nn.modules.conv._ConvTransposeNd):
            module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
        elif isinstance(module, nn.modules.conv._ConvNd):
            module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
        elif isinstance(module, nn.GroupNorm):
            module.num_channels = len(weight)
        elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            module.normalized_shape = tuple(weight.shape)
        elif isinstance(module, nn.PReLU):
            module.num_parameters = len(weight)

    def _cut_sizes(self, node: fx.Node) -> None:
        name = operation_name(node.target)
        source = self.original[node].args[0] if node.args else None
        after = self.found.axes.get(self.original[node])
        if after is None or not isinstance(source, fx.Node) or not isinstance(self.found.values[source], torch.Tensor):
            return
        before = self.found.axes[source]
        if name in _FOLDS and any(self._changed(axis) for axis in (*after, *before)):
            self._refold(node, after)
        elif name == "expand" and any(self._changed(axis) for axis in after):
            self._expand(node, after)
        elif name == "unflatten" and any(self._changed(axis) for axis in after):
            given = node.args[1] if len(node.args) > 1 else node.kwargs["dim"]
            dim = int(given) % len(before)  # type: ignore[arg-type]
            sizes = [self._size(axis) for axis in after[dim : dim + len(after) - len(before) + 1]]
            node.args, node.kwargs = (node.args[0], dim, tuple(sizes)), {}
        elif name in _SPLITS:
            self._split(node, after, before)
        elif name == "getitem":
            self._slice(node, before)
        elif name == "scaled_dot_product_attention" and self._changed(before[-1]) and node.kwargs.get("scale") is None:
            node.kwargs = {**node.kwargs, "scale": size_of(before[-1]) ** -0.5}  # what its weights were trained with

    def _refold(self, node: fx.Node, after: Axes) -> None:
        """Every size is written out but that of the batch, which may be another one at every call."""
        batch = [index for index, axis in enumerate(after) if has_batch(axis)]
        sizes: list[Any] = [self._size(axis) for axis in after]
        if len(batch) == 1:
            sizes[batch[0]] = -1
        node.args, node.kwargs = (node.args[0], tuple(sizes)), {}

    def _expand(self, node: fx.Node, after: Axes) -> None:
        given = node.args[1:] if len(node.args) > 1 else (node.kwargs["size"],)
        sizes: Any = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
        if isinstance(sizes, fx.Node):
            return  # the shape of another tensor, which is cut as well
        changed = [self._size(axis) if self._changed(axis) else size for axis, size in zip(after, sizes, strict=True)]
        node.args, node.kwargs = (node.args[0], tuple(changed)), {}

    def _split(self, node: fx.Node, after: Sequence[Axes], before: Axes) -> None:
        changed = [index for index, axis in enumerate(before) if self._changed(axis)]
        dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
        at = int(dim) % len(before)  # type: ignore[arg-type]
        if at in changed:
            sizes = [self._size(axes[at]) for axes in after]
            node.args, node.kwargs = (node.args[0], sizes, at), {}
            node.target = "split" if node.op == "call_method" else torch.split

    def _slice(self, node: fx.Node, before: Axes) -> None:
        index = node.args[1]
        wanted = list(index) if isinstance(index, tuple) else [index]
        if not any(isinstance(each, slice) for each in wanted):
            return
        at = 0
        for place, each in enumerate(wanted):
            if each is Ellipsis:
                at = len(before) - sum(later is not None for later in wanted[place + 1 :])
                continue
            if isinstance(each, slice) and self._changed(before[at]):
                bounds = (each.start, each.stop, each.step)
                values = fx.node.map_arg(bounds, lambda used: self.found.values[self.original[used]])
                start, stop, _ = slice(*values).indices(size_of(before[at]))
                positions = kept_positions(before[at], self.kept)
                wanted[place] = slice(int((positions < start).sum()), int((positions < stop).sum()), each.step)
            at += each is not None
        node.args = (node.args[0], tuple(wanted))
