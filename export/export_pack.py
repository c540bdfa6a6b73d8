"""Supernet → block pack: every block and metric exported for every backend, in parallel, each one verified."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from adaptivenet.toolkit.atomic import write_file
from adaptivenet.toolkit.data import Preprocessing
from adaptivenet.toolkit.elastic import Supernet, recipe
from adaptivenet.toolkit.errors import ExportError, PackError
from adaptivenet.toolkit.pack import SUFFIXES, Artifact, BlockPack
from adaptivenet.toolkit.pack_writer import Metric, PackWriter, describe
from safetensors.torch import save

from .metrics import MODULES, choose_metrics
from .workers import Answer, Task, run_tasks

BACKENDS = tuple(SUFFIXES)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Job:
    """A program that the pack needs: where it goes, what it is made from, and the task that makes it."""

    name: str
    backend: str
    made_from: str
    task: Task


def export_pack(
    supernet: Supernet,
    path: str | Path,
    backends: Sequence[str] = BACKENDS,
    *,
    name: str | None = None,
    sample: torch.Tensor | None = None,
    metrics: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    jobs: int | None = None,
    reuse: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BlockPack:
    """Exports every block of `supernet` for every backend and writes the pack to the folder `path`.

    `sample` is one real input of cut 0's shape: the features that it gives at every cut are what the programs are
    verified on (a fixed random input when None). `metrics` are out of `top1`, `agreement` and `fidelity` (by default
    the first two for one output of several numbers along dimension 1, which is taken for class scores; else, and where
    the network answers with several tensors, `fidelity`). A network whose one output is no class scores wants
    `("fidelity",)`.
    `preprocessing` (by default the supernet's) and `classes` go into the pack. `jobs` worker processes export side by
    side (by default one a core). Programs of the pack at `reuse` (with `overwrite`, by default, the pack that is being
    replaced) that were made from the same block by the same exporters are taken over. `progress(done, total, what)` is
    called for each program.

    Raises ExportError when a block does not export or differs from torch beyond the tolerance, PackError when `path`
    exists (and `overwrite` is not said) or cannot be written, ModelError when a block cannot be stored for the workers.
    Nothing appears at `path` then.
    """
    unknown = [backend for backend in backends if backend not in BACKENDS]
    if unknown or not backends:
        raise ExportError(f"unknown backends {unknown or '(none)'}: choose from {', '.join(BACKENDS)}")
    if jobs is not None and jobs < 1:
        raise ExportError(f"cannot export with {jobs} jobs: at least 1 is needed")
    if metrics is None and len(supernet.outputs) > 1:
        metrics = ("fidelity",)  # several tensors in a row are no class scores
    chosen = choose_metrics(metrics, supernet.graph.cuts[-1].shape)
    preprocessing = preprocessing or supernet.preprocessing
    features = _features(supernet, sample)
    jobs_ = _jobs(supernet, backends, features, chosen)
    old = _reusable(reuse or (path if overwrite and Path(path).exists() else None))
    report = progress or (lambda done, total, what: None)
    artifacts: dict[tuple[str, str], Artifact] = {}
    with PackWriter(path, name or supernet.source or "pack", overwrite) as writer:
        for job in jobs_:
            if job.made_from in old:
                pack, artifact = old[job.made_from]
                writer.add_blob(pack.read(artifact), SUFFIXES[job.backend])
                artifacts[job.name, job.backend] = artifact
                report(len(artifacts), len(jobs_), f"{job.name} for {job.backend} unchanged")
        todo = {str(job.task["id"]): job for job in jobs_ if job.made_from not in old}
        with _scratch() as temporary:
            folder = Path(temporary)

            def done(task: Task, answer: Answer) -> None:
                job = todo[task["id"]]
                file = folder / answer["file"]
                data = file.read_bytes()
                file.unlink()
                artifacts[job.name, job.backend] = Artifact(
                    writer.add_blob(data, SUFFIXES[job.backend]),
                    len(data),
                    answer["layout"],
                    answer["max_abs_error"],
                    answer["tolerance"],
                    job.made_from,
                )
                report(len(artifacts), len(jobs_), f"{job.name} for {job.backend}")

            if todo:
                supernet.save(folder / "supernet")
                write_file(folder / "features.safetensors", save(features))
                arguments = [folder / "supernet", folder / "features.safetensors", folder]
                run_tasks([job.task for job in todo.values()], arguments, jobs or os.cpu_count() or 1, done)
        manifest = describe(
            supernet.graph,
            {block.name: {b: artifacts[block.name, b] for b in backends} for block in supernet.graph.blocks},
            {
                metric: Metric(
                    MODULES[metric].operands, {b: artifacts[metric, b] for b in backends}, MODULES[metric].sums
                )
                for metric in chosen
            },
            preprocessing,
            classes,
            {"source": supernet.source, **_versions()},
            supernet.outputs,
        )
        return writer.finish(manifest)


@contextmanager
def _scratch() -> Iterator[str]:
    """A temporary folder for what the workers read and write. Raises ExportError when it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix="adaptivenet-export-") as folder:
            yield folder
    except OSError as error:
        place = error.filename or tempfile.gettempdir()
        raise ExportError(f"the export cannot write to {place}: {error.strerror or error}") from error


def _features(supernet: Supernet, sample: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The feature at every cut, by its index, for the sample."""
    shape = supernet.graph.cuts[0].shape
    if sample is None:
        sample = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if tuple(sample.shape) != shape:
        raise ExportError(f"the sample has shape {tuple(sample.shape)}; the first cut has {shape}")
    with torch.no_grad():
        features = supernet.features(sample.float())
    # Clones, because a block that only reshapes gives a view, and a file of tensors holds no two that share memory.
    return {str(cut): feature.clone(memory_format=torch.contiguous_format) for cut, feature in enumerate(features)}


def _jobs(
    supernet: Supernet, backends: Sequence[str], features: Mapping[str, torch.Tensor], metrics: Sequence[str]
) -> list[_Job]:
    jobs: list[_Job] = []
    for block in supernet.graph.blocks:
        module = supernet.blocks[block.name]
        made_from = hashlib.sha256(json.dumps(recipe.to_json(module), sort_keys=True).encode())
        for key, tensor in sorted(recipe.tensors(module).items()):
            made_from.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            made_from.update(tensor.contiguous().numpy().tobytes())
        for cut in supernet.graph.reads(block):
            made_from.update(str(tuple(features[str(cut)].shape)).encode())
        for backend in backends:
            task = {"id": str(len(jobs)), "block": block.name, "backend": backend}
            jobs.append(_Job(block.name, backend, _with_exporter(made_from.hexdigest(), backend), task))
    for metric in metrics:
        for backend in backends:
            task = {"id": str(len(jobs)), "metric": metric, "backend": backend}
            what = f"{metric} {supernet.graph.cuts[-1].shape}"
            jobs.append(_Job(metric, backend, _with_exporter(what, backend), task))
    return jobs


def _with_exporter(what: str, backend: str) -> str:
    """The digest of what a program is made from and of the versions that make it."""
    return hashlib.sha256(f"{what} {backend} {sorted(_versions().items())}".encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {package: version(package) for package in ("adaptivenet", "torch", "executorch", "onnx", "onnxscript")}


def _reusable(path: str | Path | None) -> dict[str, tuple[BlockPack, Artifact]]:
    """The programs of an earlier pack by what they were made from; none when it cannot be read."""
    if path is None:
        return {}
    try:
        pack = BlockPack.open(path)
    except PackError:
        return {}
    return {artifact.made_from: (pack, artifact) for artifact in pack.artifacts() if artifact.made_from is not None}
