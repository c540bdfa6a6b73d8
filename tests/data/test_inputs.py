"""Several inputs of a network in one row."""

from __future__ import annotations

import json
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.data import open_data
from adaptivenet.toolkit.data.inputs import INPUT_DTYPES, Input, in_rows, noise_rows, widths
from adaptivenet.toolkit.errors import DataError
from adaptivenet.toolkit.graph.graph import Cut
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from input_vectors import FILE, documents

IDS, MASK = Input("ids", (1, 4), "int64"), Input("mask", (1,), "bool")
HELD = {"ids": np.arange(8).reshape(2, 4), "mask": np.array([True, False])}

inputs = st.lists(
    st.tuples(st.lists(st.integers(1, 4), max_size=3), st.sampled_from(INPUT_DTYPES)), min_size=1, max_size=4
).map(lambda drawn: [Input(f"input{at}", (1, *sides), dtype) for at, (sides, dtype) in enumerate(drawn)])


@given(inputs, st.integers(1, 3), st.data())
def test_each_input_is_found_in_the_row_as_it_was(some: list[Input], rows: int, data: st.DataObject) -> None:
    elements: dict[str, Any] = {
        "float32": {"min_value": -1e6, "max_value": 1e6},
        "int64": {"min_value": -(2**24), "max_value": 2**24},
        "int32": {"min_value": -(2**24), "max_value": 2**24},
        "bool": {},
    }
    held = {
        each.name: data.draw(arrays.arrays(each.dtype, (rows, *each.shape[1:]), elements=elements[each.dtype]))
        for each in some
    }
    row = in_rows(held, some)
    assert (row.dtype, row.shape) == (np.float32, (rows, sum(prod(each.shape) for each in some)))
    for each, place in zip(some, widths(some), strict=True):
        assert np.array_equal(row[:, place].reshape(held[each.name].shape).astype(each.dtype), held[each.name])


@given(inputs)
def test_noise_can_be_read_as_every_input(some: list[Input]) -> None:
    for each, place in zip(some, widths(some), strict=True):
        assert each.dtype == "float32" or (noise_rows(some, 3)[:, place] == 1).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mask": None}, "has no array 'mask', which the network reads; it holds ids"),
        ({"ids": np.zeros((2, 5), np.int64)}, r"'ids' must have shape \(N, 4\), not \(2, 5\)"),
        ({"ids": np.int64(3)}, r"'ids' must have shape \(N, 4\), not \(\)"),
        ({"ids": np.zeros((2, 4), np.float32)}, "'ids' has dtype float32; give int64"),
        ({"ids": np.array([["a", "b", "c", "d"]] * 2)}, "'ids' has dtype <U1; give int64"),
        ({"ids": np.full((2, 4), 2**24 + 1)}, "whole numbers beyond 16777216"),
        ({"ids": np.full((2, 4), -(2**63))}, "whole numbers beyond 16777216"),
        ({"mask": np.array([True])}, "2 of 'ids', 1 of 'mask'"),
        ({"ids": np.zeros((0, 4), np.int64), "mask": np.zeros(0, bool)}, "holds no inputs"),
    ],
)
def test_inputs_that_do_not_fit_are_named(changed: dict[str, Any], message: str) -> None:
    held = {name: value for name, value in (HELD | changed).items() if value is not None}
    with pytest.raises(DataError, match=message):
        in_rows(held, [IDS, MASK], "some.npz")


@pytest.mark.parametrize(("wrong", "place"), [(-1, 0), (8, 1), (-(2**24), 1)])
def test_numbers_that_the_table_does_not_have_are_named(wrong: int, place: int) -> None:
    ids = HELD["ids"].copy()
    ids[place, 2] = wrong
    message = f"some.npz: 'ids' has {wrong} in row {place} .from 0 on., and the network's table the numbers from 0 to 7"
    assert in_rows(HELD, [replace(IDS, below=8), replace(MASK, below=2)])[1, 3] == 7
    with pytest.raises(DataError, match=message):
        in_rows({**HELD, "ids": ids}, [replace(IDS, below=8), MASK], "some.npz")


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="'x' holds NaN or infinite values"):
        in_rows({"x": np.array([[1.0, np.inf]], np.float32)}, [Input("x", (1, 2))])


def test_npz_of_several_inputs_is_opened_with_its_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", **HELD, labels=np.array([1, 0]), other=np.zeros(3))
    data = open_data(tmp_path / "some.npz", None, None, Cut(0, (1, 5)), scores=(1, 2), inputs=[IDS, MASK])
    assert data.image(1).tolist() == [[4, 5, 6, 7, 0]]
    assert data.labels is not None
    assert data.labels.tolist() == [1, 0]


@pytest.mark.parametrize("name", ["pictures", "some.npy"])
def test_only_an_npz_has_several_inputs(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix:
        np.save(path, np.zeros((2, 5), np.float32))
    else:
        path.mkdir()
    with pytest.raises(DataError, match="give one with the arrays ids, mask"):
        open_data(path, None, None, Cut(0, (1, 5)), inputs=[IDS, MASK])


def test_rows_are_those_that_other_languages_make() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8"))["rows"] == documents()


def test_an_input_may_be_called_labels(tmp_path: Path) -> None:
    named = [Input("labels", (1, 7)), IDS]
    np.savez(tmp_path / "own.npz", labels=np.full((2, 7), 0.5), ids=HELD["ids"])
    data = open_data(tmp_path / "own.npz", None, None, Cut(0, (1, 11)), inputs=named)
    assert data.labels is None
    assert (data.image(1) == [[*[0.5] * 7, 4, 5, 6, 7]]).all()
