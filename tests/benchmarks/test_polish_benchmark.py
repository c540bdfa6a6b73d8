"""What benchmarks.polish makes of its runs: geometric means of ratios, and the better of the rates beside polishing."""

from __future__ import annotations

import pytest
from adaptivenet.toolkit.graph.quality import Quality
from adaptivenet.toolkit.training.closeness import Closeness
from graphs import chain
from small_training import supernet

from benchmarks.polish import Found, Run, figures_of, rows_of

ONE, NET = chain(2).oracle, supernet()


def found(divergence: float, right: int) -> Closeness:
    return Closeness(divergence, Quality.from_counts("agreement", right, 100))


def test_the_better_rate_stands_for_plain_training() -> None:
    before: Found = {ONE: found(1.0, 50)}
    runs = [
        Run("polished", 0, {ONE: found(0.5, 60)}, 300, 9.0, NET),
        Run("polished", 1, {ONE: found(0.125, 70)}, 300, 9.0, NET),
        Run("plain, rate 0.0002", 0, {ONE: found(2.0, 40)}, 250, 8.0, NET),
        Run("plain, rate 0.0001", 0, {ONE: found(0.8, 51)}, 250, 8.0, NET),
    ]
    assert figures_of(before, runs) == {
        "polished_divergence_over_before": pytest.approx(0.25),
        "polished_agreement_gain_points": pytest.approx(15),
        "plain_divergence_over_before": pytest.approx(0.8),
        "plain_agreement_gain_points": pytest.approx(1),
    }
    rows = rows_of(before, {ONE: (1.5, 2.0)}, runs)
    assert rows[0] == ["", "seed", "steps", "CPU s", "1.50/2.00 ms"]
    assert rows[1] == ["before", "", "", "", "1.000, 50.0%"]
    assert rows[3] == ["polished", "1", "300", "9", "0.125, 70.0%"]
