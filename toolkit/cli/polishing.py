"""`adaptivenet-elastify SUPERNET --polish PROFILE`: the blocks of a measured front trained further, without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import TrainingError
from ..plurals import number_of
from ..profiling.profile import Profile
from .console import Console, is_verbose, print_json, table
from .elastified import block_rows, document, outcome, summary
from .training import Clock, check_places, lasting, open_pictures, shown, with_options

if TYPE_CHECKING:
    from ..elastic import Supernet
    from ..graph.graph import BlockGraph, Subnet
    from ..training.polish import Polished

_HELD_OUT = 0.1  # of the pictures, where nothing says what to verify on


def polish_command(
    source: str, profile: str, out: str | None, clock: Clock, options: Mapping[str, Any], dry_run: bool
) -> None:
    """Polishes the supernet in the folder `source` for the front of a profile, writes it to `out` and prints a table.

    Raises what `polish` and `Supernet.load` raise, and TrainingError where `out` lies in `source`.
    """
    from ..data import open_data
    from ..elastic import Supernet
    from ..training.parallel import is_first_worker
    from ..training.phases import polishing
    from ..training.polish import polish, subnets_to_polish

    console = Console() if is_first_worker() else None
    training = with_options(polishing(), options)
    if out is not None and Path(out).resolve().is_relative_to(Path(source).resolve()):
        raise TrainingError(f"{out} lies in the supernet that is polished, which is kept: write to another folder")
    check_places(out, options)
    front = Profile.load(profile).front
    supernet = Supernet.load(source)
    subnets = subnets_to_polish(supernet.graph, front, profile)
    if dry_run or out is None:
        if console:
            _show_plan(supernet.graph, subnets, options["as_json"])
        return
    recipe, first, inputs = supernet.preprocessing, supernet.graph.cuts[0], supernet.inputs
    chosen = {**options, "hold_out": options["hold_out"] or (None if options["held_out"] else _HELD_OUT)}
    pictures, held_out = open_pictures(
        lambda path: open_data(path, recipe, None, first, inputs=inputs), chosen, console
    )
    assert held_out is not None
    training = lasting(training, pictures, options["epochs"])
    if console:
        console.say(f"polishing {source} for the {len(subnets)} subnets on the front of {profile} that can be trained")
        console.progress("measuring", 0, 0)
    polished = polish(
        supernet,
        front,
        pictures,
        held_out,
        replace(training, max_minutes=clock.for_training(False)),
        what=profile,
        checkpoint=options["checkpoint"],
        logs=options["tensorboard"],
        progress=shown(console),
        preparing=lambda what, done, total: console.progress(what, done, total) if console else None,
        device=options["device"],
    )
    if not console:
        return
    supernet.save(out)
    console.say(outcome(polished.trained))
    console.say(kept(polished))
    if polished.images < len(held_out):
        console.say(f"verified on {polished.images} of {len(held_out)} pictures: for more there was no time left")
    console.say(f"supernet written to {out}")
    _show(supernet, polished, options["as_json"], options["blocks"])
    for warning in polished.warnings:
        console.say(f"warning: {warning}")


def kept(polished: Polished) -> str:
    """What became of the blocks that were trained."""
    count = len(polished.changed)
    new = f"{number_of(count, 'block has', 'blocks have')} new weights"
    if not polished.put_back:
        return new
    return (
        f"{new}; back to those from before, because a subnet was further from the original with the new ones on the "
        f"{polished.deciding} pictures that decided: {' '.join(polished.put_back)}"
    )


def _show(supernet: Supernet, polished: Polished, as_json: bool, blocks: bool) -> None:
    if as_json:
        print_json({**document(supernet, polished.trained, None), "polished": _document(polished)})
        return
    if blocks or is_verbose():
        click.echo(table(block_rows(supernet), right=(3, 4, 5)) + "\n")
    click.echo(summary(supernet))
    rows = polished_rows(polished)
    click.echo("\n" + table(rows, right=range(1, len(rows[0]))))
    agreement = " and agreement with it" if len(rows[0]) > 3 else ""
    click.echo(
        f"\ndistance from the original's output{agreement}, in float32, on {number_of(polished.images, 'picture')} "
        f"that neither "
        "trained nor decided; a subnet is named by the latency of its points on the front, some of them in int8"
    )


def polished_rows(polished: Polished) -> list[list[str]]:
    """A table of the front's subnets before and after."""
    scores = all(each.before.agreement for each in polished.subnets)
    agreement = ["agreement before", "after"] if scores else []
    rows = [["on the front at", "distance before", "after", *agreement]]
    for each in polished.subnets:
        qualities = [found.agreement for found in (each.before, each.after) if found.agreement]
        distances = [f"{found.divergence:.4f}" for found in (each.before, each.after)]
        rows.append([_milliseconds(each.latencies_ms), *distances, *(f"{found.value:.1%}" for found in qualities)])
    return rows


def _document(polished: Polished) -> dict[str, Any]:
    found = asdict(replace(polished, subnets=()))
    del found["trained"]
    subnets = [
        {
            "subnet": list(each.subnet),
            "latencies_ms": list(each.latencies_ms),
            "before": asdict(each.before),
            "after": asdict(each.after),
        }
        for each in polished.subnets
    ]
    return {**found, "subnets": subnets}


def _show_plan(graph: BlockGraph, subnets: Mapping[Subnet, Sequence[float]], as_json: bool) -> None:
    """Prints which blocks of which subnets would be trained."""
    from ..training.polish import trained_blocks

    if as_json:
        found = [
            {"subnet": list(subnet), "latencies_ms": list(latencies), "trains": trained_blocks(graph, subnet)}
            for subnet, latencies in subnets.items()
        ]
        print_json({"dry_run": True, "subnets": found})
        return
    rows = [["on the front at", "would train"]]
    rows += [
        [_milliseconds(latencies), " ".join(trained_blocks(graph, subnet))] for subnet, latencies in subnets.items()
    ]
    click.echo(table(rows))


def _milliseconds(latencies: Sequence[float]) -> str:
    return ", ".join(f"{each:.3g}" for each in latencies) + " ms"
