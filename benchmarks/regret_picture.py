"""Draws the regret of search strategies over their image evaluations: one panel a budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from adaptivenet.toolkit.errors import ProfileError

if TYPE_CHECKING:
    from .search import Regret

_COLORS = ("#1f6feb", "#d2691e", "#e8a868", "#2e8b57", "0.45", "#8a2be2")
_HIGHEST = 30.0  # points


def draw_regret(found: Mapping[str, Mapping[float, Regret]], path: Path, aim: float) -> None:
    """The mean over the seeds, with a band from the 10th to the 90th percentile, to an .svg or .png file.

    `found` is by strategy and budget; `aim` is drawn as a line. Raises ProfileError where matplotlib is missing.
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
        panel.axhline(aim, color="0.6", linewidth=1, linestyle="--", zorder=0)
        panel.set_title(f"budget: {100 * budget:.0f}% of the oracle's latency", fontsize=9)
        panel.set_xscale("log")
        # Linear up to the aim, so that a regret of nothing has a place.
        panel.set_yscale("symlog", linthresh=aim, linscale=0.6)
        panel.set_ylim(0, _HIGHEST)
        panel.set_yticks([0, aim, 1, 10], ["0", f"{aim:g}", "1", "10"])
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
