"""A stream of inferences: what is shown while it runs, its trace, and what is said of it at the end."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..data import Dataset
from ..devices.base import Device, Session
from ..devices.local.local import LocalDevice
from ..devices.phone.calls import read_result
from ..devices.phone.session import PhoneSession
from ..errors import DataError
from ..graph.front import FrontPoint
from ..graph.latency import Latency
from ..pack.pack import BlockPack
from ..plurals import number_of
from ..profiling.profile import Profile
from ..report.milliseconds import decimals
from ..serving.controller import Controller
from ..serving.decision import Budgets, Decision, Kind, Signals, points_of
from ..serving.model import Model
from ..serving.signals import read_signals
from .console import Console

_WITHOUT_END = 1_000_000_000  # inferences, the most that a runner takes
_SENSES_S = 1.0  # from one look at this computer's sensors to the next
_KEPT = 100_000  # latencies and answers of a stream without an end: the last ones


class Trace:
    """A file of json lines, which `serving.simulator` replays: budgets, inferences, signals; decisions for a reader."""

    def __init__(self, path: str, budgets: Budgets) -> None:
        """Writes to the file `path`. A context manager; leaving it closes the file. Raises OSError, with the path."""
        self._path = path
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self._write(at_s=0.0, budgets={name: value for name, value in vars(budgets).items() if value is not None})

    def inference(self, at_s: float, point: int, ms: float) -> None:
        """One inference that ended then."""
        self._write(at_s=round(at_s, 6), ms=round(ms, 6), point=point)

    def signals(self, at_s: float, signals: Signals) -> None:
        """What sensors said then."""
        self._write(at_s=round(at_s, 6), signals=signals.to_json())

    def decision(self, at_s: float, decision: Decision) -> None:
        """What the controller decided then."""
        told = {"point": decision.point, "slowdown": decision.slowdown, "kind": decision.kind.value}
        self._write(at_s=round(at_s, 6), decision=told | {"why": decision.why})

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *raised: object) -> None:
        with self._naming_it():
            self._file.close()

    def _write(self, **record: Any) -> None:
        with self._naming_it():
            self._file.write(f"{json.dumps(record, allow_nan=False)}\n")

    @contextmanager
    def _naming_it(self) -> Iterator[None]:
        """Errors of writing, as of a full disk, do not say which file."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from None


class Stream:
    """Inferences of the points of a front, as they are made: shown, traced, and counted.

    `ran` is how often each point ran, `times` and `answers` are the last milliseconds and answers, `switches` where
    another point served than before and the decision that led to it, `within` how many inferences were within the
    limit. `failures` are why what was decided could not be loaded, each once. `page_in_ms` and `page_in_bytes` are what
    the first subnet took to load.
    """

    def __init__(
        self, points: Sequence[FrontPoint], limit_ms: float, count: int | None, console: Console, trace: Trace | None
    ) -> None:
        """`count` is how many are to be made; None: until it is interrupted."""
        self.points, self.limit_ms, self.asked = points, limit_ms, count
        self.times: deque[float] = deque(maxlen=_KEPT)
        self.answers: deque[int] = deque(maxlen=_KEPT)
        self.ran: Counter[int] = Counter()
        self.switches: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.count = self.within = 0
        self.page_in_ms, self.page_in_bytes = 0.0, 0
        self._console, self._trace = console, trace
        self._decimals = decimals(point.latency_ms for point in points)
        self._decision: Decision | None = None
        self._led_to: dict[int, Decision] = {}  # the decision that last chose each point
        self._serving: int | None = None

    @property
    def latency(self) -> Latency:
        """Of the inferences that are kept."""
        return Latency.from_samples(list(self.times))

    def inference(self, at_s: float, point: int, ms: float, state: str = "") -> None:
        """One that ended then; `state` is more to show."""
        if point != self._serving:
            self._switched(at_s, point)
        self.times.append(ms)
        self.ran[point] += 1
        self.count, self.within = self.count + 1, self.within + (ms <= self.limit_ms)
        if self._trace:
            self._trace.inference(at_s, point, ms)
        places = self._decimals
        shown = f"{ms:.{places}f} of {self.limit_ms:.{places}f} ms, point {point + 1} of {len(self.points)}"
        shown += f", {number_of(len(self.switches), 'switch', 'switches')}{state}"
        if self._decision and self._decision.slowdown != 1:
            shown += f", {self._decision.slowdown:.2f} times slower than profiled"
        self._console.live("run", self.count, self.asked, shown)

    def failed(self, why: str) -> None:
        """What was decided cannot be loaded, for this reason, which may be known already."""
        if why not in self.failures:
            self.failures.append(why)
            self._console.say(f"warning: {why}; another subnet serves")

    def lost(self, count: int) -> None:
        """So many inferences and decisions of a phone were never told: nobody took them for too long."""
        self._console.say(f"warning: {count} events of the phone were not taken in time, and count nowhere")

    def sensed(self, at_s: float, signals: Signals) -> None:
        """What sensors said then."""
        if self._trace:
            self._trace.signals(at_s, signals)

    def decided(self, at_s: float, decision: Decision) -> None:
        """The controller's latest decision, which may be known already."""
        before, self._decision = self._decision, decision
        if decision is before:
            return
        if self._trace:
            self._trace.decision(at_s, decision)
        if before and decision.point != before.point:
            self._led_to[decision.point] = decision
            self._console.say(f"{at_s:.1f} s: {decision.why}")

    def _switched(self, at_s: float, point: int) -> None:
        """Another point serves than before, which may be long after it was decided, or not at all."""
        before, self._serving = self._serving, point
        decision = self._led_to.get(point, self._decision)
        if before is None or decision is None:
            return
        self.switches.append(
            {
                "after": self.count,
                "at_s": round(at_s, 3),
                "subnet": list(self.points[point].subnet),
                "slowdown": decision.slowdown,
                "expected_ms": decision.slowdown * self.points[point].latency_ms,
                "kind": decision.kind.value,
                "why": decision.why,
            }
        )


def serve(
    stream: Stream,
    device: Device,
    pack: BlockPack,
    known: Profile,
    budgets: Budgets,
    pictures: Dataset,
    only: FrontPoint | None,
    classifies: bool,
) -> None:
    """Infer on a device with one picture after the other: with what the controller chooses, or `only` with one point.

    On this computer that is a `Model`. A phone's runner decides by itself, and tells how it is going: then there are no
    answers. `classifies`: whether outputs have one answer each. It ends when `stream` has as many inferences as asked
    for; where none were, when it is interrupted. Raises DataError where there are no pictures, and KeyboardInterrupt
    where it is interrupted before its end, or the first inference.
    """
    if not len(pictures):
        raise DataError("there are no pictures to run on")
    try:
        if isinstance(device, LocalDevice):
            with Model(pack, known, device.assembler(pack), budgets) as model:
                _by_model(stream, model, pictures, only, classifies)
            return
        with device.open(pack) as session:
            first = only or stream.points[Controller(points_of(known.front), budgets).point]
            page_in = session.activate(first.subnet)
            stream.page_in_ms, stream.page_in_bytes = page_in.ms, page_in.bytes_in
            if only:
                _by_session(stream, session, pictures, only, classifies)
            else:
                assert isinstance(session, PhoneSession)
                _by_runner(stream, session, known, budgets, pictures)
    except KeyboardInterrupt:
        if stream.asked is not None or not stream.count:
            raise


def _by_model(stream: Stream, model: Model, pictures: Dataset, only: FrontPoint | None, classifies: bool) -> None:
    begin = time.perf_counter()
    if only:
        model.activate(only.subnet)
    model.wait()
    stream.page_in_ms = (time.perf_counter() - begin) * 1e3
    stream.page_in_bytes = model.status().resident_bytes
    if not only:
        stream.decided(0.0, model.decision)
    begin, sensed_s = time.perf_counter(), 0.0
    for number in itertools.count() if stream.asked is None else range(stream.asked):
        output, ms, point = model.infer_at(pictures.image(number % len(pictures)))
        at_s, status = time.perf_counter() - begin, model.status()
        assert point is not None, "only points of the front are asked for"
        if status.error is not None:
            stream.failed(status.error)
        if classifies:
            stream.answers.append(int(np.argmax(output[0])))
        state = f", {status.resident_bytes / 1e6:.1f} MB" + (", loading" if status.loading else "")
        stream.inference(at_s, point, ms, state)
        if only:
            continue
        stream.decided(at_s, model.decision)
        if at_s >= sensed_s + _SENSES_S:
            sensed_s, signals = at_s, read_signals()
            decision = model.observe(signals)
            stream.sensed(at_s, signals)
            if decision:
                stream.decided(at_s, decision)


def _by_session(stream: Stream, session: Session, pictures: Dataset, point: FrontPoint, classifies: bool) -> None:
    begin, at = time.perf_counter(), stream.points.index(point)
    for number in itertools.count() if stream.asked is None else range(stream.asked):
        output, ms = session.infer_timed(pictures.image(number % len(pictures)))
        if classifies:
            stream.answers.append(int(np.argmax(output[0])))
        stream.inference(time.perf_counter() - begin, at, ms)


def _by_runner(stream: Stream, session: PhoneSession, known: Profile, budgets: Budgets, pictures: Dataset) -> None:
    stated = points_of(known.front)
    front = [{"subnet": list(point.subnet), **vars(each)} for point, each in zip(stream.points, stated, strict=True)]

    def heed(event: Mapping[str, Any]) -> None:
        if event["type"] == "decision":
            numbers = int(event["point"]), float(event["slowdown"])
            stream.decided(float(event["at_s"]), Decision(*numbers, Kind(event["kind"]), str(event["why"])))
        elif event["type"] == "inference":
            stream.inference(float(event["at_s"]), int(event["point"]), float(event["ms"]))
        elif event["type"] == "lost":
            stream.lost(int(event["count"]))

    count = _WITHOUT_END if stream.asked is None else stream.asked
    session.adapt(front, vars(budgets), pictures, count, lambda event: read_result("adapt", lambda: heed(event)))
