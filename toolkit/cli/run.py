"""`adaptivenet-run`: pack + profile → the best subnet for a budget, paged in, serving, adapting."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from ..plurals import number_of
from .console import RUNNER_HELP, Amount, Console, print_json, reports_errors

_MEMORY_HELP = "40MB: the most that a subnet may keep resident, and the artifacts of all that is loaded may have."
_ENERGY_HELP = "15mJ: the most that an inference may take above idle, as profiled."


@click.command()
@click.argument("pack", type=click.Path())
@click.argument("profile", type=click.Path())
@click.option("--device", "address", help="Where to run, as in adaptivenet-profile (default: as profiled).")
@click.option("--budget", default="75%", show_default=True, help="75% (of the whole network's latency) or 12.5ms.")
@click.option("--tolerance", help="By how much of the budget the subnet may be over it (default: as profiled).")
@click.option("--data", type=click.Path(), required=True, help="Pictures to run on.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="Inferences; the pictures are taken in turn (default: 100; with --adapt, until it is interrupted).",
)
@click.option(
    "--adapt", is_flag=True, help="Switch to another subnet of the front when the device gets slower or faster."
)
@click.option(
    "--percentile",
    type=click.FloatRange(50, 99),
    default=50.0,
    show_default=True,
    help="Of the inferences, that shall be within the budget; with --adapt.",
)
@click.option("--memory-limit", "memory_mb", type=Amount("MB"), help=_MEMORY_HELP)
@click.option("--energy", "energy_mj", type=Amount("mJ"), metavar="mJ", help=_ENERGY_HELP)
@click.option("--trace", type=click.Path(), help="Write every inference and decision to this file, as json lines.")
@click.option("--threads", type=int, help="Threads that a block may use (default: as profiled).")
@click.option("--cores", help="Cores of a phone to run on, as 4-7 or any (default: the fastest).")
@click.option("--runner", type=click.Path(), metavar="FOLDER", help=RUNNER_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one json document instead of text.")
@click.option("--dry-run", is_flag=True, help="Say which subnet would run, and stop.")
@reports_errors
def main(
    pack: str,
    profile: str,
    address: str | None,
    budget: str,
    tolerance: str | None,
    data: str,
    count: int | None,
    adapt: bool,
    percentile: float,
    memory_mb: float | None,
    energy_mj: float | None,
    trace: str | None,
    threads: int | None,
    cores: str | None,
    runner: str | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Assemble the best subnet of PACK for a latency budget, as PROFILE says, page it in, and run it on pictures.

    The whole network, of whose latency a budget may be a share, is the original in float32 as one program. To page a
    subnet in is to load those of its blocks that are not loaded yet.
    """
    from ..devices.connect import connect, engine_of
    from ..devices.phone.contents import BACKENDS
    from ..graph.doubts import one_answer
    from ..graph.front import FrontPoint
    from ..pack.pack import BlockPack
    from ..profiling.budgets import Limits, choose, require_known_energy, within_limits
    from ..profiling.profile import Profile
    from ..profiling.settings import Budget, parse_tolerance
    from ..report.edges import beside
    from ..report.milliseconds import decimals_for
    from ..report.text import in_words
    from ..serving.decision import Budgets
    from .serving import Stream, Trace, serve

    if trace == "-":
        raise click.UsageError("--trace takes a file: the result goes to stdout")
    opened = BlockPack.open(pack)
    known = Profile.load(profile, opened)
    tolerated = known.document["settings"].get("tolerance", 0.0) if tolerance is None else parse_tolerance(tolerance)
    asked, whole_ms = Budget(budget, tolerated), known.reference.median_ms
    limits, backend = Limits(memory_mb, energy_mj), BACKENDS[engine_of(address or known.device["address"])]

    def artifacts_mb(point: FrontPoint) -> float:
        return sum(opened.artifact(name, backend).bytes for name in point.subnet) / 1e6

    require_known_energy(known.front, limits)
    eligible = within_limits(known.front, limits, artifacts_mb)
    limit, point = asked.ms(whole_ms), choose(eligible, asked, whole_ms, limits)
    allowed = max(asked.allowed_ms(whole_ms), point.latency_ms)
    pictures = opened.open_data(data)
    console = Console()
    console.notes(pictures)
    device = connect(
        address or known.device["address"],
        known.device["threads"] if threads is None else threads,
        cores=cores,
        runner=runner,
        observer=console,
    )
    differs = [key for key in ("name", "engine", "threads") if getattr(device.info, key) != known.device[key]]
    if differs:
        console.say(
            f"note: profiled on {', '.join(f'{key} {known.device[key]}' for key in differs)}, running on "
            f"{', '.join(str(getattr(device.info, key)) for key in differs)}; other latencies are to be expected"
        )
    # Other outputs (a map of classes, a detector's boxes) have no single answer to show.
    classifies = len(opened.graph.cuts[-1].shape) == 2 and (
        opened.classes is not None or not {"top1", "agreement"}.isdisjoint(opened.metrics)
    )
    for warning in known.warnings:
        console.say(f"warning, from the profile: {warning}")
    missed = beside(eligible, limit, allowed, point)

    def named(answer: int) -> str:
        names = opened.classes
        return names[answer] if names and answer < len(names) else f"class {answer}"

    document: dict[str, Any] = {
        "device": device.info.to_json(),
        "budget": budget,
        "budget_ms": limit,
        "tolerance": tolerated,
        "subnet": list(point.subnet),
        "expected_ms": point.latency_ms,
        "expected_ms_is": "measured" if point.measured else "predicted",
        "resident_mb": point.resident_mb,
        "energy_mj": point.energy_mj,
        "quality": point.quality.to_json() if point.quality else None,
        "also": [quality.to_json() for quality in point.also],
        "a_little_over": missed,
    }
    quality, ms = "not measured", decimals_for(known)
    if point.qualities:
        quality = (
            f"{in_words(point)}, measured on {number_of(point.qualities[0].n, 'picture')} that the search never saw"
        )
    if dry_run:
        if as_json:
            print_json({"dry_run": True, **document})
        else:
            click.echo(
                f"would run {' '.join(point.subnet)} ({ms(point.latency_ms)} ms {document['expected_ms_is']} when "
                f"profiled, {ms(limit)} ms allowed; quality: {quality})"
            )
        return
    budgets = Budgets(allowed, percentile, memory_mb, energy_mj)
    with ExitStack() as stack:
        written = stack.enter_context(Trace(trace, budgets)) if trace else None
        done = Stream(known.front.rising, limit, count or (None if adapt else 100), console, written)
        only = None if adapt else point
        serve(done, stack.enter_context(device), opened, known, budgets, pictures, only, classifies)
    pictures_run, answers = min(done.count, len(pictures)), list(done.answers)
    doubt = one_answer(named(answers[0]), pictures_run, "this subnet") if len(set(answers)) == 1 else None
    if doubt:
        console.say(f"warning: {doubt}")
    latency, switches = done.latency, done.switches
    document |= {
        "page_in": {"ms": done.page_in_ms, "bytes_in": done.page_in_bytes},
        "latency": latency.to_json(),
        "inferences": done.count,
        "within_budget": done.within / done.count,
        "points": [
            {"subnet": list(each.subnet), "latency_ms": each.latency_ms, "inferences": done.ran[at]}
            for at, each in enumerate(done.points)
        ],
        "switches": switches,
        "answers": answers if classifies else None,
        "warnings": [*known.warnings, *done.failures, *([doubt] if doubt else [])],
    }
    if as_json:
        print_json(document)
        return
    click.echo(f"subnet       {' '.join(point.subnet)}")
    click.echo(f"quality      {quality}")
    if missed:
        click.echo(f"edge         {missed}; --tolerance takes it")
    if point.resident_mb is not None:
        click.echo(f"memory       {point.resident_mb:.1f} MB resident when profiled (measured once)")
    if point.energy_mj is not None:
        spread = f"median of {point.energy_repetitions}, IQR {point.energy_spread_mj:.2g} mJ"
        click.echo(f"energy       {point.energy_mj:.3g} mJ an inference above idle when profiled ({spread})")
    click.echo(f"paged in     {done.page_in_ms:.1f} ms, {done.page_in_bytes / 1e6:.2f} MB (measured once)")
    click.echo(
        f"latency      {ms(latency.median_ms)} ms (median of {latency.repetitions}, IQR {ms(latency.spread_ms)} ms); "
        f"{ms(point.latency_ms)} ms {document['expected_ms_is']} when profiled; "
        f"{document['within_budget']:.0%} within {ms(limit)} ms"
    )
    if adapt:
        shares = [(done.ran[at] / done.count, each.latency_ms) for at, each in enumerate(done.points)]
        click.echo(f"points       {', '.join(f'{share:.0%} at {ms(at)} ms' for share, at in shares if share)}")
        click.echo(f"switches     {len(switches)}")
        for switch in switches:
            click.echo(f"             after {number_of(switch['after'], 'inference')}, {switch['why']}")
    if classifies:
        click.echo(f"answers      {', '.join(map(named, answers[:5]))}{' …' if len(answers) > 5 else ''}")


if __name__ == "__main__":
    main()
