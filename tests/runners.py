"""Runners for tests: that of this computer and that of a phone, where they are built, and what may happen to them."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import pytest
from adaptivenet.toolkit.devices.base import Log
from adaptivenet.toolkit.devices.phone.runner_bundle import Bundle, find_bundle, presets_for
from adaptivenet.toolkit.errors import DeviceError


def bundle_for(android_abi: str) -> Bundle:
    """The runner for an Android phone, or for this computer (""). Skips the test where it is not built."""
    machine = "aarch64" if android_abi == "arm64-v8a" else platform.machine()
    try:
        return find_bundle(presets_for(android_abi, machine, platform.machine()))
    except DeviceError as error:
        pytest.skip(str(error))


class Told(Log):
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.explained: list[str] = []
        self.done: list[tuple[str, int, int, str]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def explain(self, text: str) -> None:
        self.explained.append(text)

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.done.append((stage, done, total, note))


def ended(pid: Any) -> bool:
    """Whether a process is gone, or waits for its parent to notice."""
    try:
        with open(f"/proc/{int(pid)}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(holds: Callable[[], bool], seconds: float = 100) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
