"""What each block costs on a device, and what that predicts for a subnet.

A latency table has one measured number a block; a subnet's latency is predicted as the sum along its path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ProfileError


def number(value: object, what: str, lowest: float = 0.0) -> float:
    """`value` as a float. Raises ProfileError naming `what` unless it is a finite number of at least `lowest`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ProfileError(f"{what} is {value!r}; it must be a number")
    if not lowest <= value < math.inf or not math.isfinite(value):
        raise ProfileError(f"{what} is {value}; it must be finite and at least {lowest:g}")
    return float(value)


@dataclass(frozen=True)
class Latency:
    """How long something took, in milliseconds: always measured, never predicted.

    `spread_ms` is the interquartile range, p75 - p25; percentiles are nearest-rank, so each is a time that occurred.
    `repetitions` says how often it was measured; 0 means that the number came from elsewhere, without its spread.
    """

    median_ms: float
    spread_ms: float
    repetitions: int

    @classmethod
    def from_samples(cls, milliseconds: Sequence[float]) -> Latency:
        """Summarise single timings. Raises ValueError when there are none."""
        if not milliseconds:
            raise ValueError("no timings to summarise")
        ranked = sorted(milliseconds)

        def percentile(percent: int) -> float:
            return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]

        return cls(percentile(50), percentile(75) - percentile(25), len(ranked))

    @property
    def half_width_ms(self) -> float:
        """Half the median's 95% interval, as it is where timings are spread like a normal distribution.

        There, the median's standard error is 1.2533 times the mean's, and an interquartile range 1.349 standard
        deviations (Kendall and Stuart, The Advanced Theory of Statistics, volume 1, chapter 10).
        """
        return 1.96 * 1.2533 / 1.349 * self.spread_ms / math.sqrt(self.repetitions) if self.repetitions else 0.0

    def to_json(self) -> dict[str, Any]:
        """A plain dict of the three fields."""
        return {"median_ms": self.median_ms, "spread_ms": self.spread_ms, "repetitions": self.repetitions}

    @classmethod
    def from_json(cls, doc: object, what: str = "latency") -> Latency:
        """Read what `to_json` wrote. Raises ProfileError naming `what` when it is something else."""
        if not isinstance(doc, dict) or doc.keys() != {"median_ms", "spread_ms", "repetitions"}:
            raise ProfileError(f"{what} must have exactly median_ms, spread_ms and repetitions: got {str(doc)[:80]}")
        repetitions = number(doc["repetitions"], f"{what}: repetitions")
        if not repetitions.is_integer():
            raise ProfileError(f"{what}: repetitions is {repetitions}; it must be a whole number")
        median = number(doc["median_ms"], f"{what}: median_ms")
        return cls(median, number(doc["spread_ms"], f"{what}: spread_ms"), int(repetitions))


@dataclass(frozen=True)
class LatencyTable:
    """One latency for each block, all from the same device."""

    blocks: Mapping[str, Latency]

    @classmethod
    def from_ms(cls, milliseconds: Mapping[str, float]) -> LatencyTable:
        """A table from elsewhere, that says only how many milliseconds a block takes."""
        return cls(
            {name: Latency(number(ms, f"latency of block {name!r}"), 0.0, 0) for name, ms in milliseconds.items()}
        )

    @property
    def ms(self) -> dict[str, float]:
        """Block name to median milliseconds: the cost that samplers and searches take."""
        return {name: latency.median_ms for name, latency in self.blocks.items()}

    def predict_ms(self, subnet: Iterable[str]) -> float:
        """The sum along the path: a prediction in milliseconds. Raises ProfileError for a block without a latency."""
        return math.fsum(self._of(name).median_ms for name in subnet)

    def _of(self, name: str) -> Latency:
        try:
            return self.blocks[name]
        except KeyError:
            raise ProfileError(f"the latency table has no block {name!r}; measure this pack again") from None

    def to_json(self) -> dict[str, Any]:
        """Block name to latency, as plain dicts."""
        return {name: latency.to_json() for name, latency in self.blocks.items()}

    @classmethod
    def from_json(cls, doc: object) -> LatencyTable:
        """Read what `to_json` wrote. Raises ProfileError naming the block that is wrong."""
        if not isinstance(doc, dict):
            raise ProfileError(f"a latency table must be an object with one entry a block: got {str(doc)[:80]}")
        return cls({name: Latency.from_json(entry, f"latency of block {name!r}") for name, entry in doc.items()})
