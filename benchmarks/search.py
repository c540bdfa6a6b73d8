"""How far from the best subnet each search strategy is, over what it spends: all subnets are known.

    python -m benchmarks.search [--quick] [--table FILE] [--seeds 20] [--picture FILE] [--report FILE]

The table of truth (benchmarks.search_table) says for each subnet of a small supernet which of 2,000 pictures it gets
right. A strategy asks it instead of a device, for one budget of 90 to 50% of the oracle's latency, and after every
answer the subnet that it holds for best within the budget is compared with the one that is: its **regret** is the
difference of their accuracies on all pictures, in points. The cost is counted in **image evaluations**: one subnet on
one picture, each pair once. A seed shuffles the pictures and seeds the strategy. The searches see the same pictures
that the truth is the mean over (`surrogate` is told so: `only_these`); what generalises to others is not asked here.

A strategy is *there* after so many image evaluations, from which on the mean regret over the seeds is within 0.1 point.
A run that is over keeps its last recommendation, one that has none yet counts as infinitely far. `evolutionary` is
taken in two sizes: about as many evaluations a budget as the paper's (a population of 100 for 16 generations: 1,225
where there are so many) and a small one (50 for 10); each evaluates its candidates on all pictures, as published. Every
run ends at the latest after 1,250 times all pictures.

`image_evaluations_evolutionary_over_surrogate` is how many times more image evaluations `evolutionary` needs than
`surrogate` until it is there, at the worst budget for this ratio, in the size that is there first. Where neither size
ever gets there, what the cheaper one spent in all counts: then the ratio is a lower bound, and `lower_bounds` counts
such budgets. `front_over_one_budget` is the image evaluations of one `surrogate` for all budgets until it is there for
each of them, over those of `evolutionary` for the one budget where it needs fewest. Both are 0 where `surrogate` does
not get there. `--quick` takes 4 seeds and the budgets of 90, 70 and 50%.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.report import markdown
from adaptivenet.toolkit.search import Annealing, Evolutionary, Random, Strategy, Surrogate
from numpy.typing import NDArray

from .machine import describe_machine
from .regret_picture import draw_regret
from .searching import SHARES, Trace, simulate
from .truth import CIFAR10, Truth

WITHIN = 0.1  # points
MOST = 1250  # times all pictures

Make = Callable[[Truth, Sequence[float], int], Strategy]


def _of(strategy: Callable[..., Strategy], **settings: Any) -> Make:
    return lambda truth, budgets, seed: strategy(
        truth.graph, truth.cost, budgets, len(truth.labels), seed=seed, **settings
    )


STRATEGIES: Mapping[str, Make] = {
    "surrogate": _of(Surrogate, only_these=True),
    "evolutionary": _of(Evolutionary, population=100, generations=16),
    "evolutionary, small": _of(Evolutionary, population=50, generations=10),
    "annealing": _of(Annealing),
    "random": _of(Random, draws=MOST),
}


@dataclass(frozen=True)
class Regret:
    """Of one strategy at one budget: `at` (points,) image evaluations, and the regret of each seed there, in points.

    `of_seeds` is (seeds, points), infinite before the first recommendation.
    """

    at: NDArray[np.int64]
    of_seeds: NDArray[np.float64]

    @classmethod
    def over_seeds(cls, truth: Truth, traces: Sequence[Trace], column: int, budget: float) -> Regret:
        """The regret for the budget (ms) in a column of the traces, wherever one of them changes."""
        at = np.unique(np.concatenate([trace.spent for trace in traces]))
        optimum = truth.optimum(budget)
        curves = []
        for trace in traces:
            chosen = trace.chosen[:, column]
            regret = np.where(chosen < 0, np.inf, optimum - truth.accuracy[chosen])
            curves.append(np.r_[np.inf, regret][np.searchsorted(trace.spent, at, side="right")])
        return cls(at, np.array(curves))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Over the seeds, at each point."""
        return self.of_seeds.mean(axis=0)

    @property
    def there(self) -> float:
        """The image evaluations after which the mean regret is, and stays, `WITHIN`; infinite where it never does."""
        # Accuracies are sums of floats: a regret of exactly 0.1 may be a digit above.
        outside = np.flatnonzero(self.mean > WITHIN + 1e-9)
        first = int(outside[-1]) + 1 if len(outside) else 0
        return float(self.at[first]) if first < len(self.at) else math.inf


def traces(truth: Truth, name: str, shares: Sequence[float], seeds: int, console: Console) -> list[Trace]:
    """One search for all budgets together, for each seed."""
    found = []
    for seed in range(seeds):
        pictures = np.random.default_rng(seed).permutation(len(truth.labels))
        budgets = [truth.budget(share) for share in shares]
        found.append(simulate(truth, STRATEGIES[name](truth, budgets, seed), pictures, budgets, MOST * len(pictures)))
        console.progress(f"{name}, {', '.join(map(_percent, shares))}", seed + 1, seeds)
    return found


def regrets(
    truth: Truth, name: str, shares: Sequence[float], together: bool, seeds: int, console: Console
) -> dict[float, Regret]:
    """By budget, of one strategy: searched for one after another, or all of them together."""
    found = {}
    for searched in [shares] if together else [[share] for share in shares]:
        runs = traces(truth, name, searched, seeds, console)
        for column, share in enumerate(searched):
            found[share] = Regret.over_seeds(truth, runs, column, truth.budget(share))
    return found


def figures_of(single: Mapping[str, Mapping[float, Regret]], front: Mapping[float, Regret]) -> dict[str, Any]:
    """The agreed figures; `single` by strategy and budget, `front` by budget, of one search for all of them."""
    sizes = [of_budget for name, of_budget in single.items() if name.startswith("evolutionary")]
    needed, lower_bounds = {}, 0
    for share in front:
        needed[share] = min(size[share].there for size in sizes)
        if math.isinf(needed[share]):
            needed[share] = min(float(size[share].at[-1]) for size in sizes)
            lower_bounds += 1
    whole = max(regret.there for regret in front.values())
    return {
        "image_evaluations_evolutionary_over_surrogate": min(
            0.0 if math.isinf(surrogate.there) else needed[share] / surrogate.there
            for share, surrogate in single["surrogate"].items()
        ),
        "front_over_one_budget": 0.0 if math.isinf(whole) else whole / min(needed.values()),
        "lower_bounds": lower_bounds,
        "front_image_evaluations": 0 if math.isinf(whole) else round(whole),
        "one_budget_evolutionary_image_evaluations": round(min(needed.values())),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _rows(found: Mapping[str, Mapping[float, Regret]]) -> list[list[str]]:
    """For each strategy and budget: after how many image evaluations it is there, and where it ends."""
    shares = list(next(iter(found.values())))
    rows = [["strategy", *map(_percent, shares)]]
    for name, of_budget in found.items():
        rows.append([name, *(_cell(of_budget[share]) for share in shares)])
    return rows


def _cell(regret: Regret) -> str:
    there = "never" if math.isinf(regret.there) else f"{regret.there:,.0f}"
    return f"{there} ({regret.mean[-1]:.2f} after {regret.at[-1]:,})"


@click.command()
@click.option("--quick", is_flag=True, help="4 seeds and 3 budgets; at most 5 minutes on 2 cores.")
@click.option("--table", "file", type=click.Path(path_type=Path), default=CIFAR10, help="The table of truth.")
@click.option("--seeds", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the regrets here (.svg or .png).")
@click.option("--report", type=click.Path(path_type=Path), help="Write the table here as Markdown.")
@reports_errors
def main(quick: bool, file: Path, seeds: int, picture: Path | None, report: Path | None) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    truth = Truth.read(file)
    shares = SHARES
    if quick:
        seeds, shares = 4, SHARES[::2]
    single = {name: regrets(truth, name, shares, False, seeds, console) for name in STRATEGIES}
    front = regrets(truth, "surrogate", shares, True, seeds, console)
    every = {**single, "surrogate, all budgets": front}
    rows = _rows(every)
    click.echo(table(rows))
    click.echo(f"Image evaluations until within {WITHIN} point of the optimum (mean regret at the end, in points).")
    if report:
        report.write_text(markdown(rows) + "\n")
    if picture:
        draw_regret(every, picture, WITHIN)
    figures = figures_of(single, front) | {
        "subnets": len(truth.subnets),
        "pictures": len(truth.labels),
        "seeds": seeds,
        "budgets": len(shares),
    }
    if figures["lower_bounds"]:
        click.echo(f"evolutionary never gets there at {figures['lower_bounds']} budgets: the ratios are lower bounds")
    click.echo(json.dumps({"benchmark": "search", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
