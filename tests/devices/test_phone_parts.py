"""The small decisions about a phone: its cores, and which numbers of its runner are taken."""

from __future__ import annotations

from typing import Any

import pytest
from adaptivenet.toolkit.devices.phone.calls import parse_event
from adaptivenet.toolkit.devices.phone.cores import choose_cores, parse_cores, spell_cores
from adaptivenet.toolkit.errors import DeviceError
from hypothesis import given
from hypothesis import strategies as st

# Cores


@given(st.sets(st.integers(0, 40), min_size=1))
def test_cores_are_read_as_they_are_written(cores: set[int]) -> None:
    assert parse_cores(spell_cores([*cores])) == tuple(sorted(cores))


def test_cores_are_written_in_runs() -> None:
    assert spell_cores([7, 0, 1, 2, 4, 5]) == "0-2,4-5,7"
    assert parse_cores(" 4-5, 0,4") == (0, 4, 5)


@pytest.mark.parametrize("text", ["", "x", "3-1", "-1", "1-", "1,,2", "1.5", "0-99999"])
def test_what_names_no_cores_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="names no cores: write them like 4-7"):
        parse_cores(text)


def cores_of(*speeds: int | None) -> list[dict[str, Any]]:
    return [{"cpu": cpu, "max_khz": speed, "khz": None, "governor": None} for cpu, speed in enumerate(speeds)]


SNAPDRAGON = cores_of(*[1_785_600] * 4, *[2_496_000] * 3, 2_995_200)


@pytest.mark.parametrize(
    ("there", "threads", "wanted", "chosen"),
    [
        (SNAPDRAGON, 1, None, (7,)),
        (SNAPDRAGON, 2, None, (4, 5, 6, 7)),
        (SNAPDRAGON, 4, None, (4, 5, 6, 7)),
        (SNAPDRAGON, 5, None, tuple(range(8))),
        (SNAPDRAGON, 99, None, tuple(range(8))),
        (SNAPDRAGON, 1, "any", None),
        (SNAPDRAGON, 2, "0,3", (0, 3)),
        (cores_of(None, None), 1, None, None),
        (cores_of(2_000_000, None), 1, None, None),
        ([], 1, None, None),
    ],
)
def test_the_fastest_cores_are_chosen_unless_others_are_wanted(
    there: list[dict[str, Any]], threads: int, wanted: str | None, chosen: tuple[int, ...] | None
) -> None:
    assert choose_cores(there, threads, wanted) == chosen


def test_cores_that_cannot_be_had_are_named() -> None:
    with pytest.raises(DeviceError, match="there is no core 8: the phone has 0-7"):
        choose_cores(SNAPDRAGON, 1, "4-8")
    with pytest.raises(DeviceError, match="3 threads need as many cores, and 0-1 are 2"):
        choose_cores(SNAPDRAGON, 3, "0-1")


# Events


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "NaN", "-Infinity"])
def test_an_event_with_a_number_that_is_not_finite_is_an_error(number: str) -> None:
    with pytest.raises(DeviceError, match="the runner answered with the number"):
        parse_event(f'{{"type": "progress", "job": "j", "event": 1, "done": {number}}}')
