"""A model as one flat graph of plain torch operations.

`trace` runs the model once on an example and records what it does with `torch.fx`. Every recorded value is known, so
control flow that depends on shapes takes the branch that the example takes, while the sizes themselves stay in the
graph and the batch size stays free. A submodule that cannot be followed, for instance because its control flow
depends on the values in a tensor, is kept whole, as one opaque operation.

What is computed from sizes alone, such as an encoding of positions, comes out as a constant. A model that answers with
several tensors comes out as one that answers with all of them in one row (see `answers`).
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..errors import ModelError
from .canonical import canonical, changed_by, is_live

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


def _not_scripted(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(script: Any, *args: Any, **kwargs: Any) -> Any:
        if any(type(arg) is _Value for arg in (*args, *kwargs.values())):
            raise TypeError("it calls a scripted function, which cannot be recorded")
        return function(script, *args, **kwargs)

    return call


@contextmanager
def _torch_that_takes_recorded_values() -> Iterator[None]:
    """Replaces, while a model is traced, the few functions of torch that cannot be given a recorded value."""
    replaced: list[tuple[Any, str, Any]] = [(torch.autograd.Function, "apply", classmethod(_apply))]
    replaced += [(torch, name, _with_sizes(getattr(torch, name))) for name in ("zeros", "ones", "empty")]
    replaced.append((torch, "tensor", _with_data(torch.tensor)))
    script = torch.jit.ScriptFunction
    replaced.append((script, "__call__", _not_scripted(script.__call__)))
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in replaced]
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


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
        self.valued: set[fx.Node] = set()  # what depends on the values in the input, not on its size alone
        self.read: set[fx.Node] = set()  # numbers that were read out of a tensor

    def depends_on_values(self, node: fx.Node) -> bool:
        """Whether a number, or the numbers in a tensor, may be different for another input of the same shape."""
        return node in self.read or (node in self.valued and isinstance(self.values[node], torch.Tensor))

    def create_args_for_root(self, root_fn: Callable[..., Any], *_: Any) -> tuple[Any, list[Any]]:
        """One input, recorded; every other parameter of `forward` keeps its default."""
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_arg(self, a: Any) -> Any:
        # type() and not isinstance(): a _Value claims to be whatever it stands for.
        if issubclass(type(a), fx.Proxy):
            return a.node
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
            name = target if isinstance(target, str) else getattr(target, "__name__", "")
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


def trace(model: nn.Module, example: torch.Tensor, output: str | None = None) -> fx.GraphModule:
    """The model in eval mode as a graph of plain operations, on copies of its weights.

    `example` is one input, batch first. In the result every node's `meta["seen"]` is what it was at batch sizes 2 and
    3, `meta["alone"]` at 1: for a tensor its shape, for anything else its value; `meta["dtype"]` is a tensor's type,
    None for anything else; `meta["read"]` says whether it is a number that was read out of a tensor. Where the model
    answers with a dict or list of tensors, `output` names the one to keep ("out", "0", "head.boxes"); without it all
    are kept, flattened and joined in one row. `meta["outputs"]` of the result lists their names and shapes at batch
    size 1. Raises ModelError when the model does not run on the example, does not answer with tensors, or when the
    graph does not compute what the model computes at another batch size.
    """
    root = _settled(model)
    for parameter in root.parameters():
        parameter.requires_grad_(False)
    name = type(model).__name__
    # Noise besides the example: with zeros only, say, much that differs would go unnoticed.
    one, noise = example[:1], torch.randn(example[:1].shape, generator=torch.Generator().manual_seed(0))
    two, three = torch.cat([one, noise]), torch.cat([one, noise, one - noise])
    batches = (two, three, noise)
    answers = []
    for batch in batches:
        try:
            with torch.no_grad():
                answers.append(root(batch.clone()))  # a clone: a model may change its input in place
        except Exception as error:
            raise ModelError(
                f"{name} does not run on a batch of {len(batch)} inputs of shape {tuple(example.shape[1:])} and type "
                f"{example.dtype}: {_first_line(error)}"
            ) from error
    outputs = _outputs(name, answers[1], output)
    shapes = [tuple(_at(answers[1], path).shape) for path in outputs]
    for path, shape in zip(outputs, shapes, strict=True):
        if shape[:1] != (3,):
            raise ModelError(
                f"{name} answers with shape {shape} to a batch of 3; the batch must come first in it"
                + (f" (it is output {_dotted(path)!r}; name another as the one to keep)" if len(outputs) > 1 else "")
            )
    tracer = _Tracer(root, two.clone())
    try:
        with torch.no_grad(), _torch_that_takes_recorded_values():
            graph = tracer.trace(root)
            _answer_in_a_row(graph, outputs, tracer.values)
    except Exception as error:
        raise ModelError(f"{name} cannot be traced at {_place(error)}: {_first_line(error)}") from error
    for node in graph.nodes:
        node.meta.pop("is_wrapped", None)  # what fx notes on the result of a wrapped function, here a plain operation
    recorded = set(graph.nodes)
    traced = canonical(fx.GraphModule(root, graph, class_name=name), tracer.values)
    _note_new_nodes(traced, tracer, set(tracer.values) & recorded)
    traced.meta["outputs"] = [(_dotted(path), (1, *shape[1:])) for path, shape in zip(outputs, shapes, strict=True)]
    runs = []
    for batch, answer in zip(batches, answers, strict=True):
        size = len(batch)
        # A single answer may come without its batch, as after `squeeze()`: in the trace it keeps it.
        tensors = [_at(answer, path).reshape(size, *shape[1:]) for path, shape in zip(outputs, shapes, strict=True)]
        try:
            with torch.no_grad():
                runs.append(_Recorder(traced))
                actual = runs[-1].run(batch.clone())
        except Exception as error:
            raise ModelError(f"{name} cannot be followed at batch size {size}: {_first_line(error)}") from error
        if not _alike(actual, _in_a_row(tensors)):
            raise ModelError(f"{name} {_difference(model, batch)}")
    _note(traced, tracer, runs)
    _fold_constants(traced, tracer, runs)
    return traced


def _settled(model: nn.Module) -> nn.Module:
    """A copy in eval mode. A weight that is computed from others (weight norm, spectral norm) is what it is now."""
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    root = copy.deepcopy(model, computed).eval()  # torch does not copy a tensor that was computed
    for module in list(root.modules()):
        if parametrize.is_parametrized(module):
            # Not `remove_parametrizations`: it changes the class, which the model shares.
            weights = {name: getattr(module, name).detach() for name in module.parametrizations}  # type: ignore[union-attr]
            del module.parametrizations
            module.__class__ = type(module).__bases__[0]
            for name, value in weights.items():
                module.register_parameter(name, nn.Parameter(value))
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
    return root


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return (one.shape, one.dtype) == (other.shape, other.dtype) and torch.allclose(
        one, other, rtol=1e-4, atol=1e-4, equal_nan=True
    )


def _difference(model: nn.Module, batch: torch.Tensor) -> str:
    """Why the trace may compute something else than the model does."""
    again = _settled(model)
    with torch.no_grad():
        first, second = ([_at(answer, path) for path in _paths(answer)] for answer in (again(batch), again(batch)))
    if len(first) != len(second) or not all(map(_alike, first, second)):
        return "answers differently to the same input: it draws random numbers, or keeps something from call to call"
    if len(batch) == 2:
        return "cannot be followed: its trace computes something else, as when a view is changed in place"
    return (
        f"computes something else at batch size {len(batch)} than its trace at 2: its forward fixes the batch size, "
        "or depends on the values in a tensor"
    )


def _outputs(name: str, answer: Any, wanted: str | None) -> list[tuple[Any, ...]]:
    """Where in a model's answer its tensors are, as paths of keys and indices. Raises ModelError."""
    found = list(_paths(answer))
    if wanted is not None:
        found = [path for path in found if _dotted(path) == wanted]
    if not found:
        held = ", ".join(map(_dotted, _paths(answer))) or "no tensor"
        raise ModelError(
            f"{name} answers with {type(answer).__name__} that holds {held}; "
            + (f"there is no output {wanted!r}" if wanted is not None else "a tensor is needed")
        )
    return found


def _paths(answer: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(answer, torch.Tensor):
        yield path
    elif isinstance(answer, dict):
        for key, value in answer.items():
            yield from _paths(value, (*path, key))
    elif isinstance(answer, (tuple, list)):
        for index, value in enumerate(answer):
            yield from _paths(value, (*path, index))


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _at(answer: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        answer = answer[key]
    return answer


def _in_a_row(tensors: list[torch.Tensor]) -> torch.Tensor:
    """One tensor as it is; several, batch first, flattened and joined: shape (batch, sum of their sizes)."""
    return tensors[0] if len(tensors) == 1 else torch.cat([_row(tensor) for tensor in tensors], 1)


def _row(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.unsqueeze(1) if tensor.dim() == 1 else tensor.flatten(1)


def _answer_in_a_row(graph: fx.Graph, outputs: list[tuple[Any, ...]], values: dict[fx.Node, Any]) -> None:
    """`_in_a_row`, as part of the graph."""
    end = graph.output_node()
    nodes = [_at(end.args[0], path) for path in outputs]
    with graph.inserting_before(end):
        if len(nodes) > 1:
            rows = [
                graph.call_method("unsqueeze" if values[node].dim() == 1 else "flatten", (node, 1)) for node in nodes
            ]
            for row, node in zip(rows, nodes):
                values[row] = _row(values[node])
            joined = graph.call_function(torch.cat, (rows, 1))
            values[joined] = torch.cat([values[row] for row in rows], 1)
            nodes = [joined]
    end.args = (nodes[0],)


def _note_new_nodes(traced: fx.GraphModule, tracer: _Tracer, known: set[fx.Node]) -> None:
    """Says of nodes that were added since the trace whether they depend on the values in the input."""
    for node in traced.graph.nodes:
        if node not in known and not tracer.valued.isdisjoint(node.all_input_nodes):
            tracer.valued.add(node)
        if node.target is operator.setitem and node in tracer.valued:
            tracer.valued.add(node.args[0])


def _fold_constants(traced: fx.GraphModule, tracer: _Tracer, runs: list[_Recorder]) -> None:
    """Makes constants of the tensors that follow from sizes alone and are the same at all batch sizes."""
    valued = tracer.valued
    for node in list(traced.graph.nodes):
        value = tracer.values.get(node)
        if node in valued or node.op in ("placeholder", "output", "get_attr") or not isinstance(value, torch.Tensor):
            continue
        readers = [user for user in node.users if user in valued or user.op == "output"]
        if not readers or not all(torch.equal(value, run.found[node]) for run in runs):
            continue
        name = f"_constant{len(traced._buffers)}"
        traced.register_buffer(name, value)
        with traced.graph.inserting_before(node):
            constant = traced.graph.get_attr(name)
        constant.meta = dict(node.meta)
        for reader in readers:
            reader.replace_input_with(node, constant)
    for node in reversed(traced.graph.nodes):  # what was only written to make them
        written = node.target is operator.setitem and node not in valued
        if written and all(user.target is operator.setitem for user in node.args[0].users):
            traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code(is_live)
    traced.recompile()


class _Recorder(fx.Interpreter):
    """Runs the graph at another batch size; `found` holds what its nodes were."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.found: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.found[n] = super().run_node(n)
        return self.found[n]


def _note(traced: fx.GraphModule, tracer: _Tracer, runs: list[_Recorder]) -> None:
    """Notes on each node what it was at every batch size."""
    for node in traced.graph.nodes:
        if node.op != "output":
            result = runs[0].found[node]
            two, three, one = (_seen(run.found[node]) for run in runs)
            node.meta["seen"], node.meta["alone"] = (two, three), one
            node.meta["read"] = node in tracer.read
            node.meta["dtype"] = str(result.dtype).removeprefix("torch.") if isinstance(result, torch.Tensor) else None


def _seen(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else value


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
