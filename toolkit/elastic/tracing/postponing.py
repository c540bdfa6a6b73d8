"""Side branches after the backbone: where a network asks for them early, they are computed when they are needed.

Early exits, side outputs and the heads of a detector's scales are often written between the blocks of the backbone that
they read. Their answers are then needed from there to the end, and nothing can be cut behind the first of them. When
they are computed at the end, the features that they read are taps, as of a feature pyramid.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from torch import fx


def postponed(traced: fx.GraphModule) -> fx.GraphModule | None:
    """A copy of the traced network that computes the same, what is nearest to the input as late as it can be.

    None where something is written into a tensor: then the order matters.
    """
    nodes = list(traced.graph.nodes)
    if any(node.target is operator.setitem for node in nodes):
        return None
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in _late(nodes):
        copies[node] = graph.node_copy(node, copies.__getitem__)
    copied = fx.GraphModule(traced, graph, class_name=traced._get_name())
    copied.meta = traced.meta
    return copied


def _late(nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """The nodes in another order, found from the end: of those that all that is left may come before, the one with the
    fewest operations between the input and itself, along the longest way, is the last."""
    number = {node: at for at, node in enumerate(nodes)}
    depth: dict[fx.Node, int] = {}
    for node in nodes:
        depth[node] = 1 + max((depth[used] for used in node.all_input_nodes), default=0)
    readers = {node: len(node.users) for node in nodes}
    free = [(depth[node], -number[node]) for node in nodes if not readers[node] and node.op != "placeholder"]
    heapify(free)
    order = []
    while free:
        _, place = heappop(free)
        order.append(nodes[-place])
        for used in order[-1].all_input_nodes:
            readers[used] -= 1
            if not readers[used] and used.op != "placeholder":
                heappush(free, (depth[used], -number[used]))
    return [*(node for node in nodes if node.op == "placeholder"), *reversed(order)]
