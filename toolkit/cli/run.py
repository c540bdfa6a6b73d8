"""`adaptivenet-run`: pack + profile → the best subnet for a budget, paged in, serving, adapting."""

from __future__ import annotations

from typing import Any

import click

from .console import Console, print_json, reports_errors


@click.command()
@click.argument("pack", type=click.Path())
@click.argument("profile", type=click.Path())
@click.option("--device", "address", help="Where to run, as in adaptivenet-profile (default: as profiled).")
@click.option("--budget", default="75%", show_default=True, help="75% (of the oracle's latency) or 12.5ms.")
@click.option("--data", type=click.Path(), required=True, help="Pictures to run on.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Inferences; the pictures are taken in turn.",
)
@click.option(
    "--adapt", is_flag=True, help="Switch to another subnet of the front when the device gets slower or faster."
)
@click.option("--threads", type=int, help="Threads that a block may use (default: as profiled).")
@click.option("--cores", help="Cores of a phone to run on, as 4-7 or any (default: the fastest).")
@click.option("--json", "as_json", is_flag=True, help="Print one json document instead of text.")
@click.option("--dry-run", is_flag=True, help="Say which subnet would run, and stop.")
@reports_errors
def main(
    pack: str,
    profile: str,
    address: str | None,
    budget: str,
    data: str,
    count: int,
    adapt: bool,
    threads: int | None,
    cores: str | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Assemble the best subnet of PACK for a latency budget, as PROFILE says, page it in, and run it on pictures."""
    import numpy as np

    from ..adapt import Controller
    from ..data import open_data
    from ..devices import connect
    from ..latency import Latency
    from ..pack import BlockPack
    from ..profile import Budget, Profile

    opened = BlockPack.open(pack)
    known = Profile.load(profile, opened)
    limit = Budget(budget).ms(known.oracle.median_ms)
    state = Controller.start(known.front, limit)
    pictures = open_data(data, opened.preprocessing, opened.classes, opened.graph.cuts[0])
    console = Console()
    device = connect(
        address or known.device["address"],
        known.device["threads"] if threads is None else threads,
        cores=cores,
        observer=console,
    )
    switches, times, answers = [], [], []
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
    point = known.front.points[state.point]
    document: dict[str, Any] = {
        "device": device.info.to_json(),
        "budget": budget,
        "budget_ms": limit,
        "subnet": list(point.subnet),
        "expected_ms": point.latency_ms,
        "quality": point.quality.to_json() if point.quality else None,
    }
    if dry_run:
        print_json({"dry_run": True, **document}) if as_json else click.echo(
            f"would run {' '.join(point.subnet)} ({point.latency_ms:.2f} ms expected, {limit:.2f} ms allowed)"
        )
        return
    with device.open(opened) as session:
        page_in = session.activate(point.subnet)
        for number in range(count):
            image = pictures.image(number % len(pictures))
            output, ms = session.infer_timed(image)
            times.append(ms)
            if classifies:
                answers.append(int(np.argmax(output[0])))
            if adapt:
                later = state.observe(known.front, limit, times[-1])
                if later.point != state.point:
                    swap = session.activate(known.front.points[later.point].subnet)
                    switches.append(
                        {
                            "after": number + 1,
                            "subnet": list(known.front.points[later.point].subnet),
                            "slowdown": later.slowdown,
                            **swap.to_json(),
                        }
                    )
                state = later
            console.progress("run", number + 1, count)
    latency = Latency.from_samples(times)
    document |= {
        "page_in": page_in.to_json(),
        "latency": latency.to_json(),
        "within_budget": sum(ms <= limit for ms in times) / count,
        "switches": switches,
        "answers": answers if classifies else None,
    }
    if as_json:
        print_json(document)
        return
    names = opened.classes
    shown = [names[answer] if names and answer < len(names) else f"class {answer}" for answer in answers[:5]]
    click.echo(f"subnet       {' '.join(point.subnet)}")
    click.echo(f"paged in     {page_in.ms:.1f} ms, {page_in.bytes_in / 1e6:.2f} MB (measured once)")
    click.echo(
        f"latency      {latency.median_ms:.2f} ms (median of {latency.repetitions}, IQR {latency.spread_ms:.2f} ms); "
        f"{point.latency_ms:.2f} ms when profiled; {document['within_budget']:.0%} within {limit:.2f} ms"
    )
    if adapt:
        where = ", ".join(f"after {switch['after']} (slowdown {switch['slowdown']:.2f})" for switch in switches)
        click.echo(f"switches     {len(switches)}{': ' + where if where else ''}")
    if classifies:
        click.echo(f"answers      {', '.join(shown)}{' …' if count > 5 else ''}")


if __name__ == "__main__":
    main()
