"""Weights that a layer computes from others, such as standardised ones: as they come out, they are weights themselves.

What is computed from weights alone is the same for every input. A layer with the result is one that can be trained,
pruned and quantised as any other.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn


def computed_weight(traced: fx.GraphModule, node: fx.Node) -> tuple[str, torch.Tensor] | None:
    """The value of a node that is computed from weights alone, and the path of the first of them; None for any other.

    Nothing may be written into what it is computed from: then the order matters.
    """
    values: dict[fx.Node, Any] = {}
    waiting, first = [node], None
    while waiting:
        each = waiting[-1]
        left = [used for used in each.all_input_nodes if used not in values]
        if left:
            waiting += left
            continue
        waiting.pop()
        if each.op == "get_attr":
            values[each] = found = operator.attrgetter(str(each.target))(traced)
            if first is None and isinstance(found, nn.Parameter):
                first = str(each.target)
        elif each.op in ("call_function", "call_method") and each.all_input_nodes and not _is_written(each):
            args, kwargs = fx.node.map_arg((each.args, each.kwargs), values.__getitem__)
            with torch.no_grad():
                if each.op == "call_method":
                    values[each] = getattr(args[0], str(each.target))(*args[1:], **kwargs)
                else:
                    values[each] = each.target(*args, **kwargs)  # type: ignore[operator]
        else:
            return None
    value = values[node]
    return (first, value) if first is not None and isinstance(value, torch.Tensor) else None


def _is_written(node: fx.Node) -> bool:
    return node.target is operator.setitem or any(user.target is operator.setitem for user in node.users)
