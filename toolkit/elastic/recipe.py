"""A block as data: its operations and modules as json, its tensors apart. No code is stored and none is run on reading.

A block is a graph of tensor operations over `torch.nn` modules. Reading accepts only functions that torch itself
lists as operations on tensors, their methods of the same names, arithmetic, and module classes of `torch.nn`; a
module is rebuilt from its plain attributes without running its constructor. A file that asks for anything else is
refused. `torch.fx` turns a graph into Python source, names and all, so every name that it would write there is
checked as well.
"""

from __future__ import annotations

import inspect
import keyword
import math
import operator
import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from ..errors import ModelError

_PLAIN = (bool, int, float, str, type(None))
_MODULE_INTERNALS = set(vars(nn.Module())) | {"_is_full_backward_hook", "_source_modules"}
_OF_WEIGHTS = {"_flat_weights", "_flat_weight_refs"}  # a recurrent layer's second list of its parameters
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
# What calls or makes a function has no place in a file that is only data.
_OPERATORS = [
    getattr(operator, name)
    for name in operator.__all__
    if name not in ("attrgetter", "call", "delitem", "itemgetter", "methodcaller")
]
# What tensors, and the named tuples that some operations return, are asked for.
_ATTRIBUTES = {
    *("T", "mT", "H", "mH", "real", "imag", "data", "shape", "ndim", "dtype", "device", "layout", "requires_grad"),
    *("values", "indices", "itemsize", "nbytes", "is_cuda", "is_quantized"),
}
_METHODS = {
    *("size", "dim", "stride", "nelement", "ndimension", "element_size", "item", "tolist", "is_contiguous"),
    *("view", "view_as", "reshape_as", "expand", "expand_as", "repeat", "unfold", "contiguous", "requires_grad_"),
    *("to", "type", "type_as", "float", "double", "half", "bfloat16", "int", "long", "short", "byte", "char", "bool"),
    *("cpu", "copy_", "fill_", "zero_", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
}


def to_json(block: nn.Module) -> dict[str, Any]:
    """The block without its tensors. Raises ModelError for what is no plain tensor operation or `torch.nn` module."""
    if not isinstance(block, fx.GraphModule):
        raise ModelError(f"a block is a {type(block).__qualname__}, which cannot be saved as data: it was not traced")
    for node in block.graph.nodes:
        if node.op == "call_method" and node.target not in _methods():
            raise ModelError(f"the model calls the method {node.target}, which cannot be saved as data")
        if node.target is getattr and node.args[1] not in _ATTRIBUTES:
            raise ModelError(f"the model reads the attribute {node.args[1]}, which cannot be saved as data")
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
        "modules": {
            _matching(_PATH, path): _module_json(path, module)
            for path, module in block.named_modules(remove_duplicate=False)
            if path
        },
        "buffers": sorted(block._buffers),
    }


def tensors(block: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer of the block, by name; what is shared inside the block appears under each name."""
    named = (*block.named_parameters(remove_duplicate=False), *block.named_buffers(remove_duplicate=False))
    return {name: tensor.detach() for name, tensor in named}


def from_json(doc: Mapping[str, Any], values: Mapping[str, torch.Tensor], name: str) -> fx.GraphModule:
    """The block again, in eval mode. `values` are its tensors. Raises ModelError for what `to_json` never writes."""
    try:
        root = nn.Module()
        for path, entry in doc["modules"].items():
            parent, _, leaf = _matching(_PATH, path).rpartition(".")
            root.get_submodule(parent).add_module(leaf, _module(entry))
        for path, value in values.items():
            owner, _, leaf = _matching(_PATH, path).rpartition(".")
            module = root.get_submodule(owner)
            if leaf in (doc["modules"][owner] if owner else doc)["buffers"]:
                module.register_buffer(leaf, value)
            else:
                module.register_parameter(leaf, nn.Parameter(value, requires_grad=value.is_floating_point()))
        for module in root.modules():
            if isinstance(module, nn.RNNBase):
                module._init_flat_weights()
        ops = [entry["op"] for entry in doc["nodes"]]
        inputs = ops.count("placeholder")
        if not inputs or ops[:inputs] != ["placeholder"] * inputs or ops[-1] != "output":
            raise ModelError("its operations do not lead from its inputs, which come first, to an output")
        known = {"call_module": doc["modules"], "get_attr": values}
        graph = fx.Graph()
        nodes: dict[str, fx.Node] = {}
        for index, entry in enumerate(doc["nodes"]):
            op, args, kwargs = entry["op"], _decode(entry["args"], nodes), _decode(entry["kwargs"], nodes)
            if op == "output" and index < len(ops) - 1:
                raise ModelError("it has more than one output")
            for key in kwargs:
                _matching(_NAME, key)
            target = _target(op, entry["target"], args, known)
            nodes[_matching(_NAME, entry["name"])] = graph.create_node(
                op, target, tuple(args), kwargs, name=entry["name"]
            )
        graph.lint()
        return fx.GraphModule(root, graph, class_name="Block").eval()
    except ModelError as error:
        raise ModelError(f"the recipe of block {name!r} is refused: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError, SyntaxError) as error:
        raise ModelError(f"the recipe of block {name!r} is damaged: {type(error).__name__}: {error}") from error


def _matching(pattern: re.Pattern[str], name: str) -> str:
    """The name itself, when fx can write it into its source as it is. Raises ModelError."""
    if not pattern.fullmatch(name) or keyword.iskeyword(name):
        raise ModelError(f"{name!r} is no name")
    return name


def _module_json(path: str, module: nn.Module) -> dict[str, Any]:
    kind = type(module)
    if not kind.__module__.startswith("torch.nn.modules."):
        raise ModelError(
            f"{path!r} is a {kind.__qualname__}, which cannot be saved as data: it is not part of torch.nn"
        )
    if module._forward_hooks or module._forward_pre_hooks:
        raise ModelError(f"{path!r} has a hook, which is code and cannot be saved as data: remove it from the model")
    left_out = _MODULE_INTERNALS | (_OF_WEIGHTS if isinstance(module, nn.RNNBase) else set())
    attributes = {}
    for key, value in vars(module).items():
        if key not in left_out:
            try:
                attributes[key] = _encode(value, f"{path}.{key}")
            except ModelError:
                if key in _read_by(kind):
                    raise
                # A library or the user has put it there, as torch does with `qconfig`: the layer knows nothing of it.
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "attributes": attributes,
        "absent": [key for key, value in module._parameters.items() if value is None]
        + [key for key, value in module._buffers.items() if value is None],
        "buffers": sorted(key for key, value in module._buffers.items() if value is not None),
    }


def _read_by(kind: type[nn.Module]) -> frozenset[str]:
    """The names that occur in the code of a class of layers, and so every attribute of itself that it may read."""
    found: set[str] = set()
    for function in inspect.getmembers(kind, inspect.isfunction):
        code = function[1].__code__
        found.update(code.co_names, (constant for constant in code.co_consts if isinstance(constant, str)))
    return frozenset(found)


def _module(entry: Mapping[str, Any]) -> nn.Module:
    module_name, _, class_name = str(entry["class"]).rpartition(".")
    kind = (
        getattr(sys.modules.get(module_name), class_name, None) if module_name.startswith("torch.nn.modules.") else None
    )
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == module_name):
        raise ModelError(f"a recipe asks for the module class {entry['class']!r}, which is not one of torch.nn")
    module: nn.Module = kind.__new__(kind)
    nn.Module.__init__(module)
    for key, value in entry["attributes"].items():
        if key in _MODULE_INTERNALS or key.startswith("__") or (hasattr(kind, key) and callable(getattr(kind, key))):
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
    allowed |= {f"torch.{name}": getattr(torch, name) for name in ("arange", "empty", "full", "ones", "zeros")}
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
        raise ModelError(
            f"the model calls {name}, which cannot be saved as data: it is no operation of torch"
        ) from None


@cache
def _methods() -> frozenset[str]:
    """The methods of tensors a recipe may name: those that are functions as well, their in-place twins, and a list."""
    functions = {name.rpartition(".")[2] for name in _functions()}
    public = {name for name in dir(torch.Tensor) if not name.startswith("_") and callable(getattr(torch.Tensor, name))}
    return frozenset(name for name in public if name in _METHODS or name.removesuffix("_") in functions)


def _target(op: str, target: str, args: Any, known: Mapping[str, Mapping[str, Any]]) -> Any:
    if op in known:
        if target not in known[op]:
            raise ModelError(f"a recipe uses {target!r}, which is not in it")
    elif op == "call_function":
        if target not in _functions():
            raise ModelError(f"a recipe calls {target!r}, which is no operation of torch")
        if target == "getattr" and not (len(args) == 2 and isinstance(args[1], str) and args[1] in _ATTRIBUTES):
            raise ModelError(f"a recipe reads the attribute {args[1:]!r}, which is not one of a tensor's")
        return _functions()[target]
    elif op == "call_method":
        if target not in _methods():
            raise ModelError(f"a recipe calls the method {target!r}, which is no operation on tensors")
    elif op == "placeholder":
        _matching(_NAME, target)
    elif op != "output":
        raise ModelError(f"a recipe has an operation of kind {op!r}")
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
    kind, content = next(iter(value.items()))
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
