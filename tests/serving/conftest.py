"""Models that serve the front of fronts.py, for each engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.serving.model import Model
from engines import ENGINES
from fronts import POINTS, X, with_front
from numpy.typing import NDArray


@pytest.fixture(params=ENGINES)
def known(request: pytest.FixtureRequest, profiles: dict[str, Path], tiny_pack: BlockPack) -> Profile:
    """Of each engine; an inference of any point is as slow as the point, for all that the controller can tell."""
    return with_front(Profile.load(profiles[request.param], tiny_pack), 1e6, 2e6, 3e6, 4e6)


@pytest.fixture
def outputs(known: Profile, tiny_pack: BlockPack) -> list[NDArray[Any]]:
    """What each point answers, by a session."""
    found = []
    with connect(known.device["address"]).open(tiny_pack) as session:
        for subnet in POINTS:
            session.activate(subnet)
            found.append(session.infer(X))
    return found


@pytest.fixture
def model(known: Profile, tiny_pack: BlockPack, outputs: list[NDArray[Any]]) -> Iterator[Model]:
    """Serves at the slowest point."""
    with Model.open(tiny_pack, known, "4000000ms") as opened:
        yield opened
