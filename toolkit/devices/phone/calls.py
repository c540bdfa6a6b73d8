"""Requests to the runner on a phone, and the events that answer them. See docs/phone.md.

A request is a shell command that prints the events. When the connection is lost in between, the job goes on on the
phone; the same request is sent again, with the number of the next event.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, TypeVar

from ... import errors
from ...errors import AdaptiveNetError, ConnectionLost, DeviceError
from ..adb.transport import Transport
from ..base import Observer
from .push import Item, Store
from .runner_bundle import PROGRAM, Bundle

Event = Mapping[str, Any]
OnEvent = Callable[[Event], None]
Done = TypeVar("Done")

_INLINE_LIMIT = 2048  # characters of a command line that a request may take; a longer one is pushed as a file
_WAITS_S = (0.5, 1.0, 2.0, 4.0)  # before another attempt after the connection was lost; then always the last
_MAY_LOSE = ("measure", "adapt")  # verbs whose result holds without all of their events
_OWN = f"{PROGRAM}: "  # how the program begins what it has to say itself


class Forgotten(DeviceError):
    """The daemon does not know the job that the host wants to continue: the job has to be done from its beginning."""


class EventsLost(Forgotten):
    """The daemon keeps so many events of a job, and this host was away for longer."""


class Calls:
    """Calls the runner of `bundle`, which `store` has pushed already. One thread at a time may use it."""

    def __init__(
        self,
        transport: Transport,
        store: Store,
        bundle: Bundle,
        observer: Observer,
        *,
        idle_s: int = 300,
        patience_s: float = 60.0,
        speaks: str | None = None,
    ) -> None:
        """`patience_s` bounds how long a lost connection is waited for, `idle_s` how long a daemon waits for a client.

        `speaks` is the version that requests name: by default the bundle's.
        """
        self._transport = transport
        self._store = store
        self._observer = observer
        self._patience_s = patience_s
        self._version = speaks or bundle.version
        program = f"cd {shlex.quote(f'{store.home}/runner/{bundle.digest}')} && exec {shlex.join(bundle.start)}"
        self._start = f"{program} call --home {shlex.quote(store.home)} --idle {idle_s} "
        self._alone = f"{program} alone --home {shlex.quote(store.home)} "
        self._may_stop_foreign = True
        self._events = 0  # how many have come in, of all calls

    def __call__(self, verb: str, on_event: OnEvent | None = None, **fields: Any) -> Event:
        """The result of a request, an event; `on_event` gets every other event but `started` and `waiting`. One of type
        `lost` says how many did not come because nobody took them for long; only verbs that can do without have it.

        After a phone was started anew in between, the job is done again and `on_event` gets its events once more.
        Raises the error that the runner answers with, by its kind; DeviceError when it does not answer or is of
        another version; ConnectionLost when the connection does not come back in time.
        """
        try:
            return self._job(verb, on_event, fields)
        except VersionDiffers as differs:
            self._replace(differs)
        return self._job(verb, on_event, fields)

    def alone(self, verb: str, **fields: Any) -> Event:
        """The result of a request that the runner does in a process of its own, without the daemon.

        It is done anew after the connection was lost. Raises what a call raises.
        """

        def attempt() -> Event:
            job = secrets.token_hex(16)
            request = {"version": self._version, "verb": verb, "job": job, **fields}
            return self._once(request, job, 0, None, self._alone)

        return self.patiently(attempt)

    def stop(self) -> None:
        """Ends the daemon, of whatever version; starts one to end if none runs."""
        self._once({"version": self._version, "verb": "stop"}, "", 0, None)

    def patiently(self, step: Callable[[], Done]) -> Done:
        """What `step` returns. It is called again when the connection was lost, so it must be able to go on.

        A connection that comes back and makes progress may be lost again, any number of times.
        """
        lost_at, reached, waits = 0.0, -1, iter(_WAITS_S)
        while True:
            try:
                done = step()
            except ConnectionLost as error:
                now, before = time.monotonic(), reached
                reached = self._events + self._store.files
                if reached != before:
                    lost_at, waits = now, iter(_WAITS_S)
                    self._observer.say(
                        f"{error}; what was begun goes on there, trying to connect again for {self._patience_s:.0f} s"
                    )
                wait = next(waits, _WAITS_S[-1])
                if now + wait > lost_at + self._patience_s:
                    raise
                time.sleep(wait)
            else:
                if lost_at:
                    self._observer.say(f"connected to {self._transport.address} again")
                return done

    def _job(self, verb: str, on_event: OnEvent | None, fields: Mapping[str, Any]) -> Event:
        job = _Job({"version": self._version, "verb": verb, **fields})

        def attempt() -> Event:
            try:
                return self._once({**job.request, "job": job.id}, job.id, job.next_event, job.noting(on_event))
            except Forgotten as error:
                why = f"{error}" if isinstance(error, EventsLost) else f"{self._transport.address} has started anew"
                self._observer.say(f"{why}: {verb!r} is done from the beginning")
                if isinstance(error, EventsLost):
                    self._once({"version": self._version, "verb": "cancel", "job": job.id}, "", 0, None)
                job.begin_anew()
                return self._once({**job.request, "job": job.id}, job.id, 0, job.noting(on_event))

        try:
            return self.patiently(attempt)
        except AdaptiveNetError:
            raise
        except BaseException:  # such as Ctrl-C: nobody will ask for the result
            with suppress(AdaptiveNetError):
                self._once({"version": self._version, "verb": "cancel", "job": job.id}, "", 0, None)
            raise

    def _once(
        self, request: Mapping[str, Any], job: str, start: int, on_event: OnEvent | None, program: str | None = None
    ) -> Event:
        """One call of the runner, or of another `program` that answers as it does, to the end of its answer."""
        words = self._words({**request, **({"from": start} if start else {})})
        others: list[str] = []
        with closing(self._transport.stream((program or self._start) + words)) as answer:
            for line in answer:
                event = parse_event(line)
                if event is None:
                    others.append(line)
                    continue
                if event["type"] == "lost" and event["job"] == job:
                    start += lost_in(event) - 1
                if event["job"] is not None and (event["job"] != job or event["event"] != start):
                    raise DeviceError(
                        f"the runner on {self._transport.address} answers with event {event['event']} of job "
                        f"{str(event['job'])[:64]}, not with {start} of {job}"
                    )
                start += 1
                self._events += 1
                if event["type"] == "error":
                    raise self._error(event, start - 1)
                if event["type"] == "result":
                    return event
                if event["type"] == "lost" and request["verb"] not in _MAY_LOSE:
                    raise EventsLost(f"{self._transport.address} has dropped {lost_in(event)} events")
                if event["type"] == "waiting":
                    ahead = event.get("ahead")
                    jobs = "another job" if ahead == 1 else f"{ahead} other jobs"
                    self._observer.say(f"{self._transport.address} is busy: waiting for {jobs} to end")
                if on_event:
                    on_event(event)
        raise DeviceError(f"the runner on {self._transport.address} ended without an answer{self._reason(others)}")

    def _reason(self, printed: Sequence[str]) -> str:
        """Why there was no answer, as far as what was printed besides events tells."""
        lines = [text for line in printed if (text := line.strip())]
        own = [at for at, line in enumerate(lines) if line.startswith(_OWN)]
        # The runner's own words, and the last line of the log or output that it quotes then.
        kept = dict.fromkeys([lines[own[0]].removeprefix(_OWN), lines[-1].removeprefix(_OWN)]) if own else lines[-5:]
        said = f": {' ; '.join(kept)}" if kept else ""
        return f"{said} (its log there is {self._store.home}/run/log)"

    def _words(self, request: Mapping[str, Any]) -> str:
        """A request as a word of a command line; a long one is pushed, and the word says where it is."""
        text = json.dumps(request, separators=(",", ":"), allow_nan=False)
        word = shlex.quote(text)
        if len(word) <= _INLINE_LIMIT:
            return word
        content = text.encode()
        digest = hashlib.sha256(content).hexdigest()
        item = Item(f"requests/{digest}.json", digest, len(content), lambda: content)
        self._store.put([item])
        return shlex.quote(f"@{self._store.home}/{item.path}")

    def _error(self, event: Event, number: int) -> AdaptiveNetError:
        kind, message = str(event.get("kind")), str(event.get("message"))
        if kind == "VersionError":
            return VersionDiffers(self._transport.address, str(event.get("version")), self._version)
        if event["job"] is None and kind == "DeviceError" and number > 0:
            return Forgotten(message)
        found = getattr(errors, kind, None)
        if isinstance(found, type) and issubclass(found, AdaptiveNetError):
            return found(message)
        return DeviceError(f"the runner on {self._transport.address} refuses: {message} ({kind})")

    def _replace(self, differs: VersionDiffers) -> None:
        """Ends a daemon of another version if it is idle: an earlier installation or another host has left it."""
        if not self._may_stop_foreign:
            raise differs
        self._may_stop_foreign = False
        busy = DeviceError(f"{differs}; it is not idle: another host uses it")

        def refuse_to_wait(event: Event) -> None:
            if event["type"] == "waiting":
                raise busy

        # The daemon answers a request of its own version, and says whether other jobs are before this one.
        job = _Job({"version": differs.version, "verb": "info"})
        try:
            self._once({**job.request, "job": job.id}, job.id, 0, refuse_to_wait)
        except AdaptiveNetError as error:
            raise busy from error
        self._observer.explain(f"{differs.address} has an idle runner of version {differs.version}, which is ended")
        self.stop()


class VersionDiffers(DeviceError):
    """The daemon on the phone is of another version, and refuses the request."""

    def __init__(self, address: str, theirs: str, ours: str) -> None:
        super().__init__(
            f"{address} runs a runner of version {theirs}, this is version {ours}: use the same version on all hosts, "
            f"or end everything there by adaptivenet-profile --device {address} --clean"
        )
        self.address = address
        self.version = theirs


class _Job:
    """A request with the job's id that the host has chosen, and how far its events have been seen."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request = request
        self.begin_anew()

    def begin_anew(self) -> None:
        self.id = secrets.token_hex(16)
        self.next_event = 0

    def noting(self, on_event: OnEvent | None) -> OnEvent:
        def note(event: Event) -> None:
            self.next_event = event["event"] + 1
            if on_event and event["type"] not in ("started", "waiting"):
                on_event(event)

        return note


def parse_event(line: str) -> Event | None:
    """The event in a line; None for any other line, such as a warning of the loader.

    Raises DeviceError for a number that is not finite.
    """
    if not line.lstrip().startswith("{"):
        return None
    try:
        event = json.loads(line, parse_constant=_number, parse_float=_number, parse_int=_number)
    except ValueError:
        return None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str) or "job" not in event:
        return None
    return event if type(event.get("event")) is int else None


def lost_in(event: Event) -> int:
    """How many events one of type `lost` stands for. Raises DeviceError for what is no number of events."""
    count = event.get("count")
    if type(count) is not int or count < 1:
        raise DeviceError(f"the runner answered that {str(count)[:40]} events were lost; that is no number of them")
    return count


def _number(text: str) -> float:
    value: float = int(text) if len(text) < 20 and text.lstrip("-").isdigit() else float(text)
    if not math.isfinite(value):
        raise DeviceError(f"the runner answered with the number {text[:40]}: nothing that it counts or measures is so")
    return value


def read_result(verb: str, read: Callable[[], Done]) -> Done:
    """What `read` finds in a runner's answer. Raises DeviceError when the answer is not as docs/phone.md says."""
    try:
        return read()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DeviceError(f"the runner's answer to {verb!r} is not one ({type(error).__name__}: {error})") from error
