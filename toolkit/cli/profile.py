"""`adaptivenet-profile`: pack + device + pictures → profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import ProfileError
from .console import Console, print_json, reports_errors, table

_DEVICE_HELP = (
    "local (ExecuTorch on this machine), local:onnxruntime, or a phone: its serial, usb, tcp:HOST:PORT. runner is this "
    "machine by way of the program that phones run."
)
_EVALUATIONS_HELP = (
    "What the search may cost: so many subnets on all pictures (default: 20, more for packs of very many blocks)."
)
_SEARCH_THREADS_HELP = (
    "Threads that a block may use while subnets are only scored (default: for local the cores there are, 4 at "
    "most; else as --threads)."
)
_CORES_HELP = "Cores of a phone to run on, as 4-7 or any (default: the fastest)."


@click.command()
@click.argument("pack", type=click.Path(), required=False)
@click.option("--device", "address", default="local", show_default=True, help=_DEVICE_HELP)
@click.option("--data", type=click.Path(), help="An ImageFolder, a folder of pictures, .npz or .npy.")
@click.option("--verify-data", type=click.Path(), help="Pictures to verify on (default: a part of --data is held out).")
@click.option("--budget", "budgets", multiple=True, help="75% (of the oracle's latency) or 12.5ms; may be repeated.")
@click.option("--metric", help="What to search by (default: top1 with labels, else the first that needs none).")
@click.option(
    "--strategy", default="surrogate", show_default=True, help="surrogate, evolutionary, annealing or random."
)
@click.option("--evaluations", type=int, help=_EVALUATIONS_HELP)
@click.option("--search-images", default=200, show_default=True, help="Pictures that the search evaluates on.")
@click.option("--verify-images", default=200, show_default=True, help="Pictures that the quality is reported from.")
@click.option(
    "--rounds", default=40, show_default=True, help="How often each block is timed at most; less when it is precise."
)
@click.option("--memory", "memory_mb", default=256, show_default=True, help="Limit for features while evaluating, MB.")
@click.option("--threads", default=1, show_default=True, help="Threads that a block may use.")
@click.option("--search-threads", type=click.IntRange(min=1), help=_SEARCH_THREADS_HELP)
@click.option("--cores", help=_CORES_HELP)
@click.option(
    "--cool", "cool_c", type=float, metavar="CELSIUS", help="Wait until a phone is not hotter, before it is measured."
)
@click.option("--fixed-performance", is_flag=True, help="Have Android keep a phone's clocks within sustainable bounds.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(), metavar="FILE", help="Write the profile to this file.")
@click.option("--report", type=click.Path(), metavar="FILE.html", help="Write the profile as a page with figures.")
@click.option(
    "--resume", is_flag=True, help="Go on with a profile that was interrupted: what is in FILE.journal is not repeated."
)
@click.option("--json", "as_json", is_flag=True, help="Print the profile as one json document instead of a table.")
@click.option(
    "--dry-run", is_flag=True, help="Check the pack, the device and the pictures, and say what would be done."
)
@click.option("--clean", is_flag=True, help="Remove everything from the phone: afterwards, or without PACK at once.")
@reports_errors
def main(
    pack: str | None,
    address: str,
    data: str | None,
    verify_data: str | None,
    budgets: tuple[str, ...],
    metric: str | None,
    strategy: str,
    evaluations: int | None,
    search_images: int,
    verify_images: int,
    rounds: int,
    memory_mb: int,
    threads: int,
    search_threads: int | None,
    cores: str | None,
    cool_c: float | None,
    fixed_performance: bool,
    seed: int,
    out: str | None,
    report: str | None,
    resume: bool,
    as_json: bool,
    dry_run: bool,
    clean: bool,
) -> None:
    """Measure the blocks of PACK on a device, search its best subnets on your pictures, and verify them.

    The result is a profile: the latency table, the front of the best subnets, and the subnet chosen for each budget.
    Latencies are medians; quality comes from pictures that the search never saw, with its 95% interval.
    With --report, PACK may be a profile that was made before: nothing is measured then.
    """
    from ..data import open_data
    from ..devices import connect
    from ..pack import BlockPack
    from ..profile import Settings, choose_metric, divide, image_evaluations, profile, read_document

    console = Console()
    if clean and pack is None:
        _clean(address, console)
        return
    _check_writable("report", report)
    if report and Path(report).resolve() in [Path(path).resolve() for path in (pack, out) if path]:
        raise click.UsageError(f"--report would overwrite {report}, where the profile is: name another file.")
    if report and pack and Path(pack).is_file():
        _report(read_document(pack), report, console)
        return
    if pack is None or data is None:
        raise click.UsageError("Missing argument 'PACK'." if pack is None else "Missing option '--data'.")
    if resume and not out:
        raise click.UsageError("--resume needs --out: the journal of an interrupted profile lies beside it.")
    settings = Settings(
        budgets or ("75%",),
        metric,
        strategy,
        evaluations,
        search_images,
        verify_images,
        rounds,
        memory_mb << 20,
        seed,
    )
    _check_writable("profile", out)
    opened = BlockPack.open(pack)
    pictures = open_data(data, opened.preprocessing, opened.classes, opened.graph.cuts[0])
    held_out = (
        open_data(verify_data, opened.preprocessing, opened.classes, opened.graph.cuts[0]) if verify_data else None
    )
    device = connect(
        address,
        threads=threads,
        evaluation_threads=search_threads or _search_threads(address, threads),
        cores=cores,
        cool_c=cool_c,
        fixed_performance=fixed_performance,
        observer=console,
    )
    with device.open(opened) as session:
        if dry_run:
            searched, verified = divide(pictures, held_out, settings)
            plan = {
                "device": device.info.to_json(),
                "blocks": len(opened.graph.blocks),
                "subnets": opened.graph.count(),
                "metric": choose_metric(opened, searched, metric),
                "search_images": len(searched),
                "verify_images": len(verified),
                "image_evaluations": image_evaluations(opened.graph, settings, len(searched)),
            }
            if as_json:
                print_json({"dry_run": True, **plan})
            else:
                click.echo(
                    f"would time {plan['blocks']} blocks {rounds} times on {device.info.name} ({device.info.engine}), "
                    f"search {plan['subnets']} subnets by {plan['metric']} with at most {plan['image_evaluations']} "
                    f"image evaluations on {len(searched)} pictures, and verify on {len(verified)} others"
                )
            return
        journal = f"{out}.journal" if out else None
        if journal and Path(journal).exists():
            console.say(
                f"going on with {journal}" if resume else f"note: {journal} is begun anew; --resume goes on with it"
            )
        result = profile(
            session, pictures, settings, verify=held_out, journal=journal, resume=resume, progress=console.progress
        )
    device.close()
    if clean:
        _clean(address, console)
    if out:
        result.save(out)
        Path(f"{out}.journal").unlink(missing_ok=True)
        console.say(f"profile written to {out}")
    if as_json:
        print_json(result.to_json())
    else:
        from ..report import budget_rows, front_rows, headline

        click.echo(headline(result))
        click.echo("\n" + table(front_rows(result), right=(0, 1, 2, 3)))
        click.echo("\n" + table(budget_rows(result), right=(1, 2, 3, 5, 6)))
    if report:
        # Last: should it fail, everything else has been written.
        _report(result.to_json(), report, console)


def _search_threads(address: str, threads: int) -> int:
    """Scoring heats a phone and measures nothing: there, no more than asked for. Small blocks gain little beyond 4."""
    from ..devices import is_local, usable_cores

    return max(threads, min(usable_cores(), 4)) if is_local(address) else threads


def _check_writable(what: str, path: str | None) -> None:
    """Now, not after minutes of measuring."""
    if path and not (Path(path).absolute().parent.is_dir() and not Path(path).is_dir()):
        raise ProfileError(f"the {what} cannot be written to {path}: give a file in a folder that exists")


def _report(document: Mapping[str, Any], path: str, console: Console) -> None:
    from ..report_page import write_report

    write_report(document, path)
    console.say(f"report written to {path}")


def _clean(address: str, console: Console) -> None:
    from ..devices import clean

    removed = clean(address, console)
    console.say(f"everything was removed from {address}" if removed else f"there was nothing to remove from {address}")


if __name__ == "__main__":
    main()
