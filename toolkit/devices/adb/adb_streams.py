"""Streams to the services of adbd, over a connection that the adb-shell library has opened and authorized.

The library has no public way to open a service as a stream. Its own `push` and `streaming_shell` lose an early error of
the phone, never close a stream, and sum every byte in Python. This module has the part of the ADB protocol that is
needed instead (AOSP, packages/modules/adb/protocol.txt): OPEN, OKAY, WRTE, CLSE. A stream waits for the answer to one
write before it sends the next.
"""

from __future__ import annotations

import struct
from collections import deque

import numpy as np

from .links import Link

_HEADER = struct.Struct("<4s5I")
_LARGEST_PAYLOAD = 1 << 20  # of any adbd; an incoming message that claims to be longer is refused


class Connection:
    """The streams of one connection. Any OSError leaves it unusable: close the link."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._streams: dict[int, Stream] = {}
        self._last_id = 0

    def open(self, service: str, deadline: float | None) -> Stream:
        """A stream to a service such as `exec:id`. Raises OSError; ConnectionRefusedError when adbd has no such."""
        self._last_id += 1
        stream = self._streams[self._last_id] = Stream(self, self._last_id)
        self.send(b"OPEN", stream.id, 0, service.encode() + b"\0")
        stream.wait_writable(deadline)
        if stream.ended:
            raise ConnectionRefusedError(f"the phone has no service {service[:40]!r}")
        return stream

    def forget(self, stream: Stream) -> None:
        """Ignore all further messages for `stream`."""
        self._streams.pop(stream.id, None)

    def send(self, command: bytes, local: int, remote: int, data: bytes | memoryview = b"") -> None:
        """Send one message."""
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        # Phones before Android 9 check the sum. The library says that we speak that version of the protocol.
        total = int(np.frombuffer(data, np.uint8).sum(dtype=np.uint32)) if data else 0
        self.link.write(_HEADER.pack(command, local, remote, len(data), total, magic))
        if data:
            self.link.write(data)

    def receive(self, deadline: float | None) -> None:
        """Wait for one message and give it to its stream."""
        command, remote, local, length, _, _ = _HEADER.unpack(self.link.read(_HEADER.size, deadline))
        if command not in (b"OKAY", b"WRTE", b"CLSE") or length > _LARGEST_PAYLOAD:
            raise ConnectionResetError(f"the phone sent {command!r} in the middle of a connection")
        data = self.link.read(length, deadline) if length else b""
        if stream := self._streams.get(local):
            stream.take(command, remote, data)


class Stream:
    """One stream. `ended` says that the phone has closed it; what it sent before can still be read."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.id = number
        self.ended = False
        self._connection = connection
        self._remote = 0
        self._writable = False
        self._incoming: deque[bytes] = deque()

    def take(self, command: bytes, remote: int, data: bytes) -> None:
        """A message has come."""
        match command:
            case b"OKAY":
                self._remote, self._writable = remote, True
            case b"WRTE":
                self._incoming.append(data)
            case b"CLSE":
                self.ended = True
                self._connection.forget(self)

    @property
    def has_input(self) -> bool:
        """Whether there is something to read already."""
        return bool(self._incoming)

    def wait_writable(self, deadline: float | None) -> None:
        """Wait until the phone has taken what was written, or has closed the stream."""
        while not self._writable and not self.ended:
            self._connection.receive(deadline)

    def write(self, data: bytes | memoryview, deadline: float | None) -> None:
        """Send `data` (at most the link's `max_payload`), once the phone has taken what was written before; nothing is
        sent when the phone has closed the stream."""
        self.wait_writable(deadline)
        if not self.ended:
            self._writable = False
            self._connection.send(b"WRTE", self.id, self._remote, data)

    def read(self, deadline: float | None) -> bytes:
        """The next bytes, or none at the end of the stream."""
        while not self._incoming and not self.ended:
            self._connection.receive(deadline)
        if not self._incoming:
            return b""
        data = self._incoming.popleft()
        if not self.ended:
            self._connection.send(b"OKAY", self.id, self._remote)
        return data

    def close(self) -> None:
        """Close the stream on the phone, too. Closing twice is harmless."""
        if not self.ended:
            self.ended = True
            self._connection.forget(self)
            self._connection.send(b"CLSE", self.id, self._remote)
