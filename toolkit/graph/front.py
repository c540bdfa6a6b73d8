"""The subnets worth switching between: latency against quality.

This is what a search hands to an app, and all that the run-time controller reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import BudgetError, GraphError, ProfileError
from .graph import BlockGraph, Subnet
from .latency import Latency, number
from .quality import Quality

_ENERGY = ("energy_mj", "energy_spread_mj", "energy_repetitions")
_COSTS: dict[str, Any] = {"resident_mb": None, **dict.fromkeys(_ENERGY), "energy_repetitions": 0}


@dataclass(frozen=True)
class FrontPoint:
    """One subnet with its latency and quality on one device.

    `predicted_ms` is predicted from its blocks, within `predicted_error_ms` in 95 of 100 cases. `measured_ms` is the
    median of `repetitions` whole runs with the interquartile range `spread_ms`; both are None, and the repetitions 0,
    while it is only predicted. `quality` is by the metric that was searched for, `also` by the pack's other metrics.

    `resident_mb` is the memory in 10^6 bytes that it takes while it serves, measured once; None where it was not.
    `energy_mj` is the median of what one inference took above idle in `energy_repetitions` measurements, in
    millijoules, with the interquartile range `energy_spread_mj`; both are None, and the repetitions 0, where it was not
    measured.
    """

    subnet: Subnet
    predicted_ms: float
    measured_ms: float | None = None
    spread_ms: float | None = None
    repetitions: int = 0
    quality: Quality | None = None
    also: tuple[Quality, ...] = ()
    predicted_error_ms: float = 0.0
    resident_mb: float | None = None
    energy_mj: float | None = None
    energy_spread_mj: float | None = None
    energy_repetitions: int = 0

    @property
    def latency_ms(self) -> float:
        """The measured latency where there is one, else the predicted."""
        return self.predicted_ms if self.measured_ms is None else self.measured_ms

    @property
    def measured(self) -> Latency | None:
        """The measured latency; None while it is only predicted."""
        if self.measured_ms is None or self.spread_ms is None:
            return None
        return Latency(self.measured_ms, self.spread_ms, self.repetitions)

    @property
    def half_width_ms(self) -> float:
        """Half the 95% interval of `latency_ms`."""
        return self.measured.half_width_ms if self.measured else self.predicted_error_ms

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Its quality by all metrics that it was measured by, the one that was searched for first."""
        return (self.quality, *self.also) if self.quality else self.also

    def is_as_good_as(self, other: FrontPoint) -> bool:
        """Whether the reported quality is as good. Not where it is not known."""
        return self.quality is not None and other.quality is not None and self.quality.value >= other.quality.value

    def to_json(self) -> dict[str, Any]:
        """A plain dict of the fields; `quality` is a dict or None, `also` a list of dicts."""
        return {
            "subnet": list(self.subnet),
            "predicted_ms": self.predicted_ms,
            "predicted_error_ms": self.predicted_error_ms,
            "measured_ms": self.measured_ms,
            "spread_ms": self.spread_ms,
            "repetitions": self.repetitions,
            "quality": None if self.quality is None else self.quality.to_json(),
            "also": [quality.to_json() for quality in self.also],
            "resident_mb": self.resident_mb,
            "energy_mj": self.energy_mj,
            "energy_spread_mj": self.energy_spread_mj,
            "energy_repetitions": self.energy_repetitions,
        }

    @classmethod
    def from_json(cls, graph: BlockGraph, doc: object) -> FrontPoint:
        """Read what `to_json` wrote; an earlier toolkit's has neither memory nor energy, which were not measured then.

        Raises ProfileError when it is something else or not a subnet of `graph`.
        """
        fields = set(cls.__dataclass_fields__)
        if not isinstance(doc, dict) or not fields - _COSTS.keys() <= doc.keys() <= fields:
            raise ProfileError(f"a front point must have exactly {', '.join(sorted(fields))}: got {str(doc)[:80]}")
        doc = _COSTS | doc
        names = doc["subnet"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ProfileError(f"a subnet must be a list of block names: got {str(names)[:80]}")
        try:
            subnet = graph.subnet(names)
        except GraphError as error:
            raise ProfileError(f"this front belongs to another pack: {error}") from None
        measured, spread, repetitions = _measured(doc, "measured_ms", "spread_ms", "repetitions")
        energy, energy_spread, energy_repetitions = _measured(doc, *_ENERGY)
        resident = None if doc["resident_mb"] is None else number(doc["resident_mb"], "front resident_mb")
        quality = None if doc["quality"] is None else Quality.from_json(doc["quality"])
        if not isinstance(doc["also"], list):
            raise ProfileError(f"also must be a list of qualities: got {str(doc['also'])[:80]}")
        also = tuple(Quality.from_json(entry) for entry in doc["also"])
        predicted, within = (number(doc[key], key) for key in ("predicted_ms", "predicted_error_ms"))
        return cls(
            subnet,
            predicted,
            measured,
            spread,
            repetitions,
            quality,
            also,
            within,
            resident,
            energy,
            energy_spread,
            energy_repetitions,
        )


def _measured(doc: dict[str, Any], median: str, spread: str, count: str) -> tuple[float | None, float | None, int]:
    """The three fields of what was measured several times, or was not. Raises ProfileError where only some say so."""
    values = [None if doc[key] is None else number(doc[key], f"front {key}") for key in (median, spread)]
    repetitions = number(doc[count], f"front {count}")
    if not repetitions.is_integer() or {each is None for each in values} != {repetitions == 0}:
        raise ProfileError(f"{median}, {spread} and {count} go together: got {values[0]}, {values[1]}, {repetitions:g}")
    return values[0], values[1], int(repetitions)


class Front:
    """Front points, sorted by latency. Raises ValueError when there are none."""

    def __init__(self, points: Iterable[FrontPoint]) -> None:
        self.points = tuple(sorted(points, key=lambda point: point.latency_ms))
        if not self.points:
            raise ValueError("a front needs at least one point")

    def __repr__(self) -> str:
        return (
            f"Front({len(self.points)} points, {self.points[0].latency_ms:.4g} to {self.points[-1].latency_ms:.4g} ms)"
        )

    def __eq__(self, other: object) -> bool:
        return self.points == other.points if isinstance(other, Front) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.points)

    @property
    def rising(self) -> tuple[FrontPoint, ...]:
        """The points that are worth running: each is reported to be better than all faster ones, or is not reported on.

        The others are as good as a faster one, by qualities that were pooled, or the oracle, which stays in any case.
        """
        found: list[FrontPoint] = []
        for point in self.points:
            if not any(faster.is_as_good_as(point) for faster in found):
                found.append(point)
        return tuple(found)

    def best(self, budget_ms: float) -> FrontPoint:
        """The best point that is at most `budget_ms` slow, of equally good ones the fastest: the last of `rising`.

        Raises BudgetError, naming the fastest, when none fits.
        """
        fits = [point for point in self.rising if point.latency_ms <= budget_ms]
        if not fits:
            fastest = self.points[0]
            how = "predicted" if fastest.measured_ms is None else "measured"
            raise BudgetError(
                f"no subnet meets a budget of {budget_ms:.4g} ms; the fastest takes {fastest.latency_ms:.4g} ms ({how})"
            )
        return fits[-1]

    def to_json(self) -> list[dict[str, Any]]:
        """The points as plain dicts, fastest first."""
        return [point.to_json() for point in self.points]

    @classmethod
    def from_json(cls, graph: BlockGraph, doc: object) -> Front:
        """Read what `to_json` wrote. Raises ProfileError when it is damaged or belongs to another pack."""
        if not isinstance(doc, list) or not doc:
            raise ProfileError(f"a front must be a list of at least one point: got {str(doc)[:80]}")
        return cls(FrontPoint.from_json(graph, point) for point in doc)
