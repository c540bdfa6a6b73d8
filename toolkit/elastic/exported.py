"""A program of `torch.export` as a module that can be traced and cut like any other.

An exported program calls operators of torch's core library (`aten`) with its weights. Each becomes the public function
of torch that does the same, so that what follows sees layers where the model that was exported had some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch.export import ExportedProgram

from ..errors import ModelError

# Operators whose arguments come in another order, or with some more, than those of the public function.
_ORDER: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "batch_norm": (torch.nn.functional.batch_norm, (0, 3, 4, 1, 2, 5, 6, 7)),
    "layer_norm": (torch.nn.functional.layer_norm, (0, 1, 2, 3, 4)),
    "group_norm": (torch.nn.functional.group_norm, (0, 1, 2, 3, 4)),
}


def module_of(program: ExportedProgram) -> fx.GraphModule:
    """The program as a module with its weights, which takes any batch size that the program takes.

    Raises ModelError where it was exported for one batch size only, and for operators that have no public function.
    """
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    first = next(node for node in module.graph.nodes if node.op == "placeholder")
    value = first.meta.get("val")
    if isinstance(value, torch.Tensor) and value.dim() and isinstance(value.shape[0], int):
        raise ModelError(
            f"the program was exported for a batch of {value.shape[0]} alone: export it for any, with "
            "torch.export.export(model, (inputs,), dynamic_shapes=({0: torch.export.Dim('batch')},)) and inputs of a "
            "batch of 2"
        )
    for node in module.graph.nodes:
        if node.op == "call_function" and isinstance(node.target, OpOverload):
            _call_public(node)
    module.graph.eliminate_dead_code()
    return fx.GraphModule(module, module.graph)  # anew: the program's own module refuses `eval`


def _call_public(node: fx.Node) -> None:
    """Lets a node call the public function in place of the operator."""
    name = str(node.target).split(".")[1]
    if name in _ORDER:
        function, order = _ORDER[name]
        node.args = tuple(node.args[at] for at in order if at < len(node.args))
        node.target = function
        return
    for owner in (torch.nn.functional, torch):
        found = getattr(owner, name, None)
        if callable(found):
            node.target = found
            return
    name = name.removeprefix("sym_")  # of a size that is not known before a batch comes
    if not hasattr(torch.Tensor, name):
        raise ModelError(f"the program calls {node.target}, which no public function of torch does")
    node.op, node.target = "call_method", name
