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
import math
import operator
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from ...data.inputs import Input, widths
from ...errors import ModelError
from ...memory import taking
from ...plurals import number_of
from ..patience import check_memory, weight_bytes
from . import recorder
from .answers import answer_in_a_row, at, dotted, find_outputs, in_a_row, paths, plain
from .canonical import canonical, is_live
from .comparing import alike, first_undefined, mixes, noises, undefined
from .inputs import another, note_constants, unpacked
from .observers import take_observers_out
from .recorder import Tracer, torch_that_takes_recorded_values

_INTERNALS = frozenset(vars(nn.Module()))  # weights, submodules and hooks


def trace(
    model: nn.Module, example: torch.Tensor, output: str | None = None, inputs: Sequence[Input] = ()
) -> fx.GraphModule:
    """The model in eval mode as a graph of plain operations, on copies of its weights.

    `example` is one input, batch first; of a model with several `inputs` it is their row, which the graph reads. In the
    result every node's `meta["seen"]` is what it was at batch sizes 2 and 3, `meta["alone"]` at 1: for a tensor its
    shape, for anything else its value; `meta["dtype"]` is a tensor's type, None for anything else; `meta["read"]` says
    whether it is a number that was read out of a tensor. Where the model
    answers with a dict or list of tensors, `output` names the one to keep ("out", "0", "head.boxes"); without it all
    are kept, flattened and joined in one row. `meta["outputs"]` of the result lists their names and shapes at batch
    size 1; `meta["mixes"]` says whether the answer to an input changes with the others in its batch. Raises ModelError
    when the model does not run on the example, does not answer with tensors, or with nothing but NaN, or when the graph
    does not compute what the model computes at another batch size.
    """
    name = type(model).__name__
    check_memory(f"a copy of {name}", weight_bytes(model))
    root = _settled(model, example, inputs)
    for parameter in root.parameters():
        parameter.requires_grad_(False)
    one = example[:1]
    (noise, other), alone = _beside(root, one, inputs, output)
    two, three = torch.cat([one, noise]), torch.cat([one, noise, other])
    batches = (two, three, noise)
    answers = [_answer(root, two, inputs), _answer(root, three, inputs), alone]
    outputs = find_outputs(name, answers[1], output)
    shapes = [tuple(at(answers[1], path).shape) for path in outputs]
    if [{path[0] for path in paths(answer) if path} for answer in answers[:2]] == [{0, 1}, {0, 1, 2}]:
        raise ModelError(
            f"{name} answers with a part for each input of a batch, as detectors do that choose among boxes: that "
            "depends on values and stays on the host; give a module that ends with the raw outputs"
        )
    for path, shape in zip(outputs, shapes, strict=True):
        if shape[:1] != (3,):
            raise ModelError(
                f"{name} answers with shape {shape} to a batch of 3; the batch must come first in it"
                + (f" (it is output {dotted(path)!r}; name another as the one to keep)" if len(outputs) > 1 else "")
            )
    told = [(at(answers[0], path)[:1], at(alone, path)) for path in outputs]
    _check_defined(root, one, undefined(own for own, _ in told), undefined(noisy for _, noisy in told))
    tracer = Tracer(root, two.clone(), (lambda row: unpacked(row, inputs)) if inputs else None)
    try:
        with torch.no_grad(), torch_that_takes_recorded_values():
            graph = tracer.trace(root)
            answer_in_a_row(graph, outputs, tracer.values)
    except Exception as error:
        raise ModelError(f"{name} cannot be traced at {_place(error)}: {_first_line(error)}") from error
    for node in graph.nodes:
        node.meta.pop("is_wrapped", None)  # what fx notes on the result of a wrapped function, here a plain operation
    recorded = set(graph.nodes)
    traced = canonical(fx.GraphModule(root, graph, class_name=name), tracer.values)
    _note_new_nodes(traced, tracer, set(tracer.values) & recorded)
    traced.meta["outputs"] = [(dotted(path), (1, *shape[1:])) for path, shape in zip(outputs, shapes, strict=True)]
    widths = [math.prod(shape[1:]) for shape in shapes]
    runs = []
    constants = [node for node in traced.graph.nodes if tracer.is_constant(node)]
    for batch, answer in zip(batches, answers, strict=True):
        size = len(batch)
        # A single answer may come without its batch, as after `squeeze()`: in the trace it keeps it.
        tensors = [at(answer, path).reshape(size, *shape[1:]) for path, shape in zip(outputs, shapes, strict=True)]
        try:
            with torch.no_grad():
                runs.append(_Recorder(traced, constants))
                actual = runs[-1].run(batch.clone())
        except Exception as error:
            raise ModelError(f"{name} cannot be followed at batch size {size}: {_first_line(error)}") from error
        if not alike(actual, in_a_row(tensors), widths):
            raise ModelError(f"{name} {_difference(model, batch, inputs)}")
    traced.meta["mixes"] = any(
        mixes(at(alone, path).reshape(1, *shape[1:]), at(answers[0], path)[1:].reshape(1, *shape[1:]))
        for path, shape in zip(outputs, shapes, strict=True)
    )
    _note(traced, tracer, runs)
    _fold_constants(traced, tracer, constants, runs)
    if inputs:
        note_constants(traced, inputs)
    return traced


def _answer(model: nn.Module, batch: torch.Tensor, inputs: Sequence[Input]) -> Any:
    """What the model answers, in dicts and tuples. Raises ModelError when it does not run."""
    try:
        with torch.no_grad():
            if inputs:
                return plain(model(**unpacked(batch.clone(), inputs)))
            return plain(model(batch.clone()))  # a clone: a model may change its input in place
    except Exception as error:
        given = ", ".join(_told(each, batch[:, place]) for each, place in zip(inputs, widths(inputs), strict=True))
        given = given or f"shape {tuple(batch.shape[1:])} and type {batch.dtype}"
        raise ModelError(
            f"{type(model).__name__} does not run on a batch of {number_of(len(batch), 'input')} of {given}: "
            f"{_first_line(error)}"
        ) from error


def _told(each: Input, numbers: torch.Tensor) -> str:
    """What an input is, and of whole numbers which these are."""
    which = f" of {int(numbers.min())} to {int(numbers.max())}" if each.dtype in ("int64", "int32") else ""
    return f"{each.name} {each.shape[1:]} {each.dtype}{which}"


def _settled(model: nn.Module, example: torch.Tensor, inputs: Sequence[Input]) -> nn.Module:
    """A copy in eval mode, in float32 on the CPU. Lazy layers take their sizes from the example, and random weights.

    A weight that is computed from others (weight norm, spectral norm) is what it is now. Raises ModelError for weights
    that have no values.
    """
    for name, tensor in model.named_parameters():
        if tensor.is_meta:
            raise ModelError(
                f"{type(model).__name__} has {name} on the meta device, where it has no values: build the model on "
                "the CPU, or load its weights"
            )
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    root = _copied(model, computed).eval()  # torch does not copy a tensor that was computed
    if any(map(nn.parameter.is_lazy, root.parameters())):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _answer(root, example, inputs)
    root.cpu()
    take_observers_out(root)
    if any(tensor.is_floating_point() and tensor.dtype != torch.float32 for tensor in root.parameters()):
        root.float()
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


def _beside(
    model: nn.Module, one: torch.Tensor, inputs: Sequence[Input], output: str | None
) -> tuple[tuple[torch.Tensor, torch.Tensor], Any]:
    """Two inputs to trace a model with besides `one`, and what it answers to the first of them.

    With zeros only, say, much that differs would go unnoticed, and so it would where answers are NaN.
    """
    generator = torch.Generator().manual_seed(0)
    if inputs:
        tried = iter([(another(one, inputs, generator), another(one, inputs, generator))])
    else:
        tried = noises(one, generator)
    least, found = math.inf, None
    for pair in tried:
        alone, taken = taking(partial(_answer, model, pair[0], inputs))
        check_memory(f"running {type(model).__name__} on 3 inputs", 3 * taken)
        share = undefined(at(alone, path) for path in find_outputs(type(model).__name__, alone, output))
        if share < least:
            least, found = share, (pair, alone)
        if not share:
            break
    assert found is not None
    return found


def _check_defined(model: nn.Module, one: torch.Tensor, to_example: float, to_noise: float) -> None:
    """Raises ModelError for a model with NaN in its weights, and where its answer to an input is nothing but NaN."""
    name = type(model).__name__
    if (to_example or to_noise) and (broken := first_undefined(model)):
        raise ModelError(f"{name} has numbers that are not finite in {broken}, as after a training that diverged")
    if 1.0 in (to_example, to_noise):
        raise ModelError(
            f"{name} answers with NaN to {'the example' if to_example == 1 else 'noise such as the example'}, which "
            f"reaches from {float(one.min()):.3g} to {float(one.max()):.3g}: give an example of what it is made for; "
            "on the command line the first of --data is taken"
        )


def _copied(model: nn.Module, known: dict[int, Any]) -> nn.Module:
    """A deep copy of a model; what cannot be copied, such as a lock or a file, both have. Raises ModelError."""
    try:
        return copy.deepcopy(model, dict(known))
    except Exception:  # whatever an attribute of the user's raises
        kept = [value for module in model.modules() for name, value in vars(module).items() if name not in _INTERNALS]
    shared = {id(value): value for value in kept if not _can_be_copied(value, known)}
    try:
        return copy.deepcopy(model, {**known, **shared})
    except Exception as error:
        raise ModelError(f"{type(model).__name__} cannot be copied: {_first_line(error)}") from error


def _can_be_copied(value: Any, known: dict[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(known))
    except Exception:
        return False
    return True


def _difference(model: nn.Module, batch: torch.Tensor, inputs: Sequence[Input]) -> str:
    """Why the trace may compute something else than the model does."""
    again = _settled(model, batch, inputs)
    first, second = (
        [at(answer, path) for path in paths(answer)] for answer in (_answer(again, batch, inputs) for _ in range(2))
    )
    if len(first) != len(second) or not all(map(alike, first, second)):
        return "answers differently to the same input: it draws random numbers, or keeps something from call to call"
    with _Autocasting() as seen:
        _answer(again, batch, inputs)
    if seen.any:
        return "turns on torch.autocast in its forward, and is made elastic in float32: turn it off there"
    if len(batch) == 2:
        return "cannot be followed: its trace computes something else, as when a view is changed in place"
    return (
        f"computes something else at batch size {len(batch)} than its trace at 2: its forward fixes the batch size, "
        "or depends on the values in a tensor"
    )


class _Autocasting(TorchFunctionMode):
    """Whether any operation ran under a model's own `torch.autocast`."""

    any = False

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.any |= torch.is_autocast_enabled("cpu")
        return function(*args, **(kwargs or {}))


def _note_new_nodes(traced: fx.GraphModule, tracer: Tracer, known: set[fx.Node]) -> None:
    """Says of nodes that were added since the trace whether they depend on the values in the input."""
    for node in traced.graph.nodes:
        if node not in known and not tracer.valued.isdisjoint(node.all_input_nodes):
            tracer.valued.add(node)
        if node.target is operator.setitem and node in tracer.valued:
            tracer.valued.add(node.args[0])


def _fold_constants(
    traced: fx.GraphModule, tracer: Tracer, constants: Collection[fx.Node], runs: list[_Recorder]
) -> None:
    """Makes constants of the tensors that follow from sizes alone and are the same at all batch sizes."""
    valued = tracer.valued
    for node in constants:
        value = tracer.values.get(node)
        if node.op == "get_attr" or not isinstance(value, torch.Tensor):
            continue
        if not all(torch.equal(value, run.constants[node]) for run in runs):
            continue
        readers = [user for user in node.users if user in valued or user.op == "output"]
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
    """Runs the graph at another batch size.

    `seen` holds the shape and type of the tensors that its nodes were, and anything else as it was; `constants` what
    the nodes `kept` were. All tensors together may not fit the memory.
    """

    def __init__(self, traced: fx.GraphModule, kept: Collection[fx.Node]) -> None:
        super().__init__(traced)
        self._kept = frozenset(kept)
        self.seen: dict[fx.Node, tuple[Any, str | None]] = {}
        self.constants: dict[fx.Node, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.seen[n] = tuple(result.shape), str(result.dtype).removeprefix("torch.")
            if n in self._kept:
                self.constants[n] = result
        else:
            self.seen[n] = result, None
        return result


def _note(traced: fx.GraphModule, tracer: Tracer, runs: list[_Recorder]) -> None:
    """Notes on each node what it was at every batch size."""
    for node in traced.graph.nodes:
        if node.op != "output":
            (two, dtype), (three, _), (one, _) = (run.seen[node] for run in runs)
            node.meta["seen"], node.meta["alone"] = (two, three), one
            node.meta["read"] = node in tracer.read
            node.meta["dtype"] = dtype


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _place(error: BaseException) -> str:
    """The last line of the user's own model that the trace reached: file name and line."""
    place = "its forward"
    at = error.__traceback__
    while at is not None:
        path = at.tb_frame.f_code.co_filename
        if "/torch/" not in path and path not in (__file__, recorder.__file__):
            place = f"{path.rsplit('/', 1)[-1]}:{at.tb_lineno}"
        at = at.tb_next
    return place
