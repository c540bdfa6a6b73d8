"""Search strategies: what to evaluate next, and what is best for each budget."""

from .base import Result, Strategy
from .best_paths import best_paths
from .evolutionary import Evolutionary
from .run import Searched, search
from .surrogate import Surrogate

STRATEGIES = ("surrogate", "evolutionary")

__all__ = ["STRATEGIES", "Evolutionary", "Result", "Searched", "Strategy", "Surrogate", "best_paths", "search"]
