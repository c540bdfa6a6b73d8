"""The memory that subnets take on this computer: measured by `resident_process`, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ...pack.pack import BlockPack

_STATUS = Path("/proc/self/status")


def resident_mb(
    pack: BlockPack, address: str, threads: int, subnets: Sequence[Sequence[str]], progress: Callable[[int, int], None]
) -> list[float | None]:
    """What each of some subnets of a pack takes on this computer, in 10^6 bytes, once it has run.

    None for those that fail to run in a process of their own, and for all where the system does not tell.
    """
    found: list[float | None] = [None] * len(subnets)
    if anonymous_bytes() is None or not hasattr(os, "fork"):
        return found
    request = {"pack": str(pack.path), "address": address, "threads": threads, "subnets": [*map(list, subnets)]}
    # Libraries that start threads when they are imported could not be forked safely.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.resident_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.close()
            for at, line in zip(range(len(found)), process.stdout):
                grown = json.loads(line)
                found[at] = None if grown is None else max(0, grown) / 1e6
                progress(at + 1, len(found))
        finally:
            process.kill()  # where it was interrupted; else it has ended
    return found


def anonymous_bytes() -> int | None:
    """The bytes of memory that this process has for itself; None where the system does not tell."""
    with suppress(OSError, ValueError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    return None
