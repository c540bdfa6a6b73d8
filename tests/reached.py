"""A virtual phone that is reached in one of both ways, as a device."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from adaptivenet.toolkit.devices.adb.discovery import find_phone
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.devices.phone.device import PhoneDevice
from adaptivenet.toolkit.pack.pack import BlockPack
from phones import WAYS, VirtualPhone
from runners import Told, bundle_for

both_ways = pytest.mark.parametrize("way", WAYS)


class Phone:
    """A virtual phone of this computer's architecture, and the way to it."""

    def __init__(self, new_phone: Callable[..., VirtualPhone], way: str, *options: str) -> None:
        bundle_for("x86_64")
        self.virtual = new_phone(*options)
        self.address = f"{way}:{self.virtual.endpoint}"
        self.told = Told()

    def connect(self, observer: Told | None = None, **options: Any) -> PhoneDevice:
        return PhoneDevice(find_phone(self.address), observer=observer or self.told, **{"idle_s": 20, **options})

    def open(self, pack: BlockPack) -> tuple[PhoneDevice, Session, int]:
        """The phone connected, the pack open on it, and the runner's process."""
        device = self.connect()
        return device, device.open(pack), int(device.calls("info")["pid"])

    def kill_adbd(self, start_after_s: float = 1.0) -> None:
        """Kill adbd, and nothing else; it starts again a little later."""
        os.kill(self.virtual.adbd, signal.SIGKILL)

        def start() -> None:
            time.sleep(start_after_s)
            self.virtual.await_end()
            self.virtual.start()

        self.starting = threading.Thread(target=start)
        self.starting.start()
