"""What the device's sensors are believed to say, and which points they leave.

A sensor can be dead or lie, so it is believed only while it behaves as one that lives: its values can be, one came
recently, and they move; and of its last two values the less alarming one counts, so that one wrong value does nothing.
What is said to be a state need not move, and its last value counts. A sensor that is not believed is taken for none.
Heat takes away one point after the other, as the kernel's `step_wise` thermal governor does, with a dead band below; so
do short memory and, once, a low battery.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .decision import Kind, Point, Signals

_SILENT_S = 30.0  # without a value, a sensor is none; Android reads its thermal sensors every 10 s at the rarest
_STUCK_S = 120.0  # nor with the same value for so long
_BATTERY_SILENT_S, _BATTERY_STUCK_S = 600.0, 1800.0  # a percent of a battery may last for long
_LEAST_LIMIT, _MOST_LIMIT = 30.0, 150.0  # degrees at which something may throttle: a skin at 37, a chip at 110
_DEGREES = 30.0  # below the limit, where the headroom is 0: as in AOSP's ThermalManagerService
_HOT, _COOL = 0.95, 0.85  # headroom: 1.5 and 4.5 degrees below the limit
_HOTTER_S, _COOLER_S = 10.0, 20.0  # what one point less or more does to a temperature takes about so long to be seen
_SHORT_MB, _PLENTY_MB = 128.0, 256.0  # free memory; Android kills programs in the background at about the first
_PRESSED, _RELAXED = 10.0, 1.0  # percent of the time in which some program waits for memory
_SHORTER_S, _PLENTIER_S = 5.0, 10.0  # a released block is seen in MemAvailable at once, in an average of 10 s later
_LOW, _CHARGED = 15.0, 20.0  # percent; Android suggests its battery saver at 15
_LOAD_BAND = 0.10  # smaller changes of the load change nothing
_MOST_LOAD = 0.90  # a thread that waits for longer than this may be held to wait for ever


class Reading:
    """One sensor. Values are from `least` to `most`; `high_alarms`: the high ones are feared, not the low ones."""

    def __init__(
        self, least: float, most: float, high_alarms: bool, silent_s: float = _SILENT_S, stuck_s: float = _STUCK_S
    ) -> None:
        self._least, self._most, self._high_alarms = least, most, high_alarms
        self._silent_s, self._stuck_s = silent_s, stuck_s
        self._last = self._before = 0.0
        self._given = 0  # values since it was silent, 2 at most
        self._moved = False  # since it was silent
        self._state = False  # what it said last
        self._seen_s = self._moved_s = 0.0

    def give(self, at_s: float, value: float | None, state: bool = False) -> None:
        """What the sensor says at a time; ignored where it says nothing, or what cannot be. `state`: it may stand
        still."""
        if value is None or not self._least <= value <= self._most:  # NaN is neither
            return
        if self._given > 0 and at_s - self._seen_s > self._silent_s:
            self._given, self._moved = 0, False
        if self._given > 0 and value != self._last:
            self._moved, self._moved_s = True, at_s
        self._before, self._last = self._last, value
        self._seen_s, self._state = at_s, state
        self._given = min(2, self._given + 1)

    def believed(self, at_s: float) -> float | None:
        """The less alarming of its last two values, the last one of a state; None while it is dead, or may be."""
        if self._state:
            return None if at_s > self.until_s else self._last
        if self._given < 2 or not self._moved or at_s > self.until_s:
            return None
        return min(self._last, self._before) if self._high_alarms else max(self._last, self._before)

    @property
    def until_s(self) -> float:
        """When it is no longer believed unless it says something else."""
        if self._state:
            return self._seen_s + self._silent_s
        return min(self._seen_s + self._silent_s, self._moved_s + self._stuck_s) if self._moved else math.inf


class Sensors:
    """All of them. `waited` is the load; at most the point `hottest` may run, of those that take at most `memory_mb`,
    and with `saving` one that takes half of what it could. `held_mb` is the memory that each point takes, empty where
    none is known.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self._count = len(points)
        self.held_mb = _held(points)
        self.waited = 0.0
        self.hottest = len(points) - 1
        self.memory_mb = math.inf
        self.saving = False
        # No system that runs has no memory at all, and no battery that it runs on is empty.
        self._free = Reading(1.0, 1e8, high_alarms=False)
        self._pressure = Reading(0.0, 100.0, high_alarms=True)
        self._celsius = Reading(-40.0, 150.0, high_alarms=True)
        self._headroom = Reading(0.0, 3.0, high_alarms=True)
        self._battery = Reading(1.0, 100.0, False, _BATTERY_SILENT_S, _BATTERY_STUCK_S)
        self._waited = Reading(0.0, 1.0, high_alarms=True)
        self._all = (self._free, self._pressure, self._celsius, self._headroom, self._battery, self._waited)
        self._throttles_at: float | None = None
        self._charging = False
        self._heat_s = self._memory_s = -math.inf  # when they last took a point away, or gave one back
        self.until_s = math.inf  # when the first of those that are believed would no longer be

    def give(self, at_s: float, signals: Signals, point: int) -> Kind | None:
        """What the sensors say while `point` runs. What it changes, if anything."""
        if signals.throttles_at is not None and _LEAST_LIMIT <= signals.throttles_at <= _MOST_LIMIT:
            self._throttles_at = signals.throttles_at
        if signals.charging is not None:
            self._charging = signals.charging
        states = signals.states
        self._free.give(at_s, signals.free_mb, "free_mb" in states)
        self._pressure.give(at_s, signals.pressure, "pressure" in states)
        self._celsius.give(at_s, signals.celsius, "celsius" in states)
        self._headroom.give(at_s, signals.headroom, "headroom" in states)
        self._battery.give(at_s, signals.battery, "battery" in states)
        self._waited.give(at_s, signals.waited, "waited" in states)
        return self.look(at_s, point)

    def look(self, at_s: float, point: int) -> Kind | None:
        """What has changed, also by sensors that have said nothing for too long: the first of several."""
        changed = [self._look_at_memory(at_s, point), self._look_at_heat(at_s, point)]
        changed += [self._look_at_battery(at_s), self._look_at_load(at_s)]
        self.until_s = min(each.until_s if each.until_s >= at_s else math.inf for each in self._all)
        kinds = (Kind.MEMORY, Kind.HEAT, Kind.ENERGY, Kind.LOAD)
        return next((kind for kind, has in zip(kinds, changed) if has), None)

    def _look_at_memory(self, at_s: float, point: int) -> bool:
        free, pressure, before = self._free.believed(at_s), self._pressure.believed(at_s), self.memory_mb
        held = self.held_mb
        if (free is None and pressure is None) or not held:
            self.memory_mb = math.inf
        elif (free is not None and free < _SHORT_MB) or (pressure is not None and pressure >= _PRESSED):
            if at_s - self._memory_s >= _SHORTER_S:
                lacks = 1.0 if free is None else max(1.0, _SHORT_MB - free)
                # Where even the smallest takes more, it is the smallest.
                self.memory_mb = min(self.memory_mb, max(held[point] - lacks, min(held)))
        elif (
            (free is None or free >= _PLENTY_MB)
            and (pressure is None or pressure < _RELAXED)
            and at_s - self._memory_s >= _PLENTIER_S
        ):
            larger = min((each for each in held if each > self.memory_mb), default=math.inf)
            self.memory_mb = max(self.memory_mb, larger if free is None else held[point] + (free - _PLENTY_MB))
            if self.memory_mb >= max(held):
                self.memory_mb = math.inf
        if self.memory_mb != before:
            self._memory_s = at_s
        return self.memory_mb != before

    def _look_at_heat(self, at_s: float, point: int) -> bool:
        headroom, celsius, before = self._headroom.believed(at_s), self._celsius.believed(at_s), self.hottest
        if celsius is not None and self._throttles_at is not None:
            by_degrees = max(0.0, 1.0 - (self._throttles_at - celsius) / _DEGREES)
            headroom = by_degrees if headroom is None else max(headroom, by_degrees)
        if headroom is None:
            self.hottest = self._count - 1
        elif headroom >= _HOT and at_s - self._heat_s >= _HOTTER_S:
            self.hottest = max(0, min(self.hottest, point) - 1)
        elif headroom <= _COOL and at_s - self._heat_s >= _COOLER_S:
            self.hottest = min(self.hottest + 1, self._count - 1)
        if self.hottest != before:
            self._heat_s = at_s
        return self.hottest != before

    def _look_at_battery(self, at_s: float) -> bool:
        battery, before = self._battery.believed(at_s), self.saving
        if battery is None or self._charging or battery >= _CHARGED:
            self.saving = False
        elif battery <= _LOW:
            self.saving = True
        return self.saving != before

    def _look_at_load(self, at_s: float) -> bool:
        waited, before = self._waited.believed(at_s), self.waited
        if waited is None:
            self.waited = 0.0
        elif abs(waited - self.waited) >= _LOAD_BAND:
            self.waited = min(waited, _MOST_LOAD)
        return self.waited != before


def _held(points: Sequence[Point]) -> list[float]:
    """What each point takes; where that is not known, as much as any faster one, or as the smallest."""
    known = [point.resident_mb for point in points if point.resident_mb is not None]
    held: list[float] = []
    for point in points if known else ():
        assumed = max(held, default=min(known))
        held.append(assumed if point.resident_mb is None else point.resident_mb)
    return held
