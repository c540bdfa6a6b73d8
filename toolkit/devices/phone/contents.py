"""The files that a phone needs, as items to push: the runner, packs, and images.

Images and labels go as safetensors files of a few megabytes each, named by their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import Dataset
from ...pack.pack import BlockPack
from ..checks import check_input
from .push import Item
from .runner_bundle import PROGRAM, Bundle

BACKENDS = {"executorch": "executorch", "onnxruntime": "onnx"}
"""For each engine, the pack's name for the programs that it reads."""
FILE_BYTES = 16 << 20  # of images in one file, at most; but always one image


def runner_items(bundle: Bundle) -> list[Item]:
    """The files of a runner, for the folder on the phone."""

    def item(name: str, size: int, sha256: str) -> Item:
        path = bundle.folder / name
        runs = name == PROGRAM or name.startswith("ld-")
        return Item(f"runner/{bundle.digest}/{name}", sha256, size, lambda: path, executable=runs)

    return [item(file.name, file.bytes, file.sha256) for file in bundle.files]


def pack_items(pack: BlockPack, backend: str) -> list[Item]:
    """The files of a pack for one backend: the manifest, and the programs of all blocks and metrics."""
    manifest = json.dumps(pack.manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    items = [Item(f"packs/{pack.digest}.json", hashlib.sha256(manifest).hexdigest(), len(manifest), lambda: manifest)]
    blocks = [pack.artifact(block.name, backend) for block in pack.graph.blocks]
    for artifact in dict.fromkeys([*blocks, *(pack.metric_artifact(metric, backend) for metric in pack.metrics)]):
        # The pack compares a blob with its digest when it reads it: so a blob that is damaged here is never pushed.
        items.append(Item(artifact.file, artifact.sha256, artifact.bytes, partial(pack.read, artifact)))
    return items


def one_image(x: NDArray[Any]) -> Item:
    """The file with the single input `x`, batch first."""
    content = _content(x, None)
    return _item(content, lambda: content)


def data_files(pack: BlockPack, data: Dataset) -> list[Item]:
    """The files with all images of `data`, in order, and with its labels where they have the form of the pack's.

    The images are read to hash them, and again when a file is asked for its content. Raises DataError for one that
    does not fit cut 0.
    """
    cut = pack.graph.cuts[0]
    labels = data.labels if data.label_shape == pack.label[1:] else None
    count = max(1, FILE_BYTES // cut.bytes)

    def content(first: int) -> bytes:
        images = []
        for index in range(first, min(first + count, len(data))):
            images.append(data.image(index))
            check_input(cut, images[-1], f"image {index}")
        return _content(np.concatenate(images), None if labels is None else labels[first : first + count])

    return [_item(content(first), partial(content, first)) for first in range(0, len(data), count)]


def _content(images: NDArray[Any], labels: NDArray[np.int64] | None) -> bytes:
    from safetensors.numpy import save

    tensors = {"images": np.ascontiguousarray(images)}
    if labels is not None:
        tensors["labels"] = np.ascontiguousarray(labels)
    return bytes(save(tensors))


def _item(content: bytes, again: Callable[[], bytes]) -> Item:
    digest = hashlib.sha256(content).hexdigest()
    return Item(f"data/{digest}.safetensors", digest, len(content), again)
