"""What is pushed to a phone, and how: pure planning, and the whole of it on this computer's own shell."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.devices.adb.transport import PushProgress, ShellResult
from adaptivenet.toolkit.devices.base import Log
from adaptivenet.toolkit.devices.phone import push
from adaptivenet.toolkit.devices.phone.here import Here
from adaptivenet.toolkit.devices.phone.push import (
    COMMAND_LIMIT,
    Item,
    Store,
    accept_command,
    batches,
    parse_free,
    parse_listing,
    plan_transfer,
)
from adaptivenet.toolkit.errors import ConnectionLost, DeviceError
from hypothesis import given
from hypothesis import strategies as st
from runners import Told, ended, wait_until


def item_of(content: bytes, folder: str = "blobs", suffix: str = ".pte", executable: bool = False) -> Item:
    digest = sha256(content).hexdigest()
    return Item(f"{folder}/{digest}{suffix}", digest, len(content), lambda: content, executable)


ITEMS = st.lists(st.binary(max_size=40), unique=True, max_size=20).map(lambda contents: [*map(item_of, contents)])


class Watched(Here):
    """This computer, with what is asked of it noted. `before_push` may break something, by the push's number."""

    def __init__(self, before_push: Callable[[int, Path | bytes, str], None] | None = None) -> None:
        super().__init__()
        self.commands: list[str] = []
        self.pushed: list[str] = []
        self.before_push = before_push

    def shell(self, command: str, timeout_s: float | None = 30) -> ShellResult:
        self.commands.append(command)
        return super().shell(command, timeout_s)

    def push(self, source: Path | bytes, remote: str, progress: PushProgress | None = None) -> None:
        if self.before_push:
            self.before_push(len(self.pushed), source, remote)
        self.pushed.append(remote)
        super().push(source, remote, progress)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "the phone's home"


def there(home: Path) -> dict[str, bytes]:
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()}


# Planning


@given(ITEMS, st.data())
def test_a_plan_sends_what_is_missing_and_nothing_else(items: list[Item], data: Any) -> None:
    state = {item.path: data.draw(st.sampled_from(["missing", "there", "part", "cut", "other size"])) for item in items}
    listing = {}
    for item in items:
        match state[item.path]:
            case "there":
                listing[item.path] = item.bytes
            case "part":
                listing[item.part] = item.bytes
            case "cut":
                listing[item.part] = item.bytes + 1
            case "other size":
                listing[item.path] = item.bytes + 1
    transfer = plan_transfer([*items, *items], listing)
    assert [item.path for item in transfer.send] == [
        path for path, what in state.items() if what in ("missing", "cut", "other size")
    ]
    assert [item.path for item in transfer.arrived] == [path for path, what in state.items() if what == "part"]
    assert transfer.bytes == sum(item.bytes for item in transfer.send)


@given(st.lists(st.integers(0, 40 << 20), max_size=400))
def test_batches_keep_the_order_and_both_limits(sizes: list[int]) -> None:
    digest = "0" * 64
    items = [Item(f"blobs/{digest}-{at}.pte", digest, size, lambda: b"") for at, size in enumerate(sizes)]
    found = list(batches(items))
    assert [item for batch in found for item in batch] == items
    for batch in found:
        assert batch
        assert len(batch) == 1 or sum(item.bytes for item in batch) <= 64 << 20
        assert len(accept_command("/data/local/tmp/adaptivenet", batch)) < COMMAND_LIMIT
    # No batch could have taken the first of the next one as well.
    for batch, after in pairwise(found):
        fuller = [*batch, after[0]]
        assert sum(item.bytes for item in fuller) > 64 << 20 or len(accept_command("", fuller)) > COMMAND_LIMIT - 1024


@pytest.mark.parametrize(
    "path", ["blobs", "/blobs/x", "blobs/../x", "blobs/.part-x", "blobs/a b", "blobs/$x", "a//b", ""]
)
def test_only_plain_paths_are_pushed_to(path: str) -> None:
    with pytest.raises(ValueError, match="no path to push to"):
        Item(path, "0" * 64, 1, lambda: b"x")


# What the phone prints


@pytest.mark.parametrize(
    ("output", "free"),
    [
        # toybox of Android 13
        (
            "Filesystem      1K-blocks     Used Available Use% Mounted on\n"
            "/dev/block/dm-8 113187820 28392848  84663900  26% /data\n",
            84663900 * 1024,
        ),
        # coreutils, and the old one that breaks a long line
        ("Filesystem     1K-blocks    Used Available Use% Mounted on\ntmpfs  10  4  6  40% /tmp\n", 6 * 1024),
        (
            "Filesystem           1K-blocks      Used Available Use% Mounted on\n"
            "/dev/mapper/a-very-long-name-of-a-volume\n                      41152736  9172732  29866520  24% /\n",
            29866520 * 1024,
        ),
        # A full disk on which root alone may write
        ("Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/sda1 100 100 -5 100% /\n", -5 * 1024),
        ("", None),
        ("df: /data/local/tmp/adaptivenet: No such file or directory\n", None),
        (
            "Filesystem               Size     Used     Free   Blksize\n"
            "/data                    5.3G     1.9G    3.4G 4096\n",
            None,
        ),
    ],
)
def test_free_space_is_read_from_what_df_prints(output: str, free: int | None) -> None:
    assert parse_free(output) == free


def tools() -> list[list[str]]:
    return [[], *([["toybox"]] if shutil.which("toybox") else [])]


@pytest.mark.parametrize("tool", tools(), ids=lambda tool: tool[0] if tool else "coreutils")
def test_the_tools_of_this_computer_are_understood(tool: list[str], tmp_path: Path) -> None:
    printed = subprocess.run([*tool, "df", "-k", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    free = parse_free(printed)
    assert free is not None
    disk = os.statvfs(tmp_path)  # toybox gives root all that is free
    assert min(abs(free - blocks * disk.f_frsize) for blocks in (disk.f_bavail, disk.f_bfree)) < 1 << 30
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / ".part-b").write_bytes(b"")
    command = [*tool, "find", ".", "-type", "f", "-exec", "stat", "-c", "%s %n", "{}", "+"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert parse_listing(printed) == {"a": 5, ".part-b": 0}


def test_lines_that_list_no_file_are_left_out() -> None:
    noise = "WARNING: linker: something\nstat: 'blobs/x': No such file or directory\n"
    assert parse_listing(noise + "12 blobs/x.pte\r\n") == {"blobs/x.pte": 12}


# On a real shell


@pytest.mark.parametrize("shell", [path for path in ("sh", "bash", "mksh", "dash") if shutil.which(path)])
def test_what_is_whole_is_renamed_and_the_rest_is_named(shell: str, home: Path) -> None:
    whole, program, damaged, gone, renamed = (item_of(bytes([at]) * 9) for at in range(5))
    program = Item(program.path, program.sha256, program.bytes, program.content, executable=True)
    (home / "blobs").mkdir(parents=True)
    for item, content in ((whole, b"\0" * 9), (program, b"\1" * 9), (damaged, b"broken")):
        (home / item.part).write_bytes(content)
    (home / renamed.path).write_bytes(b"\4" * 9)
    command = accept_command(str(home), [whole, program, damaged, gone, renamed])
    ran = subprocess.run([shell, "-c", command], capture_output=True, text=True)
    assert ran.returncode == 0
    assert [line for line in ran.stdout.splitlines() if line.startswith("differs")] == [
        f"differs {damaged.path}",
        f"differs {gone.path}",
    ]
    assert there(home) == {whole.path: b"\0" * 9, program.path: b"\1" * 9, renamed.path: b"\4" * 9}
    assert os.access(home / program.path, os.X_OK)
    assert (home / whole.path).stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_is_not_sent_again(home: Path) -> None:
    transport = Watched()
    items = [item_of(bytes([at])) for at in range(5)]
    store = Store(transport, str(home), Log())
    assert store.put(items[:3]) == 3
    assert len(transport.pushed) == 3
    asked = len(transport.commands)
    assert store.put(items[:3]) == 0
    assert len(transport.commands) == asked, "what is known to be there costs no round trip"
    assert Store(transport, str(home), Log()).put(items) == 2
    assert there(home) == {item.path: bytes([at]) for at, item in enumerate(items)}
    assert home.stat().st_mode & 0o777 == 0o700


def test_data_that_nobody_has_used_for_a_week_goes(home: Path) -> None:
    def age(items: list[Item], days: float) -> None:
        for item in items:
            os.utime(home / item.path, (time.time() - days * 24 * 3600,) * 2)

    kept = [item_of(b"old", "blobs"), item_of(b"old", "packs")]
    used, unused, young = (
        [item_of(what, "data"), item_of(what, "requests")] for what in (b"used", b"unused", b"young")
    )
    first = Store(Here(), str(home), Log())
    first.put([*kept, *used, *unused, *young])
    age([*kept, *used, *unused], 6.9)
    age(young, 5)
    second = Store(Here(), str(home), Log())
    second.put([*kept, *used])
    age([*kept, *unused], 7.1)
    Store(Here(), str(home), Log()).put([])
    assert set(there(home)) - {"run/restore"} == {item.path for item in (*kept, *used, *young)}
    assert Store(Here(), str(home), Log()).put(unused) == 12, "what is wanted again is pushed again"


def test_only_ones_own_pictures_are_removed(home: Path) -> None:
    mine, theirs, blob = item_of(b"mine", "data"), item_of(b"theirs", "data"), item_of(b"blob")
    one, other = Store(Here(), str(home), Log()), Store(Here(), str(home), Log())
    one.put([mine, blob])
    other.put([theirs, mine])
    one.remove_private()
    assert set(there(home)) == {theirs.path, blob.path, "run/restore"}
    one.remove_private()
    assert one.put([mine]) == 4, "a picture that was removed is pushed again"
    # The daemon runs this when nobody has called it for a while.
    subprocess.run(["sh", home / "run" / "restore"], check=True)
    assert set(there(home)) == {blob.path, "run/restore"}


def test_files_that_differ_are_pushed_again_and_no_others(home: Path) -> None:
    transport = Watched()
    items = [item_of(bytes([at]) * 9) for at in range(4)]
    store = Store(transport, str(home), Log())
    store.put(items)
    assert store.mend(items) == 0
    (home / items[0].path).write_bytes(b"\0" * 8 + b"\1")
    (home / items[1].path).unlink()
    (home / items[2].path).write_bytes(b"")
    transport.pushed.clear()
    assert store.mend(items) == 3
    assert transport.pushed == [f"{home}/{item.part}" for item in items[:3]]
    assert there(home) == {item.path: bytes([at]) * 9 for at, item in enumerate(items)}


def test_many_small_files_cost_few_commands(home: Path) -> None:
    transport = Watched()
    items = [item_of(str(at).encode()) for at in range(300)]
    Store(transport, str(home), Log()).put(items)
    assert len(there(home)) == 300
    assert len(transport.commands) < 10
    assert max(map(len, transport.commands)) < COMMAND_LIMIT


def test_folders_inside_folders_are_made(home: Path) -> None:
    item = Item("runner/abc/program", sha256(b"x").hexdigest(), 1, lambda: b"x", executable=True)
    Store(Here(), str(home), Log()).put([item])
    assert os.access(home / "runner" / "abc" / "program", os.X_OK)


def test_an_interrupted_push_goes_on(home: Path) -> None:
    def cut(number: int, source: Path | bytes, remote: str) -> None:
        if number == 3:
            assert isinstance(source, bytes)
            Path(remote).write_bytes(source[:1])
            transport.before_push = None
            raise ConnectionLost("gone")

    transport = Watched(cut)
    items = [item_of(bytes([at]) * 5) for at in range(6)]
    store = Store(transport, str(home), Log())
    with pytest.raises(ConnectionLost):
        store.put(items)
    assert all(path.rpartition("/")[2].startswith(".part-") for path in there(home)), "nothing has its final name yet"
    assert store.put(items) == 15, "the three that were cut off or not begun"
    assert transport.pushed[3:] == [f"{home}/{item.part}" for item in items[3:]]
    assert there(home) == {item.path: bytes([at]) * 5 for at, item in enumerate(items)}


def test_what_arrives_damaged_is_sent_once_more(home: Path) -> None:
    def damage(number: int, source: Path | bytes, remote: str) -> None:
        if number in broken:
            transport.spoil = remote

    class Spoiling(Watched):
        spoil = ""

        def push(self, source: Path | bytes, remote: str, progress: PushProgress | None = None) -> None:
            super().push(source, remote, progress)
            if self.spoil == remote:
                Path(remote).write_bytes(b"?????")
                self.spoil = ""

    broken = {1}
    transport = Spoiling(damage)
    items = [item_of(bytes([at]) * 5) for at in range(3)]
    store = Store(transport, str(home), Log())
    store.put(items)
    assert len(transport.pushed) == 4
    assert there(home) == {item.path: bytes([at]) * 5 for at, item in enumerate(items)}

    broken = {4, 5, 6}
    with pytest.raises(DeviceError, match="files arrive damaged at runner"):
        store.put([item_of(b"once more")])
    assert len(there(home)) == 3


def test_too_little_space_is_found_before_anything_is_sent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "_SPARE_BYTES", 1 << 60)
    transport = Watched()
    with pytest.raises(
        DeviceError, match=r"not enough space on runner: 115292150\d+ MB are needed in .*home and \d+ MB are free"
    ):
        Store(transport, str(home), Log()).put([item_of(b"x")])
    assert transport.pushed == []
    Store(transport, str(home), Log()).put([])


def test_a_phone_without_sha256sum_is_told(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "mkdir", "chmod", "find", "stat", "df"):
        (tools / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(DeviceError, match="has no sha256sum to compare files with: Android 8"):
        Store(Here(), str(home), Log()).put([item_of(b"x")])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DeviceError, match=rf"{tmp_path}/file/home cannot be used on runner: mkdir"):
        Store(Here(), str(tmp_path / "file" / "home"), Log()).put([item_of(b"x")])


def test_a_small_transfer_is_not_told(home: Path) -> None:
    told = Told()
    Store(Here(), str(home), told).put([item_of(bytes([at]) * 1000) for at in range(4)])
    assert told.done == []


def test_progress_is_told_with_the_rate(home: Path) -> None:
    told = Told()
    Store(Here(), str(home), told).put([item_of(bytes([at]) * 500_000) for at in range(4)])
    assert [(stage, total) for stage, _, total, _ in told.done] == [("push (kB)", 2000)] * len(told.done)
    assert [done for _, done, _, _ in told.done] == sorted(done for _, done, _, _ in told.done)
    assert told.done[-1][1] == 2000
    assert [done for _, done, _, _ in told.done].count(2000) == 1
    assert all(note.endswith(" MB/s") for _, _, _, note in told.done)


def test_clean_removes_the_folder(home: Path) -> None:
    store = Store(Here(), str(home), Log())
    store.put([item_of(b"x")])
    store.clean()
    assert not home.exists()
    assert store.put([item_of(b"x")]) == 1, "what was there before is not taken to be there still"


# This computer as a phone


@pytest.fixture
def here() -> Iterator[Here]:
    with Here() as here:
        yield here


def test_commands_run_in_a_shell(here: Here) -> None:
    result = here.shell("echo a; echo b >&2; exit 7")
    assert (result.status, result.text) == (7, "a\nb\n")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60))
def test_quoting_survives_the_shells_on_the_way(text: str) -> None:
    assert Here().shell(f"printf %s {shlex.quote(text)}").output == text.encode()


def test_lines_come_as_they_are_printed(here: Here) -> None:
    lines = here.stream("echo one; read x; echo two")
    assert [*lines] == ["one", "two"]
    assert lines.status == 0


def test_what_takes_too_long_is_a_lost_connection(here: Here) -> None:
    with pytest.raises(ConnectionLost, match=r"did not finish .*sleep 60.* in time"):
        here.shell("sleep 60", timeout_s=0.2)


def test_a_stream_that_nobody_hears_any_more_is_hung_up_on(here: Here, tmp_path: Path) -> None:
    lines = here.stream(f"echo $$ > {tmp_path}/pid; echo ready; sleep 60")
    assert next(lines) == "ready"
    lines.close()
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: ended(pid))


def test_files_and_bytes_are_pushed(here: Here, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    seen: list[tuple[int, int]] = []
    here.push(tmp_path / "source", str(tmp_path / "one"), lambda done, total: seen.append((done, total)))
    here.push(b"de", str(tmp_path / "two"))
    assert ((tmp_path / "one").read_bytes(), (tmp_path / "two").read_bytes()) == (b"abc", b"de")
    assert seen == [(3, 3)]
    with pytest.raises(DeviceError, match="missing/x cannot be written on runner: No such file"):
        here.push(b"x", str(tmp_path / "missing" / "x"))
    with pytest.raises(FileNotFoundError):
        here.push(tmp_path / "nothing", str(tmp_path / "three"))
