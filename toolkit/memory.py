"""How much memory this process may still take, and how much it took."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

_ELSE = 1 << 30
_T = TypeVar("_T")
_PAGES = "SC_AVPHYS_PAGES", "SC_PAGE_SIZE"


def free_bytes() -> int:
    """The bytes that may be used before memory runs short; 1 GiB where the system does not tell."""
    told = free_bytes_told()
    return _ELSE if told is None else told


def free_bytes_told(root: Path = Path("/")) -> int | None:
    """The bytes that may be used before memory runs short; None where the system does not tell.

    The least of what the computer has (`MemAvailable` of /proc/meminfo), what the control groups of this process leave
    (memory.max of version 2, memory.limit_in_bytes of version 1), and what its own limits do (`ulimit -v` and `-d`).
    `root` is the folder that has proc and sys.
    """
    known = [*_of_computer(root), *_of_groups(root), *_of_limits(root)]
    return max(0, min(known)) if known else None


def taking(run: Callable[[], _T]) -> tuple[_T, int]:
    """What `run` gives, and by how many bytes this process was larger meanwhile than before; 0 where nothing tells."""
    status, forget = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    before = None
    with suppress(OSError):
        forget.write_text("5")  # the most that the process ever took is counted anew (proc(5))
        before = _number(status, r"^VmRSS:\s+(\d+) kB")
    given = run()
    most = _number(status, r"^VmHWM:\s+(\d+) kB")
    return given, 0 if before is None or most is None else max(0, 1024 * (most - before))


def _of_computer(root: Path) -> Iterator[int]:
    found = _number(root / "proc/meminfo", r"^MemAvailable:\s+(\d+) kB")
    if found is not None:
        yield 1024 * found
        return
    with suppress(OSError, ValueError):
        yield os.sysconf(_PAGES[0]) * os.sysconf(_PAGES[1])


def _of_groups(root: Path) -> Iterator[int]:
    """What each group that this process lies in leaves; the kernel can take back what it keeps of unused files."""
    base = root / "sys/fs/cgroup"
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                top, most, used = base, "memory.max", "memory.current"
            elif "memory" in controllers.split(","):
                top, most, used = base / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            else:
                continue
            at = top / path.lstrip("/")
            for folder in (at, *at.parents):
                limit, taken = _number(folder / most, r"^(\d+)$"), _number(folder / used, r"^(\d+)$")
                if limit is not None and taken is not None:
                    unused = _number(folder / "memory.stat", r"^(?:total_)?inactive_file (\d+)$") or 0
                    yield limit - taken + unused
                if folder == top:
                    break


def _of_limits(root: Path) -> Iterator[int]:
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, _ = resource.getrlimit(limit)
        taken = _number(root / "proc/self/status", rf"^{name}:\s+(\d+) kB")
        if most != resource.RLIM_INFINITY and taken is not None:
            yield most - 1024 * taken


def _number(path: Path, pattern: str) -> int | None:
    with suppress(OSError):
        found = re.search(pattern, path.read_text(), re.MULTILINE)
        return int(found[1]) if found else None
    return None
