"""A device that gets slower while it is timed: it is found, said, and written down, with what the device was like."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.conditions import Conditions
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.errors import ProfileError
from adaptivenet.toolkit.graph.graph import Block
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from adaptivenet.toolkit.profiling.slowing import Slowdown, slowdown
from adaptivenet.toolkit.report.page import page
from adaptivenet.toolkit.report.text import headline
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.floats(9.9, 10.1), max_size=60))
def test_a_steady_device_is_not_said_to_get_slower(times: list[float]) -> None:
    assert slowdown(times) is None


@given(st.integers(10, 60), st.floats(1.06, 3), st.randoms(use_true_random=False))
def test_a_device_that_gets_slower_is_found(rounds: int, factor: float, rng: Any) -> None:
    times = [10 * rng.uniform(0.999, 1.001) * (1 if at < rounds // 2 else factor) for at in range(rounds)]
    found = slowdown(times)
    assert found is not None
    assert found.factor == pytest.approx(factor, rel=0.01)
    assert (found.rounds, found.compared) == (rounds, max(5, rounds // 4))
    assert slowdown(times[::-1]) is None, "it got faster"
    assert slowdown(times[:9]) is None, "too few rounds to say"


def test_with_5_percent_of_noise_20_percent_are_found_and_nothing_else_is() -> None:
    rng = random.Random(0)

    def share_found(factor: float, rounds: int) -> float:
        played = (
            [rng.gauss(1, 0.05) * (1 if at < rounds // 2 else factor) for at in range(rounds)] for _ in range(1000)
        )
        return sum(slowdown(times) is not None for times in played) / 1000

    for rounds in (10, 20, 40):
        assert share_found(1.0, rounds) <= 0.01
        assert share_found(1.2, rounds) >= 0.85


def test_what_wavers_anyway_is_not_getting_slower() -> None:
    assert slowdown([10, 14, 10, 14, 10, 14, 10, 14] * 2 + [11, 14, 12, 14, 13, 14, 13, 14] * 2) is None


def test_the_words_say_what_is_known() -> None:
    found = Slowdown(1.234, 30, 7)
    assert Slowdown.from_json(found.to_json()) == found
    hot = Conditions(1, None, (), (3_000_000,), (2_100_000,), {"cpu": 35.0}, {"cpu": 72.0})
    words = found.in_words("measure", hot)
    assert words.startswith("the device got 23% slower during measure (the oracle: the median of the last 7 of 30 ")
    assert "; its clock from 3.00 to 2.10 GHz and its hottest sensor from 35 to 72 °C; latencies" in words
    assert "GHz" not in found.in_words("measure", None)


def profiled_on(
    speed: Callable[[int], float], pack: BlockPack, data: Dataset, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> Profile:
    """A profile of a device on which each block takes `speed(round)` ms, and that gets warmer call by call."""
    rng, rounds_before, calls = random.Random(0), 0, 0
    with connect("local:onnxruntime").open(pack) as session:

        def measure(
            chains: Sequence[Sequence[Block]], rounds: int, warmup: int, sample: Any, progress: Any
        ) -> list[list[list[float]]]:
            nonlocal rounds_before, calls
            now = [speed(rounds_before + at) for at in range(rounds)]
            rounds_before, calls = rounds_before + rounds, calls + 1
            heat = {"cpu": 30.0 + calls}, {"cpu": 31.0 + calls}
            session.conditions = Conditions(1, None, ("walt",), (3_000 - calls,), (2_999 - calls,), *heat)
            return [[[ms * rng.gauss(1, 0.001) for ms in now] for _ in chain] for chain in chains]

        monkeypatch.setattr(session, "_measure", measure)
        settings = Settings(("100%",), search_images=6, verify_images=6, evaluations=4, rounds=20)
        return profile(session, data, settings, say=said.append)


def test_a_profile_says_that_the_device_got_slower(
    tiny_pack: BlockPack, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    # Ten rounds of warm-up, five as fast as they, and from there on it is slower.
    slow = profiled_on(lambda at: 1.0 if at < 15 else 1.2, tiny_pack, data, said, monkeypatch)
    (line,) = said
    assert line.startswith("warning: the device got 20% slower during measure (the oracle: the median of the last 5 of")
    assert slow.document["slowdowns"].keys() == {"measure"}
    assert slow.document["slowdowns"]["measure"]["factor"] == pytest.approx(1.2, abs=0.01)
    (sentence,) = slow.slowdowns
    assert sentence.split(";")[0] == line.removeprefix("warning: ").split(";")[0]
    assert "its hottest sensor from 31 to 34 °C (at most 34 °C)" in sentence, "what the device was like to the end"
    assert f"Warning: {sentence}." in headline(slow)
    assert f"Warning: {sentence}." in page(slow)


def test_a_profile_of_a_steady_device_says_nothing_and_has_its_conditions_by_stage(
    tiny_pack: BlockPack, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    steady = profiled_on(lambda at: 1.0, tiny_pack, data, said, monkeypatch)
    assert said == []
    assert steady.document["slowdowns"] == {}
    # Two calls of warm-up and one that is timed for the blocks; then as many for likely subnets, and for the fastest.
    stage = Conditions.from_json(steady.document["conditions"]["measure"])
    assert (stage.celsius_before, stage.celsius_after, stage.celsius_highest) == ({"cpu": 31}, {"cpu": 34}, {"cpu": 34})
    assert (stage.khz_before, stage.khz_after) == ((2999,), (2996,))
    assert (stage.khz_lowest, stage.khz_highest) == ((2996,), (2999,))
    later = [each for name, each in steady.document["conditions"].items() if name != "measure"]
    assert (later[0]["celsius_before"], later[0]["celsius_after"]) == ({"cpu": 34}, {"cpu": 40})


def test_a_slowdown_that_makes_no_sense_is_refused(
    tiny_pack: BlockPack, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady = profiled_on(lambda at: 1.0, tiny_pack, data, [], monkeypatch)
    found = Slowdown(1.2, 20, 5).to_json()
    for change in ({}, {"factor": 0.9}, {"rounds": 0}, {"compared": "all"}, {"more": 1}):
        document = {**steady.to_json(), "slowdowns": {"measure": {**found, **change}}}
        if change:
            with pytest.raises(ProfileError, match="slowdowns"):
                Profile.from_json(document)
        else:
            assert len(Profile.from_json(document).slowdowns) == 1
