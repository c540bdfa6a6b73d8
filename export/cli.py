"""`adaptivenet-export`: supernet → block pack; block pack → what an app ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from adaptivenet.toolkit.cli.console import Console, print_json, reports_errors, table
from adaptivenet.toolkit.cli.numbers import numbers
from adaptivenet.toolkit.errors import ExportError
from adaptivenet.toolkit.pack.manifest import MANIFEST
from adaptivenet.toolkit.pack.pack import SUFFIXES, BlockPack
from adaptivenet.toolkit.pack.writer import PackWriter
from adaptivenet.toolkit.plurals import number_of

from .metric_names import METRICS, is_own

_METRICS = (
    "; ".join(f"{name}: {what}" for name, what in METRICS.items())
    + "; l1=PEAK, psnr=PEAK: of values that reach to another peak than 1; package.module:function: your own, see "
    "docs/metrics.md. (default: top1 and agreement for class scores, else see there)"
)
_CALIBRATED_ON = 64  # pictures


def _checked_metrics(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """The names of metrics. Raises BadParameter for one that is neither known nor a function's."""
    for value in values:
        if not is_own(value) and value.partition("=")[0] not in METRICS:
            raise click.BadParameter(f"{value!r} is none of {', '.join(METRICS)} and no package.module:function.")
    return values


@click.command()
@click.argument("source", type=click.Path())
@click.argument("out", type=click.Path())
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(list(SUFFIXES)),
    help="What to export for; may be repeated (default: all; of a pack: its first).",
)
@click.option("--name", help="What the pack calls itself (default: the model's name).")
@click.option("--sample", type=click.Path(), help="Pictures; the programs are verified on the features of the first.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    callback=_checked_metrics,
    help=f"What subnets can be scored by, with or without labels; may be repeated. {_METRICS}",
)
@click.option(
    "--classes", type=click.Path(), help="A text file with one class name a line (default: those of the supernet)."
)
@click.option("--jobs", type=int, help="Worker processes (default: one a core).")
@click.option("--reuse", type=click.Path(), help="A pack whose unchanged programs are taken over.")
@click.option("--overwrite", is_flag=True, help="Replace a pack that is there, taking over what has not changed.")
@click.option(
    "--profile",
    "profiles",
    type=click.Path(),
    multiple=True,
    help="Export only what its front needs: of a supernet one block of each stretch that the front's subnets only take "
    "together, of a pack the front's blocks as they are. May be repeated.",
)
@click.option("--int8", is_flag=True, help="Add int8 variants of the whole network and of its blocks (--calibrate).")
@click.option("--calibrate", type=click.Path(), help="Pictures to set the ranges of int8 by; 64 of them are used.")
@click.option(
    "--also",
    multiple=True,
    metavar="NAME=MODEL[:WEIGHTS]",
    help="Another network with the same input and output, such as a smaller sibling: profiled beside the subnets, and "
    "chosen where it is better. MODEL as in adaptivenet-elastify; WEIGHTS: a file, or pretrained.",
)
@click.option(
    "--resolution",
    "resolutions",
    metavar="SHARES",
    callback=numbers(float),
    help="Add the whole network at these shares of a picture's sides, in int8 alone with --int8; '' for none. What it "
    "costs in accuracy is measured. (default: 0.86,0.71,0.57 where the network runs on smaller pictures)",
)
@click.option(
    "--bundle",
    "target",
    type=click.Choice(["android"]),
    help="Make OUT what an app ships: assets with the pack, cut to the fronts of --profile, and the profiles by the "
    "phone's SoC, and a README with the lines of Gradle and Kotlin that use them. --name is that of the assets.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one json document instead of a table.")
@click.option("--dry-run", is_flag=True, help="Say what would be exported, and stop.")
@reports_errors
def main(
    source: str,
    out: str,
    backends: tuple[str, ...],
    name: str | None,
    sample: str | None,
    metrics: tuple[str, ...],
    classes: str | None,
    jobs: int | None,
    reuse: str | None,
    overwrite: bool,
    profiles: tuple[str, ...],
    int8: bool,
    calibrate: str | None,
    also: tuple[str, ...],
    resolutions: tuple[float, ...] | None,
    target: str | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Export the supernet SOURCE to the block pack OUT; or bundle the pack SOURCE, smaller, to OUT.

    Every program is verified against torch through the engine that will run it. Beside the blocks, the pack has the
    whole network as one program. A bundle holds one backend, and with --profile only the blocks that the profiles'
    fronts use. A supernet with --profile becomes a pack for these fronts alone, in which what its subnets only take
    together is one block. With --bundle android a supernet is exported whole and then bundled: with the options, and
    so to the pack, that the profiles are of; --reuse PACK takes over its programs.
    """
    if target is None:
        PackWriter(out, "", overwrite).check_path()  # before the long part, and in a dry run too
    is_pack = (Path(source) / MANIFEST).exists()
    if is_pack:
        idle = {
            "--name": None if target else name,
            "--sample": sample,
            "--metric": metrics or None,
            "--classes": classes,
            "--jobs": jobs,
            "--reuse": reuse,
            "--int8": int8 or None,
            "--calibrate": calibrate,
            "--also": also or None,
            "--resolution": resolutions,
        }
        given = [option for option, value in idle.items() if value is not None]
        if given:
            raise ExportError(f"{source} is a pack, to be bundled: {', '.join(given)} is for exporting a supernet")
    elif int8 != (calibrate is not None):
        raise click.UsageError("--int8 and --calibrate go together: pictures set the ranges of int8.")
    others = dict(_network(each) for each in also)

    def export(path: str, name: str | None, overwrite: bool, profiles: tuple[str, ...]) -> dict[str, Any]:
        return _export(
            source,
            path,
            backends,
            name,
            sample,
            metrics,
            classes,
            jobs,
            reuse,
            overwrite,
            calibrate,
            others,
            resolutions,
            profiles,
            dry_run,
        )

    if target:
        from .android_command import make_bundle, show

        document = make_bundle(
            source, out, backends, profiles, name, overwrite, dry_run, lambda path, pack: export(path, pack, False, ())
        )
        if as_json:
            print_json(document)
        else:
            show(document)
        return
    document = (
        _bundle(source, out, backends, profiles, overwrite, dry_run)
        if is_pack
        else export(out, name, overwrite, profiles)
    )
    if as_json:
        print_json(document)
    elif dry_run:
        click.echo(
            f"would write {number_of(document['programs'], 'program')} of {number_of(document['blocks'], 'block')} "
            f"to {out}"
        )
    else:
        rows = [["backend", "blocks", "MB", "worst error / tolerance"]]
        for backend, facts in document["backends"].items():
            worst = "not measured" if facts["worst"] is None else f"{facts['worst']:.2g}"
            rows.append([backend, str(facts["blocks"]), f"{facts['bytes'] / 1e6:.1f}", worst])
        click.echo(table(rows, right=(1, 2, 3)))
        click.echo(f"\n{out}: {document['name']}, {number_of(document['subnets'], 'subnet')}")
        if original := document.get("bundled_from"):
            share = document["bytes"] / original["bytes"]
            click.echo(
                f"{document['bytes'] / 1e6:.2f} MB, {share:.0%} of the {original['bytes'] / 1e6:.2f} MB of "
                f"{original['path']}; " + _for(document["fronts"])
            )


def _for(fronts: Sequence[str]) -> str:
    if not fronts:
        return "with all blocks: no --profile was given"
    return f"with the blocks of the front{'s' if len(fronts) > 1 else ''} of {'; '.join(fronts)}"


def _network(text: str) -> tuple[str, tuple[str, str | None]]:
    """The name, the model and its weights that `NAME=MODEL[:WEIGHTS]` says; a model has a colon of its own."""
    name, equals, rest = text.partition("=")
    family, colon, model = rest.partition(":")
    if not (name and equals and family and colon and model):
        raise click.UsageError(f"--also {text}: write NAME=MODEL[:WEIGHTS], such as small=timm:mobilenetv3_small_100")
    model, _, weights = model.partition(":")
    return name, (f"{family}:{model}", weights or None)


def _export(
    source: str,
    out: str,
    backends: tuple[str, ...],
    name: str | None,
    sample: str | None,
    metrics: tuple[str, ...],
    classes: str | None,
    jobs: int | None,
    reuse: str | None,
    overwrite: bool,
    calibrate: str | None,
    others: Mapping[str, tuple[str, str | None]],
    resolutions: tuple[float, ...] | None,
    profiles: tuple[str, ...],
    dry_run: bool,
) -> dict[str, Any]:
    import torch
    from adaptivenet.toolkit.data import Dataset, open_data
    from adaptivenet.toolkit.data.classes import read_classes
    from adaptivenet.toolkit.elastic import Supernet, load_model
    from adaptivenet.toolkit.elastic.models import current_folder_last

    from .exporting import check_export, export_pack, planned

    current_folder_last()
    supernet = Supernet.load(source)
    chosen = backends or tuple(SUFFIXES)
    asked: dict[str, Any] = {
        "name": name,
        "metrics": metrics or None,
        "classes": read_classes(classes, supernet.scores) if classes else None,
        "jobs": jobs,
        "reuse": reuse,
        "overwrite": overwrite,
    }
    check_export(supernet, out, chosen, **asked)
    networks = {other: load_model(model, weights) for other, (model, weights) in others.items()}
    if dry_run:
        blocks = len(planned(supernet, networks, calibrate is not None, profiles, resolutions)[1].blocks)
        return {"dry_run": True, "blocks": blocks, "programs": blocks * len(chosen), "backends": list(chosen)}

    def opened(path: str) -> Dataset:
        return open_data(path, supernet.preprocessing, None, supernet.graph.cuts[0], inputs=supernet.inputs)

    image = torch.from_numpy(opened(sample).image(0)) if sample else None
    pictures = None
    if calibrate:
        found = opened(calibrate)
        some = found.take(min(_CALIBRATED_ON, len(found)), seed=0)
        pictures = torch.cat([torch.from_numpy(some.image(index)) for index in range(len(some))])
        image = pictures[:1] if image is None else image
    console = Console()
    console.say(
        f"exporting {number_of(len(supernet.graph.blocks), 'block')} for {', '.join(chosen)}; the first takes some "
        f"seconds"
    )
    console.progress("export", 0, 0)
    pack = export_pack(
        supernet,
        out,
        chosen,
        sample=image,
        calibrate=pictures,
        also=networks,
        resolutions=resolutions,
        profiles=profiles,
        say=console.say,
        **asked,
        progress=lambda done, total, what: console.progress("export", done, total, what),
    )
    return _facts(pack)


def _bundle(
    source: str, out: str, backends: tuple[str, ...], profiles: tuple[str, ...], overwrite: bool, dry_run: bool
) -> dict[str, Any]:
    from adaptivenet.toolkit.profiling.profile import Profile

    from .bundle import bundle_pack, in_words

    if len(backends) > 1:
        raise ExportError(f"a bundle holds one backend, not {', '.join(backends)}: say --backend once")
    pack = BlockPack.open(source)
    known = [Profile.load(path, pack) for path in profiles]
    subnets = [point.subnet for profile in known for point in profile.front.points]
    fronts = list(dict.fromkeys(in_words(profile.device) for profile in known))
    original = {"path": str(pack.path), "digest": pack.digest, "bytes": _bytes(pack)}
    if dry_run:
        used = set(pack.graph.oracle).union(*subnets) if profiles else {block.name for block in pack.graph.blocks}
        return {"dry_run": True, "blocks": len(used), "programs": len(used), "bundled_from": original, "fronts": fronts}
    backend = backends[0] if backends else pack.backends[0]
    bundle = bundle_pack(
        pack,
        out,
        backend=backend,
        subnets=subnets if profiles else None,
        fronts_of=fronts,
        overwrite=overwrite,
    )
    return {**_facts(bundle), "bytes": _bytes(bundle), "bundled_from": original, "fronts": fronts}


def _bytes(pack: BlockPack) -> int:
    """Of all the programs of a pack, each file once."""
    return sum({artifact.file: artifact.bytes for artifact in pack.artifacts()}.values())


def _facts(pack: BlockPack) -> dict[str, Any]:
    backends = {}
    for backend in pack.backends:
        artifacts = [pack.artifact(block.name, backend) for block in pack.graph.blocks]
        worst = [a.max_abs_error / a.tolerance for a in artifacts if a.max_abs_error is not None and a.tolerance]
        size = sum({artifact.file: artifact.bytes for artifact in artifacts}.values())
        backends[backend] = {"blocks": len(artifacts), "bytes": size, "worst": max(worst, default=None)}
    return {
        "path": str(pack.path),
        "name": pack.name,
        "digest": pack.digest,
        "blocks": len(pack.graph.blocks),
        "subnets": pack.graph.count(),
        "backends": backends,
    }


if __name__ == "__main__":
    main()
