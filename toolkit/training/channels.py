"""Which inner channels, heads and hidden features a pruned block keeps, chosen by the features that reach it.

By its weights alone (`elastic.pruning`) a channel is judged without knowing how often it says something, and whether
others say the same. Here the layer that reads the channels is asked how well it could still give what it gives without
some of them, if its weights for the others made up for it. With W its weights and M the second moments of what it
reads, the best weights for the inputs S that stay are W M_:S M_SS⁻¹. Positions go one after another, the one whose loss
costs least first; with H the inverse of M for the inputs that are left, a position read by the columns g costs
tr(W_g H_gg⁻¹ W_gᵀ) (the optimal brain surgeon of Hassibi and Stork, 1993, on groups of weights).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from ..elastic.kinds import trainable_copy
from ..elastic.pruning.axes import Factor, Kept, kept_positions, positions_of
from ..elastic.pruning.operations import Axes
from ..elastic.pruning.pruning import Pruner
from .endings import LinearLayer, find_ending, layer_at, norm_behind
from .least_squares import MOST_INPUTS, MOST_ROWS, ROWS_ALIKE, NormalEquations

_UNEXPLAINED = 0.4  # of what a layer gives, for a choice: how much will be is not known before it
_AT_ONCE = 1 / 16  # of the positions that are left go before the costs are worked out anew


class Selection:
    """Makes thinner copies of `original`, whose inner positions are chosen by `batches` of what it reads.

    `shapes` are those of its inputs, the batch first. Positions that no layer without groups reads, or one with more
    than 4608 inputs (channels times kernel), are chosen by their weights.
    """

    def __init__(
        self, original: fx.GraphModule, shapes: Sequence[tuple[int, ...]], batches: Sequence[Sequence[torch.Tensor]]
    ) -> None:
        block = trainable_copy(original)
        self._pruner = Pruner(trainable_copy(original).cpu(), *shapes)
        self._readers = list(_readers(block, self._pruner, batches))
        ending = find_ending(block, [value[:2] for value in batches[0]])
        for reader in self._readers:
            if ending is not None and reader.layer is ending.layer:
                reader.power = ending.power.double().clamp_min(0)
        self._eliminations: dict[Factor, Elimination] = {}

    def thinner(self, ratio: float) -> fx.GraphModule | None:
        """A copy without the share `ratio` of its inner positions; None where none is chosen by what is read.

        The layers that read what stays make up for what went.
        """
        kept = self._pruner.choose(ratio)
        for leaf, by_weights in kept.items():
            if (elimination := self._elimination(leaf)) is not None:
                kept[leaf] = elimination.kept(len(by_weights))
        thinner = self._pruner.thinned(kept) if self._eliminations else None
        if thinner is not None:
            for reader in self._readers:
                reader.make_up(thinner, kept)
        return thinner

    def _elimination(self, leaf: Factor) -> Elimination | None:
        if leaf not in self._eliminations:
            asked = [reader for reader in self._readers if _reads(reader.axes, leaf)]
            asked = [reader for reader in asked if reader.power is not None] or asked  # what the block gives counts
            if not asked or any(reader.moments is None for reader in asked):
                return None
            self._eliminations[leaf] = Elimination([reader.side(leaf) for reader in asked], leaf.size)
        return self._eliminations[leaf]


@dataclass
class Side:
    """A layer that reads the positions that are to go. `columns` are for each position those of `weight`, of shape
    (outputs, inputs); `inverse` is that of the second moments, (inputs, inputs). Both are changed in place."""

    columns: Sequence[torch.Tensor]
    weight: torch.Tensor
    inverse: torch.Tensor

    def costs(self, positions: Sequence[int]) -> torch.Tensor:
        """What it costs to lose each of the positions: the mean squared error of the outputs, summed over them."""
        found = torch.zeros(len(positions), dtype=self.weight.dtype, device=self.weight.device)
        for size in {len(self.columns[at]) for at in positions}:
            which = [index for index, at in enumerate(positions) if len(self.columns[at]) == size]
            columns = torch.stack([self.columns[positions[index]] for index in which])
            own = self.inverse[columns[:, :, None], columns[:, None, :]]
            read = self.weight[:, columns].permute(1, 2, 0)
            found[which] = (torch.linalg.solve(own, read) * read).sum((1, 2))
        return found

    def remove(self, positions: Sequence[int]) -> None:
        """Takes positions out; the weights for the others make up for them."""
        columns = torch.cat([self.columns[at] for at in positions])
        rows = self.inverse[columns]
        solved = torch.linalg.solve(rows[:, columns], rows)
        self.weight -= self.weight[:, columns] @ solved
        self.inverse -= rows.T @ solved


class Elimination:
    """Takes out of `size` positions, step by step, those that `sides` together can best do without."""

    def __init__(self, sides: Sequence[Side], size: int) -> None:
        self._sides, self._left, self._gone = sides, list(range(size)), list[int]()

    def kept(self, count: int) -> np.ndarray:
        """The `count` positions to keep, ascending. Those of a smaller count are among those of a larger one."""
        while len(self._left) > count:
            costs = torch.stack([side.costs(self._left) for side in self._sides]).sum(0)
            some = min(len(self._left) - count, max(1, int(len(self._left) * _AT_ONCE)))
            going = {self._left[index] for index in torch.argsort(costs, stable=True)[:some].tolist()}
            for side in self._sides:
                side.remove(sorted(going))
            self._left = [at for at in self._left if at not in going]
            self._gone += sorted(going)
        back = count - len(self._left)
        return np.sort([*self._left, *self._gone[len(self._gone) - back :]])


@dataclass
class _Reader:
    """A layer of the block: its weights (outputs, inputs), the mean (inputs) of what it reads, 0 where no constant can
    be added to what it gives, and the second moments around that, (inputs, inputs); None for a layer with too many
    inputs. `ridge`, times the share of the outputs that stays unexplained, is added to every variance, as in
    `least_squares`. `power` is what an error of each output counts; None where that is not known."""

    path: str
    norm: str | None
    layer: LinearLayer
    axes: Axes
    weight: torch.Tensor
    mean: torch.Tensor
    moments: torch.Tensor | None
    ridge: float = 0.0
    power: torch.Tensor | None = None

    def side(self, leaf: Factor) -> Side:
        """Errors count as shares of the variance of all outputs together."""
        weight = self.weight if self.power is None else self.weight * self.power.sqrt()[:, None]
        scale = self._squares(weight).clamp_min(1e-30).rsqrt()
        positions = np.repeat(positions_of(self.axes[1], leaf), self._kernel)
        columns = [torch.from_numpy(np.flatnonzero(positions == at)).to(weight.device) for at in range(leaf.size)]
        factor = torch.linalg.cholesky(self._ridged(_UNEXPLAINED))
        return Side(columns, weight * scale, torch.cholesky_inverse(factor))

    def make_up(self, thinner: fx.GraphModule, kept: Kept) -> None:
        """Gives the layer in `thinner` the weights that are best for the inputs that stay there."""
        outputs, inputs = (torch.from_numpy(kept_positions(axis, kept)) for axis in self.axes[:2])
        if self.moments is None or len(inputs) * self._kernel == len(self.mean):
            return
        stay = (inputs[:, None] * self._kernel + torch.arange(self._kernel)).flatten()
        goal = self.weight[outputs]
        missing = goal.clone()
        missing[:, stay] -= self._best(goal, stay, 1 / ROWS_ALIKE)
        unexplained = self._squares(missing) / self._squares(goal).clamp_min(1e-30)
        weight = self._best(goal, stay, float(unexplained.clamp(1e-6, 1)))
        shift = goal @ self.mean - weight @ self.mean[stay]
        layer: Any = thinner.get_submodule(self.path)
        with torch.no_grad():
            layer.weight.copy_(weight.view(layer.weight.shape))
            if layer.bias is not None:
                layer.bias += shift.to(layer.bias)
            elif self.norm is not None:
                norm: Any = thinner.get_submodule(self.norm)
                norm.running_mean -= shift.to(norm.running_mean)

    def _best(self, goal: torch.Tensor, stay: torch.Tensor, unexplained: float) -> torch.Tensor:
        """The weights for the inputs that stay that come nearest to `goal`, which reads all."""
        rows = self._ridged(unexplained)[stay]
        weight: torch.Tensor = torch.linalg.solve(rows[:, stay], rows @ goal.T).T
        return weight

    def _ridged(self, unexplained: float) -> torch.Tensor:
        assert self.moments is not None
        ridged = self.moments.clone()
        ridged.diagonal().add_(unexplained * self.ridge)
        return ridged

    def _squares(self, weight: torch.Tensor) -> torch.Tensor:
        """The mean square of what such weights give, summed over the outputs."""
        assert self.moments is not None
        return (weight @ self.moments * weight).sum()

    @property
    def _kernel(self) -> int:
        return self.layer.weight[0, 0].numel()


def _reads(axes: Axes, leaf: Factor) -> bool:
    """Whether a layer, whose weight has these axes, reads positions of the leaf."""
    return bool((positions_of(axes[1], leaf) >= 0).any())


def _readers(block: fx.GraphModule, pruner: Pruner, batches: Sequence[Sequence[torch.Tensor]]) -> Iterator[_Reader]:
    """The layers without groups that read what can go, once the block has read the batches."""
    found: list[tuple[fx.Node, LinearLayer, Axes]] = []
    for node in block.graph.nodes:
        layer = layer_at(block, node)
        axes = pruner.found.tensors.get(f"{node.target}.weight")
        if layer is not None and axes and any(_reads(axes, leaf) for leaf in pruner.importance):
            found.append((node, layer, axes))
    equations: dict[nn.Module, NormalEquations] = {
        layer: NormalEquations(layer) for _, layer, _ in found if layer.weight[0].numel() <= MOST_INPUTS
    }
    rows = max(1, MOST_ROWS // len(batches))

    def add(layer: nn.Module, read: tuple[Any, ...], named: dict[str, Any], given: torch.Tensor) -> None:
        equations[layer].add(read[0] if read else named["input"], given, rows)

    hooks = [layer.register_forward_hook(add, with_kwargs=True) for layer in equations]
    with torch.no_grad():
        for batch in batches if hooks else ():
            block(*batch)
    for hook in hooks:
        hook.remove()
    for node, layer, axes in found:
        norm = str(next(iter(node.users)).target) if norm_behind(block, node) is not None else None
        weight = layer.weight.detach().flatten(1).double()
        reader = _Reader(str(node.target), norm, layer, axes, weight, torch.zeros_like(weight[0]), None)
        if (sums := equations.get(layer)) is not None:
            reader.moments = sums.squares / sums.count
            if layer.bias is not None or norm is not None:
                reader.mean = sums.sum_x / sums.count
                reader.moments -= torch.outer(reader.mean, reader.mean)
            mean_variance = float(reader.moments.diagonal().mean())
            reader.ridge = max(1e-30, ROWS_ALIKE * len(reader.mean) / sums.count * mean_variance)
        yield reader
