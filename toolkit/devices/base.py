"""What every device can do, and the results it gives back.

A `Device` is a place where blocks run. Opening a block pack on it gives a `Session`, which measures, evaluates,
activates and infers. Commands, searches and reports use these two and never ask which device is behind them.
"""

from __future__ import annotations

import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..errors import DeviceError, PlanError
from ..graph.graph import Block, Subnet
from ..graph.latency import Latency
from ..graph.quality import Quality
from ..graph.score import Score
from ..pack.pack import BlockPack
from ..plan.plan import Plan
from .checks import chain_of, check_plan, check_rounds, check_sums, empty_sums, labels_for, sample_for
from .conditions import Conditions
from .costs import MeasuresCosts, Progress, nobody


class Observer(Protocol):
    """Who is told what a device does beside what it was asked for: a terminal, or nobody."""

    def say(self, text: str) -> None:
        """A line that everybody should see, such as a warning."""

    def explain(self, text: str) -> None:
        """A line for those who want to know how things are done."""

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` are done in a stage; `note` is a word on the last one."""


class Log:
    """The observer where none is given: what everybody should see goes to Python's log as a warning."""

    def say(self, text: str) -> None:
        """See `Observer.say`."""
        _log.warning(text)

    def explain(self, text: str) -> None:
        """See `Observer.explain`."""
        _log.info(text)

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """See `Observer.progress`."""


def usable_cores() -> int:
    """How many of this computer's cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_log = logging.getLogger("adaptivenet.devices")


@dataclass(frozen=True)
class DeviceInfo:
    """Who a device is: everything a latency depends on besides the pack.

    `name` is the processor's own name, `threads` how many threads a block may use, `cores` how many the process may
    run on. While subnets are only evaluated, a block may use `evaluation_threads` (None: as many as ever). `soc` is the
    system on a chip as Android calls it, such as SM8450 (None: this is no Android device).
    """

    address: str
    name: str
    os: str
    engine: str
    engine_version: str
    threads: int
    cores: int
    evaluation_threads: int | None = None
    soc: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary with the same names."""
        return asdict(self)


@dataclass(frozen=True)
class PageIn:
    """What activating a subnet took: the blocks loaded and released, their artifacts' bytes, the time.

    `ms` is measured, once, and includes reading the artifacts and verifying them.
    """

    loaded: tuple[str, ...]
    released: tuple[str, ...]
    bytes_in: int
    bytes_out: int
    ms: float
    engine: str
    threads: int

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary with the same names; tuples become lists."""
        return {**asdict(self), "loaded": list(self.loaded), "released": list(self.released)}

    @classmethod
    def from_json(cls, doc: Mapping[str, Any]) -> PageIn:
        """What `to_json` made."""
        return cls(**{**doc, "loaded": tuple(doc["loaded"]), "released": tuple(doc["released"])})


@dataclass(frozen=True)
class Resident:
    """The blocks that stay loaded between calls, in the order they run, and the bytes of their artifacts."""

    blocks: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a plan's metrics gave, image by image, so that two subnets can be compared on the same images.

    `sums[metric]` is float64 of shape (subnets, images, sums): the row of subnet k holds the metric program's output
    for each image (for `top1` and `agreement`: correct, count; for `fidelity`: fidelity, count). `scored` says what
    they come to, by metric (see `BlockPack.scored`). `block_runs` counts the blocks that ran, over all images.
    `seconds` is the time of the whole evaluation, loading included.
    """

    subnets: tuple[Subnet, ...]
    sums: Mapping[str, NDArray[np.float64]]
    images: int
    block_runs: int
    seconds: float
    engine: str
    threads: int
    scored: Mapping[str, Score]

    def quality(self, metric: str) -> list[Quality]:
        """The quality of each subnet over all images, with its interval, in the order of `subnets`.

        Raises KeyError for a metric that the plan did not score or that makes no score, DataError where it counted
        nothing or gave what is outside of its range.
        """
        score = self.scored[metric]
        for sums in self.sums[metric]:
            score.of_all(metric, sums)
        return [Quality.from_images(metric, images, score) for images in self.scores(metric)]

    def scores(self, metric: str) -> NDArray[np.float64]:
        """What each image says of each subnet's quality: float64 (subnets, images), see `Score.of_images`."""
        score = self.scored[metric]
        return np.array([score.of_images(metric, sums) for sums in self.sums[metric]])


class Session(MeasuresCosts, ABC):
    """One block pack open on one device. A context manager: leaving it closes it.

    Only the blocks of the active subnet, and those that are measured `holding` them, stay loaded between calls. Every
    method raises DeviceError when the session is closed or the engine fails, and PackError when a blob was damaged
    since the pack was opened.
    """

    pack: BlockPack
    info: DeviceInfo
    conditions: Conditions | None = None
    """What the device was like when `measure` was called last; None where it does not tell."""

    @property
    def keeps_features(self) -> bool:
        """Whether plans may keep features here for the plans to come (see `Plan.kept`)."""
        return False

    @property
    def stamps_cuts(self) -> bool:
        """Whether the blocks of a chain are told apart in `samples_in_situ`: not where it runs as one program."""
        return True

    _open = True

    def measure(
        self,
        chains: Sequence[Sequence[str]],
        rounds: int = 30,
        warmup: int = 5,
        sample: NDArray[Any] | None = None,
        progress: Progress | None = None,
    ) -> list[Latency]:
        """How long each chain of consecutive blocks takes: `samples`, summarised."""
        return [Latency.from_samples(times) for times in self.samples(chains, rounds, warmup, sample, progress)]

    def samples(
        self,
        chains: Sequence[Sequence[str]],
        rounds: int = 30,
        warmup: int = 5,
        sample: NDArray[Any] | None = None,
        progress: Progress | None = None,
    ) -> list[list[float]]:
        """The milliseconds of each chain of consecutive blocks, round by round: what its blocks take `in_situ`."""
        times = self.samples_in_situ(chains, rounds, warmup, sample, progress)
        return [[math.fsum(each) for each in zip(*blocks)] for blocks in times]

    def samples_in_situ(
        self,
        chains: Sequence[Sequence[str]],
        rounds: int = 30,
        warmup: int = 5,
        sample: NDArray[Any] | None = None,
        progress: Progress | None = None,
    ) -> list[list[list[float]]]:
        """The milliseconds that each block of each chain takes while the chain runs, round by round.

        `[chain][block][round]`: the clock is read when a chain begins and at each of its cuts, so the times of a round
        add up to the chain's (a look at the clock takes 0.1 to 0.2 µs in Python). Where a session does not
        `stamps_cuts`, every chain has one list, of what it took whole. A block is a chain of one, a subnet a chain of
        many. Every round times each chain once, in an order shuffled anew, so that a slow moment of the
        device falls on all of them alike; the first `warmup` rounds are not counted. A chain runs once more just before
        it is timed: so what ran before does not matter, and its blocks lie in the caches as they do when it serves. Its
        input is the feature that the oracle has at the cut where the chain starts, computed from `sample` (shape and
        dtype of cut 0) or, without one, from noise; blocks are also given the oracle's features at what they read from
        before their chain. What starts at cut 0 is timed from the caller's array, what ends at the last cut to a new
        array, as `infer` is. Raises GraphError for a chain that is not one, DataError for a sample that does not fit.
        """
        self._ready()
        check_rounds(rounds)
        stretches = [chain_of(self.pack.graph, chain) for chain in chains]
        sample = sample_for(self.pack, sample)
        return self._measure(stretches, rounds, warmup, sample, progress or nobody)

    def holding(self) -> AbstractContextManager[None]:
        """While inside, and where a session can, what was measured stays loaded for the same chains to be measured
        again, with the same sample: nothing else is done meanwhile."""
        return nullcontext()

    def evaluate(self, plan: Plan, data: Dataset, progress: Progress | None = None) -> Evaluation:
        """Run `plan` on every image of `data`.

        What it keeps stays until a later plan drops it, `forget` is called, or the session is closed. Raises PlanError
        when the plan is not for this pack, or keeps features where that cannot be done; FeaturesLost when it begins
        from features that are not kept (any more), with nothing kept of `data` afterwards; and DataError for images
        that do not fit cut 0, for no images, and for missing labels that a metric needs.
        """
        begin = time.perf_counter()
        self._ready()
        check_plan(self.pack, plan)
        if plan.kept is not None and not self.keeps_features:
            raise PlanError(f"the plan keeps features, which {self._where} cannot do: compile one that does not")
        labels = labels_for(self.pack, plan, data)
        sums = empty_sums(self.pack, plan, len(data))
        block_runs = self._evaluate(plan, data, labels, sums, progress or nobody)
        check_sums(sums, self._where)
        return Evaluation(
            subnets=plan.subnets,
            sums=sums,
            images=len(data),
            block_runs=block_runs,
            seconds=time.perf_counter() - begin,
            engine=self.info.engine,
            threads=self.evaluation_threads,
            scored=self.pack.scored,
        )

    @property
    def evaluation_threads(self) -> int:
        """How many threads a block may use while subnets are evaluated."""
        return self.info.evaluation_threads or self.info.threads

    def forget(self) -> None:
        """Drop all features that plans have kept here."""
        self._require_open()

    @abstractmethod
    def activate(self, subnet: Iterable[str]) -> PageIn:
        """Page `subnet` in: load the blocks that are not loaded, then release those no longer used.

        When anything fails, the subnet that was active stays so. Raises GraphError when it is no subnet of this pack.
        """

    def infer(self, x: NDArray[Any]) -> NDArray[Any]:
        """The active subnet's output for one input of cut 0's shape and dtype: a new array of the last cut's.

        Raises DataError when `x` does not fit, DeviceError when no subnet is active.
        """
        return self.infer_timed(x)[0]

    @abstractmethod
    def infer_timed(self, x: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """As `infer`, and the milliseconds that it took on the device: the way there and back is not counted."""

    @property
    @abstractmethod
    def resident(self) -> Resident:
        """Which blocks are loaded now."""

    def close(self) -> None:
        """Release everything. Closing twice is harmless."""
        self._open = False

    def _require_open(self) -> None:
        if not self._open:
            raise DeviceError(f"the session for pack {self.pack.name!r} is closed: open another")

    def _ready(self) -> None:
        """Raises DeviceError when nothing can be run."""
        self._require_open()

    @property
    def _where(self) -> str:
        """What runs the blocks, in errors."""
        return self.info.engine

    @abstractmethod
    def _measure(
        self, chains: Sequence[Sequence[Block]], rounds: int, warmup: int, sample: NDArray[Any], progress: Progress
    ) -> list[list[list[float]]]:
        """See `samples_in_situ`: milliseconds, warm-up left out. What it is given has been checked."""

    @abstractmethod
    def _evaluate(
        self,
        plan: Plan,
        data: Dataset,
        labels: NDArray[np.int64] | None,
        sums: Mapping[str, NDArray[np.float64]],
        progress: Progress,
    ) -> int:
        """Fills `sums` and returns how many blocks ran. The plan and the labels have been checked, the images not."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Device(ABC):
    """A place where blocks run, found by `connect`. A context manager: leaving it closes it."""

    info: DeviceInfo

    def open(self, pack: BlockPack | str | os.PathLike[str]) -> Session:
        """A session for `pack`, or for the pack in that folder.

        Raises PackError when the pack is damaged, or has no artifacts for this device's engine.
        """
        return self._open(pack if isinstance(pack, BlockPack) else BlockPack.open(pack))

    @abstractmethod
    def _open(self, pack: BlockPack) -> Session:
        """See `open`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the device. Its sessions end with it; closing twice is harmless."""

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
