"""The part of ADB's sync protocol that pushes a file (AOSP, packages/modules/adb/SYNC.TXT): SEND, DATA, DONE, FAIL.

Pure: what is to be written to the `sync:` service, and what its answer means.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

_CHUNK_BYTES = 1 << 16  # the most that one DATA may hold
_PREFIX = struct.Struct("<4sI")


def messages(
    readinto: Callable[[memoryview], int | None], remote: str, mode: int, mtime: int, max_payload: int
) -> Iterator[tuple[memoryview, int]]:
    """What to write, in pieces of at most `max_payload` bytes, each with the bytes of the file it holds.

    `readinto` puts the next bytes of the file into a buffer and gives their number, 0 at the end. A piece is in a
    buffer that is used again for the next one.
    """
    target = f"{remote},{mode}".encode()
    yield memoryview(_PREFIX.pack(b"SEND", len(target)) + target), 0
    buffer = memoryview(bytearray(max_payload))
    used = held = 0
    while True:
        room = min(_CHUNK_BYTES, max_payload - used - _PREFIX.size)
        count = readinto(buffer[used + _PREFIX.size :][:room]) or 0
        if count:
            _PREFIX.pack_into(buffer, used, b"DATA", count)
            used += _PREFIX.size + count
            held += count
        if held and (not count or max_payload - used <= _PREFIX.size):
            yield buffer[:used], held
            used = held = 0
        if not count:
            break
    yield memoryview(_PREFIX.pack(b"DONE", mtime)), 0


def failure(answer: bytes) -> str | None:
    """Why the phone did not take the file, None when it did. Raises ValueError while the answer is not whole."""
    if len(answer) < _PREFIX.size:
        raise ValueError("not whole")
    kind, length = _PREFIX.unpack_from(answer)
    if kind == b"OKAY":
        return None
    if kind != b"FAIL":
        return f"its answer is {answer[:16]!r}"
    if len(answer) < _PREFIX.size + length:
        raise ValueError("not whole")
    return bytes(answer[_PREFIX.size : _PREFIX.size + length]).decode(errors="replace").strip() or "it does not say why"
