"""Phones for tests: the device of ADAPTIVENET_TEST_DEVICE, and virtual ones, with an adb server of the tests' own.

A virtual phone is the real adbd in a folder that looks like a phone (see `virtual_phone`). Ports are claimed for as
long as they are used, so that two test runs on one computer never meet.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from virtual_phone.adbd import built_adbd
from virtual_phone.needs import PhoneError, lacking
from virtual_phone.phone import Phone

TESTS = Path(__file__).resolve().parent
DEVICE = os.environ.get("ADAPTIVENET_TEST_DEVICE", "")
WAYS = ("adb-shell", "adb")


class VirtualPhone:
    """A virtual phone, running or stopped. It ends with the process of the tests, however that ends."""

    def __init__(self, *options: str) -> None:
        """`options` are those of `python -m virtual_phone`."""
        self._claim = claimed_port()
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.port = int(self._claim.getsockname()[1])
        self._phone = Phone(self.port)
        self._phone.wipe()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def root(self) -> Path:
        """The folder of this computer that is the phone's root."""
        return self._phone.root

    @property
    def adbd(self) -> int:
        """The process of adbd."""
        assert self._process
        keeper = self._process.pid
        return int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])

    def start(self) -> None:
        self._phone.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "virtual_phone", "run", "--tied", "--port", str(self.port), *self._options]
        with (self._phone.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=TESTS,
                start_new_session=True,
            )
        assert self._process.stdout
        if not self._process.stdout.readline():
            self.stop()
            raise RuntimeError((self._phone.folder / "log").read_text(errors="replace"))

    def await_end(self) -> None:
        """Wait until the phone has ended by itself, because its adbd was killed."""
        assert self._process
        self._process.wait(60)

    def stop(self) -> None:
        """End adbd and everything that it started, as when the cable is pulled and the battery taken out."""
        if self._process:
            self._process.communicate()  # closes its input, which ends it
            self._process = None

    def remove(self) -> None:
        """Stop it for good."""
        self.stop()
        self._phone.wipe()
        self._claim.close()


def claimed_port() -> socket.socket:
    """A socket bound to a free port of 127.0.0.1, which no other claim gets while it is open.

    A server may listen on the port meanwhile when it sets SO_REUSEADDR, as adb and adbd do; so it is on Linux.
    """
    claim = socket.socket()
    claim.bind(("127.0.0.1", 0))
    # Not before: with it, the kernel would give out ports that others have claimed.
    claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return claim


@cache
def why_no_virtual_phone() -> str | None:
    """Why there cannot be a virtual phone here, in one line; None when there can. Builds adbd when that is missing."""
    if reason := lacking():
        return reason
    try:
        built_adbd()
    except PhoneError as error:
        return str(error)
    return None


def skip_without_phone(item: pytest.Item) -> None:
    """Skips a test that needs a phone where there is none. Called by a hook, not by a fixture: so all such tests are
    one line of pytest's summary."""
    needed = {"virtual_phone", "new_phone"} if DEVICE else {"virtual_phone", "new_phone", "phone_address"}
    if not needed.isdisjoint(getattr(item, "fixturenames", ())) and (reason := why_no_virtual_phone()):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def virtual_phone() -> Iterator[VirtualPhone]:
    """An arm64 phone that lets everybody in. For tests that leave it as it was."""
    phone = VirtualPhone()
    try:
        phone.start()
        yield phone
    finally:
        phone.remove()


@pytest.fixture
def new_phone() -> Iterator[Callable[..., VirtualPhone]]:
    """Starts phones that a test may stop; they are removed after it."""
    phones: list[VirtualPhone] = []

    def start(*options: str) -> VirtualPhone:
        phones.append(VirtualPhone("--abi", "x86_64", *options))
        phones[-1].start()
        return phones[-1]

    yield start
    for phone in phones:
        phone.remove()


@pytest.fixture(scope="session")
def adb_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a key for ADB."""
    from adb_shell.auth.keygen import keygen

    home = tmp_path_factory.mktemp("home")
    (home / ".android").mkdir()
    keygen(str(home / ".android" / "adbkey"))
    return home


@pytest.fixture
def adb_environment(monkeypatch: pytest.MonkeyPatch, adb_home: Path) -> Iterator[int]:
    """The environment of somebody who has nothing but adb on PATH; gives the port where no adb server runs yet."""
    with closing(claimed_port()) as claim:
        port = int(claim.getsockname()[1])
        if sys.platform != "linux":
            claim.close()
        monkeypatch.setenv("HOME", str(adb_home))
        monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:localhost:{port}")
        monkeypatch.setenv("ADB_EMU", "0")
        for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT", "ANDROID_SERIAL", "ANDROID_ADB_SERVER_PORT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv("ADB_VENDOR_KEYS", raising=False)
        yield port


def start_adb_server(port: int) -> subprocess.Popen[bytes]:
    """An adb server in the foreground, which ends when it is killed."""
    if not shutil.which("adb"):
        pytest.skip("no adb program on PATH")
    log = subprocess.DEVNULL
    command = ["adb", "-L", f"tcp:localhost:{port}", "nodaemon", "server"]
    server = subprocess.Popen(command, stdin=log, stdout=log, stderr=log)
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0 and server.poll() is None:
                return server
        time.sleep(0.1)
    server.kill()
    raise RuntimeError(f"the adb server does not listen on port {port}")


@pytest.fixture
def adb_server(adb_environment: int) -> Iterator[subprocess.Popen[bytes]]:
    """An adb server that is the test's own, and ends with it."""
    server = start_adb_server(adb_environment)
    yield server
    server.kill()
    server.wait()


def address_by(way: str, request: pytest.FixtureRequest) -> str:
    """The address of a phone, by the adb-shell library or by the adb program.

    It is the device of ADAPTIVENET_TEST_DEVICE with the user's own server, or else a virtual phone with a server of
    the test's own.
    """
    if DEVICE:
        endpoint = re.sub("^(tcp|adb|adb-shell):", "", DEVICE)
        if way == "adb-shell" and ":" not in endpoint:
            pytest.skip(f"the adb server holds {DEVICE} on USB")
        return f"{way}:{endpoint}"
    phone: VirtualPhone = request.getfixturevalue("virtual_phone")
    request.getfixturevalue("adb_server" if way == "adb" else "adb_environment")
    return f"{way}:{phone.endpoint}"


@pytest.fixture(params=WAYS)
def phone_address(request: pytest.FixtureRequest) -> str:
    """The address of a phone, once in each way."""
    return address_by(str(request.param), request)
