"""A pack in one file: an uncompressed tar archive of its folder, as docs/pack.md says. This module reads it.

Only what tar itself writes of a pack is taken: regular files, in the format ustar, with the names of a pack's files.
android_runner/core/archive.cpp makes the same checks.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import PackError
from .manifest import MANIFEST

_BLOCK = 512
_EMPTY = bytes(_BLOCK)
_MOST_PADDING = 1 << 20  # bytes after the last entry; tar writes 10 KiB at most
_FILE = re.compile(rf"{re.escape(MANIFEST)}|blobs/[0-9a-f]{{64}}\.(pte|onnx)")
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_POSIX, _GNU = b"ustar\00000", b"ustar  \0"
_AGAIN = "; make it again as docs/pack.md says"


class Archive:
    """The files of the archive at `path`, by the names that they have in a pack.

    Its headers are read and checked when it is made, nothing of what the files hold. Raises PackError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, tuple[int, int]] = {}  # where a file begins, and how many bytes it has
        with self._reading() as stream:
            end = os.fstat(stream.fileno()).st_size
            for name, begin, size in _entries(stream, end):
                if name in self._files:
                    raise PackError(f"the archive has {name} twice{_AGAIN}")
                self._files[name] = begin, size
            if end - stream.tell() > _MOST_PADDING or any(stream.read()):
                raise PackError(f"the archive goes on after its end{_AGAIN}")

    def open(self, name: str) -> tuple[BinaryIO, int]:
        """A file, in memory, and its size in bytes. Raises PackError for one that is not there."""
        if name not in self._files:
            raise PackError(f"{name} is missing in the archive{_AGAIN}")
        begin, size = self._files[name]
        with self._reading() as stream:
            stream.seek(begin)
            return io.BytesIO(stream.read(size)), size

    @contextmanager
    def _reading(self) -> Iterator[BinaryIO]:
        try:
            with open(self._path, "rb") as stream:
                yield stream
        except OSError as error:
            raise PackError(f"the archive cannot be read: {error.strerror}") from error


def _entries(stream: BinaryIO, end: int) -> Iterator[tuple[str, int, int]]:
    """The name, the first byte and the size of every file; the stream is behind the first empty header then."""
    while True:
        at = stream.tell()
        header = stream.read(_BLOCK)
        if len(header) < _BLOCK:
            raise PackError(f"the archive is cut off{_AGAIN}")
        if header == _EMPTY:
            return
        name, size = _read_header(header, at)
        behind = at + _BLOCK + -(-size // _BLOCK) * _BLOCK
        if behind > end:
            raise PackError(f"the archive ends before the end of {name}{_AGAIN}")
        if name:
            yield name, at + _BLOCK, size
        stream.seek(behind)


def _read_header(header: bytes, at: int) -> tuple[str, int]:
    """The name of an entry, "" for a folder, and its size."""
    if _octal(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        if at == 0:
            raise PackError(f"it is neither a folder that holds {MANIFEST} nor a tar archive of one")
        raise PackError(f"the archive is damaged at byte {at}{_AGAIN}")
    if header[257:265] not in (_POSIX, _GNU):
        raise PackError(f"the archive has an entry at byte {at} that is not of the format ustar{_AGAIN}")
    size = _octal(header[124:136])
    if size is None:
        raise PackError(f"the archive has an entry at byte {at} whose size is no number{_AGAIN}")
    name = header[:100].split(b"\0", 1)[0].decode("latin-1").removeprefix("./")
    kind = header[156:157]
    if kind == b"5" and size == 0 and name in ("", "blobs/"):
        return "", 0
    if kind not in (b"0", b"\0"):
        raise PackError(f"the archive has {name!r}, which is no file; a pack holds regular files only{_AGAIN}")
    # With a prefix, as tar gives to long names, it would be another name.
    prefixed = header[257:265] == _POSIX and header[345] != 0
    if prefixed or not _FILE.fullmatch(name):
        raise PackError(f"the archive has {name!r}, which is no file of a pack{_AGAIN}")
    return name, size


def _octal(field: bytes) -> int | None:
    match = _OCTAL.fullmatch(field)
    return int(match[1], 8) if match else None
