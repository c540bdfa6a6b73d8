"""Reasons to doubt a quality before anybody decides by it: an original network that guesses, or always says the same.

Each function returns one sentence that names the likely cause, or None where there is nothing to doubt.
"""

from __future__ import annotations

from math import exp, lgamma, log

from ..plurals import number_of
from .quality import Quality

_SURE = 0.01  # guessing gets so many right, or more, in fewer than one of a hundred cases
_LEAST_ANSWERS = 5  # fewer pictures than this may well be all of one class
_ANSWERS = {"top1": 1, "top5": 5}  # of a network, one of which is to be right
_CAUSES = "check the preprocessing, the labels and the weights"


def chance_of(correct: int, asked: int, share: float) -> float:
    """The probability that guessing, which is right with probability `share`, gets at least `correct` of `asked`.

    The upper tail of the binomial distribution, exactly.
    """
    if correct <= 0 or share >= 1:
        return 1.0
    if correct > asked or share <= 0:
        return 0.0
    logs = (
        lgamma(asked + 1) - lgamma(k + 1) - lgamma(asked - k + 1) + k * log(share) + (asked - k) * log(1 - share)
        for k in range(correct, asked + 1)
    )
    return min(1.0, sum(map(exp, logs)))


def guessing(original: Quality, classes: int) -> str | None:
    """Whether the original network's top-1, or top-5, could be guessing among so many classes.

    The test is one-sided and exact. Where an image counts in parts, as with a class for each pixel, it is taken for
    one answer, which is right as often as its pixels are: that doubts too much rather than too little.
    """
    correct = int(original.value * original.n + 1e-6)
    share = _ANSWERS.get(original.metric, 1) / classes
    chance = chance_of(correct, original.n, share)
    if chance < _SURE:
        return None
    return (
        f"the original network has a {original.metric} of {original.value:.1%} on "
        f"{number_of(original.n, 'picture')}, and guessing "
        f"among {classes} classes does as well with a probability of {chance:.2g}: {_CAUSES}"
        + (", or give more pictures" if original.value > 1.5 * share else "")
    )


def one_answer(answer: str, pictures: int, network: str = "the original network") -> str | None:
    """What to think of a network that gave the same answer for all of so many pictures."""
    if pictures < _LEAST_ANSWERS:
        return None
    return (
        f"{network} gives the same answer ({answer}) for all {pictures} pictures, so they tell nothing of its quality: "
        f"{_CAUSES}, or give pictures of several classes"
    )


def nothing_lost(fastest: Quality, with_oracle: bool) -> str | None:
    """Whether the fastest subnet of all answers as the original does on every picture, as only a defect allows.

    `with_oracle`: the metric compares with the original; by others, all subnets may well be right.
    """
    if fastest.value < 1 or not with_oracle:
        return None
    return (
        f"the fastest subnet of all reaches {fastest.text} {fastest.metric} on {number_of(fastest.n, 'picture')}, "
        f"the most "
        f"there is, so these pictures cannot tell subnets apart: {_CAUSES}"
    )
