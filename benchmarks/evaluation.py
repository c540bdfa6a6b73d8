"""What evaluating subnets costs: one generation against its lower bound, and a whole search with features kept.

    python -m benchmarks.evaluation [--quick] [--pack FOLDER] [--data PICTURES] [--engine executorch] [--images N]

Three ways to evaluate: *naive*, one subnet after the other, each from the input on; the *paper*'s, AdaptiveNet's tree
of one generation, taken at its best: every distinct prefix of the generation runs once; and *ours*, the `Evaluator`,
which also keeps features from one generation to the next within a limit. All give the same scores, which is checked.

**Time.** One generation of 100 subnets, drawn uniformly over the multiply-accumulates, is evaluated on some pictures in
each of the ways by turns. Before and after each of them its bound is measured: the blocks of all distinct edges of the
generation's trie, every edge once, each block alone on an input that is ready, its output not kept; times the number
of pictures. `naive_over_bound`, `paper_over_bound` and `ours_over_bound` are medians over the rounds of time over
bound; `*_spread` the interquartile range. All times are those of this process on the processor, on one thread, so that
what else runs there is not counted (but it makes caches and clocks worse). Planning, loading the blocks, preparing the
pictures and the metric count; naive loads the blocks once as well. Ours begins with nothing kept, and keeps what it can
within 64 MB: what that costs counts, what it saves later does not. `planning_share` is the part of ours in which plans
were compiled.

**Work.** A search by `Evolutionary` (one budget, 75% of the oracle's multiply-accumulates) over 20 generations of 100
subnets at most, on 64 pictures; in each, subnets that were evaluated before are not asked for again. It is done once
for each limit of 16, 64 and 256 MB, really running every block. `paper_over_ours_executions_LIMIT_mb` is the number of
block executions of the paper's way over ours; without a limit in its name it is that for 256 MB, what a profile
allows by default. `paper_over_distinct_executions` is the ceiling: the same over the distinct edges of all
generations together, which a cache of any size has to run. `peak_over_limit` is the worst, over the limits, of the most
bytes of features that were really alive at once over the limit: every tensor that an engine hands out is watched until
it is gone.

Quality is agreement with the oracle's answers, which are made labels before, so that no plan runs the oracle for it.
Without `--data` the pictures are crops of photographs that come with scikit-image; without `--pack` the pack is
EfficientNet-Lite0 with merged and pruned blocks, initialised but not trained. `--quick` times 4 pictures in 4 rounds,
and searches with generations of 40 on 4 pictures, of which each has more room than of 64: its ratios of work are
higher for that.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.base import Evaluation, Session
from adaptivenet.toolkit.devices.local.executorch_engine import ExecuTorchEngine
from adaptivenet.toolkit.devices.local.interpreter import Engine, Program, Tensor, TensorType
from adaptivenet.toolkit.devices.local.local import LocalDevice
from adaptivenet.toolkit.devices.local.onnxruntime_engine import OnnxRuntimeEngine
from adaptivenet.toolkit.elastic import elastify, merge, prune
from adaptivenet.toolkit.errors import DeviceError
from adaptivenet.toolkit.graph.graph import BlockGraph, Subnet
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import INPUT, Free, Plan, Score, compile_plan
from adaptivenet.toolkit.plan.prefix_cache import PrefixCache
from adaptivenet.toolkit.report.text import markdown
from adaptivenet.toolkit.search import Evaluator, Evolutionary, Result
from adaptivenet.toolkit.training.initialise import initialise

from .demo import PREPROCESSING, SIZE
from .machine import describe_machine
from .models import efficientnet_lite0
from .photographs import crops
from .subnets import draw_by_macs

ENGINES = {"executorch": ExecuTorchEngine, "onnxruntime": OnnxRuntimeEngine}
LIMITS_MB = (16, 64, 256)
TIMED_LIMIT = 64 << 20
SUBNETS = 100
GENERATIONS = 20
BUDGET = 0.75


class Watched:
    """An engine that counts the bytes of its tensors as long as they are alive. It assembles nothing."""

    assemble = None

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.version, self.backend = engine.name, engine.version, engine.backend
        self.threads = engine.threads
        self.check_threads, self.array = engine.check_threads, engine.array
        self.alive = self.peak = 0

    def load(self, what: str, data: bytes, layout: str, takes: Sequence[TensorType], gives: TensorType) -> Program:
        """The program, whose outputs are watched, also those that lie in its own memory."""
        program = self.engine.load(what, data, layout, takes, gives)

        def run(operands: Sequence[Tensor], keep: bool = True) -> Tensor:
            return self._watch(program(operands, keep))

        return run

    def tensor(self, array: np.ndarray, layout: str) -> Tensor:
        """The tensor, watched."""
        return self._watch(self.engine.tensor(array, layout))

    def _watch(self, tensor: Tensor) -> Tensor:
        size = int(tensor.nbytes)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(tensor, self._gone, size)
        return tensor

    def _gone(self, size: int) -> None:
        self.alive -= size


class Answered:
    """Pictures in memory, with the oracle's answers as their labels."""

    def __init__(self, session: Session, images: Sequence[np.ndarray]) -> None:
        self.images = list(images)
        session.activate(session.pack.graph.oracle)
        self.labels = np.array([session.infer(image).argmax(1)[0] for image in images], np.int64)
        self.digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        """One picture, batch first."""
        return self.images[index]


def naive_plan(graph: BlockGraph, subnets: Sequence[Subnet], metrics: Mapping[str, tuple[str, ...]]) -> Plan:
    """One subnet after the other, each from the input on, in one plan."""
    instructions: list[Any] = []
    for number, subnet in enumerate(subnets):
        for step in compile_plan(graph, [subnet], metrics).instructions:
            if isinstance(step, Score):
                instructions.append(Score(number, step.metric, step.operands))
            elif step != Free(INPUT):
                instructions.append(step)
    alone = [compile_plan(graph, [subnet], metrics) for subnet in subnets]
    return Plan(
        (*instructions, Free(INPUT)),
        max(plan.slots for plan in alone),
        tuple(subnets),
        tuple(metrics),
        graph.cuts[0].bytes + max(plan.peak_bytes for plan in alone),
        sum(plan.block_runs for plan in alone),
    )


def seconds(work: Callable[[], Evaluation]) -> tuple[float, Evaluation]:
    """How long an evaluation takes on the processor, and its result."""
    begun = time.process_time()
    found = work()
    return time.process_time() - begun, found


def plan_seconds(graph: BlockGraph, subnets: Sequence[Subnet], metrics: Mapping[str, tuple[str, ...]]) -> float:
    """How long planning a first generation takes."""
    cache = PrefixCache(graph, metrics, TIMED_LIMIT)
    begun = time.process_time()
    cache.plan(subnets, "data", 8)
    return time.process_time() - begun


def edges_of(paths: Sequence[Subnet]) -> set[tuple[str, ...]]:
    """The edges of a trie, as prefixes."""
    return {path[:end] for path in paths for end in range(1, len(path) + 1)}


def edge_seconds(session: Session, subnets: Sequence[Subnet], passes: int = 3) -> list[float]:
    """How long the distinct edges of a trie take on the processor for one picture, each block alone, some times."""
    marks: list[float] = []
    chains = [(edge[-1],) for edge in sorted(edges_of(subnets))]
    session.measure(chains, passes, 1, progress=lambda done, total: marks.append(time.process_time()))
    return [after - before for before, after in pairwise(marks)]


def time_one_generation(session: Session, data: Answered, rounds: int, console: Console) -> dict[str, float]:
    """The three ways by turns, over the bound of each round."""
    graph, pictures = session.pack.graph, cast(Dataset, data)
    metrics = {"top1": session.pack.metrics["top1"]}
    subnets = draw_by_macs(graph, SUBNETS, 0)
    naive, paper = naive_plan(graph, subnets, metrics), compile_plan(graph, subnets, metrics)
    evaluator = Evaluator(session, metrics, TIMED_LIMIT)
    ways: dict[str, Callable[[], Evaluation]] = {
        "naive": lambda: session.evaluate(naive, pictures),
        "paper": lambda: session.evaluate(paper, pictures),
        "ours": lambda: evaluator.evaluate(subnets, pictures),
    }
    found: dict[str, list[float]] = defaultdict(list)
    before = edge_seconds(session, subnets)
    for number in range(rounds):
        sums = []
        for name in list(ways)[number % 3 :] + list(ways)[: number % 3]:
            taken, evaluation = seconds(ways[name])
            evaluator.close()
            after = edge_seconds(session, subnets)
            found[f"{name}_over_bound"].append(taken / (len(data) * statistics.median(before + after)))
            if name == "ours":
                found["planning_share"].append(plan_seconds(graph, subnets, metrics) / taken)
            sums.append(evaluation.sums["top1"])
            before = after
        if any(not np.array_equal(one, sums[0]) for one in sums):
            raise DeviceError("the three ways do not give the same scores")
        console.progress("one generation", number + 1, rounds)
    figures = {"rounds": float(rounds)}
    for name, values in found.items():
        low, _, high = statistics.quantiles(values, n=4)
        figures |= {name: statistics.median(values), f"{name}_spread": high - low}
    return figures


def search(
    session: Session, engine: Watched, data: Answered, population: int, limit_mb: int, console: Console
) -> dict[str, float]:
    """One search under one limit: the block executions of each way, and the peak that was measured."""
    graph = session.pack.graph
    metrics = {"top1": session.pack.metrics["top1"]}
    cost = {block.name: float(block.macs) for block in graph.blocks}
    budget = BUDGET * sum(cost[name] for name in graph.oracle)
    strategy = Evolutionary(graph, cost, [budget], len(data), population=population, generations=GENERATIONS)
    asked: list[Subnet] = []
    paper = ours = generations = 0
    engine.peak = 0
    with Evaluator(session, metrics, limit_mb << 20) as evaluator:
        while trials := strategy.ask(population):
            batch = [trial.subnet for trial in trials]
            found = evaluator.evaluate(batch, cast(Dataset, data))
            strategy.tell([Result(subnet, sums[:, 0]) for subnet, sums in zip(batch, found.sums["top1"])])
            asked += batch
            ours += found.block_runs
            paper += compile_plan(graph, batch, metrics).block_runs * len(data)
            generations += 1
            console.progress(f"search within {limit_mb} MB", generations, GENERATIONS + 1)
    return {
        "subnets": len(asked),
        "naive": sum(map(len, asked)) * len(data),
        "paper": paper,
        "ours": ours,
        "distinct": len(edges_of(asked)) * len(data),
        "peak_over_limit": engine.peak / (limit_mb << 20),
    }


@contextmanager
def default_pack(console: Console) -> Iterator[BlockPack]:
    """EfficientNet-Lite0 with merged and pruned blocks that are initialised on crops of photographs."""
    supernet = elastify(efficientnet_lite0(), torch.zeros(1, 3, SIZE, SIZE), kinds=[merge(2), prune(0.25), prune(0.5)])
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "crops.npz", images=crops("train", 48, SIZE))
        data = open_data(Path(folder) / "crops.npz", PREPROCESSING, None, supernet.graph.cuts[0])
        batches = [torch.from_numpy(np.concatenate([data.image(at + k) for k in range(12)])) for at in (0, 12, 24, 36)]
        initialise(supernet, batches)
        yield export_pack(
            supernet,
            Path(folder) / "pack",
            name="efficientnet-lite0",
            metrics=("top1", "agreement"),
            progress=lambda at, total, what: console.progress("export", at, total, what),
        )


def pictures_for(pack: BlockPack, path: Path | None, count: int) -> list[np.ndarray]:
    """The first pictures of the data, or crops of photographs, as the pack wants them."""
    if path is not None:
        data = open_data(path, pack.preprocessing, pack.classes, pack.graph.cuts[0])
        return [data.image(index) for index in range(min(count, len(data)))]
    recipe = pack.preprocessing or PREPROCESSING
    return [recipe.apply_array(crop) for crop in crops("search", count, SIZE)]


HEAD = ["limit", "subnets", "naive", "paper", "ours", "distinct", "paper / ours", "peak / limit"]


@click.command()
@click.option("--quick", is_flag=True, help="Fewer pictures, rounds and subnets; at most 5 minutes on 2 cores.")
@click.option("--pack", "given", type=click.Path(path_type=Path), help="A pack with the metric top1.")
@click.option("--data", type=click.Path(path_type=Path), help="Pictures to evaluate on.")
@click.option("--engine", "engine_name", type=click.Choice(list(ENGINES)), default="executorch", show_default=True)
@click.option("--images", type=click.IntRange(min=1), help="Pictures that the search evaluates on.")
@click.option("--report", type=click.Path(), help="Write the table here as Markdown.")
@reports_errors
def main(
    quick: bool, given: Path | None, data: Path | None, engine_name: str, images: int | None, report: str | None
) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    timed, rounds, searched, population = (4, 4, 4, 40) if quick else (16, 7, 64, SUBNETS)
    searched = images or searched
    engine = Watched(ENGINES[engine_name](1))
    rows = [HEAD]
    figures: dict[str, Any] = {}
    found: dict[int, dict[str, float]] = {}
    with default_pack(console) if given is None else _opened(given) as pack:
        pictures = pictures_for(pack, data, max(timed, searched))
        with LocalDevice("local", engine.engine).open(pack) as session:
            figures |= time_one_generation(session, Answered(session, pictures[:timed]), rounds, console)
        with LocalDevice("local", engine).open(pack) as session:
            answered = Answered(session, pictures[:searched])
            for limit_mb in LIMITS_MB:
                found[limit_mb] = search(session, engine, answered, population, limit_mb, console)
    for limit_mb, work in found.items():
        ratio = work["paper"] / work["ours"]
        counts = [f"{work[name]:,.0f}" for name in ("subnets", "naive", "paper", "ours", "distinct")]
        rows.append([f"{limit_mb} MB", *counts, f"{ratio:.2f}", f"{work['peak_over_limit']:.2f}"])
        figures[f"paper_over_ours_executions_{limit_mb}_mb"] = ratio
    last = found[LIMITS_MB[-1]]
    click.echo(table(rows, right=range(1, len(HEAD))))
    if report:
        Path(report).write_text(markdown(rows) + "\n")
    figures |= {
        "paper_over_ours_executions": last["paper"] / last["ours"],
        "paper_over_distinct_executions": last["paper"] / last["distinct"],
        "naive_over_ours_executions": last["naive"] / last["ours"],
        "peak_over_limit": max(work["peak_over_limit"] for work in found.values()),
        "search_images": len(answered),
        "search_subnets": last["subnets"],
        "timed_images": timed,
    }
    click.echo(json.dumps({"benchmark": "evaluation", "figures": figures, "machine": describe_machine()}))


@contextmanager
def _opened(path: Path) -> Iterator[BlockPack]:
    yield BlockPack.open(path)


if __name__ == "__main__":
    main()
