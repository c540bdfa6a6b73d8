"""The addresses of phones, as people type them.

SERIAL                  as `adb devices` shows it, host:port of `adb connect` included
usb                     the phone on USB
tcp:HOST[:PORT]         a phone that listens on TCP (port 5555)
adb, adb:SERIAL         the same, forced through the user's adb program; alone, the only phone
adb-shell:HOST:PORT, adb-shell:SERIAL, adb-shell:usb    forced through the adb-shell library; the latter two on USB
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ...errors import DeviceError

DEFAULT_PORT = 5555
FORMS = "a serial, usb, tcp:HOST:PORT, adb:SERIAL, adb-shell:HOST:PORT or local"
_SCHEMES = ("tcp", "usb", "adb", "adb-shell")
_WORDS = ("usb", "adb", "adb-shell", "local", "local:executorch", "local:onnxruntime")


@dataclass(frozen=True)
class Address:
    """An address taken apart: by which program, and where. `serial` and `host` None: the only phone there is."""

    text: str
    program: Literal["any", "adb", "adb-shell"]
    serial: str | None = None
    host: str | None = None
    port: int = DEFAULT_PORT
    usb: bool = False

    @property
    def endpoint(self) -> str:
        """Host and port as `adb devices` shows them."""
        return f"[{self.host}]:{self.port}" if self.host and ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Take an address apart. Raises DeviceError, with what may have been meant, for one that cannot be one."""
    scheme, colon, rest = text.partition(":")
    if not text.strip() or text != text.strip() or not text.isprintable():
        raise DeviceError(f"{text!r} is no address of a device: give {FORMS}")
    if scheme == "usb" and not rest:
        return Address(text, "any", usb=True)
    if scheme == "tcp" and colon:
        host, port = parse_endpoint(rest, text)
        return Address(text, "any", host=host, port=port)
    if scheme == "adb":
        return Address(text, "adb", serial=rest.removeprefix("tcp:") or None)
    if scheme == "adb-shell":
        if rest in ("", "usb"):
            return Address(text, "adb-shell", usb=True)
        if ":" not in rest:
            return Address(text, "adb-shell", serial=rest, usb=True)
        host, port = parse_endpoint(rest.removeprefix("tcp:"), text)
        return Address(text, "adb-shell", host=host, port=port)
    if scheme == "tcp":
        raise DeviceError("'tcp' lacks the host and the port: write tcp:HOST:PORT")
    if colon and not looks_like_endpoint(text):
        if scheme == "usb":
            near = [f"adb-shell:{rest}", rest]
        else:
            near = [f"{word}:{rest}" for word in difflib.get_close_matches(scheme.lower(), _SCHEMES, n=1)]
        if near:
            raise DeviceError(f"{text!r} is no address of a device{_did_you_mean(near)}: give {FORMS}")
    if text.isalpha() and (near := difflib.get_close_matches(text.lower(), _WORDS, n=1, cutoff=0.75)):
        # No phone has such a serial, and asking adb for it would start a server.
        raise DeviceError(f"{text!r} is no address of a device{_did_you_mean(near)}: give {FORMS}")
    return Address(text, "any", serial=text)


def parse_endpoint(text: str, address: str) -> tuple[str, int]:
    """Host and port from HOST, HOST:PORT, [IPV6] or [IPV6]:PORT. Raises DeviceError, which names `address`."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:\[\]\s/@]+))(?::(\d{1,5}))?", text)
    if not match or (not match[1] and match[2].isdigit()) or not 0 < int(match[3] or DEFAULT_PORT) < 65536:
        raise DeviceError(f"{address!r} has no host and port: write tcp:HOST:PORT, like tcp:192.168.1.20:5555")
    return match[1] or match[2], int(match[3] or DEFAULT_PORT)


def looks_like_endpoint(serial: str) -> bool:
    """Whether a serial is host:port, which is what `adb connect` makes."""
    return re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^:\[\]\s/@]+):\d{1,5}", serial) is not None


def unknown_serial(serial: str, known: Iterable[str]) -> DeviceError:
    """The error for a serial that no attached phone has, with what may have been meant."""
    known = list(known)
    near = [f"tcp:{serial}"] if looks_like_endpoint(serial) else []
    near += difflib.get_close_matches(serial, [*known, *_WORDS], n=2, cutoff=0.7)
    attached = f"attached: {', '.join(known)}" if known else "none is attached"
    return DeviceError(
        f"no phone has the serial {serial!r} ({attached}){_did_you_mean(near)}: plug it in, switch USB debugging on, "
        f"or give {FORMS}"
    )


def _did_you_mean(near: list[str]) -> str:
    return f", did you mean {' or '.join(near)}?" if near else ""
