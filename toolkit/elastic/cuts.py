"""Where a network can be cut: from its own data flow, not from a list of architectures.

A *cut* is a place where one tensor, batch first, carries everything that is still needed. Sizes that were read earlier
do not count: a block reads them from its own input. Between neighbouring cuts lie *segments*;
a module is *aligned* when it is made of whole segments. Blocks are the innermost modules that repeat: aligned wherever
they occur, with at least two layers that hold weights. What lies between them (a stem, a head, a down-sampling layer)
becomes a block of its own, without alternatives.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import fx, nn

from ..errors import ModelError
from .trace import is_live

_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear, nn.MultiheadAttention)


@dataclass(frozen=True)
class Stretch:
    """A run of nodes from one cut to the next: one original block. `elastic` says whether it may have alternatives."""

    source: str
    nodes: tuple[fx.Node, ...]
    start: fx.Node
    end: fx.Node
    elastic: bool


@dataclass
class _Place:
    """A module, as a place in the model: its class, and the segments it takes part in."""

    path: str
    signature: str
    depth: int
    whole: set[int] = field(default_factory=set)
    touched: set[int] = field(default_factory=set)
    weights: int = 0

    @property
    def aligned(self) -> bool:
        return self.whole == self.touched


def discover(traced: fx.GraphModule) -> list[Stretch]:
    """The original blocks of a traced model, in order, from the input to the output.

    Raises ModelError when there are fewer than two places to cut, naming what stays alive throughout.
    """
    flow = _flow(traced.graph)
    cuts = _cut_places(flow)
    if len(cuts) < 3:
        raise ModelError(f"{traced._get_name()} cannot be cut: {_obstacle(flow)}")
    output = traced.graph.output_node().args[0]
    if flow[cuts[-1]] is not output:
        raise ModelError(
            f"{traced._get_name()} cannot be cut at its output: it is no float32 tensor with the batch first"
        )
    segments = _segments(flow, cuts)
    places = _places(traced, segments)
    units = _units(places)
    return _stretches(traced, segments, units, cuts)


def _flow(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that depend on the input, in order. Weights and constants are wherever they are needed."""
    fed: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(used in fed for used in node.all_input_nodes):
            fed.add(node)
    return [node for node in graph.nodes if node in fed and node.op != "output"]


def _cut_places(flow: list[fx.Node]) -> list[int]:
    """The indices in `flow` after which exactly one tensor, float32 and batch first, is still needed."""
    order = {node: index for index, node in enumerate(flow)}
    last_use = {node: max((order.get(user, len(flow)) for user in node.users), default=-1) for node in flow}
    cuts = []
    alive: set[fx.Node] = set()
    for index, node in enumerate(flow):
        alive = {held for held in alive if last_use[held] > index}
        derivable = not node.meta["read"] and _derivable(node.meta["seen"], node.meta["dtype"] is not None)
        if last_use[node] > index and not derivable:
            alive.add(node)
        if alive == {node} and _batched_floats(node) and not _changed_later(node):
            cuts.append(index)
    return cuts


def _changed_later(node: fx.Node) -> bool:
    return any(user.target is operator.setitem and user.args[0] is node for user in node.users)


def _batched_floats(node: fx.Node) -> bool:
    at_two, at_three = node.meta["seen"]
    return bool(node.meta["dtype"] == "float32" and at_two[:1] == (2,) and at_three == (3, *at_two[1:]))


def _derivable(seen: Any, is_tensor: bool) -> bool:
    """Whether a value follows from the batch size alone: a constant, a multiple of the batch size, a tuple of such."""
    if is_tensor:
        return False
    at_two, at_three = seen
    if isinstance(at_two, tuple) and isinstance(at_three, tuple) and len(at_two) == len(at_three):
        return all(_derivable(pair, False) for pair in zip(at_two, at_three))
    if isinstance(at_two, (int, float)) and isinstance(at_three, (int, float)):
        return at_two == at_three or at_two * 3 == at_three * 2
    return False


def _obstacle(flow: list[fx.Node]) -> str:
    held = max(flow, key=lambda node: len(node.users))
    return (
        f"no tensor between its input and its output carries everything; {_path(held) or held.name!r} "
        f"is read in {len(held.users)} places"
    )


def _segments(flow: list[fx.Node], cuts: list[int]) -> list[tuple[fx.Node, ...]]:
    """The nodes between neighbouring cuts. The input itself (the first cut) belongs to none."""
    return [tuple(flow[start + 1 : end + 1]) for start, end in pairwise(cuts)]


def _stack(node: fx.Node) -> list[tuple[str, str]]:
    """The modules a node lies in, outermost first, as (call, path). A call has its own key: a module may run twice."""
    return [(key, entry[0]) for key, entry in (node.meta.get("nn_module_stack") or {}).items()]


def _path(node: fx.Node) -> str:
    stack = _stack(node)
    return stack[-1][1] if stack else ""


def _signature(module: nn.Module) -> str:
    """What makes two modules of one kind: the class, and for a bare container the classes it holds."""
    name = type(module).__qualname__
    if isinstance(module, (nn.Sequential, fx.GraphModule)) or type(module) is nn.Module:
        name += "(" + ",".join(type(child).__qualname__ for child in module.children()) + ")"
    return name


def _places(traced: fx.GraphModule, segments: list[tuple[fx.Node, ...]]) -> dict[str, _Place]:
    classes: dict[str, str] = {}
    places: dict[str, _Place] = {}
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * len(segments))
    for number, nodes in enumerate(segments):
        for node in nodes:
            stack = node.meta.get("nn_module_stack") or {}
            for depth, (key, (path, kind)) in enumerate(stack.items()):
                if key not in places:
                    if path not in classes:
                        classes[path] = _signature(traced.get_submodule(path)) if _bare(kind) else kind.__qualname__
                    places[key] = _Place(path, classes[path], depth)
                counts[key][number] += 1
                if node.op == "call_module" and isinstance(traced.get_submodule(str(node.target)), _WEIGHTED):
                    places[key].weights += 1
    for key, place in places.items():
        place.touched = {number for number, count in enumerate(counts[key]) if count}
        place.whole = {number for number in place.touched if counts[key][number] == len(segments[number])}
    return places


def _bare(kind: type) -> bool:
    return kind in (nn.Sequential, nn.Module)


def _units(places: dict[str, _Place]) -> list[_Place]:
    """The innermost repeating modules, in order: those with two layers of weights, or else with one."""
    for least in (2, 1):
        kinds: dict[str, list[_Place]] = defaultdict(list)
        for place in places.values():
            if place.weights >= least:
                kinds[place.signature].append(place)
        repeating = [
            place
            for group in kinds.values()
            if len(group) > 1 and all(place.aligned for place in group)
            for place in group
        ]
        innermost = [
            place
            for place in repeating
            if not any(other.depth > place.depth and other.whole <= place.whole for other in repeating)
        ]
        if len(innermost) > 1:
            return sorted(innermost, key=lambda place: min(place.whole))
    return []


def _stretches(
    traced: fx.GraphModule, segments: list[tuple[fx.Node, ...]], units: list[_Place], cuts: list[int]
) -> list[Stretch]:
    if not units:
        raise ModelError(
            f"{traced._get_name()} has {len(cuts)} places to cut, but no module with weights repeats between them: "
            "there is nothing to merge or to prune block by block"
        )
    owner: dict[int, _Place] = {number: unit for unit in units for number in unit.whole}
    runs: list[tuple[_Place | None, list[fx.Node]]] = []
    for number, nodes in enumerate(segments):
        unit = owner.get(number)
        if runs and runs[-1][0] is unit:
            runs[-1][1].extend(nodes)
        elif (
            unit is None
            and runs
            and number < len(segments) - 1
            and not _weighted(traced, _gap(segments, owner, number))
        ):
            runs[-1][1].extend(nodes)  # an activation or a pooling layer goes with the block before it
        else:
            runs.append((unit, list(nodes)))
    if runs[0][0] is None and not _weighted(traced, runs[0][1]) and len(runs) > 1:
        runs[1][1][:0] = runs.pop(0)[1]
    stretches = []
    start = next(node for node in traced.graph.nodes if node.op == "placeholder")
    for unit, part in runs:
        source = unit.path if unit else _common_path(part)
        stretches.append(Stretch(source, tuple(part), start, part[-1], unit is not None))
        start = part[-1]
    return stretches


def _gap(segments: list[tuple[fx.Node, ...]], owner: dict[int, _Place], first: int) -> list[fx.Node]:
    """All nodes from segment `first` up to the next unit."""
    nodes: list[fx.Node] = []
    for number in range(first, len(segments)):
        if number in owner:
            break
        nodes.extend(segments[number])
    return nodes


def _weighted(traced: fx.GraphModule, nodes: list[fx.Node]) -> bool:
    return any(
        node.op == "call_module" and any(True for _ in traced.get_submodule(str(node.target)).parameters())
        for node in nodes
    )


def _common_path(nodes: list[fx.Node]) -> str:
    """A name for a stretch that is no module: the modules at its two ends."""
    paths = [path for node in nodes if (path := _path(node))]
    return "" if not paths else paths[0] if paths[0] == paths[-1] else f"{paths[0]}…{paths[-1]}"


def subgraph(traced: fx.GraphModule, stretch: Stretch) -> fx.GraphModule:
    """The stretch as a module of its own, from the tensor at its start cut to the one at its end. Shares weights."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {stretch.start: graph.placeholder("x")}
    inside = set(stretch.nodes)

    def derive(at_two: Any, at_three: Any) -> Any:
        if isinstance(at_two, tuple):
            return tuple(derive(two, three) for two, three in zip(at_two, at_three))
        if at_two == at_three:
            return at_two
        batch = graph.call_method("size", (copies[stretch.start], 0))
        return batch if at_two == 2 else graph.call_function(operator.mul, (batch, at_two // 2))

    def bring(node: fx.Node) -> Any:
        if node not in copies:
            if node not in inside and node.meta["dtype"] is None:
                copies[node] = derive(*node.meta["seen"])  # a size that was read before this block
            elif node.op == "placeholder":
                raise ModelError(f"{stretch.source or 'a block'} reads the model's own input, from outside the block")
            else:
                for used in node.all_input_nodes:
                    bring(used)
                copies[node] = graph.node_copy(node, lambda used: copies[used])
        return copies[node]

    for node in stretch.nodes:
        bring(node)
    graph.output(copies[stretch.end])
    block = fx.GraphModule(traced, graph, class_name="Block")
    block.graph.eliminate_dead_code(is_live)
    block.recompile()
    block.delete_all_unused_submodules()
    return block
