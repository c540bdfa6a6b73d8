"""The batches of a training run: which images a step sees, how they are varied, and threads that load them ahead.

Batch *k* is a function of the seed and *k* alone, whoever loads it and however often.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from ..errors import TrainingError
from .phases import Training

FloatArray = npt.NDArray[np.float32]


@runtime_checkable
class TrainingData(Protocol):
    """What training needs of a data set: its length, and preprocessed images.

    Image number `index` is float32 of shape (1, channels, height, width); several threads ask at once. With labels, a
    data set also has `label(index)`, the image's class index, or None for "there are no labels". With
    `content_digests(indices)`, the SHA-256 of these images as stored, the supernet remembers what it was trained on.
    """

    def __len__(self) -> int: ...

    def image(self, index: int) -> FloatArray: ...


class Part:
    """The images of a data set with these indices, in this order."""

    def __init__(self, data: TrainingData, indices: Sequence[int]) -> None:
        self._data, self._indices = data, indices
        if hasattr(data, "content_digests"):
            self.content_digests = lambda chosen: data.content_digests([indices[index] for index in chosen])

    def __len__(self) -> int:
        return len(self._indices)

    def image(self, index: int) -> FloatArray:
        return self._data.image(self._indices[index])

    def label(self, index: int) -> int | npt.NDArray[np.int64] | None:
        """As `label_of` gives it."""
        return label_of(self._data, self._indices[index])


def set_apart(data: TrainingData, count: int, seed: str) -> tuple[Part, Part]:
    """The other images, and `count` that are drawn by the seed, both in their order."""
    chosen = sorted(random.Random(seed).sample(range(len(data)), count))
    return Part(data, sorted(set(range(len(data))) - set(chosen))), Part(data, chosen)


@dataclass(frozen=True)
class Batch:
    """`images` of shape (batch, channels, height, width), and, where asked for, `labels`, int64 of shape (batch,), or
    (batch, height, width) where they are maps.
    """

    images: torch.Tensor
    labels: torch.Tensor | None = None


def check_data(data: object) -> None:
    """Raises TrainingError for what is no data set."""
    if not isinstance(data, TrainingData):
        raise TrainingError(
            f"training needs a data set with len() and image(index), as open_data gives: got {type(data).__name__}"
        )


def check_varied(training: Training, shape: Sequence[int], what: str) -> None:
    """Raises TrainingError where `what`, an input of this shape, batch first, cannot be varied as the settings say."""
    if (training.flip or training.shift) and (len(shape) != 4 or training.shift >= min(shape[2:])):
        raise TrainingError(
            f"{what} has shape {tuple(shape)}: it cannot be flipped or shifted by {training.shift} pixels; train "
            "without"
        )


def labels_of(data: TrainingData, indices: Sequence[int], device: torch.device) -> torch.Tensor:
    """The labels of images, int64 of shape (batch,), or (batch, height, width) where they are maps."""
    return torch.from_numpy(np.asarray([label_of(data, index) for index in indices], dtype=np.int64)).to(device)


def label_of(data: TrainingData, index: int) -> int | npt.NDArray[np.int64] | None:
    """The label of an image, a number or a map; None when the data set has no labels."""
    label: Any = getattr(data, "label", None)
    return None if label is None else label(index)


def stacked(images: Sequence[FloatArray], indices: Sequence[int], device: torch.device) -> torch.Tensor:
    """One batch on `device`, channels last. Raises TrainingError, naming the image, when their shapes differ."""
    for index, image in zip(indices, images):
        if image.shape != images[0].shape or image.dtype != np.float32:
            raise TrainingError(
                f"image {index} is {image.dtype} of shape {image.shape}, image {indices[0]} has {images[0].shape}: "
                "a batch needs float32 images of one shape"
            )
    batch = torch.from_numpy(np.concatenate(images)).to(device)
    # Convolutions of both CPUs and GPUs compute in this layout; given another, they convert every feature.
    return batch.to(memory_format=torch.channels_last) if batch.dim() == 4 else batch


def batches_of(data: TrainingData, size: int, device: torch.device) -> list[torch.Tensor]:
    """All images, up to `size` a batch. Raises what reading them raises."""
    parts = (range(first, min(first + size, len(data))) for first in range(0, len(data), size))
    return [stacked([data.image(index) for index in part], part, device) for part in parts]


class Batches:
    """Loads the places `part` of every batch of `training.batch_size`; while one batch is used, the next is loaded.

    A context manager, which ends its threads. Raises TrainingError for data without what the training needs.
    """

    def __init__(self, data: TrainingData, training: Training, part: range, device: torch.device) -> None:
        check_data(data)
        if len(data) < 1:
            raise TrainingError("there are no images to train on")
        if training.needs_labels and label_of(data, 0) is None:
            raise TrainingError(
                "a phase tunes with labels, and the data set has none: give it labels, or use the recipe 'ours'"
            )
        if training.flip or training.shift:
            check_varied(training, data.image(0).shape, "image 0")
        self._data, self._training, self._part, self._device = data, training, part, device
        self._threads = ThreadPoolExecutor(training.loaders, thread_name_prefix="loader")
        self._next: tuple[int, list[Future[FloatArray]]] = (-1, [])

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def calibration(self) -> Iterator[torch.Tensor]:
        """Whole batches, as the images are, that come before the first step in the sequence of images."""
        for number in range(self._training.calibration_batches):
            indices = [self._index(-1 - number, place) for place in range(self._training.batch_size)]
            yield stacked(list(self._threads.map(self._data.image, indices)), indices, self._device)

    def at(self, step: int) -> Batch:
        """This worker's part of the batch of a step, with labels when the training needs them."""
        futures = self._next[1] if self._next[0] == step else self._load(step)
        self._next = (step + 1, self._load(step + 1) if step + 1 < self._training.steps else [])
        indices = [self._index(step, place) for place in self._part]
        images = stacked([future.result() for future in futures], indices, self._device)
        if not self._training.needs_labels:
            return Batch(images)
        return Batch(images, labels_of(self._data, indices, self._device))

    def used(self, steps: int) -> list[int]:
        """The indices of the images that calibration and so many steps have used."""
        first = -self._training.calibration_batches
        size = self._training.batch_size
        return sorted({self._index(step, place) for step in range(first, steps) for place in range(size)})

    def _load(self, step: int) -> list[Future[FloatArray]]:
        return [
            self._threads.submit(self._varied, self._index(step, place), f"{self._training.seed}/vary/{step}/{place}")
            for place in self._part
        ]

    def _index(self, step: int, place: int) -> int:
        """The image at a place of a batch, in the endless sequence of shuffled epochs. Negative steps go backwards."""
        epoch, offset = divmod(step * self._training.batch_size + place, len(self._data))
        return _shuffled(self._training.seed, epoch, len(self._data))[offset]

    def _varied(self, index: int, seed: str) -> FloatArray:
        image = self._data.image(index)
        if not (self._training.flip or self._training.shift):
            return image
        check_varied(self._training, image.shape, f"image {index}")
        rng = random.Random(seed)
        if self._training.flip and rng.random() < 0.5:
            image = image[:, :, :, ::-1]
        return shifted(image, *(rng.randint(-self._training.shift, self._training.shift) for _ in range(2)))


def shifted(image: FloatArray, down: int, right: int) -> FloatArray:
    """An image of shape (1, channels, height, width) moved by so many pixels; what comes in from outside is 0."""
    height, width = image.shape[2:]
    moved = np.zeros_like(image)
    moved[:, :, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = image[
        :, :, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return moved


@lru_cache(maxsize=4)  # a batch lies in one epoch, or where two meet; the next one is loaded ahead
def _shuffled(seed: int, epoch: int, count: int) -> list[int]:
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order
