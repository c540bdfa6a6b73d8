"""What the commands share: progress on stderr, results on stdout, errors on one line, exit statuses.

0: it worked. 1: the work failed, and one line on stderr names what, with what, and what to do. 2: usage.
"""

from __future__ import annotations

import functools
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from ..errors import AdaptiveNetError, SeveralDevices

Command = TypeVar("Command", bound=Callable[..., Any])
_QUIET_SECONDS = 5.0  # between two lines of progress where there is no terminal


class Console:
    """Writes progress: a bar on a terminal, otherwise plain lines, at most one every few seconds a stage.

    An observer for devices: what they explain is shown where the command runs with `--verbose`.
    """

    def __init__(self) -> None:
        context = click.get_current_context(silent=True)
        self.verbose = bool(context and context.params.get("verbose"))
        self.terminal = sys.stderr.isatty()
        self._stage = ""
        self._begun = self._said = time.monotonic()
        self._open = False

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Shows that `done` of `total` are done in a stage; `note` is a word on the last one."""
        now = time.monotonic()
        if stage != self._stage:
            self._end_line()
            self._stage, self._begun, self._said = stage, now, now - _QUIET_SECONDS + 1
        last = done >= total
        if self.terminal:
            if last or now - self._said >= 0.1:
                filled = round(24 * done / max(total, 1))
                bar = "█" * filled + "·" * (24 - filled)
                text = f"{stage:<16} {bar} {done}/{total}  {now - self._begun:.0f} s  {note}"[:110]
                click.echo(f"\r{text:<110}", err=True, nl=last)
                self._open, self._said = not last, now
        elif last or now - self._said >= _QUIET_SECONDS:
            click.echo(f"{stage}: {done}/{total}, {now - self._begun:.0f} s {note}".rstrip(), err=True)
            self._said = now

    def say(self, text: str) -> None:
        """One line on stderr."""
        self._end_line()
        click.echo(text, err=True)

    def explain(self, text: str) -> None:
        """One line on stderr, with `--verbose`."""
        if self.verbose:
            self.say(text)

    def _end_line(self) -> None:
        if self._open:
            click.echo(err=True)
            self._open = False


def reports_errors(command: Command) -> Command:
    """Adds `--verbose`, and turns the toolkit's errors into one line and exit status 1."""

    @click.option("--verbose", is_flag=True, help="Say how things are done; show the traceback of an error.")
    @functools.wraps(command)
    def run(*args: Any, verbose: bool, **kwargs: Any) -> Any:
        try:
            with _terminated_as_interrupted():
                return command(*args, **kwargs)
        except AdaptiveNetError as error:
            if verbose:
                raise
            erase = "\r\x1b[K" if sys.stderr.isatty() else ""  # a bar that was not finished
            click.echo(f"{erase}error: " + " ".join(str(error).split()), err=True)
            if isinstance(error, SeveralDevices):
                click.echo(error.table, err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("error: interrupted", err=True)
            sys.exit(1)

    return run  # type: ignore[return-value]


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: what it has begun on a phone is cancelled, its folders are removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
