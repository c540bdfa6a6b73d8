"""The thread that loads what shall serve beside what serves, and releases what is no longer needed.

The thread that infers never waits for it: it takes what is `ready` when an inference begins, so that a swap is between
two inferences, and what it displaced is released here when that inference has ended.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from ..devices.local.assembler import Assembler, Piece
from ..devices.local.interpreter import Chain
from ..errors import AdaptiveNetError, DeviceError
from ..freed import give_freed_memory_back
from ..graph.graph import Subnet
from .pager import Pager

BAR_S = 30.0
"""A subnet that could not be loaded is not tried again for so long, unless it is asked for by name."""

_NICE = 10  # of 0 to 19: the loader yields to others, but on a busy device it still gets on


@dataclass(frozen=True)
class Target:
    """A subnet to serve with, and its index in the front; None for one that was asked for by name."""

    subnet: Subnet
    point: int | None = None


@dataclass(frozen=True, eq=False)
class Ready:
    """A target with everything that it takes to run it."""

    target: Target
    pieces: tuple[Piece, ...]
    chain: Chain


@dataclass(frozen=True)
class Loaded:
    """What the loader knows at one moment: what serves, what is loaded beside it, the bytes of the artifacts of all
    that is loaded, how often another subnet came to serve, and the last error of loading."""

    serving: Target | None = None
    loading: Target | None = None
    bytes: int = 0
    switches: int = 0
    error: str | None = None


@dataclass(frozen=True)
class _Wish:
    """What shall serve: the first of `targets` that can be loaded. Wishes are numbered in the order in which they came;
    the last one counts."""

    number: int
    targets: tuple[Target, ...] = ()
    by_name: bool = False


class Loader:
    """Loads for `assembler` the first of the wanted targets that can be loaded. `front` has the subnets of all points.

    The artifacts of all that is loaded are within `limit_bytes`; with a limit, the neighbours of what serves are loaded
    ahead where there is room. Without one (None), nothing is kept beside what serves.

    Callers take no lock: a signal handler that interrupts one of them, and an exception that it raises, find and leave
    everything usable. What they want goes through queues that may be put to and read from anywhere, and all else is
    the thread's own.
    """

    def __init__(self, assembler: Assembler, front: Sequence[Subnet], limit_bytes: int | None = None) -> None:
        self.ready: Ready | None = None
        self._running: Ready | None = None
        self._assembler = assembler
        self._front = [Target(subnet, point) for point, subnet in enumerate(front)]
        self._pager = Pager([assembler.pieces(subnet) for subnet in front], limit_bytes)
        self._limit = limit_bytes
        self._given_back = 0  # of the pager's releases
        self._displaced: list[Ready] = []  # while they run for the last time
        self._barred: dict[Subnet, tuple[float, AdaptiveNetError]] = {}  # until when, and why
        self._state = Loaded()
        self._numbers = itertools.count(1)
        self._asked = 0  # the number of the last wish
        self._wishes: SimpleQueue[_Wish | None] = SimpleQueue()  # None: something else has happened
        self._wish = _Wish(0)  # the one that counts
        self._settled: tuple[int, str | None] = (0, None)  # the number of a wish, and why nothing of it can be loaded
        self._waiting: dict[int, SimpleQueue[None]] = {}
        self._closing = False
        self._ended: SimpleQueue[None] = SimpleQueue()  # has something when the thread has done all that it does
        self._thread = threading.Thread(target=self._work, name="adaptivenet loader", daemon=True)
        self._thread.start()

    @property
    def state(self) -> Loaded:
        """What is known now."""
        return self._state

    @property
    def is_settled(self) -> bool:
        """Whether what was wanted last serves, or another in its place, or nothing of it can be loaded."""
        return self._settled[0] >= self._asked

    def want(self, targets: Sequence[Target], by_name: bool = False) -> None:
        """The first of these that can be loaded serves from now on. Returns at once.

        What is asked for by name is tried also where it could not be loaded a moment ago, and it is an error when it
        cannot be; otherwise what serves already is as good.
        """
        number = next(self._numbers)
        self._asked = max(self._asked, number)
        self._wishes.put(_Wish(number, tuple(targets), by_name))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until what was wanted last serves, or another in its place; False when that takes longer.

        Raises DeviceError when nothing of what was wanted could be loaded, and when it is closed.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        number, told = self._asked, SimpleQueue[None]()
        try:
            self._waiting[id(told)] = told
            while True:
                settled, failure = self._settled
                if self._closing:
                    raise DeviceError("the model is closed")
                if settled >= number:
                    break
                try:
                    told.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
                except Empty:
                    return False
        finally:
            self._waiting.pop(id(told), None)
        if failure is not None:
            raise DeviceError(f"what was asked for cannot be loaded: {failure}")
        return True

    def begin(self) -> Ready | None:
        """For the thread that infers: what to run; it is not released before `end`."""
        self._running = ready = self.ready
        while ready is not self.ready:  # displaced between the two: the loader may not have seen that it runs
            self._running = ready = self.ready
        return ready

    def end(self, ready: Ready) -> None:
        """For the thread that infers: the inference with what `begin` gave has ended."""
        self._running = None
        if ready is not self.ready:
            self._wishes.put(None)

    def close(self) -> None:
        """End the thread and release everything. No inference may run, but one that this call interrupts."""
        self._closing = True
        self._wishes.put(None)
        self._tell()
        if self._thread is not threading.current_thread():  # on which a model that was dropped may be collected
            try:
                self._wait_for_end()
            except KeyboardInterrupt:  # that is no reason to leave the thread: it would abort a process that ends now
                self._wait_for_end()
                raise
            self._thread.join()
        self.ready = None
        self._state = replace(self._state, serving=None, loading=None, bytes=0)

    def _wait_for_end(self) -> None:
        """Not by `join`, which takes a thread for ended when it is interrupted; in a forked process there is none."""
        while self._thread.is_alive():
            with suppress(Empty):
                self._ended.get(timeout=1.0)
                self._ended.put(None)
                return

    def _tell(self) -> None:
        """All that wait look again."""
        for told in list(self._waiting.values()):
            told.put(None)

    def _work(self) -> None:
        try:
            self._page()
        finally:
            self._ended.put(None)

    def _page(self) -> None:
        _yield_to_others()
        while not self._closing:
            self._take_wishes()
            self._release_displaced()
            wanted = self._wish.targets
            target = next((each for each in wanted if not self._is_barred(each)), None)
            serving = self.ready.target if self.ready else None
            failure = None
            if target is None and wanted and (serving is None or self._wish.by_name):
                failure = str(self._barred[wanted[-1].subnet][1])
            if target is not None and target != serving:
                self._advance(target)
            elif not self._load_ahead(failure):
                self._pause(failure)
        self._pager, self._displaced = Pager([]), []

    def _take_wishes(self) -> None:
        with suppress(Empty):
            while True:
                self._take(self._wishes.get_nowait())

    def _take(self, wish: _Wish | None) -> None:
        if wish is None:
            return
        if wish.by_name:
            for target in wish.targets:
                self._barred.pop(target.subnet, None)
        if wish.number > self._wish.number:  # of two threads that want something at the same time, either may be first
            self._wish = wish

    def _pause(self, failure: str | None) -> None:
        """Wait until something is to be done: another wish, a subnet to release or to try again."""
        self._settle(failure)
        until = min((until for until, _ in self._barred.values()), default=None)
        with suppress(Empty):
            self._take(self._wishes.get(timeout=None if until is None else max(0.0, until - time.monotonic())))
        now = time.monotonic()
        self._barred = {subnet: bar for subnet, bar in self._barred.items() if bar[0] > now}

    def _settle(self, failure: str | None) -> None:
        """What was wanted when it was last looked at serves, or none of it can be loaded, for the reason `failure`;
        something else may be wanted by now."""
        self._pager.trim(self._in_use())
        self._note(loading=None)
        self._settled = (self._wish.number, failure)
        self._tell()
        if self._given_back != self._pager.releases:
            self._given_back = self._pager.releases
            give_freed_memory_back()

    def _advance(self, target: Target) -> None:
        """One step on the way to a target: the next piece that is missing, or the swap."""
        pieces = self._assembler.pieces(target.subnet)
        self._note(loading=target)
        try:
            if missing := self._pager.missing(pieces):
                self._load(missing, pieces, target)
            else:
                self._serve(Ready(target, pieces, self._assembler.chain(target.subnet, self._pager.programs())))
        except AdaptiveNetError as error:
            self._bar(target, error)
        except MemoryError:
            self._bar(target, DeviceError("there is no memory to load a subnet; give a lower memory limit"))
        except Exception as error:  # whatever it is, what serves must serve on
            self._bar(target, DeviceError(f"a subnet does not load: {type(error).__name__}: {error}"))

    def _load(self, missing: Sequence[Piece], pieces: Sequence[Piece], target: Target) -> None:
        bytes_ = sum(piece.bytes for piece in missing)
        if not self._pager.make_room(bytes_, {*self._in_use(), *pieces}, target.point):
            if self._displaced:  # what runs for the last time takes memory that is free in a moment
                if not self._may_release():
                    self._take(self._wishes.get())
                return
            assert self._limit is not None
            raise DeviceError(
                f"a subnet needs {bytes_ / 1e6:.1f} MB beside the {self._pager.bytes / 1e6:.1f} MB that are "
                f"loaded; the limit is {self._limit / 1e6:.1f} MB"
            )
        self._pager.add(missing[0], self._assembler.load(missing[0]))

    def _serve(self, ready: Ready) -> None:
        displaced, self.ready = self.ready, ready
        if displaced is not None:
            self._displaced.append(displaced)
        self._pager.touch(ready.pieces)
        self._state = replace(
            self._state,
            serving=ready.target,
            loading=None,
            bytes=self._pager.bytes,
            switches=self._state.switches + (displaced is not None),
        )

    def _load_ahead(self, failure: str | None) -> bool:
        """Load one piece of a neighbour of what serves, if there is room; whether that was done."""
        point = self.ready.target.point if self.ready else None
        if point is None:
            return False
        ahead = self._pager.ahead(point, lambda each: self._is_barred(self._front[each]))
        if ahead is None:
            return False
        self._settle(failure)
        self._advance(self._front[ahead])
        self._note(loading=None)
        return True

    def _bar(self, target: Target, error: AdaptiveNetError) -> None:
        self._barred[target.subnet] = (time.monotonic() + BAR_S, error)
        self._state = replace(self._state, loading=None, error=str(error))

    def _is_barred(self, target: Target) -> bool:
        bar = self._barred.get(target.subnet)
        return bar is not None and time.monotonic() < bar[0]

    def _in_use(self) -> set[Piece]:
        return {piece for ready in (self.ready, *self._displaced) if ready for piece in ready.pieces}

    def _may_release(self) -> bool:
        return any(each is not self._running for each in self._displaced)

    def _release_displaced(self) -> None:
        self._displaced = [each for each in self._displaced if each is self._running]

    def _note(self, loading: Target | None) -> None:
        self._state = replace(self._state, loading=loading, bytes=self._pager.bytes)


def _yield_to_others() -> None:
    """Lower the priority of this thread, where a thread has one of its own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
