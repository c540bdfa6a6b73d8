"""Doubts about an original network: exact binomial bounds, and what is said of an answer that never changes."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from adaptivenet.toolkit.graph.doubts import chance_of, guessing, nothing_lost, one_answer
from adaptivenet.toolkit.graph.quality import Quality
from adaptivenet.toolkit.graph.score import Score
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 60), st.data(), st.fractions(Fraction(1, 1000), Fraction(999, 1000), max_denominator=1000))
def test_the_chance_of_guessing_is_the_binomial_tail(asked: int, drawn: st.DataObject, share: Fraction) -> None:
    correct = drawn.draw(st.integers(0, asked + 1))
    exact = sum(comb(asked, k) * share**k * (1 - share) ** (asked - k) for k in range(correct, asked + 1))
    assert chance_of(correct, asked, float(share)) == pytest.approx(float(exact), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    ("correct", "asked", "classes", "doubtful"),
    [
        (0, 200, 1000, True),
        (2, 200, 1000, True),  # guessing does as well in 1.7 of 100 cases
        (3, 200, 1000, False),
        (28, 200, 10, True),
        (33, 200, 10, False),
        (7, 10, 2, True),
        (10, 10, 2, False),
    ],
)
def test_an_original_that_could_be_guessing(correct: int, asked: int, classes: int, doubtful: bool) -> None:
    doubt = guessing(Quality.from_counts("top1", correct, asked), classes)
    assert (doubt is not None) == doubtful
    if doubt:
        assert f"among {classes} classes" in doubt
        assert "check the preprocessing, the labels and the weights" in doubt


def test_pixels_count_as_their_pictures() -> None:
    assert guessing(Quality.from_counts("top1", 1200, 10000, 10), 11) is not None
    assert guessing(Quality.from_counts("top1", 9000, 10000, 10), 11) is None


def test_one_answer_is_doubted_on_several_pictures_only() -> None:
    assert one_answer("'rose'", 4) is None
    assert "gives the same answer ('rose') for all 5 pictures" in (one_answer("'rose'", 5) or "")


def test_only_agreement_can_be_too_good() -> None:
    assert nothing_lost(Quality.from_counts("top1", 9, 9), False) is None
    assert nothing_lost(Quality.from_counts("agreement", 8, 9), True) is None
    assert "reaches 100.0% agreement on 9 pictures" in (
        nothing_lost(Quality.from_counts("agreement", 9, 9), True) or ""
    )
    decibels = Quality("psnr", 1.0, 0.9, 1.0, 9, Score("dB", 0, 60))
    assert "reaches 60.00 dB psnr on 9 pictures" in (nothing_lost(decibels, True) or "")
