"""The bytes of one ADB connection: transports of our own for the adb-shell library, over TCP and over USB.

The library's own TCP transport sends only as many bytes of a message as the socket takes at that moment, is slowed down
by Nagle's algorithm, and takes a closed connection for a slow one. The links here send every message completely and at
once. They raise TimeoutError when the phone is silent, and ConnectionError when it has closed the connection. They also
keep what the phone says in its greeting, which the library reads and does not give to its callers.
"""

from __future__ import annotations

import socket
import struct
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adb_shell.transport.base_transport import BaseTransport

from ...errors import DeviceError

_WRITE_PATIENCE_S = 30.0  # during which not a single byte was sent
_USB_SLICE_S = 0.5  # libusb cannot be interrupted, so it waits no longer than this at a time
_HEADER_BYTES = 24


class NeedsPairing(Exception):
    """The phone wants TLS: wireless debugging of Android 11 or later, which the adb-shell library does not speak."""


class Link(BaseTransport):  # type: ignore[misc]  # the library has no types
    """A connection's bytes. `max_payload` and `banner` are what the phone's greeting says."""

    def __init__(self) -> None:
        self.max_payload = 4096
        self.banner = b""
        self._greeted = False

    def read(self, count: int, deadline: float | None) -> bytes:
        """Exactly `count` bytes. Raises TimeoutError at `deadline` (of time.monotonic), ConnectionError at the end."""
        parts = bytearray()
        while len(parts) < count:
            parts += self._receive(count - len(parts), deadline)
        return bytes(parts)

    def write(self, data: bytes | memoryview) -> None:
        """Send all of `data`. Raises TimeoutError when none of it is taken for half a minute, or ConnectionError."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._transmit(rest) :]

    @abstractmethod
    def _receive(self, count: int, deadline: float | None) -> bytes:
        """At least one and at most `count` bytes."""

    @abstractmethod
    def _transmit(self, data: memoryview) -> int:
        """Send the beginning of `data` and return how much that was."""

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """The library's name for `read`, used by it while it connects."""
        data = self.read(numbytes, None if transport_timeout_s is None else time.monotonic() + transport_timeout_s)
        if self._greeted and not self.banner:
            self.banner = data
        elif len(data) == _HEADER_BYTES and data[:4] == b"CNXN":
            self._greeted = True
            self.max_payload = min(max(struct.unpack_from("<I", data, 8)[0], 4096), 1 << 20)
        elif len(data) == _HEADER_BYTES and data[:4] == b"STLS":
            raise NeedsPairing
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        """The library's name for `write`."""
        self.write(data)
        return len(data)


class TcpLink(Link):
    """A TCP connection. A phone that vanishes without a word is noticed after some ten seconds."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._host, self._port = host, port
        self._socket: socket.socket | None = None

    def connect(self, transport_timeout_s: float | None) -> None:
        """Raises OSError."""
        self._socket = socket.create_connection((self._host, self._port), timeout=transport_timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 4), ("TCP_KEEPALIVE", 4), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def close(self) -> None:
        """Closing twice is harmless."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _receive(self, count: int, deadline: float | None) -> bytes:
        connection = self._connected()
        connection.settimeout(_left(deadline))
        with _as_lost():
            data = connection.recv(count)
        if not data:
            raise ConnectionResetError("the phone closed the connection")
        return data

    def _transmit(self, data: memoryview) -> int:
        connection = self._connected()
        connection.settimeout(_WRITE_PATIENCE_S)
        with _as_lost():
            return connection.send(data)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionResetError("the connection is closed")
        return self._socket


class UsbLink(Link):
    """A phone on USB, through the library's own transport, which needs libusb."""

    def __init__(self, serial: str | None = None) -> None:
        super().__init__()
        self._usb = _find_usb(serial)

    def connect(self, transport_timeout_s: float | None) -> None:
        """Claims the phone's ADB interface. Raises usb1.USBError, for one when an adb server holds it."""
        self._usb.connect(transport_timeout_s)

    def close(self) -> None:
        """Closing twice is harmless."""
        self._usb.close()

    def _receive(self, count: int, deadline: float | None) -> bytes:
        from adb_shell.exceptions import UsbReadFailedError

        while True:
            left = _left(deadline)
            try:
                return bytes(self._usb.bulk_read(count, _USB_SLICE_S if left is None else min(left, _USB_SLICE_S)))
            except UsbReadFailedError as error:
                if not _is_timeout(error):
                    raise ConnectionResetError(str(error)) from error
                if partial := bytes(getattr(error.usb_error, "received", b"")):
                    return partial

    def _transmit(self, data: memoryview) -> int:
        from adb_shell.exceptions import UsbWriteFailedError

        try:
            return int(self._usb.bulk_write(bytes(data), _WRITE_PATIENCE_S))
        except UsbWriteFailedError as error:
            raise ConnectionResetError(str(error)) from error


def usb_serials() -> list[str]:
    """The serials of the phones on USB that offer ADB. Raises DeviceError where libusb is missing."""
    return [phone.serial_number for phone in _usb_transport().find_all_adb_devices()]


def _find_usb(serial: str | None) -> Any:
    from adb_shell.exceptions import UsbDeviceNotFoundError

    try:
        return _usb_transport().find_adb(serial)
    except UsbDeviceNotFoundError as error:
        raise DeviceError(f"no phone on USB{f' has the serial {serial!r}' if serial else ''}") from error


def _usb_transport() -> Any:
    try:
        from adb_shell.transport.usb_transport import UsbTransport
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"USB without the adb program needs libusb ({error}): pip install 'adb-shell[usb]', and libusb-1.0 of "
            "your system; or install the adb program"
        ) from error
    return UsbTransport


@contextmanager
def _as_lost() -> Iterator[None]:
    """Makes a ConnectionError of the system's errors, such as no route to the host. A socket's own timeout has no
    number; the system's, after keep-alives without an answer, has one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError):
            raise
        raise ConnectionResetError(error.errno, error.strerror) from error


def _is_timeout(error: Any) -> bool:
    return type(error.usb_error).__name__ == "USBErrorTimeout"


def _left(deadline: float | None) -> float | None:
    """The seconds until `deadline`. Raises TimeoutError when there are none."""
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the phone does not answer")
    return left
