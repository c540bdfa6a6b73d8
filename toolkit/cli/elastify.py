"""`adaptivenet-elastify`: model → supernet, trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..plurals import number_of
from .console import Console, is_verbose, print_json, reports_errors, table
from .elastified import block_rows, document, left_out, out_of_patience, outcome, quality_rows, summary
from .inputs import example_of, parse_inputs, shape_of
from .numbers import numbers
from .training import Clock, check_places, lasting, open_pictures, shown, with_options

_OF_MAKING = {
    "weights", "classes", "labels", "size", "given", "preprocessing", "output", "merge", "prune", "lowrank", "skip",
    "recipe", "storage", "explained", "patience", "granularity",
}  # fmt: skip
_LABELS_HELP = "The folder in --data with label maps (default: labels, masks and other usual names)."

if TYPE_CHECKING:
    from ..data import Dataset
    from ..data.inputs import Input
    from ..elastic import Supernet
    from ..elastic.tracing.granularity import Granularity
    from ..training.phases import Training
    from ..training.train import Trained
    from ..training.validate import Validation


def _storage(context: click.Context, parameter: click.Parameter, value: str | None) -> float | str | None:
    if value is None or value == "all":
        return value
    try:
        times = float(value)
    except ValueError:
        times = math.nan
    if not (math.isfinite(times) and times > 1):
        raise click.BadParameter(f"{value!r} is neither a number above 1 nor 'all'")
    return times


def _patience(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, float]:
    try:
        seconds, megabytes = map(float, value.split(",")) if "," in value else (float(value), math.inf)
    except ValueError:
        seconds, megabytes = math.nan, math.nan
    if not (seconds > 0 and megabytes > 0):
        raise click.BadParameter(f"{value!r} is neither seconds nor seconds and megabytes, such as 60 or 60,500")
    return seconds, megabytes


def _granularity(context: click.Context, parameter: click.Parameter, value: str) -> str | int:
    if value in ("auto", "fine", "coarse"):
        return value
    if value.isdecimal() and int(value) > 1:
        return int(value)
    raise click.BadParameter(f"{value!r} is none of auto, fine and coarse, nor a number from 2 on")


def _finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number that something can last")
    return value


@click.command()
@click.argument("model")
@click.option("--out", type=click.Path(), help="The folder to write the supernet to.")
@click.option(
    "--weights",
    help="A file of weights (.safetensors or .pth; averaged ones in it, 'ema', are preferred), or 'pretrained'.",
)
@click.option("--data", type=click.Path(), help="Pictures to train on; without them nothing is trained.")
@click.option(
    "--classes",
    type=click.Path(),
    help="The network's classes, one name a line: what the folders of --data are, and what the packs tell.",
)
@click.option("--labels", metavar="FOLDER", help=_LABELS_HELP)
@click.option(
    "--size",
    type=click.IntRange(min=1, max=16384),
    help="Height and width of the model's input (default: as the preprocessing says, 224 where nothing says it).",
)
@click.option(
    "--input",
    "given",
    metavar="SHAPE",
    multiple=True,
    callback=parse_inputs,
    help="Of a network that does not see RGB pictures: the shape of one input without the batch, such as 1x49x10 or "
    "80x300. --data is then an .npz file whose 'images' are float32 inputs. Of a network with several inputs, or one "
    "that is not float32, each as NAME=SHAPE:TYPE, such as token_ids=128:int64, mask=128:bool or, for one number, "
    "step:int64, by the names in its forward; the one that the blocks pass on comes first. The .npz has them by name.",
)
@click.option(
    "--preprocessing",
    default="auto",
    show_default=True,
    help="auto (as timm, or torchvision's pretrained weights, state it, else imagenet), imagenet, or a json file as in "
    "docs/pack.md.",
)
@click.option("--output", help="Of a model that answers with several tensors, keep only this one, such as 'out'.")
@click.option("--merge", default="2,3", show_default=True, callback=numbers(int), help="How many blocks to merge.")
@click.option(
    "--prune", default="0.25,0.5", show_default=True, callback=numbers(float), help="Shares of channels to take out."
)
@click.option(
    "--lowrank", default="", callback=numbers(float), help="Shares of their MACs that factorised layers keep."
)
@click.option("--skip/--no-skip", default=True, show_default=True, help="Let blocks that keep the shape be left out.")
@click.option(
    "--granularity",
    metavar="auto|fine|coarse|N",
    default="auto",
    show_default=True,
    callback=_granularity,
    help="How much becomes one block. auto: what repeats. fine: the smallest that does, such as the halves of a "
    "transformer's layer. coarse: as many in a row as repeat so in four places. N: so many in a row.",
)
@click.option(
    "--patience",
    metavar="SECONDS[,MB]",
    default="300",
    show_default=True,
    callback=_patience,
    help="Leave out an alternative that takes longer to be made, or more memory as far as one can tell before.",
)
@click.option(
    "--recipe",
    type=click.Choice(["ours", "uniform", "front", "paper", "naive"]),
    default="ours",
    show_default=True,
    help="ours: every block from the original one's features, then subnets from its outputs. uniform: the same with "
    "all alternatives. front: blocks fitted to what arrives in subnets near the expected front, then such subnets. "
    "paper: AdaptiveNet's branch distillation, then tuning with labels. naive: labels from the first step.",
)
@click.option(
    "--storage",
    callback=_storage,
    metavar="TIMES",
    help="Leave out the alternatives that another one dominates, whatever the limit, then the least useful ones, until "
    "all blocks have at most so many times the original network's parameters; 'all' keeps them (default: with the "
    "recipes ours and front 2.0, or 16 MB in float32 where that is more, else all).",
)
@click.option(
    "--epochs",
    type=click.FloatRange(min=0),
    callback=_finite,
    help="Times that every picture is seen (default: the recipe's own steps).",
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    help="Finish the whole command within so many minutes, the training's resumed parts together: its schedule is "
    "shortened to fit, and the validation cut to what is left.",
)
@click.option("--batch-size", default=32, show_default=True, help="Pictures a step, on all workers together.")
@click.option("--seed", default=0, show_default=True)
@click.option("--flip", is_flag=True, help="Mirror every second picture.")
@click.option("--shift", default=0, show_default=True, help="Move every picture by up to so many pixels.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="bfloat16 helps where the hardware multiplies it: GPUs since Ampere, CPUs with AMX or AVX512-BF16. auto "
    "times a step of both. Losses and weights are float32 in either.",
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
@click.option(
    "--polish",
    metavar="PROFILE",
    type=click.Path(),
    help="MODEL is a supernet: train the blocks on this profile's front further, end to end, without labels.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one json document instead of a table.")
@click.option("--blocks", is_flag=True, help="Print the table of all blocks too.")
@click.option("--dry-run", is_flag=True, help="Show the blocks and their alternatives, and stop.")
@click.option("--explain", "explained", is_flag=True, help="Show where the model was cut, as a tree, and stop.")
@reports_errors
def main(
    model: str,
    out: str | None,
    weights: str | None,
    size: int | None,
    given: tuple[int, ...] | tuple[Input, ...] | None,
    preprocessing: str,
    output: str | None,
    merge: tuple[int, ...],
    prune: tuple[float, ...],
    lowrank: tuple[float, ...],
    skip: bool,
    patience: tuple[float, float],
    granularity: Granularity,
    as_json: bool,
    blocks: bool,
    dry_run: bool,
    explained: bool,
    polish: str | None,
    **options: Any,
) -> None:
    """Make MODEL elastic and train its alternatives.

    MODEL is timm:NAME, torchvision:NAME or package.module:function, which may lie in the current folder. On several
    GPUs or machines: torchrun --nproc-per-node N -m adaptivenet.toolkit.cli.elastify MODEL ...

    With --polish, MODEL is the folder of a supernet, which is kept, and PROFILE that of a pack that was exported from
    it. A tenth of --data decides whether a subnet is better than before, and a tenth that nothing else sees (or
    --hold-out, or --validate) is what the table is of.
    """
    clock = Clock(options["max_minutes"])  # before torch is imported, which takes a while
    if options["held_out"] and options["hold_out"]:
        raise click.UsageError("--validate and --hold-out both say what to validate on: give one of them")
    if polish is not None:
        from .polishing import polish_command

        _check_polish(out, options["data"], dry_run)
        polish_command(model, polish, out, clock, {**options, "as_json": as_json, "blocks": blocks}, dry_run)
        return
    from ..data.classes import read_classes
    from ..elastic import elastify, load_model
    from ..elastic import kinds as kinds_of
    from ..elastic.class_names import class_names
    from ..elastic.explain import explain
    from ..elastic.models import current_folder_last
    from ..elastic.own_pictures import find_preprocessing
    from ..elastic.patience import Patience
    from ..elastic.tracing.granularity import told
    from ..training.batches import check_varied
    from ..training.parallel import is_first_worker
    from ..training.validate import check

    if given and (size or preprocessing != "auto" or options["labels"]):
        raise click.UsageError(
            "--size, --preprocessing and --labels are for RGB pictures, and --input for anything else."
        )
    dry_run = dry_run or explained
    if out is None and not dry_run:
        raise click.UsageError("Missing option '--out': the folder to write the supernet to.")

    console = Console() if is_first_worker() else None
    say = console.say if console else lambda text: None
    training = _training(options)
    check_places(out, options)
    if given:
        check_varied(training, *shape_of(given))
    current_folder_last()
    say(f"loading {model}")
    module = load_model(model, weights)
    prepared = None
    if given is None:
        prepared = find_preprocessing(preprocessing, model, module, weights, size)
        given = (3, prepared.height, prepared.width)
        check_varied(training, *shape_of(given))
    kinds = [
        *map(kinds_of.merge, merge),
        *map(kinds_of.prune, prune),
        *map(kinds_of.lowrank, lowrank),
        *([kinds_of.skip()] if skip else []),
    ]
    supernet = elastify(
        module,
        example_of(given, options["data"], prepared, options["labels"]),
        kinds=kinds,
        output=output,
        preprocessing=prepared,
        patience=Patience(*patience),
        granularity=granularity,
    )
    supernet.source = model
    for line in (*(f"note: {note}" for note in supernet.notes), *out_of_patience(supernet.left_out)):
        say(line)
    if options["classes"]:
        supernet.classes = tuple(read_classes(options["classes"], supernet.scores))
    elif supernet.scores is not None:
        supernet.classes = class_names(module, model, weights, supernet.scores[1])
    if not dry_run:
        supernet.document()  # a model that cannot be saved is refused before it is trained
    trained: Trained | None = None
    validation: Validation | None = None
    if not dry_run:
        held_out = None
        if options["data"]:
            pictures, held_out = open_pictures(_opened(supernet, options["labels"]), options, console)
            if held_out:
                check(supernet, held_out)
            trained = _train(supernet, pictures, training, options, console, clock.for_training(held_out is not None))
        else:
            say("no --data: the alternatives are as they were made, not trained")
        if console and out is not None:
            supernet.save(out)
            say(f"supernet written to {out}")
        if console and held_out:
            validation = _validate(supernet, held_out, training, options, console, clock.left())
    if not console:
        return
    if as_json:
        tree = {"tree": explain(supernet.graph, model, told(granularity)).splitlines()} if explained else {}
        print_json({**({"dry_run": True} if dry_run else {}), **document(supernet, trained, validation), **tree})
    elif explained:
        click.echo(explain(supernet.graph, model, told(granularity)))
    else:
        if blocks or dry_run or is_verbose():
            click.echo(table(block_rows(supernet), right=(3, 4, 5)) + "\n")
        click.echo(summary(supernet))
        if validation:
            click.echo("\n" + table(quality_rows(validation), right=(1, 2, 3, 4)))
            click.echo(
                f"\n{validation.metric} on {number_of(validation.images, 'picture')}; a budget is a share of the "
                f"MACs of "
                "the oracle, the original network"
            )
    for warning in validation.warnings if validation else ():
        console.say(f"warning: {warning}")


def _check_polish(out: str | None, data: str | None, dry_run: bool) -> None:
    """Raises UsageError for options that --polish lacks, or has no use for."""
    context, source = click.get_current_context(), click.core.ParameterSource.COMMANDLINE
    idle = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in _OF_MAKING and context.get_parameter_source(parameter.name) is source
    ]
    if idle:
        raise click.UsageError(f"{', '.join(idle)}: not with --polish, which trains blocks of a supernet that is there")
    if not dry_run and (out is None or data is None):
        raise click.UsageError(
            "--polish needs --data, the pictures to train on, and --out, the folder to write the supernet to."
        )


def _training(options: Mapping[str, Any]) -> Training:
    from ..training.phases import RECIPES

    training = with_options(RECIPES[options["recipe"]](), options)
    match options["storage"]:
        case None:
            return training
        case "all":
            return replace(training, storage=None)
        case times:
            return replace(training, storage=times, storage_least=0)


def _opened(supernet: Supernet, labels: str | None) -> Callable[[str], Dataset]:
    """What opens pictures, with their labels, for a supernet."""
    from ..data import open_data

    recipe, names, first = supernet.preprocessing, supernet.classes, supernet.graph.cuts[0]
    scores, inputs = supernet.scores, supernet.inputs
    return lambda path: open_data(path, recipe, names, first, scores=scores, labels=labels, inputs=inputs)


def _train(
    supernet: Supernet,
    pictures: Dataset,
    training: Training,
    options: Mapping[str, Any],
    console: Console | None,
    minutes: float | None,
) -> Trained:
    from ..training.train import train

    training = lasting(training, pictures, options["epochs"])
    before = set(supernet.left_out)
    if console:
        console.progress("train", 0, 0)
    trained = train(
        supernet,
        pictures,
        replace(training, max_minutes=minutes),
        checkpoint=options["checkpoint"],
        logs=options["tensorboard"],
        progress=shown(console),
        preparing=lambda what, done, total: console.progress(what, done, total) if console else None,
        device=options["device"],
    )
    if console:
        for line in out_of_patience(supernet.left_out, before):
            console.say(line)
        if trained.thinned and trained.thinned.names:
            console.say(left_out(trained.thinned))
        console.say(outcome(trained))
    return trained


def _validate(
    supernet: Supernet,
    held_out: Dataset,
    training: Training,
    options: Mapping[str, Any],
    console: Console,
    seconds: float | None,
) -> Validation:
    from ..training.validate import validate

    console.say(f"validating on {number_of(len(held_out), 'picture')}")
    validation = validate(
        supernet,
        held_out,
        batch_size=training.batch_size,
        device=options["device"],
        seconds=seconds,
        progress=lambda done, total: console.progress("validate", done, total),
    )
    most = max((at.subnets for at in validation.budgets), default=0)
    if seconds is not None and validation.images < len(held_out):
        console.say(
            f"validated on {validation.images} of {len(held_out)} pictures, {number_of(most, 'subnet')} a budget: for "
            "more there was no time left"
        )
    return validation


if __name__ == "__main__":
    main()
