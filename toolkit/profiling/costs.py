"""What points take besides time: memory and energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..devices.base import Session
from ..devices.energy import Schedule
from ..errors import EnergyUnknown
from ..graph.front import FrontPoint
from ..graph.graph import Subnet
from ..graph.latency import Latency
from .settings import Settings

MEMORY, ENERGY = "measure memory", "measure energy"
SCHEDULE = Schedule()  # of a measurement of energy

Points = Mapping[Subnet, FrontPoint]


def with_memory(session: Session, points: Points, progress: Callable[[int, int], None]) -> dict[Subnet, FrontPoint]:
    """The points with the memory that each takes, where the device tells."""
    taken = session.resident_mb([*points], progress)
    return {
        subnet: replace(point, resident_mb=megabytes)
        for (subnet, point), megabytes in zip(points.items(), taken, strict=True)
    }


def energy_rounds(session: Session, settings: Settings, say: Callable[[str], None]) -> int:
    """How often energy is to be measured: not at all where the device does not tell it, which is said.

    Raises EnergyUnknown where it does not, and energy is limited.
    """
    if not settings.rounds_of_energy:
        return 0
    try:
        session.meter()
    except EnergyUnknown as error:
        if settings.energy_limit_mj is not None:
            raise EnergyUnknown(f"energy cannot be limited: {error}") from error
        say(f"note: energy is not measured: {error}")
        return 0
    return settings.rounds_of_energy


def with_energy(
    session: Session, points: Points, rounds: int, progress: Callable[[int, int], None], say: Callable[[str], None]
) -> dict[Subnet, FrontPoint]:
    """The points with the energy that an inference of each takes, where the device tells.

    Every round measures each point once, so that a slow change of the device falls on all alike. Where the device
    ceases to tell, because it is charged again, what was measured until then stands.
    """
    taken: dict[Subnet, list[float]] = {subnet: [] for subnet in points}
    try:
        for at in range(rounds):
            for number, subnet in enumerate(points):
                taken[subnet].append(session.energy_mj(subnet, SCHEDULE))
                progress(at * len(points) + number + 1, rounds * len(points))
    except EnergyUnknown as error:
        say(f"note: energy was measured {min(map(len, taken.values()))} of {rounds} times: {error}")
    found = {subnet: _with(point, taken[subnet]) for subnet, point in points.items()}
    if lost := sum(bool(taken[subnet]) and point.energy_mj is None for subnet, point in found.items()):
        say(f"note: the energy of {lost} of {len(points)} points is less than what the idle device wavers by")
    return found


def _with(point: FrontPoint, taken: list[float]) -> FrontPoint:
    """The point with the median of what its inferences took; nothing is known where that is nothing, or less."""
    if not taken:
        return point
    known = Latency.from_samples(taken)
    if known.median_ms <= 0:
        return point
    return replace(
        point, energy_mj=known.median_ms, energy_spread_mj=known.spread_ms, energy_repetitions=known.repetitions
    )
