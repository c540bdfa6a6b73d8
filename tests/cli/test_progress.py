"""The line of progress: it fits, whatever the terminal's width and the words in it, and is drawn by a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from adaptivenet.toolkit.cli.progress import bar_line, cells, cut, plain_line
from hypothesis import example, given
from hypothesis import strategies as st

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=60)


@given(WORDS, st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0, 1e7), WORDS, st.integers(1, 200))
@example("測定", 3, 40, 12.0, "b01-p50 für executorch", 40)
def test_the_line_fits(stage: str, done: int, total: int, seconds: float, note: str, columns: int) -> None:
    assert cells(bar_line(stage, done, total, seconds, note, columns=columns)) <= columns


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (79, "measure          ████████████············ 20/40  12 s  b01-p50"),
        (60, "measure          ███████████··········· 20/40  12 s  b01-p50"),
        (37, "measure ████···· 20/40  12 s  b01-p50"),
        (30, "measure 20/40  12 s  b01-p50"),
        (20, "measure 20/40  12 s"),
        (10, "measure 20"),
    ],
)
def test_what_goes_first_where_there_is_no_room(columns: int, line: str) -> None:
    assert bar_line("measure", 20, 40, 12.4, "b01-p50", columns=columns) == line


def test_a_stage_of_unknown_length_and_a_plain_line() -> None:
    assert bar_line("search", 0, 0, 11, "still running") == "search           11 s  still running"
    assert plain_line("search", 0, 0, 11, "still running") == "search: 11 s still running"
    assert plain_line("search", 3, 40, 11.2, "") == "search: 3/40, 11 s"


def test_columns_are_those_of_the_terminal() -> None:
    assert [cells(text) for text in ("abc", "測定", "e\u0301", "\u200b")] == [3, 4, 1, 0]
    assert [cut("測定", columns) for columns in (1, 2, 3, 4)] == ["", "測", "測", "測定"]


PROGRAM = """
import fcntl, struct, sys, termios, click
from adaptivenet.toolkit.cli import console
from adaptivenet.toolkit.cli.console import Console, reports_errors
@click.command()
@reports_errors
def main():
    shown = Console()
    for done in range(1, 6):
        columns = 100 if done < 3 else 40
        fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        shown._said = 0.0  # as if time had passed
        shown.progress("measure", done, 5, "a note of some length, 測定測定")
    shown.say("done")
main()
"""


def test_the_width_is_asked_for_each_time() -> None:
    main, other = pty.openpty()
    fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=other, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(other)
    said = os.read(main, 1 << 16).decode()
    os.close(main)
    drawn = [line.split("\x1b[K")[0] for line in said.replace("\r\n", "\r").split("\r") if "measure" in line]
    assert len(drawn) == 5
    assert [cells(line) < 100 for line in drawn[:2]] == [True, True]
    assert max(cells(line) for line in drawn[:2]) > 40
    assert max(cells(line) for line in drawn[2:]) < 40
    assert said.endswith("\r\ndone\r\n")


SLOW = """
import sys, time, click
from adaptivenet.toolkit.cli import console
from adaptivenet.toolkit.cli.console import Console, reports_errors
console._LONG_SECONDS = 0.5
@click.command()
@reports_errors
def main():
    shown = Console()
    shown.progress("search", 0, 0)
    time.sleep(4)
    shown.progress("search", 5, 5)
main()
"""


def test_a_long_first_step_is_said_to_run() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    first, *_, last = done.stderr.splitlines()
    assert re.fullmatch(r"search: \d+ s still running", first)
    assert re.fullmatch(r"search: 5/5, \d+ s", last)
