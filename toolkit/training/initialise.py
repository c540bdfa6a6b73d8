"""Where alternatives start from, before any gradient step.

A new block begins with the weights of what it replaces. Five steps bring it nearer to the teacher's feature without a
gradient: where it stands for several blocks, it becomes the *copy* of the one that is nearest; where it is pruned, its
*channels* are chosen by the features that reach them (see `channels`); where it has layers as *factors*, these are made
for those features (see `factors`); its batch norms get the *statistics* of what they now read; and its last linear
layer is *fitted* by least squares to the teacher's feature, where everything behind that layer is affine (see
`endings`).

The original model runs once over all batches, cut by cut; its features are kept only while a block that needs them is
still to come. The last quarter of the batches is held out: nothing is estimated on it, all losses are measured on it,
and a step that makes a block's loss worse there is undone for that block.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..elastic.recipe import tensors
from ..elastic.supernet import Supernet
from ..errors import TrainingError
from ..graph.graph import Block
from .channels import Selection
from .endings import find_ending, last_activation, value_at
from .factors import fit_factors
from .least_squares import MOST_INPUTS, MOST_ROWS, NormalEquations
from .losses import relative_error
from .phases import STEPS

Features = list[torch.Tensor]  # the teacher's, at every cut, for one batch
Example = tuple[list[torch.Tensor], Features]  # what a block reads, which need not be the teacher's, and the teacher's


@dataclass(frozen=True)
class Initialised:
    """What the steps were worth: step → alternative → its local loss (see `local_loss`) on the held-out inputs.

    The first step is `weights`: the alternatives as they were made. Then come the steps in the order they were taken.
    No loss is larger than in the step before. `kept` says for which alternatives a step was taken and not undone.
    """

    losses: dict[str, dict[str, float]]
    kept: dict[str, tuple[str, ...]]


def initialise(
    supernet: Supernet,
    batches: Sequence[torch.Tensor],
    steps: Sequence[str] = STEPS,
    *,
    until: float = math.inf,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Initialised:
    """Brings the alternatives of `supernet` nearer to the teacher, in place; leaves the supernet in eval mode.

    `batches` are inputs of the model, batch first, float32. The last quarter of them, at least one, is held out; of a
    single batch, the last quarter of its inputs; a single input is used for both. `steps` are taken in order:

    `copies`: a block that was merged gets the weights of that original block in its place that has the lowest loss, of
    those whose weights have its shapes.

    `channels`: a pruned block keeps those inner channels, heads and hidden features without which the layers that read
    them, fitted again, lose least; these layers get those weights.

    `factors`: the factors of layers, as `lowrank` blocks have them, are set from what the original's layers give, on at
    most 16,384 output positions.

    `statistics`: batch norms get the mean and the variance of what they read, over all inputs and positions.

    `fit`: the last linear layer is solved for, on at most 16,384 output positions. Left as they are: layers with more
    than 4608 inputs (channels times kernel), with groups, or with anything behind them that is not affine, and blocks
    that are no `fx.GraphModule`. Where a block ends in an activation and the last original block that it stands for
    ends in the same one, the values before it are compared.

    Blocks that come up after the time `until` (of `time.monotonic`) are left as they were made, and only measured.
    `progress(blocks done, blocks in all)` is called after each.

    The same supernet and batches give the same weights. The original blocks are not changed. Raises TrainingError for
    an unknown step, no batches, an empty one, or a teacher's feature that is not finite.
    """
    for step in steps:
        if step not in STEPS:
            raise TrainingError(f"there is no step {step!r} of initialisation: known are {', '.join(STEPS)}")
    if not batches or any(len(batch) < 1 for batch in batches):
        raise TrainingError(
            f"initialisation needs inputs: got batches of {[len(batch) for batch in batches]}; give at least one input"
        )
    supernet.eval()
    fitting, held = held_out(batches)
    fixed = held_by_originals(supernet)
    losses: dict[str, dict[str, float]] = {"weights": {}, **{step: {} for step in steps}}
    kept: dict[str, list[str]] = {step: [] for step in steps}
    with torch.no_grad():
        for cut, features in teacher(supernet, [*fitting, *held]):
            selections: dict[str, Selection] = {}
            for block in supernet.alternatives():
                if block.end != cut:
                    continue
                examples: list[Example] = [
                    ([found[at] for at in supernet.graph.reads(block)], found) for found in features
                ]
                work = Work(supernet, block, fixed, examples[: len(fitting)], examples[-len(held) :], selections)
                losses["weights"][block.name] = work.loss()
                for step in steps:
                    if time.monotonic() < until and work.take(_STEPS[step]):
                        kept[step].append(block.name)
                    losses[step][block.name] = work.now
                progress(len(losses["weights"]), len(supernet.alternatives()))
    return Initialised(losses, {step: tuple(names) for step, names in kept.items()})


def held_out(batches: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The inputs to estimate on, and those to measure on."""
    if len(batches) == 1:
        (batch,) = batches
        count = max(1, len(batch) // 4)
        return ([batch[:-count]], [batch[-count:]]) if len(batch) > 1 else ([batch], [batch])
    count = max(1, len(batches) // 4)
    return list(batches[:-count]), list(batches[-count:])


def teacher(supernet: Supernet, batches: Sequence[torch.Tensor]) -> Iterator[tuple[int, list[Features]]]:
    """For every cut after the first: the features of all batches, those that are still needed; empty for the others."""
    graph = supernet.graph
    until = {cut.index: cut.index + 1 for cut in graph.cuts} | dict.fromkeys(graph.kept, graph.end)
    for block in graph.blocks:
        until[block.start] = max(until[block.start], block.end)
    features = [[batch] for batch in batches]
    _check(features, 0, "the input")
    for name in graph.oracle:
        block = graph[name]
        for found in features:
            found.append(supernet.blocks[name](*(found[cut] for cut in graph.reads(block))))
        _check(features, block.end, f"the feature that block {name!r} gives")
        yield block.end, features
        for cut in [cut for cut, last in until.items() if last == block.end]:
            for found in features:
                found[cut] = torch.empty(0)


def held_by_originals(supernet: Supernet) -> set[int]:
    """The ids of the tensors that original blocks hold, which no alternative may change."""
    originals = [supernet.blocks[name] for name in supernet.graph.oracle]
    return {id(tensor) for module in originals for tensor in (*module.parameters(), *module.buffers())}


def _check(features: Sequence[Features], cut: int, what: str) -> None:
    for found in features:
        if not torch.isfinite(found[cut]).all():
            bad = found[cut][~torch.isfinite(found[cut])][0]
            raise TrainingError(f"{what} at cut {cut} holds {bad}: look at the inputs and the weights")


class Work:
    """One alternative, examples to fit it to and to judge it by, and its loss on the latter now. `fixed` are the ids of
    tensors that stay as they are, `selections` what was worked out for other alternatives that end at the same cut."""

    def __init__(
        self,
        supernet: Supernet,
        block: Block,
        fixed: set[int],
        fitting: list[Example],
        held: list[Example],
        selections: dict[str, Selection] | None = None,
    ) -> None:
        self.block, self.fixed, self.fitting, self.held = block, fixed, fitting, held
        self.module = supernet.blocks[block.name]
        replaced = supernet.graph.replaced_by(block)
        self.originals = [supernet.blocks[name] for name in replaced]
        self.original, self.last = self.originals[-1], supernet.graph[replaced[-1]]
        self.shapes = [supernet.graph.cuts[cut].shape for cut in supernet.graph.reads(block)]
        self.selections = {} if selections is None else selections
        self.reads = supernet.graph.reads
        self.now = math.inf

    def loss(self) -> float:
        """The relative error of what the block gives on what was held out, the mean over its examples."""
        losses = [float(relative_error(self.module(*read), found[self.block.end])) for read, found in self.held]
        self.now = sum(losses) / len(losses)
        return self.now

    def may_change(self) -> bool:
        """Whether none of its tensors is an original block's, too."""
        return self.fixed.isdisjoint(map(id, (*self.module.parameters(), *self.module.buffers())))

    def take(self, step: Callable[[Work], bool]) -> bool:
        """Takes a step; undoes it and returns False where it does not help. The loss is that of the block as it is."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        before, stored = self.now, [tensor.clone() for tensor in tensors]
        if not step(self):
            return False
        after = self.loss()
        if math.isfinite(after) and not after > before:  # a loss that was not a number is no bar
            return True
        _set(tensors, stored)
        self.now = before
        return False


def _copies(work: Work) -> bool:
    """Gives a merged block the weights of the best of the original blocks in its place; False where one alone fits."""
    if work.block.kind != "merged" or not work.may_change():
        return False
    own = tensors(work.module).values()
    found = [tensors(original).values() for original in work.originals]
    found = [values for values in found if [value.shape for value in values] == [value.shape for value in own]]
    if len(found) < 2:
        return False
    losses = []
    for values in found:
        _set(own, values)
        losses.append(work.loss())
    _set(own, found[losses.index(min(losses))])
    return True


def _channels(work: Work) -> bool:
    """Makes a pruned block anew, with the channels that its features say; False where that is not possible."""
    block = work.block
    if block.kind != "pruned" or block.ratio is None or not isinstance(work.original, fx.GraphModule):
        return False
    if block.end != block.start + 1 or not work.may_change():
        return False
    if work.last.name not in work.selections:
        batches = [read for read, _ in work.fitting]
        work.selections[work.last.name] = Selection(work.original, work.shapes, batches)
    thinner = work.selections[work.last.name].thinner(block.ratio)
    own = tensors(work.module)
    made = tensors(thinner) if thinner is not None else {}
    if {name: value.shape for name, value in made.items()} != {name: value.shape for name, value in own.items()}:
        return False
    _set(own.values(), [made[name] for name in own])
    return True


def _set(values: Iterable[torch.Tensor], others: Iterable[torch.Tensor]) -> None:
    for value, other in zip(values, others, strict=True):
        value.copy_(other)


def _statistics(work: Work) -> bool:
    """Sets the statistics of every batch norm from what it reads: pooled over all inputs so far, batch after batch.

    A norm passes on what its pooled statistics make of a batch, not that batch's own: what later norms see is then
    close to what they will see in the end, also where batches are small.
    """
    pooled = [
        _Pooled(module)
        for module in work.module.modules()
        if isinstance(module, _BatchNorm)
        and module.running_mean is not None
        and id(module.running_mean) not in work.fixed
    ]
    hooks = [moments.norm.register_forward_pre_hook(moments) for moments in pooled]
    try:
        for read, _ in work.fitting if pooled else ():
            work.module(*read)
    finally:
        for hook in hooks:
            hook.remove()
    return any(moments.count for moments in pooled)


class _Pooled:
    """The mean and the sum of squared deviations of all that a norm has read, by channel (Chan et al., 1983)."""

    def __init__(self, norm: _BatchNorm) -> None:
        assert norm.running_mean is not None
        self.norm, self.count = norm, 0
        self.mean = torch.zeros_like(norm.running_mean, dtype=torch.float64)
        self.squares = torch.zeros_like(self.mean)

    def __call__(self, norm: nn.Module, read: tuple[torch.Tensor, ...]) -> None:
        x = read[0]
        # Twenty times as fast as var_mean on channels_last features.
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        count = x.numel() // x.shape[1]
        total = self.count + count
        apart = mean.double() - self.mean
        self.mean += apart * count / total
        self.squares += variance.double() * count + apart.square() * self.count * count / total
        self.count = total
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        self.norm.running_mean.copy_(self.mean)
        self.norm.running_var.copy_(self.squares / max(1, total - 1))


def _factors(work: Work) -> bool:
    return fit_factors(work.module, work.original, [read for read, _ in work.fitting])


def fit(work: Work) -> bool:
    """Solves for the last linear layer; False where that is not possible."""
    ending = find_ending(work.module, [value[:2] for value in work.fitting[0][0]], work.fixed)
    if ending is None or ending.layer.weight[0].numel() > MOST_INPUTS:
        return False
    _, activation = last_activation(ending.block)
    original = work.original
    if activation is not None and (
        not isinstance(original, fx.GraphModule) or last_activation(original)[1] != activation
    ):
        return False
    total = sum(len(found[work.block.end]) for _, found in work.fitting)
    equations = NormalEquations(ending.layer)
    for read, found in work.fitting:
        target = found[work.block.end]
        if activation is not None and isinstance(original, fx.GraphModule):
            before, _ = last_activation(original)
            target = value_at(original, before, [found[cut] for cut in work.reads(work.last)])
        rows = max(1, MOST_ROWS * len(target) // total)
        equations.add(*ending.wanted(read, target), rows)
    solution = equations.solve(ending.has_bias)
    if solution is not None:
        ending.set(*solution)
    return solution is not None


_STEPS: dict[str, Callable[[Work], bool]] = dict(
    zip(STEPS, (_copies, _channels, _factors, _statistics, fit), strict=True)
)
