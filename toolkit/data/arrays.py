"""Pictures and tensors in arrays: from an .npy or .npz file, or in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, PreprocessingError
from .inputs import Input, in_rows
from .preprocessing import FloatArray, Preprocessing


class Arrays:
    """Images in one array: uint8 pictures with their preprocessing, or float32 tensors without."""

    def __init__(self, name: str, images: npt.NDArray[Any], preprocessing: Preprocessing | None) -> None:
        self.name = name
        self.images = images
        self.preprocessing = preprocessing

    def tensor(self, index: int) -> FloatArray:
        if self.preprocessing is None:
            return np.array(self.images[index : index + 1], dtype=np.float32, order="C")
        try:
            return self.preprocessing.apply_array(np.asarray(self.images[index]))
        except (DataError, PreprocessingError) as error:
            raise DataError(f"{self.name}, image {index}: {error}") from error

    def content(self, index: int) -> bytes:
        return bytes(self.images[index].tobytes())


def are_pictures(name: str, images: npt.NDArray[Any], shape: tuple[int, ...] | None) -> bool:
    """Whether images are uint8 RGB pictures `(N, H, W, 3)` and not float32 tensors `(N, *shape[1:])`.

    Raises DataError, naming `name`, when they are neither; `shape` None: any.
    """
    if images.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"{name}: images have dtype {images.dtype}; give uint8 pictures (N, H, W, 3), or float32 for the network"
        )
    if images.ndim and len(images) == 0:
        raise DataError(f"{name} holds no images: an array of shape {images.shape}")
    if images.dtype == np.uint8:
        if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
            raise DataError(f"{name}: uint8 images must have shape (N, H, W, 3), not {images.shape}")
        return True
    if images.ndim < 2 or (shape is not None and images.shape[1:] != shape[1:]):
        wanted = "N, channels, ..." if shape is None else ", ".join(["N", *map(str, shape[1:])])
        raise DataError(f"{name}: float32 images must have shape ({wanted}), not {images.shape}")
    for index, image in enumerate(images):
        if not np.isfinite(image).all():
            raise DataError(f"{name}: image {index} holds NaN or infinite values; remove it")
    return False


def load_arrays(path: Path, inputs: Sequence[Input] = ()) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """The images and the labels in the file; never unpickles, which could run code. Raises DataError.

    Of a network with several `inputs`, the images are rows of them; where one is called `labels`, there are none.
    """
    try:
        if path.suffix == ".npy":
            return np.lib.format.open_memmap(path, mode="r"), None
        with np.load(path, allow_pickle=False) as archive:
            if inputs:
                named = any(each.name == "labels" for each in inputs)
                return in_rows(archive, inputs, str(path)), None if named else archive.get("labels")
            if "images" not in archive:
                raise DataError(f"{path} has no array 'images'; it holds {', '.join(archive.files) or 'nothing'}")
            return archive["images"], archive.get("labels")
    except DataError:
        raise
    except Exception as error:  # zip, zlib and numpy's header parser raise a dozen kinds on damaged files
        raise DataError(f"{path} cannot be read as numpy arrays ({error}); write it with numpy.savez") from error
