"""The profiles that the Kotlin library's tests have made on this machine, as an app does, are ones of Python's."""

from __future__ import annotations

from pathlib import Path

import pytest
from adaptivenet.toolkit.graph.quality import Quality
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.report.page import page
from adaptivenet.toolkit.report.text import headline

BUNDLE = Path(__file__).resolve().parents[2] / "build" / "app" / "bundle"
CALIBRATED = BUNDLE / "calibrated.json"
ASSETS = BUNDLE / "app" / "assets" / "tiny"
SEARCH = BUNDLE.parent / "packs" / "search"
SEARCHED = SEARCH / "searched.json"

pytestmark = pytest.mark.skipif(not CALIBRATED.is_file(), reason="no profile was calibrated: make app")


def test_a_profile_that_an_app_has_measured_can_be_read() -> None:
    shipped = Profile.load(ASSETS / "profiles" / "SM8450.json")
    profile = Profile.load(CALIBRATED, BlockPack.open(ASSETS))
    assert profile.pack == shipped.pack
    assert profile.device["address"] == "app"
    assert profile.document["calibration"]["of"] == shipped.device
    qualities = {point.subnet: point.quality for point in shipped.front.points}
    for point in profile.front.points:
        assert point.repetitions > 0
        assert point.quality == qualities[point.subnet]
    assert profile.graph.oracle in [point.subnet for point in profile.front.points]
    assert profile.choices == ()


def test_it_says_what_was_not_measured_here() -> None:
    profile = Profile.load(CALIBRATED)
    slower = profile.document["calibration"]["slower"]
    shipped = Profile.load(ASSETS / "profiles" / "SM8450.json")
    for name, latency in profile.latency.blocks.items():
        assert latency.repetitions == 0
        assert latency.median_ms == pytest.approx(slower * shipped.latency.blocks[name].median_ms)
    assert "qualities, memory and energy are those of" in headline(profile)
    assert "qualities, memory and energy are those of" in page(profile)


def test_a_front_that_an_app_has_searched_can_be_read() -> None:
    profile = Profile.load(SEARCHED, BlockPack.open(SEARCH / "pack"))
    searched, verified = profile.document["search"]["images"], profile.document["verify"]["images"]
    assert (searched, verified) == (86, 42)
    assert profile.document["search"]["image_evaluations"] <= 20 * (searched + verified)
    for point in profile.front.points:
        assert point.quality is not None
        assert (point.quality.metric, point.quality.n) == ("agreement", verified)
        assert point.quality == Quality.from_counts("agreement", round(point.quality.value * verified), verified)
        assert point.repetitions > 0
    oracle = next(point for point in profile.front.points if point.subnet == profile.graph.oracle)
    assert oracle.quality is not None
    assert oracle.quality.value == 1
    assert "the agreement with the original network" in headline(profile)
    assert "the agreement with the original network" in page(profile)
