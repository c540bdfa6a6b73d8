"""How long an export takes, over one process that exports the same programs one after another.

    python -m benchmarks.export [--quick] [--float32]

EfficientNet-Lite0 with all its alternatives (not trained: that changes no time) is saved, and then exported for both
engines, in float32 and in int8, calibrated with 64 crops of photographs:

- by one process that loads it and makes one program after another, each from its torch module, with nothing that one
  program has of another (`one_by_one`);
- by the command `adaptivenet-export`, from the saved supernet to the pack, with a worker process a core;
- by the same command once more, with `--overwrite`, when nothing has changed.

`cold_speedup` is the time of the first over that of the second, `warm_seconds` the third's; all from the start of a
process to its end. `cold_processor_speedup` and `warm_processor_seconds` are the same in the processor time of all
processes together, which says more where other programs run. `programs` is how many there are. With `--float32` nothing
is made in int8, and with `--quick` there are fewer alternatives too: for each block one with half of the channels.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
import torch
from adaptivenet.export.exporting import planned
from adaptivenet.export.int8 import Calibration
from adaptivenet.export.metrics import choose_metrics, metric_program
from adaptivenet.export.onnx_part import Place
from adaptivenet.export.programs import export_program
from adaptivenet.toolkit.cli.console import Console, reports_errors
from adaptivenet.toolkit.data import open_data
from adaptivenet.toolkit.elastic import Supernet, elastify, prune
from adaptivenet.toolkit.elastic.making import DEFAULT_KINDS
from adaptivenet.toolkit.errors import AdaptiveNetError
from adaptivenet.toolkit.graph.graph import Block
from adaptivenet.toolkit.pack.pack import SUFFIXES, BlockPack

from .datasets import first_images
from .demo import PREPROCESSING, SIZE
from .machine import describe_machine
from .models import efficientnet_lite0
from .photographs import crops

CALIBRATED_ON = 64  # crops, as many as the command uses


def one_by_one(supernet_path: Path, pictures_path: Path, int8: bool) -> int:
    """Exports every block, and every metric, for both backends, one after another. Returns the number of programs.

    Called in a new process. What does not export is left out, as the command does.
    """
    supernet, graph, _ = planned(Supernet.load(supernet_path), int8=int8)
    data = open_data(pictures_path, supernet.preprocessing, None, graph.cuts[0])
    pictures = first_images(data)
    with torch.no_grad():
        features = supernet.features(pictures)
    ranges = {cut: (float(feature.min()), float(feature.max())) for cut, feature in enumerate(features)}

    def of_block(block: Block, backend: str) -> Callable[[], object]:
        reads = graph.reads(block)
        inputs = [features[cut][:1] for cut in reads]
        known = None
        if block.twin_of:
            known = Calibration(
                [tuple(x[at : at + 1] for x in map(features.__getitem__, reads)) for at in range(len(data))], ranges
            )
        module = supernet.blocks[block.twin_of or block.name]
        return lambda: export_program(block.name, module, inputs, backend, Place.of(graph, block), known)

    def of_metric(metric: str, backend: str) -> Callable[[], object]:
        program = metric_program(metric, graph.cuts[-1].shape)
        return lambda: export_program(metric, program.module, program.inputs, backend)

    programs = [of_block(block, backend) for block in graph.blocks for backend in SUFFIXES]
    programs += [
        of_metric(metric, backend) for metric in choose_metrics(None, graph.cuts[-1].shape) for backend in SUFFIXES
    ]
    for program in programs:
        with contextlib.suppress(AdaptiveNetError):
            program()
    return len(programs)


@dataclass(frozen=True)
class Taken:
    """What something took in processes that it started: seconds, and processor seconds of all of them."""

    wall: float
    processor: float

    @classmethod
    def by(cls, work: Callable[[], object]) -> Taken:
        """What `work` takes."""
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        work()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cls(time.perf_counter() - begun, processor)


@click.command()
@click.option("--quick", is_flag=True, help="Float32 only, and one alternative a block.")
@click.option("--float32", is_flag=True, help="Nothing in int8.")
@reports_errors
def main(quick: bool, float32: bool) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    int8 = not (quick or float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        supernet = elastify(
            efficientnet_lite0(),
            torch.zeros(1, 3, SIZE, SIZE),
            kinds=[prune(0.5)] if quick else DEFAULT_KINDS,
            preprocessing=PREPROCESSING,
        )
        supernet.save(folder / "supernet")
        np.savez(folder / "pictures.npz", images=crops("train", CALIBRATED_ON, SIZE))
        command = [sys.executable, "-m", "adaptivenet.export.cli", str(folder / "supernet"), str(folder / "pack")]
        command += ["--int8", "--calibrate", str(folder / "pictures.npz")] if int8 else []

        def export(*options: str) -> None:
            subprocess.run([*command, *options], check=True, capture_output=True)

        def alone() -> None:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                count = process.submit(one_by_one, folder / "supernet", folder / "pictures.npz", int8).result()
                console.say(f"{count} programs")

        cold, one, warm = Taken.by(export), Taken.by(alone), Taken.by(lambda: export("--overwrite"))
        pack = BlockPack.open(folder / "pack")
    for what, taken in (("cold", cold), ("one by one", one), ("warm", warm)):
        click.echo(f"{what}: {taken.wall:.1f} s, {taken.processor:.1f} s of processors")
    click.echo(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    figures = {
        "cold_speedup": one.wall / cold.wall,
        "warm_seconds": warm.wall,
        "cold_processor_speedup": one.processor / cold.processor,
        "warm_processor_seconds": warm.processor,
        "programs": len(list(pack.artifacts())),
    }
    click.echo(json.dumps({"benchmark": "export", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
