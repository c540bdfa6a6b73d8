"""What a phone is to the rest of the toolkit: a place to push files to and to run shell commands on.

Two ways implement `Transport`: the adb-shell library and the user's own adb program. Both run the same framed scripts
(see `framing`) in the same service of adbd, so a command gives the same bytes and the same status over both.
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ...errors import ConnectionLost, DeviceError
from .framing import FrameReader, new_token, script, split_lines

PushProgress = Callable[[int, int], None]
"""Called as `progress(done, total)` in bytes while a file is pushed."""

SHELL_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class ShellResult:
    """What a shell command ended with, and what it printed (stdout and stderr, in the order they came)."""

    status: int
    output: bytes

    @property
    def text(self) -> str:
        """The output as text; bytes that are no UTF-8 become U+FFFD."""
        return self.output.decode(errors="replace")


class LineStream:
    """The lines of a command while it runs, an iterator. `status` is its exit status after the last line, None before.

    Iterating raises ConnectionLost when the connection ends before the command. `close` (or leaving the `with` block)
    stops listening; the phone then ends the command, as when a terminal is closed.
    """

    def __init__(self, pieces: Generator[bytes, None, None], reader: FrameReader) -> None:
        self._pieces = pieces
        self._reader = reader
        self._lines = split_lines(pieces)

    @property
    def status(self) -> int | None:
        """The exit status of the command, once it has ended."""
        return self._reader.status

    def close(self) -> None:
        """Stop listening. Closing twice is harmless."""
        self._pieces.close()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._lines)

    def __enter__(self) -> LineStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Transport(ABC):
    """One phone, reached in one way. A context manager: leaving it closes it.

    Every method raises ConnectionLost when the phone no longer answers. The transport may be used again after that:
    the next call connects anew, and raises ConnectionLost for as long as nobody answers. It is for one thread at a
    time; calls may be made while a stream is open.
    """

    address: str
    """The phone as people type it; gives this phone in this way again."""

    @abstractmethod
    def describe(self) -> str:
        """One line: which phone, reached how."""

    def shell(self, command: str, timeout_s: float | None = SHELL_TIMEOUT_S) -> ShellResult:
        """Run `command` and wait for its end. The output is exact, byte for byte.

        Also raises ConnectionLost when the command has not ended after `timeout_s` seconds, and ValueError for one
        that is too long (`framing.LONGEST_COMMAND`).
        """
        pieces, reader = self._frame(command, timeout_s)
        output = b"".join(pieces)
        assert reader.status is not None  # or ConnectionLost was raised
        return ShellResult(reader.status, output)

    def stream(self, command: str) -> LineStream:
        """Run `command` and give its lines as they come, without a time limit. Raises ValueError as `shell` does."""
        return LineStream(*self._frame(command, None))

    @abstractmethod
    def push(self, source: Path | bytes, remote: str, progress: PushProgress | None = None) -> None:
        """Write a file, or bytes, to the path `remote`, and replace what is there. The transport chooses its mode.

        After an error, `remote` may hold a part of the file. Raises DeviceError when the phone cannot write
        it, and OSError when `source` cannot be read.
        """

    def pull(self, remote: str, timeout_s: float | None = SHELL_TIMEOUT_S) -> bytes:
        """The content of a file. Raises DeviceError when the phone cannot read it."""
        result = self.shell(f"cat {shlex.quote(remote)}", timeout_s)
        if result.status:
            raise DeviceError(f"{remote} cannot be read on {self.address}: {result.text.strip()}")
        return result.output

    @abstractmethod
    def close(self) -> None:
        """End the connection. Closing twice is harmless."""

    @abstractmethod
    def _execute(self, script: str, what: str, timeout_s: float | None) -> Generator[bytes, None, None]:
        """What adbd's `exec` service prints for `script`, as it comes; it ends when the connection or the script ends.

        Raises ConnectionLost, which names `what`, when nobody answers or `timeout_s` is over. Closing it ends `script`.
        """

    def _frame(self, command: str, timeout_s: float | None) -> tuple[Generator[bytes, None, None], FrameReader]:
        """The output of `command`, as it comes, and the reader that has the status then."""
        token = new_token()
        reader = FrameReader(token)
        what = repr(command if len(command) <= 60 else command[:59] + "…")
        return self._output(what, self._execute(script(command, token), what, timeout_s), reader), reader

    def _output(
        self, what: str, pieces: Generator[bytes, None, None], reader: FrameReader
    ) -> Generator[bytes, None, None]:
        try:
            for piece in pieces:
                if output := reader.feed(piece):
                    yield output
                if reader.status is not None:
                    return
        finally:
            pieces.close()
        said = " ".join(reader.noise.decode(errors="replace").split())
        raise ConnectionLost(
            f"the connection to {self.address} was lost during {what}" + (f" ({said[:200]})" if said else "")
        )

    def __enter__(self) -> Transport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
