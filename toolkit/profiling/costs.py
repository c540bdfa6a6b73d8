"""What points take besides time: memory and energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..devices.base import Session
from ..graph.front import FrontPoint
from ..graph.graph import Subnet

MEMORY = "measure memory"

Points = Mapping[Subnet, FrontPoint]


def with_memory(session: Session, points: Points, progress: Callable[[int, int], None]) -> dict[Subnet, FrontPoint]:
    """The points with the memory that each takes, where the device tells."""
    taken = session.resident_mb([*points], progress)
    return {
        subnet: replace(point, resident_mb=megabytes)
        for (subnet, point), megabytes in zip(points.items(), taken, strict=True)
    }
