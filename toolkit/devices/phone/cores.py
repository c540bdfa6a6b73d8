"""Which of a phone's cores to run on. A phone has clusters of cores of different speed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import DeviceError
from ..conditions import spell_cores

ANY = "any"
_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


def parse_cores(text: str) -> tuple[int, ...]:
    """The cores in a list such as `4-7` or `0,2,4-5`, in ascending order. Raises DeviceError for anything else."""
    cores: set[int] = set()
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise DeviceError(f"{text!r} names no cores: write them like 4-7 or 0,2,4-5, or {ANY} for all")
        cores.update(range(first, last + 1))
    return tuple(sorted(cores))


def choose_cores(there: Sequence[Mapping[str, Any]], threads: int, wanted: str | None) -> tuple[int, ...] | None:
    """The cores to run on, None for any.

    `there` is what `info` says of the phone's cores, and `wanted` what was asked for: a list for `parse_cores`, `any`,
    or None for the fastest: the cores of the highest frequency, and as many of the next as `threads` need. Where
    frequencies cannot be read, None is any. Raises DeviceError for cores that the phone does not have, and for fewer
    cores than threads.
    """
    known = [int(core["cpu"]) for core in there]
    if wanted == ANY:
        return None
    if wanted is not None:
        cores = parse_cores(wanted)
        if strange := [core for core in cores if core not in known]:
            raise DeviceError(f"there is no core {strange[0]}: the phone has {spell_cores(known)}")
        if len(cores) < threads:
            raise DeviceError(f"{threads} threads need as many cores, and {wanted} are {len(cores)}")
        return cores
    speeds = {int(core["cpu"]): int(core["max_khz"]) for core in there if core.get("max_khz")}
    if not known or len(speeds) < len(known):
        return None
    chosen: list[int] = []
    for speed in sorted(set(speeds.values()), reverse=True):
        if chosen and len(chosen) >= threads:
            break
        chosen += [core for core in known if speeds[core] == speed]
    return tuple(sorted(chosen))
