"""The data sets of the training benchmarks, from the folder that ADAPTIVENET_DATA names. In memory they stay JPEG."""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from adaptivenet.toolkit.errors import DataError
from adaptivenet.toolkit.training.batches import TrainingData, label_of, stacked
from PIL import Image

FloatArray = npt.NDArray[np.float32]


def data_folder() -> Path:
    """The folder of data sets. Raises DataError when it is not there."""
    folder = Path(os.environ.get("ADAPTIVENET_DATA", ""))
    if not os.environ.get("ADAPTIVENET_DATA") or not folder.is_dir():
        raise DataError("this benchmark needs data: set ADAPTIVENET_DATA to the folder that holds it")
    return folder


def first_images(pictures: TrainingData, count: int | None = None) -> torch.Tensor:
    """The first `count` images, or as many as there are, in one batch; None: all."""
    some = range(len(pictures))[:count]
    return torch.cat([torch.from_numpy(pictures.image(index)) for index in some])


class JpegPictures:
    """Part of an archive of JPEG pictures: float32 images of shape (1, 3, side, side), (pixel - mean) / std."""

    def __init__(
        self, file: str, part: str, side: int, mean: tuple[float, ...], std: tuple[float, ...], scale: float
    ) -> None:
        with np.load(data_folder() / file) as archive:
            self._bytes = archive[f"{part}_bytes"]
            self._offsets = archive[f"{part}_offsets"]
            self._labels = archive[f"{part}_labels"]
        self._order = np.arange(len(self._labels))
        self._side = side
        self._mean, self._std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (mean, std))
        self._scale = np.float32(scale)

    def divided(self, count: int, seed: int) -> tuple[JpegPictures, JpegPictures]:
        """All but `count` of them, and those, drawn by the seed."""
        order = np.random.default_rng(seed).permutation(self._order)
        return self._with(order[count:]), self._with(order[:count])

    def some(self, count: int, seed: int) -> JpegPictures:
        """`count` of them, drawn by the seed."""
        return self._with(np.random.default_rng(seed).permutation(self._order)[:count])

    def _with(self, order: npt.NDArray[np.int64]) -> JpegPictures:
        chosen = copy.copy(self)
        chosen._order = order
        return chosen

    def __len__(self) -> int:
        return len(self._order)

    def label(self, index: int) -> int:
        """The class of a picture."""
        return int(self._labels[self._order[index]])

    def image(self, index: int) -> FloatArray:
        """One picture as the network reads it."""
        at = self._order[index]
        encoded = self._bytes[self._offsets[at] : self._offsets[at + 1]].tobytes()
        picture = Image.open(io.BytesIO(encoded)).convert("RGB")
        if picture.size != (self._side, self._side):
            picture = picture.resize((self._side, self._side), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture, np.float32).transpose(2, 0, 1) / self._scale
        return np.ascontiguousarray(((pixels - self._mean) / self._std)[None])


def cifar10(part: str) -> JpegPictures:
    """CIFAR-10, `train` or `test`, as the CIFAR ResNets read it."""
    return JpegPictures("cifar10_jpeg.npz", part, 32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255.0)


def tiny_imagenet(part: str, side: int) -> JpegPictures:
    """The 200 classes of Tiny-ImageNet, `train` or `val`, as EfficientNet-Lite reads it, at `side` pixels."""
    return JpegPictures("tiny_imagenet200.npz", part, side, (127.0,) * 3, (128.0,) * 3, 1.0)


def tiny_imagenet_classes() -> npt.NDArray[np.int64]:
    """For each of Tiny-ImageNet's classes its index among ImageNet's 1000."""
    with np.load(data_folder() / "tiny_imagenet200.npz") as archive:
        found: npt.NDArray[np.int64] = archive["imagenet1k_index"]
    return found


def batch(pictures: TrainingData, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of shape (batch, 3, height, width), channels last, and their labels."""
    images = stacked([pictures.image(index) for index in indices], indices, torch.device("cpu"))
    return images, torch.tensor([label_of(pictures, index) for index in indices])
