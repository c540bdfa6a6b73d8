"""The page's tables: everything that the figures show, to be read without pointing at it."""

from __future__ import annotations

from collections.abc import Sequence

from ...devices.conditions import hottest, spell_cores
from ...graph.front import FrontPoint
from ..costs import cost_columns
from ..edges import beside
from ..milliseconds import decimals
from ..text import where_corrected
from .facts import Facts
from .markup import Markup, joined, tag
from .point_figures import in_ms, predicted

Cell = object


def table(rows: Sequence[Sequence[Cell]], numbers: Sequence[int] = (), class_: str = "") -> Markup:
    """Rows as a table, the first being the heads; the columns in `numbers` are aligned to the right.

    Columns in which nothing stands are left out. A `tall` table scrolls on a screen; of a `stack`, each row becomes a
    list on a narrow one; a `short` one is printed on one page.
    """
    kept = [column for column, head in enumerate(rows[0]) if not head or any(row[column] != "" for row in rows[1:])]
    classes = ["n" if column in numbers else None for column in kept]
    heads, *body = ([row[column] for column in kept] for row in rows)
    head = tag("tr", *(tag("th", cell, scope="col", class_=style) for cell, style in zip(heads, classes)))
    lines = [
        tag("tr", *(tag("td", tag("span", cell), class_=style, data_head=name) for name, cell, style in cells))
        for cells in (zip(heads, row, classes) for row in body)
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *lines)), class_=f"scroll {class_}".rstrip())


def pairs(rows: Sequence[tuple[str, str]]) -> Markup:
    """Names and what they are."""
    return tag("dl", *(joined(tag("dt", name), tag("dd", value)) for name, value in rows))


def budget_table(facts: Facts) -> Markup:
    """What was chosen for each budget."""
    heads = ["limit ms", "measured ms", "predicted ms", "quality (95% interval)", "page-in ms", "page-in MB"]
    heads += ["a little over"]  # left out where there is nothing for any of them
    rows: list[list[Cell]] = [["budget", *heads]]
    for choice in facts.choices:
        point, page_in = choice.point, choice.page_in
        rows.append(
            [
                choice.budget,
                *in_ms(facts, choice.budget_ms),
                _measured(facts, point)[0],
                predicted(facts, point),
                _qualities(point),
                f"{page_in.ms:.1f}",
                f"{page_in.bytes_in / 1e6:.2f}",
                beside(facts.profile.within_limits, choice.budget_ms, choice.allowed_ms, point) or "",
            ]
        )
    return table(rows, (1, 2, 3, 5, 6), "stack")


def front_table(facts: Facts) -> Markup:
    """The points of the front."""
    heads = [
        "measured ms",
        "IQR ms",
        "as timed ms",
        f"of {facts.reference_name}",
        "predicted ms",
        "error",
    ]
    cost_heads, *costs = cost_columns(facts.points)
    rows: list[list[Cell]] = [[*heads, *cost_heads, "quality (95% interval)", "not original", "chosen for"]]
    timed = where_corrected(facts.profile)
    for point, cost in zip(facts.points, costs):
        measured = point.measured
        share = f"{measured.median_ms / facts.reference.median_ms:.0%}" if measured else ""
        error = f"{point.predicted_ms / measured.median_ms - 1:+.1%}".replace("-", "−") if measured else ""
        rows.append(
            [
                *_measured(facts, point),
                *(in_ms(facts, timed[tuple(point.subnet)]) if tuple(point.subnet) in timed else [""]),
                share,
                predicted(facts, point),
                error,
                *cost,
                _qualities(point),
                joined(*(joined(tag("code", name), " ") for name in facts.changed(point))) or "none: the oracle",
                ", ".join(facts.chosen_for(point)),
            ]
        )
    return table(rows, range(len(rows[0]) - 3), "stack")


def whole_table(facts: Facts) -> Markup:
    """The networks that are one program."""
    cost_heads, *costs = cost_columns(facts.profile.whole)
    heads = ["network", "precision", "measured ms", "IQR ms", "of whole", *cost_heads, "quality (95% interval)"]
    rows: list[list[Cell]] = [[*heads]]
    for point, cost in zip(facts.profile.whole, costs):
        block = facts.profile.graph[point.subnet[0]]
        share = f"{point.latency_ms / facts.reference.median_ms:.0%}"
        name = tag("code", block.name)
        rows.append([name, block.precision, *_measured(facts, point), share, *cost, _qualities(point)])
    return table(rows, range(2, len(heads) - 1), "stack")


def block_table(facts: Facts) -> Markup:
    """The latency table."""
    heads: list[Cell] = ["block", "median ms", "IQR ms", "in a subnet ms", "of what it replaces", "cuts", "kind"]
    rows = [heads]
    places = decimals(block.latency.median_ms for block in facts.blocks)
    for timed in facts.blocks:
        block = timed.block
        numbers = (timed.latency.median_ms, timed.latency.spread_ms, timed.in_subnet_ms)
        share = facts.share(block)
        rows.append(
            [
                tag("code", block.name),
                *(f"{ms:.{places}f}" for ms in numbers),
                "" if share is None else f"{share:.0%}",
                f"{block.start} to {block.end}",
                timed.option,
            ]
        )
    return table(rows, (1, 2, 3, 4), "tall")


def stage_table(facts: Facts) -> Markup:
    """How long each stage took, as text and as a bar."""
    total = sum(seconds for _, seconds in facts.stages)
    longest = max(seconds for _, seconds in facts.stages) or 1.0
    rows: list[list[Cell]] = [["stage", "seconds", "share", ""]]
    for stage, seconds in facts.stages:
        bar = tag("rect", width=f"{100 * seconds / longest:.1f}%", height=10, class_="bar")
        share = f"{seconds / total:.0%}" if total else ""
        rows.append([stage, f"{seconds:.1f}", share, tag("svg", bar, width="100%", height=10, aria_hidden="true")])
    return table([*rows, ["all", f"{total:.1f}", "", ""]], (1, 2), "short")


def condition_table(facts: Facts) -> Markup:
    """The device's state in each stage, as far as it is known."""
    rows: list[list[Cell]] = [
        [
            *("while", "cores", "governor", "clocks GHz", "seen GHz", "hottest sensor °C", "at most °C"),
            "of the time other programs had the processors, not counted",
        ]
    ]
    for stage, found in facts.conditions.items():
        heat = [hottest(celsius) for celsius in (found.celsius_before, found.celsius_after)]
        most = hottest(found.celsius_highest)
        rows.append(
            [
                stage,
                spell_cores(found.cores or ()) or "any",
                ", ".join(sorted({name for name in found.governors if name})),
                _both(*(_clocks(khz) for khz in (found.khz_before, found.khz_after))),
                _clocks(found.clocks_seen() or ()),
                _both(*("" if celsius is None else f"{celsius:.0f}" for celsius in heat)),
                "" if most is None else f"{most:.0f}",
                f"{found.waited:.0%}",
            ]
        )
    return table(rows, class_="stack")


def _clocks(khz: Sequence[int | None]) -> str:
    """The slowest and the fastest clock of the cores that ran."""
    ghz = sorted(each / 1e6 for each in khz if each)
    return "–".join(dict.fromkeys(f"{clock:.2f}" for clock in (*ghz[:1], *ghz[-1:])))


def _both(before: str, after: str) -> str:
    return f"{before or 'unknown'} → {after or 'unknown'}" if before or after else ""


def _measured(facts: Facts, point: FrontPoint) -> list[str]:
    if point.measured is None:
        return ["not measured", ""]
    return in_ms(facts, point.measured.median_ms, point.measured.spread_ms)


def _qualities(point: FrontPoint) -> Markup:
    return joined(*(tag("div", quality.in_words) for quality in point.qualities)) or joined("not measured")
