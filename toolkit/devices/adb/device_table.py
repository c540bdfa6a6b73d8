"""The table of `adb devices -l`: reading it, choosing a phone from it, and saying what is wrong with the chosen one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ...errors import DeviceError, NotAuthorized, SeveralDevices
from .address import looks_like_endpoint, unknown_serial

READY = "device"
PASSING = ("unauthorized", "authorizing", "connecting", "offline")
"""States that may become READY while one waits."""

_STATES = "|".join(
    (
        *(READY, *PASSING, "bootloader", "fastbootd", "host", "recovery", "rescue", "sideload", "detached", "unknown"),
        *("no device", "no permissions.*?"),
    )
)
# Where the device is attached comes first: `usb:1-1`, or `3-1` from an adb that uses libusb.
_LINE = re.compile(
    rf"(?P<serial>\S.*?)\s+(?P<state>{_STATES})(?:\s+(?P<path>\d[\w.-]*))?(?P<details>(?:\s+\w+:\S*)*)\s*"
)
_NO_PHONE = (
    "no phone is attached: plug one in with a cable that carries data, switch USB debugging on (Settings, Developer "
    "options), tap Allow; or give tcp:HOST:PORT"
)


@dataclass(frozen=True)
class ListedDevice:
    """One line of the table. `state` is adb's own word.

    `details` has usb (the place on USB), product, model, device and transport_id, as far as adb says them.
    """

    serial: str
    state: str
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The model's name, empty where adb does not know it."""
        return self.details.get("model", "").replace("_", " ")

    @property
    def on_usb(self) -> bool:
        """Whether it hangs on a cable: no emulator, no network."""
        elsewhere = self.serial.startswith("emulator-") or "._tcp" in self.serial or looks_like_endpoint(self.serial)
        return "usb" in self.details or not elsewhere


def parse_devices(text: str) -> list[ListedDevice]:
    """The devices in what `adb devices -l` prints. Lines that do not describe a device are left out: the server may
    print some."""
    found = []
    for line in text.splitlines():
        if line.startswith(("*", "List of devices")):
            continue
        if match := _LINE.fullmatch(line):
            pairs = (word.partition(":") for word in match["details"].split())
            details = {key: value for key, _, value in pairs}
            if match["path"]:
                details["usb"] = match["path"]
            found.append(ListedDevice(match["serial"], match["state"], details))
    return found


def choose(devices: Sequence[ListedDevice], serial: str | None, only_usb: bool = False) -> ListedDevice:
    """The phone with this serial, or the only one (on USB, with `only_usb`), in whatever state it is.

    Raises DeviceError when there is none, SeveralDevices when there are more.
    """
    if serial is not None:
        for device in devices:
            if device.serial == serial:
                return device
        raise unknown_serial(serial, [device.serial for device in devices])
    fitting = [device for device in devices if device.on_usb or not only_usb]
    if not fitting:
        others = [device.serial for device in devices]
        raise DeviceError(_NO_PHONE + (f" (attached, but not on USB: {', '.join(others)})" if others else ""))
    if len(fitting) > 1:
        raise several((device.serial, device.state, device.model, device.serial) for device in fitting)
    return fitting[0]


def several(rows: Iterable[tuple[str, str, str, str]]) -> SeveralDevices:
    """The error for more than one phone, from rows of serial, state, model and address."""
    shown = [
        (serial, state, model or "?", f"--device {shlex.quote(address)}") for serial, state, model, address in rows
    ]
    table = [("SERIAL", "STATE", "MODEL", "CHOOSE WITH"), *shown]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    lines = ["  ".join((*(cell.ljust(width) for cell, width in zip(row, widths)), row[3])) for row in table]
    return SeveralDevices(f"{len(shown)} phones are attached: choose one with --device SERIAL", "\n".join(lines))


def trouble(device: ListedDevice) -> DeviceError | None:
    """Why the phone cannot be used in its state, and what to do; None when it can."""
    name = f"{device.serial} ({device.model})" if device.model else device.serial
    state = device.state
    if state == READY:
        return None
    if state in ("unauthorized", "authorizing"):
        return not_authorized(name)
    if state.startswith("no permissions"):
        return DeviceError(
            f"your user may not open {name} on USB: install the udev rules (on Debian: apt install "
            "android-sdk-platform-tools-common), plug it in again, and restart the adb server that runs"
        )
    if state in ("offline", "connecting"):
        return DeviceError(
            f"{name} is {state}: wake it up, switch its debugging off and on, and plug it in again (or, over the "
            "network, check that it is in this network)"
        )
    return DeviceError(f"{name} is in the state {state!r}: start Android on it")


def not_authorized(name: str) -> NotAuthorized:
    """The error for a phone on which nobody has tapped Allow."""
    return NotAuthorized(
        f"{name} does not allow this computer: unlock its screen, tap Allow in the dialog, and run this again; "
        "without a dialog, switch USB debugging off and on, or revoke its authorizations (Settings, Developer options)"
    )
