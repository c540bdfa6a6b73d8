"""What a device was like while it was measured: what a latency depends on and a pack does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Conditions:
    """The state of a device before and after it was measured; what it does not tell is None or empty.

    `cores` are those that blocks ran on (None: any), and `governors` and `khz_*`, clocks in kHz, are theirs in that
    order, or those of all cores. `celsius_*` are the temperatures of its sensors by name.
    """

    threads: int
    cores: tuple[int, ...] | None
    governors: tuple[str | None, ...]
    khz_before: tuple[int | None, ...]
    khz_after: tuple[int | None, ...]
    celsius_before: Mapping[str, float]
    celsius_after: Mapping[str, float]

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

    def in_words(self) -> str:
        """Cores, governor, clock and heat, as far as they are known: `cores 4-7, governor schedutil, …`."""
        words = [f"cores {spell_cores(self.cores)}" if self.cores else "any core"]
        if governors := sorted({governor for governor in self.governors if governor}):
            words.append(f"governor {' and '.join(governors)}")
        return ", ".join(words + self.changes())

    def changes(self) -> list[str]:
        """The fastest clock and the hottest sensor, before and after."""
        words = []
        clocks = [max((khz for khz in all_khz if khz), default=None) for all_khz in (self.khz_before, self.khz_after)]
        if clocks[0] and clocks[1]:
            words.append(f"its clock from {clocks[0] / 1e6:.2f} to {clocks[1] / 1e6:.2f} GHz")
        heat = [hottest(celsius) for celsius in (self.celsius_before, self.celsius_after)]
        if heat[0] and heat[1]:
            words.append(f"its hottest sensor from {heat[0]:.0f} to {heat[1]:.0f} °C")
        return words


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
