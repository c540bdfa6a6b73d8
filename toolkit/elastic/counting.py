"""How many multiply-accumulates a module takes.

Torch's counter knows products of matrices and convolutions. On the CPU attention, LSTMs and products with a vector are
operations of their own, which it takes for free: they are counted here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_Shape = Sequence[int]


def _attention(query: _Shape, key: _Shape, value: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _lstm(steps: _Shape, from_input: _Shape, from_hidden: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(steps[:-1]) * (math.prod(from_input) + math.prod(from_hidden))


def _matrix(matrix: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def _added(_: _Shape, matrix: _Shape, *__: Any, **___: Any) -> int:
    return 2 * math.prod(matrix)


def _bilinear(first: _Shape, weight: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(first[:-1]) * math.prod(weight)


_aten = torch.ops.aten
# Of each operation, twice its multiply-accumulates, from the shapes of its operands, as torch's counter counts.
_OPERATIONS: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten.mkldnn_rnn_layer: _lstm,
    _aten.mv: _matrix,
    _aten.dot: _matrix,
    _aten.vdot: _matrix,
    _aten.addmv: _added,
    _aten._trilinear: _bilinear,
}


@contextmanager
def multiply_accumulates() -> Iterator[Callable[[], int]]:
    """Yields what tells how many were computed inside so far."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it makes one operation of a whole layer of attention
    try:
        with FlopCounterMode(display=False, custom_mapping=_OPERATIONS) as counter:
            # Its hooks on modules tell whose operations they are. They fail on a tensor that asks for a gradient, such
            # as a view of a weight, or what a model calls `requires_grad_` on.
            counter.mod_tracker.__exit__()
            yield lambda: counter.get_total_flops() // 2
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
