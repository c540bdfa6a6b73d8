"""This computer as a device: blocks run in this process, on one of the engines."""

from __future__ import annotations

import gc
import platform
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import Dataset
from ...errors import DeviceError
from ...graph.graph import Block, Subnet
from ...memory import free_bytes
from ...pack.pack import BlockPack
from ...plan.plan import Plan, Run
from ..base import Device, DeviceInfo, PageIn, Resident, Session, usable_cores
from ..checks import check_backend, check_input
from ..conditions import Conditions
from ..costs import Progress
from ..energy import Drain, Meter, Schedule
from .assembler import Assembler, Programs
from .interpreter import Chain, Engine, PlanRunner, Program, Tensor, first_readers
from .kept import KeptFeatures
from .looks import drain, power_files
from .resident import resident_mb
from .stopwatch import Stopwatch

_HELD = 0.25  # of the free memory, for the artifacts of the chains that are assembled to be measured
_RUNS_WHEN_NEW = 2  # of a chain that has just been assembled, until it takes what it always takes


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

    def _open(self, pack: BlockPack) -> LocalSession:
        """See `Device.open`. Also raises what `assembler` raises."""
        return LocalSession(self.info, self.assembler(pack), self._evaluating)

    def assembler(self, pack: BlockPack) -> Assembler:
        """What loads the blocks of a pack here.

        Raises PackError when it has none for the engine, DeviceError when the engine cannot have its threads.
        """
        check_backend(pack, self._engine.backend, self.info.address)
        self._engine.check_threads()
        return Assembler(pack, self._engine)

    def close(self) -> None:
        """See `Device.close`. Nothing is held here."""


class LocalSession(Session):
    """A pack open in this process; see `Session`."""

    def __init__(self, info: DeviceInfo, assembler: Assembler, evaluating: Engine) -> None:
        self.info = info
        self.pack = assembler.pack
        self._graph = self.pack.graph
        self._assembler = assembler
        self._engine, self._evaluating = assembler.engine, evaluating
        self._active: tuple[str, ...] = ()  # the active subnet
        self._programs: Programs = {}  # of its pieces
        self._chain: Chain | None = None  # the same, ready to infer
        self._kept = KeptFeatures()
        self._holding = False
        self._held: _Loaded | None = None  # what was measured last, while that is held

    @contextmanager
    def holding(self) -> Iterator[None]:
        """See `Session.holding`."""
        outer, self._holding = self._holding, True
        try:
            yield
        finally:
            self._holding, self._held = outer, self._held if outer else None

    def _measure(
        self, chains: Sequence[Sequence[Block]], rounds: int, warmup: int, sample: NDArray[Any], progress: Progress
    ) -> list[list[list[float]]]:
        """See `Session._measure`. The clock is a `Stopwatch`, the garbage collector waits during a round.

        Chains that are assembled have weights of their own, each. Those beyond what `_HELD` allows are not held, but
        assembled anew in every round, untimed.
        """
        loaded = self._held
        if loaded is None or not loaded.is_for(chains, sample):
            loaded = self._held = None  # before the next is loaded beside it
            loaded = self._loaded(chains, sample)
        if self._holding:
            self._held = loaded
        ready, given, programs = loaded.ready, loaded.given, loaded.programs
        times: list[list[list[float]]] = [[[] for _ in blocks] if self.stamps_cuts else [[]] for blocks in chains]
        order, shuffler = list(range(len(chains))), random.Random(0)
        wall_ns = ran_ns = 0
        with Stopwatch() as watch:
            for done in range(1, warmup + rounds + 1):
                shuffler.shuffle(order)
                with _no_garbage_collection():
                    for index in order:
                        chain = ready[index]
                        if chain is None:
                            chain = self._chain_of(chains[index], programs)
                            for _ in range(_RUNS_WHEN_NEW):
                                chain(given[index])
                        chain(given[index])
                        watch.start()
                        chain(given[index], watch.split)
                        if done > warmup:
                            for taken, (begin, end) in zip(times[index], pairwise(watch.stamps), strict=True):
                                ran = begin.ns_until(end)
                                taken.append(ran / 1e6)
                                wall_ns, ran_ns = wall_ns + begin.wall_ns_until(end), ran_ns + ran
                progress(done, warmup + rounds)
        self.conditions = Conditions(self.info.threads, waited=max(0.0, 1 - ran_ns / wall_ns) if wall_ns else 0.0)
        return times

    def _loaded(self, chains: Sequence[Sequence[Block]], sample: NDArray[Any]) -> _Loaded:
        """The chains, ready to be measured from the features that the oracle has for the sample."""
        alone = dict.fromkeys(block.name for blocks in chains if not self._assembler.joins(blocks) for block in blocks)
        programs: Programs = {(name,): self._block(name) for name in alone}
        readers = [first_readers(self._graph, blocks) for blocks in chains]
        features = self._oracle_features(sample, {cut for of_chain in readers for cut in of_chain}, programs)
        # A feature within the network is brought into the layout of the block that reads it here, so that this is not
        # measured. What begins at cut 0 is given the caller's array, as by `infer`.
        layout = self._assembler.layout
        wanted = [{cut: (cut, layout(block.name)) for cut, block in of_chain.items()} for of_chain in readers]
        inputs = {
            (cut, wants): self._engine.tensor(features[cut], wants)
            for cut, wants in {key for keys in wanted for key in keys.values()}
        }
        given = [
            {cut: sample if blocks[0].start == cut == 0 else inputs[key] for cut, key in keys.items()}
            for blocks, keys in zip(chains, wanted, strict=True)
        ]
        fits = self._fit(chains)
        ready = [self._chain_of(blocks, programs) if fit else None for blocks, fit in zip(chains, fits)]
        return _Loaded(chains, sample.copy(), programs, given, ready)  # a copy: the caller may change the array

    @property
    def stamps_cuts(self) -> bool:
        """See `Session.stamps_cuts`. An assembled network has no cuts to look at the clock."""
        return self._engine.assemble is None

    def _fit(self, chains: Sequence[Sequence[Block]]) -> list[bool]:
        """Which of the chains stay loaded while they are measured: those that are not assembled, and of the others
        the first whose artifacts have no more bytes together than `_HELD` of the memory that is free."""
        left = int(_HELD * free_bytes())
        fits = []
        for blocks in chains:
            names = [block.name for block in blocks]
            bytes_ = self._assembler.bytes(names) if self._assembler.joins(blocks) else 0
            fits.append(bytes_ <= left)
            left -= bytes_ if fits[-1] else 0
        return fits

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
        assembler = Assembler(self.pack, engine)
        runs = [instruction.block for instruction in plan.instructions if isinstance(instruction, Run)]
        blocks: dict[str, _Lent] = {}
        metrics: dict[str, _Lent] = {}
        try:
            for name in dict.fromkeys(runs):
                blocks[name] = _Lent(self._programs.get((name,)) or assembler.block(name))
            for metric in plan.metrics:
                metrics[metric] = _Lent(assembler.metric(metric))
            runner = PlanRunner(plan, blocks, metrics)
            first = next((name for name in runs if not self._graph[name].start), self._graph.oracle[0])
            layout = assembler.layout(first)
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
        pieces = self._assembler.pieces(wanted)
        programs = {piece.blocks: self._programs.get(piece.blocks) or self._assembler.load(piece) for piece in pieces}
        if self._chain is None or wanted != self._active:
            self._chain = self._assembler.chain(wanted, programs)
        loaded = tuple(name for name in wanted if name not in self._active)
        released = tuple(name for name in self._active if name not in wanted)
        self._active, self._programs = wanted, programs
        return PageIn(
            loaded=loaded,
            released=released,
            bytes_in=self._assembler.bytes(loaded),
            bytes_out=self._assembler.bytes(released),
            ms=(time.perf_counter() - begin) * 1e3,
            engine=self.info.engine,
            threads=self.info.threads,
        )

    def infer_timed(self, x: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """See `Session.infer_timed`."""
        self._require_open()
        if self._chain is None:
            raise DeviceError("no subnet is active: activate one first")
        check_input(self._graph.cuts[0], x, "the input")
        begin = time.perf_counter()
        output = self._chain({0: x})
        return output, (time.perf_counter() - begin) * 1e3

    def _power_files(self) -> Mapping[str, str]:
        """See `Session.meter`."""
        return power_files()

    def _drain(self, meter: Meter, subnet: Subnet, schedule: Schedule) -> Drain:
        """See `Session.energy_mj`."""
        cut = self._graph.cuts[0]
        x = np.zeros(cut.shape, cut.dtype)
        self.activate(subnet)
        for _ in range(_RUNS_WHEN_NEW):
            self.infer(x)
        return drain(lambda: self.infer(x), meter.files, schedule)

    def _resident_mb(self, subnets: Sequence[Subnet], progress: Progress) -> list[float | None]:
        """See `Session.resident_mb`."""
        return resident_mb(self.pack, self.info.address, self.info.threads, subnets, progress)

    @property
    def resident(self) -> Resident:
        """See `Session.resident`."""
        return Resident(tuple(self._active), self._assembler.bytes(self._active))

    def close(self) -> None:
        """See `Session.close`."""
        super().close()
        self._active, self._programs, self._chain, self._held = (), {}, None, None
        self._kept.clear()

    def _ready(self) -> None:
        super()._ready()
        self._engine.check_threads()

    def _chain_of(self, blocks: Sequence[Block], programs: Programs) -> Chain:
        """Consecutive blocks, ready to run. Those of `programs` are loaded, as are those of the active subnet."""
        return self._assembler.load_chain([block.name for block in blocks], programs)

    def _block(self, name: str) -> Program:
        """The block, which is loaded, unless the active subnet has it."""
        return self._programs.get((name,)) or self._assembler.block(name)

    def _oracle_features(self, sample: NDArray[Any], cuts: set[int], programs: Programs) -> dict[int, NDArray[Any]]:
        """The oracle's features at `cuts`. Blocks that are not in `programs` are loaded one at a time and dropped."""
        graph = self._graph
        features: dict[int, Tensor] = {0: self._engine.tensor(sample, self._assembler.layout(graph.oracle[0]))}
        found = {0: sample}
        for name in graph.oracle[: max(cuts, default=0)]:
            block, program = graph[name], programs.get((name,)) or self._block(name)
            features[block.end] = program([features[cut] for cut in graph.reads(block)])
            if block.end in cuts:
                found[block.end] = self._engine.array(features[block.end])
            features = {cut: features[cut] for cut in (*graph.kept, block.end) if cut in features}
        return found


@dataclass(frozen=True)
class _Loaded:
    """Chains that are loaded to be measured: their blocks' `programs` where they run one by one, the features that
    each is `given`, by cut, and what is `ready`: None for one that is assembled anew in every round."""

    chains: Sequence[Sequence[Block]]
    sample: NDArray[Any]
    programs: Programs
    given: Sequence[Mapping[int, Any]]
    ready: Sequence[Chain | None]

    def is_for(self, chains: Sequence[Sequence[Block]], sample: NDArray[Any]) -> bool:
        """Whether these chains are measured with this sample."""
        same = [*map(tuple, chains)] == [*map(tuple, self.chains)]
        return same and np.array_equal(sample, self.sample, equal_nan=True)


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
