"""The table of truth of a small search space: every subnet on every picture, right or wrong. Read without torch.

One .npz file of arrays, nothing pickled: `hits` (a picture a row, a subnet a bit, in the order of `graph.paths()`),
`labels` (a picture each), and `document`, a json text with the graph, the milliseconds of each block, and how the table
was made.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from adaptivenet.toolkit.atomic import write_file
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut, Subnet
from adaptivenet.toolkit.graph.ticks import within
from numpy.typing import NDArray

CIFAR10 = Path(__file__).parent / "tables" / "cifar10-resnet20.npz"


@dataclass(frozen=True)
class Truth:
    """`hits` (subnets, pictures): whether each subnet of `graph` gives each picture the class in `labels` (pictures,).

    `cost` is the milliseconds of each block, `made` how all this was made.
    """

    graph: BlockGraph
    cost: Mapping[str, float]
    hits: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    made: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.hits.shape != (self.graph.count(), len(self.labels)):
            raise ValueError(
                f"{self.graph.count()} subnets on {len(self.labels)} pictures do not make {self.hits.shape} hits"
            )

    @classmethod
    def read(cls, path: Path) -> Truth:
        """The table in a file."""
        with np.load(path, allow_pickle=False) as archive:
            document = json.loads(archive["document"].item())
            cuts = [Cut(cut["index"], tuple(cut["shape"]), cut["dtype"]) for cut in document["cuts"]]
            graph = BlockGraph(cuts, [Block(**block) for block in document["blocks"]], document["taps"])
            hits = np.unpackbits(archive["hits"], axis=1, count=graph.count()).T.astype(bool)
            return cls(graph, document["milliseconds"], hits, archive["labels"], document["made"])

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        document = {
            "made": dict(self.made),
            "cuts": [asdict(cut) for cut in self.graph.cuts],
            "blocks": [asdict(block) for block in self.graph.blocks],
            "taps": self.graph.taps,
            "milliseconds": dict(self.cost),
        }
        stream = io.BytesIO()
        # Subnets that begin alike are neighbours and mostly right together: along them, bits compress best.
        hits = np.packbits(self.hits.T, axis=1)
        np.savez_compressed(stream, hits=hits, labels=self.labels, document=np.array(json.dumps(document)))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, stream.getvalue())

    @cached_property
    def subnets(self) -> tuple[Subnet, ...]:
        """Every subnet, in the order of the table."""
        return tuple(self.graph.paths())

    @cached_property
    def row(self) -> dict[Subnet, int]:
        """Where each subnet stands."""
        return {subnet: row for row, subnet in enumerate(self.subnets)}

    @cached_property
    def latency(self) -> NDArray[np.float64]:
        """The milliseconds of every subnet: the sum over its blocks."""
        return np.array([math.fsum(self.cost[name] for name in subnet) for subnet in self.subnets])

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """The percentage of all pictures that every subnet gets right."""
        return 100 * self.hits.mean(axis=1)

    def budget(self, share: float) -> float:
        """So large a share of the oracle's latency, in milliseconds."""
        return share * float(self.latency[self.row[self.graph.oracle]])

    def fits(self, budget: float) -> NDArray[np.bool_]:
        """Which subnets take at most `budget` milliseconds."""
        return np.array([within(0.0, latency, budget) for latency in self.latency])

    def optimum(self, budget: float) -> float:
        """The best accuracy, in percent, within `budget` milliseconds."""
        return float(self.accuracy[self.fits(budget)].max())
