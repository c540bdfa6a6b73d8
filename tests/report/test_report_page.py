"""The page about a profile: what it says, what it escapes, what it loads (nothing), and the command that writes it."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.cli.profile import main as profile
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.report import text as texts
from adaptivenet.toolkit.report.page import page, write_report
from adaptivenet.toolkit.report.page.facts import Facts
from adaptivenet.toolkit.report.text import footnotes, front_rows, headline, whole_rows
from commands import QUICK, call, error_of
from documents import latency, point, quality, whole_document
from packs import GRAPH
from pages import HOSTILE, Page

TOOLKIT = Path(__file__).resolve().parents[2] / "toolkit"


def page_of(document: dict[str, Any]) -> str:
    return page(Profile.from_json(document))


@pytest.fixture
def document() -> dict[str, Any]:
    return whole_document()


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
    assert parsed.scripts[1] == (TOOLKIT / "report/page/page.js").read_text("utf-8")
    return parsed


def json_of(parsed: Page) -> str:
    return parsed.scripts[0]


# Pages


def test_a_page_says_what_is_in_the_profile(document: dict[str, Any]) -> None:
    parsed = assert_harmless(page_of(document))
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
        "1.80–2.40 → unknown 0.80–2.90 41 → 48 52",
        "268 MB",
    ):
        assert said in words, said


def test_the_embedded_json_is_the_document(document: dict[str, Any]) -> None:
    parsed = Page(page_of(document))
    assert json.loads(json_of(parsed)) == document


def test_every_mark_of_every_figure_tells_what_it_is(document: dict[str, Any]) -> None:
    html = page_of(document)
    assert html.count('class="mark') == html.count('role="img"><title>')
    # The front twice (for wide and narrow screens), the blocks twice, predicted against measured once.
    assert html.count('class="mark') == 2 * 2 + 2 * len(GRAPH.blocks) + 2


def test_bars_span_the_cuts_of_their_blocks(document: dict[str, Any]) -> None:
    html = page_of(document)
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
    hostile = everywhere(document) | {key: document[key] for key in ("format", "blocks", "front")}
    hostile["pack"]["digest"] = document["pack"]["digest"]
    # The names of blocks and what they are made from are checked when a profile is read.
    for each, before in zip(hostile["budgets"], document["budgets"], strict=True):
        each.update({key: before[key] for key in document["front"][0]})
    for each in (*hostile["front"], *hostile["budgets"]):
        each["quality"] = {**each["quality"], "metric": "top1" + HOSTILE}
    hostile["settings"][HOSTILE] = {HOSTILE: HOSTILE}
    hostile["conditions"][HOSTILE] = hostile["conditions"]["measure"]
    hostile["seconds"][HOSTILE] = 1.0
    hostile[HOSTILE] = HOSTILE
    html = page_of(hostile)
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


def more_fields(document: Any) -> None:
    for each in (document, document["search"], document["settings"], document["blocks"][0], document["verify"]):
        each["new"] = {"deep": [1, [2, None]]}


@pytest.mark.parametrize(
    "edit",
    [
        *(absent(part) for part in ("conditions", "samples")),
        absent("device", "evaluation_threads"),
        no_top1,
        no_quality,
        only_predicted,
        more_fields,
    ],
    ids=lambda edit: edit.__name__,
)
def test_what_may_be_missing_may_be_missing(edit: Callable[[Any], None], document: dict[str, Any]) -> None:
    edit(document)
    parsed = assert_harmless(page_of(document))
    assert json.loads(json_of(parsed)) == document
    assert "nan" not in parsed.words().lower().split()
    assert "None" not in parsed.words().split()


def test_what_is_a_little_over_a_budget_stands_beside_it(document: dict[str, Any]) -> None:
    document["budgets"][0].update(budget="7.46ms", budget_ms=7.46)
    found = Profile.from_json(document)
    words = Page(page(found)).words()
    assert "a little over" in words
    said = (
        "7.46ms: a subnet of 7.50 ms ± 0.08 ms is 0.5% over, no more than its timing can tell, and has top1 90.0%, "
        "the chosen one top1 50.0%: --tolerance 0.6% takes it."
    )
    assert said in words
    assert texts.budget_rows(found)[1][-1] == "0.5% over: top1 90.0%"
    assert texts.budget_rows(found)[2][-1] == ""
    assert said in texts.report(found)
    document["budgets"][0].update(budget_ms=7.0)
    assert "a little over" not in Page(page_of(document)).words()
    for budget_ms, tolerance, expected in (
        (2.7, 0.02, "2.7ms: the chosen subnet is 1.9% over the limit of 2.70 ms, which the tolerance of 2.0% allows."),
        (2.8, 0.0, "2.8ms: the chosen subnet's 2.75 ms ± 0.08 ms (95% interval) reach over the limit of 2.80 ms."),
        (
            2.7,
            0.0,
            "2.7ms: the fastest subnet takes 2.75 ms ± 0.08 ms, 1.9% over the limit of 2.70 ms: its timing",
        ),
    ):
        document["budgets"][0].update(budget=f"{budget_ms}ms", budget_ms=budget_ms, tolerance=tolerance)
        assert expected in texts.report(Profile.from_json(document))


def test_a_front_that_falls_is_not_said_to_rise(document: dict[str, Any]) -> None:
    for each in (document["front"][0], document["budgets"][0]):
        each["quality"] = quality("top1", 0.95)
    assert "rises" not in Page(page_of(document)).words()


def test_points_that_share_a_quality_are_said_to_have_their_mean(document: dict[str, Any]) -> None:
    said = "the slower ones did no better"
    assert said not in texts.report(Profile.from_json(document))
    for each in (*document["front"], *document["budgets"]):
        each["quality"] = quality("top1", 0.75)
    assert said in texts.report(Profile.from_json(document))
    assert said in Page(page_of(document)).words()


def test_what_is_not_known_is_said(document: dict[str, Any]) -> None:
    for edit in (only_predicted, absent("conditions")):
        edit(document)
    words = Page(page_of(document)).words()
    assert "predicted, not measured" in words
    assert "No subnet of this profile was measured whole." in words
    assert "does not say at which clocks and temperatures" in words


def test_one_point_and_one_block_make_a_page(document: dict[str, Any]) -> None:
    only = {"name": "b", "start": 0, "end": 1, "kind": "original", "ratio": None, "in_subnet_ms": 3.0}
    only |= {"precision": "float32", **latency(3.0)}
    document.update(blocks=[only], front=[point(["b"], 3.0, 1.0)], budgets=[])
    assert_harmless(page_of(document))


def test_whole_networks_stand_beside_the_front(document: dict[str, Any]) -> None:
    for name, precision, ms in (("whole", "float32", 6.25), ("whole-int8", "int8", 3.5)):
        known = {"name": name, "start": 0, "end": 3, "kind": "whole", "ratio": None, "in_subnet_ms": ms}
        document["blocks"].append({**known, "precision": precision, **latency(ms)})
    fast = point(["whole-int8"], 3.5, 0.8)
    document["whole"] = [point(["whole"], 6.25, 0.9), fast]
    document["reference"] = {"subnet": ["whole"], **latency(6.25)}
    document["front"].append(fast)
    document["budgets"][0] = {**document["budgets"][0], **fast}
    beaten = {"subnet": ["p0", "o1", "o2"], "beaten_by": ["whole-int8"]}
    document["front_notes"] = [{"target_ms": 4.5, **beaten}, {"target_ms": 5.25, **beaten}]
    made = Profile.from_json(document)
    assert headline(made).count("No point is near") == 1
    assert "No point is near 4.50, 5.25 ms (predicted): that of 3.50 ms (measured)" in headline(made)
    assert [each.subnet for each in made.whole] == [("whole",), ("whole-int8",)]
    assert "the whole network takes 6.25 ms" in headline(made)
    assert "1.20 times as long put together from its blocks" in headline(made)
    assert whole_rows(made)[2][:5] == ["whole-int8", "int8", "3.50", "0.25", "56%"]
    assert front_rows(made)[0][3] == "of whole"
    assert front_rows(made)[2][-1] == "whole-int8"
    assert any("better than the network 'whole-int8' as one program" in note for note in footnotes(made))
    text = " ".join(Page(page(made)).text)
    assert "Whole networks as one program" in text
    assert "from its blocks 7.50 ms" in text
    assert "of whole" in text


def test_shares_and_paths_are_those_of_the_graph(document: dict[str, Any]) -> None:
    facts = Facts(Profile.from_json(document))
    assert facts.profile.graph.count() == GRAPH.count() == 5
    by_name = {each.block.name: each.block for each in facts.blocks}
    assert {name: facts.share(block) for name, block in by_name.items() if not name.isalnum()} == pytest.approx(
        {"b0-m2": 1.5 / 6, "b0-p50": 0.8, "b1-p50": 1.2}
    )
    assert facts.share(by_name["b0"]) is None
    assert [facts.changed(each) for each in facts.points] == [["b0-m2"], []]
    assert [facts.chosen_for(each) for each in facts.points] == [["50%"], ["900ms"]]


def test_writing_the_same_twice_gives_the_same(document: dict[str, Any], tmp_path: Path) -> None:
    before = copy.deepcopy(document)
    for name in ("one", "two"):
        write_report(Profile.from_json(document), tmp_path / name)
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
        "from adaptivenet.toolkit.report import page\n"
        "from adaptivenet.toolkit.profiling.profile import Profile\n"
        "assert '.zip' in page.__file__\n"
        "page.write_report(Profile.load('profile.json'), 'report.html')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert (tmp_path / "report.html").read_text("utf-8") == page_of(document)


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
    out, report = tmp_path / "profile.json", "/dev/full"
    given_data = ("--device", "local:onnxruntime", "--data", labelled, *QUICK)
    result = call(profile, tiny_pack.path, *given_data, "--out", out, "--report", report)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: the report cannot be written to /dev/full: No space")
    assert "measured ms" in result.stdout
    BlockPack.open(tiny_pack.path)
    assert json.loads(out.read_text())["pack"]["digest"] == tiny_pack.digest
    assert [path.name for path in tmp_path.iterdir()] == ["profile.json"]


def test_a_page_that_has_no_place_is_refused_before_anything_is_measured(tiny_pack: BlockPack, tmp_path: Path) -> None:
    for report in (tmp_path, tmp_path / "nowhere" / "report.html"):
        said = error_of(call(profile, tiny_pack.path, "--data", tmp_path, "--report", report))
        assert said.startswith(f"error: the report cannot be written to {report}: give a file in a folder that exists")


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
    assert "other.json is not a profile: it does not say 'adaptivenet-profile'" in said


def test_memory_and_energy_have_columns_where_they_were_measured(document: dict[str, Any]) -> None:
    heads = ("resident MB", "energy mJ", "energy IQR mJ")
    for told in (page_of(document), texts.report(Profile.from_json(document))):
        assert not any(head in told for head in heads)
        assert "not measured" not in told
    document["front"][0]["resident_mb"] = 41.26
    document["front"][1] |= {"energy_mj": 12.34, "energy_spread_mj": 0.456, "energy_repetitions": 7}
    document["budgets"] = []
    made = Profile.from_json(document)
    rows = front_rows(made)
    first = rows[0].index("resident MB")
    assert tuple(rows[0][first : first + 3]) == heads
    assert [row[first : first + 3] for row in rows[1:3]] == [
        ["41.3", "not measured", "not measured"],
        ["not measured", "12.3", "0.46"],
    ]
    told = page(made)
    for text in (
        *heads,
        "41.3 MB resident, measured once",
        "12.3 mJ an inference above idle, median of 7, IQR 0.46 mJ",
    ):
        assert text in told
    for text in (told, " ".join(footnotes(made))):
        assert "by how many MB (10⁶ bytes) a process of its own grows" in text
        assert "median and IQR of 7 measurements" in text


def test_the_table_has_what_was_timed_where_it_was_corrected(document: dict[str, Any]) -> None:
    assert "as timed ms" not in texts.front_rows(Profile.from_json(document))[0]
    samples = {"chains": [["b0-m2", "b2"]], "ms": [[3.0, 3.4, 3.1]], "anchor_ms": [8.2]}
    for stage in ("time finalists", "time below edges"):
        stages = {"time finalists": {"chains": [], "ms": [], "anchor_ms": [8.2]}, stage: samples}
        head, *rows = texts.front_rows(Profile.from_json({**document, "samples": {**document["samples"], **stages}}))
        assert head[1:3] == ["measured ms", "as timed ms"]
        assert [(row[1], row[2]) for row in rows] == [("2.75", "3.10"), ("7.50", "8.20")]
