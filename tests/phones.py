"""Phones for tests: the device of ADAPTIVENET_TEST_DEVICE, and virtual ones, with an adb server of the tests' own.

A virtual phone is the real adbd in a folder that looks like a phone: a program that ADAPTIVENET_PHONE names, by default
../shared/phone/phone beside the repository. It needs root.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("ADAPTIVENET_PHONE") or ROOT.parent / "shared" / "phone" / "phone")
DEVICE = os.environ.get("ADAPTIVENET_TEST_DEVICE", "")
SKIPPED = "no phone: set ADAPTIVENET_TEST_DEVICE to a serial, or ADAPTIVENET_PHONE to a virtual phone (it needs root)"
WAYS = ("adb-shell", "adb")
# Even ports: adb looks for emulators at the odd ones.
_PORTS = range(5562, 5600, 2)


@dataclass
class VirtualPhone:
    """A virtual phone, running or stopped. `endpoint` is its host:port."""

    port: int
    options: tuple[str, ...]
    lock: int  # a descriptor that keeps other test runs off the port

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def root(self) -> Path:
        """The folder of this computer that is the phone's root."""
        return Path(_phone("root", "--port", str(self.port)).stdout.strip())

    def start(self) -> None:
        started = _phone("start", "--port", str(self.port), *self.options)
        if started.returncode:
            raise RuntimeError(started.stderr)

    def stop(self) -> None:
        """End adbd and everything that it started, as when the cable is pulled and the battery taken out."""
        _phone("stop", "--port", str(self.port))


def _phone(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Under nohup, what runs on the phone would inherit that a hang-up is ignored, which it is not on a real one.
    command = ["env", "--default-signal=HUP", str(PROGRAM), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def skip_without_phone(item: pytest.Item) -> None:
    """Skips a test that needs a phone where there is none. Called by a hook, not by a fixture: so all such tests are
    one line of pytest's summary."""
    needed = {"virtual_phone", "new_phone"} if DEVICE else {"virtual_phone", "new_phone", "phone_address"}
    if not needed.isdisjoint(getattr(item, "fixturenames", ())) and not (PROGRAM.exists() and os.geteuid() == 0):
        pytest.skip(SKIPPED)


def start_phone(*options: str) -> VirtualPhone:
    """A new virtual phone on the first port that is free; `options` as `phone --help` lists them."""
    for port in _PORTS:
        lock = os.open(f"{tempfile.gettempdir()}/adaptivenet-phone.{port}", os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            phone = VirtualPhone(port, options, lock)
            for left in (phone.root / "data" / "local" / "tmp").glob("*"):  # by whoever had this port before
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            phone.start()
        except (BlockingIOError, RuntimeError) as error:
            os.close(lock)
            if isinstance(error, RuntimeError) and "already in use" not in str(error):
                raise
        else:
            return phone
    raise RuntimeError("no port is free for a virtual phone")


@pytest.fixture(scope="session")
def virtual_phone() -> Iterator[VirtualPhone]:
    """An arm64 phone that lets everybody in. For tests that leave it as it was."""
    phone = start_phone()
    yield phone
    phone.stop()
    os.close(phone.lock)


@pytest.fixture
def new_phone() -> Iterator[Callable[..., VirtualPhone]]:
    """Starts phones that a test may stop; they are stopped after it."""
    phones: list[VirtualPhone] = []

    def start(*options: str) -> VirtualPhone:
        phones.append(start_phone("--abi", "x86_64", *options))
        return phones[-1]

    yield start
    for phone in phones:
        phone.stop()
        os.close(phone.lock)


@pytest.fixture(scope="session")
def adb_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a key for ADB."""
    from adb_shell.auth.keygen import keygen

    home = tmp_path_factory.mktemp("home")
    (home / ".android").mkdir()
    keygen(str(home / ".android" / "adbkey"))
    return home


@pytest.fixture
def adb_environment(monkeypatch: pytest.MonkeyPatch, adb_home: Path) -> int:
    """The environment of somebody who has nothing but adb on PATH; gives the port where no adb server runs yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    monkeypatch.setenv("HOME", str(adb_home))
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:localhost:{port}")
    monkeypatch.setenv("ADB_EMU", "0")
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT", "ANDROID_SERIAL", "ANDROID_ADB_SERVER_PORT", "ADB_VENDOR_KEYS"):
        monkeypatch.delenv(name, raising=False)
    return port


def start_adb_server(port: int) -> subprocess.Popen[bytes]:
    """An adb server in the foreground, which ends when it is killed."""
    if not shutil.which("adb"):
        pytest.skip("no adb program on PATH")
    log = subprocess.DEVNULL
    command = ["adb", "-L", f"tcp:localhost:{port}", "nodaemon", "server"]
    server = subprocess.Popen(command, stdin=log, stdout=log, stderr=log)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
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
