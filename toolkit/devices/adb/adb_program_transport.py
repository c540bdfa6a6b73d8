"""A phone reached by the user's own adb program: it works beside Android Studio, and over wireless debugging."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import FileIO, RawIOBase
from pathlib import Path
from select import select

from ...errors import ConnectionLost, DeviceError, NotAuthorized
from .adb_program import AdbProgram, last_line, server_address
from .address import looks_like_endpoint
from .device_table import READY, ListedDevice
from .pipes import pieces
from .transport import PushProgress, Transport

_SILENT_S = 120.0  # between two percents of a push; the phone's storage may be busy with what came before
_PERCENT = re.compile(rb"\[\s*(\d{1,3})%\]")


class AdbProgramTransport(Transport):
    """The phone with this serial, by the adb program."""

    def __init__(self, address: str, program: AdbProgram, device: ListedDevice) -> None:
        self.address = address
        self._program = program
        self._device = device
        self._lost = False

    def describe(self) -> str:
        """See `Transport.describe`."""
        return (
            f"{self._device.model or 'a phone'} (serial {self._device.serial}), by {self._program.path} "
            f"{self._program.release} and its server at {server_address(os.environ)}"
        )

    def push(self, source: Path | bytes, remote: str, progress: PushProgress | None = None) -> None:
        """See `Transport.push`."""
        self._revive()
        with _as_file(source) as path:
            size = path.stat().st_size  # also tells that it is there
            with path.open("rb"):
                pass
            status, said = self._adb_push(path, remote, size, progress)
        if status == 0:
            return
        text = re.sub(r"\x1b\[K|\r", "\n", said.decode(errors="replace"))
        if reason := re.search(r": remote (.*)", text):
            raise DeviceError(f"{remote} cannot be written on {self.address}: {reason[1]}")
        errors = [line for line in text.splitlines() if "error:" in line]
        raise self._gone(f"a push to {remote}", last_line(errors[-1] if errors else text))

    def _adb_push(self, path: Path, remote: str, size: int, progress: PushProgress | None) -> tuple[int, bytes]:
        """The status of `adb push`, and the last it says, which on a terminal is also how far it is."""
        import pty

        reader, terminal = pty.openpty()
        try:
            child = self._program.start(
                *("-s", self._device.serial, "push", str(path.absolute()), remote),
                stdout=terminal,
                stderr=terminal,
                env={**os.environ, "TERM": "xterm"},
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(terminal)
        said, shown = b"", -1
        with os.fdopen(reader, "rb", buffering=0) as output, _ended(child):
            while piece := self._read_terminal(output, remote):
                said = (said + piece)[-4096:]
                if progress and (percents := _PERCENT.findall(said)) and int(percents[-1]) != shown:
                    shown = int(percents[-1])
                    progress(size * min(shown, 100) // 100, size)
            return child.wait(), said

    def _read_terminal(self, output: RawIOBase, remote: str) -> bytes:
        """What adb prints next; nothing at its end. Raises ConnectionLost when it has said nothing for too long."""
        if not select([output], [], [], _SILENT_S)[0]:
            self._lost = True
            raise ConnectionLost(
                f"`{self._program.path} push` to {remote} has said nothing for {_SILENT_S:.0f} s: it hangs, or its "
                f"server at {server_address(os.environ)} or {self.address} does"
            )
        try:
            return output.read(65536) or b""
        except OSError:  # Linux says this when the other side of a terminal is closed
            return b""

    def _execute(self, script: str, what: str, timeout_s: float | None) -> Generator[bytes, None, None]:
        self._revive()
        with tempfile.TemporaryFile() as errors:
            child = self._program.start(
                *("-s", self._device.serial, "exec-out", script), stdout=subprocess.PIPE, stderr=errors, bufsize=0
            )
            assert isinstance(child.stdout, FileIO)
            with _ended(child), child.stdout as output:
                try:
                    yield from pieces(output, timeout_s)
                except TimeoutError as error:
                    self._lost = True
                    raise ConnectionLost(f"{self.address} did not finish {what} in time") from error
            # A reader that has seen the end of the command has closed this generator. It has not, so the connection
            # has ended before the command.
            errors.seek(0)
            raise self._gone(what, last_line(errors.read().decode(errors="replace")))

    def _gone(self, what: str, reason: str) -> DeviceError:
        """The error for an adb that has ended too early."""
        self._lost = True
        return ConnectionLost(
            f"the connection to {self.address} was lost during {what}{f': {reason}' if reason else ''}"
        )

    def _revive(self) -> None:
        """After a loss: have adb connect to a phone in the network again, and say at once when there is none."""
        if not self._lost:
            return
        serial = self._device.serial
        try:
            state = self._state()
            if state != READY and state != "unauthorized" and looks_like_endpoint(serial):
                self._program.reconnect(serial)
                state = self._state()
        except DeviceError as error:
            raise ConnectionLost(f"{self.address} no longer answers: {error}") from error
        if state == "unauthorized":
            raise NotAuthorized(f"{self.address} no longer allows this computer: tap Allow on its screen")
        if state != READY:
            raise ConnectionLost(f"{self.address} no longer answers: adb calls it {state or 'not attached'}")
        self._lost = False

    def _state(self) -> str:
        return next((device.state for device in self._program.devices() if device.serial == self._device.serial), "")

    def close(self) -> None:
        """See `Transport.close`. The adb server keeps its connection, which is the user's."""


@contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens, `child` does not outlive the block."""
    try:
        yield
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


@contextmanager
def _as_file(source: Path | bytes) -> Iterator[Path]:
    """The source as a file."""
    if isinstance(source, Path):
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix="adaptivenet-push-") as file:
        file.write(source)
        file.flush()
        yield Path(file.name)
