"""What a search strategy is: it asks for subnets to be tried on images, and is told how they did on each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..graph import Subnet


@dataclass(frozen=True)
class Trial:
    """A subnet to be evaluated on the first `images` of the search's images. It costs those it has not seen yet."""

    subnet: Subnet
    images: int


@dataclass(frozen=True, eq=False)
class Result:
    """How a subnet did on the first images: float64 `scores` of shape (n,), each a share from 0 to 1."""

    subnet: Subnet
    scores: NDArray[np.float64]

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

    @abstractmethod
    def ask(self, n: int) -> list[Trial]:
        """At most `n` trials to make next, each on images that its subnet has not seen; none when it is over."""

    def tell(self, results: Sequence[Result]) -> None:
        """Takes what came of the trials that the last `ask` returned."""
        self.results |= {result.subnet: result for result in results}

    def estimate(self) -> dict[Subnet, float]:
        """By what the evaluated subnets that may be chosen are ranked, from 0 to 1: the mean of their scores."""
        return {subnet: result.quality for subnet, result in self.results.items()}
