"""`adaptivenet-elastify`: model → supernet, trained."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .console import Console, print_json, reports_errors, table

if TYPE_CHECKING:
    from ..data import Preprocessing
    from ..elastic import Supernet
    from ..elastic.phases import Training
    from ..elastic.train import Trained
    from ..elastic.validate import Validation


def _numbers(kind: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str], tuple[Any, ...]]:
    def parse(context: click.Context, parameter: click.Parameter, value: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in value.split(",") if part.strip())
        except ValueError:
            raise click.BadParameter(f"{value!r} is no list of numbers such as {parameter.default}") from None

    return parse


@click.command()
@click.argument("model")
@click.option("--out", type=click.Path(), help="The folder to write the supernet to.")
@click.option("--weights", help="A state dict (.safetensors or .pth), or 'pretrained'.")
@click.option("--data", type=click.Path(), help="Pictures to train on; without them nothing is trained.")
@click.option(
    "--classes", type=click.Path(), help="The network's classes, one name a line: what the folders of --data are."
)
@click.option(
    "--size", type=click.IntRange(min=1), default=224, show_default=True, help="Height and width of the model's input."
)
@click.option(
    "--preprocessing",
    default="auto",
    show_default=True,
    help="auto (timm's own, else imagenet), imagenet, or a json file as in docs/pack.md.",
)
@click.option("--output", help="Of a model that answers with several tensors, keep only this one, such as 'out'.")
@click.option("--merge", default="2,3", show_default=True, callback=_numbers(int), help="How many blocks to merge.")
@click.option(
    "--prune", default="0.25,0.5", show_default=True, callback=_numbers(float), help="Shares of channels to take out."
)
@click.option("--skip/--no-skip", default=True, show_default=True, help="Let residual blocks be left out.")
@click.option(
    "--recipe",
    type=click.Choice(["ours", "paper", "naive"]),
    default="ours",
    show_default=True,
    help="ours: every block from the original one's features, then subnets from its outputs. paper: AdaptiveNet's "
    "branch distillation, then tuning with labels. naive: labels from the first step.",
)
@click.option(
    "--epochs", type=click.FloatRange(min=0), help="Times that every picture is seen (default: the recipe's own steps)."
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Finish within so many minutes, resumed parts together: the schedule is shortened to fit.",
)
@click.option("--batch-size", default=32, show_default=True, help="Pictures a step, on all workers together.")
@click.option("--seed", default=0, show_default=True)
@click.option("--flip", is_flag=True, help="Mirror every second picture.")
@click.option("--shift", default=0, show_default=True, help="Move every picture by up to so many pixels.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="bfloat16 helps where the hardware multiplies it: GPUs since Ampere, CPUs with AMX or AVX512-BF16. Elsewhere "
    "it is slower.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where to train; auto: on a GPU where there is one.",
)
@click.option("--checkpoint", type=click.Path(), help="Write the state of training here, and resume from it.")
# Not --logs, which torchrun takes for an abbreviation of its own --logs-specs, wherever it stands.
@click.option("--tensorboard", type=click.Path(), help="A folder for its logs (needs the extra 'tensorboard').")
@click.option("--validate", "held_out", type=click.Path(), help="Pictures to measure the trained supernet on.")
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Validate on this share of --data, and do not train on it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one json document instead of a table.")
@click.option("--dry-run", is_flag=True, help="Show the blocks and their alternatives, and stop.")
@click.option("--explain", "explained", is_flag=True, help="Show where the model was cut, as a tree, and stop.")
@reports_errors
def main(
    model: str,
    out: str | None,
    weights: str | None,
    size: int,
    preprocessing: str,
    output: str | None,
    merge: tuple[int, ...],
    prune: tuple[float, ...],
    skip: bool,
    as_json: bool,
    dry_run: bool,
    explained: bool,
    **options: Any,
) -> None:
    """Make MODEL elastic and train its alternatives.

    MODEL is timm:NAME, torchvision:NAME or package.module:function, which may lie in the current folder. On several
    GPUs or machines: torchrun --nproc-per-node N -m adaptivenet.toolkit.cli.elastify MODEL ...
    """
    from ..elastic import elastify, example_input, load_model
    from ..elastic import options as kinds_of
    from ..elastic.explain import explain
    from ..elastic.parallel import is_first_worker
    from ..elastic.supernet import check_path

    dry_run = dry_run or explained
    if out is None and not dry_run:
        raise click.UsageError("Missing option '--out': the folder to write the supernet to.")

    if options["held_out"] and options["hold_out"]:
        raise click.UsageError("--validate and --hold-out both say what to validate on: give one of them")
    console = Console() if is_first_worker() else None
    say = console.say if console else lambda text: None
    training = _training(options)
    if out is not None:
        check_path(Path(out))  # not only after an hour of training
    sys.path.insert(0, os.getcwd())  # package.module:function is looked for here too, as `python -m` does
    say(f"loading {model}")
    module = load_model(model, weights)
    prepared = _preprocessing(preprocessing, module, size)
    kinds = [*map(kinds_of.merge, merge), *map(kinds_of.prune, prune), *([kinds_of.skip()] if skip else [])]
    supernet = elastify(module, example_input(size, size), kinds=kinds, output=output, preprocessing=prepared)
    supernet.source = model
    trained: Trained | None = None
    validation: Validation | None = None
    if not dry_run:
        if options["data"]:
            trained, validation = _train(supernet, training, options, console)
        else:
            say("no --data: the alternatives are as they were made, not trained")
        if console and out is not None:
            supernet.save(out)
            say(f"supernet written to {out}")
    if not console:
        return
    if explained:
        click.echo(explain(supernet.graph, model))
    elif as_json:
        print_json({**({"dry_run": True} if dry_run else {}), **_document(supernet, trained, validation)})
    else:
        click.echo(table(_rows(supernet), right=(3, 4, 5)))
        click.echo(f"\n{len(supernet.graph.blocks)} blocks, {supernet.graph.count()} subnets")
        if validation:
            click.echo("\n" + table(_quality_rows(validation), right=(1, 2, 3, 4)))
            click.echo(
                f"\n{validation.metric} on {validation.images} pictures; a budget is a share of the oracle's MACs"
            )


def _training(options: Mapping[str, Any]) -> Training:
    from ..elastic.phases import RECIPES

    names = ("batch_size", "seed", "flip", "shift", "precision", "max_minutes")
    return replace(RECIPES[options["recipe"]](), **{name: options[name] for name in names})


def _train(
    supernet: Supernet, training: Training, options: Mapping[str, Any], console: Console | None
) -> tuple[Trained, Validation | None]:
    """Trains, on the pictures that are not held out, and, on the first worker, validates on those that are."""
    from ..data import open_data
    from ..elastic.train import train
    from ..elastic.validate import validate

    names = None if options["classes"] is None else _class_names(options["classes"])
    first = supernet.graph.cuts[0]
    pictures = open_data(options["data"], supernet.preprocessing, names, first)
    held_out = open_data(options["held_out"], supernet.preprocessing, names, first) if options["held_out"] else None
    if share := options["hold_out"]:
        pictures, held_out = pictures.split((1 - share, share), training.seed)
    if options["epochs"] is not None:
        training = training.lasting(round(options["epochs"] * len(pictures) / training.batch_size))
    trained = train(
        supernet,
        pictures,
        training,
        checkpoint=options["checkpoint"],
        logs=options["tensorboard"],
        progress=lambda kind, done, total, loss: _show(console, kind, done, total, loss),
        device=options["device"],
    )
    if not (held_out and console):
        return trained, None
    console.say(f"validating on {len(held_out)} pictures")
    return trained, validate(supernet, held_out, batch_size=training.batch_size, device=options["device"])


def _show(console: Console | None, kind: str, done: int, total: int, loss: float) -> None:
    if console:
        console.progress("train", done, total, f"{kind} {loss:.3f}")


def _class_names(path: str) -> list[str]:
    """One name a line. Raises DataError for a file that cannot be read."""
    from ..errors import DataError

    try:
        return [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--classes {path} cannot be read: {error}") from error


def _document(supernet: Supernet, trained: Trained | None, validation: Validation | None) -> dict[str, Any]:
    graph = supernet.graph
    return {
        "source": supernet.source,
        "cuts": [{"index": cut.index, "shape": list(cut.shape), "dtype": cut.dtype} for cut in graph.cuts],
        "blocks": [dict(vars(block)) for block in graph.blocks],
        "subnets": graph.count(),
        "training": None if trained is None else asdict(trained),
        "validation": None if validation is None else asdict(validation),
    }


def _quality_rows(validation: Validation) -> list[list[str]]:
    oracle = validation.oracle
    rows = [["budget", "subnets", "mean", "lowest", "highest"]]
    rows.append(["oracle", "1", f"{oracle.value:.1%}", f"{oracle.value:.1%}", f"{oracle.value:.1%}"])
    for at in validation.budgets:
        values = [f"{value:.1%}" if value is not None else "" for value in (at.mean, at.lowest, at.highest)]
        rows.append([f"{at.budget:.0%}", str(at.subnets), *values])
    return rows


def _rows(supernet: Supernet) -> list[list[str]]:
    rows = [["block", "made from", "cuts", "MMACs", "k params", "local loss"]]
    for block in supernet.graph.blocks:
        loss = "" if block.loss is None else f"{block.loss:.3f}"
        cuts = f"{block.start} → {block.end}"
        rows.append([block.name, block.source, cuts, f"{block.macs / 1e6:.1f}", f"{block.params / 1e3:.1f}", loss])
    return rows


def _preprocessing(choice: str, model: Any, size: int) -> Preprocessing:
    """How pictures become the model's inputs. Raises ModelError for a file that is not such a recipe."""
    from ..data import Preprocessing
    from ..errors import ModelError

    config = getattr(model, "pretrained_cfg", None)
    if choice == "auto" and isinstance(config, dict) and "mean" in config:
        interpolation = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
        short = int(size / config.get("crop_pct", 0.875))
        return Preprocessing(size, size, short, "center", interpolation, tuple(config["mean"]), tuple(config["std"]))
    if choice in ("auto", "imagenet"):
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        return Preprocessing(size, size, round(size / 0.875), "center", "bilinear", mean, std)
    try:
        return Preprocessing.from_json(json.loads(Path(choice).read_text()))
    except OSError as error:
        raise ModelError(f"--preprocessing {choice}: neither auto, imagenet nor a file ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"--preprocessing {choice} is not JSON: {error}") from error


if __name__ == "__main__":
    main()
