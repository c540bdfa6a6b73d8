"""What a search strategy is: it is asked for subnets and told how good they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from ..graph import Subnet


@dataclass(frozen=True)
class Result:
    """A subnet's quality, a share from 0 to 1, measured on `n` images."""

    subnet: Subnet
    quality: float
    n: int


class Strategy(ABC):
    """Decides what to evaluate next, and never evaluates anything itself. The same seed asks for the same subnets."""

    @abstractmethod
    def ask(self, n: int) -> list[Subnet]:
        """At most `n` subnets to evaluate next, none of them asked for before; none at all when the search is over."""

    @abstractmethod
    def tell(self, results: Sequence[Result]) -> None:
        """Takes the qualities of the subnets that the last `ask` returned."""

    @abstractmethod
    def estimate(self) -> dict[Subnet, float]:
        """The estimated quality of every evaluated subnet: what to choose by."""
