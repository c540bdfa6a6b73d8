"""Reads a Linux device's sensors for the controller. Where one does not exist, it says nothing: on macOS none does.

Memory is `MemAvailable` of /proc/meminfo, its pressure `some avg10` of /proc/pressure/memory (Documentation/accounting/
psi.rst). The temperature is of the thermal zone that is closest to where its first passive trip point makes the kernel
slow something down (Documentation/driver-api/thermal/sysfs-api.rst); zones that have none tell nothing of throttling.
The battery is the system's (Documentation/ABI/testing/sysfs-class-power), not that of a mouse.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .decision import Signals

_KIB_A_MB = 1e6 / 1024
_CHARGED = ("Charging", "Full")  # of those that a battery's status can have


def read_signals(root: str | Path = "/") -> Signals:
    """What the sensors say now; it takes a millisecond or so. `root` has the folders proc and sys."""
    root = Path(root)
    celsius, throttles_at = _hottest(root / "sys/class/thermal")
    battery, charging = _battery(root / "sys/class/power_supply")
    return Signals(
        free_mb=_free_mb(root / "proc/meminfo"),
        pressure=_pressure(root / "proc/pressure/memory"),
        celsius=celsius,
        throttles_at=throttles_at,
        battery=battery,
        charging=charging,
    )


def _free_mb(path: Path) -> float | None:
    for line in _text(path).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            kib = _number(value.removesuffix("kB"))
            return None if kib is None else kib / _KIB_A_MB
    return None


def _pressure(path: Path) -> float | None:
    for line in _text(path).splitlines():
        if line.startswith("some "):
            return next((_number(value[6:]) for value in line.split() if value.startswith("avg10=")), None)
    return None


def _hottest(folder: Path) -> tuple[float | None, float | None]:
    """The temperature and the limit of the zone with the least between the two."""
    zones = []
    for zone in _entries(folder, "thermal_zone*"):
        now = _number(_text(zone / "temp"))
        trips = [
            _number(_text(trip.with_name(trip.name.replace("_type", "_temp"))))
            for trip in _entries(zone, "trip_point_*_type")
            if _text(trip).strip() == "passive"
        ]
        # A trip point that is switched off has 0 or less.
        limits = [limit for limit in trips if limit is not None and limit > 0]
        if now is not None and limits:
            zones.append((now / 1000, min(limits) / 1000))
    return min(zones, key=lambda zone: zone[1] - zone[0], default=(None, None))


def _battery(folder: Path) -> tuple[float | None, bool | None]:
    """The battery in percent, and whether it is charged or the device runs from the mains."""
    battery, charging, plugged = None, None, False
    for supply in _entries(folder, "*"):
        kind, scope = (_text(supply / name).strip() for name in ("type", "scope"))
        if scope == "Device":
            continue
        if kind == "Battery" and battery is None:
            battery = _number(_text(supply / "capacity"))
            status = _text(supply / "status").strip()
            charging = status in _CHARGED if status else None
        elif kind != "Battery":
            plugged = plugged or _text(supply / "online").strip() == "1"
    return battery, True if plugged else charging


def _entries(folder: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from sorted(folder.glob(pattern))
    except OSError:
        return


def _text(path: Path) -> str:
    """What is in a file; nothing where it does not exist, or may not be read, as some zones' while they sleep."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
