"""What a device was like over several calls: from before the first to after the last, with all that was seen."""

from __future__ import annotations

import json

import pytest
from adaptivenet.toolkit.devices.conditions import Conditions
from hypothesis import given
from hypothesis import strategies as st

CLOCKS = st.lists(st.none() | st.integers(0, 4_000_000), max_size=3).map(tuple)
HEAT = st.dictionaries(st.sampled_from(["cpu", "skin", "battery"]), st.floats(-40, 120))
CALLS = st.lists(
    st.builds(Conditions, st.just(1), st.just((4, 5, 6)), st.just(("walt",)), CLOCKS, CLOCKS, HEAT, HEAT),
    min_size=1,
    max_size=6,
)


def call(khz: tuple[int, int], celsius: tuple[float, float]) -> Conditions:
    return Conditions(1, (7,), ("walt",), khz[:1], khz[1:], {"cpu": celsius[0]}, {"cpu": celsius[1]})


def test_a_stage_is_told_from_its_first_call_to_its_last() -> None:
    calls = [
        call((600_000, 3_000_000), (31, 55)),
        call((2_900_000, 1_200_000), (54, 83)),
        call((900_000, 2_100_000), (70, 62)),
    ]
    stage = Conditions.over_all(calls)
    assert stage == Conditions(
        1, (7,), ("walt",), (600_000,), (2_100_000,), {"cpu": 31}, {"cpu": 62}, (600_000,), (3_000_000,), {"cpu": 83}
    )
    assert stage.changes() == [
        "its clock from 0.60 to 2.10 GHz (0.60 to 3.00 GHz seen)",
        "its hottest sensor from 31 to 62 °C (at most 83 °C)",
    ]


def test_a_core_or_sensor_that_was_told_once_is_known() -> None:
    first = Conditions(1, None, (), (None, 5), (), {}, {"skin": 30.0})
    last = Conditions(1, None, (), (7, None, 9), (), {"cpu": 50.0}, {})
    stage = Conditions.over_all([first, last])
    assert (stage.khz_lowest, stage.khz_highest) == ((7, 5, 9), (7, 5, 9))
    assert stage.celsius_highest == {"skin": 30.0, "cpu": 50.0}


@given(CALLS, st.integers(0, 6))
def test_it_does_not_matter_in_which_parts_calls_are_put_together(calls: list[Conditions], at: int) -> None:
    parts = [Conditions.over_all(part) for part in (calls[:at], calls[at:]) if part]
    stage = Conditions.over_all(calls)
    assert Conditions.over_all(parts) == stage
    assert Conditions.from_json(json.loads(json.dumps(stage.to_json()))) == stage
    for each in calls:
        for looked in (each.khz_before, each.khz_after):
            for khz, low, high in zip(looked, stage.khz_lowest, stage.khz_highest):
                assert khz is None or (low is not None and high is not None and low <= khz <= high)
        for celsius in (each.celsius_before, each.celsius_after):
            assert all(stage.celsius_highest[sensor] >= value for sensor, value in celsius.items())


def test_what_is_known_is_put_in_words() -> None:
    hot = Conditions(
        1,
        (0, 1, 2),
        ("a", "b", None),
        (1_000_000, 2_995_200, None),
        (1_000_000, 2_100_000, None),
        {"cpu": 35.2, "skin": 31.0},
        {"cpu": 71.9, "skin": 40.0, "alarm": 60000.0},
    )
    assert hot.in_words() == (
        "cores 0-2, governor a and b, its clock from 3.00 to 2.10 GHz, its hottest sensor from 35 to 72 °C"
    )
    assert Conditions(1, None, (), (None,), (), {}, {"skin": 0.0}).in_words() == "", "a sensor that is off"
    assert Conditions(1, waited=0.384).in_words() == (
        "any core, other programs had the processors for 38% of the time, which is not counted"
    )
    assert Conditions.over_all([Conditions(1, waited=0.1), hot]).waited == 0.1


def test_no_calls_have_no_conditions() -> None:
    with pytest.raises(ValueError, match="no calls"):
        Conditions.over_all([])
