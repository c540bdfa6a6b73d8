"""A profile of the tiny pack by each engine."""

from __future__ import annotations

import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from engines import ENGINES


@pytest.fixture(scope="module")
def made(tiny_pack: BlockPack, data: Dataset) -> dict[str, Profile]:
    """A profile by each engine."""
    settings = Settings(("1000ms", "10000%"), evaluations=20, search_images=6, verify_images=8, rounds=5)
    profiles = {}
    for address in ENGINES:
        with connect(address).open(tiny_pack) as session:
            profiles[address] = profile(session, data, settings)
    return profiles


@pytest.fixture(params=ENGINES)
def profiled(request: pytest.FixtureRequest, made: dict[str, Profile]) -> Profile:
    return made[request.param]
