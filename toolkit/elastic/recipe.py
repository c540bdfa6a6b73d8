"""A block as data: its operations and modules as json, its tensors apart. No code is stored and none is run on reading.

A block is a graph of tensor operations over `torch.nn` modules. Reading accepts only functions that torch itself lists as
operations on tensors, arithmetic, and module classes of `torch.nn`; a module is rebuilt from its plain attributes without
running its constructor. A file that asks for anything else is refused.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from ..errors import ModelError

_PLAIN = (bool, int, float, str, type(None))
_MODULE_INTERNALS = set(vars(nn.Module())) | {"_is_full_backward_hook", "_source_modules"}
_OPERATORS = [getattr(operator, name) for name in operator.__all__ if name not in ("attrgetter", "methodcaller")]


def to_json(block: fx.GraphModule) -> dict[str, Any]:
    """The block without its tensors. Raises ModelError for what is no plain tensor operation or `torch.nn` module."""
    return {
        "nodes": [
            {
                "name": node.name,
                "op": node.op,
                "target": _function_name(node.target) if callable(node.target) else node.target,
                "args": _encode(list(node.args)),
                "kwargs": _encode(dict(node.kwargs)),
            }
            for node in block.graph.nodes
        ],
        "modules": {path: _module_json(path, module) for path, module in block.named_modules() if path},
    }


def tensors(block: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer of the block, by name; what is shared inside the block appears under each name."""
    named = (*block.named_parameters(remove_duplicate=False), *block.named_buffers(remove_duplicate=False))
    return {name: tensor.detach() for name, tensor in named}


def from_json(doc: Mapping[str, Any], values: Mapping[str, torch.Tensor], name: str) -> fx.GraphModule:
    """The block again, in eval mode. `values` are its tensors. Raises ModelError for whatever `to_json` never writes."""
    try:
        root = nn.Module()
        for path, entry in doc["modules"].items():
            parent, _, leaf = path.rpartition(".")
            root.get_submodule(parent).add_module(leaf, _module(entry))
        for path, value in values.items():
            owner, _, leaf = path.rpartition(".")
            module = root.get_submodule(owner)
            if leaf in doc["modules"].get(owner, {}).get("buffers", ()) or (not owner and leaf in doc.get("buffers", ())):
                module.register_buffer(leaf, value)
            else:
                module.register_parameter(leaf, nn.Parameter(value, requires_grad=value.is_floating_point()))
        graph = fx.Graph()
        nodes: dict[str, fx.Node] = {}
        for entry in doc["nodes"]:
            nodes[entry["name"]] = graph.create_node(
                _op(entry["op"]),
                _target(entry["op"], entry["target"]),
                tuple(_decode(entry["args"], nodes)),
                _decode(entry["kwargs"], nodes),
                name=entry["name"],
            )
        graph.lint()
        return fx.GraphModule(root, graph, class_name="Block").eval()
    except ModelError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
        raise ModelError(f"the recipe of block {name!r} is damaged: {type(error).__name__}: {error}") from error


def _module_json(path: str, module: nn.Module) -> dict[str, Any]:
    kind = type(module)
    if not kind.__module__.startswith("torch.nn.modules."):
        raise ModelError(f"{path!r} is a {kind.__qualname__}, which cannot be saved as data: it is not part of torch.nn")
    attributes = {key: value for key, value in vars(module).items() if key not in _MODULE_INTERNALS}
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "attributes": {key: _encode(value, f"{path}.{key}") for key, value in attributes.items()},
        "absent": [key for key, value in module._parameters.items() if value is None]
        + [key for key, value in module._buffers.items() if value is None],
        "buffers": [key for key, value in module._buffers.items() if value is not None],
    }


def _module(entry: Mapping[str, Any]) -> nn.Module:
    module_name, _, class_name = str(entry["class"]).rpartition(".")
    kind = getattr(sys.modules.get(module_name), class_name, None) if module_name.startswith("torch.nn.modules.") else None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == module_name):
        raise ModelError(f"a recipe asks for the module class {entry['class']!r}, which is not one of torch.nn")
    module: nn.Module = kind.__new__(kind)
    nn.Module.__init__(module)
    for key, value in entry["attributes"].items():
        if key in _MODULE_INTERNALS or key.startswith("__") or hasattr(kind, key) and callable(getattr(kind, key)):
            raise ModelError(f"a recipe sets {key!r} on {class_name}, which is no plain attribute")
        object.__setattr__(module, key, _decode(value, {}))
    for key in entry["absent"]:
        module.register_parameter(key, None)
    return module


@cache
def _functions() -> dict[str, Any]:
    """The functions a recipe may name: torch's own list of operations on tensors, and arithmetic."""
    allowed: dict[str, Any] = {f"operator.{function.__name__}": function for function in _OPERATORS}
    allowed |= {f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "sqrt", "prod")}
    allowed["getattr"] = getattr
    for functions in torch.overrides.get_overridable_functions().values():
        for function in functions:
            name = torch.overrides.resolve_name(function)
            if name and not name.startswith("torch.Tensor.") and callable(function):
                allowed[name] = function
    return allowed


@cache
def _names() -> dict[Any, str]:
    return {function: name for name, function in _functions().items()}


def _function_name(function: Any) -> str:
    try:
        return _names()[function]
    except KeyError:
        name = getattr(function, "__qualname__", repr(function))
        raise ModelError(f"the model calls {name}, which cannot be saved as data: it is no operation of torch") from None


def _op(op: str) -> str:
    if op not in ("placeholder", "get_attr", "call_function", "call_method", "call_module", "output"):
        raise ModelError(f"a recipe has an operation of kind {op!r}")
    return op


def _target(op: str, target: str) -> Any:
    if op == "call_function":
        try:
            return _functions()[target]
        except KeyError:
            raise ModelError(f"a recipe calls {target!r}, which is no operation of torch") from None
    if op == "call_method" and (target.startswith("_") or not callable(getattr(torch.Tensor, target, None))):
        raise ModelError(f"a recipe calls the method {target!r}, which tensors do not have")
    return target


def _encode(value: Any, where: str = "an argument") -> Any:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list):
        return [_encode(item, where) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, where) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _encode(item, where) for key, item in value.items()}}
    if isinstance(value, slice):
        return {"slice": [_encode(item, where) for item in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": "cpu"}
    raise ModelError(f"{where} holds a {type(value).__name__}, which cannot be saved as data")


def _decode(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list):
        return [_decode(item, nodes) for item in value]
    ((kind, content),) = value.items()
    if kind == "node":
        return nodes[content]
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(_decode(item, nodes) for item in content)
    if kind == "dict":
        return {key: _decode(item, nodes) for key, item in content.items()}
    if kind == "slice":
        return slice(*(_decode(item, nodes) for item in content))
    if kind == "ellipsis":
        return Ellipsis
    if kind == "device":
        return torch.device("cpu")
    if kind == "torch":
        constant = getattr(torch, content)
        if isinstance(constant, (torch.dtype, torch.memory_format, torch.layout)):
            return constant
    raise ModelError(f"a recipe holds a value of kind {kind!r}")
