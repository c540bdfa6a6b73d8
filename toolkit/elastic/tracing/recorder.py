"""Records what a model does with one example, operation by operation, with every value known.

Built on `torch.fx`. A recorded value is a proxy that claims to be the tensor or number that it was in the example run:
models ask for types, shapes and lengths, and take the branch that the example takes. What would depend on the values in
a tensor is refused, and the smallest submodule around it is kept whole.
"""

from __future__ import annotations

import builtins
import copy
import inspect
import operator
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from .answers import plain
from .canonical import changed_by, operation_name

# Facts about a tensor that do not change with the batch size: they are read, not recorded.
_STATIC = {"dtype", "device", "layout", "requires_grad", "is_cuda", "is_quantized", "ndim", "training"}
# What asks for no more than such facts. Anything else that turns a tensor into a number reads the values in it.
_METADATA = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size", "itemsize", "type"),
    *("is_contiguous", "is_floating_point", "is_complex", "is_signed", "is_tensor", "get_device", "getattr"),
}
# What makes a tensor from the size of another one alone.
_FROM_SIZES = {f"{kind}_like" for kind in ("zeros", "ones", "full", "empty")} | {
    f"new_{kind}" for kind in ("zeros", "ones", "full", "empty")
}
_CONSTANT = (bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))


class _DependsOnValues(TypeError):
    """The model asks for a number that is not known before it runs on real data."""

    def __init__(self) -> None:
        super().__init__("its control flow depends on the values in a tensor, not on shapes alone")


class _Value(fx.Proxy):
    """A recorded value that also knows what it was in the example run."""

    def __init__(self, node: fx.Node, tracer: Tracer) -> None:
        super().__init__(node, tracer)

    def __del__(self) -> None:
        self.__dict__["tracer"].let_go(self.__dict__["node"])

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

    def __round__(self, digits: int | None = None) -> Any:
        return round(self._number(), digits)

    def __format__(self, form: str) -> str:
        return format(self._number(), form) if form else str(self)

    def __str__(self) -> str:
        tracer, node = self.__dict__["tracer"], self.__dict__["node"]
        unknown = isinstance(self._concrete, torch.Tensor) or tracer.depends_on_values(node)
        return repr(self) if unknown else str(self._concrete)

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


def _apply(function: type[torch.autograd.Function], *args: Any, **kwargs: Any) -> Any:
    """A function with a derivative of its own, as it is without one: torch itself crashes on recorded values."""
    if function.setup_context is not torch.autograd.Function.setup_context:
        return function.forward(*args, **kwargs)
    context = torch.autograd.function.FunctionCtx()
    context.needs_input_grad = (False,) * len(args)  # type: ignore[attr-defined]
    return function.forward(context, *args, **kwargs)


def _with_sizes(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """torch takes recorded sizes in a tuple only."""

    def made(*sizes: Any, **options: Any) -> torch.Tensor:
        several = len(sizes) > 0 and isinstance(sizes[0], int)
        return function(sizes, **options) if several else function(*sizes, **options)

    return made


def _method_with_values(name: str) -> Callable[..., Any]:
    """A method of tensors that are not recorded, such as a model makes of plain numbers, given recorded values."""
    method: Callable[..., torch.Tensor] = getattr(torch.Tensor, name)

    def made(tensor: torch.Tensor, *args: Any, **options: Any) -> Any:
        recorded = next((value for value in (tensor, *args) if type(value) is _Value), None)
        if recorded is None:
            return method(tensor, *args, **options)
        return recorded.tracer.create_proxy("call_method", name, (tensor, *args), options)

    return made


def _function_with_values(function: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any, **options: Any) -> Any:
        recorded = next((value for value in (*args, *options.values()) if type(value) is _Value), None)
        if recorded is None:
            return function(*args, **options)
        return recorded.tracer.create_proxy("call_function", function, args, options)

    return made


@cache
def _of_tensors_or_numbers() -> list[tuple[Any, str]]:
    """The functions of torch that take a tensor where, called otherwise, they take a number, by where they are.

    `torch.pow(x, 2)` and `torch.pow(2, x)` are such. To tell which it is, torch looks for the number in what claims to
    be a tensor, and crashes when that is a recorded value.
    """
    found = []
    for owner, prefix in ((torch, ""), (torch.special, "special_")):
        for name in dir(owner):
            packet = getattr(torch.ops.aten, prefix + name, None) if not name.startswith("_") else None
            kinds: dict[int, set[str]] = defaultdict(set)
            for overload in packet.overloads() if packet is not None else ():
                types = [str(argument.type) for argument in getattr(packet, overload)._schema.arguments]
                for place, kind in enumerate(types if "Tensor" in types else ()):
                    kinds[place].add(kind)
            if any({"Tensor", "number"} <= possible for possible in kinds.values()):
                found.append((owner, name))
    return found


def _with_data(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A tensor from recorded numbers, which are then those of the example."""

    def plain(data: Any) -> Any:
        if type(data) is _Value:
            return data._number()
        return [plain(item) for item in data] if isinstance(data, (tuple, list)) else data

    def made(data: Any, **options: Any) -> torch.Tensor:
        if type(data) is _Value and isinstance(data, torch.Tensor):
            copied: torch.Tensor = data.clone()
            return copied.to(**options) if options else copied
        return function(plain(data), **options)

    return made


def _with_lengths(length: Callable[[Any], int]) -> Callable[[Any], Any]:
    """Of a recorded tensor a recorded number, which Python's own `len` would turn into that of the example."""

    def made(of: Any) -> Any:
        return of.size(0) if type(of) is _Value and isinstance(of, torch.Tensor) else length(of)

    return made


def _not_scripted(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(script: Any, *args: Any, **kwargs: Any) -> Any:
        if any(type(arg) is _Value for arg in (*args, *kwargs.values())):
            raise TypeError("it calls a scripted function, which cannot be recorded")
        return function(script, *args, **kwargs)

    return call


@contextmanager
def torch_that_takes_recorded_values() -> Iterator[None]:
    """Replaces, while a model is traced, the few functions of torch that cannot be given a recorded value."""
    torch.overrides.get_overridable_functions()  # torch lists its functions once: they must not be these
    replaced: list[tuple[Any, str, Any]] = [(torch.autograd.Function, "apply", classmethod(_apply))]
    replaced += [(torch, name, _with_sizes(getattr(torch, name))) for name in ("zeros", "ones", "empty")]
    replaced += [
        (torch.Tensor, name, _method_with_values(name)) for name in ("expand", "repeat", "reshape", "tile", "view")
    ]
    replaced += [(owner, name, _function_with_values(getattr(owner, name))) for owner, name in _of_tensors_or_numbers()]
    replaced += [(torch, "tensor", _with_data(torch.tensor)), (builtins, "len", _with_lengths(len))]
    script = torch.jit.ScriptFunction
    replaced.append((script, "__call__", _not_scripted(script.__call__)))
    before = [(owner, name, vars(owner).get(name)) for owner, name, _ in replaced]  # None: it is inherited
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is None:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


class Tracer(fx.Tracer):
    """Records a model on one example.

    `values` holds what each node was: of a tensor that the model no longer holds, only its shape and type, because all
    the tensors of a network together may not fit the memory. Kept whole is what may become a constant: what follows
    from sizes alone, and is read together with what depends on the input. `unpacked` gives the arguments of a model
    with several inputs, by name, from the row of them that is recorded.
    """

    proxy_buffer_attributes = True

    def __init__(
        self,
        model: nn.Module,
        example: torch.Tensor,
        unpacked: Callable[[torch.Tensor], dict[str, torch.Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.example = example
        self._unpacked = unpacked
        self.names = {id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())}
        self.values: dict[fx.Node, Any] = {}
        self._attributes: dict[str, fx.Proxy] = {}
        self._evaluating = False
        self.valued: set[fx.Node] = set()  # what depends on the values in the input, not on its size alone
        self.read: set[fx.Node] = set()  # numbers that were read out of a tensor
        self._let_go: set[fx.Node] = set()  # tensors of which only shape and type are known

    def depends_on_values(self, node: fx.Node) -> bool:
        """Whether a number, or the numbers in a tensor, may be different for another input of the same shape."""
        return node in self.read or (node in self.valued and isinstance(self.values[node], torch.Tensor))

    def let_go(self, node: fx.Node) -> None:
        """The model has no way left to ask for a node's value."""
        value = self.values.get(node)
        if isinstance(value, torch.Tensor) and node.op != "get_attr" and not self.is_constant(node):
            self.values[node] = shape_of(value)
            self._let_go.add(node)

    def is_constant(self, node: fx.Node) -> bool:
        """Whether a node may be the same for every input, is known, and is read by what is not."""
        return (
            node not in self.valued
            and node not in self._let_go
            and any(user in self.valued or user.op == "output" for user in node.users)
        )

    def create_args_for_root(self, root_fn: Callable[..., Any], *_: Any) -> tuple[Any, list[Any]]:
        """One input, recorded, or those unpacked from it; every other parameter of `forward` keeps its default."""
        x = self.create_proxy("placeholder", "x", (), {})
        unpacked = self._unpacked
        if unpacked is not None:
            return lambda root, row: plain(root_fn(root, **unpacked(row))), [self.root, x]
        return lambda root, given: plain(root_fn(root, given)), [self.root, x]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_arg(self, a: Any) -> Any:
        # type() and not isinstance(): a _Value claims to be whatever it stands for.
        if issubclass(type(a), fx.Proxy):
            return a.node
        if type(a).__module__ == "numpy" and getattr(a, "shape", None) == ():
            a = a.item()  # a number that the model worked out with numpy
        if isinstance(a, tuple) and hasattr(a, "_fields"):
            a = tuple(a)  # a named one would be recorded as a call of its class
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
            name = operation_name(target)
            if kind == "placeholder" or (
                not self.valued.isdisjoint(used)
                and name not in _FROM_SIZES
                and (holds_tensors(self.values[node]) or name not in _METADATA)
            ):
                self.valued.add(node)
            if node in self.valued:
                for changed in (changed_by(node), node.kwargs.get("out")):
                    if isinstance(changed, fx.Node):
                        if str(changed.target).startswith("_tensor_constant"):
                            raise _DependsOnValues  # a tensor of the model's own, not recorded: others read it as it is
                        self.valued.update(self._views(changed))
            from_values = name not in _METADATA and any(self.depends_on_values(source) for source in used)
            if node in self.valued and type(self.values[node]).__module__ == "numpy":
                raise TypeError("it goes on with numpy, where nothing is recorded: write that with torch")
            if (from_values or not self.read.isdisjoint(used)) and not holds_tensors(self.values[node]):
                self.read.add(node)
        return node

    def _views(self, node: fx.Node) -> list[fx.Node]:
        """Everything that reads the same memory as a tensor, itself among it."""
        memory = _memory(self.values[node])
        return [other for other, value in self.values.items() if memory & _memory(value)]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Layers of torch.nn, but not those that are made of others (its transformers).

        What a hook does is recorded with what the layer does: it is code, and would not be saved.
        """
        hooked = m._forward_hooks or m._forward_pre_hooks
        whole = isinstance(m, nn.MultiheadAttention) or not any(True for _ in m.children())
        return not hooked and whole and super().is_leaf_module(m, module_qualified_name)

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
            self.module_stack[path] = (path, type(m))
            result = self.create_proxy("call_module", path, args, kwargs)
            result.__dict__["node"].meta["kept_whole"] = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.module_stack.popitem(last=True)
            return result


def shape_of(value: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape and type that takes no memory."""
    return torch.zeros((), dtype=value.dtype).expand(value.shape)


def holds_tensors(value: Any) -> bool:
    """Whether a value is a tensor, or a tuple or list with one in it."""
    return isinstance(value, torch.Tensor) or (
        isinstance(value, (tuple, list)) and any(holds_tensors(item) for item in value)
    )


def _memory(value: Any) -> set[int]:
    """Where in memory a tensor, or those in a tuple or list, are."""
    if isinstance(value, torch.Tensor):
        return {value.untyped_storage().data_ptr()} - {0}
    return set().union(*map(_memory, value)) if isinstance(value, (tuple, list)) else set()
