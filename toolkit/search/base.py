"""What a search strategy is: it asks for subnets to be tried on images, and is told how they did on each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import ProfileError
from ..graph.graph import BlockGraph, Subnet


@dataclass(frozen=True)
class Trial:
    """A subnet to be evaluated on the first `images` of the search's images. It costs those it has not seen yet."""

    subnet: Subnet
    images: int


@dataclass(frozen=True, eq=False)
class Result:
    """How a subnet did on the first images: float64 `scores` of shape (n,), whose mean is its quality from 0 to 1.

    Of most metrics each is the image's own quality; `Score.of_images` says what it is of others. `sums` (n, sums) is
    what they were made of; None where that is not known.
    """

    subnet: Subnet
    scores: NDArray[np.float64]
    sums: NDArray[np.float64] | None = None

    @property
    def n(self) -> int:
        """On how many images it was evaluated."""
        return len(self.scores)

    @cached_property
    def quality(self) -> float:
        """The mean over the images."""
        return float(self.scores.mean())


class Strategy(ABC):
    """Decides what to evaluate next, and never evaluates anything itself. The same seed asks for the same trials."""

    results: dict[Subnet, Result]
    """All that it was told, the newest of each subnet."""

    @classmethod
    def for_profile(
        cls,
        graph: BlockGraph,
        cost: Mapping[str, float],
        targets: Sequence[float],
        images: int,
        evaluations: int,
        seed: int,
    ) -> Strategy:
        """The strategy for one search of a profile: the door that a class of one's own comes in by.

        `cost` is the predicted milliseconds of each block, `targets` are the latencies to search for, also in
        milliseconds; there are `images` to search on, and as many evaluations as of `evaluations` subnets on all of
        them.
        """
        raise ProfileError(f"the search strategy {cls.__qualname__} has no for_profile: define it, see {__name__}")

    @abstractmethod
    def ask(self, n: int) -> list[Trial]:
        """At most `n` trials to make next, each on images that its subnet has not seen; none when it is over."""

    def tell(self, results: Sequence[Result]) -> None:
        """Takes what came of the trials that the last `ask` returned."""
        self.results |= {result.subnet: result for result in results}

    def estimate(self) -> dict[Subnet, float]:
        """By what the evaluated subnets that may be chosen are ranked, from 0 to 1: the mean of their scores."""
        return {subnet: result.quality for subnet, result in self.results.items()}
