"""A phone reached by the adb-shell library: over TCP, or over USB when no adb server holds the phone.

The library connects and authorizes; commands and files go over streams of our own (see `adb_streams`).
"""

from __future__ import annotations

import io
import os
import re
import stat
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from adb_shell import exceptions
from adb_shell.adb_device import AdbDevice

from ...errors import ConnectionLost, DeviceError, NotAuthorized
from .adb_streams import Connection, Stream
from .device_table import not_authorized
from .keys import load_key
from .links import Link, NeedsPairing, TcpLink, UsbLink
from .sync_push import failure, messages
from .transport import PushProgress, Transport

_CONNECT_S = 10.0
_WRITE_S = 120.0  # for a phone to take one megabyte: its storage may still be busy with earlier data
_FILE_MODE = stat.S_IFREG | 0o644


class AdbShellTransport(Transport):
    """A phone reached by the adb-shell library. `connect_tcp` and `connect_usb` make such transports."""

    def __init__(
        self, address: str, way: str, make_link: Callable[[], Link], ask: Callable[[str], None], patience_s: float
    ) -> None:
        self.address = address
        self._way = way
        self._make_link = make_link
        self._ask = ask
        self._patience_s = patience_s
        self._connection: Connection | None = None

    def describe(self) -> str:
        """See `Transport.describe`."""
        model = re.search(rb"ro\.product\.model=([^;]*)", self._connection.link.banner if self._connection else b"")
        name = model.group(1).decode(errors="replace") if model else "a phone"
        return f"{name} {self._way}, by the adb-shell library {version('adb-shell')}"

    def connect(self, explain: Callable[[str], None]) -> None:
        """Connect for the first time.

        Raises NotAuthorized when the phone's owner does not allow it in time, NeedsPairing for wireless debugging of
        Android 11 or later, and DeviceError when nobody answers or what answers is no phone.
        """
        key = load_key(explain)
        link = self._make_link()
        device = AdbDevice(link)

        def ask(_: object) -> None:
            self._ask(
                f"{self.address} asks its owner: unlock its screen and tap Allow (waiting {self._patience_s:.0f} s)"
            )
            asked.append(True)

        asked: list[bool] = []
        try:
            device.connect(
                [key],
                transport_timeout_s=_CONNECT_S,
                auth_timeout_s=self._patience_s,
                read_timeout_s=max(_CONNECT_S, self._patience_s),
                auth_callback=ask,
            )
        except BaseException as error:
            link.close()
            if isinstance(error, NeedsPairing) or not isinstance(error, Exception):
                raise
            raise self._explained(error, bool(asked)) from error
        self._connection = Connection(link)

    def push(self, source: Path | bytes, remote: str, progress: PushProgress | None = None) -> None:
        """See `Transport.push`."""
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb", buffering=0) as file,
            self._stream("sync:", f"a push to {remote}", time.monotonic() + _CONNECT_S) as stream,
        ):
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            reason = self._send(stream, file.readinto, remote, size, progress)
        if reason:
            raise DeviceError(f"{remote} cannot be written on {self.address}: {reason}")

    def _send(
        self,
        stream: Stream,
        readinto: Callable[[memoryview], int | None],
        remote: str,
        size: int,
        progress: PushProgress | None,
    ) -> str | None:
        """Why the phone did not take the file, None when it did."""
        assert self._connection
        done = 0
        for message, count in messages(
            readinto, remote, _FILE_MODE, int(time.time()), self._connection.link.max_payload
        ):
            # While the phone takes one message, the next one is read.
            stream.write(message, time.monotonic() + _WRITE_S)
            done += count
            if stream.has_input or stream.ended:  # the phone has refused the file already: the rest is not sent
                break
            if progress and count:
                progress(done, size)
        answer = b""
        while piece := stream.read(time.monotonic() + _WRITE_S):
            answer += piece
            try:
                return failure(answer)
            except ValueError:
                continue
        raise ConnectionResetError("the phone ended the push without an answer")

    def _execute(self, script: str, what: str, timeout_s: float | None) -> Generator[bytes, None, None]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._stream(f"exec:{script}", what, deadline) as stream:
            while data := stream.read(deadline):
                yield data

    def close(self) -> None:
        """See `Transport.close`."""
        if self._connection:
            self._connection.link.close()
            self._connection = None

    @contextmanager
    def _stream(self, service: str, what: str, deadline: float | None) -> Iterator[Stream]:
        """A stream, which is closed at the end. An error in it ends the connection."""
        if self._connection is None:
            try:
                self.connect(lambda _: None)
            except (DeviceError, NeedsPairing) as error:
                if isinstance(error, NotAuthorized):
                    raise
                raise ConnectionLost(f"{self.address} no longer answers: {error}") from error
        connection = self._connection
        assert connection
        healthy = False
        try:
            stream = connection.open(service, deadline)
            try:
                yield stream
                healthy = True
            except GeneratorExit:  # the reader stops early: the connection can still be used
                healthy = True
                raise
            finally:
                with suppress(OSError):  # the next call notices that the connection is lost
                    stream.close()
        except TimeoutError as error:
            raise ConnectionLost(f"{self.address} did not finish {what} in time") from error
        except ConnectionError as error:
            raise ConnectionLost(
                f"the connection to {self.address} was lost during {what}: {error.strerror or error}"
            ) from error
        finally:
            if not healthy:  # half a message may be on the way
                connection.link.close()
                if self._connection is connection:
                    self._connection = None

    def _explained(self, error: Exception, asked: bool) -> DeviceError:
        """What went wrong while connecting, and what to do."""
        match error:
            case DeviceError():
                return error
            case exceptions.DeviceAuthError():
                return not_authorized(self.address)
            case TimeoutError() | exceptions.AdbTimeoutError() | ConnectionError() if asked:  # no Allow, or Deny
                return not_authorized(self.address)
            case ConnectionRefusedError():
                return DeviceError(
                    f"nobody listens at {self.address}: switch wireless debugging on, or run `adb tcpip 5555` with "
                    "the phone on USB, and check the port"
                )
            case TimeoutError() | exceptions.AdbTimeoutError():
                return DeviceError(
                    f"{self.address} is offline (no answer in {_CONNECT_S:.0f} s): wake the phone up, switch its "
                    "debugging off and on, and check that it is in this network"
                )
            case exceptions.InvalidCommandError() | exceptions.InvalidResponseError() | ConnectionError():
                return DeviceError(f"what listens at {self.address} is not the debugging of a phone: check the port")
            case OSError():
                return DeviceError(f"{self.address} cannot be reached ({error.strerror or error}): check the address")
        if type(error).__module__.startswith("usb1"):
            return DeviceError(
                f"the phone on USB cannot be opened ({error}): an adb server or another program may hold it (then use "
                "adb:), or your user may not open it (on Debian: apt install android-sdk-platform-tools-common)"
            )
        return DeviceError(f"{self.address} cannot be used: {error!r}")


def connect_tcp(
    address: str, host: str, port: int, explain: Callable[[str], None], ask: Callable[[str], None], patience_s: float
) -> AdbShellTransport:
    """The phone at host and port. See `AdbShellTransport.connect` for what is raised."""
    transport = AdbShellTransport(address, f"at {host} port {port}", lambda: TcpLink(host, port), ask, patience_s)
    transport.connect(explain)
    return transport


def connect_usb(
    address: str, serial: str | None, explain: Callable[[str], None], ask: Callable[[str], None], patience_s: float
) -> AdbShellTransport:
    """The phone on USB with this serial, or the only one. See `AdbShellTransport.connect` for what is raised."""
    way = f"on USB{f' (serial {serial})' if serial else ''}"
    transport = AdbShellTransport(address, way, lambda: UsbLink(serial), ask, patience_s)
    transport.connect(explain)
    return transport
