"""The rows in `vectors/inputs.json`, which Python, C++ and Kotlin all make, or refuse, alike.

After a change to how a network's several inputs are read, `python tests/input_vectors.py` writes them anew, with what
Python makes of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from adaptivenet.toolkit.data.inputs import Input, in_rows, require_known
from adaptivenet.toolkit.errors import DataError

FILE = Path(__file__).parent / "vectors" / "inputs.json"
_ABOUT = (
    "Rows of a network's several inputs. Of each case, `inputs` are the network's, `given` has names, types and values "
    "(as texts), and `row` is what they are written as; null where `error` says what is wrong. What has another number "
    "of values than its input is an array of one row for Python. Written by tests/input_vectors.py."
)
LARGEST = 1 << 24
INPUTS = (
    Input("ids", (1, 4), "int64"),
    Input("pixels", (1, 2, 1, 3)),
    Input("mask", (1,), "bool"),
    Input("times", (1, 2), "int32"),
)
Given = tuple[str, str, Sequence[object]]  # name, type, values
GOOD: dict[str, Given] = {
    "ids": ("ids", "int64", (0, 7, -LARGEST, LARGEST)),
    "pixels": ("pixels", "float32", (0.1, -2.5e-7, 3.4e38, -0.0, 1e-45, 255)),
    "mask": ("mask", "bool", (1,)),
    "times": ("times", "int32", (-3, 999)),
}


def cases() -> Iterator[tuple[str, Sequence[Input], list[Given]]]:
    """What each is about, a network's inputs, and what is given of them."""

    def other(name: str, dtype: str, *values: object) -> list[Given]:
        return [*({**GOOD, name: (name, dtype, values)}).values()]

    yield "all as they are", INPUTS, [*GOOD.values()]
    yield "in another order", INPUTS, [*reversed(GOOD.values())]
    yield "one alone", INPUTS[2:3], [GOOD["mask"]]
    for dtype in ("int32", "bool", "float32"):
        yield f"whole numbers as {dtype}", INPUTS, other("ids", dtype, 1, 0, 1, 1)
    for dtype in ("int64", "bool", "float32"):
        yield f"whole numbers of 32 bits as {dtype}", INPUTS, other("times", dtype, 0, 1)
    for dtype in ("int64", "int32", "float32"):
        yield f"truth values as {dtype}", INPUTS, other("mask", dtype, 1)
    for dtype in ("int64", "int32", "bool"):
        yield f"numbers as {dtype}", INPUTS, other("pixels", dtype, 0, 1, 0, 1, 1, 0)
    yield "numbers as int64 that are rounded", INPUTS, other("pixels", "int64", *(2**at + 1 for at in range(22, 28)))
    for name in GOOD:
        yield f"without {name}", INPUTS, [given for key, given in GOOD.items() if key != name]
    yield "none", INPUTS, []
    yield "one that there is not", INPUTS, [*GOOD.values(), ("words", "int64", (1,))]
    yield "one that there is not in place of one", INPUTS, [("id", *GOOD["ids"][1:]), *[*GOOD.values()][1:]]
    yield "of a network with one", (), [GOOD["ids"]]
    for name, (_, dtype, values) in GOOD.items():
        yield f"too few of {name}", INPUTS, other(name, dtype, *values[1:])
        yield f"too many of {name}", INPUTS, other(name, dtype, *values, 1)
    for value in (LARGEST + 1, -LARGEST - 1, 2**31 - 1, -(2**31)):
        yield f"times of {value}", INPUTS, other("times", "int32", 0, value)
        yield f"ids of {value}", INPUTS, other("ids", "int64", value, 0, 0, 0)
    for value in (2**63 - 1, -(2**63)):
        yield f"ids of {value}", INPUTS, other("ids", "int64", 0, value, 0, 0)
    for text in ("NaN", "Infinity", "-Infinity"):
        yield f"pixels of {text}", INPUTS, other("pixels", "float32", 1, 1, 1, 1, 1, text)


def array_of(given: Given, inputs: Sequence[Input]) -> np.ndarray:
    """The values as Python is given them: in their input's shape, or as one row where they are not as many."""
    name, dtype, values = given
    array = np.array([float(str(each)) if dtype == "float32" else int(str(each)) for each in values]).astype(dtype)
    shape = next((each.shape for each in inputs if each.name == name), (1, len(array)))
    return array.reshape(shape if prod(shape) == len(array) else (1, len(array)))


def row_or_error(inputs: Sequence[Input], given: Sequence[Given]) -> tuple[list[float] | None, str | None]:
    """What Python makes of them."""
    arrays = {name: array_of((name, dtype, values), inputs) for name, dtype, values in given}
    try:
        require_known(arrays, inputs)
        row: list[float] = in_rows(arrays, inputs)[0].tolist()
        return row, None
    except DataError as error:
        return None, str(error)


def documents() -> list[dict[str, Any]]:
    """All cases with what Python makes of them, as they stand in the file."""
    found = []
    for name, inputs, given in cases():
        row, error = row_or_error(inputs, given)
        found.append(
            {
                "name": name,
                "inputs": [each.to_json() for each in inputs],
                "given": [[key, dtype, [str(each) for each in values]] for key, dtype, values in given],
                "row": row,
                "error": error,
            }
        )
    return found


if __name__ == "__main__":
    made = json.dumps({"about": _ABOUT, "rows": documents()}, indent=0, separators=(",", ":"))
    FILE.write_text(made + "\n", encoding="utf-8")
