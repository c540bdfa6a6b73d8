"""Shell commands framed, so that their output and exit status can be told from everything else a phone prints.

Neither the adb-shell library nor the `exec` service of adbd reports an exit status, so the shell prints it. For one
command, this arrives:

    noise TOKEN+ newline output TOKEN- status newline noise

TOKEN is drawn anew for every command. The script holds it only in two halves, so that a command which prints its own
command line is not taken to have ended. `newline` after TOKEN+ shows what happens to newlines on the way: the terminal
of an old phone turns each into CR LF, which is undone in the output. When the end is missing, the connection was lost.
Everything here is pure; the bytes may arrive in pieces of any size.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterable, Iterator

LONGEST_COMMAND = 32_000
"""How many bytes a command may have: what every adb client passes on, with room for the quoting."""


def new_token() -> str:
    """A token that no other output holds: `@` and 128 random bits."""
    return "@" + secrets.token_hex(16)


def script(command: str, token: str) -> str:
    """What the phone's shell is given, to run `command` with its output framed by `token`.

    The command runs in a shell of its own (so `exit` and a syntax error end only that), reads nothing, and its stderr
    joins its output. Only what the oldest Android shell has is used: no printf. Raises ValueError for a command that
    is longer than LONGEST_COMMAND or holds a NUL.
    """
    if "\0" in command or len(command.encode()) > LONGEST_COMMAND:
        raise ValueError(f"a shell command is at most {LONGEST_COMMAND} bytes without NUL: {command[:60]!r}…")
    halves = f"{token[:16]}''{token[16:]}"
    return f"echo {halves}+; sh -c {shlex.quote(command)} </dev/null 2>&1; echo {halves}-$?"


class FrameReader:
    """Takes what arrives for one command and gives back the command's output.

    `begun` says whether the command was started, `status` is its exit status once the end was seen, `noise` what came
    before the beginning (a word of adb's, a warning of the linker).
    """

    def __init__(self, token: str) -> None:
        self.status: int | None = None
        self.noise = b""
        self._begin = re.compile(re.escape(token.encode()) + rb"\+(\r*\n)")
        self._end = re.compile(re.escape(token.encode()) + rb"-(\d{1,9})\r*\n")
        self._end_mark = token.encode() + b"-"
        self._newline = b""
        self._held = b""

    @property
    def begun(self) -> bool:
        """Whether the beginning was seen."""
        return bool(self._newline)

    def feed(self, data: bytes) -> bytes:
        """The output that is certain after `data`. What may be the beginning of the end is held back."""
        if self.status is not None:
            return b""
        held = self._held + data
        if not self.begun:
            begin = self._begin.search(held)
            if begin is None:
                self._held = self.noise = held
                return b""
            self.noise, self._newline, held = held[: begin.start()], begin.group(1), held[begin.end() :]
        end = self._end.search(held)
        if end:
            self.status, certain = int(end.group(1)), end.start()
        else:
            at = held.find(self._end_mark)
            certain = at if at >= 0 else len(held) - _overlap(held, self._end_mark)
            # Carriage returns here may belong to a newline that is still on its way.
            certain -= _overlap(held[:certain], self._newline)
        self._held = held[certain:]
        return held[:certain].replace(self._newline, b"\n")


def _overlap(data: bytes, mark: bytes) -> int:
    """The length of the longest end of `data` that is a true beginning of `mark`."""
    return next((n for n in range(min(len(data), len(mark) - 1), 0, -1) if data.endswith(mark[:n])), 0)


def split_lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines in pieces of output, each as soon as it is whole, without its newline; bytes that are no UTF-8 become
    U+FFFD. A last line without a newline is a line too."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
