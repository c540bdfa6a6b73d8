"""A profile for people: the front as a picture, the tables of the front and the budgets, and what to know of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_file
from ..devices.conditions import Conditions
from ..errors import ProfileError
from ..graph.front import FrontPoint
from ..graph.graph import Subnet
from ..graph.latency import Latency
from ..graph.score import SHARE
from ..plurals import number_of
from ..profiling.finalists import AGAIN, EDGES, FIRST
from ..profiling.profile import Profile
from .costs import cost_columns, cost_words
from .edges import beside, notes
from .milliseconds import decimals_for
from .predictions import predictions

_WORTH_SAYING = 0.03
_NAMED = 8  # blocks of a subnet; where more are not original, they are counted
_CORRECTED = 0.01  # measured latencies that were corrected by more are shown beside what was timed
WORDS = (
    "Whole: the original network in float32 as one program, as one would ship it without this toolkit; budgets are "
    "shares of what it takes. Oracle: the original network, put together from its blocks. "
    "Predicted: from the blocks' measured medians, alone and in some random subnets that were measured whole beside "
    "them; ± its 95% interval, learned from these. "
    "Measured: the median of whole runs, in turn with the oracle; IQR: how far the middle half of them lies apart. "
    "Page-in: loading the blocks of a subnet that are not loaded yet, here starting from the oracle, measured once; "
    "its MB are those of the artifacts that had to be loaded."
)


def headline(profile: Profile) -> str:
    """One paragraph: which device, how many subnets, what was measured and on how many pictures; then the warnings."""
    device, searched = profile.device, profile.document["search"]
    seconds = profile.document["seconds"]
    stages = ", ".join(f"{stage} {taken:.0f} s" for stage, taken in seconds.items())
    return (
        f"{profile.name} on {device['name']}, {device['engine']} {device['engine_version']}, "
        f"{_threads(device)}: {_reference(profile)} "
        f"{number_of(searched['subnets'], 'subnet was', 'subnets were')} evaluated by {searched['metric']}, on "
        f"{number_of(searched['images'], 'picture')} or the first of them ({searched['image_evaluations']} times a "
        f"subnet met a picture); quality is from {number_of(profile.document['verify']['images'], 'other')}, with its "
        "95% interval. "
        f"{sum(seconds.values()):.0f} s in all: {stages}."
        + _drift(profile.document.get("drift", 1.0))
        + _conditions(profile.document.get("conditions", {}))
        + "".join(f"\n\n{note}" for note in _front_notes(profile))
        + "".join(f"\n\nWarning: {warning}." for warning in [*profile.slowdowns, *profile.warnings])
    )


def _reference(profile: Profile) -> str:
    """What the whole network takes, and its oracle over it."""
    known, oracle = profile.reference, profile.oracle
    ms = decimals_for(profile)
    times = f"{ms(known.median_ms)} ms (median of {known.repetitions}, IQR {ms(known.spread_ms)} ms)"
    if profile.graph.reference == profile.graph.oracle:
        return f"the oracle takes {times}."
    return (
        f"the whole network takes {times} as one program in float32, and {oracle.median_ms / known.median_ms:.2f} "
        "times as long put together from its blocks (the oracle)."
    )


def _front_notes(profile: Profile) -> list[str]:
    latency = {tuple(point.subnet): point.latency_ms for point in profile.front.points}
    ms = decimals_for(profile)
    targets: dict[tuple[str, ...], list[str]] = {}
    for note in profile.document.get("front_notes", []):
        targets.setdefault(tuple(note["beaten_by"]), []).append(ms(note["target_ms"]))
    return [
        f"No point is near {', '.join(near)} ms (predicted): that of {ms(latency[faster])} ms (measured) was faster "
        "than the best that was found there, and is surely better, on the pictures that both saw."
        for faster, near in targets.items()
    ]


def _drift(drift: float) -> str:
    if abs(drift - 1) < _WORTH_SAYING:
        return ""
    how = f"{drift:.2f} times slower" if drift > 1 else f"{1 / drift:.2f} times faster"
    return f" The device was {how} when whole subnets were timed than before; their times are corrected for that."


def _conditions(by_stage: Mapping[str, Any]) -> str:
    said = {stage: Conditions.from_json(found).in_words() for stage, found in by_stage.items()}
    return "".join(f" During {stage}: {words}." for stage, words in said.items() if words)


def front_rows(profile: Profile) -> list[list[str]]:
    """The table of the front: predicted and measured latency, quality, blocks.

    Where the device's speed was corrected for, a column has the medians as they were timed.
    """
    timed, ms = where_corrected(profile), decimals_for(profile)
    differs = bool(timed)
    as_timed_head = ["as timed ms"] if differs else []
    heads, *columns = cost_columns(profile.front.points)
    rows = [
        [
            "predicted ms",
            "measured ms",
            *as_timed_head,
            "IQR ms",
            of_reference(profile),
            *heads,
            "quality",
            "blocks that are not original",
        ]
    ]
    for point, costs in zip(profile.front.points, columns):
        rows.append(
            [
                f"{ms(point.predicted_ms)} ± {ms(point.predicted_error_ms)}",
                ms(point.latency_ms),
                *([ms(timed.get(tuple(point.subnet), point.latency_ms))] if differs else []),
                ms(point.spread_ms or 0),
                f"{point.latency_ms / profile.reference.median_ms:.0%}",
                *costs,
                in_words(point),
                made_of(point.subnet),
            ]
        )
    return rows


def whole_rows(profile: Profile) -> list[list[str]]:
    """The table of the networks that are one program: what one could ship without blocks. Only heads where none is."""
    heads, *columns = cost_columns(profile.whole)
    ms = decimals_for(profile)
    rows = [["whole networks", "precision", "measured ms", "IQR ms", of_reference(profile), *heads, "quality"]]
    for point, costs in zip(profile.whole, columns):
        (block,) = (profile.graph[name] for name in point.subnet)
        rows.append(
            [
                block.name,
                block.precision,
                ms(point.latency_ms),
                ms(point.spread_ms or 0),
                f"{point.latency_ms / profile.reference.median_ms:.0%}",
                *costs,
                in_words(point),
            ]
        )
    return rows


def of_reference(profile: Profile) -> str:
    """The head of a column of shares of the reference's latency."""
    return "of oracle" if profile.graph.reference == profile.graph.oracle else "of whole"


def made_of(subnet: Subnet) -> str:
    """What a subnet has in place of the original blocks: their names, or where these are many, how many of which kind.

    A network that is one program is called by its name.
    """
    changed = [block for block in map(subnet.graph.__getitem__, subnet) if not block.is_original]
    if not changed:
        return "(the oracle)"
    if len(changed) <= _NAMED:
        return " ".join(block.name for block in changed)
    kinds = Counter((block.kind, block.precision) for block in changed)
    each = [f"{count} {kind}{' int8' if precision == 'int8' else ''}" for (kind, precision), count in kinds.items()]
    return f"{', '.join(each)} of {number_of(len(subnet), 'block')}"


def where_corrected(profile: Profile) -> dict[tuple[str, ...], float]:
    """`as_timed`, where the latency of any point of the front was corrected by more than 1%; else nothing."""
    timed = as_timed(profile)
    latencies = {tuple(point.subnet): point.latency_ms for point in profile.front.points}
    corrected = any(abs(timed.get(subnet, ms) / ms - 1) > _CORRECTED for subnet, ms in latencies.items())
    return timed if corrected else {}


def as_timed(profile: Profile) -> dict[tuple[str, ...], float]:
    """The median milliseconds of the subnets that were measured whole, not corrected for the device's speed."""
    found: dict[tuple[str, ...], float] = {}
    for stage in (FIRST, AGAIN, EDGES):
        if (samples := profile.document.get("samples", {}).get(stage)) is not None:
            found.setdefault(tuple(profile.graph.oracle), _median(samples["anchor_ms"]))
            found |= {tuple(names): _median(ms) for names, ms in zip(samples["chains"], samples["ms"], strict=True)}
    return found


def _median(ms: Sequence[float]) -> float:
    return Latency.from_samples(ms).median_ms


def budget_rows(profile: Profile) -> list[list[str]]:
    """The table of budgets: what was chosen for each, how long it takes, how good it is, and what paging it in took.

    The last column is what is a little over the budget, where there is something for any of them.
    """
    rows = [["budget", "limit ms", "predicted ms", "measured ms", "quality", "page-in ms", "page-in MB"]]
    near = [beside(profile.within_limits, each.budget_ms, each.allowed_ms, each.point) for each in profile.choices]
    rows[0] += ["a little over"] if any(near) else []
    ms = decimals_for(profile)
    for choice, missed in zip(profile.choices, near):
        point, page_in = choice.point, choice.page_in
        rows.append(
            [
                choice.budget,
                ms(choice.budget_ms),
                ms(point.predicted_ms),
                ms(point.latency_ms),
                in_words(point),
                f"{page_in.ms:.1f}",
                f"{page_in.bytes_in / 1e6:.2f}",
                *([missed or ""] if any(near) else []),
            ]
        )
    return rows


def footnotes(profile: Profile) -> list[str]:
    """What to know of the tables: of budgets with something at their edge, of the predictions, and of the words."""
    found = predictions(profile.front)
    points = [*profile.front.points, *profile.whole]
    words = " ".join([WORDS, *pooled_words(profile.front.points), *score_words(points), *cost_words(points)])
    return [*notes(profile), *([found.in_words()] if found else []), words]


def pooled_words(points: Sequence[FrontPoint]) -> list[str]:
    """What to know where points of a front have one quality, which is the mean of theirs (see `verify.rising`)."""
    values = [point.qualities[0].value for point in points if point.qualities]
    if len(set(values)) == len(values):
        return []
    return [
        "Points of the front with one and the same quality: the slower ones did no better than the faster, and all "
        "have their mean, which need not be what a whole network of the same answers has."
    ]


def score_words(points: Sequence[FrontPoint]) -> list[str]:
    """What to know of the scores that are no shares: their ranges, and which way is better."""
    scores = {quality.metric: quality.score for point in points for quality in point.qualities}
    return [
        f"Of {metric}, {'less' if score.less_is_better else 'more'} is better: it lies between "
        f"{min(score.worst, score.best):g} and {max(score.worst, score.best):g}{f' {score.unit}'.rstrip()}."
        for metric, score in scores.items()
        if not score.is_share
    ]


def markdown(rows: list[list[str]]) -> str:
    """A table as Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def _threads(device: Mapping[str, Any]) -> str:
    return number_of(device["threads"], "thread")


def in_words(point: FrontPoint) -> str:
    """The qualities of a point with their intervals, each in its unit."""
    return "; ".join(quality.in_words for quality in point.qualities)


def report(profile: Profile, picture: str | None = None) -> str:
    """The whole as Markdown, with the front's picture where there is a file of it."""
    return "\n\n".join(
        [
            f"# {profile.name}: the best subnets of this device",
            headline(profile),
            *([f"![The front: latency against quality]({picture})"] if picture else []),
            "## Budgets",
            *([markdown(budget_rows(profile))] if profile.choices else ["No budget was asked for."]),
            "## Front",
            markdown(front_rows(profile)),
            *(["## Whole networks", markdown(whole_rows(profile))] if profile.whole else []),
            *footnotes(profile),
        ]
    )


def write_markdown(profile: Profile, path: str | Path) -> None:
    """Writes the report to the file `path`, without a picture. Raises ProfileError when it cannot be written."""
    try:
        write_file(Path(path), f"{report(profile)}\n".encode())
    except OSError as error:
        raise ProfileError(f"the report cannot be written to {path}: {error.strerror or error}") from error


def write_report(profile: Profile, folder: str | Path) -> Path:
    """Writes `front.svg`, `front.png` and `report.md` into `folder` and returns the path of the latter.

    Raises ProfileError when matplotlib is not installed or the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw_front(profile, folder / "front.svg")
        draw_front(profile, folder / "front.png")
        path = folder / "report.md"
        path.write_text(f"{report(profile, 'front.svg')}\n", encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"the report cannot be written to {folder}: {error.strerror or error}") from error
    return path


def draw_front(profile: Profile, path: Path) -> None:
    """Draws measured latency against quality, with intervals and budgets, to an .svg or .png file."""
    try:
        import matplotlib
    except ImportError as error:
        raise ProfileError("drawing the front needs matplotlib: pip install 'adaptivenet[report]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = [point for point in profile.front.points if point.quality is not None]
    score = next((point.quality.score for point in points if point.quality is not None), SHARE)
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    for budget in profile.choices:
        axes.axvline(budget.budget_ms, color="0.75", linewidth=1, linestyle="--", zorder=0)
        axes.annotate(
            budget.budget,
            (budget.budget_ms, 0.99),
            xycoords=("data", "axes fraction"),
            rotation=90,
            color="0.45",
            ha="right",
            va="top",
            fontsize=8,
        )
    # Metrics with other units than the one that was searched for have no place on its axis.
    names = [quality.metric for quality in points[0].qualities if quality.score == score]
    for name, color in zip(names, ("#1f6feb", "#d2691e", "#2e8b57")):
        known = [(point, quality) for point in points for quality in point.qualities if quality.metric == name]
        x, found = [point.latency_ms for point, _ in known], [quality for _, quality in known]
        y = [score.drawn(quality.value) for quality in found]
        low = [abs(score.drawn(quality.value) - score.drawn(quality.low)) for quality in found]
        high = [abs(score.drawn(quality.high) - score.drawn(quality.value)) for quality in found]
        low, high = (high, low) if score.less_is_better else (low, high)
        axes.errorbar(x, y, yerr=[low, high], fmt="o-", color=color, markersize=5, capsize=3, linewidth=1.4, label=name)
    chosen = {choice.point.subnet for choice in profile.choices}
    marked = [point for point in points if point.subnet in chosen]
    axes.scatter(
        [point.latency_ms for point in marked],
        [score.drawn(point.quality.value) for point in marked if point.quality is not None],
        s=130,
        facecolors="none",
        edgecolors="black",
        linewidths=1.2,
        zorder=3,
        label="chosen for a budget",
    )
    beside = [point for point in profile.whole if point.quality is not None]
    slowest = max((point.latency_ms for point in beside), default=0.0)
    for point in beside:  # beside the curve, which rises, and within the figure
        is_last = point.latency_ms == slowest
        axes.annotate(
            point.subnet[0],
            (point.latency_ms, score.drawn(point.quality.value if point.quality else 0.0)),
            xytext=(-4, -13) if is_last else (8, -8),
            textcoords="offset points",
            ha="right" if is_last else "left",
            fontsize=8,
        )
    if beside:
        axes.scatter(
            [point.latency_ms for point in beside],
            [score.drawn(point.quality.value) for point in beside if point.quality is not None],
            marker="D",
            s=42,
            color="black",
            zorder=4,
            label="a whole network as one program",
        )
    device = profile.device
    axes.set_xlabel(f"latency, ms (measured; {device['engine']}, {_threads(device)})")
    pictures = f"{profile.document['verify']['images']} unseen pictures"
    unit = f", {score.axis}" if score.axis else ""
    axes.set_ylabel(f"quality, % of {pictures}" if score.is_share else f"{' and '.join(names)}{unit}, on {pictures}")
    if score.less_is_better:
        axes.invert_yaxis()
    axes.set_title(f"{profile.name} on {device['name']}", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)
