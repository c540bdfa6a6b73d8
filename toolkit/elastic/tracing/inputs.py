"""A model of several inputs, as one that reads all of them from one row (see `toolkit.data.inputs`).

The first input is the one that changes along the chain of blocks. The others, and what follows from them without any
weights (a mask for every head, positions), are constants of a run: a block that reads them takes them from the row
again, so that they need not be passed on from block to block. What is computed from them with weights (an embedding of
a time step, a projected prompt) is computed once, and passed on.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import fx, nn

from ...data.inputs import INPUT_DTYPES, Input, in_rows, widths
from ...errors import ModelError
from .canonical import operation_name
from .cuts import changed_later, depending, is_from_row

_MULTIPLYING = {"matmul", "bmm", "mm", "baddbmm", "addmm", "einsum", "scaled_dot_product_attention", "__matmul__"}
_KEEPING = {"reshape", "view", "flatten", "squeeze", "unsqueeze", "to", "int", "long", "contiguous", "clone"}


def inputs_of(tensors: Mapping[str, torch.Tensor]) -> tuple[Input, ...]:
    """What a network's inputs are, by an example of each, batch first. Raises ModelError for one that none can be."""
    found = []
    for name, tensor in tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.") if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        if dtype not in INPUT_DTYPES or tensor.dim() < 1 or 0 in tensor.shape:
            raise ModelError(
                f"the example's {name!r} is {dtype}{tuple(getattr(tensor, 'shape', ()))}: an input is a tensor, batch "
                f"first, of {', '.join(INPUT_DTYPES)}"
            )
        found.append(Input(str(name), (1, *tensor.shape[1:]), dtype))
    if len(lengths := {len(tensor) for tensor in tensors.values()}) != 1:
        raise ModelError(f"the example must have one batch of all inputs: it has {sorted(lengths)} of them")
    return tuple(found)


def check_names(model: nn.Module, inputs: Sequence[Input]) -> None:
    """Raises ModelError where the model's `forward` has no parameter of an input's name, or needs one more.

    Without `inputs` there is one, the first that it has.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    known, given = {each.name for each in named}, [each.name for each in inputs or named[:1]]
    others = any(each.kind is each.VAR_KEYWORD for each in parameters)
    names = ", ".join(each.name for each in named) or "none that can be named"
    for name in given:
        if name == "self" or not (others or name in known):
            raise ModelError(f"the forward of {type(model).__name__} has no input {name!r}; it has {names}")
    if missing := [each.name for each in named if each.default is each.empty and each.name not in given]:
        raise ModelError(
            f"the forward of {type(model).__name__} needs {', '.join(missing)} too; it has {names}: give an example of "
            "each by its name (--input NAME=SHAPE:TYPE)"
        )


def unpacked(row: torch.Tensor, inputs: Sequence[Input]) -> dict[str, torch.Tensor]:
    """The inputs in a batch of rows `(N, width)`, by name, each `(N, *shape[1:])` and of its type."""
    found = {}
    for each, place in zip(inputs, widths(inputs), strict=True):
        part = row[:, place].reshape(-1, *each.shape[1:])
        found[each.name] = part if each.dtype == "float32" else part.to(getattr(torch, each.dtype))
    return found


def row_of(tensors: Mapping[str, torch.Tensor], inputs: Sequence[Input], name: str = "the row") -> torch.Tensor:
    """The inputs by name, each `(N, *shape[1:])`, as float32 rows `(N, width)`.

    Raises DataError, naming `name` and the input, when one is missing or does not fit: see `in_rows`.
    """
    arrays = {
        key: (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().numpy()
        for key, tensor in tensors.items()
    }
    return torch.from_numpy(in_rows(arrays, inputs, name))


def limited(inputs: Sequence[Input], readers: Iterable[tuple[nn.Module, int]]) -> tuple[Input, ...]:
    """The inputs, with the sizes of the tables that their numbers are looked up in (`Input.below`).

    `readers` are the blocks that read the row, each with the number of the argument that the row is.
    """
    found: dict[str, list[int]] = {each.name: [] for each in inputs}
    for block, argument in readers:
        if not isinstance(block, fx.GraphModule):
            continue
        row = [node for node in block.graph.nodes if node.op == "placeholder"][argument]
        for each, place in zip(inputs, widths(inputs), strict=True):
            for taken in row.users:
                if each.dtype != "float32" and taken.args == (row, (slice(None), place)):
                    found[each.name] += _tables(block, taken)
    return tuple(replace(each, below=min(found[each.name], default=None)) for each in inputs)


def _tables(block: fx.GraphModule, numbers: fx.Node) -> Iterator[int]:
    """How many rows each embedding has that all of these numbers are looked up in as they are."""
    for user in numbers.users:
        if user.op == "call_module":
            layer = block.get_submodule(str(user.target))
            if isinstance(layer, nn.Embedding):
                yield layer.num_embeddings
        elif user.target is nn.functional.embedding and isinstance(weight := user.args[1], fx.Node):
            if weight.op == "get_attr":
                yield len(operator.attrgetter(str(weight.target))(block))
        elif operation_name(user.target) in _KEEPING and user.args[0] is numbers:
            yield from _tables(block, user)


def another(row: torch.Tensor, inputs: Sequence[Input], generator: torch.Generator) -> torch.Tensor:
    """A row `(1, width)` of other inputs: noise, and for whole numbers and truth values such as `row` has, mixed."""
    parts = []
    for each, place in zip(inputs, widths(inputs), strict=True):
        part = row[:1, place]
        if each.dtype == "float32":
            parts.append(torch.randn(part.shape, generator=generator))
        else:
            parts.append(part[:, torch.randint(part.shape[1], (part.shape[1],), generator=generator)])
    return torch.cat(parts, 1)


def note_constants(traced: fx.GraphModule, inputs: Sequence[Input]) -> None:
    """Notes on the nodes of a traced model which of them a block reads from the row again (`is_from_row`).

    These are the inputs themselves, what follows without weights from the further ones, and what follows so from the
    first one and is no float32 tensor, such as a mask of the places that it fills.
    """
    row = next(node for node in traced.graph.nodes if node.op == "placeholder")
    depends = depending(traced.graph)
    first: list[fx.Node] = []  # what takes the first input out of the row, step by step
    steps = 2 if inputs[0].dtype == "float32" else 3
    weights = {name for name, _ in traced.named_parameters()}
    for node in traced.graph.nodes:
        used = [each for each in node.all_input_nodes if each in depends]
        if not used or node not in depends or node.op == "output":
            continue
        if used == [row]:
            node.meta["from_row"] = True
            if not first:
                first.append(node)
        elif _is_plain(traced, node, weights) and all(map(is_from_row, used)):
            if len(first) < steps and first[-1] in used:
                first.append(node)
                node.meta["from_row"] = True
            else:
                of_others = not any(each.meta.get("of_first") or each in first for each in used)
                node.meta["of_first"] = not of_others
                node.meta["from_row"] = of_others or node.meta["dtype"] not in (None, "float32")


def _is_plain(traced: fx.GraphModule, node: fx.Node, weights: Collection[str]) -> bool:
    """Whether an operation has no weights, multiplies no matrices, and nothing is written into its result."""
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        return type(module).__module__.startswith("torch.nn.") and not any(True for _ in module.parameters())
    return (
        node.target is not operator.setitem
        and operation_name(node.target) not in _MULTIPLYING
        and not changed_later(node)
        and not any(each.op == "get_attr" and each.target in weights for each in node.all_input_nodes)
    )
