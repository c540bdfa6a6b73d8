"""Folders of the form that /sys/class/powercap and /sys/class/power_supply have, with what tells of energy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

RAPL, SUPPLIES = "sys/class/powercap", "sys/class/power_supply"
RANGE_UJ = 262143328850  # as processors of Intel have it


def write(root: Path, folder: str, **files: object) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / folder / name).write_text(f"{text}\n")


def with_rapl(root: Path) -> None:
    """As on a server with two packages: the control type, zones, and zones within them."""
    write(root, f"{RAPL}/intel-rapl", enabled=1)
    for number, name in (("0", "package-0"), ("0:0", "core"), ("0:1", "dram"), ("1", "package-1"), ("2", "psys")):
        files = {"name": name, "energy_uj": 5, "max_energy_range_uj": RANGE_UJ}
        write(root, f"{RAPL}/intel-rapl:{number}", **files)
    write(root, f"{RAPL}/intel-rapl-mmio:0", name="package-0", energy_uj=5, max_energy_range_uj=RANGE_UJ)


def with_battery(root: Path, status: str) -> None:
    write(root, f"{SUPPLIES}/usb", type="USB", online=0, current_now=0, voltage_now=0)
    write(root, f"{SUPPLIES}/pen", type="Battery", scope="Device", status="Charging", current_now=1, voltage_now=1)
    write(root, f"{SUPPLIES}/battery", type="Battery", status=status, current_now=-350000, voltage_now=3900000)


@contextmanager
def counting(root: Path, watts: float, clock: Callable[[], float]) -> Iterator[None]:
    """A package whose counter goes on by so many watts of a clock, and begins anew after half a second of it."""
    write(root, f"{RAPL}/intel-rapl:0", name="package-0", max_energy_range_uj=int(watts * 5e5))
    path, done = root / RAPL / "intel-rapl:0" / "energy_uj", threading.Event()

    def count() -> None:
        whole = path.with_suffix(".new")
        while True:
            whole.write_text(f"{int(1e6 * watts * clock()) % int(watts * 5e5)}\n")
            whole.replace(path)  # the kernel never shows a half of it
            if done.wait(0.005):
                return

    counter = threading.Thread(target=count)
    counter.start()
    try:
        while not path.exists():
            time.sleep(0.01)
        yield
    finally:
        done.set()
        counter.join()
