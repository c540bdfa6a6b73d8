"""Phones reached over ADB: the same suite over the adb-shell library and over the adb program, on the real adbd."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from adaptivenet.toolkit.devices.adb.discovery import find_phone
from adaptivenet.toolkit.devices.adb.transport import Transport
from adaptivenet.toolkit.errors import ConnectionLost, DeviceError, NotAuthorized, SeveralDevices
from phones import WAYS, VirtualPhone, start_adb_server

FOLDER = "/data/local/tmp"
SOON_S = 30.0  # "within seconds", on a busy machine
NewPhone = Callable[..., VirtualPhone]
both_ways = pytest.mark.parametrize("way", WAYS)


def silent(line: str) -> None:
    pass


@pytest.fixture
def patient(adb_server: object) -> Callable[[str], Transport]:
    """Finds a phone, with a server running, and little patience for one that is not authorized."""
    return lambda address: find_phone(address, patience_s=1)


def test_a_command_has_a_status_and_its_exact_output(phone_address: str) -> None:
    with find_phone(phone_address) as phone:
        assert phone.shell("echo out; echo err >&2; exit 3").status == 3
        assert phone.shell("echo out; echo err >&2").text == "out\nerr\n"
        assert phone.shell("printf abc").output == b"abc"
        assert phone.shell("true").output == b""
        assert phone.shell("printf 'a\\r\\n\\r\\r\\n\\n'").output == b"a\r\n\r\r\n\n"
        assert phone.shell("echo 'ä $HOME \"x\" # y'; echo b").text == 'ä $HOME "x" # y\nb\n'
        assert phone.shell("if (").status not in (0, None)
        assert phone.shell("no_such_command").status == 127
        assert phone.shell("kill -9 $$").status == 137
        assert phone.shell("cat").status == 0  # there is nothing to read, rather than something to wait for
        assert phone.shell("cat /proc/$PPID/cmdline").status == 0  # the script itself, with both halves of its token
        assert phone.shell(": " + "x" * 30_000).status == 0


def test_all_bytes_come_back_as_they_are(phone_address: str) -> None:
    content = bytes(range(256)) * 4096 + os.urandom(1_000_000)
    remote = f"{FOLDER}/all bytes'"
    with find_phone(phone_address) as phone:
        phone.push(content, remote)
        assert phone.pull(remote) == content
        assert phone.shell('rm "/data/local/tmp/all bytes\'"').status == 0
        with pytest.raises(DeviceError, match=r"cannot be read .*No such file"):
            phone.pull(remote)


def test_a_large_file_is_pushed(phone_address: str, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(1 << 20) * 64 + b"odd")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    seen: list[tuple[int, int]] = []
    with find_phone(phone_address) as phone:
        phone.push(source, f"{FOLDER}/large", lambda done, total: seen.append((done, total)))
        assert phone.shell(f"sha256sum {FOLDER}/large; rm {FOLDER}/large").text.split()[0] == digest
    size = source.stat().st_size
    assert {total for _, total in seen} == {size}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == size
    assert len(seen) > 10


@pytest.mark.parametrize("size", [0, 1, 65528, 65536, (1 << 20) - 8, 1 << 20, (1 << 20) + 1])
def test_a_file_of_any_size_is_pushed(phone_address: str, size: int) -> None:
    content = os.urandom(size)
    with find_phone(phone_address) as phone:
        phone.push(content, f"{FOLDER}/sized")
        assert phone.pull(f"{FOLDER}/sized") == content


def test_the_phone_says_why_it_does_not_take_a_file(phone_address: str, tmp_path: Path) -> None:
    with find_phone(phone_address) as phone:
        with pytest.raises(DeviceError, match=r"/system/x cannot be written on .*: .*(Permission|Read-only)"):
            phone.push(b"x" * 3_000_000, "/system/x")
        with pytest.raises(FileNotFoundError):
            phone.push(tmp_path / "none", f"{FOLDER}/none")
        assert phone.shell("echo still there").text == "still there\n"


@both_ways
def test_a_full_storage_is_an_error(way: str, new_phone: NewPhone, patient: Callable[[str], Transport]) -> None:
    phone = patient(f"{way}:{new_phone('--storage', '24').endpoint}")
    with pytest.raises(DeviceError, match=r"big cannot be written on .*No space left"):
        phone.push(bytes(64 << 20), f"{FOLDER}/big")
    assert phone.shell(f"rm -f {FOLDER}/big; echo there").text == "there\n"


def test_lines_come_as_they_are_printed(phone_address: str) -> None:
    with find_phone(phone_address) as phone:
        phone.stream("echo never started").close()
        assert phone.shell(f"rm -f {FOLDER}/fifo; mkfifo {FOLDER}/fifo").status == 0
        with phone.stream(f"echo one; read x < {FOLDER}/fifo; echo $x; printf end; exit 7") as lines:
            assert next(lines) == "one"
            assert lines.status is None
            # The command waits, so its line has come before its end; and the phone can be used meanwhile.
            assert phone.shell(f"echo two > {FOLDER}/fifo").status == 0
            phone.push(b"x", f"{FOLDER}/meanwhile")
            assert list(lines) == ["two", "end"]
            assert lines.status == 7
        assert phone.shell(f"rm {FOLDER}/fifo {FOLDER}/meanwhile").status == 0


def test_hanging_up_ends_the_command(phone_address: str) -> None:
    with find_phone(phone_address) as phone:
        with phone.stream("echo $$; while sleep 0.2; do echo; done") as lines:
            number = next(lines)
        end = time.monotonic() + SOON_S
        while phone.shell(f"kill -0 {number}").status == 0:
            assert time.monotonic() < end, "the command goes on"
            time.sleep(0.1)


def test_a_command_that_takes_too_long_is_given_up(phone_address: str) -> None:
    with find_phone(phone_address) as phone:
        with pytest.raises(ConnectionLost, match="did not finish 'sleep 60' in time"):
            phone.shell("sleep 60", timeout_s=0.5)
        assert phone.shell("echo next").text == "next\n"


@both_ways
def test_a_lost_connection_is_noticed_and_made_again(
    way: str, new_phone: NewPhone, patient: Callable[[str], Transport]
) -> None:
    device = new_phone()
    phone = patient(f"{way}:{device.endpoint}")
    lines = phone.stream("echo begun; sleep 600")
    assert next(lines) == "begun"
    threading.Timer(0.5, device.stop).start()
    begun = time.monotonic()
    with pytest.raises(ConnectionLost, match=r"connection to \S+ was lost during 'echo begun; sleep 600'"):
        next(lines)
    assert time.monotonic() - begun < SOON_S
    assert lines.status is None
    for attempt in (lambda: phone.shell("true"), lambda: phone.push(b"x", f"{FOLDER}/x")):
        with pytest.raises(ConnectionLost, match="no longer answers"):
            attempt()
    device.start()
    assert phone.shell("echo back").text == "back\n"


def test_an_adb_server_that_is_ended(
    virtual_phone: VirtualPhone, adb_environment: int, adb_server: subprocess.Popen[bytes]
) -> None:
    phone = find_phone(f"adb:{virtual_phone.endpoint}")
    lines = phone.stream("echo begun; sleep 600")
    assert next(lines) == "begun"
    adb_server.kill()
    adb_server.wait()
    with pytest.raises(ConnectionLost):
        next(lines)
    another = start_adb_server(adb_environment)
    try:
        assert phone.shell("echo back").text == "back\n"
    finally:
        another.kill()
        another.wait()


@both_ways
def test_a_connection_lost_during_a_push(
    way: str, new_phone: NewPhone, patient: Callable[[str], Transport], tmp_path: Path
) -> None:
    device = new_phone("--storage", "600")
    phone = patient(f"{way}:{device.endpoint}")
    source = tmp_path / "huge"
    with source.open("wb") as file:
        file.truncate(512 << 20)
    with pytest.raises(ConnectionLost, match="was lost during a push to"):
        phone.push(source, f"{FOLDER}/huge", lambda done, total: device.stop() if done > total // 50 else None)
    device.start()
    assert phone.shell("true").status == 0


@both_ways
def test_a_phone_that_does_not_know_this_computer(
    way: str, new_phone: NewPhone, patient: Callable[[str], Transport], adb_home: Path
) -> None:
    for options in (("--auth", "keys"), ("--auth", "reject")):
        with pytest.raises(NotAuthorized, match=r"unlock its screen, tap Allow in the dialog, and run this again"):
            patient(f"{way}:{new_phone(*options).endpoint}")
    key = str(adb_home / ".android" / "adbkey.pub")
    assert patient(f"{way}:{new_phone('--auth', 'keys', '--keys', key).endpoint}").shell("true").status == 0


@both_ways
def test_somebody_taps_allow(way: str, new_phone: NewPhone, adb_server: object) -> None:
    asked: list[str] = []
    phone = find_phone(f"{way}:{new_phone('--auth', 'accept').endpoint}", silent, asked.append)
    assert phone.shell("true").status == 0
    assert [line for line in asked if "tap Allow" not in line] == []
    assert asked or way == "adb"  # adb may have asked by itself already


@both_ways
def test_nobody_listens(way: str, patient: Callable[[str], Transport]) -> None:
    with pytest.raises(DeviceError, match=r"nobody listens at|cannot be reached by adb \(.*refused\)"):
        patient(f"{way}:127.0.0.1:1")


def test_the_way_over_tcp_is_chosen_and_explained(new_phone: NewPhone, adb_server: object) -> None:
    endpoint = new_phone().endpoint
    said: list[str] = []
    assert "by the adb-shell library" in find_phone(f"tcp:{endpoint}", said.append).describe()
    assert any(f"the adb server is not connected to {endpoint}" in line for line in said)
    subprocess.run(["adb", "connect", endpoint], check=True, capture_output=True)
    said.clear()
    for address in (f"tcp:{endpoint}", endpoint, "adb"):
        phone = find_phone(address, said.append)
        assert re.search(r"serial .* by \S+adb \S+ and its server at tcp:localhost", phone.describe())
        assert phone.address == address
    assert any(f"its server is connected to {endpoint} already" in line for line in said)
    with pytest.raises(DeviceError, match=f"not on USB: {endpoint}"):
        find_phone("usb")


def test_with_two_phones_the_table_says_what_to_type(
    new_phone: NewPhone, patient: Callable[[str], Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints = [new_phone().endpoint, new_phone("--auth", "keys").endpoint]
    for endpoint in endpoints:
        subprocess.run(["adb", "connect", endpoint], check=True, capture_output=True)
    with pytest.raises(SeveralDevices, match="2 phones are attached: choose one with --device SERIAL") as caught:
        patient("adb")
    head, *rows = caught.value.table.splitlines()
    assert head.split() == ["SERIAL", "STATE", "MODEL", "CHOOSE", "WITH"]
    assert sorted(row.split()[0] for row in rows) == sorted(endpoints)
    (ready,) = [row for row in rows if " device " in row]
    assert patient(ready.split("--device ")[1]).shell("true").status == 0
    (locked,) = [row for row in rows if " unauthorized " in row]
    with pytest.raises(NotAuthorized):
        patient(locked.split("--device ")[1])
    monkeypatch.setenv("ANDROID_SERIAL", endpoints[0])
    assert patient("adb").shell("true").status == 0


def test_the_key_is_made_when_it_is_missing(
    new_phone: NewPhone, adb_environment: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    endpoint = new_phone("--auth", "accept").endpoint
    said: list[str] = []
    find_phone(f"tcp:{endpoint}", said.append).close()
    private = tmp_path / ".android" / "adbkey"
    assert f"key: {private}, made now" in said
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert sorted(path.name for path in private.parent.iterdir()) == ["adbkey", "adbkey.pub"]
    key, public = private.read_bytes(), private.with_suffix(".pub").read_bytes()
    private.with_suffix(".pub").unlink()
    find_phone(f"tcp:{endpoint}", said.append).close()
    assert private.read_bytes() == key
    assert private.with_suffix(".pub").read_bytes().split()[0] == public.split()[0]
    private.write_text("no key")
    with pytest.raises(DeviceError, match=r"key for ADB at .*adbkey cannot be used"):
        find_phone(f"tcp:{endpoint}")
