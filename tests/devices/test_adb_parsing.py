"""What is read and written when talking ADB, without a phone: frames, addresses, the table of devices, messages."""

from __future__ import annotations

import io
import re
import shlex
import struct
import subprocess
from collections.abc import Callable
from itertools import pairwise

import pytest
from adaptivenet.toolkit.devices.adb import adb_program, framing, sync_push
from adaptivenet.toolkit.devices.adb.address import DEFAULT_PORT, Address, parse_address, unknown_serial
from adaptivenet.toolkit.devices.adb.device_table import ListedDevice, choose, parse_devices, trouble
from adaptivenet.toolkit.errors import DeviceError, NotAuthorized, SeveralDevices
from hypothesis import given, settings
from hypothesis import strategies as st

TOKEN = "@0123456789abcdef0123456789abcdef"
NEWLINES = st.sampled_from([b"\n", b"\r\n", b"\r\r\n"])
# Bytes that are likely to be taken for a piece of a frame.
NASTY = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"@", b"@012", TOKEN.encode(), TOKEN.encode()[:-1], b"-0\n", b"+\n"]),
    ),
    max_size=12,
).map(b"".join)


def contains_frame(data: bytes) -> bool:
    return re.search(re.escape(TOKEN.encode()) + rb"[-+]", data) is not None


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(marks)]


@given(NASTY, NASTY, NASTY, NEWLINES, st.integers(0, 255), st.lists(st.integers(0, 400), max_size=30))
@settings(max_examples=500)
def test_a_frame_gives_back_output_and_status_however_it_arrives(
    noise: bytes, output: bytes, after: bytes, newline: bytes, status: int, cuts: list[int]
) -> None:
    token = TOKEN.encode()
    if contains_frame(noise + token) or contains_frame(output + token):
        return
    on_the_way = output.replace(b"\n", newline)
    data = noise + token + b"+" + newline + on_the_way + token + b"-%d" % status + newline
    reader = framing.FrameReader(TOKEN)
    got = b"".join(reader.feed(piece) for piece in pieces_of(data, cuts))
    assert (got, reader.status, reader.noise, reader.begun) == (output, status, noise, True)
    assert reader.feed(after) == b""
    assert reader.status == status


@given(NASTY, NEWLINES, st.integers(0, 10_000), st.lists(st.integers(0, 400), max_size=10))
@settings(max_examples=300)
def test_a_frame_that_is_cut_off_has_no_status_and_nothing_but_output(
    output: bytes, newline: bytes, length: int, cuts: list[int]
) -> None:
    token = TOKEN.encode()
    if contains_frame(output + token):
        return
    data = token + b"+" + newline + output.replace(b"\n", newline) + token + b"-0" + newline
    reader = framing.FrameReader(TOKEN)
    got = b"".join(reader.feed(piece) for piece in pieces_of(data[: length % len(data)], cuts))
    assert reader.status is None
    assert output.startswith(got)


@given(st.lists(st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"])), min_size=1))
def test_a_whole_line_is_never_held_back(lines: list[str]) -> None:
    reader = framing.FrameReader(TOKEN)
    reader.feed(TOKEN.encode() + b"+\n")
    for line in lines:
        if "@" not in line:
            assert reader.feed(line.encode() + b"\n") == line.encode() + b"\n"


@pytest.mark.parametrize(
    ("command", "status", "output"),
    [
        ("echo out; echo err >&2; exit 3", 3, b"out\nerr\n"),
        ("printf 'no newline'", 0, b"no newline"),
        ("echo 'it''s' \"$((1 + 1))\" # comment", 0, b"its 2\n"),
        ("cat", 0, b""),
        ("cat /proc/$PPID/cmdline | tr '\\0' ' '", 0, None),
        ("(", 2, None),
        ("exec 2>&-; cd /nowhere", 2, None),
        ("cat <<X\nhere\nX", 0, b"here\n"),
    ],
)
def test_any_shell_runs_the_script(command: str, status: int, output: bytes | None) -> None:
    token = framing.new_token()
    script = framing.script(command, token)
    assert token not in script
    printed = subprocess.run(["sh", "-c", script], capture_output=True, check=True, input=b"typed").stdout
    reader = framing.FrameReader(token)
    got = reader.feed(printed)
    assert reader.status in (status, 1) if status == 2 else reader.status == status
    assert output is None or got == output


def test_a_command_that_no_shell_takes_is_refused() -> None:
    for command in ("a\0b", "x" * (framing.LONGEST_COMMAND + 1)):
        with pytest.raises(ValueError, match="shell command is at most 32000 bytes without NUL"):
            framing.script(command, TOKEN)


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_lines_are_what_split_gives(pieces: list[bytes]) -> None:
    whole = b"".join(pieces).split(b"\n")
    expected = whole[:-1] + ([whole[-1]] if whole[-1] else [])
    assert list(framing.split_lines(pieces)) == [line.decode(errors="replace") for line in expected]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("R5CT10ABCDE", Address("", "any", serial="R5CT10ABCDE")),
        ("192.168.1.2:5555", Address("", "any", serial="192.168.1.2:5555")),
        ("adb-R5CT-x (2)._adb-tls-connect._tcp", Address("", "any", serial="adb-R5CT-x (2)._adb-tls-connect._tcp")),
        ("emulator-5554", Address("", "any", serial="emulator-5554")),
        ("usb", Address("", "any", usb=True)),
        ("tcp:phone.local:4444", Address("", "any", host="phone.local", port=4444)),
        ("tcp:10.0.0.2", Address("", "any", host="10.0.0.2", port=DEFAULT_PORT)),
        ("tcp:[fe80::1%eth0]:5555", Address("", "any", host="fe80::1%eth0", port=5555)),
        ("adb", Address("", "adb")),
        ("adb:", Address("", "adb")),
        ("adb:R5CT", Address("", "adb", serial="R5CT")),
        ("adb:10.0.0.2:5555", Address("", "adb", serial="10.0.0.2:5555")),
        ("adb:tcp:10.0.0.2:5555", Address("", "adb", serial="10.0.0.2:5555")),
        ("adb-shell", Address("", "adb-shell", usb=True)),
        ("adb-shell:usb", Address("", "adb-shell", usb=True)),
        ("adb-shell:R5CT", Address("", "adb-shell", serial="R5CT", usb=True)),
        ("adb-shell:10.0.0.2:5555", Address("", "adb-shell", host="10.0.0.2", port=5555)),
        ("adb-shell:tcp:[::1]:5555", Address("", "adb-shell", host="::1", port=5555)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    parsed = parse_address(text)
    assert parsed == Address(text, address.program, address.serial, address.host, address.port, address.usb)
    if parsed.host:
        assert parse_address(f"tcp:{parsed.endpoint}").host == parsed.host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no address"),
        (" usb", "is no address"),
        ("a\nb", "is no address"),
        ("tcp", "write tcp:HOST:PORT"),
        ("tcp:", "write tcp:HOST:PORT"),
        ("tcp:5555", "write tcp:HOST:PORT"),
        ("tcp:host:0", "write tcp:HOST:PORT"),
        ("tcp:host:65536", "write tcp:HOST:PORT"),
        ("tcp:host:5555:1", "write tcp:HOST:PORT"),
        ("adb-shell::5555", "write tcp:HOST:PORT"),
        ("tpc:10.0.0.2:5555", "did you mean tcp:10.0.0.2:5555?"),
        ("TCP:10.0.0.2:5555", "did you mean tcp:10.0.0.2:5555?"),
        ("adb_shell:usb", "did you mean adb-shell:usb?"),
        ("lokal", "did you mean local?"),
        ("USB", "did you mean usb?"),
        ("usb:R5CT", "did you mean adb-shell:R5CT or R5CT?"),
    ],
)
def test_what_is_no_address_says_what_may_have_been_meant(text: str, message: str) -> None:
    with pytest.raises(DeviceError, match=re.escape(message)):
        parse_address(text)


def test_a_serial_that_nobody_has_says_what_may_have_been_meant() -> None:
    assert "did you mean R5CT10ABCDE?" in str(unknown_serial("R5CT10ABCD", ["R5CT10ABCDE", "X"]))
    assert "did you mean tcp:10.0.0.2:5555?" in str(unknown_serial("10.0.0.2:5555", []))
    assert "did you mean local?" in str(unknown_serial("local1", []))
    assert "did you mean" not in str(unknown_serial("ZZZZ", ["R5CT10ABCDE"]))


WORDS = st.sampled_from(["b0q", "SM_S908B", "4", "device", "offline", "3x"])
DEVICES = st.builds(
    ListedDevice,
    WORDS
    | st.sampled_from(["10.0.0.2:5555", "adb-R5-x (2)._adb-tls-connect._tcp", "(no serial number)", "emulator-5554"]),
    st.sampled_from(["device", "offline", "unauthorized", "recovery", "no permissions; see [http://a.b]", "sideload"]),
    st.fixed_dictionaries(
        {},
        optional={
            "usb": st.sampled_from(["1-1", "3-1", "1-1.4.2", "12-10.3", "34603008X"]),
            **dict.fromkeys(("product", "model", "device", "transport_id"), WORDS),
        },
    ),
)


@given(st.lists(DEVICES, max_size=3), st.booleans())
def test_every_table_is_read_whichever_fields_it_has(devices: list[ListedDevice], by_libusb: bool) -> None:
    def printed(device: ListedDevice) -> str:
        fields = [f"{name}:{value}" for name, value in device.details.items()]
        if by_libusb and "usb" in device.details:
            fields[0] = fields[0].removeprefix("usb:")
        return " ".join([f"{device.serial:<22}", device.state, *fields])

    assert parse_devices("\n".join(["List of devices attached", *map(printed, devices), ""])) == devices


def test_a_place_on_usb_needs_no_colon() -> None:
    (phone,) = parse_devices("R5CT10ABCDE            device 3-1 product:b0q model:SM_S908B device:b0q transport_id:4\n")
    assert (phone.serial, phone.state, phone.model, phone.on_usb) == ("R5CT10ABCDE", "device", "SM S908B", True)
    assert phone.details["usb"] == "3-1"


LISTED = """\
* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
R5CT10ABCDE            device usb:1-1.2 product:b0qxxx model:SM_S908B device:b0q transport_id:4
10.0.0.2:5555          offline transport_id:2
emulator-5554          device product:sdk_gphone64_x86_64 model:sdk_gphone64 device:emu64x transport_id:9
adb-R5-x (2)._adb-tls-connect._tcp device product:p model:Pixel_8 device:shiba transport_id:1
0123456789ABCDEF       unauthorized usb:1-2 transport_id:3
FA6AB0303              no permissions (missing udev rules? user is in the plugdev group); see [http://a.b] usb:2-1
FB                     no permissions (user x is not in the plugdev group); see [http://a.b] usb:2-2 transport_id:7
????????????           no permissions usb:2-3
FC                     recovery usb:2-4

adb server is out of date
"""


def test_the_table_of_adb_devices() -> None:
    devices = parse_devices(LISTED.replace("\n", "\r\n"))
    assert [(device.serial, device.state.split("(")[0].strip(), device.on_usb) for device in devices] == [
        ("R5CT10ABCDE", "device", True),
        ("10.0.0.2:5555", "offline", False),
        ("emulator-5554", "device", False),
        ("adb-R5-x (2)._adb-tls-connect._tcp", "device", False),
        ("0123456789ABCDEF", "unauthorized", True),
        ("FA6AB0303", "no permissions", True),
        ("FB", "no permissions", True),
        ("????????????", "no permissions", True),
        ("FC", "recovery", True),
    ]
    assert devices[0].model == "SM S908B"
    assert devices[5].details == {"usb": "2-1"}
    assert parse_devices("") == []


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z0-9?][A-Za-z0-9.:_-]{0,40}", fullmatch=True),
            st.sampled_from(["device", "offline", "unauthorized", "no permissions (a (b) c); see [http://d/e.html]"]),
            st.dictionaries(
                st.sampled_from(["usb", "product", "model", "device", "transport_id"]),
                st.from_regex(r"[A-Za-z0-9_.-]+", fullmatch=True),
            ),
        )
    )
)
def test_the_table_is_read_as_adb_writes_it(rows: list[tuple[str, str, dict[str, str]]]) -> None:
    lines = [
        f"{serial:<22} {state}" + "".join(f" {key}:{value}" for key, value in details.items())
        for serial, state, details in rows
    ]
    assert parse_devices("\n".join(["List of devices attached", *lines, ""])) == [ListedDevice(*row) for row in rows]


def test_choosing_from_the_table() -> None:
    devices = parse_devices(LISTED)
    assert choose(devices, "FC").state == "recovery"
    assert choose(devices[:2], None, only_usb=True).serial == "R5CT10ABCDE"
    with pytest.raises(DeviceError, match=r"did you mean R5CT10ABCDE\?"):
        choose(devices, "R5CT10ABCDF")
    with pytest.raises(DeviceError, match="no phone is attached: plug one in"):
        choose([], None)
    with pytest.raises(DeviceError, match=r"not on USB: 10\.0\.0\.2:5555"):
        choose(devices[1:2], None, only_usb=True)
    with pytest.raises(SeveralDevices) as caught:
        choose(devices[:4], None)
    flags = [shlex.split(row.split("  --device ")[1]) for row in caught.value.table.splitlines()[1:]]
    assert flags == [[device.serial] for device in devices[:4]]


@pytest.mark.parametrize(
    ("state", "kind", "message"),
    [
        ("unauthorized", NotAuthorized, "tap Allow"),
        ("authorizing", NotAuthorized, "tap Allow"),
        ("offline", DeviceError, "X is offline: wake it up"),
        ("no permissions (missing udev rules?)", DeviceError, "install the udev rules"),
        ("recovery", DeviceError, "X is in the state 'recovery': start Android on it"),
    ],
)
def test_each_state_has_its_own_message(state: str, kind: type[DeviceError], message: str) -> None:
    problem = trouble(ListedDevice("X", state))
    assert type(problem) is kind
    assert message in str(problem)
    assert trouble(ListedDevice("X", "device")) is None


def reader_of(content: bytes, sizes: list[int]) -> Callable[[memoryview], int]:
    """A file that gives fewer bytes than it is asked for."""
    file = io.BytesIO(content)

    def readinto(buffer: memoryview) -> int:
        return file.readinto(buffer[: sizes.pop() if sizes else len(buffer)])

    return readinto


@given(st.binary(max_size=200_000), st.integers(4096, 1 << 18), st.lists(st.integers(1, 100_000), max_size=5))
@settings(max_examples=60, deadline=None)
def test_sync_messages_carry_the_file(content: bytes, max_payload: int, sizes: list[int]) -> None:
    target = "/data/local/tmp/ä b"
    sent, counts = b"", 0
    for message, count in sync_push.messages(reader_of(content, sizes), target, 0o100644, 77, max_payload):
        assert len(message) <= max_payload
        sent += message
        counts += count
    assert counts == len(content)
    at, got, kinds = 0, b"", []
    while at < len(sent):
        kind, length = struct.unpack_from("<4sI", sent, at)
        kinds.append(kind)
        at += 8
        if kind == b"DONE":
            assert length == 77
            continue
        body = sent[at : at + length]
        at += length
        assert len(body) == length <= 65536
        if kind == b"SEND":
            assert body == f"{target},33188".encode()
        else:
            got += body
    assert got == content
    assert (kinds[0], kinds[-1], set(kinds[1:-1]) <= {b"DATA"}) == (b"SEND", b"DONE", True)


def test_the_answer_to_a_push() -> None:
    why = b"FAIL" + struct.pack("<I", 4) + b"full"
    for length in range(len(why)):
        with pytest.raises(ValueError, match="not whole"):
            sync_push.failure(why[:length])
    assert sync_push.failure(why + b"more") == "full"
    assert sync_push.failure(b"OKAY" + bytes(4)) is None
    assert sync_push.failure(b"FAIL" + bytes(4)) == "it does not say why"
    assert "WHAT" in str(sync_push.failure(b"WHAT" + bytes(4)))


def test_where_adb_and_its_server_are() -> None:
    environ = {"ANDROID_HOME": "/sdk", "ANDROID_SDK_ROOT": "/old"}
    assert adb_program.candidates(environ) == ["/sdk/platform-tools/adb", "/old/platform-tools/adb", "adb"]
    assert adb_program.candidates({"ANDROID_HOME": ""}) == ["adb"]
    text = "Android Debug Bridge version 1.0.41\nVersion 29.0.6-debian\nInstalled as /usr/bin/adb\n"
    assert adb_program.parse_version(text) == (41, "29.0.6-debian")
    assert adb_program.parse_version("Android Debug Bridge version 1.0.32\n") == (32, "1.0.32")
    assert adb_program.parse_version("ADB 3") is None
    assert adb_program.server_address({}) == "tcp:localhost:5037"
    assert adb_program.server_address({"ANDROID_ADB_SERVER_PORT": "5000"}) == "tcp:localhost:5000"
    assert adb_program.server_address({"ANDROID_ADB_SERVER_ADDRESS": "h"}) == "tcp:h:5037"
    assert adb_program.server_address({"ADB_SERVER_SOCKET": "localfilesystem:/x"}) == "localfilesystem:/x"
