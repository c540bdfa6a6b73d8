"""The page's sections: each figure with its tables, and in words what in it is measured and what predicted."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise

from ...plurals import number_of
from ..costs import cost_words
from ..edges import notes
from ..predictions import predictions
from ..text import pooled_words, score_words
from . import tables
from .block_figure import draw_blocks, shades
from .drawing import CROSS, RING, SHAPES, key, swatch, symbol
from .facts import Facts
from .markup import Markup, joined, tag
from .point_figures import draw_front, draw_predictions, drawn_budgets, drawn_metrics, in_ms, metrics, score_of

_WIDE, _NARROW = 928, 343  # pixels; the style sheet shows the one that fits
_UNSTEADY = 0.5  # an IQR of more than this share of the median is worth a warning


def all_sections(facts: Facts) -> Markup:
    """Everything below the page's heading."""
    return joined(
        _section("The front", *_front(facts)),
        _section("Latency of every block", *_blocks(facts)),
        _section("Predicted against measured", *_predictions(facts)),
        _section("Where the time went", *_time(facts)),
        _section("The device", *_device(facts)),
        _section("How this was made", *_made(facts)),
    )


def introduction(facts: Facts) -> Markup:
    """The numbers to read first."""
    oracle, count = facts.oracle, facts.profile.graph.count()
    images = facts.profile.document["verify"]["images"]
    known = facts.reference
    latency, spread = in_ms(facts, known.median_ms, known.spread_ms)
    what = "the oracle"
    if facts.reference_name == "whole":
        what = f"the whole network as one program (from its blocks {in_ms(facts, oracle.median_ms)[0]} ms)"
    numbers = [
        (f"{latency} ms", f"{what}, measured: median of {known.repetitions}, IQR {spread} ms"),
        (str(len(facts.blocks)), "blocks, measured one by one"),
        (f"{count:,}" if count < 10**9 else f"{Decimal(count):.1e}", "subnets to choose from"),
        (str(len(facts.points)), "subnets on the front"),
        (str(images), "pictures for their quality, which the search never saw"),
    ]
    cards = [tag("div", tag("dt", what), tag("dd", number)) for number, what in numbers]
    told = [*facts.profile.slowdowns, *facts.profile.warnings]
    warnings = [_note(f"Warning: {warning}.", class_="warning") for warning in told]
    return joined(tag("dl", *cards, class_="cards"), *warnings)


def _section(heading: str, *parts: Markup) -> Markup:
    name = heading.lower().replace(" ", "-")
    return tag("section", tag("h2", heading, id=name), *parts, aria_labelledby=name)


def _figure(caption: list[str], *drawings: Markup, class_: str | None = None) -> Markup:
    return tag("figure", *drawings, tag("figcaption", " ".join(caption)), class_=class_)


def _note(*sentences: str, class_: str = "note") -> Markup:
    return tag("p", " ".join(sentences), class_=class_)


def _front(facts: Facts) -> list[Markup]:
    drawn = drawn_budgets(facts)
    beyond = dict.fromkeys(choice.budget for choice in facts.choices if choice not in drawn)
    runs = _range((point.measured.repetitions for point in facts.points if point.measured), "whole run")
    images = _range((quality.n for point in facts.points for quality in point.qualities), "picture")
    caption = [
        "Each mark is a subnet, a path through the blocks; further left is faster, further up is better.",
        f"Latency is measured: the median of {runs}, in turn with the oracle, the original network.",
    ]
    if names := metrics(facts.points):
        caption.append(f"Quality is measured on {images} that the search never saw, with 95% intervals.")
    shown, score = drawn_metrics(facts.points), score_of(facts.points)
    if len(shown) > 1:
        caption.append("The metrics of one subnet stand side by side.")
    if score.less_is_better:
        caption.append(f"Of {' and '.join(shown)}, less is better: the axis is upside down.")
    if others := [name for name in names if name not in shown]:
        caption.append(f"Not drawn, for it has another unit, but in the table: {', '.join(others)}.")
    if drawn:
        caption.append("Dashed lines are the budgets; a ring marks the slowest subnet within one, which is chosen.")
    if beyond:
        caption.append(f"Too far to the right to be drawn: {', '.join(beyond)}.")
    if not all(point.measured for point in facts.points):
        caption.append("Hollow marks were not measured and stand at their predicted latency.")
    # As profiles are made now. In one made before, the front may fall.
    searched_by = [point.qualities[0].value for point in facts.points if point.qualities]
    rising = [
        "A slower subnet that did no better than a faster one is left out, and the faster one has the mean of both:",
        f"so the {' and '.join(names[:1])} that was searched for {'falls' if score.less_is_better else 'rises'}.",
    ]
    if len(searched_by) < 2 or any(slower <= faster for faster, slower in pairwise(searched_by)):
        rising = []
    figure = _figure(caption, _front_key(facts), draw_front(facts, _WIDE, "wide"), draw_front(facts, _NARROW, "narrow"))
    chosen = [
        tag("h3", "What was chosen for each budget"),
        tables.budget_table(facts),
        _note(
            "The choice goes by the measured latency. Page-in: loading the blocks of a subnet that are not loaded yet,",
            "measured once, starting from the oracle; its megabytes are those of the blocks that had to be loaded.",
        ),
        *(_note(sentence) for sentence in notes(facts.profile)),
    ]
    return [
        figure,
        *(chosen if facts.choices else []),
        tag("h3", "The points of the front"),
        tables.front_table(facts),
        *([tag("h3", "Whole networks as one program"), tables.whole_table(facts)] if facts.profile.whole else []),
        _note(
            "IQR: how far the middle half of the runs lies apart. As timed: not corrected for the device's speed; left",
            "out where that changed nothing by more than 1%. Error: of the predicted latency.",
            *pooled_words(facts.points),
            *score_words([*facts.points, *facts.profile.whole]),
            *cost_words([*facts.points, *facts.profile.whole]),
            *rising,
        ),
    ]


def _front_key(facts: Facts) -> Markup:
    names = drawn_metrics(facts.points)
    entries = [(f"dot m{row % len(SHAPES)}", SHAPES[row % len(SHAPES)], name) for row, name in enumerate(names)]
    if facts.choices:
        entries.append(("ring", RING, "chosen for a budget"))
    if not all(point.qualities for point in facts.points):
        entries.append(("cross", CROSS, "quality not measured"))
    return key((swatch(symbol(path, 11, 11, class_), 22), text) for class_, path, text in entries)


def _blocks(facts: Facts) -> list[Markup]:
    found = [block.latency for block in facts.blocks]
    caption = [
        "A bar goes from the cut where its block starts to the cut where it ends; a cut is the one tensor between",
        "two blocks, and a subnet takes one way from the first to the last. Measured, every block by itself:",
        f"the median of {_range((latency.repetitions for latency in found), 'run')}. Colours compare it with the sum",
        "of the original blocks in its place: blue is faster, orange slower.",
    ]
    square = tag("rect", width=22, height=14, class_="cell")
    parts = [
        _figure(
            caption,
            key((swatch(square, 14, class_), text) for class_, text in shades()),
            tag("div", draw_blocks(facts, _WIDE, ""), class_="scroll wide"),
            tag("div", draw_blocks(facts, _NARROW, ""), class_="scroll narrow"),
        )
    ]
    if unsteady := sum(latency.spread_ms > _UNSTEADY * latency.median_ms for latency in found):
        parts.append(
            _note(
                f"{unsteady} of the {len(found)} blocks were timed unsteadily: their IQR is over {_UNSTEADY:.0%} of",
                "their median. The device was busy or changed its clock; small differences between blocks mean little.",
                class_="warning",
            )
        )
    return [
        *parts,
        tag("h3", f"The {len(facts.blocks)} blocks"),
        tables.block_table(facts),
        _note(
            "Median, IQR (how far the middle half of the runs lies apart) and the share of what a block replaces are",
            "measured. In a subnet: predicted, the median corrected by what subnets measured whole took.",
        ),
    ]


def _predictions(facts: Facts) -> list[Markup]:
    if not (found := predictions(facts.profile.front)):
        return [_note("No subnet of this profile was measured whole.")]
    runs = _range((point.repetitions for point in facts.points if point.measured), "whole run")
    caption = [
        "To the right, predicted: the sum of what the subnet's blocks take. Upwards, measured: the median of",
        f"{runs}. On the line both are the same. The bars are the predictions' stated 95% intervals.",
    ]
    parts = [tag("p", found.in_words())]
    if 2 * found.within < found.measured:
        parts.append(
            _note(
                "Most lie outside: the device may not have been as fast when the subnets were timed as when the blocks",
                "were. Go by what was measured.",
                class_="warning",
            )
        )
    return [*parts, _figure(caption, draw_predictions(facts), class_="beside")]


def _time(facts: Facts) -> list[Markup]:
    return [tables.stage_table(facts), _note("Wall time of each stage, measured once.")]


def _device(facts: Facts) -> list[Markup]:
    parts = [tables.pairs(facts.words("device"))]
    if not facts.conditions:
        return [*parts, _note("This profile does not say at which clocks and temperatures the device ran.")]
    return [
        *parts,
        tag("h3", "Its state before → after each stage"),
        tables.condition_table(facts),
        _note(
            "As the device itself told it, before and after each of its calls. Clocks: the slowest and the fastest",
            "core's; seen, at most: of all these looks.",
        ),
    ]


def _made(facts: Facts) -> list[Markup]:
    headings = {"The pack": "pack", "Settings": "settings", "The search": "search"}
    parts = [joined(tag("h3", heading), tables.pairs(facts.words(part))) for heading, part in headings.items()]
    button = tag("button", "Download the profile (json)", id="download", type="button", hidden="")
    place = tag("code", '<script type="application/json" id="profile">')
    whole = tag("p", "This file holds the whole profile, as --out writes it, in its ", place, ".", class_="note")
    return [*(part for part in parts if "<dd>" in part), tag("h3", "The data"), button, whole]


def _range(numbers: Iterable[int], one: str) -> str:
    found = sorted(set(numbers)) or [0]
    return number_of(found[0], one) if len(found) == 1 else f"{found[0]} to {number_of(found[-1], one)}"
