"""A front that serves on a device that is not this process: by requests, one for each inference and each switch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from ..devices.base import Session
from ..graph.front import Front, FrontPoint
from ..graph.graph import Subnet
from .controller import Controller
from .decision import Budgets, Decision, Signals, points_of
from .model import Status


class SessionModel:
    """What `Model` is in this process, for a session on any device. A switch takes the time of paging in."""

    def __init__(
        self, session: Session, front: Front, budgets: Budgets, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Activates the best point for the budgets, or the fastest where nothing fits; `page_in` is what that took."""
        self.points = front.rising
        self._session, self._clock = session, clock
        self._controller = Controller(points_of(front), budgets)
        self._by_name: Subnet | None = None
        self._switches = 0
        self.page_in = session.activate(self._point.subnet)

    @property
    def decision(self) -> Decision:
        """See `Model.decision`."""
        return self._controller.decision

    def activate(self, point: int) -> None:
        """This one of `points` serves, whatever the budget."""
        self._by_name = self.points[point].subnet
        self._session.activate(self._by_name)

    def infer_timed(self, x: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """See `Model.infer_timed`."""
        output, ms = self._session.infer_timed(x)
        if self._by_name is None:
            before = self._controller.point
            self._controller.observe(self._clock(), ms)
            self._follow(before)
        return output, ms

    def observe(self, signals: Signals) -> Decision | None:
        """See `Model.observe`; what the sensors of the session's device say."""
        before = self._controller.point
        decision = self._controller.sense(self._clock(), signals)
        if self._by_name is None:
            self._follow(before)
        return decision

    def _follow(self, before: int) -> None:
        """Pages the controller's point in, where it was `before`."""
        if self._controller.point != before:
            self._session.activate(self._point.subnet)
            self._switches += 1

    def status(self) -> Status:
        """See `Model.status`."""
        serving = self._by_name or self._point.subnet
        return Status(
            subnet=serving,
            point=next((at for at, point in enumerate(self.points) if point.subnet == serving), None),
            loading=None,
            slowdown=self._controller.slowdown,
            resident_bytes=self._session.resident.bytes,
            switches=self._switches,
            why="it was asked for" if self._by_name is not None else self.decision.why,
            error=None,
        )

    @property
    def _point(self) -> FrontPoint:
        return self.points[self._controller.point]
