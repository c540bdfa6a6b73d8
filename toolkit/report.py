"""A profile for people: the front as a picture, and the tables of the front and of the budgets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .devices.conditions import Conditions
from .errors import ProfileError
from .profile import Profile
from .quality import Quality

_WORTH_SAYING = 0.03


def headline(profile: Profile) -> str:
    """One paragraph: which device, how many subnets, what was measured and on how many pictures."""
    device, searched = profile.device, profile.document["search"]
    seconds = profile.document["seconds"]
    stages = ", ".join(f"{stage} {taken:.0f} s" for stage, taken in seconds.items())
    return (
        f"{profile.document['pack']['name']} on {device['name']}, {device['engine']} {device['engine_version']}, "
        f"{_threads(device)}: the oracle takes {profile.oracle.median_ms:.2f} ms "
        f"(median of {profile.oracle.repetitions}, IQR {profile.oracle.spread_ms:.2f} ms). "
        f"{searched['subnets']} subnets were evaluated by {searched['metric']}, on {searched['images']} pictures or "
        f"the first of them ({searched['image_evaluations']} times a subnet met a picture); "
        f"quality is from {profile.document['verify']['images']} others, with its 95% interval. "
        f"{sum(seconds.values()):.0f} s in all: {stages}."
        + _drift(profile.document.get("drift", 1.0))
        + _conditions(profile.document.get("conditions", {}))
    )


def _drift(drift: float) -> str:
    if abs(drift - 1) < _WORTH_SAYING:
        return ""
    how = f"{drift:.2f} times slower" if drift > 1 else f"{1 / drift:.2f} times faster"
    return f" The device was {how} when whole subnets were timed than before; their times are corrected for that."


def _conditions(by_stage: Mapping[str, Any]) -> str:
    stages = [f"{stage}: {Conditions.from_json(found).in_words()}" for stage, found in by_stage.items()]
    return "".join(f" During {stage}." for stage in stages)


def front_rows(profile: Profile) -> list[list[str]]:
    """The table of the front: predicted and measured latency, quality, blocks."""
    rows = [["predicted ms", "measured ms", "IQR ms", "of oracle", "quality", "blocks that are not original"]]
    for point in profile.front.points:
        changed = [name for name in point.subnet if point.subnet.graph[name].kind != "original"]
        rows.append(
            [
                f"{point.predicted_ms:.2f} ± {point.predicted_error_ms:.2f}",
                f"{point.latency_ms:.2f}",
                f"{point.spread_ms or 0:.2f}",
                f"{point.latency_ms / profile.oracle.median_ms:.0%}",
                _quality(point.quality, *point.also),
                " ".join(changed) or "(the oracle)",
            ]
        )
    return rows


def budget_rows(profile: Profile) -> list[list[str]]:
    """The table of budgets: what was chosen for each, how long it takes, how good it is, and what paging it in took."""
    rows = [["budget", "limit ms", "predicted ms", "measured ms", "quality", "page-in ms", "page-in MB"]]
    for choice in profile.choices:
        point, page_in = choice.point, choice.page_in
        rows.append(
            [
                choice.budget,
                f"{choice.budget_ms:.2f}",
                f"{point.predicted_ms:.2f}",
                f"{point.latency_ms:.2f}",
                _quality(point.quality, *point.also),
                f"{page_in.ms:.1f}",
                f"{page_in.bytes_in / 1e6:.2f}",
            ]
        )
    return rows


def markdown(rows: list[list[str]]) -> str:
    """A table as Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def _threads(device: Mapping[str, Any]) -> str:
    return "1 thread" if device["threads"] == 1 else f"{device['threads']} threads"


def _quality(*qualities: Quality | None) -> str:
    return "; ".join(f"{q.metric} {q.value:.1%} ({q.low:.1%}–{q.high:.1%})" for q in qualities if q is not None)


def write_report(profile: Profile, folder: str | Path) -> Path:
    """Writes `front.svg`, `front.png` and `report.md` into `folder` and returns the path of the latter.

    Raises ProfileError when matplotlib is not installed or the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw_front(profile, folder / "front.svg")
        draw_front(profile, folder / "front.png")
        report = folder / "report.md"
        report.write_text(
            f"# {profile.document['pack']['name']}: the best subnets of this device\n\n{headline(profile)}\n\n"
            f"![The front: latency against quality](front.svg)\n\n"
            f"## Budgets\n\n{markdown(budget_rows(profile))}\n\n"
            "*Predicted*: from the blocks' measured medians, alone and in some random subnets that were measured whole "
            "beside them; ± its 95% interval, learned from these. *Measured*: whole runs, in turn with the "
            "oracle. Paging in starts from the oracle; its bytes are the artifacts of the blocks that had to be "
            "loaded; measured once.\n\n"
            f"## Front\n\n{markdown(front_rows(profile))}\n",
            encoding="utf-8",
        )
    except OSError as error:
        raise ProfileError(f"the report cannot be written to {folder}: {error.strerror or error}") from error
    return report


def draw_front(profile: Profile, path: Path) -> None:
    """Draws measured latency against quality, with intervals and budgets, to an .svg or .png file."""
    try:
        import matplotlib
    except ImportError as error:
        raise ProfileError("drawing the front needs matplotlib: pip install 'adaptivenet[report]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = [point for point in profile.front.points if point.quality is not None]
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    x = [point.latency_ms for point in points]
    for budget in profile.choices:
        axes.axvline(budget.budget_ms, color="0.75", linewidth=1, linestyle="--", zorder=0)
        axes.annotate(
            budget.budget,
            (budget.budget_ms, 0.01),
            xycoords=("data", "axes fraction"),
            rotation=90,
            color="0.45",
            ha="right",
            va="bottom",
            fontsize=8,
        )
    names = [quality.metric for quality in (points[0].quality, *points[0].also) if quality is not None]
    for row, (name, color) in enumerate(zip(names, ("#1f6feb", "#d2691e", "#2e8b57"))):
        found: list[Any] = [(point.quality, *point.also)[row] for point in points]
        y = [100 * quality.value for quality in found]
        low = [100 * (quality.value - quality.low) for quality in found]
        high = [100 * (quality.high - quality.value) for quality in found]
        axes.errorbar(x, y, yerr=[low, high], fmt="o-", color=color, markersize=5, capsize=3, linewidth=1.4, label=name)
    chosen = {choice.point.subnet for choice in profile.choices}
    marked = [point for point in points if point.subnet in chosen]
    axes.scatter(
        [point.latency_ms for point in marked],
        [100 * point.quality.value for point in marked if point.quality is not None],
        s=130,
        facecolors="none",
        edgecolors="black",
        linewidths=1.2,
        zorder=3,
        label="chosen for a budget",
    )
    device = profile.device
    axes.set_xlabel(f"latency, ms (measured; {device['engine']}, {_threads(device)})")
    axes.set_ylabel(f"quality, % of {profile.document['verify']['images']} unseen pictures")
    axes.set_title(f"{profile.document['pack']['name']} on {device['name']}", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", fontsize=8)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)
