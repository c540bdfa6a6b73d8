"""A stream of inferences: what is shown while it runs, its trace, and what is said of it at the end."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..errors import DataError
from ..graph.front import FrontPoint
from ..graph.latency import Latency
from ..serving.decision import Budgets, Decision, Signals
from ..serving.model import Status
from .console import Console

_SENSES_S = 1.0  # from one look at the sensors to the next
_KEPT = 100_000  # latencies and answers of a stream without an end: the last ones


class Serving(Protocol):
    """What a stream needs of a model."""

    points: tuple[FrontPoint, ...]

    @property
    def decision(self) -> Decision:
        """The controller's latest."""

    def infer_timed(self, x: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """One inference and its milliseconds."""

    def observe(self, signals: Signals) -> Decision | None:
        """What sensors say now."""

    def status(self) -> Status:
        """What serves now."""


class Trace:
    """A file of json lines, which `serving.simulator` replays: budgets, inferences, signals; decisions for a reader."""

    def __init__(self, file: TextIO, budgets: Budgets) -> None:
        """Writes to `file`, which stays open."""
        self._file = file
        self._write(at_s=0.0, budgets={name: value for name, value in vars(budgets).items() if value is not None})

    def inference(self, at_s: float, point: int | None, ms: float) -> None:
        """One inference that ended then."""
        self._write(at_s=round(at_s, 6), ms=round(ms, 6), **({} if point is None else {"point": point}))

    def signals(self, at_s: float, signals: Signals) -> None:
        """What sensors said then."""
        self._write(at_s=round(at_s, 6), signals=signals.to_json())

    def decision(self, at_s: float, decision: Decision) -> None:
        """What the controller decided then."""
        told = {
            "point": decision.point,
            "slowdown": decision.slowdown,
            "kind": decision.kind.value,
            "why": decision.why,
        }
        self._write(at_s=round(at_s, 6), decision=told)

    def _write(self, **record: Any) -> None:
        self._file.write(f"{json.dumps(record, allow_nan=False)}\n")


@dataclass
class Stream:
    """What a stream has done: the last latencies and answers, how often each point ran, and the switches."""

    times: deque[float]
    answers: deque[int]
    ran: Counter[int | None]
    switches: list[dict[str, Any]]
    count: int = 0
    within: int = 0

    @property
    def latency(self) -> Latency:
        """Of the inferences that are kept."""
        return Latency.from_samples(list(self.times))


def stream(
    model: Serving,
    pictures: Dataset,
    limit_ms: float,
    console: Console,
    *,
    count: int | None,
    classifies: bool,
    signals: Callable[[], Signals] | None = None,
    trace: Trace | None = None,
) -> Stream:
    """Infer with one picture after the other, `count` times or until it is interrupted.

    `classifies`: whether outputs have one answer each. `signals` reads the sensors, once a second. Raises DataError
    where there are no pictures, and KeyboardInterrupt where it is interrupted before the first inference or `count` was
    given.
    """
    if not len(pictures):
        raise DataError("there are no pictures to run on")
    done = Stream(deque(maxlen=_KEPT), deque(maxlen=_KEPT), Counter(), [])
    begin, decision, sensed_s = time.monotonic(), model.decision, 0.0
    try:
        for number in itertools.count() if count is None else range(count):
            point = model.status().point
            output, ms = model.infer_timed(pictures.image(number % len(pictures)))
            at_s = time.monotonic() - begin
            done.times.append(ms)
            done.ran[point] += 1
            done.count, done.within = number + 1, done.within + (ms <= limit_ms)
            if classifies:
                done.answers.append(int(np.argmax(output[0])))
            if trace:
                trace.inference(at_s, point, ms)
            if signals is not None and at_s >= sensed_s + _SENSES_S:
                sensed_s, said = at_s, signals()
                model.observe(said)
                if trace:
                    trace.signals(at_s, said)
            if model.decision is not decision:
                before, decision = decision, model.decision
                if trace:
                    trace.decision(at_s, decision)
                if decision.point != before.point:
                    done.switches.append(_switch(done.count, at_s, model.points, decision))
                    console.say(f"{at_s:.1f} s: {decision.why}")
            console.live("run", done.count, count, _line(ms, limit_ms, model.status(), len(model.points)))
    except KeyboardInterrupt:
        if count is not None or not done.count:
            raise
    return done


def _switch(after: int, at_s: float, points: Sequence[FrontPoint], decision: Decision) -> dict[str, Any]:
    point = points[decision.point]
    return {
        "after": after,
        "at_s": round(at_s, 3),
        "subnet": list(point.subnet),
        "slowdown": decision.slowdown,
        "expected_ms": decision.slowdown * point.latency_ms,
        "kind": decision.kind.value,
        "why": decision.why,
    }


def _line(ms: float, limit_ms: float, status: Status, points: int) -> str:
    """What is shown while it runs."""
    parts = [f"{ms:.2f} of {limit_ms:.2f} ms"]
    if status.point is not None:
        parts.append(f"point {status.point + 1} of {points}")
    if status.slowdown != 1:
        parts.append(f"{status.slowdown:.2f} times slower than profiled")
    parts += [f"{status.resident_bytes / 1e6:.1f} MB", f"{status.switches} switches"]
    if status.loading:
        parts.append("loading")
    return ", ".join(parts)
