"""The main job once, on real input: EfficientNet-Lite0 made elastic, trained, packed, profiled and run on this machine.

    python -m benchmarks.demo --out demo [--data IMAGEFOLDER]

Without data it uses crops of the photographs that scikit-image and scikit-learn ship; they have no labels, so quality
is agreement with the oracle. With an ImageFolder of ImageNet classes (folders named by WordNet id, or all 1000 of them
in order) it trains, searches and verifies on disjoint parts of that, and reports top-1 beside agreement. It leaves the
supernet, the pack, the profile and a report in the folder `--out`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.cli.elastified import left_out
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.devices.base import usable_cores
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Supernet, elastify
from adaptivenet.toolkit.graph.graph import Cut
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from adaptivenet.toolkit.report.text import budget_rows, headline, whole_rows, write_report
from adaptivenet.toolkit.training.phases import Phase, Training, ours
from adaptivenet.toolkit.training.train import train

from .datasets import first_images
from .models import efficientnet_lite0
from .photographs import crops

SIZE = 224
TRAINING_SIZE = 160  # training sees smaller pictures: the blocks are convolutions, and it is twice as fast
PREPROCESSING = Preprocessing(SIZE, SIZE, 256, "center", "bicubic", (127.0,) * 3, (128.0,) * 3, scale=1.0)
BACKEND, DEVICE = "onnx", "local:onnxruntime"
BUDGETS = ("75%", "60%", "50%", "40%")
CALIBRATED_ON = 64  # pictures
TRAINING = replace(
    ours(),
    phases=(Phase("local", 40, 1e-3), Phase("subnets", 40, 2e-4, subnets=2)),
    calibration_batches=4,
    precision="auto",
)
SETTINGS = Settings(BUDGETS)


@dataclass(frozen=True)
class Pictures:
    """The three disjoint parts of the pictures; `calibrate` are some of those to train on, in their full size."""

    train: Dataset
    calibrate: Dataset
    search: Dataset
    verify: Dataset


@dataclass(frozen=True)
class Result:
    """What the demo made, and the seconds that each step took."""

    supernet: Supernet
    pack: BlockPack
    profile: Profile
    seconds: dict[str, float]


def run(out: Path, data: Path | None, console: Console, settings: Settings, training: Training) -> Result:
    """Does the whole job and leaves everything in the folder `out`."""
    seconds: dict[str, float] = {}
    begun = time.perf_counter()

    def done(step: str) -> None:
        seconds[step] = round(time.perf_counter() - begun - sum(seconds.values()), 1)

    out.mkdir(parents=True, exist_ok=True)
    console.say("1/6 pictures")
    pictures = photographs(out) if data is None else image_folder(data)
    console.notes(pictures.train)
    done("pictures")

    console.say("2/6 elastify EfficientNet-Lite0")
    supernet = elastify(efficientnet_lite0(), torch.zeros(1, 3, SIZE, SIZE), preprocessing=PREPROCESSING)
    supernet.source = "benchmarks.models:efficientnet_lite0"
    console.say(f"    {len(supernet.graph.blocks)} blocks, {supernet.graph.count():,} subnets")
    done("elastify")

    console.say("3/6 train the alternatives on the original blocks")
    trained = train(
        supernet,
        pictures.train,
        training,
        progress=lambda phase, at, total, loss: console.progress("train", at, total, f"{phase} loss {loss:.3f}"),
        preparing=console.progress,
    )
    stay = trained.losses["trained"]
    means = [f"{np.mean([losses[name] for name in stay]):.3f} {step}" for step, losses in trained.losses.items()]
    if trained.thinned:
        console.say(f"    {left_out(trained.thinned)}")
    console.say(f"    mean local loss: {', '.join(means)}")
    supernet.save(out / "supernet")
    done("train")

    console.say("4/6 export every block to ONNX in float32 and int8, and verify each")
    pack = export_pack(
        supernet,
        out / "pack",
        [BACKEND],
        name="efficientnet-lite0",
        sample=torch.from_numpy(pictures.search.image(0)),
        calibrate=first_images(pictures.calibrate),
        overwrite=True,
        progress=lambda at, total, what: console.progress("export", at, total, what),
        say=console.say,
    )
    done("export")

    console.say("5/6 profile this machine: measure, search, verify")
    with connect(DEVICE, evaluation_threads=min(usable_cores(), 4)).open(pack) as session:  # as the command does
        result = profile(session, pictures.search, settings, verify=pictures.verify, progress=console.progress)
        result.save(out / "profile.json")
        done("profile")

        console.say("6/6 page the chosen subnet in and run it")
        choice = result.choices[-1]
        session.activate(session.pack.graph.oracle)
        page_in = session.activate(choice.point.subnet)
        answer = int(session.infer(pictures.verify.image(0)).argmax())
        console.say(
            f"    {choice.budget}: {len(page_in.loaded)} blocks loaded in {page_in.ms:.1f} ms, "
            f"{len(page_in.released)} released; the first unseen picture is of class {answer}"
        )
    write_report(result, out)
    done("run and report")
    return Result(supernet, pack, result, seconds)


def photographs(out: Path) -> Pictures:
    """Crops of the shipped photographs, stored in `out` as .npz files that the commands can read as well."""

    def stored(name: str, part: str, count: int, size: int = SIZE) -> Dataset:
        path = out / f"{name}.npz"
        np.savez(path, images=crops(part, count, size))
        recipe = PREPROCESSING if size == SIZE else smaller(size)
        return open_data(path, recipe, None, Cut(0, (1, 3, size, size)))

    return Pictures(
        stored("train", "train", 1600, TRAINING_SIZE),
        stored("calibrate", "train", CALIBRATED_ON),
        stored("search", "search", 64),
        stored("verify", "verify", 200),
    )


def image_folder(path: Path) -> Pictures:
    """Three disjoint parts of an ImageFolder: half to train on, the rest to search and to verify on."""
    cut = Cut(0, (1, 3, SIZE, SIZE))
    data = open_data(path, PREPROCESSING, None, cut, scores=(1, 1000))
    small_cut = Cut(0, (1, 3, TRAINING_SIZE, TRAINING_SIZE))
    small = open_data(path, smaller(TRAINING_SIZE), None, small_cut, scores=(1, 1000))
    parts = (0.5, 0.15, 0.35)
    train = small.split(parts, seed=0)[0]  # the same pictures as data.split(parts, seed=0)[0], smaller
    same, search, verify = data.split(parts, seed=0)
    return Pictures(train, same.take(min(CALIBRATED_ON, len(same)), seed=0), search, verify)


def smaller(size: int, recipe: Preprocessing = PREPROCESSING) -> Preprocessing:
    """How pictures are prepared for an input of another size: the same part of them is seen."""
    return replace(recipe, height=size, width=size, resize_short=round(size / 0.875))


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="An ImageFolder with the 1000 classes of ImageNet.")
@reports_errors
def main(out: Path, data: Path | None) -> None:
    """Do the main job once, on real input, and leave everything in the folder OUT."""
    console = Console()
    result = run(out, data, console, SETTINGS, TRAINING)
    click.echo(headline(result.profile) + "\n")
    click.echo(table(budget_rows(result.profile), right=(1, 2, 3, 5, 6)) + "\n")
    click.echo(table(whole_rows(result.profile), right=(2, 3, 4)))
    steps = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in result.seconds.items())
    click.echo(f"\n{sum(result.seconds.values()):.0f} s in all: {steps}")
    click.echo(f"the report, the supernet, the pack and the profile are in {out}/ : open {out / 'report.md'}")


if __name__ == "__main__":
    main()
