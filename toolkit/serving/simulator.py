"""Replays a trace, recorded or made up, through the controller: what it would decide, in less than the trace's time.

A trace is jsonl: a record a line, in the order of time. `{"at_s": 1.25, "ms": 8.4, "point": 2}` is an inference of that
point of the front, which ended then. Where the controller runs another point, it takes as much longer or shorter as
that point did when profiled; without `point` it is one of whichever point runs. `{"at_s": 1.3, "signals": {"celsius":
61.5, "throttles_at": 70}}` is what sensors said, `{"at_s": 9, "budgets": {"latency_ms": 8}}` a change of the budgets,
with the fields of `Signals` and `Budgets`. A record with a `decision` tells what was decided when the trace was taken;
it is not replayed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..documents import parse_json
from ..errors import BudgetError, DataError
from ..plurals import number_of
from .controller import Controller
from .decision import Budgets, Decision, Signals

_MAY_BE_NONE = ("memory_mb", "energy_mj")  # budgets that are null where any will do


@dataclass(frozen=True)
class Record:
    """At one time, one of three: an inference that took `ms`, of the point that ran; what sensors said; a change of the
    budgets."""

    at_s: float
    ms: float | None = None
    point: int | None = None
    signals: Signals | None = None
    budgets: Budgets | None = None

    @classmethod
    def from_json(cls, doc: object) -> Record:
        """Read one line of a trace. Raises DataError for what is none, BudgetError for budgets that are none."""
        if not isinstance(doc, dict) or not _is_number(doc.get("at_s")):
            raise DataError(f"it must be an object with the number at_s: got {str(doc)[:80]}")
        match doc:
            case {"at_s": at_s, "ms": ms, **others} if _is_number(ms) and not others.keys() - {"point"}:
                point = others.get("point")
                if point is not None and not (type(point) is int and point >= 0):
                    raise DataError(f"point must be the index of one: got {point!r}")
                return cls(at_s, ms, point)
            case {"at_s": at_s, "signals": dict(signals), **others} if not others:
                return cls(at_s, signals=Signals.from_json(signals))
            case {"at_s": at_s, "budgets": dict(budgets), **others} if not others:
                unknown = budgets.keys() - set(Budgets.__dataclass_fields__)
                numbers = [each for name, each in budgets.items() if each is not None or name not in _MAY_BE_NONE]
                if unknown or "latency_ms" not in budgets or not all(map(_is_number, numbers)):
                    raise DataError(f"budgets are numbers, latency_ms and what Budgets has: got {str(budgets)[:80]}")
                return cls(at_s, budgets=Budgets(**budgets))
        raise DataError(f"it must have one of ms, signals and budgets, and nothing else: got {str(doc)[:80]}")


@dataclass(frozen=True)
class Step:
    """What one record did: `ms` is what the inference took of the point `ran`, None for other records; `decision` what
    the controller decided after it, None where nothing."""

    at_s: float
    ran: int
    ms: float | None
    decision: Decision | None

    @property
    def switched(self) -> bool:
        """Whether another point runs from then on."""
        return self.decision is not None and self.decision.point != self.ran


def read_trace(path: str | Path) -> list[Record]:
    """The records in the file `path`. Raises DataError, naming the line, for what is no record; the last line of a
    trace whose program was killed is cut."""
    records = []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    document = parse_json(line)
                    if not (isinstance(document, dict) and "decision" in document):
                        records.append(Record.from_json(document))
                except (ValueError, DataError, BudgetError) as error:
                    raise DataError(f"line {number} of {path} is no record of a trace: {error}") from error
    return records


def replay(controller: Controller, records: Iterable[Record]) -> Iterator[Step]:
    """What each record does to a controller. Raises DataError for a point that its front has not."""
    for record in records:
        ran = controller.point
        if record.signals is not None:
            yield Step(record.at_s, ran, None, controller.sense(record.at_s, record.signals))
        elif record.budgets is not None:
            yield Step(record.at_s, ran, None, controller.set_budget(record.at_s, record.budgets))
        elif record.ms is not None:
            ms = record.ms
            if record.point is not None and record.point != ran:
                if record.point >= len(controller.points):
                    raise DataError(
                        f"the trace has point {record.point} of a front of {number_of(len(controller.points), 'point')}"
                    )
                ms *= controller.points[ran].latency_ms / controller.points[record.point].latency_ms
            yield Step(record.at_s, ran, ms, controller.observe(record.at_s, ms))


def serve(
    controller: Controller,
    slowdown: Callable[[float], float],
    seconds: float,
    noise: float,
    rng: random.Random,
    signals: Iterable[Record] = (),
) -> Iterator[Step]:
    """Inferences one after the other on a device that is `slowdown(at_s)` times slower than profiled at a time.

    Their latencies vary by the standard deviation `noise`, a share of the median. `signals` are records of a trace
    that come in between.
    """
    waiting = sorted(signals, key=lambda record: record.at_s)
    at_s = 0.0
    while at_s < seconds:
        while waiting and waiting[0].at_s <= at_s:
            yield from replay(controller, [waiting.pop(0)])
        ran = controller.point
        ms = controller.points[ran].latency_ms * slowdown(at_s) * max(0.1, rng.gauss(1.0, noise))
        at_s += ms / 1000.0
        yield Step(at_s, ran, ms, controller.observe(at_s, ms))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
