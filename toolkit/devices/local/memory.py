"""How much memory this computer has left."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_ELSE = 1 << 30


def free_bytes() -> int:
    """The bytes that may be used before memory runs short; 1 GiB where the system does not tell."""
    with suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if found:
            return 1024 * int(found[1])
    with suppress(OSError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _ELSE
