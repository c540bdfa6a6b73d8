"""The default search: a model of quality fitted to everything measured so far, and solved exactly.

Every alternative is taken to cost a factor of quality, whatever the other blocks of the path are: the logarithm of a
subnet's quality is a sum over its blocks. The factors are fitted by ridge regression, with the local distillation
losses as the prior. What is best under each budget then follows from dynamic programming (`best_paths`), is evaluated,
and the model is fitted again. The first subnets asked for are the two ends of every front, the oracle and the fastest,
and then the oracle with one block replaced, for each block: these tell every factor apart, and they share the longest
prefixes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..graph import BlockGraph, Subnet
from ..latency import fastest_and_slowest
from .base import Result, Strategy
from .best_paths import best_paths

_OWN = 0.3  # how far a block's log factor strays from what its local loss says: a standard deviation
_MISFIT = 0.05  # the standard deviation of a log quality about the sum of its blocks, however many images there are
_RIDGE_LOSS = 1e-3  # of the factor that all blocks share, per local loss
_MODEL_IMAGES = 32  # the fitted value counts as much as a measurement on so many images


class Surrogate(Strategy):
    """Searches all `budgets` (milliseconds, predicted) at once. `cost` is the latency of each block in milliseconds.

    `depth` is how many of the best paths of each budget must have been evaluated for the search to be over.
    """

    def __init__(
        self, graph: BlockGraph, cost: Mapping[str, float], budgets: Sequence[float], *, depth: int = 4
    ) -> None:
        self.graph = graph
        self.cost = dict(cost)
        self.budgets = tuple(budgets)
        self.depth = depth
        self.results: dict[Subnet, Result] = {}
        fastest, _ = fastest_and_slowest(graph, cost)
        self._seeds = list(dict.fromkeys([graph.oracle, fastest, *_replace_one(graph)]))
        self._columns = {
            block.name: column for column, block in enumerate(b for b in graph.blocks if b.kind != "original")
        }

    def ask(self, n: int) -> list[Subnet]:
        """See `Strategy.ask`."""
        waiting = [subnet for subnet in self._seeds if subnet not in self.results]
        return waiting[:n] if waiting else self._unmeasured_best(n)

    def tell(self, results: Sequence[Result]) -> None:
        """See `Strategy.tell`."""
        self.results |= {result.subnet: result for result in results}

    def estimate(self) -> dict[Subnet, float]:
        """The measured quality drawn towards the model's: the model has seen more images than any one subnet."""
        intercept, value = self._fit()
        estimates = {}
        for subnet, result in self.results.items():
            model = min(1.0, math.exp(intercept + sum(value[name] for name in subnet)))
            estimates[subnet] = (result.n * result.quality + _MODEL_IMAGES * model) / (result.n + _MODEL_IMAGES)
        return estimates

    def _unmeasured_best(self, n: int) -> list[Subnet]:
        """What the model holds for best and nobody has measured: the best of every budget first, then the second."""
        _, value = self._fit()
        ranked = best_paths(self.graph, self.cost, value, self.budgets, self.depth)
        by_rank = [paths[rank] for rank in range(self.depth) for paths in ranked if rank < len(paths)]
        return list(dict.fromkeys(subnet for subnet in by_rank if subnet not in self.results))[:n]

    def _fit(self) -> tuple[float, dict[str, float]]:
        """The logarithm of the oracle's quality and of each block's factor, by weighted ridge regression."""
        losses = np.array([self._loss(name) for name in self._columns])
        results = list(self.results.values())
        rows = np.zeros((len(results), len(self._columns)))
        for row, result in enumerate(results):
            rows[row, [self._columns[name] for name in result.subnet if name in self._columns]] = 1
        quality = np.array([max(result.quality, 0.5 / result.n) for result in results])
        # A log share measured on n images has a variance of about (1 - q) / (q n); below 1 / n nobody can tell.
        images = np.array([result.n for result in results])
        weight = 1 / (np.maximum((1 - quality) / quality, 1 / images) / images + _MISFIT**2)
        features = np.column_stack([np.ones(len(results)), rows @ losses, rows])
        penalty = np.diag([0.0, _RIDGE_LOSS, *[_OWN**-2] * len(self._columns)])
        normal = features.T @ (weight[:, None] * features) + penalty
        solution = np.linalg.lstsq(normal, features.T @ (weight * np.log(quality)), rcond=None)[0]
        factors = solution[1] * losses + solution[2:]
        value = dict.fromkeys((block.name for block in self.graph.blocks), 0.0)
        value |= {name: float(factors[column]) for name, column in self._columns.items()}
        return float(solution[0]), value

    def _loss(self, name: str) -> float:
        """The block's local loss; where there is none, the number of blocks it replaces is all that is known."""
        block = self.graph[name]
        return float(block.end - block.start) if block.loss is None else block.loss


def _replace_one(graph: BlockGraph) -> list[Subnet]:
    """For every alternative, the oracle with that one block in it."""
    return [graph.replace(graph.oracle, block) for block in graph.blocks if block.kind != "original"]
