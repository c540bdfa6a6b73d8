"""Search strategies: what to evaluate next, and what is best for each budget."""

from ..graph.best_paths import best_paths
from .annealing import Annealing
from .base import Result, Strategy, Trial
from .evaluator import Evaluator
from .evolutionary import Evolutionary
from .random_search import Random
from .registry import STRATEGIES, strategy_class, strategy_name
from .run import Searched, complete, search
from .surrogate import Surrogate, first_look

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
    "complete",
    "first_look",
    "search",
    "strategy_class",
    "strategy_name",
]
