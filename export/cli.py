"""`adaptivenet-export`: supernet → block pack; block pack → what an app ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from adaptivenet.toolkit.cli.console import Console, print_json, reports_errors, table
from adaptivenet.toolkit.errors import ExportError
from adaptivenet.toolkit.pack import MANIFEST, SUFFIXES, BlockPack
from adaptivenet.toolkit.pack_writer import PackWriter


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
    help="top1, agreement or fidelity; may be repeated (default: the first two for class scores, else fidelity).",
)
@click.option("--classes", type=click.Path(), help="A text file with the name of one class a line.")
@click.option("--jobs", type=int, help="Worker processes (default: one a core).")
@click.option("--reuse", type=click.Path(), help="A pack whose unchanged programs are taken over.")
@click.option("--overwrite", is_flag=True, help="Replace a pack that is there, taking over what has not changed.")
@click.option(
    "--profile", "profiles", type=click.Path(), multiple=True, help="With a pack: bundle only its front's blocks."
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
    as_json: bool,
    dry_run: bool,
) -> None:
    """Export the supernet SOURCE to the block pack OUT; or bundle the pack SOURCE, smaller, to OUT.

    Every program is verified against torch through the engine that will run it. A bundle holds one backend, and with
    --profile only the blocks that the profiles' fronts use.
    """
    PackWriter(out, "", overwrite).check_path()  # before the long part, and in a dry run too
    if (Path(source) / MANIFEST).exists():
        idle = {
            "--name": name,
            "--sample": sample,
            "--metric": metrics or None,
            "--classes": classes,
            "--jobs": jobs,
            "--reuse": reuse,
        }
        given = [option for option, value in idle.items() if value is not None]
        if given:
            raise ExportError(f"{source} is a pack, to be bundled: {', '.join(given)} is for exporting a supernet")
        document = _bundle(source, out, backends, profiles, overwrite, dry_run)
    else:
        if profiles:
            raise ExportError(f"{source} is no pack: --profile is for bundling one; export the supernet first")
        document = _export(source, out, backends, name, sample, metrics, classes, jobs, reuse, overwrite, dry_run)
    if as_json:
        print_json(document)
    elif dry_run:
        click.echo(f"would write {document['programs']} programs of {document['blocks']} blocks to {out}")
    else:
        rows = [["backend", "blocks", "MB", "worst error / tolerance"]]
        for backend, facts in document["backends"].items():
            worst = "not measured" if facts["worst"] is None else f"{facts['worst']:.2g}"
            rows.append([backend, str(facts["blocks"]), f"{facts['bytes'] / 1e6:.1f}", worst])
        click.echo(table(rows, right=(1, 2, 3)))
        click.echo(f"\n{out}: {document['name']}, {document['subnets']} subnets")


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
    dry_run: bool,
) -> dict[str, Any]:
    import torch
    from adaptivenet.toolkit.data import open_data
    from adaptivenet.toolkit.elastic import Supernet

    from .export_pack import export_pack
    from .metrics import choose_metrics

    supernet = Supernet.load(source)
    chosen = backends or tuple(SUFFIXES)
    choose_metrics(metrics or None, supernet.graph.cuts[-1].shape)
    if dry_run:
        blocks = len(supernet.graph.blocks)
        return {"dry_run": True, "blocks": blocks, "programs": blocks * len(chosen), "backends": list(chosen)}
    image = None
    if sample:
        image = torch.from_numpy(open_data(sample, supernet.preprocessing, None, supernet.graph.cuts[0]).image(0))
    console = Console()
    console.say(f"exporting {len(supernet.graph.blocks)} blocks for {', '.join(chosen)}; the first takes some seconds")
    pack = export_pack(
        supernet,
        out,
        chosen,
        name=name,
        sample=image,
        metrics=metrics or None,
        classes=_lines(classes) if classes else None,
        jobs=jobs,
        reuse=reuse,
        overwrite=overwrite,
        progress=lambda done, total, what: console.progress("export", done, total, what),
    )
    return _facts(pack)


def _bundle(
    source: str, out: str, backends: tuple[str, ...], profiles: tuple[str, ...], overwrite: bool, dry_run: bool
) -> dict[str, Any]:
    from adaptivenet.toolkit.profile import Profile

    from .bundle import bundle_pack

    if len(backends) > 1:
        raise ExportError(f"a bundle holds one backend, not {', '.join(backends)}: say --backend once")
    pack = BlockPack.open(source)
    subnets = [point.subnet for path in profiles for point in Profile.load(path, pack).front.points]
    if dry_run:
        used = set(pack.graph.oracle).union(*subnets) if profiles else {block.name for block in pack.graph.blocks}
        return {"dry_run": True, "blocks": len(used), "programs": len(used)}
    backend = backends[0] if backends else pack.backends[0]
    return _facts(bundle_pack(pack, out, backend=backend, subnets=subnets if profiles else None, overwrite=overwrite))


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


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"the class names in {path} cannot be read: {error}") from error


if __name__ == "__main__":
    main()
