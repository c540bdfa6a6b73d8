"""The latency table as a heat map over the cuts: every block a bar from start to end, coloured by what it saves."""

from __future__ import annotations

from itertools import pairwise

from ...plurals import number_of
from ..milliseconds import decimals
from .drawing import LETTER, mark, picture, shortened, spot, words
from .facts import Facts, TimedBlock
from .markup import Markup, tag
from .scales import lanes, ticks

_BAR, _TITLE, _NARROWEST, _EDGE = 22.0, 18.0, 10.0, 8.0  # pixels
_LETTERS = 48
# A block's share of the latency that it replaces is under the first edge, between the first and the second, …
_EDGES = (0.3, 0.5, 0.7, 0.9, 1.1, 1.5)


def shade(share: float) -> str:
    """The class in the style sheet for a share of the latency that is replaced."""
    return f"h{sum(share >= edge for edge in _EDGES)}"


def shades() -> list[tuple[str, str]]:
    """All of these classes, each with its range in words."""
    inner = [f"{low:.0%} to {high:.0%}" for low, high in pairwise(_EDGES)]
    texts = [f"under {_EDGES[0]:.0%}", *inner, f"{_EDGES[-1]:.0%} or more"]
    return [("original", "original"), *((f"h{at}", text) for at, text in enumerate(texts))]


def draw_blocks(facts: Facts, width: float, class_: str) -> Markup:
    """The blocks as an svg at least `width` pixels wide, wider where there are many cuts."""
    last = facts.profile.graph.end
    cell = max(_NARROWEST, (width - 2 * _EDGE) / last)
    places = decimals(block.latency.median_ms for block in facts.blocks)
    parts: list[Markup] = []
    top = 0.0
    for option, blocks in _rows(facts).items():
        parts.append(words(_EDGE, top + 13, shortened(option, _LETTERS), "axis"))
        top += _TITLE
        in_lane = lanes([(each.block.start, each.block.end) for each in blocks])
        height = _BAR * (1 + max(in_lane))
        parts.append(tag("rect", x=_EDGE, y=top, width=cell * last, height=height - 2, class_="row"))
        for timed, lane in zip(blocks, in_lane):
            block = timed.block
            share, across = facts.share(block), cell * (block.end - block.start) - 1
            text = "–" if share is None else f"{share:.0%}"
            text = f"{timed.latency.median_ms:.{places}f}" if block.is_original else text
            x, y = _EDGE + cell * (block.start + block.end) / 2, top + _BAR * lane + _BAR / 2 - 1
            size = {"x": x - across / 2, "y": y - _BAR / 2 + 1, "width": across, "height": _BAR - 2}
            drawn = [tag("rect", class_="cell", rx=2, **size)]
            if LETTER * len(text) <= across:
                drawn.append(words(x, y + 4, text, "number", "middle"))
            class_of = "original" if share is None else shade(share)
            parts.append(mark(describe(facts, timed), *drawn, spot(x, y, across, _BAR - 2), class_=class_of))
        top += height + 4
    for cut, text in ticks(0, last, max(1, min(last, int(last * cell / 34)))):
        parts.append(words(_EDGE + cell * cut, top + 12, text, "tick", "middle"))
    parts.append(words(_EDGE + cell * last / 2, top + 28, "cut", "axis", "middle"))
    many = number_of(len(facts.blocks), "block")
    title = f"{many}, each from its start cut to its end cut, by the latency of what it replaces"
    return picture(title, cell * last + 2 * _EDGE, top + 34, parts, class_)


def describe(facts: Facts, timed: TimedBlock) -> list[str]:
    """All that is known of a block, in lines."""
    block, latency = timed.block, timed.latency
    places = decimals([latency.median_ms])
    lines = [
        f"{block.name}: {latency.median_ms:.{places}f} ms measured alone",
        f"median of {number_of(latency.repetitions, 'run')}, IQR {latency.spread_ms:.{places}f} ms",
        f"predicted {timed.in_subnet_ms:.{places}f} ms in a subnet",
        f"{timed.option}, cut {block.start} to {block.end}",
    ]
    if (share := facts.share(block)) is not None:
        lines.append(f"{share:.0%} of the original blocks in its place")
    return lines


def _rows(facts: Facts) -> dict[str, list[TimedBlock]]:
    def order(timed: TimedBlock) -> tuple[object, ...]:
        block = timed.block
        return not block.is_original, block.end - block.start, block.kind, block.ratio or 0.0, block.start

    rows: dict[str, list[TimedBlock]] = {}
    for timed in sorted(facts.blocks, key=order):
        unit = ", ms" if timed.block.is_original else ", % of the latency that it replaces"
        rows.setdefault(timed.option + unit, []).append(timed)
    return rows
