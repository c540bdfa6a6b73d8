"""Writes a block pack: blobs first, the manifest last, and under its final name only when all of it is right.

    with PackWriter(path, name="efficientnet-lite0") as writer:
        file = writer.add_blob(program, ".onnx")
        ...
        pack = writer.finish(describe(graph, artifacts, metrics, preprocessing=preprocessing))

docs/pack.md describes what is written. The writer knows no more rules than the reader: `finish` opens what was written
with `BlockPack.open`, and whatever the reader refuses is never given the final name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..atomic import check_folder, new_folder
from ..data.inputs import Input
from ..data.preprocessing import Preprocessing
from ..errors import PackError
from ..graph.graph import Block, BlockGraph
from ..graph.score import SHARE, Score
from .manifest import FORMAT, MANIFEST, VERSION, manifest_digest
from .pack import BLOBS, SUFFIXES, Artifact, BlockPack
from .trained_on import TrainedOn

Artifacts = Mapping[str, Artifact]  # by backend


@dataclass(frozen=True)
class Metric:
    """A metric program: the kinds of its operands in order, the names of the sums it returns, and its artifacts.

    `operands` are out of `output` (of the subnet), `oracle` (the oracle's output) and `label`. `score` is what the
    sums, parts and then as many wholes, come to; None: a share, where they are a part and a `count`.
    """

    operands: tuple[str, ...]
    artifacts: Artifacts
    sums: tuple[str, ...] = ("correct", "count")
    score: Score | None = None


def describe(
    graph: BlockGraph,
    artifacts: Mapping[str, Artifacts],
    metrics: Mapping[str, Metric],
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    provenance: Mapping[str, str] | None = None,
    outputs: Sequence[tuple[str, tuple[int, ...]]] = (),
    trained_on: TrainedOn | None = None,
    inputs: Sequence[Input] = (),
) -> dict[str, Any]:
    """The manifest for a graph and its exported programs, by block and backend, without what the writer fills in.

    `outputs` are the names and shapes of the tensors that the last cut holds in one row; one alone is not noted.
    `inputs` are those that the first cut holds in one row. Raises PackError when a block has no artifacts.
    """
    missing = [block.name for block in graph.blocks if block.name not in artifacts]
    if missing:
        raise PackError(f"no artifacts are given for the blocks {', '.join(missing)}; export them first")
    return {
        "cuts": [{**asdict(cut), "shape": list(cut.shape)} for cut in graph.cuts],
        "taps": list(graph.taps),
        **({"inputs": [each.to_json() for each in inputs]} if inputs else {}),
        **({"outputs": [{"name": name, "shape": list(shape)} for name, shape in outputs]} if len(outputs) > 1 else {}),
        "blocks": [{**_facts(block), "artifacts": _to_json(artifacts[block.name])} for block in graph.blocks],
        "metrics": {
            name: {
                "operands": list(metric.operands),
                "sums": list(metric.sums),
                **({} if metric.score is None or _goes_without(metric) else {"score": metric.score.to_json()}),
                "artifacts": _to_json(metric.artifacts),
            }
            for name, metric in metrics.items()
        },
        "preprocessing": None if preprocessing is None else preprocessing.to_json(),
        "classes": None if classes is None else list(classes),
        **({} if trained_on is None else {"trained_on": trained_on.to_text()}),
        "provenance": dict(provenance or {}),
    }


def _facts(block: Block) -> dict[str, Any]:
    """What a block is, with what it reads besides where it starts only where there is some: older readers refuse it."""
    facts = asdict(block)
    reads = list(facts.pop("reads"))
    return {**facts, "reads": reads} if reads else facts


def _goes_without(metric: Metric) -> bool:
    """Whether readers know the score by the names of the sums: older ones refuse a pack that says it."""
    return metric.score == SHARE and len(metric.sums) == 2 and metric.sums[1] == "count"


def _to_json(artifacts: Artifacts) -> dict[str, Any]:
    return {backend: artifact.to_json() for backend, artifact in artifacts.items()}


class PackWriter:
    """Writes one block pack to the folder `path`. A context manager.

    Everything goes into a temporary folder beside `path`, which `finish` renames. When the `with` block ends without
    `finish` (an exception, Ctrl-C, a full disk, or simply not called), the temporary folder is removed and `path` is as
    it was. `overwrite=True` replaces an older pack at `path`, which stays in place until the new one is complete; a
    folder that holds anything but a pack is never replaced. Raises PackError when `path` may not be written.
    """

    def __init__(self, path: str | os.PathLike[str], name: str, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.name = name
        self.overwrite = overwrite
        self._transaction: AbstractContextManager[Path] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> PackWriter:
        self.check_path()
        transaction = new_folder(self.path)
        with self._as_pack_error():
            self._folder = transaction.__enter__()
        self._transaction = transaction
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._transaction is not None:
            reason = error or PackError("the pack was not finished")
            self._transaction.__exit__(type(reason), reason, traceback)
            self._transaction = None
        self._folder = None

    def add_blob(self, data: bytes, suffix: str) -> str:
        """Stores an exported program and returns its `file` for the manifest; the same content is stored once.

        `suffix` is `.pte` or `.onnx`. Raises PackError when it cannot be written.
        """
        if suffix not in SUFFIXES.values():
            raise PackError(f"a blob's suffix is {' or '.join(SUFFIXES.values())}, not {suffix!r}")
        file = f"{BLOBS}/{hashlib.sha256(data).hexdigest()}{suffix}"
        with self._as_pack_error():
            target = self._open_folder() / file
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(data)
        return file

    def finish(self, manifest: Mapping[str, Any]) -> BlockPack:
        """Writes the manifest, checks the whole pack as any reader would, and gives it its final name.

        `manifest` as `describe` returns it; format, version, name and digest are filled in. Raises PackError when the
        pack is not right or cannot be written; nothing appears at `path` then.
        """
        # What the writer knows wins over what the manifest says, and stands at its top.
        own = {"format": FORMAT, "version": VERSION, "name": self.name, "digest": ""}
        document = {**own, **manifest, **own}
        try:
            document["digest"] = manifest_digest(document)
            text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PackError(f"the manifest of pack {self.name!r} cannot be written as JSON: {error}") from error
        folder = self._open_folder()
        with self._as_pack_error():
            (folder / BLOBS).mkdir(exist_ok=True)
            (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
            pack = BlockPack.open(folder)
            self.check_path()  # again: export takes long, and somebody may have put something there
            transaction, self._transaction = self._transaction, None
            if transaction is not None:
                transaction.__exit__(None, None, None)
        self._folder = None
        return BlockPack(self.path, pack.manifest)

    def _open_folder(self) -> Path:
        if self._folder is None:
            raise PackError(f"pack {self.path} is not being written; use 'with PackWriter(...) as writer', once")
        return self._folder

    def check_path(self) -> None:
        """Raises PackError when something is at `path` that would not be replaced, or no pack can be written there."""
        if os.path.lexists(self.path):
            if not self.overwrite:
                raise PackError(
                    f"{self.path} exists already; remove it, choose another name, or overwrite it (--overwrite)"
                )
            is_folder = self.path.is_dir() and not self.path.is_symlink()
            if not is_folder or not {entry.name for entry in self.path.iterdir()} <= {MANIFEST, BLOBS}:
                raise PackError(f"{self.path} is not a block pack and will not be overwritten; choose another name")
        with self._as_pack_error():
            check_folder(self.path)

    @contextmanager
    def _as_pack_error(self) -> Iterator[None]:
        """Errors of the file system as PackError, and with the final path, not that of the temporary folder."""
        try:
            yield
        except OSError as error:
            raise PackError(f"pack {self.path} cannot be written: {error.strerror or error}") from error
        except PackError as error:
            raise PackError(str(error).replace(str(self._folder), str(self.path))) from error


def check_backends(path: str | os.PathLike[str], backends: Sequence[str]) -> None:
    """Raises PackError when the pack at `path` has programs for a backend that is not among those of the pack that is
    to replace it."""
    try:
        lost = [backend for backend in BlockPack.open(path, verify=False).backends if backend not in backends]
    except PackError:
        return  # there is nothing that could be lost
    if lost:
        raise PackError(
            f"{path} has programs for {', '.join(lost)} too, which would be lost: name that backend as well, or "
            "remove the pack first"
        )
