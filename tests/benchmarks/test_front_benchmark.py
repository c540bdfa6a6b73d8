"""What benchmarks.front computes from a profile, on one made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from adaptivenet.toolkit.graph.front import Front, FrontPoint
from adaptivenet.toolkit.graph.graph import Block, Subnet
from adaptivenet.toolkit.graph.quality import Quality
from graphs import chain

from benchmarks.front import figures_of, kind_rows, worst


def test_figures_compare_with_the_whole_programs() -> None:
    networks = (Block("whole", 0, 2, "whole"), Block("whole-int8", 0, 2, "whole", precision="int8"))
    graph = chain(2, (*networks, Block("p0", 0, 1, "pruned"), Block("p1", 1, 2, "pruned")))

    def point(subnet: Subnet, ms: float, correct: int) -> FrontPoint:
        return FrontPoint(subnet, ms, ms, 0.1, 10, Quality.from_counts("top1", correct, 100, 100))

    whole = (point(graph.subnet(["whole"]), 10, 90), point(graph.subnet(["whole-int8"]), 6, 88))
    front = Front(
        [
            whole[0],
            point(graph.oracle, 11, 90),
            point(graph.subnet(["p0", "o1"]), 7, 89),
            point(graph.subnet(["p0", "p1"]), 3, 85),
        ]
    )
    made: Any = SimpleNamespace(front=front, whole=whole, graph=graph)
    found = figures_of(made)
    assert found == pytest.approx(
        {
            "latency_within_1_point_over_whole_float": 0.7,
            "latency_within_5_points_over_whole_float": 0.3,
            "margin_at_whole_int8_points": -3.0,
        }
    )
    better = {key: value + (1 if "margin" in key else -0.1) for key, value in found.items()}
    assert worst([better, found]) == found
    rows = kind_rows(made)
    assert rows[1:] == [["original", "50%", "", "", ""], ["pruned", "50%", "1.00", "0.60", "-88.0"]]
