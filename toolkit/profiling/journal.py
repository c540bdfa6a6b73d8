"""What a device has answered so far, kept in a file: an interrupted profile goes on where it was.

A profile asks a device the same questions in the same order whenever the answers are the same: what is random in it has
a seed. So the answers are written down, a line each, as they come; and when the profile is made again, the questions
that were answered already are not put to the device. The first question that differs, because another budget or seed
was asked for, ends that: from there on everything is done anew. Which features an evaluation begins from is no part of
the question.

Each answer is noted with the seconds that it took, and each stage of the profile with all of its seconds when it ends:
what a profile says of its time counts the time before it was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..devices.base import Evaluation, PageIn, Resident, Session
from ..devices.conditions import Conditions
from ..devices.costs import Progress
from ..devices.energy import Meter, Schedule
from ..documents import parse_json
from ..errors import ProfileError
from ..graph.graph import Block, Subnet
from ..plan.plan import Plan

FORMAT = "adaptivenet-profile-journal"
VERSION = 3
_IMAGES_AT_ONCE = 32  # what an interrupted evaluation loses; each piece loads its blocks anew


class Journal:
    """Answers by question, in the order they came.

    `replayed` counts those that were used again, `seconds` adds up what these took when they were new.
    """

    def __init__(self, path: str | Path, about: Mapping[str, Any], resume: bool) -> None:
        """Begins the file, or goes on with it when it is there and `resume` is set.

        Raises ProfileError when it was kept for something else than `about`, or cannot be read or written.
        """
        self.path = Path(path)
        self.replayed = 0
        self.seconds = 0.0
        header = {"format": FORMAT, "version": VERSION, **about}
        self._known: list[dict[str, Any]] = []
        try:
            if resume and self.path.exists():
                size = self._read(json.loads(json.dumps(header)))
                os.truncate(self.path, size)  # a line that was being written when the power went
            else:
                self.path.write_text(json.dumps(header) + "\n")
        except OSError as error:
            raise self._unusable(error) from error

    def recall(self, question: str) -> Any:
        """The answer to a question that comes where it came before; None when it does not."""
        if self.replayed < len(self._known):
            entry = self._known[self.replayed]
            if entry["question"] == question:
                self.replayed += 1
                self.seconds += entry["seconds"]
                return entry["answer"]
            self._forget()
        return None

    def note(self, question: str, answer: Any, seconds: float = 0.0) -> None:
        """Writes an answer and what it took down, to the disk. Raises ProfileError when that cannot be done."""
        entry = {"question": question, "answer": answer, "seconds": seconds}
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(entry, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unusable(error) from error

    def stage(self, name: str, seconds: float) -> float:
        """The seconds of a stage that has ended: those noted when it did; at its first end `seconds`, which are noted.

        Raises ProfileError when that cannot be done.
        """
        question = _digest("stage", name)
        known = self.recall(question)
        if known is None:
            self.note(question, seconds)
        return seconds if known is None else float(known)

    def _read(self, wanted: Mapping[str, Any]) -> int:
        """Reads what is known, and returns up to where the file is whole."""
        content = self.path.read_bytes()
        size = content.rfind(b"\n") + 1
        try:
            header, *self._known = [parse_json(line) for line in content[:size].splitlines()]
            differs = _differing(header, wanted)
            if any(entry.keys() != {"question", "answer", "seconds"} for entry in self._known):
                raise ValueError("an entry has other fields than question, answer and seconds")
        except (ValueError, AttributeError) as error:
            raise ProfileError(f"{self.path} is damaged ({error}): remove it, or profile without --resume") from error
        if differs:
            raise ProfileError(
                f"{self.path} cannot be continued: it was begun with another {differs}; profile without --resume"
            )
        return size

    def _forget(self) -> None:
        """Drops what was known from here on: it does not belong to this profile."""
        kept = self._known[: self.replayed]
        self._known = kept
        lines = self.path.read_text().splitlines(keepends=True)[: 1 + len(kept)]
        self.path.write_text("".join(lines))

    def _unusable(self, error: OSError) -> ProfileError:
        return ProfileError(f"what is done cannot be kept in {self.path}: {error.strerror or error}")


class JournaledSession(Session):
    """A session whose measurements and evaluations are written down, and not repeated where they are known."""

    def __init__(self, session: Session, journal: Journal) -> None:
        self.pack, self.info = session.pack, session.info
        self._session = session
        self._journal = journal
        self._answered: dict[str, dict[str, Any]] = {}  # pieces of an evaluation that did not come to its end
        self._seconds = 0.0  # of the pieces of the evaluation that goes on

    @property
    def keeps_features(self) -> bool:
        """See `Session.keeps_features`."""
        return self._session.keeps_features

    @property
    def stamps_cuts(self) -> bool:
        """See `Session.stamps_cuts`."""
        return self._session.stamps_cuts

    @property
    def evaluation_threads(self) -> int:
        """See `Session.evaluation_threads`."""
        return self._session.evaluation_threads

    def forget(self) -> None:
        """See `Session.forget`."""
        self._session.forget()

    def activate(self, subnet: Iterable[str]) -> PageIn:
        """See `Session.activate`."""
        return self._session.activate(subnet)

    def infer_timed(self, x: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """See `Session.infer_timed`."""
        return self._session.infer_timed(x)

    @property
    def resident(self) -> Resident:
        """See `Session.resident`."""
        return self._session.resident

    def _resident_mb(self, subnets: Sequence[Subnet], progress: Progress) -> list[float | None]:
        question = _digest("resident", [list(subnet) for subnet in subnets])
        known = self._journal.recall(question)
        if known is None:
            begin = time.perf_counter()
            known = self._session.resident_mb(subnets, progress)
            self._journal.note(question, known, time.perf_counter() - begin)
        return [None if each is None else float(each) for each in known]

    def meter(self) -> Meter:
        """See `Session.meter`."""
        return self._session.meter()

    def energy_mj(self, subnet: Iterable[str], schedule: Schedule | None = None) -> float:
        """See `Session.energy_mj`."""
        names = list(subnet)
        question = _digest("energy", names, asdict(schedule or Schedule()))
        known = self._journal.recall(question)
        if known is None:
            begin = time.perf_counter()
            known = self._session.energy_mj(names, schedule)
            self._journal.note(question, known, time.perf_counter() - begin)
        return float(known)

    def holding(self) -> AbstractContextManager[None]:
        """See `Session.holding`."""
        return self._session.holding()

    def _measure(
        self, chains: Sequence[Sequence[Block]], rounds: int, warmup: int, sample: NDArray[Any], progress: Progress
    ) -> list[list[list[float]]]:
        names = [[block.name for block in chain] for chain in chains]
        question = _digest("measure", names, rounds, warmup, hashlib.sha256(sample.tobytes()).hexdigest())
        known = self._journal.recall(question)
        if known is None:
            begin = time.perf_counter()
            times = self._session.samples_in_situ(names, rounds, warmup, sample, progress)
            conditions = self._session.conditions
            known = {"blocks_ms": times, "conditions": conditions and conditions.to_json()}
            self._journal.note(question, known, time.perf_counter() - begin)
        self.conditions = Conditions.from_json(known["conditions"]) if known["conditions"] else None
        blocks_ms: list[list[list[float]]] = known["blocks_ms"]
        return blocks_ms

    def evaluate(self, plan: Plan, data: Dataset, progress: Progress | None = None) -> Evaluation:
        """See `Session.evaluate`. The seconds are those of its pieces, whenever they were evaluated."""
        self._seconds = 0.0
        found = super().evaluate(plan, data, progress)
        return replace(found, seconds=self._seconds)

    def _evaluate(
        self,
        plan: Plan,
        data: Dataset,
        labels: NDArray[np.int64] | None,
        sums: Mapping[str, NDArray[np.float64]],
        progress: Progress,
    ) -> int:
        block_runs = 0
        for first in range(0, len(data), _IMAGES_AT_ONCE):
            piece = data.subset(range(first, min(first + _IMAGES_AT_ONCE, len(data))))
            question = _digest("evaluate", plan.subnets, plan.metrics, piece.digest)
            # After FeaturesLost the same is asked again: what was noted before that must not be noted twice.
            known = self._answered.get(question) or self._journal.recall(question)
            if known is None:
                tell = partial(self._tell, progress, first, len(data))
                evaluation = self._session.evaluate(plan, piece, tell)
                known = {
                    "sums": {metric: values.tolist() for metric, values in evaluation.sums.items()},
                    "block_runs": evaluation.block_runs,
                    "seconds": evaluation.seconds,
                }
                self._journal.note(question, known, evaluation.seconds)
            self._answered[question] = known
            for metric, values in known["sums"].items():
                sums[metric][:, first : first + len(piece)] = values
            block_runs += known["block_runs"]
            self._seconds += known["seconds"]
        self._answered.clear()
        return block_runs

    @staticmethod
    def _tell(progress: Progress, before: int, images: int, done: int, total: int) -> None:
        progress(before + done, images)


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing, of those that are wanted now, that was another then: its name, and both values in short."""
    for key, value in now.items():
        before = then.get(key)
        if before != value:
            if isinstance(before, dict) and isinstance(value, dict) and (inner := _differing(before, value)):
                return f"{key}: {inner}"
            return f"{key} (then {str(before)[:80]}, now {str(value)[:80]})"
    return ""


def _digest(*question: Any) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
