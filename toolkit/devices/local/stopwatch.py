"""A clock that stands still while a thread is ready to run and other programs have the processors.

What a block takes is a fact about the device. That another program ran in between is not: on a busy computer a thread
loses whole time slices of some milliseconds, and a median of runs of which some lost one says little. The kernel counts
the time for which each thread waited for a processor (Linux, `/proc/thread-self/schedstat`, its second number, in
nanoseconds: Documentation/scheduler/sched-stats.rst). Where it does not, the clock is an ordinary one. It counts for
the thread that calls: of an engine with several threads, the others' waiting is not seen.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

_COUNTED = "/proc/thread-self/schedstat"
_BYTES = 64


@dataclass(frozen=True)
class Stamp:
    """A moment: when it `ended` what came before it and `begins` what comes after it, in nanoseconds of an ordinary
    clock, and for how long the thread had waited. Looking at that takes the time between the two."""

    ended: int
    begins: int
    waited: int

    def ns_until(self, other: Stamp) -> int:
        """The nanoseconds from here to `other`, without those in which the thread waited: from 1 to those of the wall.

        The thread may have waited while it looked. So what fits into the two looks is theirs: a block of five
        microseconds loses nothing to a wait of fifty that came after it, and one that waited is too long by some
        microseconds at most. That it is never nothing is because the two clocks do not run exactly alike."""
        waited = other.waited - self.waited - (self.begins - self.ended) - (other.begins - other.ended)
        wall = self.wall_ns_until(other)
        return max(min(1, wall), min(wall, wall - waited))

    def wall_ns_until(self, other: Stamp) -> int:
        """The nanoseconds from here to `other` by an ordinary clock."""
        return other.ended - self.begins


class Stopwatch:
    """Takes `stamps` for the thread that made it. A context manager: leaving it closes the kernel's file."""

    def __init__(self) -> None:
        self.stamps: list[Stamp] = []
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open(_COUNTED, os.O_RDONLY)
        try:
            self._waited()
        except (OSError, IndexError, ValueError):
            self.close()

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the kernel's file; from then on the clock is an ordinary one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def start(self) -> None:
        """Begins anew: this moment is the first stamp."""
        self.stamps = [self._stamp()]

    def split(self) -> None:
        """This moment is the next stamp."""
        self.stamps.append(self._stamp())

    def _stamp(self) -> Stamp:
        ended = time.perf_counter_ns()
        waited = self._waited()
        return Stamp(ended, time.perf_counter_ns(), waited)

    def _waited(self) -> int:
        """Nanoseconds for which the thread was ready and did not run, since it began."""
        return 0 if self._file is None else int(os.pread(self._file, _BYTES, 0).split()[1])
