"""What is loaded stays within its limit, and what goes first is what is needed last."""

from __future__ import annotations

from typing import Any

from adaptivenet.toolkit.devices.local.assembler import Piece
from adaptivenet.toolkit.serving.pager import Pager
from hypothesis import given
from hypothesis import strategies as st

PIECES = [Piece((f"b{at}",), 1 + at % 4) for at in range(12)]
PROGRAM: Any = object()
fronts = st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4, unique=True), min_size=1, max_size=6)


def load(pager: Pager, pieces: list[Piece], keep: list[Piece], around: int | None) -> bool:
    """What the loader does; whether all of it fitted."""
    for piece in pager.missing(pieces):
        if not pager.make_room(piece.bytes, {*pieces, *keep}, around):
            return False
        pager.add(piece, PROGRAM)
    pager.touch(pieces)
    return True


@given(fronts, st.integers(1, 30), st.lists(st.integers(0, 5), max_size=12))
def test_the_limit_is_kept_and_so_is_what_serves(front: list[list[Piece]], limit: int, visited: list[int]) -> None:
    pager = Pager(front, limit)
    serving: list[Piece] = []
    for each in visited:
        point = each % len(front)
        if load(pager, front[point], serving, point):
            serving = front[point]
        assert pager.bytes <= limit
        assert not pager.missing(serving)
        assert pager.bytes == sum(piece.bytes for piece in PIECES if piece.blocks in pager.programs())


@given(fronts, st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_without_a_limit_nothing_is_kept_beside_what_serves(front: list[list[Piece]], visited: list[int]) -> None:
    pager = Pager(front)
    for each in visited:
        pieces = front[each % len(front)]
        assert load(pager, pieces, [], None)
        pager.trim(pieces)
        assert pager.programs().keys() == {piece.blocks for piece in pieces}
        assert pager.ahead(each % len(front), lambda point: False) is None


def test_what_is_far_on_the_front_goes_first_and_of_what_is_equally_near_what_was_needed_before() -> None:
    front = [[piece] for piece in PIECES[:6]]
    pager = Pager(front, 100)
    for point in (0, 5, 3, 1):
        assert load(pager, front[point], [], point)
    assert pager.make_room(97, [], around=2)  # 10 bytes are loaded
    assert list(pager.programs()) == [("b1",)], "of points 1 and 3, which was needed before goes too"
    assert not pager.make_room(100, PIECES, around=2), "what must stay stays"
    assert pager.programs()


def test_a_neighbour_is_loaded_ahead_where_there_is_room_the_slower_one_first() -> None:
    front = [[piece] for piece in PIECES[:4]]  # 1, 2, 3 and 4 bytes
    pager = Pager(front, 7)
    assert load(pager, front[1], [], 1)
    assert pager.ahead(1, lambda point: False) == 2
    assert pager.ahead(1, lambda point: point == 2) == 0
    assert load(pager, front[2], front[1], 2)
    assert pager.ahead(1, lambda point: False) == 0
    assert pager.ahead(2, lambda point: False) is None, "4 bytes do not fit beside 5, and point 1 is loaded"
    assert pager.ahead(3, lambda point: False) is None
