"""What answers like no proper phone, servers that do not fit, USB without a cable, and the choice among all of them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import click
import pytest
from adaptivenet.toolkit.cli.console import reports_errors
from adaptivenet.toolkit.devices.adb import adb_program, adb_program_transport, links
from adaptivenet.toolkit.devices.adb.discovery import find_phone
from adaptivenet.toolkit.errors import ConnectionLost, DeviceError, NotAuthorized, SeveralDevices
from click.testing import CliRunner
from phones import VirtualPhone

Talk = Callable[[socket.socket], None]


@contextmanager
def listener(talk: Talk, port: int = 0) -> Iterator[str]:
    """Something that listens and talks, to each caller anew; gives its host:port."""
    callers: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                callers.append(server.accept()[0])
                threading.Thread(target=answer, args=(callers[-1],), daemon=True).start()

    def answer(caller: socket.socket) -> None:
        with suppress(OSError):
            talk(caller)

    with socket.create_server(("127.0.0.1", port)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    for caller in callers:
        caller.close()


def message(command: bytes, arg0: int, arg1: int, data: bytes = b"", length: int | None = None) -> bytes:
    magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
    size = len(data) if length is None else length
    return struct.pack("<4s5I", command, arg0, arg1, size, sum(data), magic) + data


def greet(caller: socket.socket) -> None:
    caller.recv(4096)
    caller.sendall(message(b"CNXN", 0x01000000, 4096, b"device::ro.product.model=Old;"))


def say(data: bytes) -> Talk:
    def talk(caller: socket.socket) -> None:
        caller.recv(4096)
        caller.sendall(data)
        caller.recv(4096)

    return talk


def test_what_is_no_phone(adb_environment: int) -> None:
    with (
        listener(say(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n")) as web,
        pytest.raises(DeviceError, match=f"what listens at tcp:{web} is not the debugging of a phone"),
    ):
        find_phone(f"tcp:{web}")
    with listener(lambda caller: caller.close()) as rude, pytest.raises(DeviceError, match="is not the debugging"):
        find_phone(f"tcp:{rude}")


def test_a_phone_that_hangs_up_when_its_owner_denies(adb_environment: int) -> None:
    def deny(caller: socket.socket) -> None:
        for _ in range(2):
            caller.recv(4096)
            caller.sendall(message(b"AUTH", 1, 0, bytes(20)))
        caller.recv(4096)
        caller.close()

    asked: list[str] = []
    with listener(deny) as strict, pytest.raises(NotAuthorized, match=f"tcp:{strict} does not allow this computer"):
        find_phone(f"tcp:{strict}", ask=asked.append, patience_s=60)
    assert "unlock its screen and tap Allow (waiting 60 s)" in asked[0]


def test_a_phone_that_is_offline(adb_environment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptivenet.toolkit.devices.adb.adb_shell_transport._CONNECT_S", 0.5)
    with (
        listener(lambda caller: None) as mute,
        pytest.raises(DeviceError, match=f"tcp:{mute} is offline .*: wake the phone up"),
    ):
        find_phone(f"tcp:{mute}", patience_s=0.5)


def test_an_address_that_leads_nowhere(adb_environment: int) -> None:
    with pytest.raises(DeviceError, match=r"tcp:no-such-host\.invalid:5555 cannot be reached"):
        find_phone("tcp:no-such-host.invalid:5555")


def test_wireless_debugging_goes_to_adb(adb_environment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    said: list[str] = []
    with listener(say(message(b"STLS", 0x01000000, 0))) as paired:
        with pytest.raises(DeviceError, match="there is no adb program"):
            find_phone(f"tcp:{paired}", said.append)
        with pytest.raises(DeviceError, match=f"give adb:{paired}, after `adb pair`"):
            find_phone(f"adb-shell:{paired}")
    assert any("by adb" in line and "TLS" in line for line in said)


@pytest.mark.parametrize(
    "answer",
    [
        message(b"WRTE", 9, 1, length=0xFFFFFFF0),
        message(b"WHAT", 9, 1),
        message(b"AUTH", 1, 0, b"x" * 20),
        message(b"OKAY", 9, 1) + b"\0" * 7,
        message(b"CLSE", 0, 1),
        message(b"OKAY", 9, 77) + message(b"WRTE", 9, 77, b"for somebody else") + message(b"CLSE", 0, 1),
    ],
    ids=["huge", "unknown", "auth", "cut", "refused", "strange stream"],
)
def test_a_phone_that_talks_nonsense_is_a_lost_connection(adb_environment: int, answer: bytes) -> None:
    def talk(caller: socket.socket) -> None:
        greet(caller)
        caller.recv(4096)
        caller.sendall(answer)
        caller.shutdown(socket.SHUT_WR)

    with listener(talk) as odd:
        phone = find_phone(f"tcp:{odd}")
        assert phone.describe().startswith("Old at 127.0.0.1")
        for attempt in (lambda: phone.shell("true"), lambda: phone.push(b"x" * 10_000, "/data/local/tmp/x")):
            with pytest.raises(ConnectionLost, match=f"the connection to tcp:{odd} was lost during "):
                attempt()


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETDOWN])
def test_a_phone_that_vanishes_is_a_lost_connection(
    adb_environment: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Dead:
        def settimeout(self, seconds: float | None) -> None:
            pass

        def send(self, data: bytes) -> int:
            return len(data)

        def recv(self, count: int) -> bytes:
            raise OSError(number, os.strerror(number))

    with listener(greet) as phone_here:
        phone = find_phone(f"tcp:{phone_here}")
        monkeypatch.setattr(links.TcpLink, "_connected", lambda self: Dead())
        with pytest.raises(ConnectionLost, match=f"was lost during 'true': {os.strerror(number)}"):
            phone.shell("true", timeout_s=None)


def fake_adb(folder: Path, version: int, listed: str = "") -> Path:
    """An adb program that writes down what it is called with."""
    program = folder / "platform-tools" / "adb"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {folder}/calls\n'
        f'case "$1" in version) echo "Android Debug Bridge version 1.0.{version}";;\n'
        f"devices) cat <<X\n{listed}\nX\nesac\n"
    )
    program.chmod(0o755)
    return folder


def server_of_version(version: int) -> Talk:
    return lambda caller: caller.sendall(b"OKAY0004%04x" % version)


def test_a_server_of_another_version_is_left_alone(
    adb_environment: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANDROID_HOME", str(fake_adb(tmp_path, 39)))
    with listener(server_of_version(41), adb_environment):
        for address in ("adb", "R5CT", "usb", "adb:10.0.0.2:5555"):
            with pytest.raises(DeviceError, match=r"has version 41, but .*/adb has version 39 and would end it"):
                find_phone(address)
        said: list[str] = []
        with pytest.raises(DeviceError, match="nobody listens"):
            find_phone("tcp:127.0.0.1:1", said.append)
        assert "not by adb: its version does not fit the server" in said
    assert set((tmp_path / "calls").read_text().split()) == {"version"}


def test_where_adb_is_looked_for_is_explained(
    adb_environment: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = "emulator-5554 device model:E\nR5CT device usb:1-1 model:SM_S9"
    good, broken = fake_adb(tmp_path / "good", 41, rows), tmp_path / "broken" / "platform-tools" / "adb"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\necho no\n")
    broken.chmod(0o755)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "broken"))
    monkeypatch.setenv("ANDROID_SDK_ROOT", str(good))
    said: list[str] = []
    assert find_phone("R5CT", said.append).describe().startswith(f"SM S9 (serial R5CT), by {good}/platform-tools/adb")
    assert said[:3] == [
        f"adb server: no server runs at tcp:localhost:{adb_environment}",
        f"{broken} is no adb program: no",
        f"adb program: {good}/platform-tools/adb, version 1.0.41",
    ]
    with listener(server_of_version(41), adb_environment):
        assert "serial R5CT" in find_phone("usb").describe()
    with pytest.raises(DeviceError, match=r"no phone has the serial 'R5CX' .*did you mean R5CT\?"):
        find_phone("R5CX")
    with pytest.raises(SeveralDevices):
        find_phone("adb")
    monkeypatch.setenv("ANDROID_SERIAL", "R5CT")
    assert "serial R5CT" in find_phone("adb").describe()


def test_without_adb(adb_environment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="there is no adb program in ANDROID_HOME"):
        find_phone("adb")
    with pytest.raises(DeviceError, match=r"there is no adb program .*or give tcp:10\.0\.0\.2:5555"):
        find_phone("10.0.0.2:5555")


def adb_script(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch, mode: int = 0o755) -> Path:
    """An adb program of one's own, which is the only one."""
    program = folder / "platform-tools" / "adb"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(script)
    program.chmod(mode)
    monkeypatch.setenv("ANDROID_HOME", str(folder))
    monkeypatch.setattr(adb_program, "candidates", lambda environ: [str(program)])
    return program


VERSION = '[ "$1" = version ] && echo "Android Debug Bridge version 1.0.41" && exit\n'


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\nexec sleep 60\n", r"`\S+/adb version` did not end in \d+ s: it hangs"),
        ("\x7fELF of another computer", r"\S+/adb cannot be run \(Exec format error\)"),
        ("#!/nowhere/sh\n", r"\S+/adb cannot be run \(No such file or directory\)"),
        ("#!/bin/sh\necho I am another program\n", r"\S+/adb is no adb program: I am another program"),
    ],
    ids=["hangs", "of another computer", "without its interpreter", "another program"],
)
def test_an_adb_that_does_not_work_is_named(
    adb_environment: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, reason: str
) -> None:
    monkeypatch.setattr(adb_program, "_START_S", 0.5)
    monkeypatch.setattr(links, "_usb_transport", lambda: FakeUsb)
    adb_script(tmp_path, script, monkeypatch)
    for address in ("adb", "R5CT", "10.0.0.2:5555"):
        with pytest.raises(DeviceError, match=f"^no adb program works: {reason}") as caught:
            find_phone(address)
        assert "\n" not in str(caught.value)


def test_an_adb_that_hangs_later_is_named(
    adb_environment: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(adb_program, "_START_S", 5)
    monkeypatch.setattr(adb_program_transport, "_SILENT_S", 0.5)
    listed = f"#!/bin/sh\n{VERSION}" + '[ "$1" = devices ] && echo "R5CT device 3-1 model:M" && exit\n'
    adb_script(tmp_path, listed + "exec sleep 60\n", monkeypatch)
    phone = find_phone("adb")
    assert phone.describe().startswith("M (serial R5CT)")
    with pytest.raises(ConnectionLost, match=r"`\S+/adb push` to /x has said nothing for 0 s: it hangs"):
        phone.push(b"x", "/x")
    with pytest.raises(ConnectionLost, match="did not finish 'true' in time"):
        phone.shell("true", timeout_s=0.5)
    monkeypatch.setattr(adb_program, "_START_S", 0.5)
    adb_script(tmp_path, f"#!/bin/sh\n{VERSION}exec sleep 60\n", monkeypatch)
    with pytest.raises(DeviceError, match=r"`\S+/adb devices -l` did not end in 0 s: it hangs, or its server at tcp:"):
        find_phone("adb:R5CT")


def test_an_adb_that_goes_away_is_named(adb_environment: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed = f"#!/bin/sh\n{VERSION}" + 'echo "R5CT device"\n'
    program = adb_script(tmp_path, listed, monkeypatch)
    phone = find_phone("adb")
    program.unlink()
    for attempt in (lambda: phone.shell("true"), lambda: phone.push(b"x", "/x"), lambda: find_phone("adb")):
        with pytest.raises(
            DeviceError, match=r"adb cannot be run \(No such file or directory\)|there is no adb program"
        ):
            attempt()


class FakeUsb:
    """The library's USB transport, with a TCP connection for a cable; `phones` is what hangs on it."""

    phones: ClassVar[dict[str, tuple[str, int]]] = {}

    def __init__(self, serial: str) -> None:
        self.serial_number = serial
        self._cable: socket.socket | None = None

    @classmethod
    def find_adb(cls, serial: str | None) -> FakeUsb:
        return cls(serial or next(iter(cls.phones)))

    @classmethod
    def find_all_adb_devices(cls) -> list[FakeUsb]:
        return [cls(serial) for serial in cls.phones]

    def connect(self, transport_timeout_s: float | None) -> None:
        self._cable = socket.create_connection(self.phones[self.serial_number])

    def close(self) -> None:
        if self._cable:
            self._cable.close()
        self._cable = None

    def bulk_read(self, numbytes: int, transport_timeout_s: float) -> bytearray:
        from adb_shell.exceptions import UsbReadFailedError

        assert self._cable
        self._cable.settimeout(transport_timeout_s)
        try:
            data = self._cable.recv(min(numbytes, 1000))
        except TimeoutError:
            error = type("USBErrorTimeout", (Exception,), {"received": b""})
            raise UsbReadFailedError("Could not receive data", error()) from None
        if not data:
            raise UsbReadFailedError("Could not receive data", OSError("no device"))
        return bytearray(data)

    def bulk_write(self, data: bytes, transport_timeout_s: float) -> int:
        assert self._cable
        self._cable.settimeout(transport_timeout_s)
        return self._cable.send(data[:100_000])


@pytest.fixture
def usb(adb_environment: int, monkeypatch: pytest.MonkeyPatch) -> type[FakeUsb]:
    monkeypatch.setattr(links, "_usb_transport", lambda: FakeUsb)
    monkeypatch.setattr(FakeUsb, "phones", {})
    return FakeUsb


def test_a_phone_on_usb(usb: type[FakeUsb], new_phone: Callable[..., VirtualPhone]) -> None:
    device = new_phone()
    usb.phones["R5CT"] = ("127.0.0.1", device.port)
    content = os.urandom(3_000_000)
    said: list[str] = []
    for address in ("usb", "adb-shell:usb", "adb-shell", "adb-shell:R5CT"):
        with find_phone(address, said.append) as phone:
            assert "on USB" in phone.describe()
            phone.push(content, "/data/local/tmp/x")
            assert phone.pull("/data/local/tmp/x") == content
            assert phone.shell("sleep 1.2; exit 4").status == 4  # longer than one wait of libusb
    assert "by the adb-shell library: no adb server holds the phone" in said
    phone = find_phone("usb")
    device.stop()
    with pytest.raises(ConnectionLost):
        phone.shell("true")


def test_which_phone_on_usb(usb: type[FakeUsb], monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("usb", "adb-shell:usb"):
        with pytest.raises(DeviceError, match="no phone is attached"):
            find_phone(address)
    usb.phones |= {"A1": ("127.0.0.1", 1), "B2": ("127.0.0.1", 1)}
    with pytest.raises(SeveralDevices) as caught:
        find_phone("usb")
    assert [line.split("--device ")[1] for line in caught.value.table.splitlines()[1:]] == [
        "adb-shell:A1",
        "adb-shell:B2",
    ]
    with pytest.raises(DeviceError, match="no phone has the serial 'C3'"):
        find_phone("adb-shell:C3")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="no phone has the serial 'C3'"):
        find_phone("C3")  # without an adb program, the library looks on USB


def test_usb_without_libusb(adb_environment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adb_shell.transport.usb_transport", None)
    with pytest.raises(DeviceError, match=r"needs libusb .*pip install 'adb-shell\[usb\]'"):
        find_phone("usb")


def test_usb_that_another_program_holds(usb: type[FakeUsb], monkeypatch: pytest.MonkeyPatch) -> None:
    busy = type("USBErrorBusy", (Exception,), {"__module__": "usb1"})

    def connect(self: object, transport_timeout_s: float | None) -> None:
        raise busy("LIBUSB_ERROR_BUSY [-6]")

    usb.phones["A1"] = ("127.0.0.1", 1)
    monkeypatch.setattr(usb, "connect", connect)
    with pytest.raises(DeviceError, match=r"cannot be opened .*BUSY.*: an adb server or another program may hold it"):
        find_phone("adb-shell:usb")


def test_a_command_shows_the_table_below_its_error() -> None:
    @click.command()
    @reports_errors
    def command() -> None:
        raise SeveralDevices("2 phones are attached", "SERIAL  STATE\nA  device\nB  device")

    result = CliRunner().invoke(command)
    assert result.exit_code == 1
    assert result.stderr == "error: 2 phones are attached\nSERIAL  STATE\nA  device\nB  device\n"


def test_an_interrupted_push_leaves_a_usable_phone(phone_address: str) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with find_phone(phone_address) as phone:
        with pytest.raises(KeyboardInterrupt):
            phone.push(bytes(8 << 20), "/data/local/tmp/interrupted", interrupt)
        assert phone.shell("echo usable; rm -f /data/local/tmp/interrupted").text == "usable\n"
