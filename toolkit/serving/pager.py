"""What is loaded, what it takes, and what goes first when memory runs short."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from ..devices.local.assembler import Piece
from ..devices.local.interpreter import Program


@dataclass
class _Held:
    piece: Piece
    program: Program
    needed: int  # when it was last, counted in calls of `touch`


class Pager:
    """The pieces that are loaded. Bytes are those of their artifacts.

    `front` has the pieces of each point, fastest first. Without a limit nothing is kept beside what runs; with one,
    everything is for which there is room.
    """

    def __init__(self, front: Sequence[Sequence[Piece]], limit_bytes: int | None = None) -> None:
        self._front = [tuple(pieces) for pieces in front]
        self._limit = limit_bytes
        self._held: dict[Piece, _Held] = {}
        self._touches = 0
        self.releases = 0
        """How many programs were let go."""

    @property
    def bytes(self) -> int:
        """Of all that is loaded."""
        return sum(piece.bytes for piece in self._held)

    def programs(self) -> dict[tuple[str, ...], Program]:
        """Of all that is loaded, by the names of its blocks."""
        return {piece.blocks: held.program for piece, held in self._held.items()}

    def missing(self, pieces: Iterable[Piece]) -> list[Piece]:
        """Those that are not loaded, in their order."""
        return [piece for piece in pieces if piece not in self._held]

    def add(self, piece: Piece, program: Program) -> None:
        """It is loaded."""
        self._held[piece] = _Held(piece, program, self._touches)

    def touch(self, pieces: Iterable[Piece]) -> None:
        """They are needed now."""
        self._touches += 1
        for piece in pieces:
            self._held[piece].needed = self._touches

    def make_room(self, bytes_: int, keep: Collection[Piece], around: int | None = None) -> bool:
        """Release, of what is not in `keep`, the least useful until so many bytes more fit; False when they do not.

        Useful is what a point near the point `around` has, then what was needed last.
        """

        def usefulness(held: _Held) -> tuple[int, int]:
            points = [at for at, of in enumerate(self._front) if held.piece in of]
            far = len(self._front)
            return -min((far if around is None else abs(at - around) for at in points), default=far), held.needed

        while not self._fits(bytes_):
            candidates = [held for held in self._held.values() if held.piece not in keep]
            if not candidates:
                return False
            del self._held[min(candidates, key=usefulness).piece]
            self.releases += 1
        return True

    def trim(self, keep: Collection[Piece]) -> None:
        """Without a limit, release everything that is not in `keep`."""
        if self._limit is None:
            before = len(self._held)
            self._held = {piece: held for piece, held in self._held.items() if piece in keep}
            self.releases += before - len(self._held)

    def ahead(self, point: int, barred: Callable[[int], bool]) -> int | None:
        """A neighbour of `point` whose missing pieces fit beside everything that is loaded, the slower one first."""
        if self._limit is None:
            return None
        for neighbour in (point + 1, point - 1):
            if not 0 <= neighbour < len(self._front) or barred(neighbour):
                continue
            missing = self.missing(self._front[neighbour])
            if missing and self._fits(sum(piece.bytes for piece in missing)):
                return neighbour
        return None

    def _fits(self, bytes_: int) -> bool:
        return self._limit is None or self.bytes + bytes_ <= self._limit
