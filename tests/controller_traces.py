"""The traces in `vectors/controller.json`, which the controllers in Python and in C++ both replay.

After a change to the controller, `python tests/controller_traces.py` writes them anew, with what Python's decides.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adaptivenet.toolkit.graph.front import Front, FrontPoint
from adaptivenet.toolkit.graph.graph import Block
from adaptivenet.toolkit.serving.controller import Controller
from graphs import chain

FILE = Path(__file__).parent / "vectors" / "controller.json"
_ABOUT = (
    "Traces of inferences and what the controller makes of them: `points` has the first choice and the one after every "
    "observation, `slowdowns` what it believes after each. Written by tests/controller_traces.py."
)
_PATHS = list(chain(1, tuple(Block(f"p{number}", 0, 1, "pruned") for number in range(8))).paths())
_LENGTH = 120


def front_of(*milliseconds: float) -> Front:
    """A front of points that take so many milliseconds."""
    return Front(FrontPoint(_PATHS[at], ms, ms, 0.1, 30) for at, ms in enumerate(milliseconds))


def traces() -> dict[str, Any]:
    """All traces, the same every time."""
    edge, apart = (5.33, 6.85, 8.23, 8.95, 9.5), (7.98, 8.06, 8.14, 8.22, 8.3)
    cases = [
        _trace("one point", (13.97,), 16.22, lambda at: 1.0, 0.03),
        _trace("healthy at a budget's edge", edge, 8.24, lambda at: 1.0, 0.03),
        _trace("healthy, points 1% apart", apart, 8.15, lambda at: 1.0, 0.05),
        _trace("cold at first", edge, 8.24, lambda at: 3.0 if at < 5 else 1.0, 0.02),
        _trace("hiccups", edge, 9.0, lambda at: 8.0 if at % 9 == 4 else 1.0, 0.03),
        _trace("hot from 30 to 70", edge, 8.24, lambda at: 1.3 if 30 <= at < 70 else 1.0, 0.04),
        _trace("heats up", (*apart, 15.6, 19.6), 16.0, lambda at: 1 + at / 100, 0.02),
        _trace("was profiled hot", edge, 8.24, lambda at: 0.8, 0.04),
        _trace("6% slower", edge, 8.24, lambda at: 1.06, 0.01),
        _trace("overwhelmed", edge, 9.6, lambda at: 6.0 if at < 60 else 0.9, 0.1),
    ]
    return {"about": _ABOUT, "cases": cases}


def _trace(
    name: str, latencies_ms: Sequence[float], budget_ms: float, slowdown: Callable[[int], float], noise: float
) -> dict[str, Any]:
    """A device that is `slowdown(at)` times slower than when it was profiled, with noise, seen by the controller."""
    rng, front = random.Random(name), front_of(*latencies_ms)
    state = Controller.start(front, budget_ms)
    observed, points, slowdowns = [], [state.point], []
    for at in range(_LENGTH):
        observed.append(round(latencies_ms[state.point] * slowdown(at) * rng.gauss(1, noise), 3))
        state = state.observe(front, budget_ms, observed[-1])
        points.append(state.point)
        slowdowns.append(state.slowdown)
    return {
        "name": name,
        "latencies_ms": list(latencies_ms),
        "budget_ms": budget_ms,
        "observed_ms": observed,
        "points": points,
        "slowdowns": slowdowns,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(traces(), separators=(",", ":")))
