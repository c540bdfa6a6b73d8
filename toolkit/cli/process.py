"""What a command settles with its process: standard streams that are closed or full, and signals that end it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_were_closed: set[str] = set()  # standard streams that this process was started without


def open_streams() -> None:
    """Gives the process the standard streams that it was started without, as by `>&-`: they lead nowhere.

    Without that, the next file that is opened gets their number, and whatever a library writes. A character that the
    terminal's encoding lacks is replaced: no result is lost for a line of a table.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
            _were_closed.add(name)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def output_is_closed() -> bool:
    """Whether the process was started without a standard output."""
    return "stdout" in _were_closed


def settle_streams() -> None:
    """Drops what could not be written to a standard stream: else Python fails again, and at length, when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def end_at_once_when_interrupted() -> None:
    """Ctrl-C, SIGTERM and SIGHUP end the process with the line of an interrupted command, until the command begins.

    Nothing is to be cleaned up before, and a library that is being imported, or click, may take a KeyboardInterrupt for
    something else. A signal that is ignored or handled by somebody else stays as it is.
    """
    for each, usual in _USUAL.items():
        if signal.getsignal(each) == usual:
            signal.signal(each, _end)


@contextmanager
def ended_as_interrupted() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, end the command as Ctrl-C does: what it has begun on a phone is
    cancelled, its folders are removed.

    A signal that is ignored, as under nohup, or handled by somebody else stays as it is. Only a process's main thread
    can do this; in another one, signals are left to whoever runs it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in _USUAL}
    ours = {each: handler for each, handler in before.items() if handler in (_end, _USUAL[each])}
    for each in ours:
        signal.signal(each, signal.default_int_handler if each == signal.SIGINT else _interrupt)
    try:
        yield
    finally:
        for each, handler in ours.items():
            signal.signal(each, handler)


def _end(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, b"error: interrupted\n")
    finally:
        os._exit(1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        # The kernel and the shell both send one when a terminal is closed: the second must not end the cleaning up.
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


_USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
