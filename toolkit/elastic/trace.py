"""A model as one flat graph of plain torch operations.

`trace` runs the model once on an example and records what it does with `torch.fx`. Every recorded value is known, so
control flow that depends on shapes takes the branch that the example takes, while the sizes themselves stay in the
graph and the batch size stays free. A submodule that cannot be followed, for instance because its control flow
depends on the values in a tensor, is kept whole, as one opaque operation.

`canonical` then turns convolutions, normalisations and linear layers that a model calls as functions into the modules
of `torch.nn` that they are, and in-place operations into ordinary ones. What comes out is made of tensor operations
and `torch.nn` modules only: that is what pruning understands, and what can be saved as data.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from ..errors import ModelError

# Facts about a tensor that do not change with the batch size: they are read, not recorded.
_STATIC = {"dtype", "device", "layout", "requires_grad", "is_cuda", "is_quantized", "ndim", "training"}
# What asks for no more than such facts. Anything else that turns a tensor into a number reads the values in it.
_METADATA = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size", "itemsize", "type"),
    *("is_contiguous", "is_floating_point", "is_complex", "is_signed", "is_tensor", "get_device", "getattr"),
}
_CONSTANT = (bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))


class _DependsOnValues(TypeError):
    """The model asks for a number that is not known before it runs on real data."""

    def __init__(self) -> None:
        super().__init__("its control flow depends on the values in a tensor, not on shapes alone")


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
        return bool(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def __index__(self) -> int:
        return operator.index(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def __len__(self) -> int:
        return len(self._concrete)

    def __iter__(self) -> Iterator[Any]:
        return iter([self[index] for index in range(len(self._concrete))])  # type: ignore[index]

    def __contains__(self, item: object) -> bool:
        return item in self._number()

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def _number(self) -> Any:
        """What it was in the example run, if that is so for every input of the same shape. Raises _DependsOnValues."""
        if self.__dict__["tracer"].depends_on_values(self.__dict__["node"]):
            raise _DependsOnValues
        return self._concrete


def _augmented(name: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", getattr(operator, name), (self, other), {})

    return method


# Without these `x += 1` would be recorded as `x = x + 1`, and whoever else holds x would keep the old one.
for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(_Value, f"__i{_name}__", _augmented(f"i{_name}"))


class _Tracer(fx.Tracer):
    """Records a model on one example; `values` holds what each node was."""

    proxy_buffer_attributes = True

    def __init__(self, model: nn.Module, example: torch.Tensor) -> None:
        super().__init__()
        self.example = example
        self.names = {id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())}
        self.values: dict[fx.Node, Any] = {}
        self._attributes: dict[str, fx.Proxy] = {}
        self._evaluating = False
        self._fed: set[fx.Node] = set()  # what depends on the input in any way
        self.read: set[fx.Node] = set()  # numbers that were read out of a tensor

    def depends_on_values(self, node: fx.Node) -> bool:
        """Whether a number, or the numbers in a tensor, may be different for another input of the same shape."""
        return node in self.read or (node in self._fed and isinstance(self.values[node], torch.Tensor))

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
        if inspect.isfunction(target) and target.__module__.partition(".")[0] != "torch":
            return target(*args, **kwargs)  # a library's own function, marked by `fx.wrap`: it is followed, not kept
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        node = proxy.__dict__["node"]
        value = self.values[node]
        if kind != "placeholder" and target is not operator.setitem and isinstance(value, _CONSTANT):
            if isinstance(value, bool) and node in self.read:
                raise _DependsOnValues
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
            used = node.all_input_nodes
            if kind == "placeholder" or not self._fed.isdisjoint(used):
                self._fed.add(node)
            name = target if isinstance(target, str) else getattr(target, "__name__", "")
            from_values = name not in _METADATA and any(self.depends_on_values(source) for source in used)
            if (from_values or not self.read.isdisjoint(used)) and not _holds_tensors(self.values[node]):
                self.read.add(node)
        return node

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._evaluating:
            return forward(*args, **kwargs)
        before, stack = set(self.graph.nodes), copy.copy(self.module_stack)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            # What cannot be followed is kept whole. Its parts that were already recorded are taken back first.
            for node in reversed([node for node in self.graph.nodes if node not in before]):
                self._forget(node)
            self._attributes = {name: proxy for name, proxy in self._attributes.items() if proxy.node in before}
            self.module_stack = stack
            path = self.path_of_module(m)
            self.module_stack[path] = (path, type(m))
            result = self.create_proxy("call_module", path, args, kwargs)
            self.module_stack.popitem(last=True)
            return result


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (
        isinstance(value, (tuple, list)) and any(_holds_tensors(item) for item in value)
    )


def trace(model: nn.Module, example: torch.Tensor) -> fx.GraphModule:
    """The model in eval mode as a graph of plain operations, on copies of its weights.

    `example` is one input, batch first. In the result every node's `meta["seen"]` is what it was at batch sizes 2 and
    3: for a tensor its shape, for anything else its value; `meta["dtype"]` is a tensor's type, None for anything
    else; `meta["read"]` says whether it is a number that was read out of a tensor. Raises ModelError when the model
    does not run on the example, does not answer with one tensor, or when the graph does not compute what the model
    computes at another batch size.
    """
    root = copy.deepcopy(model).eval()
    for parameter in root.parameters():
        parameter.requires_grad_(False)
    name = type(model).__name__
    # Noise besides the example: with zeros only, say, much that differs would go unnoticed.
    one, noise = example[:1], torch.randn(example[:1].shape, generator=torch.Generator().manual_seed(0))
    two, three = torch.cat([one, noise]), torch.cat([one, noise, one - noise])
    expected = []
    for batch in (two, three):
        try:
            with torch.no_grad():
                expected.append(root(batch.clone()))  # a clone: a model may change its input in place
        except Exception as error:
            raise ModelError(
                f"{name} does not run on a batch of {len(batch)} inputs of shape {tuple(example.shape[1:])} and type "
                f"{example.dtype}: {_first_line(error)}"
            ) from error
    if not isinstance(expected[1], torch.Tensor):
        raise ModelError(
            f"{name} answers with {type(expected[1]).__name__}; a model that answers with a tensor is needed"
        )
    if [answer.shape[:1] for answer in expected] != [(2,), (3,)]:
        raise ModelError(
            f"{name} answers with shape {tuple(expected[1].shape)} to a batch of 3; the batch must come first in it"
        )
    tracer = _Tracer(root, two.clone())
    try:
        with torch.no_grad():
            graph = tracer.trace(root)
    except Exception as error:
        raise ModelError(f"{name} cannot be traced at {_place(error)}: {_first_line(error)}") from error
    for node in graph.nodes:
        node.meta.pop("is_wrapped", None)  # what fx notes on the result of a wrapped function, here a plain operation
    traced = canonical(fx.GraphModule(root, graph, class_name=name), tracer.values)
    for batch, answer in zip((two, three), expected, strict=True):
        size = len(batch)
        try:
            with torch.no_grad():
                actual = _Recorder(traced, tracer).run(batch.clone())
        except Exception as error:
            raise ModelError(f"{name} cannot be followed at batch size {size}: {_first_line(error)}") from error
        if actual.shape != answer.shape or not torch.allclose(actual, answer, rtol=1e-4, atol=1e-4, equal_nan=True):
            raise ModelError(
                f"{name} computes something else at batch size 3 than its trace at 2: its forward fixes the batch "
                "size, or depends on the values in a tensor"
                if size == 3
                else f"{name} cannot be followed: its trace computes something else, as when a view is changed in place"
            )
    return traced


class _Recorder(fx.Interpreter):
    """Runs the graph at another batch size and notes on each node what it was at both."""

    def __init__(self, traced: fx.GraphModule, tracer: _Tracer) -> None:
        super().__init__(traced)
        self.tracer = tracer

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op != "output":
            n.meta["seen"] = (_seen(self.tracer.values[n]), _seen(result))
            n.meta["read"] = n in self.tracer.read
            n.meta["dtype"] = str(result.dtype).removeprefix("torch.") if isinstance(result, torch.Tensor) else None
        return result


def _seen(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else value


def canonical(traced: fx.GraphModule, values: Mapping[fx.Node, Any]) -> fx.GraphModule:
    """The same computation with layers as `torch.nn` modules and without in-place operations. Changes `traced`.

    `values` holds what each node was in an example run; the nodes that are added here are added to it.
    """
    values = values if isinstance(values, dict) else dict(values)
    in_place = {path for path, module in traced.named_modules(remove_duplicate=False) if _in_place_module(module)}
    for path in in_place:
        traced.get_submodule(path).inplace = False  # type: ignore[assignment]
    for node in list(traced.graph.nodes):
        if node.op == "call_function":
            _layer_from_function(traced, node, values)
        changed = _changed(node)
        if node.op == "call_module" and node.target in in_place:
            _read_afterwards(node, node.args[0], node)
        elif changed is not None and isinstance(values.get(changed), torch.Tensor):
            _out_of_place(node, changed, values)
        elif changed is not None and node.target in _IN_PLACE and isinstance(values[changed], (int, float)):
            node.target = _IN_PLACE[node.target]
    traced.graph.eliminate_dead_code(is_live)
    traced.recompile()
    return traced


def is_live(node: fx.Node) -> bool:
    """Whether a node does something although nobody reads its result."""
    return node.is_impure() or node.target is operator.setitem


def _in_place_module(module: nn.Module) -> bool:
    return bool(getattr(module, "inplace", False)) and type(module).__module__.startswith("torch.nn.")


_IN_PLACE = {getattr(operator, f"i{name}"): getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "pow")}


def _changed(node: fx.Node) -> fx.Node | None:
    """The tensor that an operation changes in place; None for one that only computes."""
    first = node.args[0] if node.args else node.kwargs.get("input")
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    changes = (
        node.op == "call_method" and _changing(name)
        if node.op != "call_function"
        else node.target in _IN_PLACE
        or node.target is operator.setitem
        or _inplace_argument(node) is not None
        or (inspect.isbuiltin(node.target) and _changing(name))
    )
    return first if changes and isinstance(first, fx.Node) else None


def _changing(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__") and name != "requires_grad_" and hasattr(torch.Tensor, name)


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
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    place = _inplace_argument(node) if node.op == "call_function" else None
    if node.target in _IN_PLACE:
        node.target = _IN_PLACE[node.target]
    elif isinstance(place, str):
        node.kwargs = {**node.kwargs, "inplace": False}
    elif place is not None:
        node.args = tuple(False if index == place else value for index, value in enumerate(node.args))
    elif node.op == "call_method" and callable(getattr(torch.Tensor, name[:-1], None)):
        node.target = name[:-1]
    elif inspect.isbuiltin(node.target) and name.endswith("_") and callable(getattr(torch, name[:-1], None)):
        node.target = getattr(torch, name[:-1])
    else:  # it exists in place only: let it work on a copy
        with node.graph.inserting_before(node):
            twin = node.graph.call_method("clone", (changed,))
        twin.meta, values[twin] = dict(node.meta), values[changed]
        node.replace_input_with(changed, twin)
        _read_afterwards(node, changed, twin)
        return
    _read_afterwards(node, changed, node)


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
    for name in ("weight", "bias", "running_mean", "running_var"):
        source = bound.get(name)
        if source is None:
            continue
        if not isinstance(source, fx.Node) or source.op != "get_attr":
            return  # a computed weight stays a function
        tensors[name] = operator.attrgetter(str(source.target))(traced)
    if "weight" not in tensors or bound.get("training"):
        return
    layer = _layer(node.target, bound, tensors, values[bound["input"]].dim())
    for name, tensor in tensors.items():
        if not isinstance(tensor, nn.Parameter) and name not in layer._buffers:
            return
        setattr(layer, name, tensor)
    layer.eval()
    owner, _, _ = str(bound["weight"].target).rpartition(".")
    parent = traced.get_submodule(owner)
    name = next(name for name in ("layer", *(f"layer{n}" for n in range(2, 99))) if not hasattr(parent, name))
    parent.add_module(name, layer)
    node.op, node.target = "call_module", f"{owner}.{name}".lstrip(".")
    node.args, node.kwargs = (bound["input"],), {}


def _layer(function: Any, bound: dict[str, Any], tensors: dict[str, torch.Tensor], dimensions: int) -> nn.Module:
    weight, bias = tensors["weight"], "bias" in tensors
    if function is nn.functional.linear:
        return nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    if function is nn.functional.layer_norm:
        return nn.LayerNorm(tuple(bound["normalized_shape"]), eps=bound.get("eps", 1e-5), bias=bias)
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
