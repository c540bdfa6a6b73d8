"""What this computer's files say while it does something: see `energy`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ..energy import PATTERNS, Drain, Look, Schedule

ROOT = Path("/")


def power_files() -> dict[str, str]:
    """The first lines of those files that tell of energy and can be read, by their paths below the root."""
    texts = {}
    for pattern in PATTERNS:
        with suppress(OSError):
            for path in sorted(ROOT.glob(pattern)):
                text = first_line(path)
                if text is not None:
                    texts[str(path.relative_to(ROOT))] = text
    return texts


def first_line(path: Path) -> str | None:
    """What a file says; None where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").partition("\n")[0].strip()
    except OSError:
        return None


def drain(infer: Callable[[], object], files: Sequence[str], schedule: Schedule) -> Drain:
    """Looks at some files, relative to the root, while nothing is done, while `infer` is called again and again, and
    while nothing is done once more."""
    count = 0

    def run() -> None:
        nonlocal count
        until = time.perf_counter() + schedule.run_s
        while time.perf_counter() < until:
            infer()
            count += 1

    paths = [ROOT / file for file in files]
    time.sleep(schedule.settle_s)
    before = _looks_during(lambda: time.sleep(schedule.idle_s), paths, schedule.every_s)
    running = _looks_during(run, paths, schedule.every_s)
    time.sleep(schedule.settle_s)
    after = _looks_during(lambda: time.sleep(schedule.idle_s), paths, schedule.every_s)
    return Drain(before, running, after, count)


def _looks_during(work: Callable[[], None], paths: Sequence[Path], every_s: float) -> tuple[Look, ...]:
    """Looks from the beginning of some work to its end."""
    looks: list[Look] = []
    done = threading.Event()

    def look() -> None:
        looks.append(Look(time.perf_counter(), tuple(map(first_line, paths))))

    def watch() -> None:
        while not done.wait(every_s):
            look()

    look()
    watcher = threading.Thread(target=watch, name="adaptivenet-looks", daemon=True)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    look()
    return tuple(looks)
