"""What the tests of a runner that is driven as one on a phone share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.phone.device import remove_everything
from adaptivenet.toolkit.devices.phone.here import Here
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import Plan, compile_plan
from runners import bundle_for
from wired import Phone


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Phone]:
    bundle_for("")
    phone = Phone(tmp_path / "home")
    yield phone
    remove_everything(Here(), str(phone.home))


@pytest.fixture
def plan(tiny_pack: BlockPack) -> Plan:
    return compile_plan(tiny_pack.graph, list(tiny_pack.graph.paths()), tiny_pack.metrics)


@pytest.fixture
def expected(tiny_pack: BlockPack, plan: Plan, data: Dataset) -> dict[str, np.ndarray]:
    with connect("local").open(tiny_pack) as session:
        return dict(session.evaluate(plan, data).sums)
