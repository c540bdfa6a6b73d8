"""The block pack: a folder that holds every block of a search space, ready for devices, or an archive of such a folder.

`manifest.json` describes the graph; `blobs/` holds the exported programs, each named after the SHA-256 of its content.
A pack may come from anywhere, so everything is checked before anything is used. docs/pack.md describes the format field
by field; the checks here come in the order given there. Nothing is imported to read a pack but the JSON Schema library.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..data.inputs import Input, in_rows, require_known
from ..data.preprocessing import Preprocessing
from ..errors import GraphError, PackError, PreprocessingError
from ..graph.graph import Block, BlockGraph, Cut
from ..graph.score import SHARE, Score
from ..plurals import number_of
from .archive import Archive
from .manifest import MANIFEST, MANIFEST_LIMIT, parse_manifest
from .trained_on import TrainedOn

if TYPE_CHECKING:
    from ..data import Dataset

BLOBS = "blobs"
SUFFIXES = {"executorch": ".pte", "onnx": ".onnx"}
_FILE = re.compile(r"blobs/([0-9a-f]{64})(\.pte|\.onnx)")


@dataclass(frozen=True)
class Artifact:
    """One exported program of a pack, for one backend.

    `file` is relative to the pack and `bytes` its size. `layout` is the memory order that the program expects of 4-D
    tensors, `contiguous` (NCHW) or `channels_last` (NHWC). `max_abs_error` is the largest absolute difference from the
    torch block that was measured at export and `tolerance` the largest that was allowed; None: not measured.
    `snr_db` is how far the torch block's output is above the difference from it, in decibels, over the pictures that an
    int8 program was calibrated with; None: not measured.
    `made_from` is a digest of the block and the exporter's versions: when it is the same, the program can be reused.
    Raises PackError when `file` is not `blobs/<sha256>.pte` or `.onnx`, or the error exceeds the tolerance.
    """

    file: str
    bytes: int
    layout: str = "contiguous"
    max_abs_error: float | None = None
    tolerance: float | None = None
    made_from: str | None = None
    snr_db: float | None = None

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.file):
            raise PackError(f"file name {self.file!r} is not 'blobs/', 64 hexadecimal digits, and '.pte' or '.onnx'")
        error, tolerance = self.max_abs_error, self.tolerance
        if error is not None and tolerance is not None and error > tolerance:
            raise PackError(f"{self.file} differs from torch by {error:g}, more than the tolerance of {tolerance:g}")

    @property
    def sha256(self) -> str:
        """The SHA-256 of the content, as hexadecimal digits: the stem of the file's name."""
        return Path(self.file).stem

    def to_json(self) -> dict[str, Any]:
        """The artifact as it stands in the manifest."""
        return asdict(self)


class BlockPack:
    """A block pack that has been checked. Made by `BlockPack.open`.

    `path` is the folder, or the archive; `manifest` the parsed manifest; `name` what the pack calls itself; `digest`
    the digest of the manifest, and so of everything; `graph` the search space; `preprocessing` how a picture becomes
    the input (None: the input is no picture); `classes` the names of the classes (None: not a classifier, or unknown);
    `metrics` the operand kinds of each metric program, and `sums` the names of what it returns; `scored` what the
    scores are of each that makes one; `label` the shape of one label, that of the output without its dimension 1;
    `inputs` the network's inputs where cut 0 holds several in one row (empty: it is the input; see `row`);
    `outputs` the names and shapes of the tensors that the output holds one after another (empty: it is one tensor);
    `trained_on` the pictures that its blocks were trained on (None: unknown); `backends` what the blocks are exported
    for.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], archive: Archive | None = None) -> None:
        """A pack from a manifest that `parse_manifest` has passed. Raises PackError when it is not consistent."""
        self.path = path
        self._archive = archive
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.digest: str = manifest["digest"]
        self.graph = _graph(manifest)
        self.classes: tuple[str, ...] | None = None if manifest["classes"] is None else tuple(manifest["classes"])
        self.metrics: Mapping[str, tuple[str, ...]] = {
            name: tuple(metric["operands"]) for name, metric in manifest["metrics"].items()
        }
        self.sums: Mapping[str, tuple[str, ...]] = {
            name: tuple(metric["sums"]) for name, metric in manifest["metrics"].items()
        }
        self.scored = _scored(manifest)
        output = self.graph.cuts[-1].shape
        self.label = (*output[:1], *output[2:])
        self.inputs = _inputs(manifest, self.graph)
        self.outputs = _outputs(manifest, self.graph)
        self.preprocessing = _preprocessing(manifest, self.graph)
        trained_on = manifest.get("trained_on")
        self.trained_on = None if trained_on is None else TrainedOn.from_text(trained_on)
        self._blocks = {block["name"]: _artifacts(block["artifacts"]) for block in manifest["blocks"]}
        self._metrics = {name: _artifacts(metric["artifacts"]) for name, metric in manifest["metrics"].items()}
        self.backends = _backends(self._blocks, self._metrics)

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = True) -> BlockPack:
        """The pack in the folder or the archive `path`, checked as docs/pack.md says.

        `verify=False` leaves out reading and hashing the blobs, which takes a moment for a large pack; everything else
        is checked still, and `read` always verifies what it returns. Raises PackError, naming what is wrong.
        """
        path = Path(path)
        try:
            if not os.path.lexists(path):
                raise PackError("there is nothing there; give the folder that holds manifest.json, or an archive of it")
            if not path.is_dir() and not path.is_file():
                raise PackError("is not a folder; give the folder that holds manifest.json, or an archive of it")
            archive = Archive(path) if path.is_file() else None
            with archive.open(MANIFEST)[0] if archive else _open_regular(path / MANIFEST) as stream:
                data = stream.read(MANIFEST_LIMIT + 1)
            pack = cls(path, parse_manifest(data), archive)
            if not archive and ((path / BLOBS).is_symlink() or not (path / BLOBS).is_dir()):
                raise PackError(f"{BLOBS} is not a folder (or a link to one); export or copy the pack again")
            for artifact in sorted(set(pack.artifacts()), key=lambda artifact: artifact.file):
                pack._check(artifact, verify)
        except PackError as error:
            raise PackError(f"block pack {path}: {error}") from error
        return pack

    def __repr__(self) -> str:
        return f"BlockPack({self.name!r}, {', '.join(self.backends)}, {self.graph!r})"

    @property
    def scores(self) -> tuple[int, ...] | None:
        """The shape of the class scores that the network gives, `(1, classes, ...)`; None: it gives something else."""
        labelled = any("label" in operands for operands in self.metrics.values())
        scores = self.classes is not None or labelled or "agreement" in self.metrics
        return self.graph.cuts[-1].shape if scores and not self.outputs else None

    def open_data(self, path: str | os.PathLike[str], *, labels: str | None = None) -> Dataset:
        """The pictures at `path`, prepared and labelled for this pack: see `adaptivenet.toolkit.open_data`.

        `labels` names a folder of label maps. Raises DataError.
        """
        from ..data import open_data

        return open_data(
            path,
            self.preprocessing,
            self.classes,
            self.graph.cuts[0],
            scores=self.scores,
            labels=labels,
            inputs=self.inputs,
        )

    def row(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """A network's several inputs by name, each `(1, *shape[1:])`, as what a subnet is run on: `(1, width)`.

        Raises DataError when one is missing, unknown or does not fit.
        """
        require_known(inputs, self.inputs)
        return in_rows(inputs, self.inputs)

    def artifact(self, block: str, backend: str) -> Artifact:
        """The program of a block. Raises GraphError for an unknown block, PackError for a backend it is not exported
        for."""
        return self._chosen(self._blocks[self.graph[block].name], backend)

    def metric_artifact(self, metric: str, backend: str) -> Artifact:
        """The program of a metric. Raises PackError for a metric or a backend that the pack does not have."""
        if metric not in self._metrics:
            known = ", ".join(self._metrics) or "none"
            raise PackError(f"pack {self.name!r} has no metric {metric!r}; it has: {known}")
        return self._chosen(self._metrics[metric], backend)

    def artifacts(self) -> Iterator[Artifact]:
        """Every program of the pack. Several may share one file."""
        for of_backends in (*self._blocks.values(), *self._metrics.values()):
            yield from of_backends.values()

    def read(self, artifact: Artifact) -> bytes:
        """The content of a program. Raises PackError when it is not of the stated size and digest (any more)."""
        with self._open_blob(artifact) as stream:
            data = stream.read(artifact.bytes + 1)
        _match(artifact, hashlib.sha256(data).hexdigest())
        return data

    def _check(self, artifact: Artifact, verify: bool) -> None:
        with self._open_blob(artifact) as stream:
            if verify:
                _match(artifact, stream_sha256(stream))

    def _open_blob(self, artifact: Artifact) -> BinaryIO:
        if self._archive:
            stream, size = self._archive.open(artifact.file)
        else:
            stream = _open_regular(self.path / artifact.file)
            size = os.fstat(stream.fileno()).st_size
        if size != artifact.bytes:
            stream.close()
            raise PackError(
                f"{artifact.file} has {number_of(size, 'byte')}, the manifest says {artifact.bytes}; export or copy "
                f"the pack again"
            )
        return stream

    def _chosen(self, artifacts: Mapping[str, Artifact], backend: str) -> Artifact:
        if backend not in artifacts:
            raise PackError(
                f"pack {self.name!r} is not exported for {backend!r}, only for {', '.join(self.backends)}; "
                "export it again with that backend"
            )
        return artifacts[backend]


def stream_sha256(stream: BinaryIO) -> str:
    """The SHA-256 of what is left in a stream, as hexadecimal digits."""
    content = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        content.update(chunk)
    return content.hexdigest()


def _graph(manifest: dict[str, Any]) -> BlockGraph:
    try:
        return BlockGraph(
            [Cut(cut["index"], tuple(cut["shape"]), cut["dtype"]) for cut in manifest["cuts"]],
            [
                Block(**{name: value for name, value in block.items() if name != "artifacts"})
                for block in manifest["blocks"]
            ],
            manifest["taps"],
        )
    except GraphError as error:
        raise PackError(f"{MANIFEST}: {error}") from error


def _inputs(manifest: dict[str, Any], graph: BlockGraph) -> tuple[Input, ...]:
    inputs = tuple(map(Input.from_json, manifest.get("inputs", ())))
    width, first = sum(each.width for each in inputs), graph.cuts[0]
    if inputs and (first.shape, first.dtype) != ((1, width), "float32"):
        raise PackError(f"{MANIFEST}: the inputs hold {width} numbers, but cut 0 is {first.dtype} {first.shape}")
    if len({each.name for each in inputs}) < len(inputs):
        raise PackError(f"{MANIFEST}: two inputs have one name")
    return inputs


def _outputs(manifest: dict[str, Any], graph: BlockGraph) -> tuple[tuple[str, tuple[int, ...]], ...]:
    outputs = tuple((output["name"], tuple(output["shape"])) for output in manifest.get("outputs", ()))
    whole, last = sum(prod(shape) for _, shape in outputs), graph.cuts[-1].shape
    if outputs and (len(last) != 2 or whole != prod(last)):
        raise PackError(f"{MANIFEST}: the outputs hold {whole} numbers for one picture, but the last cut is {last}")
    return outputs


def _scored(manifest: dict[str, Any]) -> dict[str, Score]:
    """What the sums of each metric come to; those that say nothing of it make a score where they are a part and a
    count."""
    found = {}
    for name, metric in manifest["metrics"].items():
        stated, sums = metric.get("score"), metric["sums"]
        if stated is None:
            if len(sums) == 2 and sums[1] == "count":
                found[name] = SHARE
            continue
        if len(sums) % 2:
            raise PackError(
                f"{MANIFEST}: metric {name!r} has a score and an odd number of sums: it takes parts and as many wholes"
            )
        try:
            found[name] = Score(**stated)
        except ValueError as error:
            raise PackError(f"{MANIFEST}: metric {name!r}: {error}") from error
    return found


def _preprocessing(manifest: dict[str, Any], graph: BlockGraph) -> Preprocessing | None:
    if manifest["preprocessing"] is None:
        return None
    try:
        preprocessing = Preprocessing.from_json(manifest["preprocessing"])
    except PreprocessingError as error:
        raise PackError(f"{MANIFEST}: {error}") from error
    first = graph.cuts[0]
    if (first.shape, first.dtype) != ((1, 3, preprocessing.height, preprocessing.width), "float32"):
        raise PackError(
            f"{MANIFEST}: preprocessing makes float32 (1, 3, {preprocessing.height}, {preprocessing.width}), "
            f"but cut 0 is {first.dtype} {first.shape}"
        )
    return preprocessing


def _artifacts(of_backends: dict[str, dict[str, Any]]) -> dict[str, Artifact]:
    artifacts = {backend: Artifact(**fields) for backend, fields in of_backends.items()}
    for backend, artifact in artifacts.items():
        if not artifact.file.endswith(SUFFIXES[backend]):
            raise PackError(
                f"{MANIFEST}: {artifact.file} is given for {backend}, whose files end in {SUFFIXES[backend]}"
            )
    return artifacts


def _backends(*programs: Mapping[str, Mapping[str, Artifact]]) -> tuple[str, ...]:
    """The backends, in the order of SUFFIXES; every block and every metric must have all of them."""
    named = [(name, artifacts) for mapping in programs for name, artifacts in mapping.items()]
    backends = tuple(backend for backend in SUFFIXES if any(backend in artifacts for _, artifacts in named))
    for name, artifacts in named:
        for backend in backends:
            if backend not in artifacts:
                raise PackError(
                    f"{MANIFEST}: {name!r} has no artifact for {backend}, though others have; export it again"
                )
    return backends


def _open_regular(path: Path) -> BinaryIO:
    """A file opened for reading, never through a symbolic link, and never a pipe or device that could block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PackError(f"{path.name} is missing; export or copy the pack again") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PackError(f"{path.name} is a symbolic link; a pack holds regular files only") from error
        raise PackError(f"{path.name} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PackError(f"{path.name} is not a regular file; a pack holds regular files only")
    return os.fdopen(descriptor, "rb")


def _match(artifact: Artifact, digest: str) -> None:
    if digest != artifact.sha256:
        raise PackError(f"{artifact.file} is damaged: its content has SHA-256 {digest}; export or copy the pack again")
