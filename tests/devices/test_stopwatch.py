"""A clock that does not count what other programs take."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from adaptivenet.toolkit.devices.local import stopwatch
from adaptivenet.toolkit.devices.local.stopwatch import Stamp, Stopwatch
from hypothesis import given
from hypothesis import strategies as st

COUNTED = Path("/proc/thread-self/schedstat")
SPIN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint('spinning', flush=True)\nwhile True: pass"


def work(ns: int) -> None:
    """Takes so much processor time."""
    until = time.thread_time_ns() + ns
    while time.thread_time_ns() < until:
        pass


def on_core(core: int, job: Callable[[], None]) -> None:
    """Does it in a thread of its own, on one core."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            os.sched_setaffinity(0, {core})
            job()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@contextmanager
def busy(core: int, programs: int) -> Iterator[None]:
    spinning = [
        subprocess.Popen([sys.executable, "-c", SPIN, str(core)], stdout=subprocess.PIPE) for _ in range(programs)
    ]
    try:
        for each in spinning:
            assert each.stdout is not None
            assert each.stdout.readline()
        yield
    finally:
        for each in spinning:
            each.kill()
            each.communicate()


@pytest.mark.skipif(not COUNTED.exists(), reason="the kernel does not count what threads wait for")
def test_what_other_programs_take_is_not_counted() -> None:
    core = min(os.sched_getaffinity(0))
    ran: list[int] = []
    wall: list[int] = []
    took: list[int] = []

    def job() -> None:
        with Stopwatch() as watch:
            before = time.thread_time_ns()
            watch.start()
            for _ in range(30):
                work(2_000_000)
                watch.split()
            took.append(time.thread_time_ns() - before)
            ran.extend(begin.ns_until(end) for begin, end in pairwise(watch.stamps))
            wall.extend(begin.wall_ns_until(end) for begin, end in pairwise(watch.stamps))

    with busy(core, 2):
        on_core(core, job)
    of_others = sum(wall) - took[0]
    assert of_others > 0, "two other programs had the core as well, and an ordinary clock counts them"
    assert abs(sum(ran) - took[0]) < 0.25 * of_others, "what it counts is the thread's own processor time"


def test_without_the_kernels_count_it_is_an_ordinary_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for content in (None, "", "17", "a b c", "a folder"):
        counted = tmp_path / f"schedstat {content}"
        monkeypatch.setattr(stopwatch, "_COUNTED", str(counted))
        if content == "a folder":
            counted.mkdir()
        elif content is not None:
            counted.write_text(content)
        with Stopwatch() as watch:
            watch.start()
            time.sleep(0.002)
            watch.split()
        begin, end = watch.stamps
        assert begin.ns_until(end) == begin.wall_ns_until(end) >= 2_000_000


def test_what_fits_into_the_looks_is_theirs() -> None:
    # From 100 to 900, of which the thread waited for 300; then it lost the processor before it could look.
    begin = Stamp(ended=80, begins=100, waited=1000)
    end = Stamp(ended=900, begins=700_900, waited=701_300)
    assert (begin.wall_ns_until(end), begin.ns_until(end)) == (800, 520)
    assert begin.ns_until(Stamp(900, 50_950, 51_000)) == 800, "a wait in the look at the end"
    assert Stamp(50, 50_100, 0).ns_until(Stamp(50_900, 50_910, 50_000)) == 800, "a wait in the look at the beginning"
    assert begin.ns_until(Stamp(900, 901, 5000)) == 1, "the kernel's count may be a little ahead"
    # A look may take long though the thread did not wait: an interrupt, or another machine on the same processor.
    assert Stamp(50, 100, 0).ns_until(Stamp(900, 200_900, 0)) == 800


NS = st.integers(0, 10**7)


@given(st.tuples(NS, NS, NS, NS), st.tuples(NS, NS), NS.map(lambda ns: ns + 1), NS, st.tuples(NS, NS))
def test_a_time_is_never_short_and_too_long_by_the_looks_own_time_at_most(
    looks: tuple[int, int, int, int], around: tuple[int, int], inside: int, within: int, unseen: tuple[int, int]
) -> None:
    """Each of two looks works before and after the kernel's count, waits between it and the interval (`around`), and
    on its far side (`unseen` by the difference of the counts). The interval works `inside` and waits `within`."""
    begins = unseen[0] + looks[0] + looks[1] + around[0]
    ended = begins + inside + within
    begin = Stamp(0, begins, unseen[0])
    end = Stamp(ended, ended + looks[2] + around[1] + looks[3] + unseen[1], unseen[0] + around[0] + within + around[1])
    assert inside <= begin.ns_until(end) <= min(inside + within, inside + sum(looks) + sum(unseen))
