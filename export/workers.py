"""Several export processes side by side.

They are no forks of this process: a fork of one in which torch has run threads can hang, and starting from a script
must not run that script again. On Linux they are forks of one that has imported what they need (`forks`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

from .forks import Fork, Forks, forks_of_an_export

FORKS = sys.platform == "linux"  # elsewhere a fork is not safe, and every worker imports what it needs itself
Program = dict[str, Any]  # `id` and `backend`; of a block also its `name`, and whether it is in `int8`
Task = dict[str, Any]  # a `block` or a `metric`, and the `programs` that are wanted of it
Answer = dict[str, Any]


def run_tasks(
    tasks: Sequence[Task], arguments: Sequence[Path], jobs: int, done: Callable[[Program, Answer], None]
) -> None:
    """Gives the tasks to `jobs` worker processes and calls `done(program, answer)` here for each program, as they end.

    The answer for a program that failed is its `error`. Where a worker dies, that is the answer for the program that it
    was making, and a new worker goes on with the rest. Where none can be started, as without memory, the rest of its
    task is answered with that, and the other workers go on; the last one answers for all that is left. Raises OSError
    when a worker cannot be started in the first place, and what `done` raises; the workers are stopped then.
    """
    waiting: SimpleQueue[Task] = SimpleQueue()
    finished: SimpleQueue[tuple[Program, Answer]] = SimpleQueue()
    for task in tasks:
        waiting.put(task)
    count = min(jobs, len(tasks))
    others = threading.Semaphore(max(0, count - 1))
    workers: list[_Worker] = []
    backends = sorted({program["backend"] for task in tasks for program in task["programs"]})
    with forks_of_an_export() as forks:
        try:
            for _ in range(count):
                workers.append(
                    _Worker(lambda log: _started(forks, backends, arguments, log), waiting, finished, others)
                )
            for _ in range(sum(len(task["programs"]) for task in tasks)):
                done(*finished.get())
        finally:
            for worker in workers:
                worker.stop()


def _started(
    forks: Forks, backends: Sequence[str], arguments: Sequence[Path], log: IO[str]
) -> Fork | subprocess.Popen[str]:
    """A worker that knows what it works on. Raises OSError when none can be started."""
    process: Fork | subprocess.Popen[str]
    if FORKS:
        process = forks.start(backends, log)
    else:
        command = [sys.executable, "-m", "adaptivenet.export.worker"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdin
    known = {"arguments": [*map(str, arguments)], "folder": os.getcwd(), "environment": {**os.environ}}
    with contextlib.suppress(OSError):  # it has ended, which is seen when it is given a task
        process.stdin.write(json.dumps(known) + "\n")
        process.stdin.flush()
    return process


class _Worker:
    """A process, which is replaced when it dies, and the thread that feeds it.

    A worker that cannot be replaced takes one of `others`, which are as many as there are other workers.
    """

    def __init__(
        self,
        start: Callable[[IO[str]], Fork | subprocess.Popen[str]],
        waiting: SimpleQueue[Task],
        finished: SimpleQueue[tuple[Program, Answer]],
        others: threading.Semaphore,
    ) -> None:
        self._start_process, self._waiting, self._finished, self._others = start, waiting, finished, others
        self._stopping = threading.Lock()
        self._stopped = False
        self._start()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _start(self) -> None:
        self._log: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - as long as the process
        self._process = self._start_process(self._log)

    def _feed(self) -> None:
        while True:
            try:
                task = self._waiting.get_nowait()
            except Empty:
                return
            left = list(task["programs"])
            while left:
                for answer in self._answers({**task, "programs": [*left]}):
                    self._finished.put((left.pop(0), answer))
                if not left:
                    break
                died = {"error": self._died(task, left[0])}
                with self._stopping:
                    if self._stopped:
                        return
                    self._close()
                    try:
                        self._start()
                    except OSError as error:
                        self._finished.put((left.pop(0), died))
                        self._give_up(left, error)
                        return
                self._finished.put((left.pop(0), died))

    def _give_up(self, left: list[Program], error: OSError) -> None:
        """Answers the programs that are left of a task; the last worker also those of the tasks that wait."""
        why = {"error": f"no worker can be started in place of one that died: {error.strerror or error}"}
        for program in left:
            self._finished.put((program, why))
        if self._others.acquire(blocking=False):
            return
        with contextlib.suppress(Empty):
            while True:
                for program in self._waiting.get_nowait()["programs"]:
                    self._finished.put((program, why))

    def _answers(self, task: Task) -> Iterator[Answer]:
        """What the process answers for the programs of a task, in their order, until it dies."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
            for _ in task["programs"]:
                line = self._process.stdout.readline()
                if not line.endswith("\n"):  # a process that is killed may leave half a line
                    return
                yield json.loads(line)

    def _died(self, task: Task, program: Program) -> str:
        what = f"block {program['name']!r}" if "block" in task else f"metric {task['metric']!r}"
        status = self._process.wait()
        self._log.seek(0)
        silent = "it said nothing" + (" (the system kills where memory is short)" if status == -signal.SIGKILL else "")
        last = [line for line in self._log.read().splitlines() if line.strip()][-1:] or [silent]
        return f"a worker died with status {status} while exporting {what} to {program['backend']}: {last[0]}"

    def stop(self) -> None:
        """Ends the process, whatever it is doing."""
        with self._stopping:
            self._stopped = True
            self._process.kill()
        self._thread.join()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
