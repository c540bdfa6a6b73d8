"""The memory that subnets take, each in a new process, so that nothing that was loaded before is counted or reused.

    python -m adaptivenet.toolkit.devices.local.resident_process

imports an engine once, which takes seconds, and forks for every subnet, which takes milliseconds. It is given one line
of json (see `resident.resident_mb`), and prints a line for each subnet. A forked process first loads and runs the
first original block, so that what the engine allocates once is there already; then it loads the subnet, infers, and
tells by how many bytes it has grown. Only its own pages are counted, not files that are mapped, and what `malloc` keeps
for later is given back first. Linux tells that, other systems do not.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from ...pack.pack import BlockPack
from ..connect import connect, engine_of
from . import executorch_engine, onnxruntime_engine
from .assembler import Assembler
from .interpreter import Chain
from .local import LocalDevice
from .resident import anonymous_bytes

_PATIENCE_S = 600
_RUNS = 5  # after which an engine has allocated all that it will


def _grown_by(assembler: Assembler, subnet: Sequence[str]) -> int | None:
    """The bytes by which this process grows when it loads a subnet and runs it."""
    _run(assembler, assembler.pack.graph.oracle[:1])
    before = _settled_bytes()
    chain = _run(assembler, subnet)
    after = _settled_bytes()
    del chain  # until here, so that it is counted
    return None if before is None or after is None else after - before


def _run(assembler: Assembler, names: Sequence[str]) -> Chain:
    """A chain from cut 0 that was loaded and has run, on zeros."""
    cut = assembler.pack.graph.cuts[0]
    chain = assembler.load_chain(names)
    x = np.zeros(cut.shape, cut.dtype)
    for _ in range(_RUNS):
        chain({0: x})
    return chain


def _settled_bytes() -> int | None:
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    return anonymous_bytes()


def _fork(work: Callable[[], int | None]) -> int | None:
    """What `work` returns in a forked process; None where that fails or ends otherwise."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(_PATIENCE_S)  # ends it, should an engine not take to being forked
        try:
            os.write(writes, json.dumps(work()).encode())
        finally:
            os._exit(0)  # whatever it raised: the other process goes on
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return int(said) if said.strip(b"-").isdigit() else None


def _main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print shall not print there
    request = json.loads(sys.stdin.readline())
    pack = BlockPack.open(request["pack"], verify=False)
    import_engine = {"executorch": executorch_engine.import_libraries, "onnxruntime": onnxruntime_engine.import_library}
    import_engine[engine_of(request["address"])]()
    gc.freeze()  # what is there already need not be looked through again

    def grown_by(subnet: Sequence[str]) -> int | None:
        # The engine is made here: it may have threads, which a fork does not copy.
        device = connect(request["address"], request["threads"])
        assert isinstance(device, LocalDevice)
        return _grown_by(device.assembler(pack), subnet)

    for subnet in request["subnets"]:
        print(json.dumps(_fork(partial(grown_by, subnet))), file=answers, flush=True)


if __name__ == "__main__":
    _main()
