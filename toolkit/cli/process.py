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
    ours = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) == signal.SIG_DFL]
    for each in ours:
        signal.signal(each, _interrupt)
    try:
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        # The kernel and the shell both send one when a terminal is closed: the second must not end the cleaning up.
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
