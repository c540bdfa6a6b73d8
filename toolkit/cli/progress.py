"""How far a stage is, in words: a line with a bar that fits the terminal, or a plain line for a log."""

from __future__ import annotations

import unicodedata

_STAGE = 16  # columns of a stage's name where there is room
_BAR = 24
_LEAST_BAR = 6


def bar_line(
    stage: str, done: int, total: int, seconds: float, note: str = "", *, columns: int = 80, blocks: str = "█·"
) -> str:
    """One line, not wider than `columns`; `blocks` are the bar's two characters. A `total` of 0 is not known yet.

    Where there is no room, the bar becomes shorter, then goes; after it the note, and the end of what is left.
    """
    counts = f"{_count(done, total)}{seconds:.0f} s"
    tail = f"{counts}  {note}".rstrip()
    for name in (stage + " " * (_STAGE - cells(stage)), stage):
        room = min(_BAR, columns - cells(name) - cells(tail) - 2)
        if total and room >= _LEAST_BAR:
            filled = round(room * min(done / total, 1))
            return f"{name} {blocks[0] * filled}{blocks[1] * (room - filled)} {tail}"
        if not total and room >= 0:
            return f"{name} {tail}"
    whole = f"{stage} {tail}"
    return whole if cells(whole) <= columns else cut(f"{stage} {counts}", columns)


def plain_line(stage: str, done: int, total: int, seconds: float, note: str = "") -> str:
    """The same for a log, in words, of any length."""
    return f"{stage}: {_count(done, total, ', ')}{seconds:.0f} s {note}".rstrip()


def _count(done: int, total: int, after: str = "  ") -> str:
    return f"{done}/{total}{after}" if total else ""


def cells(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian characters take two, accents that combine take none."""
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """As much of the text's begin as fits."""
    taken = 0
    for at, character in enumerate(text):
        taken += _cells(character)
        if taken > columns:
            return text[:at]
    return text
