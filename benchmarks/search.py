"""How far from the best subnet each search strategy is, over what it spends: all subnets are known.

    python -m benchmarks.search [--quick] [--table FILE] [--seeds 20] [--picture FILE] [--report FILE]

The same is asked of tables of simulated networks (benchmarks.simulated, one of each kind, small enough that all subnets
are known), so that no search is fitted to the one real table.

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
not get there. These are of the real table.

`worst_table_evaluations_ratio` is `image_evaluations_evolutionary_over_surrogate` of the table where it is lowest, and
`posterior_covered_pct` says how often the model of quality is right about what it is unsure of: after each search by
`surrogate` for one budget, of up to 500 subnets that it did not see on all pictures, how many truths lie in the
model's 90% intervals, in percent, over all tables. `tables` has both for each.

`--quick` takes 2 seeds at most, the budgets of 90 and 60%, three simulated networks with a budget of 70%, and neither
`annealing` nor `random`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.report.text import markdown
from adaptivenet.toolkit.search import Annealing, Evolutionary, Random, Result, Strategy, Surrogate
from adaptivenet.toolkit.search.quality_model import QualityModel

from .machine import describe_machine
from .regret import WITHIN, Regret, draw_regret
from .searching import SHARES, Trace, simulate
from .simulated import HELD_OUT, OPEN, Simulated
from .truth import CIFAR10, Truth

MOST = 1250  # times all pictures

Make = Callable[[Truth, Sequence[float], int], Strategy]


def _of(strategy: Callable[..., Strategy], **settings: Any) -> Make:
    return lambda truth, budgets, seed: strategy(
        truth.graph, truth.cost, budgets, len(truth.labels), seed=seed, **settings
    )


TIMES_90 = 1.645  # standard deviations on either side
ASKED = 500  # subnets at most, after a search
SIMULATED = {
    kind: Simulated(kind, seed=100 + number, length=8, pictures=2000, damage=0.6)
    for number, kind in enumerate((*OPEN, *HELD_OUT))
}
QUICK = ("cliff", "pairs", "noise")
COMPARED = ("surrogate", "evolutionary", "evolutionary, small")

STRATEGIES: Mapping[str, Make] = {
    "surrogate": _of(Surrogate, only_these=True),
    "evolutionary": _of(Evolutionary, population=100, generations=16),
    "evolutionary, small": _of(Evolutionary, population=50, generations=10),
    "annealing": _of(Annealing),
    "random": _of(Random, draws=MOST),
}


def traces(
    truth: Truth, name: str, shares: Sequence[float], seeds: int, console: Console, covered: list[bool] | None = None
) -> list[Trace]:
    """One search for all budgets together, for each seed. What `inside` says after each is added to `covered`."""
    found = []
    for seed in range(seeds):
        pictures = np.random.default_rng(seed).permutation(len(truth.labels))
        budgets = [truth.budget(share) for share in shares]
        strategy = STRATEGIES[name](truth, budgets, seed)
        found.append(simulate(truth, strategy, pictures, budgets, MOST * len(pictures)))
        if covered is not None:
            covered += inside(truth, list(strategy.results.values()), seed)
        console.progress(f"{name}, {', '.join(map(_percent, shares))}", seed + 1, seeds)
    return found


def inside(truth: Truth, results: Sequence[Result], seed: int) -> list[bool]:
    """Of some subnets that have no result on all pictures, whether the model's 90% interval holds the truth."""
    known = {result.subnet for result in results if result.n == len(truth.labels)}
    rest = [row for row, subnet in enumerate(truth.subnets) if subnet not in known]
    rows = np.random.default_rng(seed).permutation(rest)[:ASKED]
    posterior = QualityModel(truth.graph, len(truth.labels)).fit(results)
    low, high = posterior.between([truth.subnets[row] for row in rows], TIMES_90)
    accuracy = truth.accuracy[rows] / 100
    held: list[bool] = ((accuracy >= low) & (accuracy <= high)).tolist()
    return held


def regrets(
    truth: Truth,
    name: str,
    shares: Sequence[float],
    together: bool,
    seeds: int,
    console: Console,
    covered: list[bool] | None = None,
) -> dict[float, Regret]:
    """By budget, of one strategy: searched for one after another, or all of them together."""
    found = {}
    for searched in [shares] if together else [[share] for share in shares]:
        runs = traces(truth, name, searched, seeds, console, covered)
        for column, share in enumerate(searched):
            found[share] = Regret.over_seeds(truth, runs, column, truth.budget(share))
    return found


def evolutionary_needs(single: Mapping[str, Mapping[float, Regret]]) -> tuple[dict[float, float], int]:
    """The image evaluations of `evolutionary` by budget, in its better size, and how many are only lower bounds."""
    sizes = [of_budget for name, of_budget in single.items() if name.startswith("evolutionary")]
    needed, lower_bounds = {}, 0
    for share in single["surrogate"]:
        needed[share] = min(size[share].there for size in sizes)
        if math.isinf(needed[share]):
            needed[share] = min(float(size[share].at[-1]) for size in sizes)
            lower_bounds += 1
    return needed, lower_bounds


def worst_ratio(single: Mapping[str, Mapping[float, Regret]]) -> float:
    """How many times more image evaluations `evolutionary` needs, at the worst budget; 0 where `surrogate` fails."""
    needed, _ = evolutionary_needs(single)
    return min(
        0.0 if math.isinf(surrogate.there) else needed[share] / surrogate.there
        for share, surrogate in single["surrogate"].items()
    )


def of_tables(found: Mapping[str, tuple[float, Sequence[bool]]]) -> dict[str, Any]:
    """The agreed figures of all tables, from the worst ratio of each and what its intervals held."""
    held = [each for _, covered in found.values() for each in covered]
    return {
        "worst_table_evaluations_ratio": min(ratio for ratio, _ in found.values()),
        "posterior_covered_pct": 100 * float(np.mean(held)),
        "tables": {
            name: {"evaluations_ratio": ratio, "covered_pct": 100 * float(np.mean(covered))}
            for name, (ratio, covered) in found.items()
        },
    }


def figures_of(single: Mapping[str, Mapping[float, Regret]], front: Mapping[float, Regret]) -> dict[str, Any]:
    """The agreed figures; `single` by strategy and budget, `front` by budget, of one search for all of them."""
    needed, lower_bounds = evolutionary_needs(single)
    whole = max(regret.there for regret in front.values())
    return {
        "image_evaluations_evolutionary_over_surrogate": worst_ratio(single),
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
@click.option("--quick", is_flag=True, help="2 seeds, 1 or 2 budgets, fewer tables; at most 10 minutes on 2 cores.")
@click.option("--table", "file", type=click.Path(path_type=Path), default=CIFAR10, help="The table of truth.")
@click.option("--seeds", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the regrets here (.svg or .png).")
@click.option("--report", type=click.Path(path_type=Path), help="Write the table here as Markdown.")
@reports_errors
def main(quick: bool, file: Path, seeds: int, picture: Path | None, report: Path | None) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    truth = Truth.read(file)
    shares, names, kinds = SHARES, tuple(STRATEGIES), tuple(SIMULATED)
    if quick:
        seeds, shares, names, kinds = min(seeds, 2), (0.9, 0.6), COMPARED, QUICK

    def compare(
        truth: Truth, names: Sequence[str], shares: Sequence[float]
    ) -> tuple[dict[str, dict[float, Regret]], list[bool]]:
        covered: list[bool] = []
        watched = {"surrogate": covered}
        return {name: regrets(truth, name, shares, False, seeds, console, watched.get(name)) for name in names}, covered

    single, covered = compare(truth, names, shares)
    tables = {file.stem: (worst_ratio(single), covered)}
    for kind in kinds:
        console.say(f"simulated: {kind}")
        simulated, covered = compare(SIMULATED[kind].table(), COMPARED, (0.7,) if quick else SHARES)
        tables[kind] = (worst_ratio(simulated), covered)
        click.echo(table([[kind, *row] if at else ["table", *row] for at, row in enumerate(_rows(simulated))]))
    front = regrets(truth, "surrogate", shares, True, seeds, console)
    every = {**single, "surrogate, all budgets": front}
    rows = _rows(every)
    click.echo(table(rows))
    click.echo(f"Image evaluations until within {WITHIN} point of the optimum (mean regret at the end, in points).")
    if report:
        report.write_text(markdown(rows) + "\n")
    if picture:
        draw_regret(every, picture)
    figures = (
        figures_of(single, front)
        | of_tables(tables)
        | {
            "subnets": len(truth.subnets),
            "pictures": len(truth.labels),
            "seeds": seeds,
            "budgets": len(shares),
        }
    )
    if figures["lower_bounds"]:
        click.echo(f"evolutionary never gets there at {figures['lower_bounds']} budgets: the ratios are lower bounds")
    click.echo(json.dumps({"benchmark": "search", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
