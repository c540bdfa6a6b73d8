"""Cuts that every block may read: what a network computes once and uses in all of its blocks.

An embedding of a time step, a projected prompt, a measure of the whole input: made at the beginning, such a tensor is
needed up to the end, so that nowhere behind it one tensor carries everything. Here it is computed first and becomes a
cut of its own, which the blocks read besides the one where they start, as they read the row of several inputs. Nothing
is copied, and the skips of a U-Net are still taps.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable
from itertools import accumulate, pairwise

from torch import fx

from .cuts import alive_after, can_be_cut_after, flow_of, held_in, is_weighted, readers

_FEWEST_READERS = 3
_MOST = 4  # tensors that any block may read


def with_shared_cuts(traced: fx.GraphModule) -> fx.GraphModule | None:
    """A copy of the traced network that computes the same, what is read along most of it first, and marked
    (`is_shared`). None where there is no such tensor, or it needs too many others, or something is written into one:
    then the order matters."""
    if any(node.target is operator.setitem for node in traced.graph.nodes):
        return None
    shared = _read_along(traced)
    while 0 < len(shared) <= _MOST:
        copied, copies = _first(traced, shared)
        flow = flow_of(copied.graph)
        needed = {copies[node] for node in shared}
        beside = {
            held
            for index, alive in enumerate(alive_after(flow))
            if flow[index] in needed
            for held in held_in(flow, alive)
            if held is not flow[index]
        }
        if not beside:
            return copied
        if not all(map(can_be_cut_after, beside)):
            return None
        shared |= {node for node, copy in copies.items() if copy in beside}
    return None


def _read_along(traced: fx.GraphModule) -> set[fx.Node]:
    """The tensors that are read in several places along at least half of the layers with weights, again and again: what
    a block passes on and an end reads once more is none."""
    flow = flow_of(traced.graph)
    layers = list(accumulate(is_weighted(traced, node) for node in flow))
    order = {node: index for index, node in enumerate(flow)}
    found = set()
    for node in filter(can_be_cut_after, flow):
        places = sorted(layers[order[reader]] for reader in readers(node) if reader in order)
        if len(places) >= _FEWEST_READERS:
            along = places[-1] - places[0]
            longest = max(after - before for before, after in pairwise(places))
            if 2 * along >= layers[-1] > 0 and 2 * longest <= along:
                found.add(node)
    return found


def _first(traced: fx.GraphModule, shared: Collection[fx.Node]) -> tuple[fx.GraphModule, dict[fx.Node, fx.Node]]:
    """A copy of the network that computes `shared` first and has them marked, and for each node its copy."""
    before = _needed_for(shared)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    nodes = list(traced.graph.nodes)
    for node in sorted(nodes, key=lambda node: (node.op != "placeholder", node not in before)):
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if node in shared:
            copies[node].meta["shared"] = True
    copied = fx.GraphModule(traced, graph, class_name=traced._get_name())
    copied.meta = traced.meta
    return copied, copies


def _needed_for(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """These nodes and all that they are computed from."""
    found: set[fx.Node] = set()
    left = list(nodes)
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += node.all_input_nodes
    return found
