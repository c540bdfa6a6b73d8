"""How much time and memory the alternatives of a block may take while they are made.

An alternative that takes more is left out. What the computer does not have is known before it is asked for: a process
that runs out of memory is ended by the system, without a word.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode

from ..errors import ModelError
from ..memory import free_bytes_told

_SPARE = 256 << 20  # bytes that are left to everything else


@dataclass(frozen=True)
class Patience:
    """What one alternative may take while it is made: `seconds`, and `megabytes` (millions of bytes) of memory.

    The memory is estimated before any is taken: copies of the weights that it starts from, and the tensors inside of
    the block at once. Raises ModelError for a limit that is no positive number.
    """

    seconds: float = 300.0
    megabytes: float = math.inf

    def __post_init__(self) -> None:
        for name, most in vars(self).items():
            if not most > 0:
                raise ModelError(f"a patience of {most} {name} leaves nothing; give a positive number")


class OutOfPatience(BaseException):
    """A block took too long. No Exception, because a kind of alternatives may go on after any of these."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises OutOfPatience at the first operation of torch that is called later, or at the end."""
    until = time.monotonic() + seconds
    with _Deadline(until):
        yield
    if time.monotonic() > until:
        raise OutOfPatience


class _Deadline(TorchFunctionMode):
    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if time.monotonic() > self._until:
            raise OutOfPatience
        return func(*args, **(kwargs or {}))


def bytes_needed(span: Sequence[fx.GraphModule], copies: float) -> int:
    """About how much it takes to make an alternative of a span of original blocks, in bytes.

    That is so many copies of the largest block's weights, and the tensors at the widest of its operations, for the two
    inputs that it is tried with.
    """
    return round(copies * max(map(weight_bytes, span))) + (max(map(_widest, span)) if copies else 0)


def weight_bytes(module: nn.Module) -> int:
    """What the weights and constants of a module take."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _widest(block: fx.GraphModule) -> int:
    return max(
        (_bytes(node) + sum(map(_bytes, node.all_input_nodes)) for node in block.graph.nodes if node.op != "output"),
        default=0,
    )


def _bytes(node: fx.Node) -> int:
    """What a node's tensor takes at batch size 2; of what is not known to be a tensor, nothing."""
    dtype = node.meta.get("dtype")
    return 0 if dtype is None else math.prod(node.meta["seen"][0]) * getattr(torch, dtype).itemsize


def check_memory(what: str, needed: int) -> None:
    """Raises ModelError when there is less memory than `needed`, in bytes, for `what`."""
    told = free_bytes_told()
    if told is not None and needed > max(0, left := told - _SPARE):
        raise ModelError(
            f"{what} needs about {needed / 1e6:.0f} MB of memory, and {max(0, left) / 1e6:.0f} MB are free: end other "
            "programs, take a machine that has more, or ask for fewer alternatives (--merge, --prune, and --patience, "
            "which leaves out the large ones)"
        )
