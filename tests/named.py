"""A device whose features are names: each knows the blocks that made it, and how many bytes are alive is counted.

It is the local device with an engine that computes nothing, so that what runs is the real interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from zlib import crc32

import numpy as np
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.base import DeviceInfo, Evaluation
from adaptivenet.toolkit.devices.local.assembler import Assembler
from adaptivenet.toolkit.devices.local.local import LocalSession
from adaptivenet.toolkit.graph.graph import BlockGraph, Cut
from adaptivenet.toolkit.graph.score import SHARE

METRICS = {"agreement": ("output", "oracle"), "fidelity": ("oracle", "output")}
ALONE = {"luck": ("output",)}


class Feature:
    """What blocks made of an image. It counts in its engine as long as it is alive."""

    def __init__(self, engine: NamedEngine, path: tuple[str, ...], image: int) -> None:
        self.engine, self.path, self.image = engine, path, image
        cut = engine.graph[path[-1]].end if path else 0
        self.bytes = engine.graph.cuts[cut].bytes
        engine.alive += self.bytes
        engine.peak = max(engine.peak, engine.alive)

    def __del__(self) -> None:
        self.engine.alive -= self.bytes


@dataclass
class NamedEngine:
    """`ran` are the paths that blocks have made, `alive` and `peak` bytes of features."""

    graph: BlockGraph
    name: str = "named"
    version: str = "0"
    backend: str = "named"
    threads: int = 1
    assemble = None

    def __post_init__(self) -> None:
        self.ran: list[tuple[tuple[str, ...], int]] = []
        self.alive = self.peak = 0

    def check_threads(self) -> None:
        """There is only one."""

    def load(self, what: str, data: bytes, layout: str, takes: Any, gives: Any) -> Any:
        """A block makes a longer path of a path; a metric, a number of what it is given."""
        kind, name = what.split()
        name = name.strip("'")

        def run(operands: Sequence[Feature], keep: bool = True) -> Any:
            assert len({operand.image for operand in operands}) == 1
            start, image = operands[0], operands[0].image
            if kind == "metric":
                paths = [operand.path for operand in operands]
                return np.array([crc32(repr((name, paths, image)).encode()) % 2, 1.0])
            reads = self.graph.reads(self.graph[name])
            assert all(operand.path == start.path[: len(operand.path)] for operand in operands)
            assert tuple(self.graph[f.path[-1]].end if f.path else 0 for f in operands) == reads
            self.ran.append(((*start.path, name), image))
            return Feature(self, (*start.path, name), image)

        return run

    def tensor(self, array: np.ndarray, layout: str) -> Feature:
        """The input."""
        return Feature(self, (), int(array.flat[0]))

    def array(self, tensor: Any) -> Any:
        """The sums of a metric."""
        return tensor


class NamedPack:
    """A pack of such blocks."""

    name = "named"

    def __init__(self, graph: BlockGraph, metrics: Mapping[str, tuple[str, ...]]) -> None:
        self.graph, self.metrics = graph, metrics
        self.label = (1,)
        self.sums = dict.fromkeys(metrics, ("right", "count"))
        self.scored = dict.fromkeys(metrics, SHARE)

    def artifact(self, name: str, backend: str) -> Any:
        """No bytes."""
        return type("Artifact", (), {"layout": "contiguous", "bytes": 0})

    metric_artifact = artifact

    def read(self, artifact: Any) -> bytes:
        """No bytes."""
        return b""


class NamedData:
    """Images that are numbers, from `first` on."""

    labels = None
    label_shape = None

    def __init__(self, cut: Cut, first: int, count: int) -> None:
        self.cut, self.first, self.count = cut, first, count
        self.digest = f"{first}+{count}"

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> np.ndarray:
        """All pixels are its number."""
        return np.full(self.cut.shape, self.first + index, self.cut.dtype)


def named_session(graph: BlockGraph, metrics: Mapping[str, tuple[str, ...]]) -> tuple[LocalSession, NamedEngine]:
    """A session, and its engine."""
    engine = NamedEngine(graph)
    info = DeviceInfo("named", "named", "", engine.name, engine.version, 1, 1)
    return LocalSession(info, Assembler(cast(Any, NamedPack(graph, metrics)), engine), engine), engine


def named_data(graph: BlockGraph, first: int, count: int) -> Dataset:
    """`count` images for a graph."""
    return cast(Dataset, NamedData(graph.cuts[0], first, count))


def same(one: Evaluation, other: Evaluation) -> bool:
    return one.subnets == other.subnets and all(
        np.array_equal(values, other.sums[metric]) for metric, values in one.sums.items()
    )
