"""Traces: written and read again, replayed through the controller in much less than their time."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from adaptivenet.toolkit.errors import DataError
from adaptivenet.toolkit.serving.controller import Controller
from adaptivenet.toolkit.serving.decision import Budgets, Kind, Point
from adaptivenet.toolkit.serving.simulator import Record, read_trace, replay, serve

POINTS = [Point(5.0), Point(8.0), Point(10.0)]


def test_a_recorded_trace_brings_the_same_decisions(tmp_path: Path) -> None:
    recording = Controller(POINTS, Budgets(10.1))
    steps = list(serve(recording, lambda at_s: 1.4 if 2 < at_s < 4 else 1.0, 8, 0.04, random.Random(0)))
    path = tmp_path / "trace.jsonl"
    lines = [{"at_s": step.at_s, "ms": step.ms, "point": step.ran} for step in steps]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = list(replay(Controller(POINTS, Budgets(10.1)), read_trace(path)))
    assert [(step.ran, step.decision) for step in again] == [(step.ran, step.decision) for step in steps]
    assert {step.ran for step in steps} == {0, 2}


def test_with_another_budget_inferences_take_what_the_other_point_would() -> None:
    trace = [Record(number / 100, 13.0, 2) for number in range(100)]
    steps = list(replay(Controller(POINTS, Budgets(8.2)), trace))
    assert steps[0].ran == 1
    assert steps[0].ms == pytest.approx(10.4)
    assert steps[-1].ran == 0
    assert steps[-1].ms == pytest.approx(6.5)


def test_budgets_and_signals_are_records_too(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    lines = [
        {"at_s": 0, "ms": 10.0},
        {"at_s": 1, "budgets": {"latency_ms": 6}},
        {"at_s": 2, "signals": {"headroom": 0.1}},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    steps = list(replay(Controller(POINTS, Budgets(10.1)), read_trace(path)))
    assert [step.ms for step in steps] == [10.0, None, None]
    decision = steps[1].decision
    assert decision is not None
    assert (decision.kind, decision.point) == (Kind.BUDGET, 0)


@pytest.mark.parametrize(
    "line",
    [
        "[1, 2]",
        "{",
        "3",
        '{"ms": 3}',
        '{"at_s": 1}',
        '{"at_s": "1", "ms": 3}',
        '{"at_s": 1, "ms": 3, "signals": {}}',
        '{"at_s": 1, "ms": 3, "more": 1}',
        '{"at_s": 1, "signals": {"humidity": 1}}',
        '{"at_s": 1, "signals": 3}',
        '{"at_s": 1, "signals": {"free_mb": "many"}}',
        '{"at_s": 1, "signals": {"free_mb": true}}',
        '{"at_s": 1, "signals": {"charging": 1}}',
        '{"at_s": 1, "budgets": {"latency_ms": 5, "more": 1}}',
        '{"at_s": 1, "budgets": {}}',
        '{"at_s": 1, "budgets": {"latency_ms": -1}}',
        '{"at_s": 1, "ms": null}',
        '{"at_s": 1, "ms": 3, "point": "a"}',
        '{"at_s": 1, "ms": 3, "point": -1}',
        '{"at_s": 1, "budgets": {"latency_ms": 5, "percentile": "95"}}',
        '{"at_s": 1, "budgets": {"latency_ms": 5, "percentile": null}}',
        '{"at_s": NaN, "ms": 3}',
        '{"at_s": 1, "ms": 1' + "0" * 400 + "}",
        "[" * 100_000,
        '{"at_s": 1, "ms": 3',
        "\udcff",
    ],
)
def test_what_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"at_s": 0, "ms": 10.0}\n' + line + "\n", "utf-8", "surrogateescape")
    with pytest.raises(DataError, match=r"line 2 of .*trace\.jsonl is no record of a trace: "):
        read_trace(path)


def test_a_trace_of_a_front_with_other_points_is_refused() -> None:
    with pytest.raises(DataError, match="point 7 of a front of 3 points"):
        list(replay(Controller(POINTS, Budgets(10.1)), [Record(0, 10.0, 7)]))
