"""This very computer in the place of a phone: the same runner, called in the same way, without a cable.

`connect("runner")` uses it. It is how the C++ runner is used on an edge server or a laptop, and how it is tested.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from select import select

from ...errors import ConnectionLost, DeviceError
from .transport import PushProgress, Transport


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
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        process = subprocess.Popen(
            ["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdout
        try:
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not select([process.stdout], [], [], left)[0]:
                    raise ConnectionLost(f"{self.address} did not finish {what} in time")
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    return
                yield data
        finally:
            process.stdout.close()
            if process.poll() is None:
                try:
                    process.wait(1)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGTERM)  # not SIGHUP, as adbd does: under nohup it would be ignored
                    process.wait()
