"""What a device gains by searching on its own pictures, when its classes are not equally frequent.

    python -m benchmarks.skew [--quick] [--table FILE] [--draws 100] [--report FILE]

A draw is a device: the shares of its classes come from a Dirichlet distribution, the more uneven the smaller α is. The
test pictures of the table of truth (benchmarks.search_table) are halved, class by class. From one half the device takes
its own pictures, with these shares, and as many balanced ones, no picture twice; as many as its most frequent class
allows whatever the shares are: those of the smallest class. `surrogate` searches on either, for the budgets of 90 to
50% of the oracle's latency at once, at the cost of 40 subnets on all these pictures (`adaptivenet-profile`'s default).
The other half says how good the chosen subnets are on this device: the accuracy within each class, weighted by the
device's shares.

`gain_points_alpha_A` is how much better the subnets from the own pictures are than those from the balanced ones, in
points, the mean over budgets and draws; `..._low` and `..._high` are its 95% interval over the draws.
`beats_oracle_pct_alpha_A` is in how many of a hundred cases (a draw and a budget) the subnet from the own pictures is
better than the oracle on the device's distribution; `..._balanced` is that of the subnet from the balanced pictures.
Labels come from the test set: a device without labels would search for agreement with the oracle, which is not asked
here. `--quick` takes 8 draws.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.report.text import markdown
from adaptivenet.toolkit.search import Surrogate
from numpy.typing import NDArray

from .machine import describe_machine
from .searching import SHARES, simulate
from .truth import CIFAR10, Truth

ALPHAS = (0.1, 0.01)
EVALUATIONS = 40  # what a search may cost, in subnets on all pictures: the default of adaptivenet-profile


@dataclass(frozen=True)
class Draw:
    """On one device, in percent of its distribution: the subnets of each budget, and the oracle.

    `own` and `balanced` (budgets,) are by what was searched on.
    """

    own: NDArray[np.float64]
    balanced: NDArray[np.float64]
    oracle: float


def halves(labels: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pictures in random order, of each class as many in one half as in the other."""
    sides: tuple[list[NDArray[np.int64]], ...] = ([], [])
    for label in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        half = len(of_class) // 2
        sides[0].append(of_class[:half])
        sides[1].append(of_class[half : 2 * half])
    return rng.permutation(np.concatenate(sides[0])), rng.permutation(np.concatenate(sides[1]))


def with_shares(
    among: NDArray[np.int64],
    labels: NDArray[np.uint8],
    shares: NDArray[np.float64],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """`count` of the pictures `among`, in random order, with classes drawn by their shares; none of them twice.

    Raises ValueError where a class has too few.
    """
    wanted = rng.multinomial(count, shares)
    chosen = [rng.choice(among[labels[among] == label], size, replace=False) for label, size in enumerate(wanted)]
    return rng.permutation(np.concatenate(chosen))


def weighted(hits: NDArray[np.bool_], labels: NDArray[np.uint8], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The accuracy of each subnet, in percent, where class *c* has `shares[c]`; `hits` is (subnets, pictures)."""
    within = np.array([hits[:, labels == label].mean(axis=1) for label in range(len(shares))])
    return np.asarray(100 * shares @ within)


def draw(truth: Truth, alpha: float, seed: int) -> Draw:
    """One device."""
    rng = np.random.default_rng(seed)
    classes = int(truth.labels.max()) + 1
    shares = rng.dirichlet(np.full(classes, alpha))
    searched, judged = halves(truth.labels, rng)
    count = int(np.bincount(truth.labels[searched], minlength=classes).min())
    accuracy = weighted(truth.hits[:, judged], truth.labels[judged], shares)
    budgets = [truth.budget(share) for share in SHARES]
    found = []
    for frequent in (shares, np.full(classes, 1 / classes)):
        pictures = with_shares(searched, truth.labels, frequent, count, rng)
        strategy = Surrogate(truth.graph, truth.cost, budgets, count, seed=seed)
        trace = simulate(truth, strategy, pictures, budgets, limit=EVALUATIONS * count)
        found.append(accuracy[trace.chosen[-1]])
    return Draw(*found, oracle=float(accuracy[truth.row[truth.graph.oracle]]))


def gain(draws: Sequence[Draw]) -> tuple[float, float, float]:
    """The mean of own - balanced in points, and its 95% interval over the draws."""
    of_draws = np.array([(one.own - one.balanced).mean() for one in draws])
    error = 1.96 * of_draws.std(ddof=1) / np.sqrt(len(of_draws))
    return float(of_draws.mean()), float(of_draws.mean() - error), float(of_draws.mean() + error)


def figures_of(draws: Sequence[Draw], alpha: float) -> dict[str, Any]:
    """The agreed figures of one α."""
    name = f"alpha_{alpha:g}".replace(".", "_")
    mean, low, high = gain(draws)
    return {
        f"gain_points_{name}": mean,
        f"gain_points_{name}_low": low,
        f"gain_points_{name}_high": high,
        f"beats_oracle_pct_{name}": 100 * float(np.mean([one.own > one.oracle for one in draws])),
        f"beats_oracle_pct_{name}_balanced": 100 * float(np.mean([one.balanced > one.oracle for one in draws])),
    }


def _rows(draws: Sequence[Draw], alpha: float) -> list[list[str]]:
    rows = []
    for column, share in enumerate(SHARES):
        own, balanced = (np.array([getattr(one, key)[column] for one in draws]) for key in ("own", "balanced"))
        oracle = np.array([one.oracle for one in draws])
        error = 1.96 * (own - balanced).std(ddof=1) / np.sqrt(len(draws))
        rows.append(
            [
                f"{alpha:g}",
                f"{share:.0%}",
                f"{own.mean():.1f}%",
                f"{balanced.mean():.1f}%",
                f"{(own - balanced).mean():+.1f} ± {error:.1f}",
                f"{oracle.mean():.1f}%",
                f"{(own > oracle).mean():.0%}",
                f"{(balanced > oracle).mean():.0%}",
            ]
        )
    return rows


HEAD = [
    "α",
    "budget",
    "own pictures",
    "balanced",
    "gain, points",
    "oracle",
    "own beats oracle",
    "balanced beats oracle",
]


@click.command()
@click.option("--quick", is_flag=True, help="8 draws; at most 5 minutes on 2 cores.")
@click.option("--table", "file", type=click.Path(path_type=Path), default=CIFAR10, help="The table of truth.")
@click.option("--draws", "count", type=click.IntRange(min=2), default=100, show_default=True, help="For each α.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the table here as Markdown.")
@reports_errors
def main(quick: bool, file: Path, count: int, report: Path | None) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    truth = Truth.read(file)
    if quick:
        count = 8
    rows, figures = [HEAD], {"draws": count}
    for alpha in ALPHAS:
        draws = []
        for seed in range(count):
            draws.append(draw(truth, alpha, seed))
            console.progress(f"α = {alpha:g}", seed + 1, count)
        rows += _rows(draws, alpha)
        figures |= figures_of(draws, alpha)
    click.echo(table(rows, right=range(1, len(HEAD))))
    if report:
        report.write_text(markdown(rows) + "\n")
    click.echo(json.dumps({"benchmark": "skew", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
