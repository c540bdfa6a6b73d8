"""Scores from sums: against a mean over images, against the sums of all, and how often an interval holds the truth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from adaptivenet.toolkit.errors import DataError, ProfileError
from adaptivenet.toolkit.graph.quality import Quality
from adaptivenet.toolkit.graph.score import SHARE, Score
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

DECIBELS, DISTANCE = Score("dB", 0.0, 60.0), Score("", 255.0, 0.0)


def rows(scores: np.ndarray) -> np.ndarray:
    return np.stack([scores, np.ones_like(scores)], axis=1)


def test_a_score_of_one_part_is_the_mean_of_what_the_images_scored() -> None:
    sums = rows(np.array([30.0, 60.0, 45.0]))
    assert DECIBELS.of_images("psnr", sums).tolist() == [0.5, 1.0, 0.75]
    assert DECIBELS.of(DECIBELS.of_all("psnr", sums)) == 45.0
    assert DISTANCE.of_images("l1", rows(np.array([0.0, 255.0]))).tolist() == [1.0, 0.0]
    assert SHARE.of_images("top1", rows(np.array([1.0, 0.0]))).tolist() == [1.0, 0.0]


def counts(images: int, classes: int, seed: int) -> np.ndarray:
    """Intersections and unions."""
    rng = np.random.default_rng(seed)
    unions = rng.integers(0, 50, (images, classes)) * rng.integers(0, 2, (images, classes))
    return np.concatenate([rng.binomial(unions, rng.random(classes)), unions], axis=1).astype(np.float64)


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 99))
def test_the_mean_over_images_is_the_mean_of_the_ratios_of_all_sums(images: int, classes: int, seed: int) -> None:
    sums = counts(images, classes, seed)
    parts, wholes = np.split(sums.sum(axis=0), 2)
    if not wholes.any():
        assert not SHARE.of_images("miou", sums).any()
        with pytest.raises(DataError, match=rf"metric 'miou' counted nothing on {images} images?;"):
            SHARE.of_all("miou", sums)
        return
    expected = float(np.mean(parts[wholes > 0] / wholes[wholes > 0]))
    assert SHARE.of_images("miou", sums).mean() == pytest.approx(expected, abs=1e-12)
    assert SHARE.of_all("miou", sums) == pytest.approx(expected, abs=1e-12)


def test_an_image_moves_the_score_as_leaving_it_out_does_of_many() -> None:
    sums = counts(400, 3, 1)
    scores = SHARE.of_images("miou", sums)
    for image in range(0, 400, 37):
        without = SHARE.of_all("miou", np.delete(sums, image, axis=0))
        assert (scores.mean() - without) * 399 == pytest.approx(scores[image] - scores.mean(), abs=0.02)


def test_what_lies_outside_of_the_range_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"'psnr' gave 71\.5 dB on an image, and its scores lie between 0 and 60 dB: clamp"
    ):
        DECIBELS.of_images("psnr", rows(np.array([30.0, 71.5])))
    with pytest.raises(DataError, match="'l1' gave -1 on an image, and its scores lie between 0 and 255"):
        DISTANCE.of_images("l1", rows(np.array([-1.0])))
    with pytest.raises(DataError, match="'m' counted -2; a whole is at least 0"):
        SHARE.of_images("m", np.array([[1.0, -2.0]]))
    nearly = rows(np.full(3, 60.0001))
    assert DECIBELS.of_all("psnr", nearly) == 1.0, "float32 rounds"


@pytest.mark.parametrize("ends", [(1.0, 1.0), (0.0, 1e-10), (0.0, 2e9), (math.nan, 1.0), (0.0, math.inf)])
def test_ranges_that_are_none_are_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="worst and"):
        Score("dB", *ends)


@pytest.mark.parametrize("unit", ["decibels per pixel", "d\nB", "\x1b[31m", "\x9f"])
def test_units_that_no_pack_may_have_are_refused(unit: str) -> None:
    with pytest.raises(ValueError, match="at most 16 characters on one line"):
        Score(unit)


@pytest.mark.parametrize(
    ("score", "quality", "text"),
    [
        (SHARE, 0.885, "88.5%"),
        (DECIBELS, 0.5237, "31.42 dB"),
        (Score("", -1, 1), 0.99366, "0.9873"),
        (DISTANCE, 0.99, "2.55"),
        (Score("", 1, 0), 0.987654, "0.0123"),
        (Score("%", 0, 100), 0.5, "50.00 %"),
    ],
)
def test_scores_are_shown_in_their_unit(score: Score, quality: float, text: str) -> None:
    assert Quality("m", quality, quality, quality, 9, score).text == text


def test_an_interval_begins_with_the_lower_number() -> None:
    assert Quality("l1", 0.99, 0.98, 1.0, 9, DISTANCE).in_words == "l1 2.55 (0.00–5.10)"
    assert Quality("psnr", 0.5, 0.4, 0.6, 9, DECIBELS).in_words == "psnr 30.00 dB (24.00–36.00)"
    assert Quality("top1", 0.5, 0.4, 0.6, 9).in_words == "top1 50.0% (40.0%–60.0%)"


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_of_rights_and_wrongs_the_interval_is_wilsons(answers: list[bool]) -> None:
    scores = np.array(answers, np.float64)
    found, wilson = Quality.from_images("top1", scores), Quality.from_counts("top1", scores.sum(), len(scores))
    assert (found.value, found.n) == (wilson.value, wilson.n)
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=1e-12)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)))
def test_an_interval_holds_the_value(scores: np.ndarray) -> None:
    for score in (SHARE, DECIBELS):
        found = Quality.from_images("m", scores, score)
        assert 0 <= found.low <= found.value <= found.high <= 1
        reported = Quality.from_images("m", scores, score, 0.5 * found.value)
        assert 0 <= reported.low <= 0.5 * found.value == reported.value <= reported.high <= 1


def test_the_same_score_on_all_images_has_no_interval_unless_they_are_answers() -> None:
    same = np.ones(20)
    assert Quality.from_images("psnr", same, DECIBELS).in_words == "psnr 60.00 dB (on all 20 pictures)"
    assert Quality.from_images("agreement", same).low == pytest.approx(Quality.from_counts("m", 20, 20).low)


def test_one_image_has_no_interval() -> None:
    parts, wholes = np.array([[3.0, 5.0]]), np.array([[6.0, 10.0]])
    images = SHARE.of_images("miou", np.concatenate([parts, wholes], axis=1))
    assert Quality.from_images("miou", images).in_words == "miou 50.0% (on 1 picture)"


def test_no_images_have_no_quality() -> None:
    with pytest.raises(DataError, match="metric 'm' scored no images"):
        Quality.from_images("m", np.zeros(0))


def share_of_hits(draw: Callable[[int], np.ndarray], images: int, truth: float, times: int = 400) -> float:
    found = [Quality.from_images("m", SHARE.of_images("m", draw(images))) for _ in range(times)]
    return float(np.mean([each.low <= truth <= each.high for each in found]))


@pytest.mark.parametrize(("images", "least"), [(10, 0.92), (30, 0.94), (200, 0.94)])
def test_intervals_hold_the_mean_of_scores_as_often_as_they_say(images: int, least: float) -> None:
    rng = np.random.default_rng(0)
    assert share_of_hits(lambda n: rows(rng.beta(30, 10, n)), images, 0.75) >= least
    assert share_of_hits(lambda n: rows(rng.beta(20, 0.5, n)), images, 20 / 20.5) >= least
    assert share_of_hits(lambda n: rows((rng.random(n) < 0.7).astype(float)), images, 0.7) >= least - 0.02


def test_intervals_of_ratios_hold_what_many_images_say() -> None:
    rng = np.random.default_rng(0)

    def draw(images: int) -> np.ndarray:
        areas = rng.dirichlet([10, 6, 4], images) * (rng.random((images, 3)) < [1, 1, 0.6])
        right = np.clip([0.9, 0.8, 0.6] + 0.15 * rng.standard_normal((images, 3)), 0, 1)
        return np.concatenate([areas * right, areas * (2 - right)], axis=1)

    truth = SHARE.of_all("miou", draw(200_000))
    for images in (20, 100, 400):
        assert share_of_hits(draw, images, truth) >= 0.93


def test_a_quality_in_its_own_unit_survives_json() -> None:
    for score in (SHARE, DECIBELS, DISTANCE, Score("", -1, 1)):
        quality = Quality("m", 0.7, 0.6, 0.8, 100, score)
        document = json.loads(json.dumps(quality.to_json()))
        assert ("score" in document) == (score != SHARE)
        assert Quality.from_json(document) == quality
    assert Quality("psnr", 0.5, 0.5, 0.75, 9, DECIBELS).to_json()["score"] == {
        **{"unit": "dB", "worst": 0.0, "best": 60.0},
        **{"value": 30.0, "low": 30.0, "high": 45.0},
    }


@pytest.mark.parametrize(
    "change",
    [{"best": 50.0}, {"value": 31.0}, {"unit": 3}, {"worst": 60.0}, {"worst": "0"}, {"more": 1}, {"best": 1e300}],
)
def test_a_quality_whose_score_says_something_else_is_refused(change: dict[str, object]) -> None:
    document = Quality("psnr", 0.5, 0.5, 0.75, 9, DECIBELS).to_json()
    document["score"] |= change
    with pytest.raises(ProfileError, match="score"):
        Quality.from_json(document)
