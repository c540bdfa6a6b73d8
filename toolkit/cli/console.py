"""What the commands share: progress on stderr, results on stdout, errors on one line, exit statuses.

0: it worked. 1: the work failed, and one line on stderr names what, with what, and what to do. 2: usage.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import AdaptiveNetError, SeveralDevices
from .process import ended_as_interrupted, open_streams, settle_streams
from .progress import bar_line, plain_line

if TYPE_CHECKING:
    from ..data import Dataset

RUNNER_HELP = (
    "Of a phone: the folder of the runner to use (default: the one built here for it; see adaptivenet-runner list)."
)

Command = TypeVar("Command", bound=Callable[..., Any])
_QUIET_SECONDS = 5.0  # between two lines of progress where there is no terminal
_OUTPUT_ERRORS = {errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF}  # files are named in theirs
_LONG_SECONDS = 10.0  # after so long without a step, it is said that the stage is still going on


class Console:
    """Writes progress: a bar on a terminal, otherwise plain lines, at most one every few seconds a stage.

    A stage whose steps take long is said to go on, by a thread that ends with the command. Where stderr cannot be
    written to (a full disk, a terminal that is closed) nothing is said, and the work goes on. An observer for devices:
    what they explain is shown where the command runs with `--verbose`.
    """

    def __init__(self) -> None:
        context = click.get_current_context(silent=True)
        self.verbose = is_verbose()
        self.terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._blocks = "█·" if _has("█·") else "#-"
        self._stage, self._note = "", ""
        self._done = self._total = 0
        self._begun = self._said = time.monotonic()
        self._patience = _LONG_SECONDS
        self._open = False  # whether the cursor stands behind a bar
        self._lock = threading.Lock()
        self._ended = threading.Event()
        if context:
            threading.Thread(target=self._watch, name="progress", daemon=True).start()
            context.call_on_close(self._ended.set)

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Shows that `done` of `total` are done in a stage; `note` is a word on the last one.

        A `total` of 0 says that the stage begins, before it is known of how many steps.
        """
        with self._lock:
            now = time.monotonic()
            if stage != self._stage:
                self._end_line()
                self._stage, self._begun, self._said = stage, now, now - _QUIET_SECONDS + 1
            self._done, self._total, self._note, self._patience = done, total, note, _LONG_SECONDS
            last = 0 < total <= done
            if last or (total and now - self._said >= (0.1 if self.terminal else _QUIET_SECONDS)):
                self._show(now)
            if last:
                self._stage = ""

    def live(self, stage: str, done: int, total: int | None, state: str) -> None:
        """Shows how a stage is doing, of which it need not be known when it ends; `state` is a few words."""
        if total is not None:
            self.progress(stage, done, total, state)
            return
        with self._lock:
            now = time.monotonic()
            if stage != self._stage:
                self._end_line()
                self._stage, self._begun, self._said = stage, now, 0.0
            self._done, self._total, self._note, self._patience = done, 0, state, _LONG_SECONDS
            if now - self._said >= (0.1 if self.terminal else _QUIET_SECONDS):
                self._show(now)

    def say(self, text: str) -> None:
        """One line on stderr."""
        with self._lock:
            self._end_line()
            _write(f"{text}\n")

    def notes(self, *data: Dataset) -> None:
        """What is to be known of how data was read, a line each, once."""
        for note in dict.fromkeys(note for each in data for note in each.notes):
            self.say(f"note: {note}")

    def explain(self, text: str) -> None:
        """One line on stderr, with `--verbose`."""
        if self.verbose:
            self.say(text)

    def _show(self, now: float, note: str = "") -> None:
        shown = (self._stage, self._done, self._total, now - self._begun, note or self._note)
        last = 0 < self._total <= self._done
        if self.terminal:
            line = bar_line(*shown, columns=_columns(), blocks=self._blocks)
            _write(f"\r{line}\x1b[K" + "\n" * last)
        else:
            _write(f"{plain_line(*shown)}\n")
        self._open, self._said = self.terminal and not last, now

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                now = time.monotonic()
                if self._stage and now - max(self._said, self._begun) >= self._patience:
                    self._show(now, "still running")
                    self._patience = 1.0 if self.terminal else 2 * self._patience  # a log need not hear it so often

    def _end_line(self) -> None:
        if self._open:
            _write("\n")
            self._open = False


def _write(text: str) -> None:
    with suppress(OSError):
        click.echo(text, err=True, nl=False)


def _columns() -> int:
    """The terminal's width now, less the column in which some terminals begin a new line."""
    with suppress(OSError, ValueError):
        return max(os.get_terminal_size(sys.stderr.fileno()).columns - 1, 1)
    return 79


def _has(characters: str) -> bool:
    try:
        characters.encode(sys.stderr.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class OutputFile(click.Path):
    """The path of a file to write, where - stands for standard output."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        return super().convert("/dev/stdout" if value == "-" else value, parameter, context)


class Amount(click.ParamType[float]):
    """A positive number with a unit, which may be left out: 40MB, 15 mJ. The value is the number."""

    def __init__(self, unit: str) -> None:
        self.name = self.unit = unit

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        """See `click.ParamType.convert`."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(rf"(\d+(?:\.\d+)?)\s*(?:{self.unit})?", str(value).strip(), re.IGNORECASE)
        if not match or float(match[1]) <= 0:
            self.fail(f"{value!r} is no amount: write it like 40{self.unit}", parameter, context)
        return float(match[1])


def is_verbose() -> bool:
    """Whether the command that runs was given `--verbose`."""
    context = click.get_current_context(silent=True)
    return bool(context and context.params.get("verbose"))


def reports_errors(command: Command) -> Command:
    """Adds `--verbose`, and turns the toolkit's errors and the system's into one line and exit status 1."""

    @click.option("--verbose", is_flag=True, help="Say how things are done; show the traceback of an error.")
    @functools.wraps(command)
    def run(*args: Any, verbose: bool, **kwargs: Any) -> Any:
        open_streams()
        try:
            with ended_as_interrupted():
                return command(*args, **kwargs)
        except KeyboardInterrupt as error:
            _fail("; ".join(["interrupted", *map(str, error.args)]))
        except Exception as error:
            text = _in_words(error)
            if verbose or text is None:
                raise
            _fail(text)
            if isinstance(error, SeveralDevices):
                _write(f"{error.table}\n")
        finally:
            settle_streams()
        sys.exit(1)

    return run  # type: ignore[return-value]


def _fail(text: str) -> None:
    erase = "\r\x1b[K" if sys.stderr.isatty() else ""  # a bar that was not finished
    _write(f"{erase}error: {' '.join(text.split())}\n")


def _in_words(error: Exception) -> str | None:
    """The line for an error that no defect of the toolkit need be behind; None for another."""
    if isinstance(error, AdaptiveNetError):
        return str(error)
    if isinstance(error, OSError):
        if error.filename is None and error.errno in _OUTPUT_ERRORS:
            return f"the result cannot be written to standard output: {error.strerror}"
        return f"{error.filename or 'the system'}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return f"there is too little memory ({error}): ask for less at once, or close other programs"
    if isinstance(error, StopIteration) or isinstance(error.__cause__, StopIteration):
        return "a next value was asked for where there was none (StopIteration): --verbose shows where"
    return None


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Text columns, the first row being their heads; the columns in `right` are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(w) if c in right else cell.ljust(w) for c, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def print_json(document: Any) -> None:
    """One json document on stdout."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))
