"""Where a network can be cut: from its own data flow, not from a list of architectures.

A *cut* is a place where one tensor, batch first, carries everything that is still needed. Sizes do not count: a block
reads them from its own input, or knows them. Where a head at the end reads several features (a feature pyramid, the
skips of a U-Net, the input to which a denoiser adds what it found), those are *taps*: cuts whose tensor is kept for the
head, so that the backbone between them can be cut as if the head read its last feature only.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import fx, nn

from ...errors import ModelError
from ...plurals import number_of
from .canonical import operation_name

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear, nn.MultiheadAttention, nn.RNNBase)
_WEIGHTED_FUNCTIONS = {torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose2d, nn.functional.linear}
_MOST_TAPS = 16
_CHOICES = 32  # sets of taps to look at closely


@dataclass(frozen=True)
class Cuts:
    """The nodes that depend on the input, in order; the indices of those after which to cut, the input's first; which
    of the cuts are taps (nodes); and after each node those that are still needed, as bits."""

    flow: tuple[fx.Node, ...]
    places: tuple[int, ...]
    taps: frozenset[fx.Node]
    alive: tuple[int, ...]

    def needed_after(self, node: fx.Node) -> list[fx.Node]:
        """What is still needed after a node, itself left out."""
        return [held for held in held_in(self.flow, self.alive[self.flow.index(node)]) if held is not node]

    def segments(self) -> list[tuple[fx.Node, ...]]:
        """The nodes between neighbouring cuts. The input itself (the first cut) belongs to none."""
        return [self.flow[start + 1 : end + 1] for start, end in pairwise(self.places)]


def find_cuts(traced: fx.GraphModule) -> list[Cuts]:
    """Every place where the model can be cut: without taps first, then with the taps that free the most layers.

    Raises ModelError when there are fewer than two inner places, naming what stays alive throughout, or when the model
    cannot be cut at its output.
    """
    flow = flow_of(traced.graph)
    alive = alive_after(flow)
    weighted = [is_weighted(traced, node) for node in flow]
    choices = [(places, taps) for places, taps in _choices(flow, alive, weighted) if len(places) > 2]
    if not choices:
        raise ModelError(f"{traced._get_name()} cannot be cut: {_obstacle(flow, alive)}")
    output = traced.graph.output_node().args[0]
    if any(flow[places[-1]] is not output for places, _ in choices):
        raise ModelError(
            f"{traced._get_name()} cannot be cut at its output: it is no float32 tensor with the batch first"
        )
    return [
        Cuts(tuple(flow), tuple(places), frozenset(flow[tap] for tap in _bits(taps)), tuple(alive))
        for places, taps in choices
    ]


def is_weighted(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a layer that mixes channels or pixels by weights, as a module or with weights of its own."""
    if node.op == "call_module":
        return isinstance(traced.get_submodule(str(node.target)), WEIGHTED)
    return node.op == "call_function" and node.target in _WEIGHTED_FUNCTIONS


def mixes_channels(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a layer with weights mixes channels: it is not depthwise."""
    layer = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    groups = getattr(layer, "groups", 1)
    return not (groups > 1 and groups == getattr(layer, "in_channels", 0))


def is_derivable(node: fx.Node) -> bool:
    """Whether a node is no tensor, and follows from the batch size alone."""
    if node.meta["dtype"] is not None or node.meta["read"]:
        return False
    at_two, at_three = node.meta["seen"]
    return _derivable(node.meta["alone"], at_two, at_three)


def is_shared(node: fx.Node) -> bool:
    """Whether a node is a cut that any later block may read besides where it starts (see `sharing`)."""
    return bool(node.meta.get("shared"))


def is_from_row(node: fx.Node) -> bool:
    """Whether a node is a constant of a run, which a block reads from the row of all inputs (see `inputs`)."""
    return bool(node.meta.get("from_row"))


def _derivable(*at: Any) -> bool:
    """A constant, a multiple of the batch size, a tuple of such, from what it was at batch sizes 1, 2 and 3."""
    if all(isinstance(value, tuple) for value in at) and len({len(value) for value in at}) == 1:
        return all(_derivable(*values) for values in zip(*at))
    if all(isinstance(value, (int, float)) for value in at):
        return len(set(at)) == 1 or all(value == size * at[0] for size, value in enumerate(at, 1))
    return False


def flow_of(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that depend on the input, in order. Weights, constants and sizes are wherever they are needed, and so
    is what is read from a row of several inputs again."""
    fed = depending(graph)
    return [node for node in graph.nodes if node in fed and node.op != "output" and not is_from_row(node)]


def depending(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that depend on the input, and the tensors of constants into which something of it is written."""
    fed: set[fx.Node] = set()
    written: set[fx.Node] = set()
    while True:
        for node in graph.nodes:
            depends = node.op == "placeholder" or any(used in fed for used in node.all_input_nodes)
            if node in written or (depends and (node.op == "output" or not is_derivable(node))):
                fed.add(node)
        found = {node.args[0] for node in fed if node.target is operator.setitem}
        if found <= fed:
            return fed
        written |= found  # type: ignore[arg-type]


def readers(node: fx.Node) -> list[fx.Node]:
    """What reads a tensor: of a row of several inputs, also what reads these."""
    return [reader for user in node.users for reader in (readers(user) if is_from_row(user) else [user])]


def alive_after(flow: Sequence[fx.Node]) -> list[int]:
    """After each node, which nodes are still needed: bit *i* stands for node *i*."""
    order = {node: index for index, node in enumerate(flow)}
    ends: list[int] = [0] * (len(flow) + 1)
    for index, node in enumerate(flow):
        users = [user for user in readers(node) if user in order or user.op == "output"]
        last = max((order.get(user, len(flow)) for user in users), default=-1)
        if is_shared(node) or (index == 0 and any(map(is_from_row, node.users))):
            last = min(last, index + 1)  # later blocks read it again
        if last > index:
            ends[last] |= 1 << index
    alive, found = 0, []
    needed = sum(ends)
    for index in range(len(flow)):
        alive &= ~ends[index]
        alive |= needed & (1 << index)
        found.append(alive)
    return found


def _choices(flow: list[fx.Node], alive: list[int], weighted: Sequence[bool]) -> list[tuple[list[int], int]]:
    """The cuts without taps, and those with the few sets of taps that separate the most layers with weights."""
    able = 0
    for index, node in enumerate(flow):
        if can_be_cut_after(node):
            able |= 1 << index
    order = {node: index for index, node in enumerate(flow)}
    uses = [[order.get(user, len(flow)) for user in readers(node)] for node in flow]
    plain = _places(alive, able, 0, uses)
    without = _score(plain, weighted)
    found = []
    seen = {0}
    for index, held in enumerate(alive):
        taps = held & ~(1 << index)
        if taps in seen or taps & ~able or not able >> index & 1 or taps.bit_count() > _MOST_TAPS:
            continue
        seen.add(taps)
        places = _places(alive, able, taps, uses)
        gain = _score(places, weighted) - without
        if gain > 0:
            found.append((gain - taps.bit_count(), places, taps))
    found.sort(key=lambda choice: -choice[0])
    return [(plain, 0), *((places, taps) for _, places, taps in found[:_CHOICES])]


def _places(alive: list[int], able: int, taps: int, uses: Sequence[Sequence[int]]) -> list[int]:
    """The cuts when the tensors in `taps` are kept for the head, which is all that follows the last but one of them.

    `uses` are the indices of the nodes that read each node. Empty where a tap is no cut itself.
    """
    places = [
        index for index, held in enumerate(alive) if able & held & (1 << index) and not held & ~taps & ~(1 << index)
    ]
    if not taps:
        return places
    head = max((index for index in places if alive[index] & taps == taps), default=-1)
    places = [place for place in places if place <= head]
    for tap in _bits(taps):
        # Until the backbone itself has read it for the last time, a tap is an ordinary tensor that is needed.
        until = max((at for at in uses[tap] if at <= head), default=tap)
        places = [place for place in places if not tap < place < until]
    if sum(1 << place for place in places) & taps != taps:
        return []
    last = len(alive) - 1
    return [*places, last] if able >> last & 1 else []


def held_in(flow: Sequence[fx.Node], alive: int) -> list[fx.Node]:
    """The nodes that the bits of `alive_after` stand for."""
    return [flow[at] for at in _bits(alive)]


def _bits(mask: int) -> Iterable[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _score(places: list[int], weighted: Sequence[bool]) -> int:
    """How many stretches between neighbouring cuts hold a layer with weights."""
    return sum(any(weighted[start + 1 : end + 1]) for start, end in pairwise(places))


def changed_later(node: fx.Node) -> bool:
    """Whether something is written into a tensor after it was made."""
    return any(user.target is operator.setitem and user.args[0] is node for user in node.users)


def can_be_cut_after(node: fx.Node) -> bool:
    """Whether a node is a float32 tensor, batch first, that stays as it is."""
    if node.meta["dtype"] != "float32" or changed_later(node):
        return False
    at_two, at_three = node.meta["seen"]
    return bool(at_two[:1] == (2,) and at_three == (3, *at_two[1:]))


def _obstacle(flow: list[fx.Node], alive: list[int]) -> str:
    held = max(flow, key=lambda node: len(node.users))
    fewest = min((mask.bit_count() for mask in alive[1:-1]), default=0)
    return (
        f"no tensor between its input and its output carries everything (at least {fewest} are needed at any place); "
        f"{path_of(held) or held.name!r} is read in {number_of(len(held.users), 'place')}{for_the_batch(flow, alive)}"
        f"{why_whole(flow)}"
    )


def for_the_batch(flow: Sequence[fx.Node], alive: Sequence[int]) -> str:
    """What is needed at most places though it is nothing that a cut can carry, and what to do; empty without such."""
    counts = [sum(mask >> index & 1 for mask in alive) for index in range(len(flow))]
    unable = [(count, node) for count, node in zip(counts, flow) if not _has_batch(node)]
    count, node = max(unable, key=lambda found: found[0], default=(0, None))
    if node is None or 2 * count < len(flow):
        return ""
    kind = "number" if node.meta["dtype"] is None else f"{node.meta['dtype']} tensor {tuple(node.meta['alone'])}"
    last = max((flow.index(user) for user in readers(node) if user in flow), default=-1)
    until = path_of(flow[last]) or operation_name(flow[last].target)
    where = path_of(node) or "the forward itself"
    return (
        f"; the {kind} that {operation_name(node.target)!r} gives in {where} is read in "
        f"{number_of(len(node.users), 'place')}, up "
        f"to {until}, and is one for the whole batch: compute one for each input, as a tensor with the "
        "batch first (x.amax((1, 2, 3), keepdim=True) in place of x.max().item())"
    )


def _has_batch(node: fx.Node) -> bool:
    """Whether a node is a tensor with some numbers for each input, along any axis."""
    if node.meta["dtype"] is None:
        return False
    one, (two, three) = node.meta["alone"], node.meta["seen"]
    return len(one) == len(two) == len(three) and any(
        side and (2 * side, 3 * side) == (at_two, at_three) for side, at_two, at_three in zip(one, two, three)
    )


def why_whole(nodes: Iterable[fx.Node]) -> str:
    """What the first of the nodes that could not be followed is, and why; empty where all could be."""
    whole = next((node for node in nodes if "kept_whole" in node.meta), None)
    return f"; {str(whole.target)!r} was kept whole, because {whole.meta['kept_whole']}" if whole else ""


def modules_of(node: fx.Node) -> list[str]:
    """The modules that a node lies in, as paths, the outermost first."""
    return [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]


def path_of(node: fx.Node) -> str:
    """The innermost module that a node lies in, as a path; empty for the model itself."""
    modules = modules_of(node)
    return modules[-1] if modules else ""
