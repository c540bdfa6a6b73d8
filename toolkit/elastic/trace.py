"""A model as one flat graph of plain torch operations.

`trace` runs the model once on an example and records what it does with `torch.fx`. Every recorded value is known, so
control flow that depends on shapes takes the branch that the example takes, while the sizes themselves stay in the graph
and the batch size stays free. A submodule that cannot be followed is kept whole, as one opaque operation.

`canonical` then turns convolutions, normalisations and linear layers that a model calls as functions into the modules of
`torch.nn` that they are, and in-place operations into ordinary ones. What comes out is made of tensor operations and
`torch.nn` modules only: that is what pruning understands, and what can be saved as data.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn

from ..errors import ModelError

# Facts about a tensor that do not change with the batch size: they are read, not recorded.
_STATIC = {"dtype", "device", "layout", "requires_grad", "is_cuda", "is_quantized", "ndim", "training"}
_CONSTANT = (bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))


class _Value(fx.Proxy):
    """A recorded value that also knows what it was in the example run."""

    def __init__(self, node: fx.Node, tracer: _Tracer) -> None:
        super().__init__(node, tracer)

    @property
    def _concrete(self) -> Any:
        return self.__dict__["tracer"].values[self.__dict__["node"]]

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # Models ask isinstance(x, torch.Tensor) and take another branch when the answer is no.
        return type(self._concrete)

    def __getattr__(self, name: str) -> Any:
        concrete = getattr(self._concrete, name)
        if name in _STATIC:
            return concrete
        if callable(concrete):
            return lambda *args, **kwargs: self.tracer.create_proxy("call_method", name, (self, *args), kwargs)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __bool__(self) -> bool:
        return bool(self._concrete)

    def __int__(self) -> int:
        return int(self._concrete)

    def __index__(self) -> int:
        return operator.index(self._concrete)

    def __float__(self) -> float:
        return float(self._concrete)

    def __len__(self) -> int:
        return len(self._concrete)

    def __iter__(self) -> Iterator[Any]:
        return iter([self[index] for index in range(len(self._concrete))])

    def __contains__(self, item: object) -> bool:
        return item in self._concrete


class _Tracer(fx.Tracer):
    """Records a model on one example; `values` holds what each node was."""

    proxy_buffer_attributes = True

    def __init__(self, model: nn.Module, example: torch.Tensor) -> None:
        super().__init__()
        self.example = example
        self.names = {id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())}
        self.values: dict[fx.Node, Any] = {}
        self.opaque: dict[str, str] = {}
        self._attributes: dict[str, fx.Proxy] = {}
        self._evaluating = False

    def create_args_for_root(self, root_fn: Callable[..., Any], *_: Any) -> tuple[Any, list[Any]]:
        """One input, recorded; every other parameter of `forward` keeps its default."""
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_arg(self, a: Any) -> Any:
        # type() and not isinstance(): a _Value claims to be whatever it stands for.
        if issubclass(type(a), fx.Proxy):
            return a.node
        return super().create_arg(a)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        node = proxy.__dict__["node"]
        value = self.values[node]
        if kind != "placeholder" and isinstance(value, _CONSTANT):
            self._forget(node)
            return value
        return proxy

    def _evaluate(self, node: fx.Node) -> Any:
        self._evaluating = True
        try:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda used: self.values[used])
            if node.op == "placeholder":
                return self.example
            if node.op == "get_attr":
                return operator.attrgetter(str(node.target))(self.root)
            if node.op == "call_function":
                return node.target(*args, **kwargs)  # type: ignore[operator]
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            return self.root.get_submodule(str(node.target))(*args, **kwargs)
        finally:
            self._evaluating = False

    def _forget(self, node: fx.Node) -> None:
        self.values.pop(node, None)
        self.graph.erase_node(node)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._evaluating or not isinstance(attr_val, torch.Tensor):
            return attr_val
        name = self.names.get(id(attr_val))
        if name is None:
            return attr_val
        if name not in self._attributes:
            self._attributes[name] = self.create_proxy("get_attr", name, (), {})
        return self._attributes[name]

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **more)
        if kind != "output":
            self.values[node] = self._evaluate(node)
        return node

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._evaluating:
            return forward(*args, **kwargs)
        before, stack = set(self.graph.nodes), copy.copy(self.module_stack)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:
            # What cannot be followed is kept whole. Its parts that were already recorded are taken back first.
            for node in reversed([node for node in self.graph.nodes if node not in before]):
                self._forget(node)
            self._attributes = {name: proxy for name, proxy in self._attributes.items() if proxy.node in before}
            self.module_stack = stack
            path = self.path_of_module(m)
            self.opaque[path] = f"{type(error).__name__}: {error}".splitlines()[0]
            self.module_stack[path] = (path, type(m))
            result = self.create_proxy("call_module", path, args, kwargs)
            self.module_stack.popitem(last=True)
            return result


def trace(model: nn.Module, example: torch.Tensor) -> fx.GraphModule:
    """The model in eval mode as a graph of plain operations, on copies of its weights.

    `example` is one input, batch first. In the result every node's `meta["seen"]` is what it was at batch sizes 2 and 3:
    for a tensor its shape, for anything else its value; `meta["dtype"]` is a tensor's type, None for anything else.
    Raises ModelError when the model does not run on the example, does not answer with one tensor, or when the graph
    does not compute what the model computes at another batch size.
    """
    root = copy.deepcopy(model).eval()
    for parameter in root.parameters():
        parameter.requires_grad_(False)
    name = type(model).__name__
    two, three = (torch.cat([example[:1]] * size) for size in (2, 3))
    try:
        with torch.no_grad():
            expected = root(three)
    except Exception as error:
        raise ModelError(
            f"{name} does not run on a batch of inputs of shape {tuple(example.shape[1:])} and type {example.dtype}: "
            f"{_first_line(error)}"
        ) from error
    if not isinstance(expected, torch.Tensor):
        raise ModelError(f"{name} answers with {type(expected).__name__}; a model that answers with a tensor is needed")
    tracer = _Tracer(root, two)
    try:
        with torch.no_grad():
            graph = tracer.trace(root)
    except Exception as error:
        raise ModelError(f"{name} cannot be traced at {_place(error)}: {_first_line(error)}") from error
    traced = canonical(fx.GraphModule(root, graph, class_name=name))
    try:
        with torch.no_grad():
            again = _Recorder(traced, tracer.values)
            actual = again.run(three)
    except Exception as error:
        raise ModelError(f"{name} cannot be followed at another batch size: {_first_line(error)}") from error
    if actual.shape != expected.shape or not torch.allclose(actual, expected, rtol=1e-4, atol=1e-4):
        raise ModelError(f"{name} computes something else at another batch size: its forward fixes the batch size")
    return traced


class _Recorder(fx.Interpreter):
    """Runs the graph at another batch size and notes on each node what it was at both."""

    def __init__(self, traced: fx.GraphModule, values: dict[fx.Node, Any]) -> None:
        super().__init__(traced)
        self.values = values

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op != "output":
            n.meta["seen"] = (_seen(self.values[n]), _seen(result))
            n.meta["dtype"] = str(result.dtype).removeprefix("torch.") if isinstance(result, torch.Tensor) else None
        return result


def _seen(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else value


def canonical(traced: fx.GraphModule) -> fx.GraphModule:
    """The same computation with layers as `torch.nn` modules and without in-place operations. Changes `traced`."""
    for node in list(traced.graph.nodes):
        if node.op == "call_module":
            module = traced.get_submodule(node.target)
            if getattr(module, "inplace", False):
                module.inplace = False
        elif node.op == "call_function":
            _layer_from_function(traced, node)
            _out_of_place(node)
        elif node.op == "call_method" and node.users and _plain_method(node.target):
            node.target = node.target[:-1]
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


_IN_PLACE = {
    operator.iadd: operator.add,
    operator.imul: operator.mul,
    operator.isub: operator.sub,
    operator.itruediv: operator.truediv,
}


def _out_of_place(node: fx.Node) -> None:
    if not node.users:  # the statement form: whoever reads the tensor afterwards relies on the change
        return
    if node.target in _IN_PLACE:
        node.target = _IN_PLACE[node.target]
    elif node.kwargs.get("inplace") is True:
        node.kwargs = {**node.kwargs, "inplace": False}
    elif inspect.isbuiltin(node.target) and _plain_method(name := node.target.__name__) and hasattr(torch, name[:-1]):
        node.target = getattr(torch, name[:-1])


def _plain_method(name: str) -> bool:
    """Whether a method changes its tensor in place and has a twin that does not."""
    return name.endswith("_") and not name.endswith("__") and hasattr(torch.Tensor, name[:-1])


_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_SIGNATURES: dict[Any, tuple[str, ...]] = {
    torch.conv1d: _CONV,
    torch.conv2d: _CONV,
    nn.functional.linear: ("input", "weight", "bias"),
    nn.functional.layer_norm: ("input", "normalized_shape", "weight", "bias", "eps"),
    nn.functional.batch_norm: (
        *("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    ),
}


def _layer_from_function(traced: fx.GraphModule, node: fx.Node) -> None:
    """Replaces a layer that was called as a function by the `torch.nn` module that it is, where it is one."""
    names = _SIGNATURES.get(node.target)
    if names is None:
        return
    bound: dict[str, Any] = dict(zip(names, node.args)) | dict(node.kwargs)
    tensors: dict[str, torch.Tensor] = {}
    for name in ("weight", "bias", "running_mean", "running_var"):
        source = bound.get(name)
        if source is None:
            continue
        if not isinstance(source, fx.Node) or source.op != "get_attr":
            return  # a computed weight stays a function
        tensors[name] = operator.attrgetter(str(source.target))(traced)
    if "weight" not in tensors or bound.get("training"):
        return
    layer = _layer(node.target, bound, tensors)
    for name, tensor in tensors.items():
        if isinstance(tensor, nn.Parameter):
            setattr(layer, name, tensor)
        elif name in layer._buffers:
            setattr(layer, name, tensor)
        else:
            return
    layer.eval()
    owner, _, _ = str(bound["weight"].target).rpartition(".")
    parent = traced.get_submodule(owner)
    name = next(name for name in ("layer", *(f"layer{n}" for n in range(2, 99))) if not hasattr(parent, name))
    parent.add_module(name, layer)
    node.op, node.target = "call_module", f"{owner}.{name}".lstrip(".")
    node.args, node.kwargs = (bound["input"],), {}


def _layer(function: Any, bound: dict[str, Any], tensors: dict[str, torch.Tensor]) -> nn.Module:
    weight, bias = tensors["weight"], "bias" in tensors
    if function is nn.functional.linear:
        return nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    if function is nn.functional.layer_norm:
        return nn.LayerNorm(tuple(bound["normalized_shape"]), eps=bound.get("eps", 1e-5), bias=bias)
    if function is nn.functional.batch_norm:
        return nn.BatchNorm2d(len(weight), eps=bound.get("eps", 1e-5), momentum=bound.get("momentum", 0.1))
    groups = bound.get("groups", 1)
    kind = nn.Conv1d if function is torch.conv1d else nn.Conv2d
    dimensions = weight.dim() - 2

    def sides(value: Any) -> Any:
        return value if isinstance(value, str) else (value,) * dimensions if isinstance(value, int) else tuple(value)

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


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _place(error: BaseException) -> str:
    """The last line of the user's own model that the trace reached: file name and line."""
    place = "its forward"
    at = error.__traceback__
    while at is not None:
        path = at.tb_frame.f_code.co_filename
        if "/torch/" not in path and path != __file__:
            place = f"{path.rsplit('/', 1)[-1]}:{at.tb_lineno}"
        at = at.tb_next
    return place
