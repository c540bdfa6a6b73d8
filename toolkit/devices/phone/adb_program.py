"""The user's own adb program: finding it, and asking it and its server what they are.

It is called with the user's environment, so ADB_SERVER_SOCKET and the like hold. Nothing here ends a server, and
nothing lets adb end one: an adb of another version than the server that runs would kill it, and with it Android
Studio's connections, so that one is not called at all.
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

    def run(self, *arguments: str, timeout_s: float = _START_S) -> subprocess.CompletedProcess[str]:
        """Call it, and wait. Raises DeviceError when it does not end in time."""
        try:
            return subprocess.run(
                [self.path, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceError(
                f"`adb {' '.join(arguments)}` did not end in {timeout_s:.0f} s: its server at "
                f"{server_address(os.environ)} may hang"
            ) from error
        except OSError as error:
            raise DeviceError(f"{self.path} cannot be run ({error.strerror})") from error

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


def find_adb(environ: Mapping[str, str], explain: Callable[[str], None]) -> AdbProgram | None:
    """The adb program of ANDROID_HOME, of ANDROID_SDK_ROOT, or on PATH; None when there is none."""
    for path in candidates(environ):
        if found := shutil.which(path, path=environ.get("PATH")):
            result = subprocess.run(
                [found, "version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
            )
            if versions := parse_version(result.stdout):
                explain(f"adb program: {found}, version {versions[1]}")
                return AdbProgram(found, *versions)
            explain(f"{found} is no adb program: {last_line(result.stdout + result.stderr)}")
        else:
            explain(f"no adb program at {path}" if os.sep in path else "no adb program on PATH")
    return None


def candidates(environ: Mapping[str, str]) -> list[str]:
    """Where adb may be, best first; a bare name is looked up on PATH."""
    folders = dict.fromkeys(environ[name] for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if environ.get(name))
    return [*(str(Path(folder, "platform-tools", "adb")) for folder in folders), "adb"]


def parse_version(text: str) -> tuple[int, str] | None:
    """The protocol and the release from what `adb version` prints; None when it is not adb that printed it."""
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
    """The protocol version of the server that runs, None when none does. Unlike adb itself, does not start one."""
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
    """Raises DeviceError when calling `program` would make it end the server that runs."""
    if running is not None and running != program.protocol:
        raise DeviceError(
            f"the adb server at {server} has version {running}, but {program.path} has version {program.protocol} and "
            "would end it: set ANDROID_HOME to the SDK whose adb started it, or bring both to one version"
        )


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
