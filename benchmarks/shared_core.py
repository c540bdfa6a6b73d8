"""Keeping a budget on a shared core: the controller on a simulated device, so that runs differ in nothing else.

    python -m benchmarks.shared_core [--runs 40]

One core of two runs a process in slices of 2.5 to 4.5 ms and has it wait for as long for each competitor on that core.
The competitors move between the cores, every 0.4 s on average, and come and go in phases: 1, 2 and 4 that are always
busy, bursts of 2, and one that slows memory down; two minutes. Seven points of 3.6 to 9.4 ms serve in turn, beside the
model that adapts, in a new random order each time; a switch takes two turns. The device is 1 to 1.3 times slower than
profiled, and its latencies vary by 3%; one in 250 inferences takes 1.5 to 3 times as long.

Windows of two seconds and what counts are as in `benchmarks.adaptation`. `in_budget_pct_MS` is the share of windows in
which the adapting model was within a budget of so many milliseconds, `quality_pct_MS` its mean quality,
`known_quality_pct_MS` that of a choice that knows each window beforehand, `switches_a_minute_MS` how often it switched.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from statistics import fmean

import click
from adaptivenet.toolkit.serving.controller import Controller
from adaptivenet.toolkit.serving.decision import Budgets, Point

from .adaptation import ADAPTIVE, Served
from .machine import describe_machine

FRONT_MS = (3.62, 4.0, 4.42, 4.9, 6.0, 7.4, 9.4)
QUALITY = (0.53, 0.66, 0.81, 0.88, 0.93, 0.97, 1.0)  # of EfficientNet-Lite0's front, about
BUDGETS_MS = (11.3, 9.4, 7.0)
SECONDS = 120.0
# Competitors on both cores (None: bursts of two), by what all is slower, and for how many parts of the time.
PHASES = (
    (0, 1.0, 2),
    (1, 1.05, 1),
    (2, 1.05, 2),
    (0, 1.0, 1),
    (4, 1.05, 2),
    (0, 1.0, 1),
    (None, 1.05, 2),
    (1, 1.4, 2),
    (0, 1.0, 1),
)
OTHERS = 2  # whole networks that infer in each turn as well
SWAP_TURNS = 2


class Core:
    """The core on which everything runs; `now_s` is its time."""

    def __init__(self, rng: random.Random) -> None:
        self.now_s = 0.0
        self._rng = rng
        self._slice_ms = 3.0  # what is left of it
        self._competitors, self._here, self._until_s = 0, 0, 0.0

    def runs(self, ms: float, competitors: int | None, slower: float) -> float:
        """The milliseconds that an inference of `ms` takes."""
        rng = self._rng
        self._balance((2 if self.now_s % 6.0 < 3.0 else 0) if competitors is None else competitors)
        left = ms * slower * max(0.5, rng.gauss(1.0, 0.03)) * (rng.uniform(1.5, 3.0) if rng.random() < 0.004 else 1.0)
        took = 0.0
        while left > 0:
            ran = min(left, self._slice_ms)
            left, took, self._slice_ms = left - ran, took + ran, self._slice_ms - ran
            if self._slice_ms < 1e-9:
                took += sum(rng.uniform(2.5, 4.5) for _ in range(self._here))
                self._slice_ms = rng.uniform(2.5, 4.5)
        self.now_s += took / 1e3
        return took

    def _balance(self, competitors: int) -> None:
        """How many of them are on this core: half of all that run, rounded either way."""
        if competitors == self._competitors and self.now_s < self._until_s:
            return
        # A single one is nearly always on the other core.
        up = self._rng.random() < (0.1 if competitors == 1 else 0.5)
        self._here = (competitors + 1) // 2 if up else max(0, (competitors - 1) // 2)
        self._competitors, self._until_s = competitors, self.now_s + self._rng.expovariate(1 / 0.4)


def phases() -> Iterator[tuple[float, int | None, float]]:
    """When each ends, its competitors, and how many times slower all is."""
    until_s = 0.0
    for competitors, slower, parts in PHASES:
        until_s += SECONDS * parts / sum(each[2] for each in PHASES)
        yield until_s, competitors, slower


def course(budget_ms: float, base: float, seed: int) -> tuple[dict[int | str, Served], int]:
    """What each point and the adapting model did on a device `base` times slower than profiled, and its switches."""
    rng = random.Random(seed)
    core, controller = Core(rng), Controller([Point(ms) for ms in FRONT_MS], Budgets(budget_ms))
    served: dict[int | str, Served] = {name: Served() for name in (*range(len(FRONT_MS)), ADAPTIVE)}
    order, serving, waits, switches = list(served), controller.point, 0, 0
    for until_s, competitors, slower in phases():
        while core.now_s < until_s:
            rng.shuffle(order)
            for name in order:
                point = serving if name == ADAPTIVE else int(name)
                ms = core.runs(FRONT_MS[point] * base, competitors, slower)
                served[name].at_s.append(core.now_s)
                served[name].ms.append(ms)
                served[name].quality.append(QUALITY[point])
                if name == ADAPTIVE:
                    before = controller.point
                    controller.observe(core.now_s, ms, serving)
                    if controller.point != before:
                        switches, waits = switches + 1, SWAP_TURNS
                    elif waits:
                        waits -= 1
                    serving = serving if waits else controller.point
            for _ in range(OTHERS):
                core.runs(1.2 * rng.choice(FRONT_MS) * base, competitors, slower)
    return served, switches


def figures_of(budget_ms: float, runs: int) -> dict[str, float]:
    """All figures of one budget."""
    kept: list[bool] = []
    quality: list[float] = []
    known: list[float] = []
    switched = 0
    for run in range(runs):
        served, switches = course(budget_ms, 1.0 + 0.3 * (0.618 * run % 1), run)
        switched += switches
        windows = {name: each.windows() for name, each in served.items()}
        for window, (ms, _) in windows[0].items():
            if ms <= budget_ms and all(window in each for each in windows.values()):
                took, good = windows[ADAPTIVE][window]
                kept.append(took <= budget_ms)
                quality.append(good)
                known.append(max(QUALITY[at] for at in range(len(FRONT_MS)) if windows[at][window][0] <= budget_ms))
    return {
        "in_budget_pct": 100 * fmean(kept),
        "quality_pct": 100 * fmean(quality),
        "known_quality_pct": 100 * fmean(known),
        "switches_a_minute": switched / runs / (SECONDS / 60),
    }


@click.command()
@click.option("--runs", default=40, show_default=True, help="Of two minutes for each budget; a fifth of a second each.")
def main(runs: int) -> None:
    """Print the figures as the last line, one json object."""
    found = {
        f"{name}_{budget_ms:g}": value
        for budget_ms in BUDGETS_MS
        for name, value in figures_of(budget_ms, runs).items()
    }
    click.echo(json.dumps({"benchmark": "shared_core", "figures": found, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
