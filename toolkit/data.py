"""Pictures, labels, and how a picture becomes the tensor that a network reads.

`Preprocessing` is the recipe: resize, crop, normalise. It travels in the pack, so that every device prepares a picture
in the same way. `open_data` turns what people have on disk (an ImageFolder, a flat folder of pictures, an .npz or .npy
file) into a `Dataset`, which decodes a picture only when it is asked for. Needs numpy and Pillow; nothing that is
opened here can run code.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from math import isfinite, prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from .errors import DataError, PackError
from .graph import Cut

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # nothing that starts another program, as EPS would
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_SIDE_LIMIT = 16384
_PIXEL_LIMIT = 1 << 27  # a picture of 1 x 5000 pixels, resized to a short side of 256, must not fill the memory
_CACHE_BYTES = 128 << 20

FloatArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the input of a network: a float32 tensor `(1, 3, height, width)`, channels R, G, B.

    The picture is turned upright (EXIF orientation), converted to RGB, resized so that its short side is
    `resize_short` pixels (None: not resized), cropped in the centre to `height` x `width`, and normalised:
    `(pixel * scale - mean) / std`, pixels 0 to 255. Resizing and cropping round as torchvision's `Resize` and
    `CenterCrop` do. Raises PackError for values that make no sense.
    """

    height: int
    width: int
    resize_short: int | None = None
    crop: str = "center"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    scale: float = 1 / 255

    def __post_init__(self) -> None:
        largest = max(self.height, self.width) if _is_side(self.height) and _is_side(self.width) else 0
        rules = {
            "height": (_is_side(self.height), f"a whole number of pixels, 1 to {_SIDE_LIMIT}"),
            "width": (_is_side(self.width), f"a whole number of pixels, 1 to {_SIDE_LIMIT}"),
            "resize_short": (
                self.resize_short is None or (_is_side(self.resize_short) and self.resize_short >= largest),
                f"null, or a whole number of pixels from the larger side of the crop to {_SIDE_LIMIT}",
            ),
            "crop": (self.crop == "center", "'center'"),
            "interpolation": (self.interpolation in list(_FILTERS), " or ".join(map(repr, _FILTERS))),
            "mean": (len(self.mean) == 3 and all(map(_is_finite, self.mean)), "three finite numbers"),
            "std": (len(self.std) == 3 and all(_is_finite(s) and s > 0 for s in self.std), "three numbers above 0"),
            "scale": (_is_finite(self.scale) and self.scale > 0, "a number above 0"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise PackError(f"preprocessing: {name} is {getattr(self, name)!r}; it must be {rule}")

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain data: the `preprocessing` object of a pack's manifest."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, document: Any) -> Preprocessing:
        """The recipe from `to_json`'s form. Raises PackError for missing, unknown or senseless values."""
        names = {field.name for field in fields(cls)}
        if not isinstance(document, Mapping) or set(document) != names:
            raise PackError(f"preprocessing must be an object with exactly the fields {', '.join(sorted(names))}")
        for name in ("mean", "std"):
            if not isinstance(document[name], Sequence):
                raise PackError(f"preprocessing: {name} is {document[name]!r}; it must be a list of three numbers")
        return cls(**{**document, "mean": tuple(document["mean"]), "std": tuple(document["std"])})

    def apply(self, picture: Image.Image) -> FloatArray:
        """The tensor `(1, 3, height, width)` for a picture of any size and 8-bit mode; alpha is dropped.

        Raises DataError for a picture with more than 8 bits a channel (converting it would clip it), for one smaller
        than the crop when there is no resizing, and for one too elongated to resize.
        """
        if picture.mode.startswith(("I", "F")):
            raise DataError(f"a picture has mode {picture.mode!r}, more than 8 bits a channel; convert it to 8-bit RGB")
        picture = ImageOps.exif_transpose(picture).convert("RGB")
        picture = self._resized(picture)
        # Python's round() and torchvision's agree: a half goes to the even number.
        left, top = round((picture.width - self.width) / 2), round((picture.height - self.height) / 2)
        pixels = np.asarray(picture.crop((left, top, left + self.width, top + self.height)), dtype=np.float32)
        mean, std = np.asarray(self.mean, dtype=np.float32), np.asarray(self.std, dtype=np.float32)
        tensor = (pixels * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])

    def apply_array(self, pixels: npt.NDArray[np.uint8]) -> FloatArray:
        """The tensor `(1, 3, height, width)` for RGB pixels, uint8 `(H, W, 3)`. Raises DataError for another form."""
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise DataError(f"a picture must be uint8 of shape (H, W, 3): got {pixels.dtype} of shape {pixels.shape}")
        return self.apply(Image.fromarray(np.ascontiguousarray(pixels)))

    def _resized(self, picture: Image.Image) -> Image.Image:
        width, height = picture.size
        if self.resize_short is None:
            if width < self.width or height < self.height:
                raise DataError(
                    f"a picture is {width} x {height} pixels, smaller than the crop of {self.width} x {self.height}, "
                    "and the preprocessing does not resize; use larger pictures"
                )
            return picture
        short = min(width, height)
        size = (self.resize_short * width // short, self.resize_short * height // short)
        if prod(size) > _PIXEL_LIMIT:
            raise DataError(f"a picture of {width} x {height} pixels is too elongated to resize; crop it first")
        return picture if size == picture.size else picture.resize(size, _FILTERS[self.interpolation])


class _Source(Protocol):
    """Inputs in a fixed order; `Dataset` adds labels and a choice of indices."""

    def tensor(self, index: int) -> FloatArray: ...

    def content(self, index: int) -> bytes: ...


class _Files:
    """Picture files, decoded when asked for."""

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing) -> None:
        self.paths = paths
        self.preprocessing = preprocessing

    def tensor(self, index: int) -> FloatArray:
        path = self.paths[index]
        try:
            with Image.open(path, formats=_FORMATS) as picture:
                return self.preprocessing.apply(picture)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        except Exception as error:  # Pillow's decoders raise a dozen kinds of exception on damaged files
            raise DataError(f"{path} is not a picture that can be read ({error}); replace or remove it") from error

    def content(self, index: int) -> bytes:
        try:
            return self.paths[index].read_bytes()
        except OSError as error:
            raise DataError(f"{self.paths[index]} cannot be read: {error.strerror}") from error


class _Array:
    """An array from an .npy or .npz file: uint8 pictures with their preprocessing, or float32 tensors without."""

    def __init__(self, path: Path, images: npt.NDArray[Any], preprocessing: Preprocessing | None) -> None:
        self.path = path
        self.images = images
        self.preprocessing = preprocessing

    def tensor(self, index: int) -> FloatArray:
        if self.preprocessing is None:
            return np.array(self.images[index : index + 1], dtype=np.float32, order="C")
        try:
            return self.preprocessing.apply_array(np.asarray(self.images[index]))
        except DataError as error:
            raise DataError(f"{self.path}, image {index}: {error}") from error

    def content(self, index: int) -> bytes:
        return bytes(self.images[index].tobytes())


class Dataset:
    """Inputs in a fixed order, with or without labels. Made by `open_data`; `len()` is the number of images."""

    def __init__(self, source: _Source, labels: LabelArray | None, indices: Sequence[int], name: str) -> None:
        self.name = name
        self._source = source
        self._labels = labels
        self._indices = tuple(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} images, {'no labels' if self._labels is None else 'labels'})"

    def image(self, index: int) -> FloatArray:
        """Image number `index` as float32, `(1, 3, H, W)` for pictures; a copy that the caller may change.

        Raises DataError, naming the file, when a picture cannot be read.
        """
        return self._source.tensor(self._indices[index])

    @property
    def labels(self) -> LabelArray | None:
        """The class index of every image, int64 `(len,)`, or of each of its pixels, `(len, H, W)`; None: no labels."""
        return None if self._labels is None else self._labels[list(self._indices)]

    def label(self, index: int) -> int | None:
        """The class index of image number `index`; None when there are no labels."""
        return None if self._labels is None else int(self._labels[self._indices[index]])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the images as stored (before preprocessing) and the labels, in order; names do not count.

        Reads every image: it is computed when first asked for.
        """
        total = hashlib.sha256(b"adaptivenet-data 1\n")
        for index in self._indices:
            label = "-" if self._labels is None else str(self._labels[index].tolist())
            total.update(f"{_digest(self._source.content(index))} {label}\n".encode())
        return total.hexdigest()

    def shared_with(self, other: Dataset) -> int:
        """How many images of this set, as stored, are in the other one too. Reads every image of both."""
        theirs = {_digest(other._source.content(index)) for index in other._indices}
        return sum(_digest(self._source.content(index)) in theirs for index in self._indices)

    def subset(self, indices: Sequence[int]) -> Dataset:
        """The images with these indices, in this order. Raises DataError when one does not exist."""
        for index in indices:
            if not 0 <= index < len(self):
                raise DataError(f"{self.name} has {len(self)} images; there is no number {index}")
        return Dataset(self._source, self._labels, [self._indices[index] for index in indices], self.name)

    def take(self, count: int, seed: int) -> Dataset:
        """`count` images at random; with the same seed, a smaller take is the beginning of a larger one.

        Raises DataError when there are fewer.
        """
        if not 1 <= count <= len(self):
            raise DataError(f"{self.name} has {len(self)} images; {count} cannot be taken from it")
        return self.subset(self._shuffled(seed)[:count])

    def split(self, parts: Sequence[float], seed: int) -> list[Dataset]:
        """Disjoint random parts, one for each fraction in `parts`; fractions that add up to 1 leave no image out.

        The same seed gives the same parts. Raises DataError for fractions that are not positive or exceed 1 together,
        and when a part would be empty.
        """
        if not parts or any(not part > 0 for part in parts) or sum(parts) > 1 + 1e-9:
            raise DataError(f"cannot split into {list(parts)}: fractions must be above 0 and add up to at most 1")
        shuffled = self._shuffled(seed)
        bounds = [round(sum(parts[:k]) * len(self)) for k in range(len(parts) + 1)]
        datasets = []
        for part, low, high in zip(parts, bounds, bounds[1:], strict=False):
            if low == high:
                raise DataError(f"{self.name} has {len(self)} images: too few for a part of {part:g}; add images")
            datasets.append(self.subset(shuffled[low:high]))
        return datasets

    def _shuffled(self, seed: int) -> list[int]:
        # Of all generators at hand, only random() promises the same numbers in every version of Python and numpy.
        generator = random.Random(seed)
        keys = [generator.random() for _ in range(len(self))]
        return sorted(range(len(self)), key=keys.__getitem__)


def open_data(
    path: str | os.PathLike[str], preprocessing: Preprocessing | None, classes: Sequence[str] | None, cut: Cut
) -> Dataset:
    """The images at `path` as inputs for `cut`, the first cut of a graph.

    `path` is one of

    - an ImageFolder: one subfolder a class; the label is the folder's index in `classes`, or, when `classes` is None,
      its place in the sorted names;
    - a folder of pictures: no labels;
    - an .npz with `images` and optionally `labels` (whole numbers, `(N,)`, or `(N, height, width)` with one for each
      pixel of the network's output), or an .npy with the images alone. Images are uint8 RGB `(N, H, W, 3)`, prepared as
      pictures are, or float32 `(N, *cut.shape[1:])`, ready for the cut.

    Files and folders whose name starts with a dot are ignored, and so are files that are not pictures. Raises
    DataError, naming the file or folder, when `path` is missing, empty or of another form. A picture is decoded when
    it is asked for: that is when a damaged one is reported.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; give a folder of pictures, an .npz or an .npy file")
    if path.is_dir():
        source, labels, count = _open_folder(path, _fitting(path, preprocessing, cut), classes)
    elif path.suffix in (".npz", ".npy"):
        source, labels, count = _open_array(path, preprocessing, classes, cut)
    else:
        raise DataError(f"{path} is neither a folder nor an .npz or .npy file; put pictures into a folder")
    return Dataset(_Cached(source, cut.bytes), labels, range(count), path.name)


class _Cached:
    """A source that remembers the tensors of its last few images, for a search asks for the same ones repeatedly."""

    def __init__(self, source: _Source, image_bytes: int) -> None:
        self.content = source.content
        self._load = lru_cache(maxsize=max(1, _CACHE_BYTES // image_bytes))(source.tensor)

    def tensor(self, index: int) -> FloatArray:
        return self._load(index).copy()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _SIDE_LIMIT


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _fitting(path: Path, preprocessing: Preprocessing | None, cut: Cut) -> Preprocessing:
    """The preprocessing, when it produces what the cut reads."""
    if preprocessing is None:
        raise DataError(f"{path} holds pictures, but no preprocessing is known; give float32 tensors for {cut.shape}")
    made = (1, 3, preprocessing.height, preprocessing.width)
    if (made, "float32") != (cut.shape, cut.dtype):
        raise DataError(
            f"{path}: the preprocessing makes float32 {made}, but the network reads {cut.dtype} {cut.shape}; "
            "use the preprocessing that belongs to this network"
        )
    return preprocessing


def _open_folder(
    path: Path, preprocessing: Preprocessing, classes: Sequence[str] | None
) -> tuple[_Source, LabelArray | None, int]:
    visible = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in visible if entry.is_dir()]
    flat = [entry for entry in visible if _is_picture(entry)]
    if folders and flat:
        raise DataError(
            f"{path} holds both pictures ({flat[0].name}) and folders ({folders[0].name}); "
            "keep either one folder a class or pictures alone"
        )
    if flat:
        return _Files(flat, preprocessing), None, len(flat)
    paths: list[Path] = []
    labels: list[int] = []
    for position, folder in enumerate(folders):
        label = position if classes is None else _class_index(folder, classes)
        inside = sorted(entry for entry in folder.rglob("*") if _is_picture(entry) and not entry.name.startswith("."))
        paths += inside
        labels += [label] * len(inside)
    if not paths:
        raise DataError(f"{path} holds no pictures; known are {', '.join(SUFFIXES)}")
    return _Files(paths, preprocessing), np.asarray(labels, dtype=np.int64), len(paths)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _class_index(folder: Path, classes: Sequence[str]) -> int:
    found = [index for index, name in enumerate(classes) if name == folder.name]
    if len(found) != 1:
        reason = "is not a class of this network" if not found else f"names {len(found)} classes of this network"
        raise DataError(f"{folder} {reason}; name each folder after one of its {len(classes)} classes")
    return found[0]


def _open_array(
    path: Path, preprocessing: Preprocessing | None, classes: Sequence[str] | None, cut: Cut
) -> tuple[_Source, LabelArray | None, int]:
    images, labels = _load_arrays(path)
    if images.dtype == np.uint8:
        if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
            raise DataError(f"{path}: uint8 images must have shape (N, H, W, 3), not {images.shape}")
        preprocessing = _fitting(path, preprocessing, cut)
    elif images.dtype == np.float32 and cut.dtype == "float32":
        preprocessing = None
        if images.ndim == 0 or images.shape[1:] != cut.shape[1:]:
            wanted = ", ".join(["N", *map(str, cut.shape[1:])])
            raise DataError(f"{path}: float32 images must have shape ({wanted}), not {images.shape}")
        for index, image in enumerate(images):
            if not np.isfinite(image).all():
                raise DataError(f"{path}: image {index} holds NaN or infinite values; remove it")
    else:
        raise DataError(f"{path}: images have dtype {images.dtype}; give uint8 pictures or {cut.dtype} for the network")
    if len(images) == 0:
        raise DataError(f"{path} holds no images")
    checked = None if labels is None else _checked_labels(path, labels, len(images), classes)
    return _Array(path, images, preprocessing), checked, len(images)


def _load_arrays(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """The images and the labels in the file; never unpickles, which could run code."""
    try:
        if path.suffix == ".npy":
            return np.lib.format.open_memmap(path, mode="r"), None
        with np.load(path, allow_pickle=False) as archive:
            if "images" not in archive:
                raise DataError(f"{path} has no array 'images'; it holds {', '.join(archive.files) or 'nothing'}")
            return archive["images"], archive.get("labels")
    except DataError:
        raise
    except Exception as error:  # zip, zlib and numpy's header parser raise a dozen kinds on damaged files
        raise DataError(f"{path} cannot be read as numpy arrays ({error}); write it with numpy.savez") from error


def _checked_labels(
    path: Path, labels: npt.NDArray[Any], count: int, classes: Sequence[str] | None
) -> npt.NDArray[np.int64]:
    if labels.ndim not in (1, 3) or len(labels) != count or not labels.size or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: labels must be whole numbers of shape ({count},) or ({count}, height, width), not {labels.dtype} "
            f"of shape {labels.shape}"
        )
    limit = np.iinfo(np.int64).max if classes is None else len(classes) - 1
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > limit:
        raise DataError(f"{path}: labels go from {low} to {high}; they must lie between 0 and {limit}")
    return labels.astype(np.int64)
