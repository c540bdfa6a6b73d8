"""What polishing the blocks of a measured front is worth, beside plain training that goes on for the same time.

    python -m benchmarks.polish [--quick] [--steps 300] [--seeds 2] [--work FOLDER]

A ResNet-56 for CIFAR-10, fine-tuned on JPEG pictures, is made elastic, trained by the recipe `ours` for `--made`
batches, exported for ONNX Runtime with int8 variants, and profiled on this machine for budgets of 90, 75, 60, 50 and
40% of the whole float32 program. From this supernet start, for each seed: `polish`, for `--steps` batches; and plain
training, which goes on with the recipe's second phase, subnets near the front that local losses lead to expect, at the
recipe's learning rate and at that of polishing. Both see the same 2000 pictures, which the supernet was not trained on.
Plain training gets the CPU seconds that polishing took, its measuring and deciding included: as many steps as fit, by a
few steps taken before.

All are compared on 1000 test pictures that nothing else has used, by the front's subnets in float32: the divergence of
their scores from the original network's, and their agreement with it. `WAY_divergence_over_before` is the geometric
mean over subnets and seeds, `WAY_agreement_gain_points` the mean; `plain` is the better one of the two rates by the
former, on these same pictures, which favours it. `--quick` takes fewer batches, pictures and one seed.

Then the supernet that was polished first is exported as well, with the same pictures to calibrate with, and all points
of the front are run from both packs, with their blocks in int8. `new_bytes_share` is the share of the new pack's bytes
that are in files which the old one does not have: what a push would send.
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, geometric_mean

import click
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Supernet, elastify
from adaptivenet.toolkit.graph.front import Front
from adaptivenet.toolkit.graph.graph import Subnet
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from adaptivenet.toolkit.training.batches import Part, TrainingData
from adaptivenet.toolkit.training.closeness import Closeness, closeness
from adaptivenet.toolkit.training.losses import output_loss
from adaptivenet.toolkit.training.phases import ours, polishing
from adaptivenet.toolkit.training.polish import polish, subnets_to_polish
from adaptivenet.toolkit.training.train import train

from .datasets import cifar10, first_images
from .front import BUDGETS, CALIBRATED_ON, resnet56
from .machine import describe_machine

TRIAL_STEPS = 6
Found = dict[Subnet, Closeness]


@dataclass(frozen=True)
class Run:
    """One training: the way and the seed, how close the front's subnets are after it, its steps and CPU seconds."""

    way: str
    seed: int
    found: Found
    steps: int
    seconds: float
    supernet: Supernet


def measured_front(work: Path, steps: int, console: Console) -> tuple[Supernet, torch.Tensor, Profile]:
    """The supernet that is to be polished, what its pack is calibrated with, and the profile of that."""
    subject = resnet56(work, console)
    supernet = elastify(subject.model, torch.zeros(1, 3, subject.side, subject.side))
    train(
        supernet,
        subject.training,
        ours().lasting(steps),
        progress=lambda phase, at, total, loss: console.progress("train", at, total, f"{phase} loss {loss:.3f}"),
    )
    calibrate = first_images(subject.calibration, CALIBRATED_ON)
    pack = exported(supernet, calibrate, work / "pack", console)
    settings = Settings(BUDGETS, search_images=len(subject.search), verify_images=len(subject.verify))
    with connect("local:onnxruntime").open(pack) as session:
        made = profile(session, subject.search, settings, verify=subject.verify, progress=console.progress)
    return supernet, calibrate, made


def exported(
    supernet: Supernet, calibrate: torch.Tensor, path: Path, console: Console, reuse: Path | None = None
) -> BlockPack:
    """The pack for ONNX Runtime, in float32 and int8."""
    return export_pack(
        supernet,
        path,
        ["onnx"],
        name="resnet56",
        calibrate=calibrate,
        jobs=1,
        reuse=reuse,
        overwrite=True,
        progress=lambda at, total, what: console.progress("export", at, total, what),
    )


def compared(
    supernet: Supernet, made: Profile, own: TrainingData, test: TrainingData, steps: int, seed: int, console: Console
) -> list[Run]:
    """The runs of one seed, polishing first; each starts from a copy of the supernet."""
    subnets = list(subnets_to_polish(supernet.graph, made.front))
    training = replace(polishing().lasting(steps), seed=seed, precision="float32")

    def timed(start: Callable[[Supernet], int]) -> tuple[Supernet, int, float]:
        """A copy of the supernet after a training, its steps and CPU seconds."""
        net = copy.deepcopy(supernet)
        began = time.process_time()
        taken = start(net)
        return net, taken, time.process_time() - began

    def polished(net: Supernet) -> int:
        # What the result is verified on is measured below, for all runs alike.
        result = polish(net, made.front, own, Part(test, range(1)), training)
        console.say(f"{len(result.changed)} blocks changed; from before: {' '.join(result.put_back) or 'none'}")
        return result.trained.steps

    def plain(rate: float, steps: int) -> Callable[[Supernet], int]:
        phases = (replace(training.phases[0], learning_rate=rate, steps=steps),)
        going_on = replace(training, phases=phases, sampling=ours().sampling)
        return lambda net: train(net, own, going_on).steps

    def run(way: str, start: Callable[[Supernet], int]) -> Run:
        console.say(f"{way}, seed {seed}")
        net, taken, seconds = timed(start)
        return Run(way, seed, closeness(net, subnets, test, 100, torch.device("cpu")), taken, seconds, net)

    runs = [run("polished", polished)]
    for rate in dict.fromkeys((ours().phases[-1].learning_rate, training.phases[0].learning_rate)):
        first, more = (timed(plain(rate, trial))[2] for trial in (1, 1 + TRIAL_STEPS))
        fitting = 1 + max(0, int((runs[0].seconds - first) / (more - first) * TRIAL_STEPS))
        runs.append(run(f"plain, rate {rate:g}", plain(rate, fitting)))
    return runs


def as_exported(old: BlockPack, new: BlockPack, front: Front, test: TrainingData) -> tuple[list[list[str]], float]:
    """A table of the front's points as the engine runs them from both packs, and the share of bytes that are new."""
    original = _scores(old, old.graph.oracle, test)
    rows = [["", *(f"{point.latency_ms:.2f} ms" for point in front.points)]]
    in_int8 = [sum(old.graph[name].precision == "int8" for name in point.subnet) for point in front.points]
    rows.append(["blocks in int8", *(f"{n} of {len(point.subnet)}" for n, point in zip(in_int8, front.points))])
    for name, pack in (("before", old), ("polished", new)):
        cells = []
        for point in front.points:
            scores = _scores(pack, point.subnet, test)
            far = float(output_loss(scores, original, torch.ones(()), True))
            cells.append(f"{far:.3f}, {float((scores.argmax(1) == original.argmax(1)).float().mean()):.1%}")
        rows.append([name, *cells])
    there = {artifact.file for artifact in old.artifacts()}
    sizes = {artifact.file: artifact.bytes for artifact in new.artifacts()}
    return rows, sum(size for file, size in sizes.items() if file not in there) / sum(sizes.values())


def _scores(pack: BlockPack, subnet: Sequence[str], test: TrainingData) -> torch.Tensor:
    with connect("local:onnxruntime").open(pack) as session:
        session.activate(pack.graph.subnet(subnet))
        return torch.cat([torch.from_numpy(session.infer(test.image(index))) for index in range(len(test))])


def figures_of(before: Mapping[Subnet, Closeness], runs: list[Run]) -> dict[str, float]:
    """The figures: of polishing, and of the better of the rates of plain training."""

    def ratio(way: str) -> float:
        return geometric_mean(
            run.found[subnet].divergence / before[subnet].divergence
            for run in runs
            if run.way == way
            for subnet in before
        )

    def gain(way: str) -> float:
        return 100 * fmean(
            _agreement(run.found[subnet]) - _agreement(before[subnet])
            for run in runs
            if run.way == way
            for subnet in before
        )

    plain = min((way for way in {run.way for run in runs} if way != "polished"), key=ratio)
    return {
        f"{name}_{key}": value
        for name, way in (("polished", "polished"), ("plain", plain))
        for key, value in (("divergence_over_before", ratio(way)), ("agreement_gain_points", gain(way)))
    }


def _agreement(found: Closeness) -> float:
    assert found.agreement is not None
    return found.agreement.value


def rows_of(
    before: Mapping[Subnet, Closeness], latencies: Mapping[Subnet, tuple[float, ...]], runs: list[Run]
) -> list[list[str]]:
    """A table with a column a subnet: divergence and agreement before and after each run."""

    def cells(found: Mapping[Subnet, Closeness]) -> list[str]:
        return [f"{found[subnet].divergence:.3f}, {_agreement(found[subnet]):.1%}" for subnet in before]

    rows = [["", "seed", "steps", "CPU s", *("/".join(f"{each:.2f}" for each in latencies[s]) + " ms" for s in before)]]
    rows.append(["before", "", "", "", *cells(before)])
    rows += [[run.way, str(run.seed), str(run.steps), f"{run.seconds:.0f}", *cells(run.found)] for run in runs]
    return rows


@click.command()
@click.option("--quick", is_flag=True, help="Fewer batches and pictures, and one seed.")
@click.option("--made", type=click.IntRange(min=1), default=60, show_default=True, help="Batches before the profile.")
@click.option("--steps", type=click.IntRange(min=2), default=300, show_default=True, help="Batches to polish for.")
@click.option("--seeds", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), help="A folder to keep the fine-tuned network in.")
@reports_errors
def main(quick: bool, made: int, steps: int, seeds: int, work: Path | None) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    if quick:
        made, steps, seeds = min(made, 30), min(steps, 30), 1
    own = Part(cifar10("train").some(8000, 3), range(6000, 8000))  # the first 4000 are what `resnet56` trains on
    test = Part(cifar10("test").some(2600, 1), range(1600, 1800 if quick else 2600))  # the first 600 are the profile's
    with nullcontext(work) if work else tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        supernet, calibrate, found = measured_front(at, made, console)
        latencies = subnets_to_polish(supernet.graph, found.front)
        before = closeness(supernet, list(latencies), test, 100, torch.device("cpu"))
        runs = [run for seed in range(seeds) for run in compared(supernet, found, own, test, steps, seed, console)]
        new = exported(runs[0].supernet, calibrate, at / "polished", console, at / "pack")
        points, share = as_exported(BlockPack.open(at / "pack"), new, found.front, test)
    rows = rows_of(before, latencies, runs)
    click.echo(table(rows, right=range(1, len(rows[0]))) + "\n")
    click.echo(table(points, right=range(1, len(points[0]))))
    figures = {**figures_of(before, runs), "new_bytes_share": share}
    click.echo(json.dumps({"benchmark": "polish", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
