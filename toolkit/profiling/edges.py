"""More candidates below the edge of a budget: where a good subnet missed it by a little, others like it may meet it.

A search looks for the best within a predicted latency. Where the subnets that it evaluated leave a gap, what is
measured within a budget may be much worse than what is measured a little over it. Then the subnets that differ in one
block from the one that missed are tried, where they are predicted to be just within.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from ..graph.graph import BlockGraph, Subnet
from .budgets import NEAR

_GAP = 0.02  # of quality, as the search estimates it, that a near miss must be better by
_EACH = 6  # candidates tried for a budget
_JUST_WITHIN = 0.998  # of a budget: what is predicted at its very edge is often measured over it
_LOWEST = 1 - 3 * NEAR


def below_edges(
    graph: BlockGraph,
    predict: Callable[[Subnet], float],
    measured: Mapping[Subnet, float],
    estimate: Mapping[Subnet, float],
    budgets: Sequence[float],
) -> list[Subnet]:
    """Subnets worth evaluating: for each budget that a much better subnet missed by a little, at most six.

    `predict` gives any subnet's latency, `measured` has those of what was measured, in milliseconds, as `budgets` are.
    `estimate` is what the search thinks of the quality of what it evaluated.
    """
    chosen: dict[Subnet, None] = {}
    for budget in budgets:
        within = [estimate[subnet] for subnet, ms in measured.items() if ms <= budget]
        near = [subnet for subnet, ms in measured.items() if budget < ms <= (1 + NEAR) * budget]
        if not near:
            continue
        missed = max(near, key=lambda subnet: estimate[subnet])
        if within and estimate[missed] < max(within) + _GAP:
            continue
        off = measured[missed] / predict(missed)
        ranked = [(off * predict(subnet), subnet) for subnet in _neighbours(graph, missed, estimate)]
        fits = sorted((each for each in ranked if _LOWEST * budget <= each[0] <= _JUST_WITHIN * budget), reverse=True)
        chosen |= dict.fromkeys(subnet for _, subnet in fits[:_EACH])
    return list(chosen)


def _neighbours(graph: BlockGraph, subnet: Subnet, known: Collection[Subnet]) -> list[Subnet]:
    """The subnets that have one other block, or one in place of several, and are not known yet."""
    cuts = set(subnet.cuts)
    found = [graph.replace(subnet, block) for block in graph.blocks if {block.start, block.end} <= cuts]
    return [each for each in dict.fromkeys(found) if each != subnet and each not in known]
