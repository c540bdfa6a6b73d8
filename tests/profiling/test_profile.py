"""Profiles of a real, tiny pack: what is in them, that they are honest, and which settings and pictures are refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.errors import BudgetError, DataError, PlanError, ProfileError
from adaptivenet.toolkit.graph.graph import Block
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import compile_plan
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Budget, Settings
from adaptivenet.toolkit.profiling.verify import (
    choose_metric,
    divide,
    left_out,
    rising,
    surely_beaten,
    worth_verifying,
)
from adaptivenet.toolkit.report.text import budget_rows, front_rows, headline, markdown, write_report
from adaptivenet.toolkit.search import STRATEGIES, Result, Strategy, Trial, complete, search
from engines import ENGINES
from given_times import give_times
from graphs import chain
from hypothesis import given
from hypothesis import strategies as st

# Far above what the oracle takes: such tiny blocks differ by less than their noise.
QUICK = Settings(("1000ms", "10000%"), evaluations=20, search_images=6, verify_images=8, rounds=5)


def without_labels(pack: BlockPack, pictures: np.ndarray, path: Path) -> Dataset:
    np.savez(path, images=pictures)
    return open_data(path, None, pack.classes, pack.graph.cuts[0])


# What is in a profile


def test_the_document_has_what_every_reader_may_count_on(profiled: Profile, tiny_pack: BlockPack) -> None:
    document = json.loads(json.dumps(profiled.to_json(), allow_nan=False))
    assert document["device"]["engine"] in ("executorch", "onnxruntime")
    assert document["device"]["threads"] == 1
    assert document["oracle_latency_ms"] > 0
    assert document["oracle_latency"]["repetitions"] == 5
    assert [block["name"] for block in document["blocks"]] == [block.name for block in tiny_pack.graph.blocks]
    for block in document["blocks"]:
        assert block["median_ms"] > 0
        assert block["spread_ms"] >= 0
        assert block["repetitions"] == 5
    for point in document["front"]:
        assert {"subnet", "predicted_ms", "measured_ms", "quality"} <= set(point)
        assert set(point["quality"]) == {"metric", "value", "low", "high", "n"}
        assert point["quality"]["n"] == 8
    assert document["chosen"]["subnet"] in [point["subnet"] for point in document["front"]]
    assert [choice["budget"] for choice in document["budgets"]] == ["1000ms", "10000%"]
    assert document["search"]["subnets"] <= 5
    assert document["search"]["images"] == 6
    assert document["pack"] == {"name": "tiny", "digest": tiny_pack.digest}


def test_the_front_is_measured_and_goes_up(profiled: Profile) -> None:
    points = profiled.front.points
    assert points
    measured = [point.measured_ms for point in points]
    assert all(ms is not None and ms > 0 for ms in measured)
    assert measured == sorted(measured, key=lambda ms: ms or 0)
    assert all(point.repetitions == 5 for point in points)
    qualities = [point.quality.value for point in points if point.quality]
    assert qualities == sorted(qualities), "slower is no worse"
    assert len({point.subnet for point in points}) == len(points)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0, 5.5, 8.0]), min_size=1, max_size=12))
def test_a_front_is_made_to_rise_by_pooling(qualities: list[float]) -> None:
    values = rising(qualities)
    assert values == sorted(values)
    assert len(values) == len(qualities)
    for value in set(values):
        pool = [quality for quality, pooled in zip(qualities, values, strict=True) if pooled == value]
        assert value == pytest.approx(sum(pool) / len(pool))
        for split in range(1, len(pool)):  # or the pool would be two, rising
            assert sum(pool[:split]) / split >= value - 1e-9


def result(name: str, right: int, of: int = 100) -> Result:
    """The first so many pictures right: whoever has more right has all that the others have."""
    graph = chain(1, tuple(Block(f"p{at}", 0, 1, "pruned") for at in range(4)))
    return Result(graph.subnet([name]), (np.arange(of) < right).astype(float))


def test_a_target_without_a_point_has_a_faster_one_that_is_surely_better() -> None:
    # The oracle, and p0 to p3: fastest first, p0 is ruined, p2 surely worse than p1, p3 perhaps.
    seen = [result("p0", 10), result("p1", 90), result("p2", 60), result("p3", 89), result("o0", 80)]
    names = [each.subnet for each in seen]
    near = {float(number): {subnet} for number, subnet in enumerate(names)}
    kept = worth_verifying(seen, near, names[-1])
    assert kept == [names[0], names[1], names[3], names[4]], "the oracle stays, even where it is surely worse"
    assert surely_beaten(seen, names[-1]) == {names[2]: names[1]}
    assert left_out(near, seen, kept) == [{"target_ms": 2.0, "subnet": ["p2"], "beaten_by": ["p1"]}]
    # Without targets only what rises stays, and the oracle.
    assert worth_verifying(seen, {}, names[-1]) == [names[0], names[1], names[4]]


def test_nothing_slower_comes_nearer_to_the_oracle_than_itself() -> None:
    # p1 is slower than the oracle, and so few pictures leave a doubt whether it is worse.
    seen = [result("p0", 3, of=8), result("o0", 8, of=8), result("p1", 6, of=8)]
    oracle, slower = seen[1].subnet, seen[2].subnet
    near = {float(number): {each.subnet} for number, each in enumerate(seen)}
    assert slower in worth_verifying(seen, near, oracle)
    assert slower not in worth_verifying(seen, near, oracle, with_oracle=True)
    assert surely_beaten(seen, oracle, with_oracle=True) == {slower: oracle}
    # A faster one trades quality for latency, and stays.
    assert surely_beaten(seen[::-1], oracle, with_oracle=True).keys() == {seen[0].subnet}


def test_what_is_on_the_front_was_seen_on_all_pictures(tiny_pack: BlockPack, data: Dataset) -> None:
    class OnFew(Strategy):
        """Sees each subnet on two pictures."""

        def __init__(self) -> None:
            self.results = {}

        def ask(self, n: int) -> list[Trial]:
            return [Trial(path, 2) for path in tiny_pack.graph.paths() if path not in self.results][:n]

    strategy = OnFew()
    with connect("local:onnxruntime").open(tiny_pack) as session:
        metric = "agreement"
        first = search(session, strategy, data, metric, image_evaluations=1000)
        assert first.image_evaluations == 2 * tiny_pack.graph.count()
        some = list(tiny_pack.graph.paths())[:2]
        rest = complete(session, strategy, some, data, metric)
        assert rest.image_evaluations == 2 * (len(data) - 2), "no picture twice"
        assert (first + rest).image_evaluations == first.image_evaluations + rest.image_evaluations
        whole = session.evaluate(compile_plan(tiny_pack.graph, some, {metric: tiny_pack.metrics[metric]}), data)
    for subnet, scores in zip(some, whole.scores(metric), strict=True):
        assert strategy.results[subnet].scores.tolist() == scores.tolist()


def test_the_oracle_is_on_every_front(profiled: Profile, tiny_pack: BlockPack) -> None:
    assert tiny_pack.graph.oracle in [point.subnet for point in profiled.front.points]
    assert isinstance(profiled.document["front_notes"], list)


def test_predictions_add_up_and_say_how_wrong_they_may_be(profiled: Profile) -> None:
    inside = {block["name"]: block["in_subnet_ms"] for block in profiled.document["blocks"]}
    for point in profiled.front.points:
        assert point.predicted_ms == pytest.approx(sum(inside[name] for name in point.subnet))
        assert point.predicted_error_ms > 0


def test_every_timing_is_kept(profiled: Profile, tiny_pack: BlockPack) -> None:
    blocks = profiled.document["blocks"]
    taken = profiled.document["samples"]["measure"]
    assert taken["chains"][: len(blocks)] == [[block["name"]] for block in blocks]
    assert len(taken["chains"]) > len(blocks), "and some subnets, whole"
    assert all(len(times) == len(taken["anchor_ms"]) == 5 for times in taken["ms"])
    # What the first finalists took decides whether others are timed after them.
    timed = {"measure", "measure likely subnets", "time finalists"}
    assert timed <= profiled.document["samples"].keys() <= timed | {"time more finalists", "time below edges"}
    if profiled.document["device"]["engine"] == "onnxruntime":
        assert "in_situ" not in taken, "a subnet runs as one program"
        return
    chains = [each["chain"] for each in taken["in_situ"]]
    assert chains == [*(chain for chain in taken["chains"] if len(chain) > 1), list(tiny_pack.graph.oracle)]
    assert {name for chain in chains for name in chain} == {block["name"] for block in blocks}, "each block in situ"
    for each in taken["in_situ"]:
        assert [len(times) for times in each["ms"]] == [5] * len(each["chain"])


def test_a_list_of_numbers_takes_one_line(profiled: Profile, tiny_pack: BlockPack, tmp_path: Path) -> None:
    odd = {"numbers": [1, -2.5e-07, 1e21], "none": [], "mixed": [1, None], "text": ["[\n 1\n]"], "rows": [[1, 2], [3]]}
    replace(profiled, document={**profiled.document, "odd": odd}).save(tmp_path / "profile.json")
    text = (tmp_path / "profile.json").read_text()
    assert json.loads(text) == json.loads(json.dumps({**profiled.document, "odd": odd}))
    assert '"numbers": [1, -2.5e-07, 1e+21],' in text
    anchor = profiled.document["samples"]["measure"]["anchor_ms"]
    assert f'"anchor_ms": [{", ".join(map(str, anchor))}],' in text
    assert Profile.load(tmp_path / "profile.json", tiny_pack).front == profiled.front


def test_what_is_chosen_meets_its_budget(tiny_pack: BlockPack, data: Dataset) -> None:
    with connect("local:onnxruntime").open(tiny_pack) as session:
        result = profile(session, data, replace(QUICK, budgets=("400%", "900ms", "1000ms")))
    for choice in result.choices:
        assert choice.budget_ms == pytest.approx(Budget(choice.budget).ms(result.oracle.median_ms))
        assert choice.point.latency_ms <= choice.budget_ms
        assert choice.point == result.front.best(choice.budget_ms)
        changed = set(choice.point.subnet) - set(tiny_pack.graph.oracle)
        assert set(choice.page_in.loaded) == changed
        assert choice.page_in.bytes_in == sum(tiny_pack.artifact(name, "onnx").bytes for name in changed)


def test_the_oracle_agrees_with_itself(tiny_pack: BlockPack, data: Dataset) -> None:
    with connect("local:onnxruntime").open(tiny_pack) as session:
        result = profile(session, data, replace(QUICK, metric="agreement", strategy="evolutionary", evaluations=2))
    last = result.front.points[-1]
    assert last.quality is not None
    assert (last.quality.metric, last.quality.value) == ("agreement", 1.0)
    assert [quality.metric for quality in last.also] == ["top1"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_progress_names_every_stage_and_gets_there(strategy: str, tiny_pack: BlockPack, data: Dataset) -> None:
    calls: list[tuple[str, int, int]] = []
    with connect("local:onnxruntime").open(tiny_pack) as session:
        profile(session, data, replace(QUICK, strategy=strategy), progress=lambda *call: calls.append(call))
    stages = list(dict.fromkeys(stage for stage, _, _ in calls if stage != "time more finalists"))  # if noise wants it
    timed = ["measure", "measure likely subnets", "search", "time finalists", "verify"]
    assert stages == [*timed, "measure memory", "page in"]
    for stage in (*timed[:2], *timed[3:], *(["measure memory"] if sys.platform == "linux" else [])):
        done, total = [call[1:] for call in calls if call[0] == stage][-1]
        assert done == total
    assert all(done <= total for _, done, total in calls)


def test_with_two_evaluations_there_are_the_two_ends(
    tiny_pack: BlockPack, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_times(monkeypatch, {"b0": 1.0, "b1": 1.0, "b2": 1.0, "b0-m2": 1.4, "b0-p50": 0.8, "b1-p50": 0.9})
    with connect("local:onnxruntime").open(tiny_pack) as session:
        result = profile(session, data, replace(QUICK, evaluations=2))
    assert result.document["search"]["subnets"] == 2
    found = {tuple(point.subnet) for point in result.front.points}
    assert tuple(tiny_pack.graph.oracle) in found <= {tuple(tiny_pack.graph.oracle), ("b0-m2", "b2")}


def test_tables_and_report(profiled: Profile, tmp_path: Path) -> None:
    assert "of 5, IQR" in headline(profiled)
    assert [row[0] for row in budget_rows(profiled)] == ["budget", "1000ms", "10000%"]
    assert len(front_rows(profiled)) == 1 + len(profiled.front.points)
    lines = markdown(budget_rows(profiled)).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    report = write_report(profiled, tmp_path / "new" / "folder")
    assert "![The front" in report.read_text()
    assert (tmp_path / "new/folder/front.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "new/folder/front.svg").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError, match="report cannot be written"):
        write_report(profiled, tmp_path / "file")


# The pictures


def contents(data: Dataset) -> set[bytes]:
    return {data.image(index).tobytes() for index in range(len(data))}


@pytest.mark.parametrize(
    ("have", "search", "verify", "expected"),
    [
        (16, 6, 8, (6, 8)),
        (16, 64, 200, (4, 12)),
        (2, 64, 200, (1, 1)),
        (3, 200, 64, (2, 1)),
        (16, 15, 1, (15, 1)),
    ],
)
def test_searching_and_verifying_share_no_picture(
    data: Dataset, have: int, search: int, verify: int, expected: tuple[int, int]
) -> None:
    settings = Settings(search_images=search, verify_images=verify)
    one, other = divide(data.take(have, 1), None, settings)
    assert (len(one), len(other)) == expected
    assert not contents(one) & contents(other)
    again = divide(data.take(have, 1), None, settings)
    assert [part.digest for part in again] == [one.digest, other.digest]


def test_pictures_that_were_searched_on_do_not_verify(data: Dataset) -> None:
    with pytest.raises(
        DataError, match=r"2 of the 4 pictures .* quality must come from pictures that the search never"
    ):
        divide(data.subset(range(4)), data.subset(range(2, 8)), Settings(search_images=4, verify_images=6))


def test_verify_pictures_of_their_own_are_used(data: Dataset) -> None:
    mine, theirs = data.split([0.5, 0.5], seed=3)
    one, other = divide(mine, theirs, Settings(search_images=5, verify_images=200))
    assert (len(one), len(other)) == (5, 8)
    assert contents(one) <= contents(mine)
    assert contents(other) == contents(theirs)


def test_one_picture_is_too_few(tiny_pack: BlockPack, data: Dataset) -> None:
    with (
        connect("local:onnxruntime").open(tiny_pack) as session,
        pytest.raises(DataError, match="has 1 picture: at least 2 are needed"),
    ):
        profile(session, data.take(1, 0), QUICK)


def test_the_metric_goes_by_the_labels(
    tiny_pack: BlockPack, data: Dataset, pictures: np.ndarray, tmp_path: Path
) -> None:
    unlabelled = without_labels(tiny_pack, pictures, tmp_path / "unlabelled.npz")
    assert choose_metric(tiny_pack, data, None) == "top1"
    assert choose_metric(tiny_pack, unlabelled, None) == "agreement"
    assert choose_metric(tiny_pack, data, "agreement") == "agreement"
    with pytest.raises(DataError, match=r"'top1' needs labels, and unlabelled\.npz has none"):
        choose_metric(tiny_pack, unlabelled, "top1")
    with pytest.raises(DataError, match="no metric 'f1': it has top1, agreement"):
        choose_metric(tiny_pack, data, "f1")


def test_unlabelled_pictures_are_verified_by_agreement_alone(
    tiny_pack: BlockPack, pictures: np.ndarray, tmp_path: Path
) -> None:
    unlabelled = without_labels(tiny_pack, pictures, tmp_path / "unlabelled.npz")
    with connect("local:onnxruntime").open(tiny_pack) as session:
        result = profile(session, unlabelled, QUICK)
    assert result.document["search"]["metric"] == "agreement"
    assert all(point.quality and point.quality.metric == "agreement" for point in result.front.points)
    assert all(point.also == () for point in result.front.points)


# Budgets and settings


@pytest.mark.parametrize("text", ["75", "-5%", "0%", "abc", "", "%", "ms", "0ms", "1e3ms", "nan%", "75 percent", "5%%"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(BudgetError, match="is no latency budget: write it like 75%") as caught:
        Settings((text,))
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(("text", "ms"), [("75%", 15.0), ("12.5ms", 12.5), (" 12.5 ms ", 12.5), ("150%", 30.0)])
def test_what_is_a_budget(text: str, ms: float) -> None:
    assert Budget(text).ms(20.0) == ms


@pytest.mark.parametrize("engine", ENGINES)
def test_a_budget_below_the_fastest_names_it(engine: str, tiny_pack: BlockPack, data: Dataset) -> None:
    calls: list[str] = []
    with (
        connect(engine).open(tiny_pack) as session,
        pytest.raises(BudgetError, match=r"budget of 0\.01% .* the fastest takes \S+ ms, \d+% of the whole network's"),
    ):
        profile(session, data, replace(QUICK, budgets=("0.01%",)), progress=lambda stage, *_: calls.append(stage))
    assert set(calls) == {"measure", "measure likely subnets"}, "it searched before it said so"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("evaluations", 1),
        ("search_images", 0),
        ("verify_images", -3),
        ("rounds", 0),
        ("memory_bytes", 0),
        ("strategy", "hill"),
    ],
)
def test_settings_that_make_no_sense(name: str, value: Any) -> None:
    with pytest.raises(ProfileError, match=str(value)):
        Settings(**{name: value})


def test_too_little_memory(tiny_pack: BlockPack, data: Dataset) -> None:
    with connect("local:onnxruntime").open(tiny_pack) as session, pytest.raises(PlanError, match=r"\b4000\b"):
        profile(session, data, replace(QUICK, memory_bytes=4000))
