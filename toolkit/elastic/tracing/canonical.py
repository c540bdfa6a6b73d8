"""A traced graph in canonical form: layers are modules of `torch.nn`, and nothing is changed in place.

Convolutions, normalisations and linear layers that a model calls as functions, or multiplies out, become the modules
that they are, and in-place operations become ordinary ones. What comes out is made of tensor operations and `torch.nn`
modules only: that is what pruning understands, and what can be saved as data.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from .computed import computed_weight


def canonical(traced: fx.GraphModule, values: dict[fx.Node, Any]) -> fx.GraphModule:
    """The same computation with layers as `torch.nn` modules and without in-place operations. Changes `traced`.

    What asks for gradients is left out: what is trained is the supernet's to say.

    `values` holds what each node was in an example run; the nodes that are added here are added to it.
    """
    in_place = {path for path, module in traced.named_modules(remove_duplicate=False) if _in_place_module(module)}
    for path in in_place:
        traced.get_submodule(path).inplace = False  # type: ignore[assignment]
    for node in list(traced.graph.nodes):
        if node.op == "call_method" and node.target == "requires_grad_":  # it gives its tensor, as it is
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
            continue
        if node.op == "call_method" and node.target in _ANY_LAYOUT and not _gives_type(node):
            node.target = _ANY_LAYOUT[node.target]
        if node.op == "call_function":
            _layer_from_function(traced, node, values)
        if operation_name(node.target) in ("addmm", "matmul", "mm"):
            _layer_from_product(traced, node, values)
        changed = changed_by(node)
        out = node.kwargs.get("out")
        if node.op == "call_module" and node.target in in_place:
            _read_afterwards(node, node.args[0], node)
        elif changed is not None and isinstance(values.get(changed), torch.Tensor):
            _out_of_place(node, changed, values)
        elif changed is not None and node.target in _IN_PLACE and isinstance(values[changed], (int, float)):
            node.target = _IN_PLACE[node.target]
        elif isinstance(out, fx.Node):
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "out"}
            _read_afterwards(node, out, node)
        elif values.get(node) is not None and _squeezes_all(node):
            node.args, node.kwargs = (node.args[0], _sides_of_one(values[node.args[0]])), {}
    traced.graph.eliminate_dead_code(is_live)
    _name_plainly(traced)
    traced.recompile()
    return traced


def _name_plainly(traced: fx.GraphModule) -> None:
    """Gives what has a name that code cannot have, such as `features/Conv` of a converter, one that it can have."""
    named: dict[str, str] = {}
    for node in traced.graph.nodes:
        if node.op not in ("call_module", "get_attr") or _ODD.search(path := str(node.target)) is None:
            continue
        if path not in named:
            plain = _ODD.sub("_", path)
            named[path] = next(
                each for each in (plain, *(f"{plain}_{n}" for n in range(2, 999))) if _free(traced, each)
            )
            owner, _, leaf = named[path].rpartition(".")
            traced.add_submodule(named[path], nn.Module())  # makes the modules that it lies in
            parent = traced.get_submodule(owner)
            delattr(parent, leaf)
            found = operator.attrgetter(path)(traced)
            if isinstance(found, torch.Tensor) and not isinstance(found, nn.Parameter):
                parent.register_buffer(leaf, found)
            else:
                setattr(parent, leaf, found)
        node.target = named[path]


_ODD = re.compile(r"[^A-Za-z0-9_.-]")


def _free(traced: fx.GraphModule, path: str) -> bool:
    try:
        operator.attrgetter(path)(traced)
    except AttributeError:
        return True
    return False


def operation_name(target: Any) -> str:
    """The name of the function or method that a node calls; empty where a function has none."""
    return target if isinstance(target, str) else getattr(target, "__name__", "")


def is_live(node: fx.Node) -> bool:
    """Whether a node does something although nobody reads its result."""
    return node.is_impure() or node.target is operator.setitem


def _in_place_module(module: nn.Module) -> bool:
    return bool(getattr(module, "inplace", False)) and type(module).__module__.startswith("torch.nn.")


_IN_PLACE = {getattr(operator, f"i{name}"): getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "pow")}


def changed_by(node: fx.Node) -> fx.Node | None:
    """The tensor that an operation changes in place; None for one that only computes."""
    first = node.args[0] if node.args else node.kwargs.get("input")
    name = operation_name(node.target)
    changes = (
        node.op == "call_method" and _changing(name)
        if node.op != "call_function"
        else node.target in _IN_PLACE
        or node.target is operator.setitem
        or _inplace_argument(node) is not None
        or (inspect.isbuiltin(node.target) and _changing(name))
    )
    return first if changes and isinstance(first, fx.Node) else None


_ANY_LAYOUT = {"view": "reshape", "view_as": "reshape_as"}
"""What takes tensors as they lie in memory, which batches of training and a block's neighbours may change."""


def _gives_type(node: fx.Node) -> bool:
    return any(isinstance(argument, torch.dtype) for argument in (*node.args, *node.kwargs.values()))


def _squeezes_all(node: fx.Node) -> bool:
    return node.target in ("squeeze", torch.squeeze) and len(node.args) == 1 and not node.kwargs


def _sides_of_one(tensor: torch.Tensor) -> tuple[int, ...]:
    """Which axes have one position. A batch of one is none of them: the example run has two."""
    return tuple(axis for axis, size in enumerate(tensor.shape) if size == 1)


def _changing(name: str) -> bool:
    if not name.endswith("_") or name.endswith("__") or name == "requires_grad_":
        return False
    return hasattr(torch.Tensor, name) or hasattr(nn.functional, name)  # which has some that tensors have not


def _inplace_argument(node: fx.Node) -> int | str | None:
    """Where a function was given `inplace=True`: the index of a positional argument, or its name."""
    if node.kwargs.get("inplace") is True:
        return "inplace"
    try:
        names = list(inspect.signature(node.target).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    index = names.index("inplace") if "inplace" in names else len(node.args)
    return index if index < len(node.args) and node.args[index] is True else None


def _out_of_place(node: fx.Node, changed: fx.Node, values: dict[fx.Node, Any]) -> None:
    """Turns an in-place operation into one that gives a new tensor, which everybody reads afterwards."""
    if _has_other_type(node, changed, values) or not _made_ordinary(node):  # let it work on a copy
        with node.graph.inserting_before(node):
            twin = node.graph.call_method("clone", (changed,))
        twin.meta, values[twin] = dict(node.meta), values[changed]
        node.replace_input_with(changed, twin)
        _read_afterwards(node, changed, twin)
    else:
        _read_afterwards(node, changed, node)


# In place, the answers of these are numbers of the tensor's own type; otherwise they are bools.
_COMPARISONS = {"eq_", "ne_", "lt_", "gt_", "le_", "ge_", "logical_and_", "logical_or_", "logical_xor_", "logical_not_"}


def _has_other_type(node: fx.Node, changed: fx.Node, values: dict[fx.Node, Any]) -> bool:
    """Whether the ordinary operation would give a tensor of another type than that which the in-place one changes."""
    own = values[changed].dtype
    others = [values[used].dtype for used in node.all_input_nodes if isinstance(values[used], torch.Tensor)]
    return node.target in _COMPARISONS or any(torch.promote_types(own, other) != own for other in others)


def _made_ordinary(node: fx.Node) -> bool:
    """Replaces an in-place operation by the ordinary one. False where it exists in place only."""
    name = operation_name(node.target)
    place = _inplace_argument(node) if node.op == "call_function" else None
    if node.target in _IN_PLACE:
        node.target = _IN_PLACE[node.target]
    elif isinstance(place, str):
        node.kwargs = {**node.kwargs, "inplace": False}
    elif place is not None:
        node.args = tuple(False if index == place else value for index, value in enumerate(node.args))
    elif node.op == "call_method" and callable(getattr(torch.Tensor, name[:-1], None)):
        node.target = name[:-1]
    elif inspect.isbuiltin(node.target) and (ordinary := _function(name[:-1])):
        node.target = ordinary
    else:
        return False
    return True


def _function(name: str) -> Any:
    """The public function of that name; None where there is none."""
    return next((found for owner in (torch, nn.functional) if callable(found := getattr(owner, name, None))), None)


def _read_afterwards(node: fx.Node, old: fx.Node, new: fx.Node) -> None:
    """From `node` on, everybody who reads `old` reads `new`."""
    after = node.next
    while after.op != "root":
        after.replace_input_with(old, new)
        after = after.next


_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_SIGNATURES: dict[Any, tuple[str, ...]] = {
    torch.conv1d: _CONV,
    torch.conv2d: _CONV,
    nn.functional.linear: ("input", "weight", "bias"),
    nn.functional.layer_norm: ("input", "normalized_shape", "weight", "bias", "eps"),
    nn.functional.rms_norm: ("input", "normalized_shape", "weight", "eps"),
    nn.functional.group_norm: ("input", "num_groups", "weight", "bias", "eps"),
    nn.functional.batch_norm: (
        *("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    ),
}


def _layer_from_function(traced: fx.GraphModule, node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
    """Replaces a layer that was called as a function by the `torch.nn` module that it is, where it is one."""
    names = _SIGNATURES.get(node.target)
    if names is None:
        return
    bound: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    tensors: dict[str, torch.Tensor] = {}
    places: dict[str, str] = {}
    for name in ("weight", "bias", "running_mean", "running_var"):
        source = bound.get(name)
        if source is None:
            continue
        if not isinstance(source, fx.Node):
            return
        if source.op == "get_attr":
            tensors[name] = operator.attrgetter(str(source.target))(traced)
            places[name] = str(source.target)
        elif (computed := computed_weight(traced, source)) is not None:
            places[name], value = computed
            tensors[name] = nn.Parameter(value.detach().clone(), requires_grad=False)
        else:
            return  # what depends on the input stays a function
    if "weight" not in tensors or bound.get("training"):
        return
    if bound["weight"].op == "get_attr" and any(bound[name].op != "get_attr" for name in tensors):
        return  # a bias that is joined from parts, some of them fixed, is thinned part by part
    layer = _layer(node.target, bound, tensors, values[bound["input"]].dim())
    layer.requires_grad_(False)  # a bias that the function did not have is frozen like all the rest
    for name, tensor in tensors.items():
        if not isinstance(tensor, nn.Parameter) and name not in layer._buffers:
            return
        setattr(layer, name, tensor)
    _call_instead(traced, node, layer, places["weight"], bound["input"])


def _layer_from_product(traced: fx.GraphModule, node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
    """Replaces a product with a matrix of weights, to which a bias may be added, by the linear layer that it is."""
    if node.op == "call_module" or node.kwargs:
        return
    *bias, source, weight = node.args
    if not all(isinstance(each, fx.Node) and each.op == "get_attr" for each in (*bias, weight)):
        return
    tensors = [operator.attrgetter(str(each.target))(traced) for each in (weight, *bias)]  # type: ignore[union-attr]
    if any(not isinstance(tensor, nn.Parameter) or tensor.dim() != 2 - at for at, tensor in enumerate(tensors)):
        return
    if not isinstance(values.get(source), torch.Tensor) or values[source].dim() < 2:  # type: ignore[arg-type, index]
        return
    width, features = tensors[0].shape
    layer = nn.Linear(width, features, bias=bool(bias))
    layer.weight = nn.Parameter(tensors[0].detach().t().contiguous())
    if bias:
        layer.bias = tensors[1]
    _call_instead(traced, node, layer.requires_grad_(False), str(weight.target), source)  # type: ignore[union-attr]


def _call_instead(traced: fx.GraphModule, node: fx.Node, layer: nn.Module, weight: str, source: Any) -> None:
    """Lets a node call a layer, which gets a place beside its weight, for what it reads from `source`."""
    owner, _, _ = weight.rpartition(".")
    parent = traced.get_submodule(owner)
    name = next(name for name in ("layer", *(f"layer{n}" for n in range(2, 99))) if not hasattr(parent, name))
    parent.add_module(name, layer.eval())
    node.op, node.target = "call_module", f"{owner}.{name}".lstrip(".")
    node.args, node.kwargs = (source,), {}


def _layer(function: Any, bound: dict[str, Any], tensors: dict[str, torch.Tensor], dimensions: int) -> nn.Module:
    weight, bias = tensors["weight"], "bias" in tensors
    if function is nn.functional.linear:
        return nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    if function is nn.functional.layer_norm:
        return nn.LayerNorm(tuple(bound["normalized_shape"]), eps=bound.get("eps", 1e-5), bias=bias)
    if function is nn.functional.rms_norm:
        return nn.RMSNorm(tuple(bound["normalized_shape"]), eps=bound.get("eps"))
    if function is nn.functional.group_norm:
        return nn.GroupNorm(bound["num_groups"], len(weight), eps=bound.get("eps", 1e-5))
    if function is nn.functional.batch_norm:
        norm = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(dimensions, nn.BatchNorm1d)
        return norm(len(weight), eps=bound.get("eps", 1e-5), momentum=bound.get("momentum", 0.1))
    groups = bound.get("groups", 1)
    kind = nn.Conv1d if function is torch.conv1d else nn.Conv2d

    def sides(value: Any) -> Any:
        sizes = weight.dim() - 2
        return value if isinstance(value, str) else (value,) * sizes if isinstance(value, int) else tuple(value)

    return kind(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        stride=sides(bound.get("stride", 1)),
        padding=sides(bound.get("padding", 0)),
        dilation=sides(bound.get("dilation", 1)),
        groups=groups,
        bias=bias,
    )
