"""Supernet → block pack: every block and metric exported for every backend, in parallel, each one verified."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from adaptivenet.toolkit.atomic import write_file
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.elastic.supernet import checked_classes
from adaptivenet.toolkit.errors import ExportError, PackError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph
from adaptivenet.toolkit.pack.manifest import check_fields
from adaptivenet.toolkit.pack.pack import SUFFIXES, Artifact, BlockPack
from adaptivenet.toolkit.pack.writer import Metric, PackWriter, check_backends, describe
from adaptivenet.toolkit.profiling.profile import Profile
from safetensors.torch import save
from torch import nn

from .bundle import in_words
from .calibration import check_calibration, in_int8, write_calibration
from .fusing import front_of, fuse
from .jobs import Job, jobs_of, tasks_of, versions
from .metrics import choose_metrics, doubt_of_usual, metric_program, usual_metrics
from .networks import noise_for, with_networks
from .resolution import at_resolutions
from .workers import Answer, Program, run_tasks

BACKENDS = tuple(SUFFIXES)
Progress = Callable[[int, int, str], None]


class _Made:
    """The programs that are there, and why others are left out."""

    def __init__(self) -> None:
        self.artifacts: dict[tuple[str, str], Artifact] = {}
        self.left_out: dict[str, str] = {}
        self.without_reference: list[str] = []

    def graph(self, graph: BlockGraph) -> BlockGraph:
        """The graph without the blocks that are left out. The noise of int8 blocks is added to their losses."""
        blocks = [self._known(block) for block in graph.blocks if block.name not in self.left_out]
        return BlockGraph(graph.cuts, blocks, graph.taps)

    def _known(self, block: Block) -> Block:
        snrs = [artifact.snr_db for (name, _), artifact in self.artifacts.items() if name == block.name]
        known = [snr for snr in snrs if snr is not None]
        return replace(block, loss=(block.loss or 0.0) + 10 ** (-min(known) / 10)) if known else block


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
    calibrate: torch.Tensor | None = None,
    also: Mapping[str, nn.Module | str] | None = None,
    resolutions: Sequence[float] | None = None,
    profiles: Sequence[str | Path] = (),
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> BlockPack:
    """Exports every block of `supernet` for every backend and writes the pack to the folder `path`.

    Beside the blocks, the pack has the whole network as one program, `whole`, which every profile compares with, and
    the networks of `also`, by name: modules, or names as `load_model` takes them, with the same input and output. Where
    the input is a picture, it has the whole network at lower `resolutions` as well, shares of the sides (by default
    those of `RESOLUTIONS` on which it runs): in int8 alone where int8 is made, because each has all the weights.
    With `calibrate`, a batch of real inputs, every block that has weights and every network is there in int8 as well.
    With `profiles`, files, the pack is for their fronts alone: one block of each stretch that the subnets on them and
    the original network only take together, and the networks on them.

    `sample` is one real input of cut 0's shape: the features that it gives at every cut are what the programs are
    verified on (a fixed random input when None). `metrics` are those of `metric_names`, such as `miou` or `psnr=255`,
    and functions of your own, `package.module:function` (see `own_metrics`); by default they are what
    `usual_metrics` tells from the output: `top1` and `agreement` for class scores, else mostly `fidelity`.
    `preprocessing` and `classes` (by default the supernet's) go into the pack. `jobs` worker processes export side by
    side (by default one a core). Programs of the pack at `reuse` (with `overwrite`, by default, the pack that is being
    replaced) that were made from the same block by the same exporters are taken over. `progress(done, total, what)` is
    called for each program. An alternative that does not export, differs from torch beyond the tolerance, or ends the
    process that exports it, is left out, and `say` is given a line that says why.

    Raises ExportError when that happens to an original block, `whole` or a metric, when there would be one path alone
    (and no `profiles` that ask for it), or a profile is of another pack,
    PackError when `path` exists (and `overwrite` is not said) or cannot be written, ProfileError when one of `profiles`
    cannot be read, ModelError when a block cannot be stored for the workers. Nothing appears at `path` then.
    """
    say = say or (lambda line: None)
    name = _name(supernet, name)
    chosen = check_export(
        supernet,
        path,
        backends,
        name=name,
        metrics=metrics,
        classes=classes,
        jobs=jobs,
        reuse=reuse,
        overwrite=overwrite,
    )
    names = supernet.classes if classes is None else checked_classes(classes, supernet.scores)
    preprocessing = preprocessing or supernet.preprocessing
    seen, sample = sample is not None, _checked_sample(supernet, sample)
    if metrics is None and (usual := doubt_of_usual(chosen, supernet, names is not None)):
        say(f"note: {usual}")
    if "executorch" in backends and any(isinstance(module, nn.RNNBase) for module in supernet.modules()):
        say(
            "note: executorch's exporter writes a recurrent layer out step by step, which takes minutes and much "
            "memory where steps are many: --backend onnx keeps it one operation"
        )
    supernet, graph, fused_for = planned(supernet, also, calibrate is not None, profiles, resolutions, say)
    if not profiles and graph.of_blocks.count() == 1:
        raise ExportError(
            f"the supernet of {name} has one path, so there would be nothing to choose: make it with kinds of "
            "alternatives that its blocks allow, or export int8 programs as well (calibrate, --int8)"
        )
    if calibrate is not None:
        check_calibration(graph, calibrate)
    programs = [metric_program(each, graph.cuts[-1].shape) for each in chosen]
    if taken := [program.name for program in programs if program.name in graph]:
        raise ExportError(f"metric {taken[0]!r} has the name of a block of the pack: rename one of them")
    if seen and any(program.peak is not None for program in programs):
        with torch.no_grad():
            outputs = supernet(sample, supernet.graph.oracle)
        for doubt in filter(None, (program.doubt(outputs) for program in programs)):
            say(f"note: {doubt}")
    jobs_ = jobs_of(supernet, graph, backends, programs, calibrate)
    old = _reusable(reuse) if reuse is not None else _replaced(path) if overwrite else {}
    report = progress or (lambda done, total, what: None)
    made = _Made()
    artifacts = made.artifacts
    with PackWriter(path, name, overwrite) as writer:
        for job in jobs_:
            if job.made_from in old:
                pack, artifact = old[job.made_from]
                try:
                    data = pack.read(artifact)
                except PackError:  # damaged: it is exported anew
                    del old[job.made_from]
                    continue
                writer.add_blob(data, SUFFIXES[job.backend])
                artifacts[job.name, job.backend] = artifact
                report(len(artifacts), len(jobs_), f"{job.name} for {job.backend} unchanged")
        todo = {job.id: job for job in jobs_ if job.made_from not in old}
        with _scratch() as temporary:
            folder = Path(temporary)

            def done(program: Program, answer: Answer) -> None:
                job = todo[program["id"]]
                if "error" in answer:
                    if not job.optional:
                        if graph.reference == (job.name,) and graph[job.name].is_network:
                            # What a network cannot be exported for, the error of a block names better.
                            made.without_reference.append(answer["error"])
                            return
                        raise ExportError(_fatal(answer["error"], job, graph, backends))
                    made.left_out.setdefault(job.name, answer["error"])
                    report(len(artifacts), len(jobs_), f"{job.name} left out")
                    return
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
                    answer["snr_db"],
                )
                report(len(artifacts), len(jobs_), f"{job.name} for {job.backend}")

            if todo:
                supernet.save(folder / "supernet")
                write_file(folder / "features.safetensors", save(_features(supernet, sample)))
                if calibrate is not None:
                    write_calibration(supernet, calibrate, folder)
                arguments = [folder / "supernet", folder / "features.safetensors", folder]
                run_tasks(tasks_of(todo.values(), supernet.graph), arguments, jobs or os.cpu_count() or 1, done)
        if made.without_reference:
            raise ExportError(made.without_reference[0])
        for block, why in made.left_out.items():
            say(f"{block} is left out: {why}")
        graph = made.graph(graph)
        manifest = describe(
            graph,
            {block.name: {b: artifacts[block.name, b] for b in backends} for block in graph.blocks},
            {
                each.name: Metric(each.operands, {b: artifacts[each.name, b] for b in backends}, each.sums, each.score)
                for each in programs
            },
            preprocessing,
            names,
            {"source": supernet.source, **versions(), **({"fused for": "; ".join(fused_for)} if fused_for else {})},
            supernet.outputs,
            supernet.trained_on,
            supernet.inputs,
        )
        return writer.finish(manifest)


def planned(
    supernet: Supernet,
    also: Mapping[str, nn.Module | str] | None = None,
    int8: bool = False,
    profiles: Sequence[str | Path] = (),
    resolutions: Sequence[float] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Supernet, BlockGraph, list[str]]:
    """The supernet and the graph that `export_pack` exports, and whose fronts they are for, a line a device.

    Raises ExportError for a network that does not fit or a profile of another pack, ProfileError for one that cannot be
    read.
    """
    full = with_networks(supernet, also)
    smaller = at_resolutions(full, resolutions, say)
    supernet = full.having(smaller)
    graph = supernet.graph
    if int8:
        graph = BlockGraph(graph.cuts, [*full.graph.blocks, *in_int8(supernet)], graph.taps)
    known = {str(path): Profile.load(path) for path in profiles}
    if known:
        fronts = [subnet for path, profile in known.items() for subnet in front_of(profile, graph, path)]
        made = fuse(supernet, graph, fronts)
        supernet, graph = made.supernet, made.graph
    return supernet, graph, list(dict.fromkeys(in_words(profile.device) for profile in known.values()))


def check_export(
    supernet: Supernet,
    path: str | Path,
    backends: Sequence[str] = BACKENDS,
    *,
    name: str | None = None,
    metrics: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    jobs: int | None = None,
    reuse: str | Path | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """The metrics of a pack that `export_pack` would write. Raises what it would raise, as far as that can be known
    before anything is exported."""
    unknown = [backend for backend in backends if backend not in BACKENDS]
    if unknown or not backends:
        raise ExportError(f"unknown backends {unknown or '(none)'}: choose from {', '.join(BACKENDS)}")
    if jobs is not None and jobs < 1:
        raise ExportError(f"cannot export with {jobs} jobs: at least 1 is needed")
    names = supernet.classes if classes is None else checked_classes(classes, supernet.scores)
    wanted = usual_metrics(supernet, names is not None) if metrics is None else metrics
    chosen = choose_metrics(wanted, supernet.graph.cuts[-1].shape)
    PackWriter(path, name or "", overwrite).check_path()
    check_fields({"name": _name(supernet, name), "classes": None if names is None else list(names)})
    if reuse is not None:
        _reusable(reuse)
    if overwrite:
        check_backends(path, backends)
    return chosen


def _fatal(error: str, job: Job, graph: BlockGraph, backends: Sequence[str]) -> str:
    """What to say of a program without which there is no pack: where it is in the model, and what else to do."""
    source = graph[job.name].source if job.name in graph else ""
    others = " ".join(f"--backend {each}" for each in backends if each != job.backend)
    return (
        error
        + (f"; the block is {source} of the model" if source else "")
        + (f"; {others} makes a pack without {job.backend}" if others else "")
    )


def _name(supernet: Supernet, name: str | None) -> str:
    return name if name is not None else supernet.source or "pack"


@contextmanager
def _scratch() -> Iterator[str]:
    """A temporary folder for what the workers read and write. Raises ExportError when it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix="adaptivenet-export-") as folder:
            yield folder
    except OSError as error:
        place = error.filename or tempfile.gettempdir()
        raise ExportError(f"the export cannot write to {place}: {error.strerror or error}") from error


def _checked_sample(supernet: Supernet, sample: torch.Tensor | None) -> torch.Tensor:
    shape = supernet.graph.cuts[0].shape
    if sample is None:
        return noise_for(supernet)
    if tuple(sample.shape) != shape:
        raise ExportError(f"the sample has shape {tuple(sample.shape)}; the first cut has {shape}")
    return sample.float()


def _features(supernet: Supernet, sample: torch.Tensor) -> dict[str, torch.Tensor]:
    """The feature at every cut, by its index, for the sample."""
    with torch.no_grad():
        features = supernet.features(sample)
    # Clones, because a block that only reshapes gives a view, and a file of tensors holds no two that share memory.
    return {str(cut): feature.clone(memory_format=torch.contiguous_format) for cut, feature in enumerate(features)}


def _replaced(path: str | Path) -> dict[str, tuple[BlockPack, Artifact]]:
    """The programs of the pack that is to be replaced, by what they were made from; none when it cannot be read."""
    try:
        return _reusable(path)
    except ExportError:
        return {}


def _reusable(path: str | Path) -> dict[str, tuple[BlockPack, Artifact]]:
    """The programs of an earlier pack by what they were made from. Raises ExportError when it cannot be read."""
    try:
        pack = BlockPack.open(path, verify=False)  # what is taken over is verified when it is read
    except PackError as error:
        raise ExportError(f"no programs can be taken over from {path}: {error}") from error
    return {artifact.made_from: (pack, artifact) for artifact in pack.artifacts() if artifact.made_from is not None}
