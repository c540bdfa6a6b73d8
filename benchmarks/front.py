"""What a front is worth beside what one ships without it: the whole network as one program, in float32 and in int8.

    python -m benchmarks.front [--quick] [--model NAME] [--engine E] [--recipe R] [--steps N]
        [--polish N] [--lowrank SHARE] [--without KIND]

EfficientNet-Lite0 and MobileNetV2 on ImageNet samples and a ResNet-56 on CIFAR-10 are made elastic, trained for
`--steps` batches, exported with int8 variants of all blocks, and profiled on this machine, one thread, for budgets of
90, 75, 60, 50 and 40% of the whole float32 program. Training, search and verification see different pictures; the
qualities are top-1 on the verification's, on which all points were evaluated. Latencies are measured, the whole
programs' in the same rounds.

`ENGINE_latency_within_1_point_over_whole_float` is the latency of the fastest point that is at most 1 point worse than
the whole float32 program, over that program's; the same with 5 points. `ENGINE_margin_at_whole_int8_points` is the
quality of the best subnet of blocks that is at most as slow as whole int8, minus that of whole int8. The figures
without an engine's name are ONNX Runtime's; of several models, each is that of the worst. `--quick` takes
EfficientNet-Lite0 on ONNX Runtime only, and 40 batches.

With `--polish`, the front that a profile found is polished for so many batches, on the pictures of the training; what
has changed is exported again, and profiled anew. The figures are then those of the second profile; those of the first
stand beside them as `before_polish_…`.

What a kind of alternatives is worth is a table: its share of the blocks of the front's subnets, and the figures by
those points of the front that have no block of it. These are what the same search found beside; what a search finds
that never had the kind is told by a run `--without` it. `--lowrank` adds factorised blocks, which are no default.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Kind, Supernet, elastify, lowrank
from adaptivenet.toolkit.elastic.making import DEFAULT_KINDS
from adaptivenet.toolkit.graph.front import Front
from adaptivenet.toolkit.graph.graph import Cut
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from adaptivenet.toolkit.report.text import front_rows, headline, whole_rows
from adaptivenet.toolkit.training.batches import TrainingData
from adaptivenet.toolkit.training.phases import RECIPES, Training, polishing
from adaptivenet.toolkit.training.polish import polish
from adaptivenet.toolkit.training.train import Progress, train
from torch import nn

from .datasets import cifar10, data_folder, first_images
from .demo import PREPROCESSING, SIZE, TRAINING_SIZE, smaller
from .machine import describe_machine
from .models import efficientnet_lite0, mobilenet_v2
from .oracles import cifar_resnet

ENGINES = {"onnxruntime": "onnx", "executorch": "executorch"}  # and the backend that each runs
BUDGETS = ("90%", "75%", "60%", "50%", "40%")
CALIBRATED_ON = 64
INT8 = ("whole-int8",)
KINDS = [*dict.fromkeys(kind.name for kind in DEFAULT_KINDS), "lowrank"]


@dataclass(frozen=True)
class Subject:
    """A network, the side of its pictures, and disjoint parts of these: to train and calibrate with, to search and to
    verify on. Training may see its pictures smaller."""

    model: nn.Module
    side: int
    training: TrainingData
    calibration: TrainingData
    search: Dataset
    verify: Dataset


def on_imagenet(make: Callable[[], nn.Module], recipe: Preprocessing) -> Subject:
    """A network on one picture of each class of ImageNet."""
    folder, parts = data_folder() / "imagenet1k_samples" / "val", (0.4, 0.2, 0.4)
    pictures = open_data(folder, recipe, None, Cut(0, (1, 3, SIZE, SIZE)), scores=(1, 1000))
    calibration, search, verify = pictures.split(parts, seed=0)
    cut, small = Cut(0, (1, 3, TRAINING_SIZE, TRAINING_SIZE)), smaller(TRAINING_SIZE, recipe)
    training = open_data(folder, small, None, cut, scores=(1, 1000)).split(parts, seed=0)[0]
    return Subject(make(), SIZE, training, calibration, search, verify)


def lite0(_: Path, __: Console) -> Subject:
    """EfficientNet-Lite0 on one picture of each class of ImageNet."""
    return on_imagenet(efficientnet_lite0, PREPROCESSING)


def mobilenet(_: Path, __: Console) -> Subject:
    """MobileNetV2 on one picture of each class of ImageNet."""
    return on_imagenet(mobilenet_v2, replace(PREPROCESSING, mean=(127.5,) * 3, std=(127.5,) * 3))


def resnet56(work: Path, console: Console) -> Subject:
    """ResNet-56 on CIFAR-10, fine-tuned on its JPEG pictures."""
    model = cifar_resnet("resnet56", 4000, work, console)
    search, verify = cifar10("test").some(600, 1).divided(400, 2)

    def dataset(pictures: TrainingData, name: str) -> Dataset:
        images = np.concatenate([pictures.image(index) for index in range(len(pictures))])
        labels = [int(np.asarray(pictures.label(index))) for index in range(len(pictures))]
        return Dataset.from_arrays(images, labels, classes=10, name=name)

    training = cifar10("train").some(4000, 3)
    return Subject(model, 32, training, training, dataset(search, "search"), dataset(verify, "verify"))


SUBJECTS: Mapping[str, Callable[[Path, Console], Subject]] = {
    "efficientnet-lite0": lite0,
    "mobilenet-v2": mobilenet,
    "resnet56-cifar": resnet56,
}


@dataclass(frozen=True)
class Job:
    """What is done with each network: on which engines, with what training and alternatives, and for how many batches
    each engine's front is polished then, if at all."""

    engines: list[str]
    training: Training
    kinds: Sequence[Kind]
    polish_for: int | None


def profiles(name: str, job: Job, folder: Path, console: Console) -> dict[str, list[Profile]]:
    """The whole job on one network: its profile by engine, and the one after polishing."""
    subject = SUBJECTS[name](folder, console)
    supernet = elastify(subject.model, torch.zeros(1, 3, subject.side, subject.side), kinds=job.kinds)

    def progress(what: str) -> Progress:
        return lambda phase, at, total, loss: console.progress(what, at, total, f"{phase} loss {loss:.3f}")

    train(supernet, subject.training, job.training, progress=progress(f"train {name}"))

    def exported(supernet: Supernet, engines: Sequence[str], path: Path, reuse: Path | None = None) -> BlockPack:
        return export_pack(
            supernet,
            path,
            [ENGINES[engine] for engine in engines],
            name=name,
            calibrate=first_images(subject.calibration, CALIBRATED_ON),
            reuse=reuse,
            progress=lambda at, total, what: console.progress(f"export {name}", at, total, what),
            say=console.say,
        )

    def profiled(pack: BlockPack, engine: str) -> Profile:
        settings = Settings(BUDGETS, search_images=len(subject.search), verify_images=len(subject.verify))
        with connect(f"local:{engine}").open(pack) as session:
            return profile(session, subject.search, settings, verify=subject.verify, progress=console.progress)

    def polished(engine: str, front: Front, steps: int) -> BlockPack:
        net = copy.deepcopy(supernet)
        polish(
            net,
            front,
            subject.training,
            subject.search,
            polishing().lasting(steps),
            progress=progress("polish"),
        )
        return exported(net, [engine], folder / f"{name}-{engine}-polished", folder / name)

    pack = exported(supernet, job.engines, folder / name)
    found = {engine: [profiled(pack, engine)] for engine in job.engines}
    if job.polish_for:
        for engine, made in found.items():
            made.append(profiled(polished(engine, made[0].front, job.polish_for), engine))
    return found


def figures_of(made: Profile, without: str | None = None) -> dict[str, float]:
    """The agreed figures of one profile; `without` a kind, by the points that have no block of it."""
    every = {point.subnet: point for point in (*made.front.points, *made.whole)}
    points = {each: point for each, point in every.items() if without not in _kinds(made, each)}
    quality = {subnet: point.qualities[0].value for subnet, point in points.items()}
    latency = {subnet: point.latency_ms for subnet, point in points.items()}
    whole = made.graph.reference

    def fastest(points_less: float) -> float:
        near = [latency[subnet] for subnet in points if quality[subnet] >= quality[whole] - points_less / 100 - 1e-9]
        return min(near) / latency[whole]

    networks = set(made.graph.networks)
    within = [quality[each] for each in points if each not in networks and latency[each] <= latency[INT8]]
    return {
        "latency_within_1_point_over_whole_float": fastest(1),
        "latency_within_5_points_over_whole_float": fastest(5),
        "margin_at_whole_int8_points": 100 * (max(within, default=0.0) - quality[INT8]),
    }


def kind_rows(made: Profile) -> list[list[str]]:
    """The table of kinds: their shares of the blocks of the front's subnets, and the figures without each."""
    networks = set(made.graph.networks)
    subnets = [point.subnet for point in made.front.points if point.subnet not in networks]
    on_front = Counter(kind for subnet in subnets for kind in _kinds(made, subnet))
    rows = [["kind", "of the front's blocks", "within 1 point without it", "within 5 without it", "margin without it"]]
    for kind in dict.fromkeys(block.kind for block in made.graph.blocks if not block.is_network):
        share = on_front[kind] / max(1, on_front.total())
        within_1, within_5, margin = figures_of(made, kind).values()
        without = ["", "", ""] if kind == "original" else [f"{within_1:.2f}", f"{within_5:.2f}", f"{margin:+.1f}"]
        rows.append([kind, f"{share:.0%}", *without])
    return rows


def _kinds(made: Profile, subnet: Collection[str]) -> list[str]:
    return [made.graph[name].kind for name in subnet]


def show(made: Profile) -> None:
    """Print the tables of one profile."""
    click.echo(headline(made) + "\n")
    rows = front_rows(made)
    click.echo(table(rows, right=range(len(rows[0]) - 2)) + "\n")
    click.echo(table(whole_rows(made), right=(2, 3, 4)) + "\n")
    click.echo(table(kind_rows(made), right=range(1, 5)) + "\n")


def worst(figures: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure that of the worst model: the largest latency, the smallest margin."""
    return {key: (min if "margin" in key else max)(each[key] for each in figures) for key in figures[0]}


@click.command()
@click.option("--quick", is_flag=True, help="EfficientNet-Lite0 on ONNX Runtime only, and less training.")
@click.option("--model", "models", multiple=True, type=click.Choice(list(SUBJECTS)))
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(ENGINES)))
@click.option("--recipe", type=click.Choice(["ours", "front", "uniform"]), default="ours", show_default=True)
@click.option("--steps", type=click.IntRange(min=2), help="Batches to train for (default: 200, or 40 with --quick).")
@click.option(
    "--polish", "polish_for", type=click.IntRange(min=2), help="Batches to polish each front for, after its profile."
)
@click.option("--lowrank", "shares", multiple=True, type=float, help="Add blocks factorised to such a share of MACs.")
@click.option("--without", multiple=True, type=click.Choice(KINDS), help="Make no alternatives of this kind.")
@reports_errors
def main(
    quick: bool,
    models: tuple[str, ...],
    engines: tuple[str, ...],
    recipe: str,
    steps: int | None,
    polish_for: int | None,
    shares: tuple[float, ...],
    without: tuple[str, ...],
) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    names = models or (tuple(SUBJECTS)[:1] if quick else tuple(SUBJECTS))
    chosen = list(engines or (list(ENGINES)[:1] if quick else list(ENGINES)))
    kinds = [kind for kind in (*DEFAULT_KINDS, *map(lowrank, shares)) if kind.name not in without]
    training = RECIPES[recipe]().lasting(steps or (40 if quick else 200))
    job = Job(chosen, training, kinds, polish_for)
    found: dict[str, list[list[dict[str, float]]]] = {engine: [] for engine in chosen}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for engine, profiled in profiles(name, job, Path(folder), console).items():
                for made in profiled:
                    show(made)
                found[engine].append([figures_of(made) for made in profiled])
    figures: dict[str, float] = {}
    for at, prefix in ((-1, ""), *([(0, "before_polish_")] if polish_for else [])):
        by_engine = {engine: worst([each[at] for each in found[engine]]) for engine in chosen}
        figures |= {f"{prefix}{engine}_{key}": value for engine in chosen for key, value in by_engine[engine].items()}
        figures |= {f"{prefix}{key}": value for key, value in by_engine.get("onnxruntime", {}).items()}
    click.echo(json.dumps({"benchmark": "front", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
