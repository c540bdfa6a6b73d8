"""Parts of a profile that may be anything (settings, the search), as names and values for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...plurals import number_of

_LONGEST_LIST = 12  # entries; of a longer one only their number is told


def spelled(found: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """What is in a part of a document, whatever it is, as names and values for people."""
    if isinstance(found, Mapping):
        for key, value in found.items():
            yield from spelled(value, f"{name}, {key}" if name else str(key))
        return
    if isinstance(found, list | tuple):
        simple = len(found) <= _LONGEST_LIST and not any(isinstance(each, list | tuple | Mapping) for each in found)
        found = (", ".join(map(str, found)) or "none") if simple else number_of(len(found), "entry", "entries")
    elif name == "memory_bytes" and isinstance(found, int):
        name, found = "memory for features", f"{found / 1e6:.0f} MB"
    elif isinstance(found, float):
        found = f"{found:.4g} s" if name == "seconds" else f"{found:.4g}"
    elif isinstance(found, bool) or found is None:
        found = {True: "yes", False: "no", None: "not given"}[found]
    for ending, unit in (("_mb", "MB"), ("_mj", "mJ")):
        if name.endswith(ending):
            name, found = name.removesuffix(ending), found if found == "not given" else f"{found} {unit}"
    if name:
        yield name.replace("_", " "), str(found)
