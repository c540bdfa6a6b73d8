"""The page about a profile: its scales, what it escapes, what it loads (nothing), and the command that writes it."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.cli.profile import main as profile
from adaptivenet.toolkit.errors import ProfileError
from adaptivenet.toolkit.pack import BlockPack
from adaptivenet.toolkit.report_page import page, write_report
from adaptivenet.toolkit.report_page.block_figure import shade, shades
from adaptivenet.toolkit.report_page.facts import Facts
from adaptivenet.toolkit.report_page.free_parts import seconds_of, spelled
from adaptivenet.toolkit.report_page.markup import data_script, joined, tag
from adaptivenet.toolkit.report_page.scales import Scale, around, decimals, lanes, ticks
from commands import QUICK, call, error_of
from hypothesis import given
from hypothesis import strategies as st
from packs import GRAPH

TOOLKIT = Path(__file__).resolve().parent.parent / "toolkit"
HOSTILE = "</script><img src=x onerror=alert(1)>\"' --> <!-- ${title} $title &amp; \u2028\u202e"
VOID = {"meta"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=5,
)
MILLISECONDS = st.floats(0, 1e9, allow_subnormal=False)


def latency(ms: float) -> dict[str, Any]:
    return {"median_ms": ms, "spread_ms": ms / 10, "repetitions": 21}


def quality(metric: str, value: float) -> dict[str, Any]:
    return {"metric": metric, "value": value, "low": value / 2, "high": (1 + value) / 2, "n": 40}


def point(names: list[str], ms: float, value: float) -> dict[str, Any]:
    return {
        "subnet": names,
        "predicted_ms": 0.9 * ms,
        "predicted_error_ms": 0.2 * ms,
        "measured_ms": ms,
        "spread_ms": 0.25,
        "repetitions": 30,
        "quality": quality("top1", value),
        "also": [quality("agreement", min(1.0, value + 0.1))],
    }


@pytest.fixture
def document() -> dict[str, Any]:
    """A profile's document with every part that there is."""
    alone = {"b0": 4.0, "b1": 2.0, "b2": 1.0, "b0-m2": 1.5, "b0-p50": 3.2, "b1-p50": 2.4}
    front = [point(["b0-m2", "b2"], 2.75, 0.5), point(["b0", "b1", "b2"], 7.5, 0.9)]
    conditions = {
        "threads": 2,
        "cores": [4, 5, 7],
        "governors": ["schedutil", None],
        "khz_before": [1_800_000, 2_400_000, None],
        "khz_after": [],
        "celsius_before": {"cpu": 41.4, "off": -40},
        "celsius_after": {"cpu": 47.6},
    }
    return {
        "format": "adaptivenet-profile",
        "version": 1,
        "pack": {"name": "tiny", "digest": "0123abcd"},
        "device": {"address": "R58N", "name": "A phone", "engine": "executorch", "threads": 2},
        "conditions": {"measure": conditions},
        "settings": {"budgets": ["50%"], "metric": None, "memory_bytes": 268435456, "seed": 0},
        "oracle_latency_ms": 7.5,
        "oracle_latency": latency(7.5),
        "blocks": [
            {"name": b.name, "start": b.start, "end": b.end, "kind": b.kind, "ratio": b.ratio}
            | latency(alone[b.name])
            | {"in_subnet_ms": 1.1 * alone[b.name]}
            for b in GRAPH.blocks
        ],
        "search": {"strategy": "surrogate", "images": 12, "seconds": 1.25},
        "verify": {"images": 40},
        "front": front,
        "budgets": [
            {"budget": "50%", "budget_ms": 3.75, **front[0], "page_in": {"ms": 12.5, "bytes_in": 1_500_000}},
            {"budget": "900ms", "budget_ms": 900.0, **front[1], "page_in": {"ms": 0.5, "bytes_in": 0}},
        ],
        "seconds": {"measure": 3.5, "search": 1.5},
        "samples": {"measure": {"anchor_ms": [7.4, 7.5]}},
    }


class Page(HTMLParser):
    """The tags of a page, their attributes and the text outside and inside of scripts; every tag must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        (self.scripts if inside == "script" else self.text).append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def assert_harmless(html: str) -> Page:
    """Nothing is loaded from anywhere, and no script is there but the package's own and the data."""
    parsed = Page(html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html.replace(json_of(parsed), ""))
    for name, attributes in parsed.tags:
        assert name not in {"img", "iframe", "link", "object", "embed", "base", "form", "a", "image", "use"}, name
        assert not [key for key in attributes if key in {"src", "href", "srcset", "style"} or key.startswith("on")]
    assert [attributes.get("type") for name, attributes in parsed.tags if name == "script"] == [
        "application/json",
        None,
    ]
    assert parsed.scripts[1] == (TOOLKIT / "report_page/page.js").read_text("utf-8")
    return parsed


def json_of(parsed: Page) -> str:
    return parsed.scripts[0]


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


def test_seconds_may_be_nested_or_absent() -> None:
    assert list(seconds_of({"measure": 1, "search": {"ask": 0.5, "note": "slow", "done": True}})) == [
        ("measure", 1.0),
        ("search, ask", 0.5),
    ]
    assert list(seconds_of(None)) == []
    assert list(seconds_of(7.5)) == [("all", 7.5)]


# Pages


def test_a_page_says_what_is_in_the_profile(document: dict[str, Any]) -> None:
    parsed = assert_harmless(page(document))
    words = parsed.words()
    for said in (
        "tiny on A phone",
        "7.50 ms",
        "subnets to choose from 5",
        "median of 30 whole runs",
        "top1 50.0% (25.0%–75.0%), 40 pictures",
        "Too far to the right to be drawn: 900ms.",
        "b0-m2: 1.50 ms measured alone",
        "median of 21 runs, IQR 0.15 ms",
        "25% of the original blocks in its place",  # 1.5 of 4 + 2 ms
        "2 of 2 lie within the error that the prediction states",
        "so the top1 that was searched for rises",
        "Subnets measured whole: 2. The prediction is off by 10.0% in the median",
        "4-5,7",
        "1.80–2.40 → unknown",
        "41 → 48",
        "268 MB",
    ):
        assert said in words, said


def test_the_embedded_json_is_the_document(document: dict[str, Any]) -> None:
    parsed = Page(page(document))
    assert json.loads(json_of(parsed)) == document


def test_every_mark_of_every_figure_tells_what_it_is(document: dict[str, Any]) -> None:
    html = page(document)
    assert html.count('class="mark') == html.count('role="img"><title>')
    # The front twice (for wide and narrow screens), the blocks twice, predicted against measured once.
    assert html.count('class="mark') == 2 * 2 + 2 * len(GRAPH.blocks) + 2


def test_bars_span_the_cuts_of_their_blocks(document: dict[str, Any]) -> None:
    html = page(document)
    (drawn,) = re.findall(r"<title>b0-m2: .*?</title>(<rect[^>]*>)", html, re.DOTALL)[:1]
    (one,) = re.findall(r"<title>b2: .*?</title>(<rect[^>]*>)", html, re.DOTALL)[:1]
    merged, single = ({key: float(v) for key, v in re.findall(r'(x|width)="([\d.]+)"', rect)} for rect in (drawn, one))
    assert merged["width"] == pytest.approx(2 * single["width"] + 1, abs=0.1)
    assert merged["x"] + merged["width"] + 1 == pytest.approx(single["x"], abs=0.1)


def everywhere(value: Any) -> Any:
    """The value with every string, and every key that is not read by name, made hostile; consistently."""
    if isinstance(value, dict):
        return {key: everywhere(each) for key, each in value.items()}
    if isinstance(value, list):
        return [everywhere(each) for each in value]
    return value + HOSTILE if isinstance(value, str) else value


def test_hostile_names_stay_text(document: dict[str, Any]) -> None:
    hostile = everywhere(document) | {"format": document["format"]}
    hostile["settings"][HOSTILE] = {HOSTILE: HOSTILE}
    hostile["conditions"][HOSTILE] = hostile["conditions"]["measure"]
    hostile["seconds"][HOSTILE] = 1.0
    hostile[HOSTILE] = HOSTILE
    for block in hostile["blocks"]:
        block["kind"] = HOSTILE if block["kind"] != "original" + HOSTILE else "original"
    html = page(hostile)
    parsed = assert_harmless(html)
    assert json.loads(json_of(parsed)) == hostile
    assert "onerror=alert(1)>" in parsed.words()
    assert "\u202e" not in html, "nothing turns the direction of the text"


def absent(*path: str | int) -> Callable[[Any], None]:
    def edit(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    edit.__name__ = "-".join(map(str, path))
    return edit


def no_top1(document: Any) -> None:
    for each in (*document["front"], *document["budgets"]):
        each["quality"], each["also"] = each["also"][0], []


def no_quality(document: Any) -> None:
    for each in (*document["front"], *document["budgets"]):
        each["quality"], each["also"] = None, []


def only_predicted(document: Any) -> None:
    for each in (*document["front"], *document["budgets"]):
        each.update(measured_ms=None, spread_ms=None, repetitions=0)


def nothing_takes_time(document: Any) -> None:
    for each in (*document["blocks"], document["oracle_latency"]):
        each.update(median_ms=0.0, spread_ms=0.0)
    for each in (*document["front"], *document["budgets"]):
        each.update(measured_ms=0, predicted_ms=0, predicted_error_ms=0, spread_ms=0)


def no_spans(document: Any) -> None:
    for block in document["blocks"]:
        for key in ("start", "end", "kind", "ratio", "in_subnet_ms"):
            del block[key]


def more_fields(document: Any) -> None:
    for each in (document, document["front"][0], document["blocks"][0], document["front"][0]["quality"]):
        each["new"] = {"deep": [1, [2, None]]}
    document["search"] = ["something", "else"]
    document["seconds"] = {"search": {"rounds": [1, 2, 3]}, "measure": 2}


@pytest.mark.parametrize(
    "edit",
    [
        *(absent(part) for part in ("conditions", "settings", "search", "verify", "budgets", "seconds", "samples")),
        absent("device", "name"),
        absent("front", 0, "predicted_error_ms"),
        absent("front", 0, "also"),
        absent("budgets", 0, "page_in"),
        *(absent("conditions", "measure", part) for part in ("cores", "governors", "khz_before", "celsius_after")),
        no_top1,
        no_quality,
        only_predicted,
        nothing_takes_time,
        no_spans,
        more_fields,
    ],
    ids=lambda edit: edit.__name__,
)
def test_what_may_be_missing_may_be_missing(edit: Callable[[Any], None], document: dict[str, Any]) -> None:
    edit(document)
    parsed = assert_harmless(page(document))
    assert json.loads(json_of(parsed)) == document
    assert "nan" not in parsed.words().lower().split()
    assert "None" not in parsed.words().split()


def test_a_front_that_falls_is_not_said_to_rise(document: dict[str, Any]) -> None:
    document["front"][0]["quality"] = quality("top1", 0.95)
    assert "rises" not in Page(page(document)).words()


def test_what_is_not_known_is_said(document: dict[str, Any]) -> None:
    for edit in (only_predicted, no_spans, absent("conditions"), absent("seconds")):
        edit(document)
    words = Page(page(document)).words()
    assert "predicted, not measured" in words
    assert "No subnet of this profile was measured whole." in words
    assert "does not say between which cuts its blocks lie" in words
    assert "does not say at which clocks and temperatures" in words
    assert "does not say how long it took" in words


def test_one_point_and_one_block_make_a_page(document: dict[str, Any]) -> None:
    only = {"name": "b", "start": 0, "end": 1, "kind": "original", "ratio": None, **latency(3.0)}
    document.update(blocks=[only], front=[point(["b"], 3.0, 1.0)], budgets=[])
    assert_harmless(page(document))


DAMAGE: list[tuple[str, Callable[[Any], Any]]] = [
    ("it does not say", lambda d: d.update(format="x")),
    ("has version 99", lambda d: d.update(version=99)),
    ("KeyError: 'front'", lambda d: d.pop("front")),
    ("its front is empty", lambda d: d.update(front=[])),
    ("has blocks that its table has not", lambda d: d["blocks"].pop(0)),
    ("must be finite", lambda d: d["oracle_latency"].update(median_ms=math.nan)),
    ("must be a number", lambda d: d["blocks"][0].update(median_ms="1")),
    ("takes 1e\\+12 ms", lambda d: d["front"][0].update(measured_ms=1e12)),
    ("goes from cut 3 to cut 2", lambda d: d["blocks"][0].update(start=3, end=2)),
    ("goes from cut 0 to cut 1000000", lambda d: d["blocks"][0].update(end=1000000)),
    ("low <= value", lambda d: d["front"][0]["quality"].update(value=2)),
    ("the profile is damaged", lambda d: d["conditions"].update(measure="hot")),
    ("the profile is damaged", lambda d: d["conditions"]["measure"].update(khz_before=["fast"])),
    ("the profile is damaged", lambda d: d.update(device=None)),
    ("not JSON compliant", lambda d: d["samples"].update(x=math.inf)),
]


@pytest.mark.parametrize(("message", "damage"), DAMAGE, ids=[message for message, _ in DAMAGE])
def test_damaged_documents_are_refused(
    message: str, damage: Callable[[Any], Any], document: dict[str, Any], tmp_path: Path
) -> None:
    damage(document)
    with pytest.raises(ProfileError, match=message):
        write_report(document, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_shares_and_paths_are_those_of_the_graph(document: dict[str, Any]) -> None:
    facts = Facts.of(document)
    assert facts.count() == GRAPH.count() == 5
    by_name = {block.name: block for block in facts.blocks}
    assert {name: facts.share(block) for name, block in by_name.items() if not name.isalnum()} == pytest.approx(
        {"b0-m2": 1.5 / 6, "b0-p50": 0.8, "b1-p50": 1.2}
    )
    assert facts.share(by_name["b0"]) is None
    assert [facts.changed(each) for each in facts.points] == [["b0-m2"], []]
    assert [facts.chosen_for(each) for each in facts.points] == [["50%"], ["900ms"]]


def test_writing_the_same_twice_gives_the_same(document: dict[str, Any], tmp_path: Path) -> None:
    before = copy.deepcopy(document)
    for name in ("one", "two"):
        write_report(document, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert document == before


def test_pages_are_written_from_a_zip_file(document: dict[str, Any], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "toolkit.zip", "w") as archive:
        archive.writestr("adaptivenet/__init__.py", "")
        for path in TOOLKIT.rglob("*"):
            if path.suffix in {".py", ".json", ".css", ".js", ".html"}:
                archive.write(path, Path("adaptivenet/toolkit") / path.relative_to(TOOLKIT))
    (tmp_path / "profile.json").write_text(json.dumps(document))
    program = (
        "import sys; sys.path.insert(0, 'toolkit.zip')\n"
        "from adaptivenet.toolkit import report_page\n"
        "from adaptivenet.toolkit.profile import read_document\n"
        "assert '.zip' in report_page.__file__\n"
        "report_page.write_report(read_document('profile.json'), 'report.html')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert (tmp_path / "report.html").read_text("utf-8") == page(document)


# The command


def test_profile_writes_a_page(tiny_pack: BlockPack, labelled: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "profile.json", tmp_path / "report.html"
    given_data = ("--device", "local:onnxruntime", "--data", labelled, *QUICK)
    result = call(profile, tiny_pack.path, *given_data, "--out", out, "--report", report)
    assert result.exit_code == 0, result.output
    assert f"report written to {report}" in result.stderr
    parsed = assert_harmless(report.read_text("utf-8"))
    assert json.loads(json_of(parsed)) == json.loads(out.read_text())
    assert str(tmp_path) not in report.read_text("utf-8")

    again = tmp_path / "again.html"
    result = call(profile, out, "--report", again)
    assert (result.exit_code, result.stdout) == (0, "")
    assert again.read_bytes() == report.read_bytes()


def test_a_page_that_cannot_be_written_costs_no_profile(tiny_pack: BlockPack, labelled: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "profile.json", tmp_path / ("long" * 63)  # no room for the temporary name
    given_data = ("--device", "local:onnxruntime", "--data", labelled, *QUICK)
    result = call(profile, tiny_pack.path, *given_data, "--out", out, "--report", report)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: the report cannot be written to {report}: File name too")
    assert "measured ms" in result.stdout
    BlockPack.open(tiny_pack.path)
    assert json.loads(out.read_text())["pack"]["digest"] == tiny_pack.digest
    assert [path.name for path in tmp_path.iterdir()] == ["profile.json"]


def test_a_page_that_has_no_place_is_refused_before_anything_is_measured(tiny_pack: BlockPack, tmp_path: Path) -> None:
    for report in (tmp_path, tmp_path / "nowhere" / "report.html"):
        said = error_of(call(profile, tiny_pack.path, "--data", tmp_path, "--report", report))
        assert said == f"error: the report cannot be written to {report}: give a file in a folder that exists"


def test_a_page_never_takes_the_place_of_its_profile(document: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    out.write_text(json.dumps(document))
    for arguments in ((out, "--report", out), (tmp_path, "--data", tmp_path, "--out", out, "--report", out)):
        result = call(profile, *arguments)
        assert result.exit_code == 2
        assert "would overwrite" in result.stderr
    assert json.loads(out.read_text()) == document


def test_a_file_that_is_no_profile_makes_no_page(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    said = error_of(call(profile, tmp_path / "other.json", "--report", tmp_path / "report.html"))
    assert "other.json is no profile: it does not say 'adaptivenet-profile'" in said
