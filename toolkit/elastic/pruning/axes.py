"""Which axes of a network's tensors are the same axis: the sizes that must shrink together.

Every axis of every tensor is a product of *factors*, outermost first. A factor is a number of positions, and it may
turn out to be made of others: a product, as when (heads × head size) is folded into one axis, or a concatenation, as
when two tensors are joined. Following a network means to say of two axes that they are one (`unify`) and to fold and
unfold them (`refold`); what is never said to be fixed may be thinned, everywhere at once. Plain integers, no tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import numpy as np


class Factor:
    """`size` positions. Compared by identity; `unify` makes two of them one."""

    def __init__(self, size: int, fixed: bool = False, batch: bool = False) -> None:
        self.size = size
        self.fixed = fixed or batch
        self.batch = batch
        self.parts: tuple[Factor, ...] = ()
        self.how: Literal["", "product", "concatenation"] = ""
        self._same: Factor | None = None

    @property
    def root(self) -> Factor:
        """The factor that stands for all that were unified with this one."""
        at = self
        while at._same is not None:
            at = at._same
        return at

    def _divide(self, how: Literal["product", "concatenation"], sizes: Sequence[int]) -> None:
        self.parts = tuple(Factor(size, self.fixed, self.batch and not index) for index, size in enumerate(sizes))
        self.how = how


Axis = tuple[Factor, ...]


def fixed_axis(size: int) -> Axis:
    """An axis that keeps its size."""
    return (Factor(size, fixed=True),)


def size_of(axis: Iterable[Factor]) -> int:
    """The number of positions."""
    return prod(factor.size for factor in axis)


def factors(axis: Axis) -> Axis:
    """What the axis is a product of, as far as is known: no factor in it is itself a product, or of size 1."""
    found: list[Factor] = []
    for factor in axis:
        at = factor.root
        if at.how == "product":
            found.extend(factors(at.parts))
        elif at.size != 1:
            found.append(at)
    return tuple(found)


def leaves(axis: Axis) -> Iterator[Factor]:
    """Every factor of the axis that is not made of others, those inside of concatenations too."""
    for factor in factors(axis):
        if factor.parts:
            yield from leaves(factor.parts)
        else:
            yield factor


def fix(axis: Axis) -> None:
    """The axis keeps its size and its order."""
    for factor in axis:
        at = factor.root
        at.fixed = True
        fix(at.parts)


def unify(one: Axis, other: Axis) -> None:
    """The two are one axis. Where their factors cannot be matched, both are fixed, up to where both have a border."""
    left, right = list(reversed(factors(one))), list(reversed(factors(other)))
    while left and right:
        a, b = left.pop(), right.pop()
        if a is b:
            continue
        if a.size == b.size:
            _merge(a, b)
        elif a.size > b.size and (rest := _split(a, b.size)):
            left.extend((rest[1], rest[0]))
            right.append(b)
        elif a.size < b.size and (rest := _split(b, a.size)):
            right.extend((rest[1], rest[0]))
            left.append(a)
        else:
            ours, theirs = [a], [b]
            while (ahead := size_of(ours) - size_of(theirs)) and (right if ahead > 0 else left):
                (theirs if ahead > 0 else ours).append((right if ahead > 0 else left).pop())
            fix((*ours, *theirs))
    fix((*left, *right))


def refold(axes: Iterable[Axis], sizes: Sequence[int]) -> list[Axis] | None:
    """The same positions as axes of other sizes, in row-major order. None where the factors do not allow it."""
    waiting = [factor for axis in axes for factor in factors(axis)]
    waiting.reverse()
    result = []
    for size in sizes:
        axis: list[Factor] = []
        while (left := size // max(1, prod(factor.size for factor in axis))) > 1:
            if not waiting:
                return None
            factor = waiting.pop()
            if left % factor.size == 0:
                axis.append(factor)
            elif rest := _split(factor, left):
                waiting.append(rest[1])
                axis.append(rest[0])
            else:
                return None
        result.append(tuple(axis))
    return None if waiting else result


def join(axes: Sequence[Axis]) -> Axis:
    """The axes one after another in one; those without positions, as of an empty slice, add nothing to it."""
    axes = [axis for axis in axes if size_of(axis)]
    if len(axes) < 2:
        return axes[0] if axes else fixed_axis(0)
    whole = Factor(sum(size_of(axis) for axis in axes))
    parts = []
    for axis in axes:
        part = Factor(size_of(axis))
        part.how, part.parts = "product", axis
        parts.append(part)
    whole.how, whole.parts = "concatenation", tuple(parts)
    return (whole,)


def divide(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """The axis as consecutive stretches of the given sizes. Where it cannot be divided so, all of it is fixed."""
    bounds = np.cumsum(sizes).tolist()
    known = factors(axis)
    if len(known) == 1 and _cut_at(known[0], bounds[:-1]):
        stretches: list[list[Factor]] = [[] for _ in sizes]
        at, index = 0, 0
        for part in _concatenated(known[0]):
            while at >= bounds[index]:
                index += 1
            stretches[index].append(part)
            at += part.size
        return [_one_axis(stretch) for stretch in stretches]
    fix(axis)
    return [fixed_axis(size) for size in sizes]


def _one_axis(parts: list[Factor]) -> Axis:
    if len(parts) == 1:
        return (parts[0],)
    return join([(part,) for part in parts]) if parts else fixed_axis(0)


def _split(factor: Factor, outer: int) -> tuple[Factor, Factor] | None:
    """A factor as a product whose first part has size `outer`."""
    if outer < 1 or factor.size % outer:
        return None
    factor, inner = factor.root, factor.size // outer
    if not factor.parts:
        factor._divide("product", (outer, inner))
        return factor.parts[0], factor.parts[1]
    parts = _concatenated(factor)
    if len(parts) == outer and all(part.size == inner for part in parts):
        for first, second in pairwise(parts):  # parts that lie in rows of one axis lose the same positions
            unify((first,), (second,))
        return Factor(outer, fixed=True), parts[0]
    return None


def _concatenated(factor: Factor) -> list[Factor]:
    """What a factor is a concatenation of; itself when it is none."""
    known = factors((factor,))
    if len(known) != 1:
        return [factor.root]
    at = known[0]
    return [deeper for part in at.parts for deeper in _concatenated(part)] if at.how == "concatenation" else [at]


def _cut_at(factor: Factor, bounds: Sequence[int]) -> bool:
    """Makes the factor a concatenation with these bounds (and perhaps more). False where it cannot be."""
    for bound in bounds:
        at = 0
        for part in _concatenated(factor):
            if at < bound < at + part.size:
                if part.how or part.batch:
                    return False
                part._divide("concatenation", (bound - at, at + part.size - bound))
                break
            at += part.size
    return True


def _merge(a: Factor, b: Factor) -> None:
    """Two factors of one size become one."""
    if a.parts and b.parts:
        bounds = [np.cumsum([part.size for part in _concatenated(side)]).tolist()[:-1] for side in (a, b)]
        if not (_cut_at(a, bounds[1]) and _cut_at(b, bounds[0])):
            fix((a, b))
            return
        for one, other in zip(_concatenated(a), _concatenated(b), strict=True):
            unify((one,), (other,))
        return
    leaf, stays = (a, b) if not a.parts else (b, a)
    leaf._same = stays
    stays.batch |= leaf.batch
    if leaf.fixed:
        fix((stays,))


def has_batch(axis: Axis) -> bool:
    """Whether the size of the axis follows from the batch size."""
    return any(leaf.batch for leaf in leaves(axis))


Kept = Mapping[Factor, np.ndarray]


def kept_positions(axis: Axis, kept: Kept) -> np.ndarray:
    """The positions of the axis that stay, in order, when only the positions `kept` of some leaves stay."""
    found = np.zeros(1, dtype=np.int64)
    for factor in axis:
        found = (found[:, None] * factor.size + _kept(factor.root, kept)[None, :]).reshape(-1)
    return found


def _kept(factor: Factor, kept: Kept) -> np.ndarray:
    if factor.how == "product":
        return kept_positions(factor.parts, kept)
    if factor.how == "concatenation":
        starts = np.cumsum([0, *(part.size for part in factor.parts)])
        return np.concatenate([start + _kept(part.root, kept) for start, part in zip(starts, factor.parts)])
    return kept.get(factor, np.arange(factor.size))


def positions_of(axis: Axis, leaf: Factor) -> np.ndarray:
    """For every position of the axis, which position of `leaf` it belongs to; -1 where it belongs to none."""
    found = np.full(1, -1, dtype=np.int64)
    for factor in axis:
        inner = _positions(factor.root, leaf)
        found = np.maximum(found[:, None], inner[None, :]).reshape(-1)
    return found


def _positions(factor: Factor, leaf: Factor) -> np.ndarray:
    if factor.how == "product":
        return positions_of(factor.parts, leaf)
    if factor.how == "concatenation":
        return np.concatenate([_positions(part.root, leaf) for part in factor.parts])
    return np.arange(factor.size) if factor is leaf else np.full(factor.size, -1, dtype=np.int64)
