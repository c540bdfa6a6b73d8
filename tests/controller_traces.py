"""The traces in `vectors/controller.json`, which the controllers in Python and in C++ both replay.

After a change to the controller, `python tests/controller_traces.py` writes them anew, with what Python's decides.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adaptivenet.toolkit.serving.controller import Controller
from adaptivenet.toolkit.serving.decision import Budgets, Decision, Point, Signals

FILE = Path(__file__).parent / "vectors" / "controller.json"
_ABOUT = (
    "Traces for the controller. A record is [at_s, ms], an inference of the point that runs; [at_s, ms, point], one of "
    "a point that ran while the other was loaded; or an object with at_s and signals or budgets. A decision is [after "
    "how many records, point, slowdown, kind, why]; between two, nothing is decided. Written by "
    "tests/controller_traces.py."
)
EDGE, APART = (5.33, 6.85, 8.23, 8.95, 9.5), (7.98, 8.06, 8.14, 8.22, 8.3)
SLOW = (60.0, 80.0, 100.0, 125.0, 150.0)
_HELD = [
    Point(ms, held, energy) for ms, held, energy in zip(SLOW, (40.0, 55.0, 90.0, None, 160.0), (30, 45, 50, 80, 90))
]
Slowdown = Callable[[float, int], float]  # at a time, of a point


def points(*milliseconds: float) -> list[Point]:
    """Points that take so many milliseconds."""
    return [Point(ms) for ms in milliseconds]


def traces() -> dict[str, Any]:
    """All traces, the same every time."""
    edge, held = points(*EDGE), list(_HELD)
    cases = [
        _trace("one point", points(13.97), Budgets(16.22), lambda at, _: 1.0, 0.03, 1),
        _trace("healthy at a budget's edge", edge, Budgets(8.24), lambda at, _: 1.0, 0.03, 1),
        _trace("healthy, points 1% apart", points(*APART), Budgets(8.15), lambda at, _: 1.0, 0.05, 1),
        _trace("hiccups", edge, Budgets(9.0), lambda at, _: 8.0 if int(at * 100) % 9 == 4 else 1.0, 0.03, 1),
        _trace("hot from 0.5 to 1.5 s", edge, Budgets(8.24), lambda at, _: 1.3 if 0.5 <= at < 1.5 else 1.0, 0.04, 4),
        _trace("heats up", points(*APART, 15.6, 19.6), Budgets(16.0), lambda at, _: 1 + at / 2, 0.02, 3),
        _trace("was profiled hot", edge, Budgets(8.24), lambda at, _: 0.8, 0.04, 3),
        _trace("6% slower", edge, Budgets(8.24), lambda at, _: 1.06, 0.01, 2),
        _trace("slow from the start", edge, Budgets(8.24), lambda at, _: 2.0, 0.05, 1),
        _trace("overwhelmed", edge, Budgets(9.6), lambda at, _: 6.0 if at < 0.5 else 0.9, 0.1, 3),
        _trace("nothing fits", edge, Budgets(5.0), lambda at, _: 1.0, 0.05, 1),
        _trace("alternates", edge, Budgets(10.0), _alternates, 0.03, 9),
        _trace("a wave", points(*SLOW), Budgets(155), lambda at, _: 2.0 if at % 6 < 3 else 1.0, 0.03, 70),
        _trace(
            "points that take long to load",
            edge,
            Budgets(9.0),
            lambda at, _: 1.5 if 0.5 < at < 2 else 1,
            0.03,
            4,
            (),
            40,
        ),
        _trace("a steep ramp", points(*(30.0 * 1.06**at for at in range(30))), Budgets(170), _ramp, 0.01, 50),
        _trace("one point was profiled wrong", points(*SLOW), Budgets(155), _biased, 0.03, 60),
        _trace("95th percentile", edge, Budgets(8.6, 95), lambda at, _: 1.0, 0.02, 6),
        _trace("95th percentile of a restless device", edge, Budgets(9.6, 95), lambda at, _: 1.0, 0.09, 6),
        _trace("memory", held, Budgets(155, memory_mb=120), _as_profiled, 0.03, 60, _memory()),
        _trace("pressure", held, Budgets(155), _as_profiled, 0.03, 60, _pressure()),
        _trace("heat", held, Budgets(155), _as_profiled, 0.03, 150, _heat()),
        _trace("headroom, then silence", held, Budgets(155), _as_profiled, 0.03, 90, _headroom()),
        _trace("battery", held, Budgets(155), _as_profiled, 0.03, 40, _battery()),
        _trace("energy", held, Budgets(155, energy_mj=60), _as_profiled, 0.03, 2),
        _trace("load", held, Budgets(155), _as_profiled, 0.03, 40, _load()),
        _trace("states", held, Budgets(155), _as_profiled, 0.03, 90, _states()),
        _trace("sensors that lie", held, Budgets(155), _as_profiled, 0.03, 20, _lies()),
        _trace("budgets", held, Budgets(155), lambda at, _: 1.0 if at < 15 else 1.4, 0.03, 30, _budgets()),
    ]
    return {"about": _ABOUT, "cases": cases}


def _as_profiled(at_s: float, point: int) -> float:
    return 1.0


def _ramp(at_s: float, point: int) -> float:
    return 1.0 + at_s / 11


def _alternates(at_s: float, point: int) -> float:
    """As on a core that is shared for two fifths of the time, until it is not."""
    return 1.9 if at_s < 5 and int(5 * at_s) % 5 in (1, 3) else 1.05


def _biased(at_s: float, point: int) -> float:
    return 1.2 if point == 4 else 1.0


def _said(every_s: float, seconds: float, says: Callable[[float], Signals]) -> Iterator[dict[str, Any]]:
    for number in range(int(seconds / every_s)):
        yield {"at_s": number * every_s, "signals": says(number * every_s).to_json()}


def _memory() -> Iterable[dict[str, Any]]:
    """Short from 10 to 25 s, in ever other amounts."""
    return _said(1, 60, lambda at: Signals(free_mb=(90.0 if 10 <= at < 25 else 400.0) + at % 7))


def _pressure() -> Iterable[dict[str, Any]]:
    return _said(1, 60, lambda at: Signals(pressure=(20.0 if 10 <= at < 30 else 0.0) + at % 3 / 10))


def _heat() -> Iterable[dict[str, Any]]:
    """Up to the limit, some time there, and down again."""
    return _said(2, 150, lambda at: Signals(celsius=min(45 + at, 86 + at % 4 / 10, 156 - at), throttles_at=85.0))


def _headroom() -> Iterable[dict[str, Any]]:
    return _said(2, 40, lambda at: Signals(headroom=0.6 + at / 80))


def _battery() -> Iterable[dict[str, Any]]:
    return _said(1, 40, lambda at: Signals(battery=16.0 - at // 4, charging=at >= 30))


def _states() -> Iterable[dict[str, Any]]:
    """A thermal status that is severe from 5 to 30 s, and a battery saver from 60 to 80 s, each said all the time."""

    def says(at_s: float) -> Signals:
        if at_s < 50:
            return Signals(headroom=1.0 if 5 <= at_s < 30 else 0.5, states=frozenset({"headroom"}))
        return Signals(battery=14.0 if 60 <= at_s < 80 else 60.0, charging=False, states=frozenset({"battery"}))

    return _said(1, 90, says)


def _load() -> Iterable[dict[str, Any]]:
    return _said(1, 40, lambda at: Signals(waited=(0.4 if 10 <= at < 25 else 0.02) + at % 5 / 100))


def _lies() -> Iterable[dict[str, Any]]:
    wrong = Signals(free_mb=-5.0, pressure=900.0, celsius=2000.0, headroom=-1.0, battery=0.0, waited=7.0)
    stuck = Signals(free_mb=3.0, pressure=50.0, celsius=99.0, throttles_at=90.0, headroom=1.2, battery=2.0, waited=0.8)
    return _said(1, 20, lambda at: wrong if at % 2 else stuck)


def _budgets() -> Iterable[dict[str, Any]]:
    for at_s, budgets in (
        (2.0, Budgets(90)),
        (4.0, Budgets(130)),
        (6.0, Budgets(130, memory_mb=60)),
        (9.0, Budgets(130, 90)),
        (12.0, Budgets(155, 50, 200, 85)),
        (20.0, Budgets(400)),
        (25.0, Budgets(50)),
    ):
        yield {"at_s": at_s, "budgets": asdict(budgets)}


def _trace(
    name: str,
    front: Sequence[Point],
    budgets: Budgets,
    slowdown: Slowdown,
    noise: float,
    seconds: float,
    others: Iterable[dict[str, Any]] = (),
    loads: int = 0,
) -> dict[str, Any]:
    """A device that is `slowdown(at_s, point)` times slower than when it was profiled, with noise and cold starts.

    A point is loaded for `loads` inferences of the one that ran before.
    """
    rng, controller = random.Random(name), Controller(front, budgets)
    records: list[Any] = []
    decisions = [_told(0, controller.decision)]
    waiting, at_s, since, ran, loading = list(others), 0.0, 0, controller.point, 0

    def then(record: Any, decision: Decision | None) -> None:
        records.append(record)
        if decision is not None:
            decisions.append(_told(len(records), decision))

    while at_s < seconds:
        while waiting and waiting[0]["at_s"] <= at_s:
            record = waiting.pop(0)
            if "signals" in record:
                then(record, controller.sense(record["at_s"], Signals.from_json(record["signals"])))
            else:
                then(record, controller.set_budget(record["at_s"], Budgets(**record["budgets"])))
        chosen = controller.point
        if chosen != ran and loading == 0:
            ran, since = chosen, 0
        loading = max(0, loading - 1)
        cold = 2.0 if since < 2 else 1.0
        ms = round(front[ran].latency_ms * slowdown(at_s, ran) * cold * max(0.1, rng.gauss(1, noise)), 3)
        at_s = round(at_s + ms / 1000, 4)
        if ran == chosen:
            then([at_s, ms], controller.observe(at_s, ms))
        else:
            then([at_s, ms, ran], controller.observe(at_s, ms, ran))
        since += 1
        if controller.point != chosen:
            loading = loads
    return {
        "name": name,
        "points": [asdict(point) for point in front],
        "budgets": asdict(budgets),
        "records": records,
        "decisions": decisions,
    }


def _told(after: int, decision: Decision) -> list[Any]:
    return [after, decision.point, decision.slowdown, decision.kind.value, decision.why]


if __name__ == "__main__":
    FILE.write_text(json.dumps(traces(), separators=(",", ":")))
