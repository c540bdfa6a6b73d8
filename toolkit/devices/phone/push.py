"""The folder on the phone: a file that is there already is not sent again, and a file with its final name is whole.

A file goes to the phone as `.part-NAME`, is compared there with its SHA-256, and renamed. After a broken connection the
same `put` goes on where it was: files that had arrived are only compared. Everything is done for many files at once,
because a command costs a round trip.

Pictures are private. Before the first of them is sent, the phone is given a script that removes them (see `steady`).
The host removes the pictures that it has pushed when it has finished.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ...errors import DeviceError
from ..adb.transport import ShellResult, Transport
from ..base import Observer
from .steady import remove_data_later

Content: TypeAlias = Path | bytes
FOLDERS = ("blobs", "data", "packs", "requests", "runner")
PART = ".part-"
COMMAND_LIMIT = 16 << 10  # characters: what every shell and every adbd takes
_BATCH_BYTES = 64 << 20  # of files that are pushed before they are compared and renamed
_NO_SHA256SUM = 9  # an exit status
_ATTEMPTS = 3  # to push a file; when two hosts push the same file, one of them may need another attempt
_SPARE_BYTES = 16 << 20  # that are left free on the phone
_TOLD_BYTES = 1 << 20  # of a smaller transfer, such as a request or a picture, no progress is shown
_PRIVATE = "data/"  # pictures of the user: they go with the command that has pushed them
_AGING = ("data", "requests")  # files there go when they were not used for a week; the rest stays until --clean
_PATH = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+-]*/)+[A-Za-z0-9][A-Za-z0-9._+-]*")
_LISTED = re.compile(r"(\d+) (?:\./)?(\S+)")
_FREE = re.compile(r"\d+\s+\d+\s+(-?\d+)\s+\d+%")  # 1K-blocks, used, available, use
# $1 folder, $2 name, $3 SHA-256, $4 mode. A file that was renamed by somebody else in the meantime is fine.
_ACCEPT = (
    'a() { p="$1/' + PART + '$2"; if [ ! -f "$p" ] && [ -f "$1/$2" ]; then return; fi; s=$(sha256sum "$p"); '
    'if [ "${s%% *}" = "$3" ]; then chmod "$4" "$p" && mv -f "$p" "$1/$2" || echo "unmoved $1/$2"; '
    'else rm -f "$p"; echo "differs $1/$2"; fi; }'
)


# $1 path, $2 SHA-256. A file that is not there differs, too.
_CHECK = 'c() { s=$(sha256sum "$1" 2>/dev/null); [ "${s%% *}" = "$2" ] && return; rm -f "$1"; echo "differs $1"; }'


@dataclass(frozen=True)
class Item:
    """A file that the phone must have.

    `path` is its place in the folder, as `blobs/SHA256.pte`; `content` gives its bytes, or the file that
    holds them, and is called only when they have to be sent.
    """

    path: str
    sha256: str
    bytes: int
    content: Callable[[], Content]
    executable: bool = False

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is no path to push to")

    @property
    def part(self) -> str:
        """Its place until it is whole."""
        return _part(self.path)


@dataclass(frozen=True)
class Transfer:
    """How to get some files onto the phone: those to send, and those that have arrived and only have to be compared."""

    send: tuple[Item, ...]
    arrived: tuple[Item, ...]

    @property
    def bytes(self) -> int:
        """How much has to be sent."""
        return sum(item.bytes for item in self.send)


def plan_transfer(items: Iterable[Item], there: Mapping[str, int]) -> Transfer:
    """How to get all of `items` onto a phone that has the files `there` (path to size in bytes)."""
    missing = {item.path: item for item in items if there.get(item.path) != item.bytes}
    arrived = tuple(item for item in missing.values() if there.get(item.part) == item.bytes)
    return Transfer(tuple(item for item in missing.values() if item not in arrived), arrived)


def batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """The items in order, in groups that one command accepts and whose bytes are bounded (but for a single file)."""
    batch: list[Item] = []
    characters = size = 0
    for item in items:
        needs = len(_accept_line(item)) + 1
        if batch and (characters + needs > COMMAND_LIMIT - 1024 or size + item.bytes > _BATCH_BYTES):
            yield batch
            batch, characters, size = [], 0, 0
        batch.append(item)
        characters += needs
        size += item.bytes
    if batch:
        yield batch


def accept_command(home: str, items: Iterable[Item]) -> str:
    """The shell command that renames what is whole, and prints `differs PATH` or `unmoved PATH` for the rest."""
    start = f"cd {shlex.quote(home)} || exit 1; command -v sha256sum >/dev/null || exit {_NO_SHA256SUM}"
    return "\n".join([start, _ACCEPT, *map(_accept_line, items), "exit 0"])


def check_command(home: str, items: Iterable[Item]) -> str:
    """The shell command that removes files which are not as they were pushed, and prints `differs PATH` for each."""
    lines = (f"c {item.path} {item.sha256}" for item in items)
    return "\n".join([f"cd {shlex.quote(home)} || exit 1", _CHECK, *lines, "exit 0"])


def parse_listing(output: str) -> dict[str, int]:
    """Path to size, from lines of `stat -c '%s %n'`; lines of another form are no files."""
    return {found[2]: int(found[1]) for line in output.splitlines() if (found := _LISTED.fullmatch(line.strip()))}


def parse_free(output: str) -> int | None:
    """The free bytes, from what `df -k FOLDER` printed (toybox, coreutils, busybox); None: it does not say."""
    found = _FREE.search(output.partition("\n")[2])
    return int(found[1]) * 1024 if found else None


class Store:
    """The folder `home` on the phone behind a transport. What it holds is asked once, and again after an error.

    `files` counts what has arrived since this object was made.
    """

    def __init__(self, transport: Transport, home: str, observer: Observer) -> None:
        self.home = home
        self.files = 0
        self._transport = transport
        self._observer = observer
        self._there: dict[str, int] | None = None
        self._used: set[str] = set()  # files that this object has pushed or touched
        self._private: set[str] = set()  # private files that this object has pushed, or has begun to push

    def put(self, items: Sequence[Item]) -> int:
        """Have all of `items` on the phone; returns how many bytes were sent.

        Raises DeviceError when there is not enough space, before anything is sent, and when a file arrives damaged
        again and again; ConnectionLost when the phone is gone: call it again then.
        """
        sent = 0
        try:
            for _ in range(_ATTEMPTS):
                there = self._listing()
                self._use([item.path for item in items if there.get(item.path) == item.bytes])
                transfer = plan_transfer(items, there)
                if not transfer.send and not transfer.arrived:
                    return sent
                self._prepare(transfer)
                sent += transfer.bytes
                if not self._transfer(transfer):
                    return sent
                self._there = None  # once more, for what did not arrive as it was sent
        except BaseException:
            self._there = None
            raise
        self._there = None
        raise DeviceError(
            f"files arrive damaged at {self._transport.address} ({items[0].path}, …): try another cable or port"
        )

    def mend(self, items: Sequence[Item]) -> int:
        """Compares files on the phone with what they should be, and pushes those that differ or are missing again.

        Returns how many these were. Raises what `put` raises.
        """
        differing = 0
        for batch in batches(items):
            megabytes = sum(item.bytes for item in batch) / 1e6
            result = self._transport.shell(check_command(self.home, batch), 60 + megabytes)
            differing += sum(line.startswith("differs ") for line in result.text.splitlines())
        self._there = None
        self.put(items)
        return differing

    def remove_private(self) -> None:
        """Removes the private files that this object has pushed. Raises ConnectionLost when the phone is gone."""
        while self._private:
            some = [self._private.pop() for _ in range(min(100, len(self._private)))]
            names = shlex.join([name for path in some for name in (path, _part(path))])
            self._there = None
            self._transport.shell(f"cd {shlex.quote(self.home)} 2>/dev/null && rm -f {names}", 30)

    def clean(self) -> None:
        """Removes the folder with all that is in it. Raises DeviceError when it is still there after that."""
        self._there = None
        result = self._transport.shell(f"rm -rf {shlex.quote(self.home)}", 120)
        if result.status:
            raise DeviceError(f"{self.home} cannot be removed from {self._transport.address}: {_line(result)}")

    def _use(self, paths: Iterable[str]) -> None:
        """Marks files that were there before as used today."""
        old = [path for path in paths if path.startswith(_AGING) and path not in self._used]
        if old:
            self._transport.shell(f"cd {shlex.quote(self.home)} && touch -c {shlex.join(old)}", 30)
            self._used.update(old)

    def _transfer(self, transfer: Transfer) -> list[str]:
        """Send, compare and rename; returns what the phone complains of."""
        complaints = []
        for batch in batches(transfer.arrived):
            complaints += self._accept(batch)
        meter = Meter(self._observer, transfer.bytes)
        for batch in batches(transfer.send):
            self._make_folders(batch)
            for item in batch:
                self._transport.push(item.content(), f"{self.home}/{item.part}", meter.within)
                self.files += 1
                meter.add(item.bytes)
            complaints += self._accept(batch)
        return complaints

    def _accept(self, batch: Sequence[Item]) -> list[str]:
        megabytes = sum(item.bytes for item in batch) / 1e6
        result = self._transport.shell(accept_command(self.home, batch), 60 + megabytes)
        complaints = [line for line in result.text.splitlines() if line.startswith(("differs ", "unmoved "))]
        if result.status == _NO_SHA256SUM:
            raise DeviceError(
                f"{self._transport.address} has no sha256sum to compare files with: Android 8 or later is needed"
            )
        if result.status:
            raise DeviceError(f"files cannot be renamed in {self.home} on {self._transport.address}: {_line(result)}")
        assert self._there is not None
        refused = {line.split(" ", 1)[1] for line in complaints}
        arrived = {item.path: item.bytes for item in batch if item.path not in refused}
        self._there |= arrived
        self._used |= arrived.keys()
        return complaints

    def _listing(self) -> dict[str, int]:
        if self._there is None:
            home = shlex.quote(self.home)
            # A file may go while it is listed, when two hosts push; that is no error.
            result = self._transport.shell(
                f"mkdir -p {home} && chmod 700 {home} && cd {home} && mkdir -p {' '.join(FOLDERS)} || exit 1; "
                f"find {' '.join(_AGING)} -type f -mtime +6 -exec rm -f {{}} +; "  # that is 7 days and more
                f"find {' '.join(FOLDERS)} -type f -exec stat -c '%s %n' {{}} + ; exit 0",
                120,
            )
            if result.status:
                raise DeviceError(f"{self.home} cannot be used on {self._transport.address}: {_line(result)}")
            self._there = parse_listing(result.text)
        return self._there

    def _make_folders(self, batch: Iterable[Item]) -> None:
        deeper = sorted({folder for item in batch if (folder := item.path.rpartition("/")[0]) not in FOLDERS})
        if deeper:
            names = " ".join(shlex.quote(f"{self.home}/{folder}") for folder in deeper)
            result = self._transport.shell(f"mkdir -p {names}", 30)
            if result.status:
                raise DeviceError(f"no folder can be made on {self._transport.address}: {_line(result)}")

    def _prepare(self, transfer: Transfer) -> None:
        """Before files are sent: sees that there is space, and that private ones go even when this host is gone."""
        private = [item.path for item in (*transfer.send, *transfer.arrived) if item.path.startswith(_PRIVATE)]
        self._private.update(private)
        needed = transfer.bytes
        if not needed:
            return
        command = f"df -k {shlex.quote(self.home)}"
        if private:
            command = f"{remove_data_later(self.home)}; {command}"
        free = parse_free(self._transport.shell(command, 30).text)
        if free is not None and free < needed + _SPARE_BYTES:
            raise DeviceError(
                f"not enough space on {self._transport.address}: {(needed + _SPARE_BYTES) / 1e6:.0f} MB are needed in "
                f"{self.home} and {free / 1e6:.0f} MB are free; remove something, or what earlier packs left there: "
                f"adaptivenet-profile --device {self._transport.address} --clean"
            )


class Meter:
    """Tells an observer how much of a transfer is done, and how fast it goes, unless it is small."""

    def __init__(self, observer: Observer, total: int) -> None:
        self._observer = observer
        self._total = total
        self._done = 0
        self._begun = time.monotonic()

    def add(self, size: int) -> None:
        """A whole file of `size` bytes has arrived."""
        self._done += size
        self._tell(self._done)

    def within(self, done: int, _total: int) -> None:
        """`done` bytes of the file that is on its way have been sent."""
        if self._done + done < self._total:  # the end of the last file is told when it has arrived
            self._tell(self._done + done)

    def _tell(self, done: int) -> None:
        if self._total >= _TOLD_BYTES:
            rate = done / 1e6 / max(time.monotonic() - self._begun, 1e-3)
            self._observer.progress("push (kB)", round(done / 1e3), round(self._total / 1e3), f"{rate:.1f} MB/s")


def _part(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{PART}{name}"


def _accept_line(item: Item) -> str:
    folder, _, name = item.path.rpartition("/")
    return f"a {folder} {name} {item.sha256} {700 if item.executable else 600}"


def _line(result: ShellResult) -> str:
    return " ".join(result.text.split())[-300:] or f"exit status {result.status}"
