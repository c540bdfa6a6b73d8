"""What a profile is asked for: latency budgets, and how to measure and search."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..errors import BudgetError, ProfileError
from ..search import Strategy, strategy_class

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(%|ms)")
_MOST_TOLERANT = 0.5
_ENERGY_ROUNDS = 5


@dataclass(frozen=True)
class Budget:
    """A latency budget as it was asked for: `text` is `75%` (of the whole network's measured latency) or `12.5ms`.

    The whole network is the original in float32 as one program, or the oracle where a pack does not have that.

    A subnet may be over it by `tolerance`, a share of the budget.
    """

    text: str
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not _BUDGET.fullmatch(self.text.strip()) or self.ms(1.0) <= 0:
            raise BudgetError(
                f"{self.text!r} is no latency budget: write it like 75% (of the whole network's) or 12.5ms"
            )

    def ms(self, whole_ms: float) -> float:
        """The budget in milliseconds, for a whole network that takes `whole_ms`."""
        match = _BUDGET.fullmatch(self.text.strip())
        assert match
        return float(match[1]) / 100 * whole_ms if match[2] == "%" else float(match[1])

    def allowed_ms(self, whole_ms: float) -> float:
        """The most that a subnet may take, the tolerance counted in."""
        return self.ms(whole_ms) * (1 + self.tolerance)


def parse_tolerance(text: str) -> float:
    """The share that `1%` or `0.5%` says. Raises BudgetError for anything else, and for more than 50%."""
    match = _BUDGET.fullmatch(text.strip())
    if not match or match[2] != "%" or float(match[1]) > 100 * _MOST_TOLERANT:
        raise BudgetError(
            f"{text!r} is not a tolerance: write it like 1% (of the budget), {_MOST_TOLERANT:.0%} at most"
        )
    return float(match[1]) / 100


@dataclass(frozen=True)
class Settings:
    """How to profile. The search may cost as much as `evaluations` subnets on all of `search_images` pictures: a
    strategy that races evaluates more subnets, most of them on a part of the pictures. None: 20, or more where a pack
    has so many alternatives that `surrogate`'s first look at them takes more than a third of that. The finalists are
    seen on all pictures besides; what that takes is counted in the profile.

    `strategy` is a name out of `search.STRATEGIES`, a class that extends `search.Strategy` and has `for_profile`, or
    `package.module:Class`. `verify_images` pictures that the search never saw give the reported quality. `rounds` is
    how often each block and each finalist is timed at most: it ends sooner when every median is known to 1% (see
    `measuring`). `memory_bytes` bounds the features that are held while evaluating. A subnet may be over a budget by
    `tolerance`, a share of it. What is chosen takes at most `memory_limit_mb` (10^6 bytes), and an inference of it at
    most `energy_limit_mj`. The energy is measured `energy_rounds` times, where the device tells; 0: only where it is
    limited. Raises BudgetError for a text that is not a budget, ProfileError for another value that makes no sense.
    """

    budgets: tuple[str, ...] = ("75%",)
    metric: str | None = None
    strategy: str | type[Strategy] = "surrogate"
    evaluations: int | None = None
    search_images: int = 200
    verify_images: int = 200
    rounds: int = 40
    memory_bytes: int = 256 << 20
    seed: int = 0
    tolerance: float = 0.0
    memory_limit_mb: float | None = None
    energy_limit_mj: float | None = None
    energy_rounds: int = 0

    @property
    def rounds_of_energy(self) -> int:
        """How often energy is measured: where it is limited, five times unless it is said how often."""
        return self.energy_rounds or (0 if self.energy_limit_mj is None else _ENERGY_ROUNDS)

    def __post_init__(self) -> None:
        for text in self.budgets:
            Budget(text)
        strategy_class(self.strategy)
        # Two subnets are always evaluated: the oracle and the fastest.
        least = {"evaluations": 2, "search_images": 1, "verify_images": 1, "rounds": 1, "memory_bytes": 1}
        least["energy_rounds"] = 0
        for name, lowest in least.items():
            if (value := getattr(self, name)) is not None and value < lowest:
                raise ProfileError(f"{name} is {value}; it must be at least {lowest}")
        for name in ("memory_limit_mb", "energy_limit_mj"):
            if (value := getattr(self, name)) is not None and not (math.isfinite(value) and value > 0):
                raise ProfileError(f"{name} is {value}; it must be a positive number")
        if not 0 <= self.tolerance <= _MOST_TOLERANT:
            raise ProfileError(f"tolerance is {self.tolerance}; it must be a share from 0 to {_MOST_TOLERANT}")
