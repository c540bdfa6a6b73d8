"""Blocks by structure: stretches of the graph that repeat, whatever modules a model writes them in.

A layer with weights, and the norm and the activation that only follow it, are never cut apart: together they are an
*atom*. Where a residual connection or a branch keeps several layers together, all of them are one. Two atoms are alike
when they have the same operations, wired alike; channels, strides and the like may differ, as they do from stage to
stage of a network. Atoms in a row repeat when atoms like them, in that order, stand elsewhere too.

What repeats becomes a block where there is something inside to make smaller: at least two layers that mix channels. So
of a plain chain, two convolutions in a row become a block, or two pairs of a depthwise and a pointwise one. A chain
that is so short that few such blocks would be left has smaller ones, if these leave more to choose between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from torch import fx, nn

from .canonical import operation_name
from .cuts import is_weighted, mixes_channels

_LONGEST = 8  # atoms in a row that are looked at together
_FEW = 4  # fewer blocks than this leave little to choose between
# A block is worth the layers in it that mix channels, and
_OTHER = 0.1  # so much for every other layer,
_EACH = 0.6  # so much for itself, because smaller ones leave more to choose between,
_RESIDUAL = 1.1  # so much more where it adds to its input, so that it can be skipped or merged,
_IS_MODULE = 0.05  # a little more where it is a module,
_ACROSS = 0.5  # and so much less where it reaches over a change of resolution.


@dataclass(frozen=True)
class _Atom:
    """Segments that stay together, by their numbers: a layer with weights and what only follows it.

    `like` says what it is made of, `layers` how many of its operations are layers with weights, and `dense` how many of
    these mix channels. `start` and `end` are the tensors around it, and `resolutions` how many pixels or positions
    these have.
    """

    segments: range
    like: tuple[object, ...]
    layers: int
    dense: int
    start: fx.Node
    end: fx.Node
    resolutions: tuple[object, object]

    @property
    def residual(self) -> bool:
        """Whether it keeps the shape, and reads its input in several places, as what adds to its input does."""
        readers = [user for user in self.start.users if user.meta.get("dtype")]  # not what asks for its size alone
        return len(readers) > 1 and _shape(self.start) == _shape(self.end)


def repeats(
    traced: fx.GraphModule,
    segments: Sequence[tuple[fx.Node, ...]],
    start: fx.Node,
    modules: Collection[range] = (),
    fine: bool = False,
) -> list[range]:
    """Runs of segments that make up a block each, in order. Empty where nothing repeats.

    `segments` are the nodes between neighbouring cuts, and `start` is the tensor at the first. Of several ways to
    divide the graph that are as good, the one with the most runs that are in `modules`, which a model has as one each,
    is taken. `fine` takes the smallest runs that hold a layer that mixes channels.
    """
    atoms = _atoms_of(traced, segments, start)
    runs = [] if fine else _divided(atoms, _has_inside, modules)
    if len(runs) < _FEW:
        smaller = _divided(atoms, lambda run: any(atom.dense for atom in run), modules)
        if fine or _options(smaller, 0) > _options(runs, 2):
            runs = smaller
    return [_segments(run) for run in runs] if len(runs) > 1 else []


def _atoms_of(traced: fx.GraphModule, segments: Sequence[tuple[fx.Node, ...]], start: fx.Node) -> list[_Atom]:
    """What must not be cut apart, in order. Segments without weights that change the shape belong to none."""
    starts = [start, *(nodes[-1] for nodes in segments)]
    atoms, number = [], 0
    while number < len(segments):
        first, number = number, number + 1
        layers = [node for node in segments[first] if is_weighted(traced, node)]
        if not layers:
            continue
        while number < len(segments) and _follows(traced, segments[number], starts[number]):
            number += 1
        nodes = [node for at in range(first, number) for node in segments[at]]
        dense = [node for node in layers if mixes_channels(traced, node)]
        last = (dense or layers)[-1]
        atoms.append(
            _Atom(
                range(first, number),
                structure(traced, nodes, starts[first]),
                len(layers),
                len(dense),
                starts[first],
                nodes[-1],
                (_resolution(traced, last, starts[first]), _resolution(traced, last, nodes[-1])),
            )
        )
    return atoms


def _segments(run: Sequence[_Atom]) -> range:
    return range(run[0].segments.start, run[-1].segments.stop)


def _follows(traced: fx.GraphModule, nodes: Sequence[fx.Node], before: fx.Node) -> bool:
    """Whether a segment only normalises or activates: it has no layer with weights, and keeps the shape."""
    return not any(is_weighted(traced, node) for node in nodes) and _shape(nodes[-1]) == _shape(before)


def structure(traced: fx.GraphModule, nodes: Sequence[fx.Node], start: fx.Node) -> tuple[object, ...]:
    """What a stretch of the graph does from the tensor `start` on: equal for two that are alike."""
    return tuple(_description(traced, node, nodes, start) for node in nodes)


def _description(traced: fx.GraphModule, node: fx.Node, nodes: Sequence[fx.Node], start: fx.Node) -> object:
    """What a node does, and where in the atom it reads from."""
    wiring = tuple(
        "start" if used is start else nodes.index(used) if used in nodes else "elsewhere"
        for used in node.all_input_nodes
        if used.op != "get_attr"
    )
    if node.op != "call_module":
        return _activation(operation_name(node.target)), wiring
    layer = traced.get_submodule(str(node.target))
    pointwise = getattr(layer, "kernel_size", None) in ((1,), (1, 1), (1, 1, 1))
    return _activation(type(layer).__name__), pointwise, mixes_channels(traced, node), wiring


def _activation(name: str) -> str:
    """One name for all activations, as functions or modules."""
    is_one = name.lower() in _ACTIVATIONS or hasattr(nn.modules.activation, name)
    return "activation" if is_one and name != "MultiheadAttention" else name


_ACTIVATIONS = {"relu", "relu6", "silu", "gelu", "hardswish", "sigmoid", "tanh", "elu", "leaky_relu", "mish", "celu"}


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["seen"][0])


def _resolution(traced: fx.GraphModule, layer: fx.Node, at: fx.Node) -> tuple[int, ...]:
    """The sides of a tensor that are neither batch nor channels, as the layer beside it has them."""
    linear = layer.op == "call_module" and isinstance(traced.get_submodule(str(layer.target)), nn.Linear)
    return _shape(at)[1:-1] if linear else _shape(at)[2:]


def _has_inside(run: Sequence[_Atom]) -> bool:
    """Whether a layer that mixes channels is followed by another, with channels between them that nothing else reads.

    What one residual connection after the other passes on is no such inside.
    """
    return any(atom.dense > 1 for atom in run) or (
        sum(atom.dense for atom in run) > 1 and not any(atom.residual for atom in run[1:])
    )


def _divided(
    atoms: Sequence[_Atom], able: Callable[[Sequence[_Atom]], bool], modules: Collection[range]
) -> list[Sequence[_Atom]]:
    """The runs of atoms that cover the most layers, of those that repeat and are `able`."""
    runs = [
        run
        for length in range(1, _LONGEST + 1)
        for first in range(len(atoms) - length + 1)
        if able(run := atoms[first : first + length])
    ]
    places: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for run in runs:
        places[tuple(atom.like for atom in run)].append(run[0].segments.start)
    found: list[tuple[float, list[Sequence[_Atom]]]] = [(0.0, [])]  # the best for so many of the first atoms
    ending: dict[int, list[Sequence[_Atom]]] = defaultdict(list)
    at = {atom.segments.start: number for number, atom in enumerate(atoms)}
    for run in runs:
        first = at[run[0].segments.start]
        others = places[tuple(atom.like for atom in run)]
        if any(abs(at[other] - first) >= len(run) for other in others):
            ending[first + len(run)].append(run)
    for end in range(1, len(atoms) + 1):
        best = found[-1]
        for run in ending[end]:
            worth, before = found[end - len(run)]
            across = len(run) > 1 and run[0].resolutions[1] != run[-1].resolutions[0]
            worth += _RESIDUAL * all(atom.residual for atom in run)
            worth += _IS_MODULE * (_segments(run) in modules)
            worth += sum(atom.dense + _OTHER * (atom.layers - atom.dense) for atom in run) + _EACH - _ACROSS * across
            if worth > best[0]:
                best = worth, [*before, run]
        found.append(best)
    return found[-1][1]


def _options(runs: Iterable[Sequence[_Atom]], inside: int) -> int:
    """About how many alternatives blocks would have: `inside` each, and one where the shape is kept."""
    return sum(inside + (_shape(run[0].start) == _shape(run[-1].end)) for run in runs)
