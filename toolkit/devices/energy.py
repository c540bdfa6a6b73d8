"""What inferences take of a device's energy, from what its kernel says of its processor (RAPL) or its battery.

Everything here is computed from texts: those of files below /sys, by path, as they were read on the device. RAPL counts
the microjoules of processor packages and memory (Documentation/power/powercap in Linux's sources): on x86, mostly for
root alone. A battery tells its current and voltage, in microamperes and microvolts by Documentation/ABI/testing/
sysfs-class-power; some phones say milliamperes, and some give a negative current while they discharge. It tells what
the device takes only while it discharges.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Protocol

from ..errors import EnergyUnknown

PATTERNS = (
    *(f"sys/class/powercap/intel-rapl:*/{name}" for name in ("name", "energy_uj", "max_energy_range_uj")),
    *(f"sys/class/power_supply/*/{name}" for name in ("type", "scope", "status", "current_now", "voltage_now")),
)
"""The files that tell of energy, below the root."""

_LEAST_MICROAMPERES = 20_000  # a device that is awake takes more, and none 20 amperes
_LEAST_MICROVOLTS = 500_000  # no battery has less, and none 500 volts


@dataclass(frozen=True)
class Look:
    """What some files said at a time, in seconds; None for one that could not be read."""

    at_s: float
    texts: tuple[str | None, ...]


@dataclass(frozen=True)
class Drain:
    """Looks at a device that was idle, then inferred without a pause `inferences` times, and then was idle again."""

    before: tuple[Look, ...]
    running: tuple[Look, ...]
    after: tuple[Look, ...]
    inferences: int


@dataclass(frozen=True)
class Schedule:
    """The seconds for which a device is looked at idle, before and after, and while it runs; those that pass before it
    is looked at idle, and between two looks."""

    idle_s: float = 1.5
    run_s: float = 3.0
    settle_s: float = 0.5
    every_s: float = 0.1


class Meter(Protocol):
    """What tells the energy of a device."""

    name: str
    files: tuple[str, ...]
    """To look at, relative to the root."""

    def joules(self, drain: Drain) -> tuple[float, float, float]:
        """What the device took before, while it ran, and after. Raises EnergyUnknown where that is not told."""


def find_meter(texts: Mapping[str, str]) -> Meter:
    """The most precise that a device has. `texts` are of those files of `PATTERNS` that can be read.

    Raises EnergyUnknown, which says why there is none.
    """
    zones = _rapl_zones(texts)
    counted = [zone for zone in zones if f"{zone}/energy_uj" in texts]
    if counted:
        return Rapl(counted, [_range(texts, zone) for zone in counted])
    batteries = [
        folder
        for folder in _folders(texts, "type")
        if texts[f"{folder}/type"] == "Battery"
        and texts.get(f"{folder}/scope") != "Device"  # of a mouse or a pen
        and {f"{folder}/current_now", f"{folder}/voltage_now"} <= texts.keys()
    ]
    if batteries:
        _require_discharging([texts.get(f"{folder}/status") for folder in batteries])
        return Battery(batteries)
    if zones:
        raise EnergyUnknown(
            f"this device counts its energy in /{zones[0]}/energy_uj, which this user may not read: read it as root"
        )
    raise EnergyUnknown("this device does not tell its energy: it has neither RAPL nor a battery with its current")


def energy_mj(meter: Meter, drain: Drain) -> float:
    """The millijoules that an inference took beyond what the device took idle, before and after.

    It may be negative, by what such a measurement is off. Raises EnergyUnknown where the meter does not tell.
    """
    before, running, after = meter.joules(drain)
    idle_s = _seconds(drain.before) + _seconds(drain.after)
    if not (idle_s > 0 and drain.inferences > 0):
        raise EnergyUnknown("nothing ran, or there was no time to look at the idle device")
    above = running - (before + after) / idle_s * _seconds(drain.running)
    return 1e3 * above / drain.inferences


class Rapl:
    """Counters in microjoules, which begin anew when they have reached their ranges."""

    def __init__(self, zones: Sequence[str], ranges: Sequence[float]) -> None:
        self.name = "RAPL"
        self.files = tuple(f"{zone}/energy_uj" for zone in zones)
        self._ranges = tuple(ranges)

    def joules(self, drain: Drain) -> tuple[float, float, float]:
        """See `Meter.joules`. A counter may begin anew between two looks, but not twice."""
        before, running, after = (self._joules(looks) for looks in (drain.before, drain.running, drain.after))
        if running == 0:
            raise EnergyUnknown(f"{self.files[0]} does not count")
        return before, running, after

    def _joules(self, looks: Sequence[Look]) -> float:
        total = 0.0
        for at, most in enumerate(self._ranges):
            counts = [_number(look.texts[at], self.files[at]) for look in looks]
            for earlier, later in pairwise(counts):
                total += later - earlier if later >= earlier else most - earlier + later
        return total / 1e6


class Battery:
    """The current and voltage of batteries that discharge."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.name = "battery"
        self.files = tuple(f"{each}/{name}" for each in folders for name in ("current_now", "voltage_now", "status"))

    def joules(self, drain: Drain) -> tuple[float, float, float]:
        """See `Meter.joules`. Each look counts for the time around it."""
        phases = (drain.before, drain.running, drain.after)
        watts = [[0.0] * len(looks) for looks in phases]
        for looks in phases:
            for look in looks:
                _require_discharging(look.texts[2::3])
        for at in range(0, len(self.files), 3):
            current, voltage, _ = self.files[at : at + 3]
            amperes = [[abs(_number(look.texts[at], current)) for look in looks] for looks in phases]
            volts = [[_number(look.texts[at + 1], voltage) for look in looks] for looks in phases]
            # A unit is told by the largest value of all: an idle device may be near to nothing.
            in_amperes = 1e-6 if max(max(each) for each in amperes) >= _LEAST_MICROAMPERES else 1e-3
            in_volts = 1e-6 if max(max(each) for each in volts) >= _LEAST_MICROVOLTS else 1e-3
            if len({value for each in amperes for value in each}) == 1:
                raise EnergyUnknown(f"/{current} always says the same: it tells nothing of single inferences")
            for phase, looks in enumerate(phases):
                for row in range(len(looks)):
                    watts[phase][row] += amperes[phase][row] * in_amperes * volts[phase][row] * in_volts
        before, running, after = (fmean(each) * _seconds(looks) for each, looks in zip(watts, phases))
        return before, running, after


def _rapl_zones(texts: Mapping[str, str]) -> list[str]:
    """Packages and memory. What lies within a package is counted with it, and `psys` has the packages within it."""
    return [
        zone for zone in _folders(texts, "name") if re.fullmatch(r"package-\d+(-die-\d+)?|dram", texts[f"{zone}/name"])
    ]


def _range(texts: Mapping[str, str], zone: str) -> float:
    path = f"{zone}/max_energy_range_uj"
    return _number(texts.get(path), path)


def _folders(texts: Mapping[str, str], name: str) -> list[str]:
    return sorted(path.removesuffix(f"/{name}") for path in texts if path.endswith(f"/{name}"))


def _require_discharging(statuses: Iterable[str | None]) -> None:
    """Of several batteries one may rest while another discharges; none may be charged."""
    found = [status or "" for status in statuses]
    wrong = next((status for status in found if status not in ("Discharging", "Not charging", "Unknown")), None)
    if wrong is None and "Discharging" in found:
        return
    status = found[0] if wrong is None else wrong
    raise EnergyUnknown(
        f"the battery is not discharging (its status is {status or 'not told'}), and tells the energy only then: "
        "unplug the device, and reach a phone over Wi-Fi"
    )


def _seconds(looks: Sequence[Look]) -> float:
    return looks[-1].at_s - looks[0].at_s if looks else 0.0


def _number(text: str | None, path: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise EnergyUnknown(f"/{path} says {text!r}, which is no number")
    return value
