"""What pages are made of: scales that keep order and ends, and markup in which any text stays text."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from adaptivenet.toolkit.report.milliseconds import decimals
from adaptivenet.toolkit.report.page.block_figure import shade, shades
from adaptivenet.toolkit.report.page.free_parts import spelled
from adaptivenet.toolkit.report.page.markup import data_script, joined, tag
from adaptivenet.toolkit.report.page.scales import Scale, around, lanes, ticks
from hypothesis import given
from hypothesis import strategies as st
from pages import HOSTILE, Page

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=5,
)
MILLISECONDS = st.floats(0, 1e9, allow_subnormal=False)


# Scales


@given(st.lists(MILLISECONDS, min_size=1), st.integers(1, 12))
def test_ticks_are_round_even_and_within(values: list[float], at_most: int) -> None:
    low, high = around(values)
    assert low <= min(values) <= max(values) <= high
    assert low < high
    found = ticks(low, high, at_most)
    assert len(found) <= at_most + 1
    assert at_most < 2 or found
    edge = 1e-6 * (high - low)
    assert all(low - edge <= value <= high + edge for value, _ in found)
    texts = [text for _, text in found]
    assert len(set(texts)) == len(texts), "two ticks that read the same"
    if len(found) > 1:
        step = found[1][0] - found[0][0]
        assert f"{step:.0e}"[0] in "125"
        for (value, text), (following, _) in pairwise(found):
            assert math.isclose(following - value, step, rel_tol=1e-3)
            assert math.isclose(float(text), value, abs_tol=1e-3 * step)


def test_ticks_of_known_ranges() -> None:
    assert [text for _, text in ticks(0, 100, 5)] == ["0", "20", "40", "60", "80", "100"]
    assert [text for _, text in ticks(0.12, 0.31, 4)] == ["0.15", "0.20", "0.25", "0.30"]
    assert [text for _, text in ticks(0, 18, 18)] == [str(cut) for cut in range(19)]


@given(MILLISECONDS, MILLISECONDS, st.floats(0, 1))
def test_scales_keep_order_and_ends(one: float, other: float, between: float) -> None:
    low, high = around([one, other])
    scale = Scale(low, high, 10, 300)
    assert scale(low) == 10
    assert scale(high) == pytest.approx(300)
    assert 10 - 1e-6 <= scale(low + between * (high - low)) <= 300 + 1e-6
    assert Scale(low, high, 300, 10)(low) == 300


def test_an_axis_of_shares_ends_at_nothing_and_at_all() -> None:
    assert around([0.0, 100.0], most=100) == (0.0, 100.0)
    assert around([0.0]) == (0.0, pytest.approx(0, abs=1e-8))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)).map(lambda pair: (pair[0], sum(pair)))))
def test_lanes_hold_no_overlap_and_are_as_few_as_can_be(spans: list[tuple[int, int]]) -> None:
    found = lanes(spans)
    for at, (begin, end) in enumerate(spans):
        for other, (begins, ends) in enumerate(spans[:at]):
            assert found[at] != found[other] or end <= begins or ends <= begin
    deepest = max((sum(begin <= at < end for begin, end in spans) for at in range(36)), default=0)
    assert len(set(found)) == deepest


@pytest.mark.parametrize(("values", "expected"), [([], 2), ([12.0], 2), ([0.0, 0.5], 2), ([0.034, 7], 3), ([1e-9], 6)])
def test_decimals_show_the_smallest_number(values: list[float], expected: int) -> None:
    assert decimals(values) == expected


@given(st.floats(0, 100))
def test_every_share_has_one_of_the_shades(share: float) -> None:
    assert shade(share) in dict(shades())


def test_shades() -> None:
    assert [shade(share) for share in (0.0, 0.29, 0.3, 0.899, 0.9, 1.0, 1.1, 1.5, 9.0)] == [
        *("h0", "h0", "h1", "h3", "h4", "h4", "h5", "h6", "h6")
    ]
    assert dict(shades())["h1"] == "30% to 50%"


# Markup


@given(st.text())
def test_any_text_is_text(text: str) -> None:
    parsed = Page(tag("p", text, title=text))
    assert [name for name, _ in parsed.tags] == ["p"]
    if text.isprintable():
        assert "".join(parsed.text) == text
        assert parsed.tags[0][1]["title"] == text


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", tag("b", "<"), class_="a", data_head=None, x=1.50) == '<p class="a" x="1.5"><b>&lt;</b></p>'
    assert joined("a", tag("i"), "&") == "a<i></i>&amp;"


@given(JSON)
def test_json_in_a_script_stays_there(value: Any) -> None:
    text = data_script({"value": value, "hostile": HOSTILE})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"value": value, "hostile": HOSTILE}


# Parts that may be anything


def test_unknown_parts_are_spelled_whatever_they_hold() -> None:
    part = {
        "seconds": 1.2345,
        "memory_bytes": 2e6,
        "race": {"won": [1, 2], "all": list(range(99))},
        "on": True,
        "of": [],
    }
    assert dict(spelled(part)) == {
        "seconds": "1.234 s",
        "memory bytes": "2e+06",
        "race, won": "1, 2",
        "race, all": "99 entries",
        "on": "yes",
        "of": "none",
    }
    assert list(spelled(None)) == []
    assert list(spelled(["anything"])) == []
