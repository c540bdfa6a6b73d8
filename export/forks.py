"""Workers that start at once: a process that has imported what exporters need, and forks workers from itself.

To import that takes longer than to export a small block, and its memory is shared by all workers. The process,
`python -m adaptivenet.export.forks`, does nothing but import: so it has no threads, with which a fork can hang, and a
script that exports is not run again in it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from itertools import chain as joined
from typing import IO, Any

# With ONNX Runtime's and ExecuTorch's own libraries come threads: each worker imports them itself.
_ALWAYS = ("torch.export", "adaptivenet.toolkit.elastic", "safetensors.torch", f"{__package__}.metrics")
_MODULES = {
    "onnx": ("onnxscript", "torch.onnx._internal.exporter._core"),
    "executorch": ("executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner"),
}


class Fork:
    """A worker's process, as `subprocess.Popen` has it; its streams are of text."""

    def __init__(self, source: _Source, number: int, stdin: int, stdout: int, status: int) -> None:
        self._source, self._number = source, number
        self.stdin, self.stdout, self._status = os.fdopen(stdin, "w"), os.fdopen(stdout), os.fdopen(status)
        self._ended: int | None = None

    def kill(self) -> None:
        self._source.tell({"kill": self._number})

    def wait(self) -> int:
        if self._ended is None:
            with self._status:
                told = self._status.read()
            self._ended = int(told) if told else self._source.process.wait()  # it ended, and could not tell
        return self._ended


class _Source:
    """The process from which workers are forked."""

    def __init__(self, log: IO[str]) -> None:
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "adaptivenet.export.forks"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # also the libraries start no threads
        with its:
            self.process = subprocess.Popen(
                command, stdin=its.fileno(), stdout=subprocess.DEVNULL, stderr=log, env=environment
            )

    def tell(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        with contextlib.suppress(OSError):  # it has ended, of which the workers' statuses tell
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._socket.close()


class Forks:
    """Starts workers, from one process as long as that lives. Several threads may do so."""

    def __init__(self) -> None:
        self._source: _Source | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def start(self, backends: Sequence[str], log: IO[str]) -> Fork:
        """A worker, for which what `backends` need is imported first; its errors go to `log`.

        Raises OSError when the process that forks has to be started and cannot be.
        """
        with self._lock:
            if self._source is None or self._source.process.poll() is not None:
                self._source = _Source(log)
            source, number = self._source, next(self._numbers)
        (given, stdin), (stdout, taken), (status, tells) = (os.pipe() for _ in range(3))
        source.tell({"fork": number, "backends": list(backends)}, [given, taken, log.fileno(), tells])
        for end in (given, taken, tells):
            os.close(end)
        return Fork(source, number, stdin, stdout, status)

    def close(self) -> None:
        """Ends the process and all workers."""
        with self._lock:
            if self._source:
                self._source.close()
                self._source = None


_kept: list[Forks] = []


@contextlib.contextmanager
def keep_forks() -> Iterator[None]:
    """Within this, all exports of this process have their workers from one process, which imports everything once."""
    forks = Forks()
    _kept.append(forks)
    try:
        yield
    finally:
        _kept.remove(forks)
        forks.close()


@contextlib.contextmanager
def forks_of_an_export() -> Iterator[Forks]:
    """What starts the workers of one export, which end with it."""
    if _kept:
        yield _kept[-1]
        return
    forks = Forks()
    try:
        yield forks
    finally:
        forks.close()


def main() -> None:
    """Forks workers, as it is asked to on standard input, until that ends."""
    asked = socket.socket(fileno=os.dup(0))
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # At a terminal this is for all processes: the export ends this one.
    interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers: dict[int, tuple[int, int]] = {}  # by their processes: their numbers and where their ends are told

    def end(*_: object) -> None:
        for process in workers:
            os.kill(process, signal.SIGKILL)
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    while True:
        ready, _, _ = select.select([asked.fileno(), wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            _tell_of_ends(workers)
        if asked.fileno() not in ready:
            continue
        message, streams, _, _ = socket.recv_fds(asked, 65536, 4)
        if not message:
            end()
        request = json.loads(message)
        if "kill" in request:
            for process in [process for process, (number, _) in workers.items() if number == request["kill"]]:
                os.kill(process, signal.SIGKILL)
            continue
        _import(request["backends"])
        process = os.fork()
        if not process:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, interrupts)
            for at, stream in enumerate(streams[:3]):
                os.dup2(stream, at)
            for each in (*streams, wake, woken, asked.detach(), *(status for _, status in workers.values())):
                os.close(each)
            break
        workers[process] = (request["fork"], streams[3])
        for stream in streams[:3]:
            os.close(stream)
    from .worker import main as work

    work()


def _import(backends: Sequence[str]) -> None:
    """Imports what workers need for these backends, unless it is there."""
    from .memo import compute_onnx_table, remember_tables

    for module in [*_ALWAYS, *joined(*(_MODULES[backend] for backend in backends))]:
        with contextlib.suppress(ImportError):  # the worker says what is missing
            importlib.import_module(module)
    remember_tables()
    if "onnx" in backends:
        compute_onnx_table()
    gc.freeze()  # workers need not look through it for garbage


def _tell_of_ends(workers: dict[int, tuple[int, int]]) -> None:
    """Tells the statuses of the workers that have ended."""
    while workers:
        process, status = os.waitpid(-1, os.WNOHANG)
        if not process:
            return
        _, told = workers.pop(process)
        with contextlib.suppress(OSError):  # nobody waits for it
            os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(told)


if __name__ == "__main__":
    main()
