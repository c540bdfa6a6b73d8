"""Energy: what counters and batteries say, in folders of the form that they have below /sys, becomes millijoules."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.energy import Battery, Drain, Look, Rapl, Schedule, energy_mj, find_meter
from adaptivenet.toolkit.devices.local import looks
from adaptivenet.toolkit.devices.phone.device import PhoneDevice
from adaptivenet.toolkit.errors import EnergyUnknown
from adaptivenet.toolkit.pack.pack import BlockPack
from engines import ENGINES
from hypothesis import given
from hypothesis import strategies as st
from power import RANGE_UJ, counting, with_battery, with_rapl
from runners import bundle_for

QUICK = Schedule(idle_s=0.2, run_s=0.4, settle_s=0.05, every_s=0.02)


def drained(texts: Callable[[float, str], tuple[str, ...]], inferences: int = 100) -> Drain:
    """A device that is looked at for 2 seconds each time, twice a second; `texts` says what at a time in a phase."""

    def phase(name: str, begin_s: float) -> tuple[Look, ...]:
        return tuple(Look(begin_s + at / 2, texts(begin_s + at / 2, name)) for at in range(5))

    return Drain(phase("idle", 0.0), phase("run", 3.0), phase("idle", 6.0), inferences)


@given(st.integers(0, RANGE_UJ), st.floats(0.0, 300.0), st.floats(0.1, 300.0), st.floats(0, 100))
def test_counters_begin_anew(first_uj: int, idle_watts: float, more_watts: float, dram_watts: float) -> None:
    """A package and its memory, which takes as much idle as not; whenever the package's counter begins anew."""

    def joules(at_s: float) -> float:
        return idle_watts * at_s + more_watts * min(max(at_s - 3.0, 0.0), 2.0)

    def texts(at_s: float, phase: str) -> tuple[str, ...]:
        return str(int(first_uj + 1e6 * joules(at_s)) % RANGE_UJ), str(int(1e6 * dram_watts * at_s) % 65712999613)

    meter = Rapl(["package", "dram"], [RANGE_UJ, 65712999613])
    assert energy_mj(meter, drained(texts)) == pytest.approx(more_watts * 2 * 1e3 / 100, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize(("amperes", "volts"), [(1e6, 1e6), (1e3, 1e6), (1e3, 1e3), (-1e6, 1e6), (-1e3, 1e3)])
@pytest.mark.parametrize("idle_amperes", [0.002, 0.15])
def test_batteries_in_several_units_and_signs(amperes: float, volts: float, idle_amperes: float) -> None:
    """Idle it gives 4.0 V, while it infers 1 A and 3.8 V."""

    def texts(at_s: float, phase: str) -> tuple[str, ...]:
        taken, voltage = (idle_amperes, 4.0) if phase == "idle" else (1.0, 3.8)
        return f"{taken * amperes:.0f}", f"{voltage * volts:.0f}", "Discharging"

    expected = (3.8 - 4.0 * idle_amperes) * 2 * 1e3 / 100
    assert energy_mj(Battery(["bat"]), drained(texts)) == pytest.approx(expected, rel=1e-3)


def test_of_two_batteries_one_may_rest() -> None:
    def texts(at_s: float, phase: str) -> tuple[str, ...]:
        one = ("500000" if phase == "idle" else "2500000", "10000000", "Discharging")
        return (*one, "0", "12000000", "Not charging") if phase == "idle" else (*one, "1", "12000000", "Unknown")

    assert energy_mj(Battery(["BAT0", "BAT1"]), drained(texts)) == pytest.approx(20.0 * 2 * 1e3 / 100, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (("500000", "4000000", "Charging"), "not discharging .its status is Charging.*: unplug the device"),
        (("500000", "4000000", "Full"), "its status is Full"),
        (("500000", "4000000", "Not charging"), "its status is Not charging"),
        (("500000", "4000000", None), "its status is not told"),
        (("500000", "4000000", "Discharging"), "/bat/current_now always says the same"),
        (("much", "4000000", "Discharging"), "/bat/current_now says 'much', which is no number"),
        (("500000", None, "Discharging"), "/bat/voltage_now says None, which is no number"),
        (("nan", "4000000", "Discharging"), "which is no number"),
    ],
)
def test_a_battery_that_tells_nothing(text: tuple[str, ...], message: str) -> None:
    with pytest.raises(EnergyUnknown, match=message):
        energy_mj(Battery(["bat"]), drained(lambda at_s, phase: text))


def test_a_battery_that_is_plugged_in_meanwhile_tells_nothing() -> None:
    def texts(at_s: float, phase: str) -> tuple[str, ...]:
        return str(500000 + int(at_s)), "4000000", "Discharging" if at_s < 7 else "Charging"

    with pytest.raises(EnergyUnknown, match="Charging"):
        energy_mj(Battery(["bat"]), drained(texts))


def test_a_counter_that_stands_still_and_a_device_that_did_nothing() -> None:
    with pytest.raises(EnergyUnknown, match="does not count"):
        energy_mj(Rapl(["package"], [RANGE_UJ]), drained(lambda at_s, phase: ("7",)))
    with pytest.raises(EnergyUnknown, match="nothing ran"):
        energy_mj(Rapl(["package"], [RANGE_UJ]), drained(lambda at_s, phase: (str(int(at_s)),), inferences=0))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a device's files, empty."""
    monkeypatch.setattr(looks, "ROOT", tmp_path)
    return tmp_path


def test_what_tells_of_energy_is_found_in_the_folders(root: Path) -> None:
    def found() -> tuple[str, list[str]]:
        meter = find_meter(looks.power_files())
        return meter.name, [Path(file).parent.name + "/" + Path(file).name for file in meter.files]

    with pytest.raises(EnergyUnknown, match="neither RAPL nor a battery with its current"):
        found()
    with_battery(root, "Discharging")
    files = [f"battery/{name}" for name in ("current_now", "voltage_now", "status")]
    assert found() == ("battery", files)
    with_rapl(root)
    zones = ("intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1")
    assert found() == ("RAPL", [f"{zone}/energy_uj" for zone in zones]), "it is more precise"
    texts = {path: text for path, text in looks.power_files().items() if not path.endswith("energy_uj")}
    assert find_meter(texts).name == "battery", "only root may read the counters"
    texts = {path: text for path, text in texts.items() if "/battery/" not in path}
    with pytest.raises(
        EnergyUnknown, match=r"/sys/class/powercap/intel-rapl:0/energy_uj, which this user may not read"
    ):
        find_meter(texts)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_a_battery_is_asked_only_while_it_discharges(root: Path, status: str, tiny_pack: BlockPack) -> None:
    with_battery(root, status)
    with connect(ENGINES[1]).open(tiny_pack) as session, pytest.raises(EnergyUnknown, match=status):
        session.energy_mj(tiny_pack.graph.oracle)


@pytest.mark.parametrize("address", ENGINES)
def test_the_energy_of_a_process_that_computes(address: str, tiny_pack: BlockPack, root: Path) -> None:
    """The counter goes by the processor's time of this process: an idle one takes hardly any."""
    with connect(address).open(tiny_pack) as session, counting(root, 20.0, time.process_time):
        assert session.meter().name == "RAPL"
        found = session.energy_mj(tiny_pack.graph.oracle, QUICK)
        assert found > 0
        assert session.resident.blocks == tuple(tiny_pack.graph.oracle)


def test_the_runner_looks_while_it_infers(tiny_pack: BlockPack, root: Path) -> None:
    bundle_for("")
    with connect("runner") as device, device.open(tiny_pack) as session:
        assert isinstance(device, PhoneDevice)
        with pytest.raises(EnergyUnknown):
            session.meter()
        device.root = str(root)
        with_battery(root, "Discharging")
        session.activate(("b0-m2", "b2"))
        with pytest.raises(EnergyUnknown, match="always says the same"):
            session.energy_mj(tiny_pack.graph.oracle, QUICK)
        with counting(root, 20.0, time.monotonic):
            drain = _drain_of(session, tiny_pack)
        assert session.resident.blocks == ("b0-m2", "b2"), "the daemon goes on with what it has"
    assert drain.inferences > 0
    for phase, seconds in ((drain.before, QUICK.idle_s), (drain.running, QUICK.run_s), (drain.after, QUICK.idle_s)):
        assert len(phase) >= 3
        assert phase[-1].at_s - phase[0].at_s >= seconds
    assert drain.running[-1].at_s + QUICK.settle_s <= drain.after[0].at_s + 0.001


def _drain_of(session: Session, pack: BlockPack) -> Drain:
    meter = session.meter()
    drain = session._drain(meter, pack.graph.oracle, QUICK)
    watts = [
        joules / (looks[-1].at_s - looks[0].at_s)
        for joules, looks in zip(meter.joules(drain), (drain.before, drain.running, drain.after), strict=True)
    ]
    assert all(each > 0 for each in watts)
    return drain
