"""This computer in the place of a phone: the same runner, called in the same way, without a cable.

`connect("runner")` uses it. So the C++ runner is used on an edge server or a laptop, and tested.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator
from io import FileIO
from pathlib import Path

from ...errors import ConnectionLost, DeviceError
from ..adb.pipes import pieces
from ..adb.transport import PushProgress, Transport


class Here(Transport):
    """This computer: commands run in its `sh`, files are copied."""

    def __init__(self, address: str = "runner") -> None:
        self.address = address

    def describe(self) -> str:
        """See `Transport.describe`."""
        return f"this computer ({os.uname().nodename}), without ADB"

    def push(self, source: Path | bytes, remote: str, progress: PushProgress | None = None) -> None:
        """See `Transport.push`."""
        content = source if isinstance(source, bytes) else source.read_bytes()
        target = Path(remote)
        try:
            target.unlink(missing_ok=True)  # as adbd does: who has the old file open keeps it
            target.write_bytes(content)
        except OSError as error:
            raise DeviceError(f"{remote} cannot be written on {self.address}: {error.strerror or error}") from error
        if progress:
            progress(len(content), len(content))

    def close(self) -> None:
        """See `Transport.close`."""

    def _execute(self, script: str, what: str, timeout_s: float | None) -> Generator[bytes, None, None]:
        process = subprocess.Popen(
            ["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        assert isinstance(process.stdout, FileIO)
        try:
            yield from pieces(process.stdout, timeout_s)
        except TimeoutError as error:
            raise ConnectionLost(f"{self.address} did not finish {what} in time") from error
        finally:
            process.stdout.close()
            if process.poll() is None:
                try:
                    process.wait(1)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGTERM)  # not SIGHUP, as adbd does: under nohup it would be ignored
                    process.wait()
