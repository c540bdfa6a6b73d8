"""The subnets of the front as pictures: latency against quality, and predicted against measured."""

from __future__ import annotations

from collections.abc import Sequence

from ...graph.front import FrontPoint
from ...graph.score import SHARE, Score
from ...plurals import number_of
from ...profiling.profile import Choice
from ..milliseconds import decimals
from .drawing import (
    CIRCLE,
    CROSS,
    LETTER,
    RING,
    SHAPES,
    Plot,
    line,
    mark,
    picture,
    shortened,
    spot,
    symbol,
    whisker,
    words,
)
from .facts import Facts
from .markup import Markup, tag
from .scales import Scale, around, lanes

_HEIGHT, _LANE, _DODGE = 330, 16, 7  # pixels
_Y_TITLE = 84  # pixels
_LETTERS = 30
_FARTHEST = 1.15  # a budget so much beyond the slowest point is not drawn: the points would have no room


def metrics(points: Sequence[FrontPoint]) -> list[str]:
    """The metrics that any of the points was measured by, in their order."""
    return list(dict.fromkeys(quality.metric for point in points for quality in point.qualities))


def drawn_metrics(points: Sequence[FrontPoint]) -> list[str]:
    """Those of the metrics that are drawn: the first, and others whose scores have the same unit and range."""
    found = {quality.metric: quality.score for point in points for quality in point.qualities}
    return [metric for metric, score in found.items() if score == next(iter(found.values()))]


def score_of(points: Sequence[FrontPoint]) -> Score:
    """What the drawn scores are."""
    return next((quality.score for point in points for quality in point.qualities), SHARE)


def drawn_budgets(facts: Facts) -> list[Choice]:
    """The budgets that lie where the points are, or a little to the right."""
    return [choice for choice in facts.choices if choice.budget_ms <= facts.points[-1].latency_ms * _FARTHEST]


def in_ms(facts: Facts, *values: float) -> list[str]:
    """Latencies of whole subnets as text, with the same decimals all over the page."""
    places = decimals([*(point.latency_ms for point in facts.points), facts.reference.median_ms])
    return [f"{value:.{places}f}" for value in values]


def predicted(facts: Facts, point: FrontPoint) -> str:
    """The predicted latency in ms with its error."""
    return " ± ".join(in_ms(facts, point.predicted_ms, point.predicted_error_ms))


def describe(facts: Facts, point: FrontPoint) -> list[str]:
    """All that is known of a point of the front, in lines."""
    lines = [f"{predicted(facts, point)} ms predicted, not measured"]
    if (latency := point.measured) is not None:
        median, spread = in_ms(facts, latency.median_ms, latency.spread_ms)
        lines = [
            f"{median} ms measured, {latency.median_ms / facts.reference.median_ms:.0%} of the {facts.reference_name}",
            f"median of {number_of(latency.repetitions, 'whole run')}, IQR {spread} ms",
            f"predicted {predicted(facts, point)} ms",
        ]
    lines += [f"{quality.in_words}, {number_of(quality.n, 'picture')}" for quality in point.qualities] or [
        "quality not measured"
    ]
    if point.resident_mb is not None:
        lines.append(f"{point.resident_mb:.1f} MB resident, measured once")
    if point.energy_mj is not None:
        how = f"median of {point.energy_repetitions}, IQR {point.energy_spread_mj:.2g} mJ"
        lines.append(f"{point.energy_mj:.3g} mJ an inference above idle, {how}")
    lines.append(f"not original: {' '.join(facts.changed(point)) or 'nothing, the oracle'}")
    return lines + [f"chosen for {budget}" for budget in facts.chosen_for(point)]


def draw_front(facts: Facts, width: float, class_: str) -> Markup:
    """The front as an svg that is `width` pixels wide."""
    points, names, score = facts.points, drawn_metrics(facts.points), score_of(facts.points)
    budgets = {_label(facts, choice): choice.budget_ms for choice in drawn_budgets(facts)}
    x = Scale(*around([*(point.latency_ms for point in points), *budgets.values()]), 44, width - 12)
    halves = [LETTER * len(text) / 2 + 9 for text in budgets]  # they are bold
    centers = [min(max(x(ms), _Y_TITLE + half), width - half) for ms, half in zip(budgets.values(), halves)]
    in_lane = lanes([(center - half, center + half) for center, half in zip(centers, halves)])
    top = 26.0 + _LANE * (1 + max(in_lane, default=-1))
    bottom = top + _HEIGHT
    found = [quality for point in points for quality in point.qualities if quality.metric in names]
    ends = [score.drawn(0.0), score.drawn(1.0)]
    reach = [score.drawn(end) for quality in found for end in (quality.low, quality.high)] or ends
    low, high = around(reach, min(ends), max(ends))
    plot = Plot(x, Scale(high, low, bottom, top) if score.less_is_better else Scale(low, high, bottom, top))
    measured = all(point.measured for point in points)
    parts = [plot.axes(f"latency, ms ({'measured' if measured else 'measured or predicted'})", _axis(names, score))]
    for (text, ms), center, lane in zip(budgets.items(), centers, in_lane):
        below = 38.0 + _LANE * lane
        parts.append(line(x(ms), below - 10, x(ms), bottom, "budget"))
        parts.append(words(center, below - 13, text, "label", "middle"))
    for row, metric in enumerate(names):
        of = [(point, quality) for point in points for quality in point.qualities if quality.metric == metric]
        way = [f"{x(point.latency_ms):.1f},{plot.y(score.drawn(quality.value)):.1f}" for point, quality in of]
        parts.append(tag("polyline", points=" ".join(way), class_=f"way m{row % len(SHAPES)}"))
    parts += [_point(facts, point, names, plot) for point in points]
    title = f"The front: latency against quality of {number_of(len(points), 'subnet')}, and the budgets"
    return picture(title, width, bottom + 46, parts, class_)


def draw_predictions(facts: Facts, size: float = 400) -> Markup:
    """Predicted against measured latency as an svg, with the diagonal on which both are the same."""
    found = [(point, point.measured) for point in facts.points if point.measured]
    errors = [point.predicted_error_ms for point, _ in found]
    ends = [point.predicted_ms + side * error for (point, _), error in zip(found, errors) for side in (-1, 1)]
    low, high = around([*ends, *(latency.median_ms for _, latency in found)])
    plot = Plot(Scale(low, high, 48, size - 12), Scale(low, high, size - 46, 26))
    parts = [
        plot.axes("predicted, ms", "measured, ms"),
        line(plot.x(low), plot.y(low), plot.x(high), plot.y(high), "diagonal"),
    ]
    for (point, latency), error in zip(found, errors):
        x, y = plot.x(point.predicted_ms), plot.y(latency.median_ms)
        near, far = plot.x(max(low, point.predicted_ms - error)), plot.x(point.predicted_ms + error)
        parts.append(
            mark(
                describe(facts, point),
                *(whisker(near, y, far, y, "whisker m0") if error else []),
                symbol(CIRCLE, x, y, "dot m0"),
                spot(x, y),
            )
        )
    title = (
        f"Predicted against measured latency of {number_of(len(found), 'subnet')}; on the diagonal both are the same"
    )
    return picture(title, size, size, parts)


def _axis(names: Sequence[str], score: Score) -> str:
    what = "quality" if score.is_share or len(names) != 1 else names[0]
    return f"{what}, {score.axis}" if score.axis else what


def _label(facts: Facts, choice: Choice) -> str:
    text = choice.budget
    return shortened(text if text.endswith("ms") else f"{text} = {in_ms(facts, choice.budget_ms)[0]} ms", _LETTERS)


def _point(facts: Facts, point: FrontPoint, names: Sequence[str], plot: Plot) -> Markup:
    x, parts = plot.x(point.latency_ms), []
    hollow = "" if point.measured else " hollow"
    for at, quality in enumerate(quality for quality in point.qualities if quality.metric in names):
        row = names.index(quality.metric)
        beside = x + _DODGE * (row - (len(names) - 1) / 2)
        y, low, high = (plot.y(quality.score.drawn(each)) for each in (quality.value, quality.low, quality.high))
        style = f"m{row % len(SHAPES)}"
        parts += whisker(beside, low, beside, high, f"whisker {style}")
        parts += [symbol(RING, beside, y, "ring")] if at == 0 and facts.chosen_for(point) else []
        parts += [symbol(SHAPES[row % len(SHAPES)], beside, y, f"dot {style}{hollow}"), spot(beside, y)]
    if not parts:
        y = plot.y.start - 14
        parts = [symbol(RING, x, y, "ring")] if facts.chosen_for(point) else []
        parts += [symbol(CROSS, x, y, "cross"), spot(x, y)]
    return mark(describe(facts, point), *parts)
