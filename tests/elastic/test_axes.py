"""Axes: what is kept of one axis is kept of every axis that is the same one, however it is folded."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from adaptivenet.toolkit.elastic.pruning.axes import (
    Axis,
    Factor,
    divide,
    factors,
    fix,
    fixed_axis,
    has_batch,
    join,
    kept_positions,
    leaves,
    positions_of,
    refold,
    size_of,
    unify,
)
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)


def choose(data: st.DataObject, *axes: Axis) -> dict[Factor, np.ndarray]:
    """Some positions of some of the leaves that are not fixed."""
    kept = {}
    for axis in axes:
        for leaf in leaves(axis):
            if not leaf.fixed and leaf not in kept:
                some = data.draw(st.sets(st.integers(0, leaf.size - 1), min_size=1))
                kept[leaf] = np.array(sorted(some))
    return kept


def select(array: np.ndarray, axes: list[Axis], kept: dict[Factor, np.ndarray]) -> np.ndarray:
    return array[np.ix_(*(kept_positions(axis, kept) for axis in axes))]


@given(SIZES, st.data())
def test_a_folded_tensor_keeps_the_same_elements(sizes: list[int], data: st.DataObject) -> None:
    axes: list[Axis] = [(Factor(size),) for size in sizes]
    total = prod(sizes)
    divisors = [size for size in range(1, total + 1) if total % size == 0]
    first = data.draw(st.sampled_from(divisors))
    second = data.draw(st.sampled_from([size for size in divisors if total // first % size == 0]))
    shape = (first, second, total // first // second)
    folded = refold(axes, shape)
    if folded is None:  # the borders of the axes do not fit: nothing is promised but that nothing is half done
        assert [size_of(axis) for axis in axes] == sizes
        return
    kept = choose(data, *axes)
    array = np.arange(total)
    before = select(array.reshape(sizes), axes, kept)
    after = select(array.reshape(shape), folded, kept)
    assert before.reshape(-1).tolist() == after.reshape(-1).tolist()


@given(SIZES, SIZES, st.data())
def test_axes_that_are_one_lose_the_same_positions(one: list[int], other: list[int], data: st.DataObject) -> None:
    size = prod(one)
    a: Axis = tuple(Factor(part) for part in one)
    b: Axis = tuple(Factor(part) for part in other) if prod(other) == size else (Factor(size),)
    unify(a, b)
    kept = choose(data, a, b)
    assert kept_positions(a, kept).tolist() == kept_positions(b, kept).tolist()


@pytest.mark.parametrize(("one", "other"), [([2, 6, 6], [3, 6, 4]), ([2, 3, 5], [3, 2, 5])])
def test_axes_that_do_not_match_are_fixed_up_to_where_both_have_a_border(one: list[int], other: list[int]) -> None:
    a, b = (tuple(Factor(part) for part in parts) for parts in (one, other))
    unify(a, b)
    assert [leaf.fixed for leaf in leaves(a)] == [leaf.fixed for leaf in leaves(b)] == [True, True, one[2] != 5]
    assert (a[2].root is b[2].root) == (one[2] == 5)


@given(st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=4), st.data())
def test_joined_axes_and_their_stretches(sizes: list[int], data: st.DataObject) -> None:
    parts: list[Axis] = [(Factor(size),) for size in sizes]
    whole = join(parts)
    bounds = data.draw(st.lists(st.integers(0, sum(sizes)), max_size=3).map(sorted))
    lengths = np.diff([0, *bounds, sum(sizes)]).tolist()
    stretches = divide(whole, lengths)
    kept = choose(data, whole)
    starts = np.cumsum([0, *sizes])
    expected = [start + position for start, part in zip(starts, parts) for position in kept_positions(part, kept)]
    assert kept_positions(whole, kept).tolist() == expected
    starts = np.cumsum([0, *lengths])
    again = [start + position for start, part in zip(starts, stretches) for position in kept_positions(part, kept)]
    assert again == expected


@given(SIZES, st.data())
def test_every_position_belongs_to_one_of_each_leaf(sizes: list[int], data: st.DataObject) -> None:
    axis: Axis = tuple(Factor(size) for size in sizes)
    for index, leaf in enumerate(axis):
        if leaf.size > 1:
            grid = np.indices(sizes)[index].reshape(-1)
            assert positions_of(axis, leaf).tolist() == grid.tolist()


def test_heads_are_found_in_a_fused_projection() -> None:
    """(3 × heads × size) folded, the three separated, the heads read again: the heads are one factor throughout."""
    outputs: Axis = (Factor(3 * 4 * 8),)
    three, heads, size = refold([outputs], (3, 4, 8)) or []
    fix(three)
    projected: Axis = (Factor(32),)
    unify(projected, (*heads, *size))
    assert factors(projected) == (*factors(heads), *factors(size))
    kept = {factors(heads)[0]: np.array([1, 3])}
    assert kept_positions(projected, kept).tolist() == [*range(8, 16), *range(24, 32)]
    assert len(kept_positions(outputs, kept)) == 48
    assert positions_of(outputs, factors(heads)[0]).tolist() == [
        head for _ in range(3) for head in range(4) for _ in range(8)
    ]


def test_rows_of_a_concatenation_lose_the_same() -> None:
    """Three tensors joined, then folded into three rows, as a bias for queries, keys and values is."""
    parts: list[Axis] = [(Factor(8),) for _ in range(3)]
    rows = refold([join(parts)], (3, 2, 4))
    assert rows is not None
    kept = {factors(rows[1])[0]: np.array([1])}
    assert [kept_positions(part, kept).tolist() for part in parts] == [[4, 5, 6, 7]] * 3


def test_what_meets_a_fixed_axis_is_fixed() -> None:
    free: Axis = (Factor(6),)
    halves = divide(free, [2, 4])
    unify(halves[1], fixed_axis(4))
    assert [leaf.fixed for leaf in leaves(free)] == [False, True]


def test_axes_that_cannot_be_matched_are_fixed() -> None:
    one: Axis = (Factor(2), Factor(3))
    other: Axis = (Factor(3), Factor(2))
    unify(one, other)
    assert all(leaf.fixed for axis in (one, other) for leaf in leaves(axis))


def test_a_split_batch_is_a_batch_times_a_number() -> None:
    axis: Axis = (Factor(6, batch=True),)
    windows, inner = refold([axis], (2, 3)) or []
    assert has_batch(axis)
    assert has_batch(windows)
    assert not has_batch(inner)
    assert all(leaf.fixed for leaf in leaves(axis))


@pytest.mark.parametrize("sizes", [(5,), (4, 4), (3, 2)])
def test_what_does_not_fold_says_so(sizes: tuple[int, ...]) -> None:
    assert refold([(Factor(2),), (Factor(2),), (Factor(2),)], sizes) is None


def test_an_axis_joined_with_an_empty_slice_is_that_axis() -> None:
    """As where a transformer rotates all tokens but its first ones, and has none of these: it could not be followed."""
    tokens: Axis = (Factor(16),)
    first, others = divide(tokens, [0, 16])
    again = join([first, others])
    unify(again, tokens)
    unify(tokens, again)
    fix(again)
    assert (size_of(again), size_of(join([first])), [leaf.fixed for leaf in leaves(tokens)]) == (16, 0, [True])
