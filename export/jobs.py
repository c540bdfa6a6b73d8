"""The programs that a pack needs, and the digests by which they are known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import torch
from adaptivenet.toolkit.elastic import Supernet, recipe
from adaptivenet.toolkit.graph.graph import BlockGraph
from torch import nn

from .calibration import cuts_of_one_scale
from .metric_modules import MetricProgram
from .onnx_part import Place
from .own_metrics import import_path
from .workers import Program, Task

REVISIONS = {"executorch": 2, "onnx": 2}
"""What is made here, by backend: a higher number keeps the programs of earlier packs from being taken over."""


@dataclass(frozen=True)
class Job:
    """A program that the pack needs: its name there, what it is made from, and what makes it.

    `subject` is the block of the supernet, or the metric, that it is a program of, as `("block", name)`. A pack can do
    without one that is `optional`.
    """

    id: str
    name: str
    backend: str
    made_from: str
    subject: tuple[str, str]
    int8: bool = False
    optional: bool = False

    @property
    def program(self) -> Program:
        """What a worker is asked for."""
        return {"id": self.id, "name": self.name, "backend": self.backend, "int8": self.int8}


def jobs_of(
    supernet: Supernet,
    graph: BlockGraph,
    backends: Sequence[str],
    metrics: Sequence[MetricProgram],
    calibrate: torch.Tensor | None,
) -> list[Job]:
    """The programs of all blocks of `graph`, which has those of the supernet and int8 variants, and of the metrics."""
    jobs: list[Job] = []
    calibration = None
    if calibrate is not None:
        pictures = hashlib.sha256(calibrate.contiguous().numpy().tobytes()).hexdigest()
        calibration = f"{pictures} {_version('torchao')} {_version('onnxruntime')} {cuts_of_one_scale(graph)}"
    content: dict[str, str] = {}
    for block in graph.blocks:
        of = block.twin_of or block.name
        made_from = content[of] if of in content else _content(supernet.blocks[of])
        content[of] = made_from
        shapes = [graph.cuts[cut].shape for cut in graph.reads(block)]
        optional = not block.is_original and graph.reference != (block.name,)
        for backend in backends:
            # An ONNX program says where in the network its block lies.
            place = Place.of(graph, block) if backend == "onnx" else ""
            what = f"{made_from} {shapes} {f'int8 {calibration}' if block.twin_of else ''} {place}"
            jobs.append(
                Job(
                    str(len(jobs)),
                    block.name,
                    backend,
                    _with_exporter(what, backend),
                    ("block", of),
                    block.twin_of is not None,
                    optional,
                )
            )
    for metric in metrics:
        for backend in backends:
            made_from = _with_exporter(metric.content, backend)
            jobs.append(Job(str(len(jobs)), metric.name, backend, made_from, ("metric", metric.wanted)))
    return jobs


def tasks_of(jobs: Iterable[Job], graph: BlockGraph) -> list[Task]:
    """Tasks for workers: all programs of a block in one, those that take longest first, which are whole networks."""
    tasks: dict[tuple[str, str], Task] = {}
    for job in jobs:
        what, name = job.subject
        path = {"path": import_path()} if what == "metric" else {}
        tasks.setdefault(job.subject, {what: name, **path, "programs": []})["programs"].append(job.program)
    return sorted(tasks.values(), key=lambda task: not ("block" in task and graph[task["block"]].is_network))


def _content(module: nn.Module) -> str:
    """The digest of a block's operations and weights."""
    content = hashlib.sha256(json.dumps(recipe.to_json(module), sort_keys=True).encode())
    for key, tensor in sorted(recipe.tensors(module).items()):
        content.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content.update(tensor.contiguous().numpy().reshape(-1).data)
    return content.hexdigest()


def _with_exporter(what: str, backend: str) -> str:
    """The digest of what a program is made from and of the versions that make it."""
    made_by = f"{backend} {REVISIONS[backend]} {sorted(versions().items())}"
    return hashlib.sha256(f"{what} {made_by}".encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of what makes programs."""
    return {package: _version(package) for package in ("adaptivenet", "torch", "executorch", "onnx", "onnxscript")}


_version = cache(version)  # which reads a file
