"""The regret of search strategies over their image evaluations, as numbers and drawn: one panel a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from adaptivenet.toolkit.errors import ProfileError
from numpy.typing import NDArray

from .searching import Trace
from .truth import Truth

WITHIN = 0.1  # points
_COLORS = ("#1f6feb", "#d2691e", "#e8a868", "#2e8b57", "0.45", "#8a2be2")
_HIGHEST = 30.0  # points


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


def draw_regret(found: Mapping[str, Mapping[float, Regret]], path: Path) -> None:
    """The mean over the seeds, with a band from the 10th to the 90th percentile, to an .svg or .png file.

    `found` is by strategy and budget; `WITHIN` is drawn as a line. Raises ProfileError where matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ProfileError("drawing needs matplotlib: pip install 'adaptivenet[report]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    budgets = list(next(iter(found.values())))
    columns = min(3, len(budgets))
    rows = -(-(len(budgets) + 1) // columns)  # one place more, for the legend
    figure, places = pyplot.subplots(
        rows,
        columns,
        figsize=(3.4 * columns, 3.0 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    axes: list[Any] = list(places.flat)
    for panel, budget in zip(axes, budgets):
        for (name, of_budget), color in zip(found.items(), _COLORS):
            _curve(panel, of_budget[budget], name, color)
        panel.axhline(WITHIN, color="0.6", linewidth=1, linestyle="--", zorder=0)
        panel.set_title(f"budget: {100 * budget:.0f}% of the oracle's latency", fontsize=9)
        panel.set_xscale("log")
        # Linear up to there, so that a regret of nothing has a place.
        panel.set_yscale("symlog", linthresh=WITHIN, linscale=0.6)
        panel.set_ylim(0, _HIGHEST)
        panel.set_yticks([0, WITHIN, 1, 10], ["0", f"{WITHIN:g}", "1", "10"])
        panel.grid(alpha=0.25)
        panel.tick_params(labelsize=8, labelbottom=True)
    handles, names = axes[0].get_legend_handles_labels()
    axes[len(budgets)].legend(handles, names, loc="center", fontsize=8, frameon=False)
    for panel in axes[len(budgets) :]:
        panel.axis("off")
    figure.supxlabel("image evaluations (one subnet on one picture)", fontsize=9)
    figure.supylabel("regret: accuracy below the best subnet's, points", fontsize=9)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def _curve(panel: Any, regret: Regret, name: str, color: str) -> None:
    known = np.isfinite(regret.mean)
    at, of_seeds = regret.at[known], regret.of_seeds[:, known]
    low, high = np.percentile(of_seeds, [10, 90], axis=0)
    panel.fill_between(at, low, high, step="post", color=color, alpha=0.15, linewidth=0)
    panel.step(at, regret.mean[known], where="post", color=color, linewidth=1.5, label=name)
