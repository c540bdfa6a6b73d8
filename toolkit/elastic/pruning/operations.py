"""What the functions and methods of torch do to the axes of the tensors that they read.

A rule takes what was followed so far, the operation and what it gave, unifies the axes that are one, and gives the axes
of the result; None when the operation is called in a way that is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from ..tracing.canonical import operation_name
from .axes import Axis, divide, fix, fixed_axis, has_batch, join, refold, size_of, unify

Axes = list[Axis]


@dataclass
class Followed:
    """What `follow` found. `axes` holds the axes of every tensor node, `tensors` those of every weight by its name;
    `groups` the factor of every convolution or normalisation that counts its groups, by the module's name."""

    axes: dict[fx.Node, Any] = field(default_factory=dict)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    tensors: dict[str, Axes] = field(default_factory=dict)
    groups: dict[str, Axis] = field(default_factory=dict)

    def of(self, value: Any) -> Axes:
        """The axes of an operand. Raises TypeError when it is no tensor."""
        if not isinstance(value, fx.Node) or not isinstance(self.values[value], torch.Tensor):
            raise TypeError(value)
        axes: Axes = self.axes[value]
        return axes

    def number(self, value: Any) -> Any:
        """What an argument was when the block ran."""
        return fx.node.map_arg(value, lambda used: self.values[used])

    def operands(self, n: fx.Node) -> list[fx.Node]:
        """The tensors, and tuples of tensors, that an operation reads."""
        return [used for used in n.all_input_nodes if used in self.axes]


Rule = Callable[[Followed, fx.Node, Any], Any]


def fix_all(axes: Any) -> None:
    """Fixes every axis of a tensor, or of a tuple of tensors."""
    for axis in axes or ():
        if isinstance(axis, list):
            fix_all(axis)
        elif axis is not None:
            fix(axis)


def unify_if(weights: dict[str, Axes], name: str, axis: Axis) -> None:
    """One axis with that of a weight, where the layer has it."""
    if weights.get(name):
        unify(weights[name][0], axis)


def arguments(n: fx.Node, *names: str) -> list[Any]:
    """The arguments of a call after its first, by position or by name; None for one that is not given."""
    given = list(n.args[1:])
    return [given[index] if index < len(given) else n.kwargs.get(name) for index, name in enumerate(names)]


def convolution(
    found: Followed, path: str, x: Axes, weights: dict[str, Axes], groups: int, spatial: Axes, transposed: bool
) -> Axes | None:
    """The axes of a convolution's output, whose weight is (outputs, inputs / groups, …), transposed the reverse."""
    first, second = weights["weight"][:2]
    inputs, outputs = (first, second) if transposed else (second, first)
    for axis in weights["weight"][2:]:
        fix(axis)
    for axis in x[len(x) - len(spatial) :]:
        fix(axis)
    channels = x[len(x) - len(spatial) - 1]
    if groups == 1:
        unify(channels, inputs)
    else:
        whole = first  # the one of the two that holds all groups
        grouped = refold([whole], (groups, size_of(whole) // groups))
        passed = refold([channels], (groups, size_of(channels) // groups))
        if grouped is None or passed is None:
            return None
        unify(grouped[0], passed[0])
        unify(grouped[1] if transposed else second, passed[1])
        found.groups[path] = grouped[0]
        outputs = (*grouped[0], *second) if transposed else first
    unify_if(weights, "bias", outputs)
    return [*x[: len(x) - len(spatial) - 1], outputs, *spatial]


def _same(found: Followed, n: fx.Node, result: Any) -> Any:
    x = found.of(n.args[0])
    for used in found.operands(n)[1:]:
        fix_all(found.axes[used])
    return x


def _together(found: Followed, n: fx.Node, result: Any) -> Any:
    return _broadcast([found.of(used) for used in found.operands(n)], result.shape)


def _broadcast(operands: Sequence[Axes], sizes: Sequence[int]) -> Axes:
    """The axes that operands have together, aligned from the right. `sizes` are those of the result."""
    axes: Axes = []
    for index in range(1, len(sizes) + 1):
        meeting = [some[-index] for some in operands if len(some) >= index and size_of(some[-index]) == sizes[-index]]
        for other in meeting[1:]:
            unify(meeting[0], other)
        axes.insert(0, meeting[0] if meeting else fixed_axis(sizes[-index]))
    return axes


def _reduce(found: Followed, n: fx.Node, result: Any) -> Any:
    x = found.of(n.args[0])
    dims = arguments(n, "dim")[0]
    if dims is None:
        return None
    gone = {dim % len(x) for dim in ([dims] if isinstance(dims, int) else dims)}
    if result.dim() == len(x):
        return [fixed_axis(1) if index in gone else axis for index, axis in enumerate(x)]
    return [axis for index, axis in enumerate(x) if index not in gone]


def _fold(found: Followed, n: fx.Node, result: Any) -> Any:
    return refold(found.of(n.args[0]), tuple(result.shape))


def _pool(found: Followed, n: fx.Node, result: Any) -> Any:
    return pooled(found.of(n.args[0]), result, operation_name(n.target))


def pooled(x: Axes, result: torch.Tensor, name: str) -> Axes:
    """What mixes neighbours along the last axes: as many as its name says ("2d"), or all after the channels."""
    pixels = int(name[-2]) if name.endswith("d") else result.dim() - 2
    for axis in x[-pixels:]:
        fix(axis)
    return [*x[:-pixels], *(fixed_axis(size) for size in result.shape[-pixels:])]


def _pad(found: Followed, n: fx.Node, result: Any) -> Any:
    return padded(found.of(n.args[0]), result, found.number(arguments(n, "pad")[0]))


def padded(x: Axes, result: torch.Tensor, amounts: Sequence[int]) -> Axes:
    """`amounts` are (before, after) of the last axis, of the last but one, and so on."""
    axes = list(x)
    for index, amount in enumerate(zip(amounts[::2], amounts[1::2], strict=True), 1):
        if amount != (0, 0):
            fix(axes[-index])
            axes[-index] = fixed_axis(result.shape[-index])
    return axes


def _roll(found: Followed, n: fx.Node, result: Any) -> Any:
    x, (_, dims) = found.of(n.args[0]), arguments(n, "shifts", "dims")
    for dim in [dims] if isinstance(dims, int) else dims:
        fix(x[dim])
    return x


def _permute(found: Followed, n: fx.Node, result: Any) -> Any:
    x, order = found.of(n.args[0]), n.args[1:] or n.kwargs["dims"]
    order = order[0] if len(order) == 1 and isinstance(order[0], (tuple, list)) else order  # type: ignore[index, arg-type]
    return [x[dim] for dim in order]  # type: ignore[union-attr, index]


def _transpose(found: Followed, n: fx.Node, result: Any) -> Any:
    x, (one, other) = list(found.of(n.args[0])), arguments(n, "dim0", "dim1")
    x[one], x[other] = x[other], x[one]
    return x


def _move(found: Followed, n: fx.Node, result: Any) -> Any:
    x, (source, target) = list(found.of(n.args[0])), arguments(n, "source", "destination")
    if not isinstance(source, int) or not isinstance(target, int):
        return None
    axis = x.pop(source)
    x.insert(target % (len(x) + 1), axis)
    return x


def _squeeze(found: Followed, n: fx.Node, result: Any) -> Any:
    x, (dim,) = list(found.of(n.args[0])), arguments(n, "dim")
    dims = {index for index, axis in enumerate(x) if size_of(axis) == 1}
    if dim is not None:
        dims &= {each % len(x) for each in ([dim] if isinstance(dim, int) else dim)}
    return [axis for index, axis in enumerate(x) if index not in dims]


def _unsqueeze(found: Followed, n: fx.Node, result: Any) -> Any:
    x, (dim,) = list(found.of(n.args[0])), arguments(n, "dim")
    x.insert(dim % (len(x) + 1), fixed_axis(1))
    return x


def _expand(found: Followed, n: fx.Node, result: Any) -> Any:
    x = found.of(n.args[0])
    x = [*(fixed_axis(1) for _ in range(result.dim() - len(x))), *x]
    return [axis if size_of(axis) == size else fixed_axis(size) for axis, size in zip(x, result.shape, strict=True)]


def _attribute(found: Followed, n: fx.Node, result: Any) -> Any:
    x = found.of(n.args[0])
    return [*x[:-2], x[-1], x[-2]] if n.args[1] == "mT" or (n.args[1] == "T" and len(x) == 2) else None


def _cat(found: Followed, n: fx.Node, result: Any) -> Any:
    tensors, (dim,) = n.args[0] if n.args else n.kwargs["tensors"], arguments(n, "dim")
    parts = [found.of(tensor) for tensor in tensors]  # type: ignore[union-attr]
    at = (dim or 0) % result.dim()
    for part in parts[1:]:
        for index, (one, other) in enumerate(zip(parts[0], part, strict=True)):
            if index != at:
                unify(one, other)
    return [*parts[0][:at], join([part[at] for part in parts]), *parts[0][at + 1 :]]


def _stack(found: Followed, n: fx.Node, result: Any) -> Any:
    tensors, (dim,) = n.args[0], arguments(n, "dim")
    parts = [found.of(tensor) for tensor in tensors]  # type: ignore[union-attr]
    for part in parts[1:]:
        for one, other in zip(parts[0], part, strict=True):
            unify(one, other)
    at = (dim or 0) % result.dim()
    return [*parts[0][:at], fixed_axis(len(parts)), *parts[0][at:]]


def _unbind(found: Followed, n: fx.Node, result: Any) -> Any:
    x, (dim,) = found.of(n.args[0]), arguments(n, "dim")
    at = (dim or 0) % len(x)
    fix(x[at])
    return [[*x[:at], *x[at + 1 :]] for _ in result]


def _divided(found: Followed, n: fx.Node, result: Any) -> Any:
    """chunk, split and their like: consecutive stretches of one axis."""
    x, (_, dim) = found.of(n.args[0]), arguments(n, "sizes", "dim")
    at = (dim or 0) % len(x)
    parts = divide(x[at], [item.shape[at] for item in result])
    return [[*x[:at], part, *x[at + 1 :]] for part in parts]


def _item(found: Followed, n: fx.Node, result: Any) -> Any:
    source, index = n.args
    value = found.values[source]  # type: ignore[index]
    if isinstance(value, (tuple, list)):
        return found.axes[source][index] if isinstance(index, int) else None  # type: ignore[index]
    x = found.of(source)
    if isinstance(index, fx.Node):  # rows of a table
        return _rows(found, x, index, result)
    wanted = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in wanted:
        at = wanted.index(Ellipsis)
        missing = len(x) - sum(each is not None for each in wanted) + 1
        wanted[at : at + 1] = [slice(None)] * missing
    axes: Axes = []
    waiting = list(x)
    for each in wanted:
        if each is None:
            axes.append(fixed_axis(1))
            continue
        axis = waiting.pop(0)
        if isinstance(each, int):
            fix(axis)
        elif isinstance(each, slice):
            start, stop, step = slice(*found.number((each.start, each.stop, each.step))).indices(size_of(axis))
            if (start, stop, step) == (0, size_of(axis), 1):
                axes.append(axis)
            elif step == 1:
                sizes = [start, stop - start, size_of(axis) - stop]
                axes.append(divide(axis, sizes)[1] if has_batch(axis) is False else fixed_axis(stop - start))
            else:
                fix(axis)
                axes.append(fixed_axis(len(range(start, stop, step))))
        else:
            return None
    return [*axes, *waiting]


def _rows(found: Followed, x: Axes, index: fx.Node, result: Any) -> Axes:
    chosen = found.of(index)
    fix_all(chosen)
    fix(x[0])
    return [*(fixed_axis(size_of(axis)) for axis in chosen), *x[1:]]


def _matmul(found: Followed, n: fx.Node, result: Any) -> Any:
    a, b = found.of(n.args[0]), found.of(n.args[1])
    if len(a) < 2 or len(b) < 2:
        return None
    unify(a[-1], b[-2])
    return [*_broadcast([a[:-2], b[:-2]], result.shape[:-2]), a[-2], b[-1]]


def _attention(found: Followed, n: fx.Node, result: Any) -> Any:
    query, key, value = (found.of(arg) for arg in n.args[:3])
    mask = arguments(n, "key", "value", "attn_mask")[2]
    unify(query[-1], key[-1])
    unify(key[-2], value[-2])
    if n.kwargs.get("enable_gqa"):  # each head of the keys and values serves several of the queries in a row
        unify(key[-3], value[-3])
        grouped = refold([query[-3]], (size_of(key[-3]), size_of(query[-3]) // size_of(key[-3])))
        if grouped is None:
            return None
        unify(grouped[0], key[-3])
    weights: list[Axes] = [query[:-2], key[:-2], value[:-2]]
    if isinstance(mask, fx.Node):
        masked = found.of(mask)
        for axis, other in zip(masked[-2:], (query[-2], key[-2]), strict=True):
            if size_of(axis) == size_of(other):
                unify(axis, other)
        weights.append(masked[:-2])
    return [*_broadcast(weights, result.shape[:-2]), query[-2], value[-1]]


def _einsum(found: Followed, n: fx.Node, result: Any) -> Any:
    equation, *operands = n.args
    inputs, _, output = str(equation).replace(" ", "").partition("->")
    letters: dict[str, Axis] = {}
    for names, operand in zip(inputs.split(","), operands, strict=True):
        for letter, axis in zip(names, found.of(operand), strict=True):
            unify(letters.setdefault(letter, axis), axis)
    return [letters[letter] for letter in output]


def _linear(found: Followed, n: fx.Node, result: Any) -> Any:
    x, (weight, bias) = found.of(n.args[0]), arguments(n, "weight", "bias")
    outputs, inputs = found.of(weight)
    unify(x[-1], inputs)
    if bias is not None:
        unify(found.of(bias)[0], outputs)
    return [*x[:-1], outputs]


def _convolution(found: Followed, n: fx.Node, result: Any) -> Any:
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    weight, bias, _, _, _, groups = arguments(n, *names)
    if (groups or 1) != 1:
        return None  # the number of groups is an argument here, and is not changed
    weights = {"weight": found.of(weight)} | ({"bias": found.of(bias)} if bias is not None else {})
    spatial = [fixed_axis(size) for size in result.shape[2:]]
    return convolution(found, "", found.of(n.args[0]), weights, 1, spatial, transposed=False)


_RULES: dict[str, Rule] = {
    "pad": _pad,
    "roll": _roll,
    "permute": _permute,
    "transpose": _transpose,
    "swapaxes": _transpose,
    "movedim": _move,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "expand": _expand,
    "getattr": _attribute,
    "cat": _cat,
    "concat": _cat,
    "stack": _stack,
    "unbind": _unbind,
    "chunk": _divided,
    "split": _divided,
    "split_with_sizes": _divided,
    "tensor_split": _divided,
    "getitem": _item,
    "matmul": _matmul,
    "bmm": _matmul,
    "scaled_dot_product_attention": _attention,
    "einsum": _einsum,
    "linear": _linear,
    "conv2d": _convolution,
    "conv1d": _convolution,
}
_POINTWISE = {
    *("relu", "relu6", "gelu", "silu", "sigmoid", "hardswish", "hardsigmoid", "hardtanh", "mish", "tanh", "elu"),
    *("selu", "leaky_relu", "softplus", "softsign", "logsigmoid", "celu", "dropout", "clone", "contiguous", "detach"),
    *("to", "float", "type_as", "neg", "exp", "log", "sqrt", "rsqrt", "abs", "square", "reciprocal", "clamp"),
    *("clamp_min", "clamp_max", "erf", "sin", "cos", "softmax", "log_softmax", "normalize", "nan_to_num", "round"),
}
_TOGETHER = {
    *("add", "sub", "mul", "div", "truediv", "true_divide", "maximum", "minimum", "pow", "where", "lerp"),
    *("masked_fill", "rsub", "eq", "ne", "lt", "gt", "le", "ge"),
}
_REDUCTIONS = {"mean", "sum", "amax", "amin", "var", "std", "logsumexp"}
_FOLDS = {"reshape", "view", "flatten", "unflatten", "_unsafe_view"}
_POOLS = {
    *("avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
    *("adaptive_max_pool2d", "interpolate"),
}
_NAMED: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, _same),
    **dict.fromkeys(_TOGETHER, _together),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_FOLDS, _fold),
    **dict.fromkeys(_POOLS, _pool),
    **_RULES,
}


def rule_for(n: fx.Node) -> Rule | None:
    """The rule for a call of a function or a method; None when there is none."""
    name = operation_name(n.target)
    return _NAMED.get(name.strip("_") if name.startswith("__") else name)
