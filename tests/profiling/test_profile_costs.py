"""What points of a real, tiny pack cost beside time: memory and energy, as far as the device tells them, and limits."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.energy import Schedule
from adaptivenet.toolkit.devices.local import looks
from adaptivenet.toolkit.devices.local.local import LocalSession
from adaptivenet.toolkit.errors import BudgetError, EnergyUnknown
from adaptivenet.toolkit.graph.front import FrontPoint
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling import costs
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from adaptivenet.toolkit.report.text import front_rows
from given_times import give_times
from power import counting, with_battery

QUICK = Settings(("1000ms", "10000%"), evaluations=20, search_images=6, verify_images=8, rounds=5)


def test_every_point_tells_its_memory(profiled: Profile) -> None:
    points = [*profiled.front.points, *profiled.whole]
    if sys.platform == "linux":
        assert all(point.resident_mb is not None and 0 <= point.resident_mb < 100 for point in points)
        assert "resident MB" in front_rows(profiled)[0]
    assert all(point.energy_mj is None for point in points), "nobody asked for it"
    assert "measure memory" in profiled.document["seconds"]


def test_limits_of_memory_choose(tiny_pack: BlockPack, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faster the larger, as it happens."""
    give_times(monkeypatch, {"b0": 1.0, "b1": 1.0, "b2": 1.0, "b0-m2": 1.4, "b0-p50": 0.8, "b1-p50": 0.9})

    def taken(session: LocalSession, subnets: Sequence[Sequence[str]], *_: Any) -> list[float | None]:
        return [60.0 if tuple(subnet) == session.pack.graph.oracle else 10.0 for subnet in subnets]

    monkeypatch.setattr(LocalSession, "_resident_mb", taken)
    settings = replace(QUICK, budgets=("100%",), evaluations=30)
    with connect("local:onnxruntime").open(tiny_pack) as session:
        found = profile(session, data, settings)
        assert found.choices[0].point == found.front.rising[-1]
        assert found.within_limits == found.front
        limited = profile(session, data, replace(settings, memory_limit_mb=59.0))
        with pytest.raises(BudgetError, match=r"no subnet keeps to 9 MB: the smallest takes 10 MB \(measured\)"):
            profile(session, data, replace(settings, memory_limit_mb=9.0))
    assert {point.resident_mb for point in found.front.points} <= {10.0, 60.0}
    assert limited.choices[0].point.resident_mb == 10.0
    assert limited.limits.memory_mb == 59.0
    assert all(point.resident_mb == 10.0 for point in limited.within_limits.points)
    assert limited.front == found.front


def test_energy_is_measured_where_the_device_tells_it(
    tiny_pack: BlockPack, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a counter that goes on with the processor's time of this process."""
    monkeypatch.setattr(looks, "ROOT", tmp_path)
    monkeypatch.setattr(costs, "SCHEDULE", Schedule(0.1, 0.2, 0.02, 0.02))
    told: list[str] = []
    settings = replace(QUICK, energy_rounds=3)
    journal = tmp_path / "journal"
    with connect("local:onnxruntime").open(tiny_pack) as session:
        with pytest.raises(EnergyUnknown, match="energy cannot be limited: this device does not tell its energy"):
            profile(session, data, replace(QUICK, energy_limit_mj=1e6))
        with counting(tmp_path, 20.0, time.process_time):
            found = profile(session, data, settings, journal=journal, say=told.append)
            with pytest.raises(BudgetError, match=r"no subnet keeps to 1e-12 mJ: the thriftiest takes [\d.e-]+ mJ"):
                profile(session, data, replace(settings, energy_limit_mj=1e-12), journal=journal, resume=True)
        with_battery(tmp_path, "Discharging")
        monkeypatch.setattr(LocalSession, "_drain", lambda *_: pytest.fail("what is known is not measured again"))
        again = profile(session, data, settings, journal=journal, resume=True, say=told.append)
    assert again.front == found.front
    points = [*found.front.points, *found.whole]
    known = [point for point in points if point.energy_mj is not None]
    assert known, "the process computes while it infers"
    assert all(point.energy_repetitions == 3 and point.energy_mj and point.energy_mj > 0 for point in known)
    assert len(known) == len(points) or any("wavers" in line for line in told)
    assert "energy mJ" in front_rows(found)[0] or all(point.energy_mj is None for point in found.front.points)
    assert "measure energy" in found.document["seconds"]


def test_energy_that_ceases_to_be_told_stands_as_far_as_it_was_measured(
    tiny_pack: BlockPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is plugged in while its second point is measured for the second time."""
    answers = iter([5.0, 0.5, 7.0, None])

    def taken(*_: Any) -> float:
        answer = next(answers)
        if answer is None:
            raise EnergyUnknown("the battery is not discharging")
        return answer

    monkeypatch.setattr(LocalSession, "energy_mj", taken)
    told: list[str] = []
    subnets = sorted(tiny_pack.graph.paths())[:2]
    points = {tiny_pack.graph.subnet(subnet): FrontPoint(tiny_pack.graph.subnet(subnet), 1.0) for subnet in subnets}
    with connect("local:onnxruntime").open(tiny_pack) as session:
        one, other = costs.with_energy(session, points, 5, lambda done, total: None, told.append).values()
    assert (one.energy_mj, one.energy_spread_mj, one.energy_repetitions) == (5.0, 2.0, 2)
    assert (other.energy_mj, other.energy_repetitions) == (0.5, 1)
    assert told == ["note: energy was measured 1 of 5 times: the battery is not discharging"]
    monkeypatch.setattr(LocalSession, "energy_mj", lambda *_: -0.25)
    with connect("local:onnxruntime").open(tiny_pack) as session:
        lost = costs.with_energy(session, points, 2, lambda done, total: None, told.append)
    assert lost == points
    assert "the energy of 2 of 2 points is less than what the idle device wavers by" in told[-1]
