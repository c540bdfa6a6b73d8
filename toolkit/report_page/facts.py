"""What a page tells of a profile: read from its document, and checked, so that what draws need not doubt it.

The latency table and the front must be whole. All else may be missing, or have fields that this page knows nothing of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import ProfileError
from ..latency import Latency, number
from ..profile import check_format
from ..quality import Quality
from .free_parts import seconds_of, spelled

_LONGEST_MS = 1e9
_MOST_CUTS = 10_000


@dataclass(frozen=True)
class Block:
    """A block of the latency table, timed by itself, from cut `start` to `end`. `in_subnet_ms` is predicted."""

    name: str
    kind: str
    start: int
    end: int
    ratio: float | None
    latency: Latency
    in_subnet_ms: float | None

    @property
    def option(self) -> str:
        """Its kind and what tells it from others of that kind: `pruned 50%`, `merged 3`."""
        share = f" {self.ratio:.0%}" if self.ratio is not None else ""
        return self.kind + share + (f" {self.end - self.start}" if self.end - self.start > 1 else "")


@dataclass(frozen=True)
class Point:
    """A subnet of the front. `within_ms` is half the 95% interval of what is predicted, where that is told.

    `qualities` begin with the one that was searched for.
    """

    subnet: tuple[str, ...]
    predicted_ms: float
    within_ms: float | None
    measured: Latency | None
    qualities: tuple[Quality, ...]

    @property
    def latency_ms(self) -> float:
        """The measured latency where there is one, else the predicted."""
        return self.measured.median_ms if self.measured else self.predicted_ms

    @property
    def error(self) -> float | None:
        """How much too high the prediction is, over what was measured; None where nothing was."""
        return self.predicted_ms / self.measured.median_ms - 1 if self.measured and self.measured.median_ms else None


@dataclass(frozen=True)
class Choice:
    """A budget as it was asked for, in milliseconds, the point chosen for it, and its page-in as (ms, bytes)."""

    budget: str
    budget_ms: float
    point: Point
    page_in: tuple[float, int] | None


@dataclass(frozen=True)
class Facts:
    """A profile's document, taken apart. `images` is how many pictures the quality comes from.

    `blocks` are the latency table, `spans` says whether the document tells from where to where they go. `stages` are
    names and seconds; `conditions` is what is known of the device in each stage; `words` are the other parts.
    """

    name: str
    device_name: str
    oracle: Latency
    blocks: tuple[Block, ...]
    spans: bool
    points: tuple[Point, ...]
    choices: tuple[Choice, ...]
    images: int | None
    stages: list[tuple[str, float]]
    conditions: Mapping[str, Mapping[str, Any]]
    words: Mapping[str, list[tuple[str, str]]]

    def changed(self, point: Point) -> list[str]:
        """The blocks of a point's subnet that are not original; all of them where the document does not tell."""
        return [name for name in point.subnet if name not in self._originals]

    def chosen_for(self, point: Point) -> list[str]:
        """The budgets that this point was chosen for."""
        return [choice.budget for choice in self.choices if choice.point.subnet == point.subnet]

    def share(self, block: Block) -> float | None:
        """A block's median over the sum of those of the original blocks that it replaces; None for an original."""
        if not self.spans or block.name in self._originals:
            return None
        replaced = sum(ms for start, ms in self._originals.values() if block.start <= start < block.end)
        return block.latency.median_ms / replaced if replaced else None

    def count(self) -> int:
        """How many paths lead from the first cut to the last."""
        ways = [1] + [0] * max(block.end for block in self.blocks)
        for block in sorted(self.blocks, key=lambda block: block.start):
            ways[block.end] += ways[block.start]
        return ways[-1]

    @cached_property
    def _originals(self) -> dict[str, tuple[int, float]]:
        return {block.name: (block.start, block.latency.median_ms) for block in self.blocks if block.kind == "original"}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Facts:
        """Reads a profile's document. Raises ProfileError, or what reading plain data of another form raises."""
        check_format(document, "this document")
        verify, conditions = document.get("verify") or {}, document.get("conditions") or {}
        parts = {name: document.get(name) for name in ("pack", "device", "settings", "search")}
        facts = cls(
            str(document["pack"]["name"]),
            str(document["device"].get("name", "an unnamed device")),
            _latency(document["oracle_latency"], "the oracle"),
            tuple(_block(each) for each in document["blocks"]),
            all({"start", "end", "kind"} <= each.keys() for each in document["blocks"]),
            tuple(sorted((_point(each) for each in document["front"]), key=lambda point: point.latency_ms)),
            tuple(_choice(each) for each in document.get("budgets") or ()),
            int(verify["images"]) if "images" in verify else None,
            list(seconds_of(document.get("seconds"))),
            {str(stage): dict(found) for stage, found in conditions.items()},
            {name: list(spelled(part)) for name, part in parts.items()},
        )
        known = {block.name for block in facts.blocks}
        if not facts.points or not known or not all(known.issuperset(point.subnet) for point in facts.points):
            raise ProfileError("the profile is damaged: its front is empty, or has blocks that its table has not")
        return facts


def _ms(value: object, what: str) -> float:
    milliseconds = number(value, f"the latency of {what}")
    if milliseconds > _LONGEST_MS:
        raise ProfileError(f"the profile is damaged: {what} takes {milliseconds:g} ms")
    return milliseconds


def _latency(found: Mapping[str, Any], what: str) -> Latency:
    return Latency(_ms(found["median_ms"], what), _ms(found["spread_ms"], what), int(found["repetitions"]))


def _block(found: Mapping[str, Any]) -> Block:
    name, ratio, inside = str(found["name"]), found.get("ratio"), found.get("in_subnet_ms")
    start, end = int(found.get("start", 0)), int(found.get("end", 1))
    if not 0 <= start < end <= _MOST_CUTS:
        raise ProfileError(f"the profile is damaged: block {name!r} goes from cut {start} to cut {end}")
    return Block(
        name,
        str(found.get("kind", "")),
        start,
        end,
        None if ratio is None else number(ratio, f"the ratio of block {name!r}"),
        _latency(found, f"block {name!r}"),
        None if inside is None else _ms(inside, f"block {name!r}"),
    )


def _point(found: Mapping[str, Any]) -> Point:
    within, measured = found.get("predicted_error_ms"), found.get("measured_ms")
    qualities = [found.get("quality"), *(found.get("also") or ())]
    fields = ("metric", "value", "low", "high", "n")
    return Point(
        tuple(map(str, found["subnet"])),
        _ms(found["predicted_ms"], "a subnet"),
        None if within is None else _ms(within, "a subnet"),
        None
        if measured is None
        else Latency(_ms(measured, "a subnet"), _ms(found["spread_ms"], "a subnet"), int(found["repetitions"])),
        tuple(Quality.from_json({key: each[key] for key in fields}) for each in qualities if each is not None),
    )


def _choice(found: Mapping[str, Any]) -> Choice:
    page_in = found.get("page_in")
    paged = None if page_in is None else (_ms(page_in["ms"], "paging in"), int(page_in["bytes_in"]))
    return Choice(str(found["budget"]), _ms(found["budget_ms"], "a budget"), _point(found), paged)
