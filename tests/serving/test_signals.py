"""The sensors of a Linux device: what its files say, and nothing where they say nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from adaptivenet.toolkit.serving.decision import Signals
from adaptivenet.toolkit.serving.signals import read_signals


def device(root: Path, **files: str) -> Path:
    """A folder with files as /proc and /sys have them."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


PHONE = {
    "proc__meminfo": "MemTotal:        7800000 kB\nMemFree:          300000 kB\nMemAvailable:    2000000 kB\n",
    "proc__pressure__memory": "some avg10=1.25 avg60=0.5 avg300=0 total=8\nfull avg10=0.75 avg60=0 avg300=0 total=9\n",
    "sys__class__thermal__thermal_zone0__type": "battery\n",
    "sys__class__thermal__thermal_zone0__temp": "70000\n",
    "sys__class__thermal__thermal_zone1__temp": "61500\n",
    "sys__class__thermal__thermal_zone1__trip_point_0_type": "critical\n",
    "sys__class__thermal__thermal_zone1__trip_point_0_temp": "62000\n",
    "sys__class__thermal__thermal_zone1__trip_point_1_type": "passive\n",
    "sys__class__thermal__thermal_zone1__trip_point_1_temp": "95000\n",
    "sys__class__thermal__thermal_zone1__trip_point_2_type": "passive\n",
    "sys__class__thermal__thermal_zone1__trip_point_2_temp": "80000\n",
    "sys__class__thermal__thermal_zone2__temp": "38000\n",
    "sys__class__thermal__thermal_zone2__trip_point_0_type": "passive\n",
    "sys__class__thermal__thermal_zone2__trip_point_0_temp": "45000\n",
    "sys__class__thermal__thermal_zone3__temp": "30000\n",
    "sys__class__thermal__thermal_zone3__trip_point_0_type": "passive\n",
    "sys__class__thermal__thermal_zone3__trip_point_0_temp": "-274000\n",
    "sys__class__power_supply__mouse__type": "Battery\n",
    "sys__class__power_supply__mouse__scope": "Device\n",
    "sys__class__power_supply__mouse__capacity": "3\n",
    "sys__class__power_supply__bms__type": "Battery\n",
    "sys__class__power_supply__bms__capacity": "47\n",
    "sys__class__power_supply__bms__status": "Discharging\n",
    "sys__class__power_supply__usb__type": "USB\n",
    "sys__class__power_supply__usb__online": "0\n",
}


def test_what_a_phone_says(tmp_path: Path) -> None:
    """The zone that counts is the one closest to slowing something down; neither battery is the mouse's."""
    found = read_signals(device(tmp_path, **PHONE))
    assert found == Signals(
        free_mb=2048.0, pressure=1.25, celsius=38.0, throttles_at=45.0, battery=47.0, charging=False
    )


@pytest.mark.parametrize(
    ("changed", "charging"),
    [
        ({"sys__class__power_supply__bms__status": "Charging\n"}, True),
        ({"sys__class__power_supply__bms__status": "Full\n"}, True),
        ({"sys__class__power_supply__usb__online": "1\n"}, True),
        ({"sys__class__power_supply__bms__status": ""}, None),
    ],
)
def test_whether_it_is_charged(tmp_path: Path, changed: dict[str, str], charging: bool | None) -> None:
    assert read_signals(device(tmp_path, **PHONE | changed)).charging is charging


def test_what_does_not_exist_says_nothing(tmp_path: Path) -> None:
    assert read_signals(tmp_path) == Signals()
    assert read_signals(device(tmp_path, **dict.fromkeys(PHONE, "\n"))) == Signals()
    assert read_signals(device(tmp_path, **dict.fromkeys(PHONE, "nonsense: \xb0\n"))).celsius is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_this_computer_says_how_much_memory_is_free() -> None:
    free_mb = read_signals().free_mb
    assert free_mb is not None
    assert 1 < free_mb <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
