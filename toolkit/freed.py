"""What malloc keeps of the memory that was freed, given back to the system. android_runner/serving/freed.cpp is the
same in C++."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_PIECE = 100 << 10  # bytes; below the least size for which malloc maps memory of its own
_LOOK = 32  # pieces between two looks at how much malloc has


def give_freed_memory_back() -> None:
    """Gives the pages of all memory that is free back to the system, where malloc is that of glibc 2.33 or later.

    glibc gives every thread an arena of its own. `malloc_trim` gives back what is free between other things in all
    arenas, but what is free at the end only in the main one; and once something large was freed, up to twice as much as
    that is kept there. So all that is free in this thread's arena is taken, in pieces that are not written to, until
    the arena has to grow. With all of them but the last freed again, nothing is free at its end. Takes some
    milliseconds, and changes no setting of the process.
    """
    malloc = _glibc()
    if malloc is None:
        return
    begun = malloc.mallinfo2()
    pieces: list[int] = []
    while len(pieces) * _PIECE <= begun.fordblks and (piece := malloc.malloc(_PIECE)):
        pieces.append(piece)
        if len(pieces) % _LOOK == 1 and malloc.mallinfo2().arena > begun.arena:
            break
    for piece in pieces[:-1]:
        malloc.free(piece)
    # Without the interpreter's lock: in a large process it takes a while.
    ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
    for piece in pieces[-1:]:
        malloc.free(piece)


_COUNTS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Mallinfo2(ctypes.Structure):
    """As malloc.h has it."""

    _fields_ = [(name, ctypes.c_size_t) for name in _COUNTS]


@cache
def _glibc() -> ctypes.PyDLL | None:
    """The process's malloc, where it is glibc's. Calls by this keep the interpreter's lock: to take it again after
    each of some thousand short ones would make them wait for what infers."""
    if sys.platform != "linux":
        return None
    process = ctypes.PyDLL(None)
    if not (hasattr(process, "mallinfo2") and hasattr(process, "malloc_trim")):
        return None
    process.malloc.restype, process.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    process.free.restype, process.free.argtypes = None, [ctypes.c_void_p]
    process.mallinfo2.restype = _Mallinfo2
    return process
