"""The user's own adb program: finding it, and asking it and its server what they are.

It is called with the user's environment, so that ADB_SERVER_SOCKET and the like hold. Nothing here ends a server. An
adb program of another version than the running server would end it, and with it Android Studio's connections: such a
program is asked for its version only.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DeviceError
from .device_table import ListedDevice, parse_devices

_DEFAULT_SERVER = "tcp:localhost:5037"
_START_S = 30.0  # for adb to start its server, too


@dataclass(frozen=True)
class AdbProgram:
    """An adb program. `protocol` is the version that its server must have, such as 41; `release` that of the tools."""

    path: str
    protocol: int
    release: str

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call it, and wait. Raises DeviceError when it cannot be called, or does not end in time."""
        return _call(self.path, *arguments)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Call it without waiting; `options` are those of Popen. Raises DeviceError when it cannot be called."""
        try:
            return subprocess.Popen([self.path, *arguments], stdin=subprocess.DEVNULL, **options)
        except OSError as error:
            raise _cannot_run(self.path, error) from error

    def devices(self) -> list[ListedDevice]:
        """What `adb devices -l` lists. Starts the server when none runs. Raises DeviceError when that fails."""
        result = self.run("devices", "-l")
        if result.returncode:
            raise DeviceError(f"`adb devices` failed: {last_line(result.stderr) or result.returncode}")
        return parse_devices(result.stdout)

    def reconnect(self, endpoint: str) -> None:
        """`adb connect`, after `adb disconnect`: a server keeps a phone that it has lost, says that it is connected,
        and tries again when it likes.

        Raises DeviceError when the phone does not answer; one that is not authorized has answered.
        """
        self.run("disconnect", endpoint)
        result = self.run("connect", endpoint)
        said = last_line(result.stdout + result.stderr)
        if not re.match(r"(already )?connected to|failed to authenticate to", said):
            raise DeviceError(
                f"{endpoint} cannot be reached by adb ({said}): check that the phone is awake, in this network, and "
                "listens on this port"
            )


def find_adb(
    environ: Mapping[str, str], explain: Callable[[str], None], broken: Callable[[str], None] = lambda line: None
) -> AdbProgram | None:
    """The adb program of ANDROID_HOME, of ANDROID_SDK_ROOT, or on PATH; None when none of them works.

    `broken` is told of every program that is there and does not work: which one, and why.
    """
    for path in candidates(environ):
        found = shutil.which(path, path=environ.get("PATH"))
        if not found:
            explain(f"no adb program at {path}" if os.sep in path else "no adb program on PATH")
            continue
        try:
            result = _call(found, "version")
        except DeviceError as error:
            reason = str(error)
        else:
            if versions := parse_version(result.stdout):
                explain(f"adb program: {found}, version {versions[1]}")
                return AdbProgram(found, *versions)
            reason = f"{found} is no adb program: {last_line(result.stdout + result.stderr)}"
        explain(reason)
        broken(reason)
    return None


def candidates(environ: Mapping[str, str]) -> list[str]:
    """Where adb may be, best first; a bare name is looked up on PATH."""
    folders = dict.fromkeys(environ[name] for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if environ.get(name))
    return [*(str(Path(folder, "platform-tools", "adb")) for folder in folders), "adb"]


def parse_version(text: str) -> tuple[int, str] | None:
    """The protocol and the release from what `adb version` prints; None when another program has printed it."""
    protocol = re.search(r"^Android Debug Bridge version 1\.0\.(\d+)", text, re.MULTILINE)
    release = re.search(r"^Version (\S+)", text, re.MULTILINE)
    return (int(protocol[1]), release[1] if release else f"1.0.{protocol[1]}") if protocol else None


def server_address(environ: Mapping[str, str]) -> str:
    """Where adb's server listens, as ADB_SERVER_SOCKET writes it."""
    if environ.get("ADB_SERVER_SOCKET"):
        return environ["ADB_SERVER_SOCKET"]
    host = environ.get("ANDROID_ADB_SERVER_ADDRESS") or "localhost"
    port = environ.get("ANDROID_ADB_SERVER_PORT")
    return f"tcp:{host}:{port or 5037}" if host != "localhost" or port else _DEFAULT_SERVER


def server_version(environ: Mapping[str, str]) -> int | None:
    """The protocol version of the running server; None when no server runs. Unlike adb, this does not start one."""
    try:
        with _dial(server_address(environ)) as server:
            server.settimeout(5)
            server.sendall(b"000chost:version")
            answer = b""
            while len(answer) < 12 and (data := server.recv(64)):
                answer += data
    except OSError:
        return None
    return int(answer[8:12], 16) if re.fullmatch(rb"OKAY0004[0-9a-fA-F]{4}", answer) else None


def _dial(address: str) -> socket.socket:
    """A connection to a server at `tcp:PORT`, `tcp:HOST:PORT`, `localfilesystem:PATH` or `localabstract:NAME`."""
    kind, _, rest = address.partition(":")
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        if not port.isdigit():
            raise OSError(f"no port in {address}")
        return socket.create_connection((host.strip("[]") or "localhost", int(port)), timeout=5)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        server.connect({"localfilesystem": rest, "localabstract": "\0" + rest}.get(kind, ""))
    except OSError:
        server.close()
        raise
    return server


def refuse_other_version(program: AdbProgram, running: int | None, server: str) -> None:
    """Raises DeviceError when `program`, once called, would end the running server."""
    if running is not None and running != program.protocol:
        raise DeviceError(
            f"the adb server at {server} has version {running}, but {program.path} has version {program.protocol} and "
            "would end it: set ANDROID_HOME to the SDK whose adb started it, or bring both to one version"
        )


def _call(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_START_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"`{path} {' '.join(arguments)}` did not end in {_START_S:.0f} s: it hangs, or its server at "
            f"{server_address(os.environ)} does"
        ) from error
    except OSError as error:
        raise _cannot_run(path, error) from error


def _cannot_run(path: str, error: OSError) -> DeviceError:
    return DeviceError(f"{path} cannot be run ({error.strerror or error}): install Android's platform-tools again")


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
