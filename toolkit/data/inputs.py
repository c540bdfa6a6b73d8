"""Networks with several inputs, or with one that is no float32 tensor: they read one row of float32 numbers.

The row holds the inputs flattened, one after another, as the last cut holds several outputs. Whole numbers and truth
values are written as float32, which holds every whole number below 2**24 as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError

INPUT_DTYPES = ("float32", "int64", "int32", "bool")
_LARGEST = 1 << 24  # up to it float32 has every whole number


@dataclass(frozen=True)
class Input:
    """One of a network's inputs: its name in the network's `forward`, its shape at batch size 1, its type.

    `below` is how many rows the network's table has that its whole numbers are looked up in, as the numbers of tokens
    are in an embedding: they are 0 to `below - 1`. None: they are not looked up, or it is not known. It is told from
    the network's blocks, and not written.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    below: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As supernets and packs have it."""
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> Input:
        """What `to_json` made. Raises LookupError, TypeError or ValueError for anything else."""
        return Input(str(fields["name"]), tuple(map(int, fields["shape"])), str(fields["dtype"]))

    @property
    def width(self) -> int:
        """How many numbers of the row it takes."""
        return prod(self.shape)


def widths(inputs: Iterable[Input]) -> list[slice]:
    """Where each input lies in the row."""
    found, start = [], 0
    for each in inputs:
        found.append(slice(start, start + each.width))
        start += each.width
    return found


def noise_rows(inputs: Iterable[Input], rows: int = 1) -> npt.NDArray[np.float32]:
    """Rows `(rows, width)` that a network can be run on where nothing better is known: normal noise, and 1 for every
    whole number or truth value, which is a token of any vocabulary, and a place that counts."""
    generator = np.random.default_rng(0)
    parts = [
        generator.standard_normal((rows, each.width)) if each.dtype == "float32" else np.ones((rows, each.width))
        for each in inputs
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def require_known(names: Iterable[str], inputs: Sequence[Input]) -> None:
    """Raises DataError for a name that none of the network's inputs has, and where it has one input, without a name."""
    if not inputs:
        raise DataError("the network has one input, which has no name: it reads one tensor, of the shape of cut 0")
    known = [each.name for each in inputs]
    for other in names:
        if other not in known:
            raise DataError(f"the row: there is no input {other!r}; the network reads {', '.join(known)}")


def in_rows(
    arrays: Mapping[str, npt.NDArray[Any]], inputs: Sequence[Input], name: str = "the row"
) -> npt.NDArray[np.float32]:
    """The arrays of all inputs, of shapes `(N, *shape[1:])`, as float32 rows `(N, width)`.

    Raises DataError, naming `name` and the input, when one is missing or does not fit: another shape, a type that its
    own cannot hold, a number that is not finite, or a whole one that float32, or the network's table, does not have.
    """
    rows = []
    for each in inputs:
        if each.name not in arrays:
            held = ", ".join(sorted(arrays)) or "nothing"
            raise DataError(f"{name} has no array {each.name!r}, which the network reads; it holds {held}")
        rows.append(_checked(np.asarray(arrays[each.name]), each, name))
    if len(counts := {len(row) for row in rows}) > 1:
        several = ", ".join(f"{len(row)} of {each.name!r}" for row, each in zip(rows, inputs))
        raise DataError(f"{name} has {several}: as many of each are needed")
    if counts == {0}:
        raise DataError(f"{name} holds no inputs")
    return np.concatenate(rows, axis=1)


def _checked(values: npt.NDArray[Any], each: Input, name: str) -> npt.NDArray[np.float32]:
    """One input's values as float32 rows."""
    what = f"{name}: {each.name!r}"
    if values.ndim == 0 or values.shape[1:] != each.shape[1:]:
        wanted = ", ".join(["N", *map(str, each.shape[1:])])
        raise DataError(f"{what} must have shape ({wanted}), not {values.shape}")
    if not np.can_cast(values.dtype, each.dtype, "same_kind"):
        raise DataError(f"{what} has dtype {values.dtype}; give {each.dtype}")
    rows = values.reshape(len(values), each.width)
    if each.dtype != "float32" and rows.size:
        if not -_LARGEST <= int(rows.min()) <= int(rows.max()) <= _LARGEST:
            raise DataError(f"{what} has whole numbers beyond {_LARGEST}, which cannot be told apart in float32")
        wrong = np.zeros_like(rows, bool) if each.below is None else (rows < 0) | (rows >= each.below)
        if wrong.any():
            raise DataError(
                f"{what} has {rows[wrong][0]} in row {np.argwhere(wrong)[0][0]} (from 0 on), and the network's table "
                f"the numbers from 0 to {(each.below or 0) - 1}: give the numbers that the network was trained with"
            )
    rows = rows.astype(np.float32)
    if not np.isfinite(rows).all():
        raise DataError(f"{what} holds NaN or infinite values; remove them")
    return rows
