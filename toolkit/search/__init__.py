"""Search strategies: what to evaluate next, and what is best for each budget."""

from .annealing import Annealing
from .base import Result, Strategy, Trial
from .best_paths import best_paths
from .evaluator import Evaluator
from .evolutionary import Evolutionary
from .random_search import Random
from .run import Searched, search
from .surrogate import Surrogate, first_look

STRATEGIES = ("surrogate", "evolutionary", "annealing", "random")

__all__ = [
    "STRATEGIES",
    "Annealing",
    "Evaluator",
    "Evolutionary",
    "Random",
    "Result",
    "Searched",
    "Strategy",
    "Surrogate",
    "Trial",
    "best_paths",
    "first_look",
    "search",
]
