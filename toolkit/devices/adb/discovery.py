"""Finds the phone at an address, and the way to reach it; every choice is explained."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ...errors import DeviceError, NotAuthorized
from .adb_program import AdbProgram, find_adb, refuse_other_version, server_address, server_version
from .adb_program_transport import AdbProgramTransport
from .address import Address, looks_like_endpoint, parse_address
from .device_table import PASSING, READY, ListedDevice, choose, several, trouble
from .transport import Transport

Explain = Callable[[str], None]
"""Called with one line of text."""

_OFFLINE_S = 5.0  # a phone that was just plugged in is offline for a moment
_NO_ADB = (
    "there is no adb program in ANDROID_HOME, in ANDROID_SDK_ROOT or on PATH: install Android's platform-tools (on "
    "Debian: apt install adb)"
)


def find_phone(
    address: str, explain: Explain = lambda line: None, ask: Explain | None = None, patience_s: float = 20.0
) -> Transport:
    """The phone at `address` (see the module `address`), connected.

    `explain` gets every choice, a line each, for --verbose; `ask` gets what a person must do now (tap Allow on the
    phone), by default the same as `explain`. A phone that is not authorized is waited for during `patience_s` seconds.

    Raises DeviceError, each time with what to do: NotAuthorized; SeveralDevices with a table; others for no phone, an
    address that is none, a phone that is offline, no adb program, or one that does not fit the server that runs.
    """
    wanted = parse_address(address)
    search = _Search(wanted, explain, ask or explain, patience_s)
    if wanted.program == "adb":
        phone = search.by_adb(search.needed_adb())
    elif wanted.program == "adb-shell":
        phone = search.by_library()
    elif wanted.host is not None:
        phone = search.over_tcp()
    else:
        phone = search.attached()
    explain(f"phone: {phone.describe()}")
    return phone


class _Search:
    """One search: the address, and the functions that are told about it."""

    def __init__(self, wanted: Address, explain: Explain, ask: Explain, patience_s: float) -> None:
        self.wanted = wanted
        self.explain = explain
        self.ask = ask
        self.patience_s = patience_s
        self.server = server_address(os.environ)
        self.running = server_version(os.environ)
        runs = "no server runs" if self.running is None else f"a server of version {self.running} runs"
        explain(f"adb server: {runs} at {self.server}")

    def needed_adb(self) -> AdbProgram:
        """The adb program. Raises DeviceError when there is none, or it does not fit the server."""
        program = self._find_adb()
        if program is None:
            raise self._no_adb()
        refuse_other_version(program, self.running, self.server)
        return program

    def _find_adb(self) -> AdbProgram | None:
        self._broken: list[str] = []
        return find_adb(os.environ, self.explain, self._broken.append)

    def _no_adb(self, further: str = "") -> DeviceError:
        """The error for no adb program that works, after `_find_adb`."""
        return DeviceError((f"no adb program works: {'; '.join(self._broken)}" if self._broken else _NO_ADB) + further)

    def over_tcp(self) -> Transport:
        """tcp: the library, unless the adb server has this phone already or the phone wants what only adb speaks."""
        from .links import NeedsPairing

        endpoint = self.wanted.endpoint
        if self.running is not None and (program := self._find_adb()):
            if program.protocol != self.running:
                self.explain("not by adb: its version does not fit the server")
            elif any(device.serial == endpoint and device.state == READY for device in program.devices()):
                self.explain(f"by adb: its server is connected to {endpoint} already")
                return self.by_adb(program, endpoint)
        try:
            self.explain(f"by the adb-shell library: the adb server is not connected to {endpoint}")
            return self.by_library()
        except NeedsPairing:
            self.explain(f"by adb: {endpoint} wants TLS (wireless debugging), which the adb-shell library lacks")
        return self.by_adb(self.needed_adb(), endpoint)

    def attached(self) -> Transport:
        """A serial, or `usb`: adb where there is one (for `usb`, where its server runs), otherwise the library."""
        if self.wanted.usb and self.running is None:
            self.explain("by the adb-shell library: no adb server holds the phone")
            return self.by_library()
        program = self._find_adb()
        if program is None:
            serial = self.wanted.serial
            if self.running is not None or (serial and looks_like_endpoint(serial)):
                raise self._no_adb(f"; or give tcp:{serial}" if serial and ":" in serial else "")
            self.explain("by the adb-shell library on USB: there is no adb program")
            try:
                return self.by_library()
            except DeviceError as error:
                if type(error) is not DeviceError or not self._broken:
                    raise
                raise self._no_adb(f"; and without one, {error}") from error
        refuse_other_version(program, self.running, self.server)
        self.explain("by adb: it knows the phones by their serials")
        return self.by_adb(program)

    def by_library(self) -> Transport:
        """The adb-shell library, over TCP or USB. Raises NeedsPairing where adb may be tried instead."""
        from .adb_shell_transport import connect_tcp, connect_usb
        from .links import NeedsPairing, usb_serials

        wanted = self.wanted
        if wanted.host is not None:
            try:
                return connect_tcp(wanted.text, wanted.host, wanted.port, self.explain, self.ask, self.patience_s)
            except NeedsPairing as error:
                if wanted.program == "any":
                    raise
                raise DeviceError(
                    f"{wanted.endpoint} wants TLS (wireless debugging), which the adb-shell library lacks: give "
                    f"adb:{wanted.endpoint}, after `adb pair`"
                ) from error
        serials = usb_serials()
        if wanted.serial is None and len(serials) > 1:
            raise several((serial, "on USB", "", f"adb-shell:{serial}") for serial in serials)
        if not serials or (wanted.serial is not None and wanted.serial not in serials):
            choose([ListedDevice(serial, READY) for serial in serials], wanted.serial)  # raises what fits
        return connect_usb(wanted.text, wanted.serial, self.explain, self.ask, self.patience_s)

    def by_adb(self, program: AdbProgram, serial: str | None = None) -> Transport:
        """The adb program; a phone in the network that it does not know is connected to first."""
        wanted = self.wanted
        serial = serial or wanted.serial
        if serial is None and (serial := os.environ.get("ANDROID_SERIAL")):
            self.explain(f"serial: {serial}, from ANDROID_SERIAL")
        devices = program.devices()
        if serial and looks_like_endpoint(serial) and (wanted.program == "adb" or wanted.host is not None):
            state = next((device.state for device in devices if device.serial == serial), None)
            if state is None or state == "offline":
                self.explain(f"adb connect {serial}" + (f", which is {state}" if state else ""))
                program.reconnect(serial)
                devices = program.devices()
        device = self._settle(program, choose(devices, serial, wanted.usb))
        return AdbProgramTransport(wanted.text, program, device)

    def _settle(self, program: AdbProgram, device: ListedDevice) -> ListedDevice:
        """The phone, ready. Waits for one that may become so. Raises DeviceError when it does not."""
        begun, asked = time.monotonic(), False
        while (problem := trouble(device)) is not None:
            denied = isinstance(problem, NotAuthorized)
            if denied and not asked:
                self.ask(
                    f"{device.serial} asks its owner: unlock its screen and tap Allow (waiting {self.patience_s:.0f} s)"
                )
                asked = True
            patience = self.patience_s if denied else min(self.patience_s, _OFFLINE_S)
            if device.state not in PASSING or time.monotonic() - begun >= patience:
                raise problem
            time.sleep(0.5)
            device = choose(program.devices(), device.serial)
        return device
