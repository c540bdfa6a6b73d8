"""How a phone is treated while it is measured: its settings are put back, its heat is watched, its work is ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.devices.conditions import Conditions
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.phone import heat
from adaptivenet.toolkit.devices.phone.heat import cool_down, read_thermalservice
from adaptivenet.toolkit.errors import DeviceError
from adaptivenet.toolkit.pack.pack import BlockPack
from hypothesis import given
from hypothesis import strategies as st
from reached import Phone, both_ways
from runners import Told, bundle_for, ended, wait_until

pytestmark = pytest.mark.usefixtures("adb_server")

# In the place of Android's programs, which a virtual phone lacks: what they are given is kept in files.
SETTINGS = """#!/system/bin/sh
file=/data/local/tmp/global.$3
case "$1" in
get) cat "$file" 2>/dev/null || echo null ;;
put) echo "$4" >"$file" ;;
delete) rm -f "$file" ;;
esac
"""
CMD = """#!/system/bin/sh
echo "$*" >>/data/local/tmp/cmd
"""


def install(phone: Phone, name: str, script: str) -> None:
    program = phone.virtual.root / "system" / "bin" / name
    program.write_text(script)
    program.chmod(0o755)


def awake(phone: Phone, value: str | None = None) -> str | None:
    """The setting of a phone with Android's settings; it is set first where a value is given."""
    file = phone.virtual.root / "data" / "local" / "tmp" / "global.stay_on_while_plugged_in"
    if value is not None:
        file.write_text(f"{value}\n")
        file.chmod(0o666)
    return file.read_text().strip() if file.exists() else None


@pytest.fixture
def android(new_phone: Any) -> Phone:
    phone = Phone(new_phone, "adb-shell")
    install(phone, "settings", SETTINGS)
    yield phone
    for name in ("settings", "cmd"):
        (phone.virtual.root / "system" / "bin" / name).unlink(missing_ok=True)
    for file in ("global.stay_on_while_plugged_in", "cmd"):
        (phone.virtual.root / "data" / "local" / "tmp" / file).unlink(missing_ok=True)


@pytest.mark.parametrize("before", ["0", "3", None])
def test_the_screen_stays_on_until_the_device_is_closed(android: Phone, before: str | None) -> None:
    awake(android, before)
    device = android.connect()
    assert awake(android) == "7"
    assert any("the screen stays on" in text for text in android.told.explained)
    again = android.connect()
    again.close()
    assert awake(android) == before, "the value of the owner, not that of the first host"
    device.close()
    assert awake(android) == before


def test_settings_are_put_back_when_the_cable_is_pulled(android: Phone, tiny_pack: BlockPack) -> None:
    awake(android, "2")
    device = android.connect(idle_s=2)
    pid = int(device.calls("info")["pid"])
    android.kill_adbd(start_after_s=8)
    wait_until(lambda: ended(pid))
    assert awake(android) == "2"
    android.starting.join()


def test_settings_are_put_back_when_everything_was_killed(android: Phone) -> None:
    awake(android, "2")
    device = android.connect()
    pid = int(device.calls("info")["pid"])
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: ended(pid))
    assert awake(android) == "7"
    device.calls("info")
    assert awake(android) == "2"


def test_fixed_performance_is_asked_for_and_put_back(android: Phone) -> None:
    awake(android, "0")
    with pytest.raises(DeviceError, match=r"cannot be kept at fixed performance: .*cmd"):
        android.connect(fixed_performance=True)
    assert awake(android) == "0"
    install(android, "cmd", CMD)
    asked = android.virtual.root / "data" / "local" / "tmp" / "cmd"
    device = android.connect(fixed_performance=True)
    assert asked.read_text() == "power set-fixed-performance-mode-enabled true\n"
    device.close()
    assert asked.read_text().splitlines()[1:] == ["power set-fixed-performance-mode-enabled false"]


def test_what_has_no_settings_is_left_alone(new_phone: Any) -> None:
    phone = Phone(new_phone, "adb-shell")
    phone.connect().close()
    assert any("its screen cannot be kept on: it has no such setting" in text for text in phone.told.explained)


# Heat


def report(**celsius: float) -> str:
    lines = [f"\tTemperature{{mValue={value}, mType=0, mName={name}, mStatus=0}}" for name, value in celsius.items()]
    return "\n".join(["Thermal Status: 0", "Cached temperatures:", *lines, "HAL Ready: true", ""])


def test_the_current_temperatures_are_read_where_there_are_any() -> None:
    text = (
        report(cpu=30.5, skin=29.0)
        + "Current temperatures from HAL:\n"
        + "\tTemperature{mValue=44.800003, mType=0, mName=cpu, mStatus=0}\n"
        + "\tTemperature{mValue=4200.0, mType=6, mName=vbat, mStatus=0}\n"
        + "\tTemperature{mValue=NaN, mType=3, mName=broken, mStatus=0}\n"
        + "Current cooling devices from HAL:\n\tCoolingDevice{mValue=0, mType=2, mName=cpu}\n"
    )
    assert read_thermalservice(text) == {"cpu": 44.800003, "skin": 29.0}
    assert read_thermalservice("Can't find service: thermalservice\n") == {}


@given(st.lists(st.floats(-10, 120), min_size=1, max_size=30), st.floats(10, 100))
def test_it_is_waited_for_until_the_hottest_sensor_has_cooled(readings: list[float], limit: float) -> None:
    told, slept, given = Told(), [], iter([*readings, 1.0])
    seen: list[float] = []

    def read() -> dict[str, float]:
        seen.append(next(given))
        return {"cpu": seen[-1], "off": 0.0, "alarm": 60000.0, "other": 0.5}

    cool_down(limit, read, "phone", told, sleep=slept.append)
    assert seen[-1] <= limit
    assert all(reading > limit for reading in seen[:-1])
    assert len(slept) == len(seen) - 1
    assert len(told.done) == (len(seen) if slept else 0), "a line for every look, unless it was cool at once"


def test_it_is_not_waited_for_without_end() -> None:
    told = Told()
    with pytest.raises(
        DeviceError, match=r"phone has not cooled to 40 °C in 1 minutes: it went from 55\.0 to 55\.0 °C"
    ):
        cool_down(40, lambda: {"cpu": 55.0}, "phone", told, patience_s=60, sleep=lambda seconds: None)
    assert [note for _, _, _, note in told.done][:2] == [
        "55.0 °C, to be 40 °C; 1:00 left",
        "55.0 °C, to be 40 °C; 0:58 left",
    ]
    with pytest.raises(DeviceError, match="does not tell how hot it is"):
        cool_down(40, dict, "phone", told)


@both_ways
def test_a_hot_phone_is_measured_when_it_has_cooled(
    way: str, new_phone: Any, tiny_pack: BlockPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heat, "PAUSE_S", 0.2)
    phone = Phone(new_phone, way)
    state = phone.virtual.root / "phone_state" / "thermalservice"
    before = state.read_text()
    state.write_text(report(cpu=58.0, skin=37.0))
    tell = phone.told.progress

    def cool_when_told(stage: str, done: int, total: int, note: str = "") -> None:
        tell(stage, done, total, note)
        if stage == "cool down":
            state.write_text(report(cpu=39.5, skin=36.0))

    monkeypatch.setattr(phone.told, "progress", cool_when_told)
    device = phone.connect(cool_c=40.0)
    with device.open(tiny_pack) as session:
        session.measure([tiny_pack.graph.oracle], rounds=2)
        assert session.conditions is not None
        assert session.conditions.celsius_before == {"cpu": 39.5, "skin": 36.0}
        assert "its hottest sensor from 40 to 40 °C" in session.conditions.in_words()
        assert Conditions.from_json(session.conditions.to_json()) == session.conditions
    shown = [note for stage, _, _, note in phone.told.done if stage == "cool down"]
    assert shown[0].startswith("58.0 °C, to be 40 °C; 15:00 left")
    assert shown[-1] == "39.5 °C"
    device.calls.stop()
    device.close()
    state.write_text(before)


def test_this_computer_cannot_be_waited_for() -> None:
    with pytest.raises(DeviceError, match="those are for phones"):
        connect("local", cool_c=40.0)


# Interrupts


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_its_job_and_leaves_nothing(
    sent: int, tiny_pack: BlockPack, tmp_path: Path
) -> None:
    bundle_for("")
    np.save(tmp_path / "images.npy", np.zeros((8, 3, 16, 16), np.float32))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [
        *("env", "--default-signal=INT", sys.executable, "-m", "adaptivenet.toolkit.cli.profile", tiny_pack.path),
        *("--device", "runner", "--data", tmp_path / "images.npy", "--rounds", "1000000", "--budget", "1000ms"),
    ]
    host = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": os.fspath(temporary)}
    )
    assert host.stderr
    pid = 0
    for line in host.stderr:
        if re.match(r"measure: \d+/", line):
            log = next(temporary.glob("adaptivenet-runner-*/run/log")).read_text()
            pid = int(re.findall(r"process (\d+)", log)[0])
            host.send_signal(sent)
            break
    assert pid
    rest = host.stderr.read()
    assert host.wait(30) == 1
    assert rest.splitlines()[-1] == "error: interrupted"
    wait_until(lambda: ended(pid))
    assert not list(temporary.glob("adaptivenet-runner-*"))


@both_ways
def test_a_job_that_nobody_waits_for_is_cancelled(way: str, new_phone: Any, tiny_pack: BlockPack) -> None:
    phone = Phone(new_phone, way)
    device, session, pid = phone.open(tiny_pack)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.measure([tiny_pack.graph.oracle], rounds=10_000_000, progress=interrupt)
    begun = time.monotonic()
    session.measure([tiny_pack.graph.oracle], rounds=1)
    assert time.monotonic() - begun < 100, "ten million rounds take far longer"
    assert int(device.calls("info")["pid"]) == pid, "the runner itself goes on"
    device.calls.stop()
    device.close()
