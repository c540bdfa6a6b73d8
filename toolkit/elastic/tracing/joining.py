"""Cuts of several tensors: where a network passes on a few at once, they are joined to one.

Networks of parallel streams (HRNet), of two kinds of tokens (TNT), cells that read the two before them (NASNet), chains
that add up what each block found beside what they pass on (WaveNet): nowhere does one tensor carry everything, but
again and again the same few do. There they are written into one row for each input, which the next block takes apart
again. A mask goes with them as numbers. So is a single tensor whose batch does not come first, as in a transformer over
(time, batch, features). It costs a copy at each such cut, which is measured with the blocks; the network as one program
has none.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import fx

from .canonical import operation_name
from .cuts import alive_after, changed_later, flow_of, held_in

_MOST = 4  # tensors in a row
_FEWEST_PLACES = 3  # fewer leave no two blocks that could be alike


def with_joined_cuts(traced: fx.GraphModule) -> fx.GraphModule | None:
    """A copy of the traced network that computes the same, with a cut at each place where few tensors are needed: fewer
    than right before and after it. None where there are hardly any such places."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(traced.graph, copies))
    copied = fx.GraphModule(traced, graph, class_name=traced._get_name())
    copied.meta = traced.meta
    flow = flow_of(graph)
    places = _places(flow)
    if len(places) < _FEWEST_PLACES:
        return None
    order = {node: number for number, node in enumerate(graph.nodes)}
    now: dict[fx.Node, fx.Node] = {}  # what stands for a tensor by now
    for at, held in places:
        _join(graph, flow[at], flow[at + 1], held, now, order)
    copied.recompile()
    return copied


def _places(flow: Sequence[fx.Node]) -> list[tuple[int, list[fx.Node]]]:
    """After which nodes to cut, by index, and the tensors that are needed there, the network's own input left out.

    Where a network ends, what is passed on is read once and needed no more, and no fewer are needed before: so what
    looks like one of the other places is one as well.
    """
    needed = [[node for node in held_in(flow, alive) if node is not flow[0]] for alive in alive_after(flow)]
    able = {at: held for at, held in enumerate(needed[:-1]) if _can_be_joined(held)}
    lowest = set()
    falling = False  # whether fewer are needed here than before
    for at in range(1, len(flow) - 1):
        if len(needed[at]) != len(needed[at - 1]):
            falling = len(needed[at]) < len(needed[at - 1])
        if at in able and falling and len(needed[at + 1]) > len(needed[at]):
            lowest.add(_looks(able[at]))
    return [(at, held) for at, held in able.items() if _looks(held) in lowest]


def _looks(held: Sequence[fx.Node]) -> tuple[object, ...]:
    """What made the tensors, and their shapes."""
    return tuple((operation_name(node.target), tuple(node.meta["alone"])) for node in held)


def _can_be_joined(held: Sequence[fx.Node]) -> bool:
    """Whether these are no more than a few tensors of a batch, and no ordinary cut."""
    axes = [_batch_axis(node) for node in held[: _MOST + 1]]
    ordinary = axes == [0] and held[0].meta["dtype"] == "float32"
    return 1 <= len(axes) <= _MOST and None not in axes and not ordinary


def _batch_axis(node: fx.Node) -> int | None:
    """The axis along which a tensor has one input after the other, with as many numbers for each."""
    if node.meta["dtype"] not in ("float32", "bool") or changed_later(node) or 0 in node.meta["alone"]:
        return None
    one, (two, three) = node.meta["alone"], node.meta["seen"]
    for axis, side in enumerate(one):
        if all(shape == (*one[:axis], batch * side, *one[axis + 1 :]) for batch, shape in ((2, two), (3, three))):
            return axis
    return None


def _join(
    graph: fx.Graph,
    last: fx.Node,
    following: fx.Node,
    held: Sequence[fx.Node],
    now: dict[fx.Node, fx.Node],
    order: dict[fx.Node, int],
) -> None:
    """Joins what is `held` after the node `last`, and lets all that comes later read the parts."""
    axes = [_batch_axis(node) or 0 for node in held]
    widths = [prod(node.meta["alone"]) for node in held]
    with graph.inserting_before(last.next):
        rows = []
        for node, axis, width in zip(held, axes, widths):
            first = graph.call_method("transpose", (now.get(node, node), 0, axis)) if axis else now.get(node, node)
            if axis:
                first.meta = _turned(node, axis, last)
            rows.append(graph.call_method("reshape", (first, -1, width)))
            _note(rows[-1], (width,), last, node.meta["dtype"])
            if node.meta["dtype"] == "bool":
                rows[-1] = graph.call_method("to", (rows[-1], torch.float32))
                _note(rows[-1], (width,), last)
        joined = graph.call_function(torch.cat, (rows, 1))
        _note(joined, (sum(widths),), last)
        start = 0
        for node, axis, width in zip(held, axes, widths):
            part = graph.call_function(operator.getitem, (joined, (slice(None), slice(start, start + width))))
            _note(part, (width,), following)
            turned = _turned(node, axis, following)
            again = graph.call_method("reshape", (part, -1, *turned["alone"][1:]))
            again.meta = {**turned, "dtype": "float32"}
            if axis:
                again = graph.call_method("transpose", (again, 0, axis))
                again.meta = {**_turned(node, 0, following), "dtype": "float32"}
            if node.meta["dtype"] == "bool":
                again = graph.call_method("to", (again, torch.bool))
                again.meta = _turned(node, 0, following)
            before, now[node] = now.get(node, node), again
            for user in list(before.users):
                if order.get(user, -1) > order[last]:
                    user.replace_input_with(before, again)
            start += width


def _turned(node: fx.Node, axis: int, beside: fx.Node) -> dict[str, Any]:
    """What is noted on a tensor after its first axis has changed places with another one."""

    def turned(shape: Sequence[int]) -> tuple[int, ...]:
        sides = list(shape)
        sides[0], sides[axis] = sides[axis], sides[0]
        return tuple(sides)

    two, three = map(turned, node.meta["seen"])
    noted = {"alone": turned(node.meta["alone"]), "seen": (two, three)}
    return {**node.meta, **noted, "nn_module_stack": beside.meta.get("nn_module_stack")}


def _note(node: fx.Node, shape: tuple[int, ...], beside: fx.Node, dtype: str = "float32") -> None:
    """What tracing notes on a tensor of this shape for each input."""
    noted: dict[str, Any] = {"alone": (1, *shape), "seen": ((2, *shape), (3, *shape)), "dtype": dtype}
    node.meta = {**noted, "read": False, "nn_module_stack": beside.meta.get("nn_module_stack")}
