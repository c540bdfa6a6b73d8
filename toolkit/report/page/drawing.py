"""What the figures share: the frame of a picture, axes with their grid, and marks that can be pointed at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .markup import Markup, tag
from .scales import Scale, ticks

LETTER = 7.0  # a letter of the figures' text is about so wide, in pixels
CIRCLE = "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z"
SHAPES = (CIRCLE, "M-4.5,-4.5h9v9h-9Z", "M0,-6L5.5,4.5H-5.5Z", "M0,-6.5L6.5,0L0,6.5L-6.5,0Z")  # one a metric
RING = "M-10,0a10,10 0 1,0 20,0a10,10 0 1,0 -20,0Z"
CROSS = "M-5,-5L5,5M-5,5L5,-5"
_SPOT = 24.0  # pixels: a fingertip
_PER_X, _PER_Y = 48, 45  # pixels from one tick to the next, at least


@dataclass(frozen=True)
class Plot:
    """An area with two axes in a picture."""

    x: Scale
    y: Scale

    def axes(self, x_title: str, y_title: str) -> Markup:
        """The grid, the ticks and the titles."""
        x, y = self.x, self.y
        parts: list[Markup] = []
        for value, text in ticks(x.low, x.high, max(2, int((x.stop - x.start) / _PER_X))):
            parts.append(line(x(value), y.start, x(value), y.stop, "grid"))
            parts.append(words(x(value), y.start + 18, text, "tick", "middle"))
        for value, text in ticks(min(y.low, y.high), max(y.low, y.high), max(2, int((y.start - y.stop) / _PER_Y))):
            parts.append(line(x.start, y(value), x.stop, y(value), "grid"))
            parts.append(words(x.start - 7, y(value) + 4, text, "tick", "end"))
        parts.append(words((x.start + x.stop) / 2, y.start + 38, x_title, "axis", "middle"))
        parts.append(words(2, 13, y_title, "axis"))
        return tag("g", *parts)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def whisker(x1: float, y1: float, x2: float, y2: float, class_: str) -> list[Markup]:
    """A level or upright line with an end at either end."""
    along, up = (0, 3) if y1 == y2 else (3, 0)
    ends = [line(x - along, y - up, x + along, y + up, class_) for x, y in ((x1, y1), (x2, y2))]
    return [line(x1, y1, x2, y2, class_), *ends]


def words(x: float, y: float, text: str, class_: str, anchor: str | None = None) -> Markup:
    """Text that stands on (x, y)."""
    return tag("text", text, x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def shortened(text: str, letters: int) -> str:
    """`text`, or its beginning where it has more letters."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def symbol(path: str, x: float, y: float, class_: str) -> Markup:
    """One of the shapes, its middle at (x, y)."""
    return tag("path", d=path, transform=f"translate({x:.1f} {y:.1f})", class_=class_)


def spot(x: float, y: float, width: float = _SPOT, height: float = _SPOT) -> Markup:
    """The area around (x, y), not to be seen, that a mark can be pointed at in."""
    return tag("rect", class_="spot", x=x - width / 2, y=y - height / 2, width=float(width), height=float(height))


def mark(lines: Iterable[str], *parts: Markup, class_: str = "") -> Markup:
    """A part of a figure that tells something of itself when it is pointed at; its first line is the heading."""
    return tag("g", tag("title", "\n".join(lines)), *parts, class_=f"mark {class_}".rstrip(), tabindex=0, role="img")


def picture(title: str, width: float, height: float, parts: Sequence[Markup], class_: str = "") -> Markup:
    """An svg of this size; `title` says what it shows."""
    return tag(
        "svg",
        *parts,
        class_=f"chart {class_}".rstrip(),
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=round(width),
        height=round(height),
        role="group",
        aria_label=title,
    )


def key(entries: Iterable[tuple[Markup, str]]) -> Markup:
    """What the marks of a figure mean: swatches with words."""
    return tag("ul", *(tag("li", swatch, text) for swatch, text in entries), class_="key")


def swatch(drawing: Markup, height: int, class_: str | None = None) -> Markup:
    """A drawing of its own, 22 pixels wide."""
    return tag("svg", drawing, width=22, height=height, aria_hidden="true", class_=class_)
