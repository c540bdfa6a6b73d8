"""`adaptivenet-elastify`: model → supernet, trained."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .console import Console, print_json, reports_errors, table

if TYPE_CHECKING:
    from ..data import Preprocessing
    from ..elastic import Supernet


def _numbers(kind: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str], tuple[Any, ...]]:
    def parse(context: click.Context, parameter: click.Parameter, value: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in value.split(",") if part.strip())
        except ValueError:
            raise click.BadParameter(f"{value!r} is no list of numbers such as {parameter.default}") from None

    return parse


@click.command()
@click.argument("model")
@click.option("--out", type=click.Path(), required=True, help="The folder to write the supernet to.")
@click.option("--weights", help="A state dict (.safetensors or .pth), or 'pretrained'.")
@click.option("--data", type=click.Path(), help="Pictures to distil on; without them nothing is trained.")
@click.option(
    "--size", type=click.IntRange(min=1), default=224, show_default=True, help="Height and width of the model's input."
)
@click.option(
    "--preprocessing",
    default="auto",
    show_default=True,
    help="auto (timm's own, else imagenet), imagenet, or a json file as in docs/pack.md.",
)
@click.option("--merge", default="2,3", show_default=True, callback=_numbers(int), help="How many blocks to merge.")
@click.option(
    "--prune", default="0.25,0.5", show_default=True, callback=_numbers(float), help="Shares of channels to take out."
)
@click.option("--local-steps", default=200, show_default=True, help="Batches of local distillation.")
@click.option("--subnet-steps", default=100, show_default=True, help="Batches of end-to-end distillation.")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--checkpoint", type=click.Path(), help="Write the state of training here, and resume from it.")
@click.option("--json", "as_json", is_flag=True, help="Print one json document instead of a table.")
@click.option("--dry-run", is_flag=True, help="Show the blocks and their alternatives, and stop.")
@reports_errors
def main(
    model: str,
    out: str,
    weights: str | None,
    data: str | None,
    size: int,
    preprocessing: str,
    merge: tuple[int, ...],
    prune: tuple[float, ...],
    local_steps: int,
    subnet_steps: int,
    batch_size: int,
    seed: int,
    checkpoint: str | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Make MODEL elastic and train its alternatives.

    MODEL is timm:NAME, torchvision:NAME or package.module:function, which may lie in the current folder.
    """
    from ..data import open_data
    from ..elastic import elastify, example_input, load_model, options
    from ..elastic.distil import Distillation, Distilled, distil
    from ..elastic.supernet import check_path

    console = Console()
    settings = Distillation(local_steps, subnet_steps, batch_size, seed=seed)
    check_path(Path(out))  # not only after an hour of training
    sys.path.insert(0, os.getcwd())  # an installed command does not look there, and a user's own module does lie there
    sys.path.insert(0, os.getcwd())  # package.module:function is looked for here too, as `python -m` does
    console.say(f"loading {model}")
    module = load_model(model, weights)
    recipe = _preprocessing(preprocessing, module, size)
    kinds = [*map(options.merge, merge), *map(options.prune, prune), options.skip()]
    supernet = elastify(module, example_input(size, size), kinds=kinds, preprocessing=recipe)
    supernet.source = model
    trained: Distilled | None = None
    if not dry_run:
        if data:
            pictures = open_data(data, recipe, None, supernet.graph.cuts[0])
            trained = distil(
                supernet,
                pictures,
                settings,
                checkpoint=checkpoint,
                progress=lambda phase, done, total, loss: console.progress(
                    "distil", done, total, f"{phase} {loss:.3f}"
                ),
            )
        else:
            console.say("no --data: the alternatives are as they were made, not trained")
        supernet.save(out)
        console.say(f"supernet written to {out}")
    if as_json:
        print_json({**({"dry_run": True} if dry_run else {}), **_document(supernet, trained)})
    else:
        click.echo(table(_rows(supernet), right=(3, 4, 5)))
        click.echo(f"\n{len(supernet.graph.blocks)} blocks, {supernet.graph.count()} subnets")


def _document(supernet: Supernet, trained: Any) -> dict[str, Any]:
    graph = supernet.graph
    return {
        "source": supernet.source,
        "cuts": [{"index": cut.index, "shape": list(cut.shape), "dtype": cut.dtype} for cut in graph.cuts],
        "blocks": [dict(vars(block)) for block in graph.blocks],
        "subnets": graph.count(),
        "training": None if trained is None else dict(vars(trained)),
    }


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
