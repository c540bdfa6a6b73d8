"""A model that answers with several tensors, as one that answers with all of them in one row.

Tensors may come in dicts, lists and tuples, and in what has names for them: named tuples, dataclasses, mappings of a
library's own (`ModelOutput`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import fx

from ...errors import ModelError


def plain(answer: Any) -> Any:
    """The same answer in dicts and tuples; what has names for its parts becomes a dict of them.

    What is neither is left as it is. A recorded tensor claims to be one, and is left as it is, too.
    """
    if isinstance(answer, torch.Tensor):
        return answer
    if isinstance(answer, Mapping):
        return {key: plain(value) for key, value in answer.items()}
    if is_dataclass(answer) and not isinstance(answer, type):
        return {field.name: plain(getattr(answer, field.name)) for field in fields(answer)}
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return {name: plain(value) for name, value in zip(answer._fields, answer)}
    if isinstance(answer, (tuple, list)):
        return tuple(map(plain, answer))
    return answer


def find_outputs(name: str, answer: Any, wanted: str | None) -> list[tuple[Any, ...]]:
    """Where in a model's answer its tensors are, as paths of keys and indices. Raises ModelError."""
    found = list(paths(answer))
    if wanted is not None:
        found = [path for path in found if dotted(path) == wanted]
    if not found:
        held = ", ".join(map(dotted, paths(answer))) or "no tensor"
        raise ModelError(
            f"{name} answers with {type(answer).__name__} that holds {held}; "
            + (f"there is no output {wanted!r}" if wanted is not None else "a tensor is needed")
        )
    return found


def paths(answer: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the tensors in an answer are, as paths of keys and indices."""
    if isinstance(answer, torch.Tensor):
        yield path
    elif isinstance(answer, dict):
        for key, value in answer.items():
            yield from paths(value, (*path, key))
    elif isinstance(answer, (tuple, list)):
        for index, value in enumerate(answer):
            yield from paths(value, (*path, index))


def dotted(path: tuple[Any, ...]) -> str:
    """A path as people write it."""
    return ".".join(map(str, path))


def at(answer: Any, path: tuple[Any, ...]) -> Any:
    """The tensor at a path of keys and indices."""
    for key in path:
        answer = answer[key]
    return answer


def in_a_row(tensors: list[torch.Tensor]) -> torch.Tensor:
    """One tensor as it is; several, batch first, flattened and joined: shape (batch, sum of their sizes)."""
    return tensors[0] if len(tensors) == 1 else torch.cat([_row(tensor) for tensor in tensors], 1)


def _row(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.unsqueeze(1) if tensor.dim() == 1 else tensor.flatten(1)


def answer_in_a_row(graph: fx.Graph, outputs: list[tuple[Any, ...]], values: dict[fx.Node, Any]) -> None:
    """`in_a_row` as part of the graph: of `outputs`, paths in what it gives. The nodes that are added get `values`."""
    end = graph.output_node()
    nodes = [at(end.args[0], path) for path in outputs]
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
