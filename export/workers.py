"""Several export processes side by side.

They are programs of their own, not forks: a fork of a process in which torch has run threads can hang, and starting
from a script must not run that script again.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TextIO

from adaptivenet.toolkit.errors import ExportError

Task = dict[str, Any]
Answer = dict[str, Any]


def run_tasks(
    tasks: Sequence[Task], arguments: Sequence[Path], jobs: int, done: Callable[[Task, Answer], None]
) -> None:
    """Gives the tasks to `jobs` worker processes and calls `done(task, answer)` here for each, as they end.

    Raises ExportError at the first task that fails, and when a worker dies; the others are stopped then.
    """
    waiting: SimpleQueue[Task] = SimpleQueue()
    finished: SimpleQueue[tuple[Task, Answer] | ExportError] = SimpleQueue()
    for task in tasks:
        waiting.put(task)
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        workers = [_Worker(arguments, waiting, finished, log) for _ in range(min(jobs, len(tasks)))]
        try:
            for _ in tasks:
                result = finished.get()
                if isinstance(result, ExportError):
                    raise result
                task, answer = result
                if "error" in answer:
                    raise ExportError(answer["error"])
                done(task, answer)
        finally:
            for worker in workers:
                worker.stop()


class _Worker:
    """One process, and the thread that feeds it."""

    def __init__(
        self,
        arguments: Sequence[Path],
        waiting: SimpleQueue[Task],
        finished: SimpleQueue[tuple[Task, Answer] | ExportError],
        log: TextIO,
    ) -> None:
        self.waiting, self.finished, self.log = waiting, finished, log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adaptivenet.export.worker", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self.thread = threading.Thread(target=self._feed, daemon=True)
        self.thread.start()

    def _feed(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        while True:
            try:
                task = self.waiting.get_nowait()
            except Empty:
                return
            try:
                self.process.stdin.write(json.dumps(task) + "\n")
                self.process.stdin.flush()
                line = self.process.stdout.readline()
            except OSError:
                line = ""
            if not line.endswith("\n"):  # a process that is killed may leave half a line
                self.finished.put(self._died(task))
                return
            self.finished.put((task, json.loads(line)))

    def _died(self, task: Task) -> ExportError:
        what = f"block {task['block']!r}" if "block" in task else f"metric {task['metric']!r}"
        self.log.seek(0)
        last = [line for line in self.log.read().splitlines() if line.strip()][-1:] or ["it said nothing"]
        return ExportError(
            f"a worker died with status {self.process.wait()} while exporting {what} to {task['backend']}: {last[0]}"
        )

    def stop(self) -> None:
        """Ends the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self.thread.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
