"""`adaptivenet-profile`: pack + device + pictures → profile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..atomic import check_file, is_standard_output, is_stream
from ..errors import AdaptiveNetError, BudgetError, ConnectionLost, ProfileError
from ..plurals import number_of
from .console import RUNNER_HELP, Amount, Console, OutputFile, print_json, reports_errors, table
from .process import output_is_closed

if TYPE_CHECKING:
    from ..profiling.profile import Profile

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
_LABELS_HELP = (
    "The folder in --data (and --verify-data) with label maps (default: labels, masks and other usual names)."
)
_REPORT_HELP = (
    "Write the profile for people: as a page with figures, or as Markdown where FILE ends in .md (-: likewise)."
)
_MEMORY_LIMIT_HELP = "40MB: the most that what is chosen may keep resident, as measured; with every --budget."
_ENERGY_LIMIT_HELP = "15mJ: the most that an inference of what is chosen may take above idle; measures energy."
_ENERGY_ROUNDS_HELP = (
    "Measure so often what an inference takes of the energy, where the device tells it: by RAPL, or by a battery that "
    "discharges. About 7 s for each point and round (default: not; 5 with --energy)."
)
_CORES_HELP = "Cores of a phone to run on, as 4-7 or any (default: the fastest)."


def _strategy(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A name that there is, or a class of somebody's own that there is."""
    from ..search.registry import strategy_class

    try:
        strategy_class(value)
    except ProfileError as error:
        raise click.BadParameter(str(error), ctx, param) from error
    return value


@click.command()
@click.argument("pack", type=click.Path(), required=False)
@click.option("--device", "address", default="local", show_default=True, help=_DEVICE_HELP)
@click.option("--data", type=click.Path(), help="An ImageFolder, a folder of pictures, .npz or .npy.")
@click.option("--labels", metavar="FOLDER", help=_LABELS_HELP)
@click.option("--verify-data", type=click.Path(), help="Pictures to verify on (default: a part of --data is held out).")
@click.option(
    "--budget", "budgets", multiple=True, help="75% (of the whole network's latency) or 12.5ms; may be repeated."
)
@click.option("--tolerance", default="0%", show_default=True, help="By how much of a budget a subnet may be over it.")
@click.option(
    "--metric",
    help="What to search by, of the pack's metrics (default: its first that reads labels, where there are any, else "
    "its first that needs none).",
)
@click.option(
    "--strategy",
    callback=_strategy,
    default="surrogate",
    show_default=True,
    help="surrogate, evolutionary, annealing, random, or a class of your own: package.module:Class.",
)
@click.option("--evaluations", type=int, help=_EVALUATIONS_HELP)
@click.option("--search-images", default=200, show_default=True, help="Pictures that the search evaluates on.")
@click.option("--verify-images", default=200, show_default=True, help="Pictures that the quality is reported from.")
@click.option(
    "--rounds", default=40, show_default=True, help="How often each block is timed at most; less when it is precise."
)
@click.option("--memory", "memory_mb", default=256, show_default=True, help="Limit for features while evaluating, MB.")
@click.option("--memory-limit", "memory_limit_mb", type=Amount("MB"), help=_MEMORY_LIMIT_HELP)
@click.option("--energy", "energy_limit_mj", type=Amount("mJ"), metavar="mJ", help=_ENERGY_LIMIT_HELP)
@click.option("--energy-rounds", type=click.IntRange(min=1), help=_ENERGY_ROUNDS_HELP)
@click.option("--threads", default=1, show_default=True, help="Threads that a block may use.")
@click.option("--search-threads", type=click.IntRange(min=1), help=_SEARCH_THREADS_HELP)
@click.option("--cores", help=_CORES_HELP)
@click.option("--runner", type=click.Path(), metavar="FOLDER", help=RUNNER_HELP)
@click.option(
    "--cool", "cool_c", type=float, metavar="CELSIUS", help="Wait until a phone is not hotter, before it is measured."
)
@click.option("--fixed-performance", is_flag=True, help="Have Android keep a phone's clocks within sustainable bounds.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=OutputFile(), metavar="FILE", help="Write the profile to this file (-: standard output).")
@click.option("--report", type=OutputFile(), metavar="FILE", help=_REPORT_HELP)
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
    labels: str | None,
    verify_data: str | None,
    budgets: tuple[str, ...],
    tolerance: str,
    metric: str | None,
    strategy: str,
    evaluations: int | None,
    search_images: int,
    verify_images: int,
    rounds: int,
    memory_mb: int,
    memory_limit_mb: float | None,
    energy_limit_mj: float | None,
    energy_rounds: int | None,
    threads: int,
    search_threads: int | None,
    cores: str | None,
    runner: str | None,
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
    Latencies are medians; quality comes from pictures that the search never saw, with its 95% interval. Budgets in
    percent are shares of the whole network's, the original in float32 as one program; the oracle is the same network
    put together from its blocks.
    With --report, PACK may be a profile that was made before: nothing is measured then.
    """
    from ..devices.connect import connect
    from ..pack.pack import BlockPack
    from ..profiling.profile import Profile
    from ..profiling.profiling import image_evaluations, profile
    from ..profiling.settings import Settings, parse_tolerance
    from ..profiling.verify import choose_metric, divide

    if report and is_standard_output(report) and (as_json or (out and is_standard_output(out))):
        raise click.UsageError("--report - takes standard output for itself: leave out --json and --out -.")
    console = Console()
    if clean and pack is None:
        removed = None if dry_run else _clean(address, console)
        if as_json:
            print_json({**({"dry_run": True} if dry_run else {}), "device": address, "removed": removed})
        elif dry_run:
            click.echo(f"would remove everything from {address}")
        return
    _check_writable("report", report)
    if report and Path(report).resolve() in [Path(path).resolve() for path in (pack, out) if path]:
        raise click.UsageError(f"--report would overwrite {report}, where the profile is: name another file.")
    if report and pack and Path(pack).is_file():
        known = Profile.load(pack)
        if not dry_run:
            _report(known, report, console)
        if as_json:
            print_json({**({"dry_run": True} if dry_run else {}), **known.to_json()})
        elif dry_run:
            click.echo(f"would write the report to {report}")
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
        parse_tolerance(tolerance),
        memory_limit_mb,
        energy_limit_mj,
        energy_rounds or 0,
    )
    _check_writable("profile", out)
    stays = bool(out) and not is_stream(Path(str(out)))  # a pipe or device keeps nothing to go on with
    if resume and not stays:
        raise click.UsageError(f"--resume needs --out with a file, which {out} is not: the journal lies beside it.")
    if output_is_closed() and not (out or report or dry_run):
        raise ProfileError("standard output is closed, and the profile would be lost: give --out FILE")
    opened = BlockPack.open(pack)
    pictures = opened.open_data(data, labels=labels)
    held_out = opened.open_data(verify_data, labels=labels) if verify_data else None
    console.notes(pictures, *([held_out] if held_out else []))
    device = connect(
        address,
        threads=threads,
        evaluation_threads=search_threads or _search_threads(address, threads),
        cores=cores,
        runner=runner,
        cool_c=cool_c,
        fixed_performance=fixed_performance,
        observer=console,
    )
    with device.open(opened) as session:
        if dry_run:
            searched, verified = divide(pictures, held_out, settings)
            plan: dict[str, Any] = {
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
                    f"would time {number_of(plan['blocks'], 'block')} {number_of(rounds, 'time')} on "
                    f"{device.info.name} ({device.info.engine}), "
                    f"search {number_of(plan['subnets'], 'subnet')} by {plan['metric']} with at most "
                    f"{number_of(plan['image_evaluations'], 'image evaluation')} on "
                    f"{number_of(len(searched), 'picture')}, and verify on {number_of(len(verified), 'other')}"
                )
            return
        journal = f"{out}.journal" if stays else None
        _check_writable("journal", journal)
        if journal and Path(journal).exists():
            console.say(
                f"going on with {journal}" if resume else f"note: {journal} is begun anew; --resume goes on with it"
            )
        with _keeping(journal, ConnectionLost, BudgetError):
            result = profile(
                session,
                pictures,
                settings,
                verify=held_out,
                journal=journal,
                resume=resume,
                progress=console.progress,
                say=console.say,
            )
    device.close()
    # Whichever of these fails, the others are done before: what was measured is not lost.
    with ExitStack() as written:
        if clean:
            written.callback(_clean, address, console)
        if not any(path and is_standard_output(path) for path in (out, report)):
            written.callback(_print, result, as_json, console)
        if report:
            written.callback(_report, result, report, console)
        if out:
            with _keeping(journal, ProfileError):
                result.save(out)
            if journal:
                Path(journal).unlink(missing_ok=True)
            console.say(f"profile written to {out}")


@contextmanager
def _keeping(journal: str | None, *errors: type[AdaptiveNetError]) -> Iterator[None]:
    """Says, where the user or such an error ends a profile, that it can be gone on with."""
    kept = f"what was measured is kept in {journal}: --resume goes on with it"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*([kept] if journal else [])) from None
    except errors as raised:
        raise type(raised)(f"{raised}; {kept}" if journal else str(raised)) from raised


def _print(result: Profile, as_json: bool, console: Console) -> None:
    if as_json:
        for warning in result.warnings:  # the tables show them too
            console.say(f"warning: {warning}")
        print_json(result.to_json())
        return
    from ..report.text import budget_rows, footnotes, front_rows, headline, whole_rows

    click.echo(headline(result))
    front = front_rows(result)
    click.echo("\n" + table(front, right=range(len(front[0]) - 2)))  # all but the quality and the blocks
    click.echo("\n" + table(budget_rows(result), right=(1, 2, 3, 5, 6)))
    if result.whole:
        whole = whole_rows(result)
        click.echo("\n" + table(whole, right=range(2, len(whole[0]) - 1)))
    for note in footnotes(result):
        click.echo(f"\n{note}")


def _search_threads(address: str, threads: int) -> int:
    """Scoring heats a phone and measures nothing: there, no more than asked for. Small blocks gain little beyond 4."""
    from ..devices.base import usable_cores
    from ..devices.connect import is_local

    return max(threads, min(usable_cores(), 4)) if is_local(address) else threads


def _check_writable(what: str, path: str | None) -> None:
    """Now, not after minutes of measuring."""
    if path:
        try:
            check_file(Path(path))
        except OSError as error:
            raise ProfileError(
                f"the {what} cannot be written to {path}: give a file in a folder that exists and may be written to "
                f"({error.strerror})"
            ) from error


def _report(profile: Profile, path: str, console: Console) -> None:
    if Path(path).suffix == ".md":
        from ..report.text import write_markdown

        write_markdown(profile, path)
    else:
        from ..report.page import write_report

        write_report(profile, path)
    console.say(f"report written to {path}")


def _clean(address: str, console: Console) -> bool:
    from ..devices.connect import clean

    removed = clean(address, console)
    console.say(f"everything was removed from {address}" if removed else f"there was nothing to remove from {address}")
    return removed


if __name__ == "__main__":
    main()
