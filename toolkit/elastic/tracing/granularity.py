"""How much of a network becomes one block: what repeats, less than that, or several of them in a row."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

from ...errors import ModelError

Granularity = Literal["auto", "fine", "coarse"] | int
NAMES = ("auto", "fine", "coarse")
_POSITIONS = 4  # as many are left at least where blocks are as large as can be


def checked(granularity: Granularity) -> Granularity:
    """The granularity. Raises ModelError for what is none of auto, fine, coarse, and a number from 2 on."""
    if granularity in NAMES or (type(granularity) is int and granularity > 1):
        return granularity
    raise ModelError(f"granularity {granularity!r}: give auto, fine, coarse, or how many blocks become one, from 2 on")


def told(granularity: Granularity) -> str:
    """What a granularity does, and how others are asked for."""
    does = {
        "auto": "what repeats is a block",
        "fine": "the smallest that repeats is a block",
        "coarse": f"as many in a row are a block as repeat so in {_POSITIONS} places",
    }.get(str(granularity), f"{granularity} in a row are a block, where they repeat so")
    return f"granularity {granularity}: {does} (--granularity auto, fine, coarse or a number divides it otherwise)"


def joined(likes: Sequence[Hashable], borders: Sequence[bool], granularity: Granularity) -> list[range]:
    """Which of the blocks in a row become one, as numbers, in order; those that stay alone are ranges of one.

    Blocks are alike where their `likes` are. `borders` says of each block whether what follows it must stay apart. For
    "coarse" it is the largest number of blocks in a row that leaves four such rows at least. Raises ModelError when a
    number was asked for and so many do not repeat in a row.
    """
    if granularity == "coarse":
        lengths = range(len(likes) // _POSITIONS, 1, -1)
        rows = next((found for length in lengths if len(found := _rows(likes, borders, length)) >= _POSITIONS), [])
    elif isinstance(granularity, int):
        rows = _rows(likes, borders, granularity)
        if not rows:
            raise ModelError(
                f"granularity {granularity}: no {granularity} of the {len(likes)} blocks in a row repeat; give a "
                "smaller number, or coarse for the largest that does"
            )
    else:
        rows = []
    inside = {number for row in rows for number in row}
    alone = [range(number, number + 1) for number in range(len(likes)) if number not in inside]
    return sorted([*rows, *alone], key=lambda row: row.start)


def _rows(likes: Sequence[Hashable], borders: Sequence[bool], length: int) -> list[range]:
    """Rows of so many blocks that stand in two places at least; those that stand in most places are taken first."""
    places: dict[tuple[Hashable, ...], list[range]] = {}
    for start in range(len(likes) - length + 1):
        row = range(start, start + length)
        if not any(borders[number] for number in row[:-1]):
            places.setdefault(tuple(likes[start : start + length]), []).append(row)
    apart = [found for rows in places.values() if len(found := _apart(rows, set())) > 1]
    chosen: list[range] = []
    for rows in sorted(apart, key=lambda rows: (-len(rows), rows[0].start)):
        chosen += _apart(rows, {number for row in chosen for number in row})
    return chosen


def _apart(rows: Sequence[range], taken: set[int]) -> list[range]:
    """Those of the rows, in order, that have no block in common with each other or with what is taken."""
    found: list[range] = []
    for row in rows:
        if taken.isdisjoint(row) and not (found and row.start < found[-1].stop):
            found.append(row)
    return found
