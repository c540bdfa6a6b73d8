"""What goes into the controller and what comes out: points and budgets, signals of the device, decisions."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

from ..errors import BudgetError, DataError
from ..graph.front import Front


class Kind(enum.Enum):
    """What brought a decision about. A decision need not be a switch: the point may still be the best one."""

    START = "start"
    SLOWER = "slower"  # the device has become slower
    FASTER = "faster"  # it has become faster, or it is surer now how slow it is
    NOISE = "noise"  # the budget's percentile lies further from the median than was assumed, or less far
    LOAD = "load"  # the share of the time in which other programs have the processors
    MEMORY = "memory"  # memory is short, or no longer
    HEAT = "heat"  # the device is about to throttle, or no longer
    ENERGY = "energy"  # the battery is low, or no longer
    BUDGET = "budget"  # other budgets were set
    NOTHING_FITS = "nothing_fits"  # not even the fastest point, which serves
    BOUNDED = "bounded"  # there were too many switches within a minute for another one to the best point


@dataclass(frozen=True)
class Point:
    """One point of a front as the controller sees it; None: not measured.

    `latency_ms` is the median when profiled, `resident_mb` the memory that its loaded blocks take, `energy_mj` what one
    inference takes.
    """

    latency_ms: float
    resident_mb: float | None = None
    energy_mj: float | None = None


def points_of(front: Front) -> tuple[Point, ...]:
    """The points to serve with: those of `front.rising`, in that order, so that a tie or a loser is never run."""
    return tuple(Point(point.latency_ms, point.resident_mb, point.energy_mj) for point in front.rising)


@dataclass(frozen=True)
class Budgets:
    """What an inference may take: milliseconds in the `percentile` (50 to 99) of all inferences, memory, energy.

    None: any. A point whose memory or energy is not known is within the budget for it. Raises BudgetError for a budget
    that is no positive number, and for other percentiles.
    """

    latency_ms: float
    percentile: float = 50.0
    memory_mb: float | None = None
    energy_mj: float | None = None

    def __post_init__(self) -> None:
        for name in ("latency_ms", "memory_mb", "energy_mj"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and math.isfinite(value) and value > 0):
                raise BudgetError(f"the budget {name} must be a positive number: got {value!r}")
        if not (_is_number(self.percentile) and 50 <= self.percentile <= 99):
            raise BudgetError(f"a latency budget is for a percentile from 50 to 99: got {self.percentile!r}")


SENSORS = ("free_mb", "pressure", "celsius", "headroom", "battery", "waited")
"""Those of `Signals` whose values are believed or not."""


@dataclass(frozen=True)
class Signals:
    """What sensors say; None: this one says nothing. Values that cannot be are taken for None.

    `free_mb` is the memory that programs may still take (`MemAvailable`), `pressure` the share of the last 10 seconds
    in which some program waited for memory, in percent (`some avg10` of /proc/pressure/memory). `celsius` is of the
    sensor that throttles the processor, at `throttles_at`; `headroom` is 0 far from there and 1 where it throttles, as
    Android's PowerManager.getThermalHeadroom. `battery` is in percent. `waited` is the share of the time, 0 to 1, for
    which the thread that infers waited for a processor: only to be given where the clock of the latencies, as the
    profile's, leaves that out.

    `states` names those of these sensors whose value is a state, which may stand still for as long as it lasts: as
    Android's thermal status, or its battery saver. Of others it is expected that they move.
    """

    free_mb: float | None = None
    pressure: float | None = None
    celsius: float | None = None
    throttles_at: float | None = None
    headroom: float | None = None
    battery: float | None = None
    charging: bool | None = None
    waited: float | None = None
    states: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """The fields that say something."""
        document = {name: value for name, value in asdict(self).items() if value is not None and name != "states"}
        return document | ({"states": sorted(self.states)} if self.states else {})

    @classmethod
    def from_json(cls, doc: Mapping[str, Any]) -> Signals:
        """Read what `to_json` wrote. Raises DataError for a field that is no signal, and a value that is no number."""
        states = doc.get("states", [])
        unknown = [name for name in states if name not in SENSORS] if isinstance(states, list) else states
        if unknown or not isinstance(states, list):
            raise DataError(f"states must name sensors, of {', '.join(SENSORS)}: got {unknown!r}")
        for name, value in doc.items():
            if name == "states":
                continue
            if name not in cls.__dataclass_fields__:
                raise DataError(f"there is no signal {name!r}; there are {', '.join(cls.__dataclass_fields__)}")
            if isinstance(value, bool) != (name == "charging") or not isinstance(value, (int, float)):
                raise DataError(
                    f"the signal {name} must be {'a yes or no' if name == 'charging' else 'a number'}: {value!r}"
                )
        return cls(**{**doc, "states": frozenset(states)})


@dataclass(frozen=True)
class Decision:
    """Which point runs from now on, how much slower than profiled the device is, and why, in a word and in a line."""

    point: int
    slowdown: float
    kind: Kind
    why: str


def _is_number(value: object) -> bool:
    """Of Python or numpy."""
    return isinstance(value, Real) and not isinstance(value, bool)
