"""This computer as a device: blocks run in this process, on one of the engines."""

from __future__ import annotations

import gc
import platform
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..errors import DeviceError
from ..graph import Block, Cut
from ..pack import BlockPack
from ..plan import Plan, Run
from .base import Device, DeviceInfo, PageIn, Progress, Resident, Session, usable_cores
from .checks import check_backend, check_input
from .interpreter import Chain, Engine, PlanRunner, Program, Tensor, TensorType
from .kept import KeptFeatures


class LocalDevice(Device):
    """This computer, with one engine. Subnets are evaluated on another of the same, where one is given."""

    def __init__(self, address: str, engine: Engine, evaluating: Engine | None = None) -> None:
        self._engine = engine
        self._evaluating = evaluating or engine
        self.info = DeviceInfo(
            address=address,
            name=_processor(),
            os=f"{platform.system()} {platform.release()}",
            engine=engine.name,
            engine_version=engine.version,
            threads=engine.threads,
            cores=usable_cores(),
            evaluation_threads=self._evaluating.threads,
        )

    def open(self, pack: BlockPack) -> LocalSession:
        """See `Device.open`. Also raises DeviceError when the engine cannot have its threads."""
        check_backend(pack, self._engine.backend, self.info.address)
        self._engine.check_threads()
        return LocalSession(self.info, self._engine, pack, self._evaluating)

    def close(self) -> None:
        """See `Device.close`. Nothing is held here."""


class LocalSession(Session):
    """A pack open in this process; see `Session`."""

    def __init__(self, info: DeviceInfo, engine: Engine, pack: BlockPack, evaluating: Engine) -> None:
        self.info = info
        self.pack = pack
        self._graph = pack.graph
        self._engine, self._evaluating = engine, evaluating
        self._active: dict[str, Program] = {}  # the active subnet's blocks, in the order they run
        self._assembled: Chain | None = None  # the same, ready to infer
        self._kept = KeptFeatures()

    def _measure(
        self, chains: Sequence[Sequence[Block]], rounds: int, warmup: int, sample: NDArray[Any], progress: Progress
    ) -> list[list[list[float]]]:
        """See `Session._measure`. The clock is `time.perf_counter_ns`, the garbage collector waits during a round."""
        names = dict.fromkeys(block.name for blocks in chains for block in blocks)
        programs = {name: self._program(name) for name in names}
        ready = [Chain(self._graph, blocks, programs) for blocks in chains]
        features = self._oracle_features(sample, {cut for chain in ready for cut in chain.takes}, programs)
        # Each feature is brought into the layout of the block that reads it here, so that this is not measured.
        wanted = [{cut: (cut, self._layout(block.name)) for cut, block in chain.takes.items()} for chain in ready]
        inputs = {
            (cut, layout): self._engine.tensor(features[cut], layout)
            for cut, layout in {key for keys in wanted for key in keys.values()}
        }
        jobs = [
            (chain, {cut: inputs[key] for cut, key in keys.items()}) for chain, keys in zip(ready, wanted, strict=True)
        ]
        times: list[list[list[float]]] = [[[] for _ in blocks] for blocks in chains]
        order, shuffler = list(range(len(jobs))), random.Random(0)
        for done in range(1, warmup + rounds + 1):
            shuffler.shuffle(order)
            with _no_garbage_collection():
                for index in order:
                    chain, given = jobs[index]
                    passed = [time.perf_counter_ns()]
                    chain(given, passed)
                    if done > warmup:
                        for taken, (begin, end) in zip(times[index], pairwise(passed), strict=True):
                            taken.append((end - begin) / 1e6)
            progress(done, warmup + rounds)
        return times

    def _evaluate(
        self,
        plan: Plan,
        data: Dataset,
        labels: NDArray[np.int64] | None,
        sums: Mapping[str, NDArray[np.float64]],
        progress: Progress,
    ) -> int:
        """See `Session._evaluate`. Each block and metric of the plan is loaded once."""
        keeps = plan.kept is not None
        kept = self._kept.take(plan, data.digest, len(data)) if keeps else [{} for _ in range(len(data))]
        engine = self._evaluator
        runs = [instruction.block for instruction in plan.instructions if isinstance(instruction, Run)]
        blocks: dict[str, _Lent] = {}
        metrics: dict[str, _Lent] = {}
        try:
            for name in dict.fromkeys(runs):
                blocks[name] = _Lent(self._program(name, engine))
            for metric in plan.metrics:
                metrics[metric] = _Lent(self._load_metric(metric, engine))
            runner = PlanRunner(plan, blocks, metrics)
            layout = self._layout(next((name for name in runs if not self._graph[name].start), self._graph.oracle[0]))
            self._run_plan(engine, runner, layout, data, labels, kept, sums, progress)
        finally:
            for lent in (*blocks.values(), *metrics.values()):
                lent.take_back()
        if keeps:
            self._kept.put(plan, data.digest, kept)
        return runner.block_runs

    def _run_plan(
        self,
        engine: Engine,
        runner: PlanRunner,
        layout: str,
        data: Dataset,
        labels: NDArray[np.int64] | None,
        kept: Sequence[MutableMapping[int, Tensor]],
        sums: Mapping[str, NDArray[np.float64]],
        progress: Progress,
    ) -> None:
        """Runs a plan on every image, which has the layout, and fills `sums`."""
        for index in range(len(data)):
            image = data.image(index)
            check_input(self._graph.cuts[0], image, f"image {index}")
            label = None if labels is None else engine.tensor(labels[index : index + 1], "contiguous")
            for score, tensor in runner([engine.tensor(image, layout), label], kept[index]):
                sums[score.metric][score.subnet, index] = engine.array(tensor)
            progress(index + 1, len(data))

    @property
    def _evaluator(self) -> Engine:
        """What evaluates: where blocks are loaded already, which the other's threads cannot be had beside, the engine
        that measures."""
        if self._active:
            return self._engine
        try:
            self._evaluating.check_threads()
        except DeviceError:
            return self._engine
        return self._evaluating

    @property
    def evaluation_threads(self) -> int:
        """See `Session.evaluation_threads`. As many as ever while a subnet is active, or blocks of another session."""
        return self._evaluator.threads

    @property
    def keeps_features(self) -> bool:
        """See `Session.keeps_features`."""
        return True

    def forget(self) -> None:
        """See `Session.forget`."""
        super().forget()
        self._kept.clear()

    def activate(self, subnet: Iterable[str]) -> PageIn:
        """See `Session.activate`. The new blocks are loaded beside the old ones, which go only when all are there."""
        begin = time.perf_counter()
        self._ready()
        wanted = self._graph.subnet(subnet)
        active = {name: self._program(name) for name in wanted}
        loaded = tuple(name for name in active if name not in self._active)
        released = tuple(name for name in self._active if name not in active)
        self._active = active
        self._assembled = Chain(self._graph, [self._graph[name] for name in wanted], active)
        return PageIn(
            loaded=loaded,
            released=released,
            bytes_in=self._bytes(loaded),
            bytes_out=self._bytes(released),
            ms=(time.perf_counter() - begin) * 1e3,
            engine=self.info.engine,
            threads=self.info.threads,
        )

    def infer_timed(self, x: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """See `Session.infer_timed`."""
        self._require_open()
        if self._assembled is None:
            raise DeviceError("no subnet is active: activate one first")
        check_input(self._graph.cuts[0], x, "the input")
        begin = time.perf_counter()
        feature = self._engine.tensor(x, self._layout(next(iter(self._active))))
        output = self._engine.array(self._assembled({0: feature}))
        return output, (time.perf_counter() - begin) * 1e3

    @property
    def resident(self) -> Resident:
        """See `Session.resident`."""
        return Resident(tuple(self._active), self._bytes(self._active))

    def close(self) -> None:
        """See `Session.close`."""
        super().close()
        self._active, self._assembled = {}, None
        self._kept.clear()

    def _ready(self) -> None:
        super()._ready()
        self._engine.check_threads()

    def _layout(self, block: str) -> str:
        return self.pack.artifact(block, self._engine.backend).layout

    def _bytes(self, blocks: Iterable[str]) -> int:
        return sum(self.pack.artifact(name, self._engine.backend).bytes for name in blocks)

    def _program(self, name: str, engine: Engine | None = None) -> Program:
        """The block, which is loaded, on the session's engine or another, unless the active subnet has it."""
        if name in self._active:
            return self._active[name]
        block, artifact = self._graph[name], self.pack.artifact(name, self._engine.backend)
        takes = [_type(self._graph.cuts[cut]) for cut in self._graph.reads(block)]
        gives = _type(self._graph.cuts[block.end])
        return (engine or self._engine).load(f"block {name!r}", self.pack.read(artifact), artifact.layout, takes, gives)

    def _load_metric(self, metric: str, engine: Engine) -> Program:
        output = _type(self._graph.cuts[-1])
        label: TensorType = (self.pack.label, "int64")
        takes = [label if kind == "label" else output for kind in self.pack.metrics[metric]]
        gives: TensorType = ((len(self.pack.sums[metric]),), "float32")
        artifact = self.pack.metric_artifact(metric, self._engine.backend)
        return engine.load(f"metric {metric!r}", self.pack.read(artifact), artifact.layout, takes, gives)

    def _oracle_features(
        self, sample: NDArray[Any], cuts: set[int], programs: dict[str, Program]
    ) -> dict[int, NDArray[Any]]:
        """The oracle's features at `cuts`. Blocks that are not in `programs` are loaded one at a time and dropped."""
        feature: Tensor = self._engine.tensor(sample, self._layout(self._graph.oracle[0]))
        features = {0: sample}
        for name in self._graph.oracle[: max(cuts, default=0)]:
            program = programs[name] if name in programs else self._program(name)
            feature = program((feature,))
            cut = self._graph[name].end
            if cut in cuts:
                features[cut] = self._engine.array(feature)
        return features


class _Lent:
    """A program for the time of one evaluation: whoever still has it afterwards, as a traceback does, has nothing."""

    def __init__(self, program: Program) -> None:
        self._program: Program | None = program

    def __call__(self, operands: Sequence[Tensor], keep: bool = True) -> Tensor:
        assert self._program, "the evaluation is over"
        return self._program(operands, keep)

    def take_back(self) -> None:
        """Let go of the program."""
        self._program = None


def _type(cut: Cut) -> TensorType:
    return cut.shape, cut.dtype


def _processor() -> str:
    """The processor's name as its maker writes it, or the machine's architecture."""
    for path, pattern in (("/proc/cpuinfo", r"^model name\s*:\s*(.+)$"), ("/proc/device-tree/model", r"^([^\0]+)")):
        try:
            found = re.search(pattern, Path(path).read_text(errors="replace"), re.MULTILINE)
        except OSError:
            continue
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector from running inside a measured stretch."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
