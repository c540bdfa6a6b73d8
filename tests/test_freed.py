"""What a thread has freed goes back to the system, also what lies at the end of its heap."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import pytest
from adaptivenet.toolkit import freed

PIECE, PIECES = 32 << 10, 1024


def resident() -> int:
    """In bytes, without files that are mapped."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon:")).split()[1])


@pytest.mark.parametrize("at_the_end", [True, False])
def test_what_a_thread_has_freed_is_given_back(at_the_end: bool) -> None:
    malloc = freed._glibc()
    if malloc is None:
        pytest.skip("another malloc than glibc's, or an older one")
    found: list[int] = []

    def filled(size: int) -> int:
        memory: int = malloc.malloc(size)
        ctypes.memset(memory, 1, size)
        return memory

    def run() -> None:
        malloc.free(filled(24 << 20))  # of twice as much as this, glibc gives nothing back by itself from now on
        pieces = [filled(PIECE) for _ in range(PIECES)]
        last = pieces.pop()
        for piece in [*pieces, last] if at_the_end else pieces:
            malloc.free(piece)
        found.append(resident())
        freed.give_freed_memory_back()
        found.append(resident())
        if not at_the_end:
            malloc.free(last)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    before, after = found
    assert after < before - PIECE * PIECES / 2


def test_another_malloc_keeps_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed, "_glibc", lambda: None)
    freed.give_freed_memory_back()
