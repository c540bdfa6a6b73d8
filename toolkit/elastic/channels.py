"""Follows the channels, heads and hidden features of a block from layer to layer.

`follow` runs a block once and says of every tensor in it, weights included, what its axes are (see `axes`). An axis
that touches the block's input or output keeps its size, and so does one that meets an operation that is not known
here: whatever is not understood is left as it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from .axes import Axis, Factor, divide, fix, fixed_axis, has_batch, join, refold, size_of, unify
from .trace import holds_tensors

Axes = list[Axis]

_POINTWISE = {
    *(
        "relu",
        "relu6",
        "gelu",
        "silu",
        "sigmoid",
        "hardswish",
        "hardsigmoid",
        "hardtanh",
        "mish",
        "tanh",
        "elu",
        "selu",
    ),
    *("leaky_relu", "softplus", "softsign", "logsigmoid", "celu", "dropout", "clone", "contiguous", "detach", "to"),
    *("float", "type_as", "neg", "exp", "log", "sqrt", "rsqrt", "abs", "square", "reciprocal", "clamp", "clamp_min"),
    *("clamp_max", "erf", "sin", "cos", "softmax", "log_softmax", "normalize", "nan_to_num", "round"),
}
_TOGETHER = {
    *(
        "add",
        "sub",
        "mul",
        "div",
        "truediv",
        "true_divide",
        "maximum",
        "minimum",
        "pow",
        "where",
        "lerp",
        "masked_fill",
    ),
    *("rsub", "eq", "ne", "lt", "gt", "le", "ge"),
}
_REDUCTIONS = {"mean", "sum", "amax", "amin", "var", "std", "logsumexp"}
_FOLDS = {"reshape", "view", "flatten", "unflatten", "_unsafe_view"}
_POOLS = {
    *("avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
    *("adaptive_max_pool2d", "interpolate"),
}
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
_POINTWISE_MODULES = (nn.modules.dropout._DropoutNd, nn.Identity)
_POOL_MODULES = (
    *(nn.modules.pooling._AvgPoolNd, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd),
    *(nn.modules.pooling._AdaptiveMaxPoolNd, nn.Upsample),
)
_PAD_MODULES = (
    *(nn.modules.padding._ConstantPadNd, nn.modules.padding._ReflectionPadNd, nn.modules.padding._ReplicationPadNd),
)


@dataclass
class Followed:
    """What `follow` found. `axes` holds the axes of every tensor node, `tensors` those of every weight by its name;
    `groups` the factor of every convolution or normalisation that counts its groups, by the module's name."""

    axes: dict[fx.Node, Any] = field(default_factory=dict)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    tensors: dict[str, Axes] = field(default_factory=dict)
    groups: dict[str, Axis] = field(default_factory=dict)


def follow(block: fx.GraphModule, shape: tuple[int, ...]) -> Followed:
    """The axes of every tensor in `block`, whose input has `shape` at batch size 1. The block is run at 2."""
    follower = _Follower(block)
    with torch.no_grad():
        follower.run(torch.zeros(2, *shape[1:]))
    return follower.found


class _Follower(fx.Interpreter):
    def __init__(self, block: fx.GraphModule) -> None:
        super().__init__(block)
        self.found = Followed()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.found.values[n] = result
        if n.op == "placeholder":
            batch, *rest = result.shape
            self.found.axes[n] = [(Factor(batch, batch=True),), *(fixed_axis(size) for size in rest)]
        elif n.op == "output":
            self._fix_inputs(n)
        elif n.op == "get_attr":
            self.found.axes[n] = self._tensor(str(n.target), result)
        elif n.target is operator.setitem:
            self._fix_inputs(n)
        elif holds_tensors(result):
            try:
                axes = self._follow(n, result)
            except (LookupError, TypeError, ValueError, AttributeError):
                axes = None  # called in a way that is not known here
            if axes is None or not _fits(axes, result):
                self._fix_inputs(n)
                self._fix_weights(n)
                axes = _fixed(result)
            self.found.axes[n] = axes
        return result

    def _follow(self, n: fx.Node, result: Any) -> Any:
        if n.op == "call_module":
            return self._module(n, self.submodules[str(n.target)], result)
        name = n.target if isinstance(n.target, str) else getattr(n.target, "__name__", "")
        name = name.strip("_") if name.startswith("__") else name
        rule = _RULES.get(name)
        if rule is None and name in _POINTWISE:
            rule = _same
        elif rule is None and name in _TOGETHER:
            rule = _together
        elif rule is None and name in _REDUCTIONS:
            rule = _reduce
        elif rule is None and name in _FOLDS:
            rule = _fold
        elif rule is None and name in _POOLS:
            rule = _pool
        return rule(self, n, result) if rule else None

    def _operands(self, n: fx.Node) -> list[fx.Node]:
        return [used for used in n.all_input_nodes if used in self.found.axes]

    def _fix_inputs(self, n: fx.Node) -> None:
        for used in self._operands(n):
            _fix_all(self.found.axes[used])

    def _fix_weights(self, n: fx.Node) -> None:
        """A module that is not understood keeps its weights as they are."""
        if n.op == "call_module":
            for axes in self._weights(str(n.target), self.submodules[str(n.target)]).values():
                _fix_all(axes)

    def of(self, value: Any) -> Axes:
        """The axes of an operand. Raises TypeError when it is no tensor."""
        if not isinstance(value, fx.Node) or not isinstance(self.found.values[value], torch.Tensor):
            raise TypeError(value)
        axes: Axes = self.found.axes[value]
        return axes

    def number(self, value: Any) -> Any:
        """What an argument was when the block ran."""
        return fx.node.map_arg(value, lambda used: self.found.values[used])

    def _tensor(self, name: str, value: torch.Tensor) -> Axes:
        if name not in self.found.tensors:
            self.found.tensors[name] = [(Factor(size),) for size in value.shape]
        return self.found.tensors[name]

    def _weights(self, path: str, module: nn.Module) -> dict[str, Axes]:
        named = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        return {name: self._tensor(f"{path}.{name}", value) for name, value in named}

    def _module(self, n: fx.Node, module: nn.Module, result: Any) -> Any:
        path = str(n.target)
        if len(self._operands(n)) != 1:
            return None
        x = self.of(n.args[0])
        weights = self._weights(path, module)
        if isinstance(module, nn.Linear):
            unify(x[-1], weights["weight"][1])
            _unify_if(weights, "bias", weights["weight"][0])
            return [*x[:-1], weights["weight"][0]]
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            spatial = [fixed_axis(size) for size in result.shape[2:]]
            return self.convolution(path, x, weights, module.groups, spatial, transposed=False)
        if isinstance(module, nn.ConvTranspose2d):
            spatial = [fixed_axis(size) for size in result.shape[2:]]
            return self.convolution(path, x, weights, module.groups, spatial, transposed=True)
        if isinstance(module, NORMS):
            for name in weights:
                _unify_if(weights, name, x[1])
            return x
        if isinstance(module, nn.GroupNorm):
            grouped = refold([x[1]], (module.num_groups, size_of(x[1]) // module.num_groups))
            for name in weights:
                _unify_if(weights, name, x[1])
            self.found.groups[path] = grouped[0] if grouped else fixed_axis(module.num_groups)
            if not grouped:
                fix(x[1])
            return x
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            for axes in weights.values():
                for axis, other in zip(axes, x[-len(axes) :], strict=True):
                    unify(axis, other)
            if not weights:
                for axis in x[-len(module.normalized_shape) :]:
                    fix(axis)
            return x
        if isinstance(module, nn.PReLU):
            if module.num_parameters > 1:
                unify(weights["weight"][0], x[1])
            return x
        if isinstance(module, _POINTWISE_MODULES) or type(module).__module__ == "torch.nn.modules.activation":
            return x if len(x) == result.dim() and not weights else None
        if isinstance(module, _POOL_MODULES):
            return _pooled(x, result, type(module).__name__)
        if isinstance(module, _PAD_MODULES):
            return _padded(x, result, module.padding)
        if isinstance(module, nn.Flatten):
            return refold(x, tuple(result.shape))
        return None

    def convolution(
        self, path: str, x: Axes, weights: dict[str, Axes], groups: int, spatial: Axes, transposed: bool
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
            self.found.groups[path] = grouped[0]
            outputs = (*grouped[0], *second) if transposed else first
        _unify_if(weights, "bias", outputs)
        return [*x[: len(x) - len(spatial) - 1], outputs, *spatial]


def _fits(axes: Any, result: Any) -> bool:
    if isinstance(result, torch.Tensor):
        return isinstance(axes, list) and [size_of(axis) for axis in axes] == list(result.shape)
    return len(axes) == len(result) and all(_fits(some, item) for some, item in zip(axes, result, strict=True))


def _fixed(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return [fixed_axis(size) for size in result.shape]
    if isinstance(result, (tuple, list)):
        return [_fixed(item) for item in result]
    return None


def _fix_all(axes: Any) -> None:
    for axis in axes or ():
        if isinstance(axis, list):
            _fix_all(axis)
        elif axis is not None:
            fix(axis)


def _unify_if(weights: dict[str, Axes], name: str, axis: Axis) -> None:
    if weights.get(name):
        unify(weights[name][0], axis)


def _arguments(n: fx.Node, *names: str) -> list[Any]:
    """The arguments of a call after its first, by position or by name; None for one that is not given."""
    given = list(n.args[1:])
    return [given[index] if index < len(given) else n.kwargs.get(name) for index, name in enumerate(names)]


def _same(self: _Follower, n: fx.Node, result: Any) -> Any:
    x = self.of(n.args[0])
    for used in self._operands(n)[1:]:
        _fix_all(self.found.axes[used])
    return x


def _together(self: _Follower, n: fx.Node, result: Any) -> Any:
    """Elementwise, with broadcasting from the right."""
    axes: Axes = []
    operands = [self.of(used) for used in self._operands(n)]
    for index in range(1, result.dim() + 1):
        size = result.shape[-index]
        meeting = [some[-index] for some in operands if len(some) >= index and size_of(some[-index]) == size]
        for other in meeting[1:]:
            unify(meeting[0], other)
        axes.insert(0, meeting[0] if meeting else fixed_axis(size))
    return axes


def _reduce(self: _Follower, n: fx.Node, result: Any) -> Any:
    x = self.of(n.args[0])
    dims = _arguments(n, "dim")[0]
    if dims is None:
        return None
    gone = {dim % len(x) for dim in ([dims] if isinstance(dims, int) else dims)}
    if result.dim() == len(x):
        return [fixed_axis(1) if index in gone else axis for index, axis in enumerate(x)]
    return [axis for index, axis in enumerate(x) if index not in gone]


def _fold(self: _Follower, n: fx.Node, result: Any) -> Any:
    return refold(self.of(n.args[0]), tuple(result.shape))


def _pool(self: _Follower, n: fx.Node, result: Any) -> Any:
    return _pooled(self.of(n.args[0]), result, getattr(n.target, "__name__", ""))


def _pooled(x: Axes, result: torch.Tensor, name: str) -> Axes:
    """What mixes neighbours along the last axes: as many as its name says ("2d"), or all after the channels."""
    pixels = int(name[-2]) if name.endswith("d") else result.dim() - 2
    for axis in x[-pixels:]:
        fix(axis)
    return [*x[:-pixels], *(fixed_axis(size) for size in result.shape[-pixels:])]


def _pad(self: _Follower, n: fx.Node, result: Any) -> Any:
    return _padded(self.of(n.args[0]), result, self.number(_arguments(n, "pad")[0]))


def _padded(x: Axes, result: torch.Tensor, amounts: Sequence[int]) -> Axes:
    """`amounts` are (before, after) of the last axis, of the last but one, and so on."""
    axes = list(x)
    for index, amount in enumerate(zip(amounts[::2], amounts[1::2], strict=True), 1):
        if amount != (0, 0):
            fix(axes[-index])
            axes[-index] = fixed_axis(result.shape[-index])
    return axes


def _roll(self: _Follower, n: fx.Node, result: Any) -> Any:
    x, (_, dims) = self.of(n.args[0]), _arguments(n, "shifts", "dims")
    for dim in [dims] if isinstance(dims, int) else dims:
        fix(x[dim])
    return x


def _permute(self: _Follower, n: fx.Node, result: Any) -> Any:
    x, order = self.of(n.args[0]), n.args[1:] or n.kwargs["dims"]
    order = order[0] if len(order) == 1 and isinstance(order[0], (tuple, list)) else order  # type: ignore[index, arg-type]
    return [x[dim] for dim in order]  # type: ignore[union-attr, index]


def _transpose(self: _Follower, n: fx.Node, result: Any) -> Any:
    x, (one, other) = list(self.of(n.args[0])), _arguments(n, "dim0", "dim1")
    x[one], x[other] = x[other], x[one]
    return x


def _move(self: _Follower, n: fx.Node, result: Any) -> Any:
    x, (source, target) = list(self.of(n.args[0])), _arguments(n, "source", "destination")
    if not isinstance(source, int) or not isinstance(target, int):
        return None
    axis = x.pop(source)
    x.insert(target % (len(x) + 1), axis)
    return x


def _squeeze(self: _Follower, n: fx.Node, result: Any) -> Any:
    x, (dim,) = list(self.of(n.args[0])), _arguments(n, "dim")
    dims = {index for index, axis in enumerate(x) if size_of(axis) == 1}
    if dim is not None:
        dims &= {each % len(x) for each in ([dim] if isinstance(dim, int) else dim)}
    return [axis for index, axis in enumerate(x) if index not in dims]


def _unsqueeze(self: _Follower, n: fx.Node, result: Any) -> Any:
    x, (dim,) = list(self.of(n.args[0])), _arguments(n, "dim")
    x.insert(dim % (len(x) + 1), fixed_axis(1))
    return x


def _expand(self: _Follower, n: fx.Node, result: Any) -> Any:
    x = self.of(n.args[0])
    x = [*(fixed_axis(1) for _ in range(result.dim() - len(x))), *x]
    return [axis if size_of(axis) == size else fixed_axis(size) for axis, size in zip(x, result.shape, strict=True)]


def _attribute(self: _Follower, n: fx.Node, result: Any) -> Any:
    x = self.of(n.args[0])
    return [*x[:-2], x[-1], x[-2]] if n.args[1] == "mT" or (n.args[1] == "T" and len(x) == 2) else None


def _cat(self: _Follower, n: fx.Node, result: Any) -> Any:
    tensors, (dim,) = n.args[0] if n.args else n.kwargs["tensors"], _arguments(n, "dim")
    parts = [self.of(tensor) for tensor in tensors]  # type: ignore[union-attr]
    at = (dim or 0) % result.dim()
    for part in parts[1:]:
        for index, (one, other) in enumerate(zip(parts[0], part, strict=True)):
            if index != at:
                unify(one, other)
    return [*parts[0][:at], join([part[at] for part in parts]), *parts[0][at + 1 :]]


def _stack(self: _Follower, n: fx.Node, result: Any) -> Any:
    tensors, (dim,) = n.args[0], _arguments(n, "dim")
    parts = [self.of(tensor) for tensor in tensors]  # type: ignore[union-attr]
    for part in parts[1:]:
        for one, other in zip(parts[0], part, strict=True):
            unify(one, other)
    at = (dim or 0) % result.dim()
    return [*parts[0][:at], fixed_axis(len(parts)), *parts[0][at:]]


def _unbind(self: _Follower, n: fx.Node, result: Any) -> Any:
    x, (dim,) = self.of(n.args[0]), _arguments(n, "dim")
    at = (dim or 0) % len(x)
    fix(x[at])
    return [[*x[:at], *x[at + 1 :]] for _ in result]


def _divided(self: _Follower, n: fx.Node, result: Any) -> Any:
    """chunk, split and their like: consecutive stretches of one axis."""
    x, (_, dim) = self.of(n.args[0]), _arguments(n, "sizes", "dim")
    at = (dim or 0) % len(x)
    parts = divide(x[at], [item.shape[at] for item in result])
    return [[*x[:at], part, *x[at + 1 :]] for part in parts]


def _item(self: _Follower, n: fx.Node, result: Any) -> Any:
    source, index = n.args
    value = self.found.values[source]  # type: ignore[index]
    if isinstance(value, (tuple, list)):
        return self.found.axes[source][index] if isinstance(index, int) else None  # type: ignore[index]
    x = self.of(source)
    if isinstance(index, fx.Node):  # rows of a table
        return _rows(self, x, index, result)
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
            start, stop, step = slice(*self.number((each.start, each.stop, each.step))).indices(size_of(axis))
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


def _rows(self: _Follower, x: Axes, index: fx.Node, result: Any) -> Axes:
    chosen = self.of(index)
    _fix_all(chosen)
    fix(x[0])
    return [*(fixed_axis(size_of(axis)) for axis in chosen), *x[1:]]


def _matmul(self: _Follower, n: fx.Node, result: Any) -> Any:
    a, b = self.of(n.args[0]), self.of(n.args[1])
    if len(a) < 2 or len(b) < 2:
        return None
    unify(a[-1], b[-2])
    return [*_batches([a[:-2], b[:-2]], result.shape[:-2]), a[-2], b[-1]]


def _batches(operands: Sequence[Axes], sizes: Sequence[int]) -> Axes:
    axes: Axes = []
    for index in range(1, len(sizes) + 1):
        meeting = [some[-index] for some in operands if len(some) >= index and size_of(some[-index]) == sizes[-index]]
        for other in meeting[1:]:
            unify(meeting[0], other)
        axes.insert(0, meeting[0])
    return axes


def _attention(self: _Follower, n: fx.Node, result: Any) -> Any:
    query, key, value = (self.of(arg) for arg in n.args[:3])
    mask = _arguments(n, "key", "value", "attn_mask")[2]
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
        masked = self.of(mask)
        for axis, other in zip(masked[-2:], (query[-2], key[-2]), strict=True):
            if size_of(axis) == size_of(other):
                unify(axis, other)
        weights.append(masked[:-2])
    return [*_batches(weights, result.shape[:-2]), query[-2], value[-1]]


def _einsum(self: _Follower, n: fx.Node, result: Any) -> Any:
    equation, *operands = n.args
    inputs, _, output = str(equation).replace(" ", "").partition("->")
    letters: dict[str, Axis] = {}
    for names, operand in zip(inputs.split(","), operands, strict=True):
        for letter, axis in zip(names, self.of(operand), strict=True):
            unify(letters.setdefault(letter, axis), axis)
    return [letters[letter] for letter in output]


def _linear(self: _Follower, n: fx.Node, result: Any) -> Any:
    x, (weight, bias) = self.of(n.args[0]), _arguments(n, "weight", "bias")
    outputs, inputs = self.of(weight)
    unify(x[-1], inputs)
    if bias is not None:
        unify(self.of(bias)[0], outputs)
    return [*x[:-1], outputs]


def _convolution(self: _Follower, n: fx.Node, result: Any) -> Any:
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    weight, bias, _, _, _, groups = _arguments(n, *names)
    if (groups or 1) != 1:
        return None  # the number of groups is an argument here, and is not changed
    weights = {"weight": self.of(weight)} | ({"bias": self.of(bias)} if bias is not None else {})
    spatial = [fixed_axis(size) for size in result.shape[2:]]
    return self.convolution("", self.of(n.args[0]), weights, 1, spatial, transposed=False)


_RULES: dict[str, Callable[[_Follower, fx.Node, Any], Any]] = {
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
