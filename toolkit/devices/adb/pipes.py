"""Reading what a child process prints, with a limit of time."""

from __future__ import annotations

import time
from collections.abc import Generator
from io import FileIO
from select import select


def pieces(output: FileIO, timeout_s: float | None) -> Generator[bytes, None, None]:
    """What comes out of an unbuffered pipe, as it comes, until its end.

    Raises TimeoutError when it has not ended after `timeout_s`; None: never.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select([output], [], [], left)[0]:
            raise TimeoutError
        if not (piece := output.read(1 << 16)):
            return
        yield piece
