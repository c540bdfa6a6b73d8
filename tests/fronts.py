"""The front that tests of serving serve: four subnets of the tiny pack, better the slower they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from adaptivenet.toolkit.graph.front import Front, FrontPoint
from adaptivenet.toolkit.profiling.profile import Profile
from packs import GRAPH

POINTS = (("b0-m2", "b2"), ("b0-p50", "b1-p50", "b2"), ("b0", "b1-p50", "b2"), ("b0", "b1", "b2"))
SLOWEST = len(POINTS) - 1
X = np.random.default_rng(0).normal(size=GRAPH.cuts[0].shape).astype(np.float32)


def with_front(profile: Profile, *latencies_ms: float) -> Profile:
    """The same profile with a front of all of POINTS, better the slower they are."""
    points = [FrontPoint(GRAPH.subnet(subnet), ms, ms, 0.0, 9) for subnet, ms in zip(POINTS, latencies_ms, strict=True)]
    return replace(profile, front=Front(points))
