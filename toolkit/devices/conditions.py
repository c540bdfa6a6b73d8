"""What a device was like while it was measured: what a latency depends on and a pack does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from typing import Any

_WORTH_SAYING = 0.01  # of the time


@dataclass(frozen=True)
class Conditions:
    """The state of a device before and after it was measured; what it does not tell is None or empty.

    `cores` are those that blocks ran on (None: any), and `governors` and `khz_*`, clocks in kHz, are theirs in that
    order, or those of all cores. `celsius_*` are the temperatures of its sensors by name. `khz_lowest`, `khz_highest`
    and `celsius_highest` are what was seen at any time in between, where there were several looks; see `over_all`.
    `waited` is the share of the time of the runs that were timed in which other programs had the processors: it is not
    counted in what blocks took. Over several calls it is the largest.
    """

    threads: int
    cores: tuple[int, ...] | None = None
    governors: tuple[str | None, ...] = ()
    khz_before: tuple[int | None, ...] = ()
    khz_after: tuple[int | None, ...] = ()
    celsius_before: Mapping[str, float] = field(default_factory=dict)
    celsius_after: Mapping[str, float] = field(default_factory=dict)
    khz_lowest: tuple[int | None, ...] = ()
    khz_highest: tuple[int | None, ...] = ()
    celsius_highest: Mapping[str, float] = field(default_factory=dict)
    waited: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary with the same names; tuples become lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Conditions:
        """What `to_json` made."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
        }
        return cls(**fields)

    @classmethod
    def over_all(cls, calls: Sequence[Conditions]) -> Conditions:
        """The state over several calls, in the order in which they were made: before the first, after the last, and
        for each core and sensor the lowest and highest that was seen.

        Raises ValueError when there are no calls.
        """
        if not calls:
            raise ValueError("no calls to tell the conditions of")
        lowest = [each.khz_lowest for each in calls]
        highest = [each.khz_highest for each in calls]
        seen = [khz for each in calls for khz in (each.khz_before, each.khz_after)]
        heat = [
            celsius for each in calls for celsius in (each.celsius_before, each.celsius_after, each.celsius_highest)
        ]
        sensors = dict.fromkeys(sensor for celsius in heat for sensor in celsius)
        return replace(
            calls[0],
            khz_after=calls[-1].khz_after,
            celsius_after=calls[-1].celsius_after,
            khz_lowest=_of_each_core(min, lowest + seen),
            khz_highest=_of_each_core(max, highest + seen),
            celsius_highest={
                sensor: max(celsius[sensor] for celsius in heat if sensor in celsius) for sensor in sensors
            },
            waited=max(each.waited for each in calls),
        )

    def in_words(self) -> str:
        """Cores, governor, clock, heat and waiting, as far as they are known: `cores 4-7, governor schedutil, …`.

        Empty where nothing is.
        """
        words = []
        if governors := sorted({governor for governor in self.governors if governor}):
            words.append(f"governor {' and '.join(governors)}")
        words += self.changes()
        if self.waited >= _WORTH_SAYING:
            words.append(f"other programs had the processors for {self.waited:.0%} of the time, which is not counted")
        if words or self.cores:
            words.insert(0, f"cores {spell_cores(self.cores)}" if self.cores else "any core")
        return ", ".join(words)

    def changes(self) -> list[str]:
        """The fastest clock and the hottest sensor, before and after, and what they were in between."""
        words = []
        clocks = [max((khz for khz in all_khz if khz), default=None) for all_khz in (self.khz_before, self.khz_after)]
        if clocks[0] and clocks[1]:
            words.append(f"its clock from {clocks[0] / 1e6:.2f} to {clocks[1] / 1e6:.2f} GHz")
            if seen := self.clocks_seen():
                words[-1] += f" ({seen[0] / 1e6:.2f} to {seen[1] / 1e6:.2f} GHz seen)"
        heat = [hottest(celsius) for celsius in (self.celsius_before, self.celsius_after)]
        if heat[0] and heat[1]:
            words.append(f"its hottest sensor from {heat[0]:.0f} to {heat[1]:.0f} °C")
            if most := hottest(self.celsius_highest):
                words[-1] += f" (at most {most:.0f} °C)"
        return words

    def clocks_seen(self) -> tuple[int, int] | None:
        """The lowest clock that any of the cores was seen at, and the highest, in kHz; None where it is not known."""
        lowest = [khz for khz in self.khz_lowest if khz]
        highest = [khz for khz in self.khz_highest if khz]
        return (min(lowest), max(highest)) if lowest and highest else None


def _of_each_core(
    choose: Callable[[Iterable[int]], int], looks: Iterable[Sequence[int | None]]
) -> tuple[int | None, ...]:
    """The lowest or highest clock of every core; None for a core whose clock is never told."""
    by_core = [[khz for khz in core if khz is not None] for core in zip_longest(*looks)]
    return tuple(choose(told) if told else None for told in by_core)


def hottest(celsius: Mapping[str, float]) -> float | None:
    """The highest of these temperatures, without those of sensors that do not work; None when there is none.

    Sensors that are switched off say 0 or less, and some are alarms that count in other units.
    """
    return max((value for value in celsius.values() if 0 < value < 150), default=None)


def spell_cores(cores: Iterable[int]) -> str:
    """Cores as a list of ranges: `0-3,6`."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
