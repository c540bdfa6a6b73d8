"""The original blocks: which cuts of a network to keep, and each stretch between two of them as a module of its own.

A module is *aligned* when it is made of whole segments between neighbouring cuts. Blocks are the innermost modules that
repeat and are aligned nearly wherever they occur, with at least two layers that hold weights; where such a module is
only a part of a larger repeating one, and the rest of that holds weights too, the larger is the block. Smaller and
larger ones are made where they are asked for (`granularity`). What lies between blocks (a stem, a head, a down-sampling
layer) becomes a block of its own, without alternatives.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from ...errors import ModelError
from .canonical import is_live
from .cuts import (
    Cuts,
    find_cuts,
    for_the_batch,
    is_derivable,
    is_from_row,
    is_shared,
    is_weighted,
    mixes_channels,
    modules_of,
    path_of,
    why_whole,
)
from .granularity import Granularity, joined
from .joining import with_joined_cuts
from .postponing import postponed
from .repeats import repeats, structure
from .sharing import with_shared_cuts

_ENOUGH = 0.5  # of the layers with weights in blocks with alternatives: no other cuts are looked for
_BETTER = 2  # times as many must be in such blocks for cuts to be worth the copies that they cost


@dataclass(frozen=True)
class Stretch:
    """A run of nodes from one cut to the next: one original block. `elastic` says whether it may have alternatives.

    `inputs` are the tensors it reads: the one at its start cut first, then in order the row of the network's several
    inputs, where it reads one of these again, what it reads of the shared ones (`sharing`), and, for a head, the taps.
    """

    source: str
    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    end: fx.Node
    elastic: bool

    @property
    def start(self) -> fx.Node:
        """The tensor at the start cut."""
        return self.inputs[0]


@dataclass
class _Place:
    """A module, as a place in the model: its class, and the segments it takes part in."""

    path: str
    signature: str
    depth: int
    whole: set[int] = field(default_factory=set)
    touched: set[int] = field(default_factory=set)
    weights: int = 0
    dense: int = 0  # of these, layers that mix channels

    @property
    def aligned(self) -> bool:
        return self.whole == self.touched


def discover(traced: fx.GraphModule, granularity: Granularity = "auto") -> tuple[fx.GraphModule, list[Stretch]]:
    """The original blocks of a traced model, in order, from the input to the output, and the graph that they are of.

    That is `traced`, or the same with what all blocks read at the beginning (`sharing`), with side branches at the end
    (`postponing`) or with cuts of several tensors (`joining`), where it leaves most layers in blocks without
    alternatives, or all of them, and the others do not. Raises ModelError when there are fewer than two places to cut,
    naming what stays alive throughout, or when no module repeats between them.
    """
    found, (stretches, refused) = traced, _tried(traced, granularity)
    covered = _covered(traced, stretches)
    for written_anew, times in ((with_shared_cuts, 1), (postponed, 1), (with_joined_cuts, _BETTER)):
        if covered < _ENOUGH and (wider := written_anew(traced)) is not None:
            others, _ = _tried(wider, granularity)
            if _covered(wider, others) > times * covered:
                found, stretches, covered = wider, others, _covered(wider, others)
    if not stretches and refused is not None:
        raise refused
    return found, stretches


def _tried(traced: fx.GraphModule, granularity: Granularity) -> tuple[list[Stretch], ModelError | None]:
    try:
        return _discover(traced, granularity), None
    except ModelError as error:
        return [], error


def _covered(traced: fx.GraphModule, stretches: Iterable[Stretch]) -> float:
    """The share of the layers with weights that lie in blocks which may have alternatives."""
    elastic = {node for stretch in stretches if stretch.elastic for node in stretch.nodes}
    layers = [node in elastic for node in traced.graph.nodes if is_weighted(traced, node)]
    return sum(layers) / max(1, len(layers))


def _discover(traced: fx.GraphModule, granularity: Granularity) -> list[Stretch]:
    best: tuple[int, Cuts, list[_Place]] | None = None
    for cuts in find_cuts(traced):
        units = _free(cuts, _units(traced, cuts, granularity == "fine"))
        worth = len(units) - len(cuts.taps)  # a tap takes away the blocks that would be merged across it
        if best is None or worth > best[0]:
            best = worth, cuts, units
    assert best is not None
    _, cuts, units = best
    return _stretches(traced, cuts, _joined(traced, cuts, units, granularity))


def taps_of(stretches: list[Stretch]) -> tuple[int, ...]:
    """The cuts that the head reads besides the one where it starts, and besides those that any block may read."""
    at = _cuts_of(stretches)
    return tuple(at[tap] for tap in stretches[-1].inputs[1:] if not _is_for_all(tap))


def reads_of(stretches: list[Stretch]) -> list[tuple[int, ...]]:
    """For each block, the cuts that it reads besides the one where it starts and, for the head, the taps."""
    at = _cuts_of(stretches)
    return [tuple(at[node] for node in stretch.inputs[1:] if _is_for_all(node)) for stretch in stretches]


def _cuts_of(stretches: list[Stretch]) -> dict[fx.Node, int]:
    return {stretches[0].start: 0} | {stretch.end: index for index, stretch in enumerate(stretches, 1)}


def _is_for_all(node: fx.Node) -> bool:
    """Whether a cut is one that any block may read: the row of the network's several inputs, or a shared one."""
    return _is_row(node) or is_shared(node)


def _is_row(node: fx.Node) -> bool:
    return node.op == "placeholder" and any(map(is_from_row, node.users))


def _signature(module: nn.Module) -> str:
    """What makes two modules of one kind: the class, and for a bare container the classes it holds."""
    name = type(module).__qualname__
    if isinstance(module, (nn.Sequential, fx.GraphModule)) or type(module) is nn.Module:
        name += "(" + ",".join(type(child).__qualname__ for child in module.children()) + ")"
    return name


def _places(traced: fx.GraphModule, segments: list[tuple[fx.Node, ...]]) -> list[_Place]:
    classes: dict[str, str] = {}
    places: dict[str, _Place] = {}
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * len(segments))
    for number, nodes in enumerate(segments):
        for node in nodes:
            stack = node.meta.get("nn_module_stack") or {}
            # A call has its own key: a module may run twice.
            for depth, (key, (path, kind)) in enumerate(stack.items()):
                if key not in places:
                    if path not in classes:
                        bare = kind in (nn.Sequential, nn.Module)
                        classes[path] = _signature(traced.get_submodule(path)) if bare else kind.__qualname__
                    places[key] = _Place(path, classes[path], depth)
                counts[key][number] += 1
                if is_weighted(traced, node):
                    places[key].weights += 1
                    places[key].dense += mixes_channels(traced, node)
    for key, place in places.items():
        place.touched = {number for number, count in enumerate(counts[key]) if count}
        place.whole = {number for number in place.touched if counts[key][number] == len(segments[number])}
    return list(places.values())


def _by_kind(places: Iterable[_Place]) -> list[list[_Place]]:
    kinds: dict[str, list[_Place]] = defaultdict(list)
    for place in places:
        kinds[place.signature].append(place)
    return list(kinds.values())


def _units(traced: fx.GraphModule, cuts: Cuts, fine: bool) -> list[_Place]:
    """What becomes blocks, in order: modules that repeat, where these hold most of what repeats by structure.

    `fine`: the smallest that repeats by structure, whatever modules it lies in.
    """
    segments = cuts.segments()
    places = _places(traced, segments)
    modules = _modules(places)
    whole = {range(min(place.whole), max(place.whole) + 1): place.path for place in places if place.aligned}
    found = []
    for run in repeats(traced, segments, cuts.flow[0], whole, fine):
        nodes = [node for number in run for node in segments[number]]
        weights = sum(is_weighted(traced, node) for node in nodes)
        found.append(_Place(whole.get(run) or _common_path(nodes), "", 0, set(run), set(run), weights))
    if fine and found:
        return found
    by_modules = sum(unit.weights for unit in modules if unit.dense > 1)  # in others there is nothing to make thinner
    return modules if 2 * by_modules >= sum(unit.weights for unit in found) else found


def _modules(places: list[_Place]) -> list[_Place]:
    """The repeating modules that become blocks, in order: those with two layers of weights, or more."""
    kinds = _by_kind(place for place in places if place.weights)
    repeating = [place for group in kinds if max(place.weights for place in group) > 1 for place in _aligned(group)]
    innermost = [
        place
        for place in repeating
        if not any(other.depth > place.depth and other.whole <= place.whole for other in repeating)
    ]
    units = _widened(innermost, repeating)
    return sorted(units, key=lambda place: min(place.whole)) if len(units) > 1 else []


def _aligned(group: list[_Place]) -> list[_Place]:
    """The aligned modules of one kind, where it repeats and most of its modules are."""
    aligned = [place for place in group if place.aligned]
    return aligned if len(aligned) > 1 and 2 * len(aligned) > len(group) else []


def _widened(units: list[_Place], repeating: list[_Place]) -> list[_Place]:
    """Takes a larger repeating module in place of the units inside it, where it holds weights besides theirs.

    Not a module that holds a list of such units: that is a stage.
    """
    for group in sorted(_by_kind(repeating), key=lambda group: -group[0].depth):
        inside = [[unit for unit in units if unit is not place and unit.whole <= place.whole] for place in group]
        partial = any(place.weights > sum(unit.weights for unit in held) for place, held in zip(group, inside))
        if not all(inside) or not partial or any(_is_stage(place, held) for place, held in zip(group, inside)):
            continue
        taken = {id(unit) for held in inside for unit in held}
        units = [*(unit for unit in units if id(unit) not in taken), *group]
    return units


def _is_stage(place: _Place, units: Iterable[_Place]) -> bool:
    """Whether several of the units are elements of one list inside the module."""
    elements: dict[str, set[str]] = defaultdict(set)
    for unit in units:
        names = unit.path.removeprefix(place.path).strip(".").split(".")
        for index, name in enumerate(names):
            if name.isdigit():
                elements[".".join(names[:index])].add(name)
    return any(len(numbers) > 1 for numbers in elements.values())


def _tapped(cuts: Cuts) -> set[int]:
    """The segments that end at a tap or a shared cut, or where a head starts that reads taps: blocks must end there."""
    segments = cuts.segments()
    tapped = {number for number, nodes in enumerate(segments) if nodes[-1] in cuts.taps or is_shared(nodes[-1])}
    return tapped | ({len(segments) - 2} if cuts.taps else set())


def _free(cuts: Cuts, units: list[_Place]) -> list[_Place]:
    """The units that no tap lies inside of."""
    tapped = _tapped(cuts)
    return [unit for unit in units if not any(at in tapped and at != max(unit.whole) for at in unit.whole)]


def _joined(traced: fx.GraphModule, cuts: Cuts, units: list[_Place], granularity: Granularity) -> list[_Place]:
    """The units, some of them several in a row, as the granularity asks for it. What changes the shape begins a row."""
    if not units or granularity in ("auto", "fine"):
        return units
    segments, tapped = cuts.segments(), _tapped(cuts)
    spans = [range(min(unit.whole), max(unit.whole) + 1) for unit in units]
    likes, borders = [], [True] * len(units)
    for index, span in enumerate(spans):
        start = segments[span.start - 1][-1] if span.start else cuts.flow[0]
        nodes = [node for number in span for node in segments[number]]
        likes.append(structure(traced, nodes, start))
        if index:
            before = spans[index - 1].stop
            between = [node for number in range(before, span.start) for node in segments[number]]
            borders[index - 1] = (
                start.meta["seen"] != nodes[-1].meta["seen"]
                or _has_weights(traced, between)
                or not tapped.isdisjoint(range(before - 1, span.start))
            )
    places = []
    for row in joined(likes, borders, granularity):
        path = units[row.start].path
        if len(row) > 1:
            path = f"{path.partition('…')[0]}…{units[row[-1]].path.rpartition('…')[2]}"
        whole = set(range(spans[row.start].start, spans[row[-1]].stop))
        places.append(_Place(path, "", 0, whole, whole))
    return places


def _stretches(traced: fx.GraphModule, cuts: Cuts, units: list[_Place]) -> list[Stretch]:
    segments = cuts.segments()
    last = len(segments) - 1
    tapped = _tapped(cuts)
    owner = {number: unit for unit in units for number in unit.whole}
    if not owner:
        raise ModelError(
            f"{traced._get_name()} has {len(cuts.places)} places to cut, but no module with weights repeats between "
            f"them: there is nothing to merge or to prune block by block{_obstacle(traced, cuts)}"
            f"{for_the_batch(cuts.flow, cuts.alive)}{why_whole(cuts.flow)}"
        )
    runs: list[tuple[_Place | None, list[fx.Node]]] = []
    for number, nodes in enumerate(segments):
        at = owner.get(number)
        border = number - 1 in tapped
        if runs and not border and runs[-1][0] is at:
            runs[-1][1].extend(nodes)
        elif (
            at is None
            and runs
            and not border
            and number < last
            and not _has_weights(traced, _gap(segments, owner, number))
        ):
            runs[-1][1].extend(nodes)  # an activation or a pooling layer goes with the block before it
        else:
            runs.append((at, list(nodes)))
    first_is_tapped = any(segments[at][-1] is runs[0][1][-1] for at in tapped)
    if runs[0][0] is None and not _has_weights(traced, runs[0][1]) and len(runs) > 1 and not first_is_tapped:
        before = runs.pop(0)[1]
        runs[0][1][:0] = before
    stretches = []
    start = cuts.flow[0]
    for index, (place, part) in enumerate(runs):
        source = place.path if place else _common_path(part)
        read = {used for node in part for used in node.all_input_nodes}
        wanted = {node for node in read if is_shared(node) and node not in part}
        wanted |= cuts.taps if index == len(runs) - 1 else set()
        wanted |= {cuts.flow[0]} if any(map(is_from_row, read)) else set()
        others = [node for node in cuts.flow if node in wanted and node is not start]
        stretches.append(Stretch(source, tuple(part), (start, *others), part[-1], place is not None))
        start = part[-1]
    return stretches


def _obstacle(traced: fx.GraphModule, cuts: Cuts) -> str:
    """What keeps the modules that do repeat from being blocks; empty where none does."""
    places = _places(traced, cuts.segments())
    group = max(_by_kind(place for place in places if place.weights > 1 and place.depth > 0), key=len, default=[])
    if len(group) < 2:
        return ""
    path = next((place.path for place in group if not place.aligned), group[0].path)
    inside = [node for node in cuts.flow if path in modules_of(node)]
    needed = sorted({path_of(node) or node.name for node in cuts.needed_after(inside[-1])})
    if not needed:
        return ""
    return (
        f". Its {len(group)} modules like {path!r} cannot be cut off: after them, the tensor of "
        f"{', '.join(needed[:3])} is needed besides theirs"
    )


def _gap(segments: list[tuple[fx.Node, ...]], owner: dict[int, _Place], first: int) -> list[fx.Node]:
    """All nodes from segment `first` up to the next unit."""
    nodes: list[fx.Node] = []
    for number in range(first, len(segments)):
        if number in owner:
            break
        nodes.extend(segments[number])
    return nodes


def _has_weights(traced: fx.GraphModule, nodes: list[fx.Node]) -> bool:
    return any(
        is_weighted(traced, node)
        or (node.op == "call_module" and any(True for _ in traced.get_submodule(str(node.target)).parameters()))
        for node in nodes
    )


def _common_path(nodes: list[fx.Node]) -> str:
    """A name for a stretch that is no module: the modules at its two ends."""
    paths = [path for node in nodes if (path := path_of(node))]
    return "" if not paths else paths[0] if paths[0] == paths[-1] else f"{paths[0]}…{paths[-1]}"


def subgraph(traced: fx.GraphModule, stretch: Stretch) -> fx.GraphModule:
    """The stretch as a module of its own, from the tensors it reads to the one at its end cut. Shares weights."""
    graph = fx.Graph()
    names = ["x", *(f"tap{number}" for number in range(1, len(stretch.inputs)))]
    copies: dict[fx.Node, fx.Node] = {
        node: graph.placeholder(name) for node, name in zip(stretch.inputs, names, strict=True)
    }
    for node, placeholder in copies.items():
        placeholder.meta["alone"] = node.meta["alone"]

    def derive(at_two: Any, at_three: Any) -> Any:
        if isinstance(at_two, tuple):
            return tuple(derive(two, three) for two, three in zip(at_two, at_three))
        if at_two == at_three:
            return at_two
        batch = graph.call_method("size", (copies[stretch.start], 0))
        times = at_two / 2 if isinstance(at_two, float) else at_two // 2
        return batch if at_two == 2 else graph.call_function(operator.mul, (batch, times))

    def bring(node: fx.Node) -> Any:
        if node not in copies:
            if node.op != "get_attr" and is_derivable(node):
                copies[node] = derive(*node.meta["seen"])  # a size: what it is read from may lie before this block
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
