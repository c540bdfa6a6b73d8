"""Keeping a budget while other programs come and go: a model that adapts beside models that do not.

    python -m benchmarks.adaptation [--quick] [--pack FOLDER] [--profile FILE] [--budget 120%] [--picture FILE]

One process serves a pack (the demo's, after `make demo`) as `adaptivenet.toolkit.Model` does, by its profile, and
beside it every point of the front and every whole network without ever switching: in each turn, each of them infers
once, in a new random order, so that all meet the same moments. Competitors are other processes: 1, 2 and 4 that are
busy all the time, bursts of two (3 s busy, 3 s idle), and one that copies memory (two arrays of 256 MB); between them,
nothing. Ten minutes; two with `--quick`. The clock is the app's: waiting for a processor counts.

A budget is for the median, so time is divided into windows of two seconds, and a window is within the budget of a
server when the median of its inferences is. Only windows count in which some point of the front could: the fastest one,
which never switched, was within. `in_budget_pct` is the share of these in which the adapting model was within;
`in_budget_pct_static_whole` that of the whole float32 program, `in_budget_pct_static_fastest` that of the front's
fastest point (100 by definition). `quality_gain_points` is the mean quality of what the adapting model ran, over these
windows, minus that of the best server that never switches and is within the budget at least as often; quality is what
the profile says, on pictures that its search never saw. `in_budget_pct_best_static` is the share of that server.

`stays_pct` is simulated, not measured: of 10,000 inferences on a device that is as fast as profiled with 5% noise, the
share at the first choice, for the same front and budget; the least of ten seeds. `--picture` draws the latencies.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from adaptivenet.toolkit import Model, Profile
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.local.local import LocalDevice
from adaptivenet.toolkit.errors import ProfileError
from adaptivenet.toolkit.graph.front import FrontPoint
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.settings import Budget
from adaptivenet.toolkit.report.text import markdown
from adaptivenet.toolkit.serving.controller import Controller
from adaptivenet.toolkit.serving.decision import Budgets, points_of
from adaptivenet.toolkit.serving.simulator import serve

from .machine import describe_machine

WINDOW_S = 2.0
BUSY = "while True: pass"
BURSTS = """
import time
while True:
    end = time.monotonic() + 3
    while time.monotonic() < end: pass
    time.sleep(3)
"""
MEMORY = """
import numpy
one, other = numpy.ones(32 << 20), numpy.ones(32 << 20)
while True: one[:] = other
"""
# What runs beside, and for how many parts of the time.
PHASES: Sequence[tuple[str, Sequence[str], int]] = (
    ("nothing", (), 2),
    ("1 busy", (BUSY,), 1),
    ("2 busy", (BUSY, BUSY), 2),
    ("nothing", (), 1),
    ("4 busy", (BUSY,) * 4, 2),
    ("nothing", (), 1),
    ("bursts", (BURSTS, BURSTS), 2),
    ("memory", (MEMORY,), 2),
    ("nothing", (), 1),
)
ADAPTIVE = "adaptive"


@dataclass
class Served:
    """What one server did: when an inference ended, what it took, and how good what ran is."""

    at_s: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)

    def windows(self) -> dict[int, tuple[float, float]]:
        """The median latency and the mean quality in each window."""
        found: dict[int, list[int]] = {}
        for index, at_s in enumerate(self.at_s):
            found.setdefault(int(at_s / WINDOW_S), []).append(index)
        return {
            window: (median(self.ms[each] for each in of), float(np.mean([self.quality[each] for each in of])))
            for window, of in found.items()
        }


@dataclass(frozen=True)
class Course:
    """What all servers did, by name, and the phases: their names, and when each began."""

    servers: Mapping[str, Served]
    phases: Sequence[tuple[str, float]]
    switches: Sequence[tuple[float, str]]


@contextmanager
def competitors(programs: Sequence[str]) -> Iterator[None]:
    """Python programs that run meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
    try:
        yield
    finally:
        for each in running:
            each.kill()
        for each in running:
            each.wait()


def serve_all(pack: BlockPack, known: Profile, budget: str, seconds: float, console: Console) -> Course:
    """Let all servers infer in turn through all phases."""
    device = connect(known.device["address"], known.device["threads"])
    if not isinstance(device, LocalDevice):
        raise ProfileError(f"the profile is of {known.device['address']}; this benchmark is for one of this computer")
    statics = {name: device.assembler(pack).load_chain(point.subnet) for name, point in points(known).items()}
    quality = {name: quality_of(point) for name, point in points(known).items()}
    x = np.random.default_rng(0).normal(size=pack.graph.cuts[0].shape).astype(np.float32)
    servers = {name: Served() for name in (ADAPTIVE, *statics)}
    phases, switches = [], []
    parts = sum(length for _, _, length in PHASES)
    rng, order = random.Random(0), list(servers)
    with Model.open(pack, known, budget) as model:
        begin = time.monotonic()
        until, decision = 0.0, model.decision
        for name, programs, length in PHASES:
            phases.append((name, time.monotonic() - begin))
            until += seconds * length / parts
            with competitors(programs):
                while (now_s := time.monotonic() - begin) < until:
                    rng.shuffle(order)
                    for server in order:
                        if server == ADAPTIVE:
                            point = model.points[model.status().point or 0]
                            _, ms = model.infer_timed(x)
                            good = quality_of(point)
                            if model.decision is not decision:
                                if model.decision.point != decision.point:
                                    switches.append((time.monotonic() - begin, model.decision.why))
                                decision = model.decision
                        else:
                            started = time.perf_counter()
                            statics[server]({0: x})
                            ms, good = (time.perf_counter() - started) * 1e3, quality[server]
                        served = servers[server]
                        served.at_s.append(time.monotonic() - begin)
                        served.ms.append(ms)
                        served.quality.append(good)
                    console.progress(name, min(int(now_s), int(seconds)), int(seconds))
    return Course(servers, phases, switches)


def points(known: Profile) -> dict[str, FrontPoint]:
    """The servers that never switch: whole networks by their names, points of the front by their latencies."""
    found = {point.subnet[0]: point for point in known.whole}
    return found | {
        f"{point.latency_ms:.2f} ms": point
        for point in known.front.rising
        if point.subnet not in [each.subnet for each in found.values()]
    }


def quality_of(point: FrontPoint) -> float:
    """By the metric that was searched for."""
    if point.quality is None:
        raise ProfileError("the profile has no qualities: profile with pictures to verify on")
    return point.quality.value


@dataclass(frozen=True)
class Kept:
    """How a server kept the budget over the windows that count: the share of them, and the mean quality."""

    share: float
    quality: float


def kept(course: Course, limit_ms: float, fastest: str) -> dict[str, Kept]:
    """How each server kept the budget, over the windows in which the fastest point did."""
    by_window = {name: served.windows() for name, served in course.servers.items()}
    could = [window for window, (ms, _) in by_window[fastest].items() if ms <= limit_ms]
    if not could:
        raise ProfileError(f"not even the fastest point kept {limit_ms:.2f} ms in any moment: give a larger --budget")
    found = {}
    for name, windows in by_window.items():
        of = [windows[window] for window in could if window in windows]
        found[name] = Kept(float(np.mean([ms <= limit_ms for ms, _ in of])), float(np.mean([good for _, good in of])))
    return found


def stays(known: Profile, limit_ms: float) -> float:
    """The least share of inferences at the first choice on a simulated device that is as profiled."""
    shares = []
    for seed in range(10):
        controller = Controller(points_of(known.front), Budgets(limit_ms))
        first, seconds = controller.point, 10_000 * controller.points[controller.point].latency_ms / 1e3
        steps = list(serve(controller, lambda at_s: 1.0, seconds, 0.05, random.Random(seed)))
        shares.append(sum(step.ran == first for step in steps) / len(steps))
    return min(shares)


def draw(course: Course, limit_ms: float, path: Path, whole: str) -> None:
    """The latencies of the adapting model and of the whole network over the time: medians of quarters of a second."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 4.2))
    for name, colour, label in ((whole, "#888888", "whole network, float32"), (ADAPTIVE, "#1f6fb4", "adapting")):
        served = course.servers[name]
        binned: dict[int, list[float]] = {}
        for at_s, ms in zip(served.at_s, served.ms, strict=True):
            binned.setdefault(int(4 * at_s), []).append(ms)
        axes.plot([at / 4 for at in binned], [median(of) for of in binned.values()], color=colour, lw=1.2, label=label)
    axes.axhline(limit_ms, color="#c0392b", lw=1.0, ls="--", label=f"budget, {limit_ms:.1f} ms")
    top = axes.get_ylim()[1]
    for number, (name, at_s) in enumerate(course.phases):
        end_s = course.phases[number + 1][1] if number + 1 < len(course.phases) else max(course.servers[whole].at_s)
        if name != "nothing":
            axes.axvspan(at_s, end_s, color="#f2e6cf", lw=0, zorder=0)
        axes.text((at_s + end_s) / 2, top, name, ha="center", va="bottom", fontsize=8)
    for at_s, _ in course.switches:
        axes.axvline(at_s, color="#1f6fb4", lw=0.5, alpha=0.5)
    axes.set_xlabel("seconds; thin lines: another point was chosen")
    axes.set_ylabel("latency, ms (medians of 0.25 s)")
    axes.set_ylim(bottom=0, top=top)
    axes.set_xlim(0, max(course.servers[whole].at_s))
    axes.legend(loc="upper left", fontsize=8, framealpha=0.9)
    figure.tight_layout()
    figure.savefig(path, dpi=140)


@click.command()
@click.option("--quick", is_flag=True, help="Two minutes in the place of ten.")
@click.option("--pack", default="demo/pack", show_default=True, type=click.Path(path_type=Path))
@click.option("--profile", "path", default="demo/profile.json", show_default=True, type=click.Path(path_type=Path))
@click.option("--budget", default="120%", show_default=True, help="75% (of the whole network's latency) or 12.5ms.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the latencies into this file.")
@click.option("--report", type=click.Path(), help="Write the table here as Markdown.")
@reports_errors
def main(quick: bool, pack: Path, path: Path, budget: str, picture: Path | None, report: str | None) -> None:
    """Print the figures as the last line, one json object."""
    opened = BlockPack.open(pack)
    known = Profile.load(path, opened)
    limit_ms = Budget(budget).ms(known.reference.median_ms)
    course = serve_all(opened, known, budget, 120.0 if quick else 600.0, Console())
    front = known.front.rising
    fastest = next(name for name, point in points(known).items() if point.subnet == front[0].subnet)
    whole = known.graph.reference[0] if len(known.graph.reference) == 1 else f"{known.oracle.median_ms:.2f} ms"
    found = kept(course, limit_ms, fastest)
    statics = {name: each for name, each in found.items() if name != ADAPTIVE}
    mine = found[ADAPTIVE]
    best = max(
        (name for name, each in statics.items() if each.share >= mine.share), key=lambda name: statics[name].quality
    )
    rows = [["server", "within the budget", "quality", "median ms"]]
    for name, each in found.items():
        ms = median(course.servers[name].ms)
        rows.append([name, f"{100 * each.share:.1f}%", f"{100 * each.quality:.1f}%", f"{ms:.2f}"])
    click.echo(table(rows, right=(1, 2, 3)))
    click.echo(f"\n{limit_ms:.2f} ms are allowed; {len(course.switches)} switches:")
    for at_s, why in course.switches:
        click.echo(f"  {at_s:6.1f} s  {why}")
    if report:
        Path(report).write_text(markdown(rows) + "\n")
    if picture:
        draw(course, limit_ms, picture, whole)
    windows = len(course.servers[fastest].windows())
    counted = sum(ms <= limit_ms for ms, _ in course.servers[fastest].windows().values())
    figures: dict[str, Any] = {
        "in_budget_pct": 100 * mine.share,
        "in_budget_pct_static_whole": 100 * statics[whole].share,
        "in_budget_pct_static_fastest": 100 * statics[fastest].share,
        "in_budget_pct_best_static": 100 * statics[best].share,
        "quality_gain_points": 100 * (mine.quality - statics[best].quality),
        "quality_pct": 100 * mine.quality,
        "stays_pct": 100 * stays(known, limit_ms),
        "switches": len(course.switches),
        "windows": windows,
        "windows_some_point_could": counted,
        "turns": len(course.servers[ADAPTIVE].ms),
        "budget_ms": limit_ms,
    }
    click.echo(json.dumps({"benchmark": "adaptation", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
