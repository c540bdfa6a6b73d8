"""The data set: inputs in a fixed order, with or without labels, from wherever they come."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..plurals import number_of
from .arrays import Arrays, are_pictures
from .classes import LabelArray, checked_labels
from .maps import LabelMaps
from .preprocessing import FloatArray, Preprocessing

_CACHE_BYTES = 128 << 20


class Source(Protocol):
    """Inputs in a fixed order; `Dataset` adds labels and a choice of indices."""

    def tensor(self, index: int) -> FloatArray: ...

    def content(self, index: int) -> bytes: ...


class Cached:
    """A source that remembers the tensors of its last few images, for a search asks for the same ones repeatedly."""

    def __init__(self, source: Source, image_bytes: int) -> None:
        self.content = source.content
        self._load = lru_cache(maxsize=max(1, _CACHE_BYTES // image_bytes))(source.tensor)

    def tensor(self, index: int) -> FloatArray:
        return self._load(index).copy()


class Dataset:
    """Inputs in a fixed order, with or without labels. Made by `open_data` or `from_arrays`; `len()` is the number of
    images. `notes` are what a user should know of how it was read, a sentence each.
    """

    def __init__(
        self,
        source: Source,
        labels: LabelArray | LabelMaps | None,
        indices: Sequence[int],
        name: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.notes = notes
        self._source = source
        self._labels = labels
        self._indices = tuple(indices)
        self._digests: dict[int, bytes] = {}  # of the images that were read for it, by their index in the source

    @classmethod
    def from_arrays(
        cls,
        images: npt.NDArray[Any],
        labels: npt.NDArray[Any] | Sequence[int] | None = None,
        *,
        preprocessing: Preprocessing | None = None,
        classes: int | None = None,
        name: str = "arrays",
    ) -> Dataset:
        """Images that are in memory: uint8 RGB pictures `(N, H, W, 3)`, prepared by `preprocessing`, or float32 inputs
        `(N, channels, height, width)`, as the network reads them.

        `labels` are whole numbers, `(N,)` or a map for each image, of which there are `classes`; None: any number.
        The arrays are not copied: do not change them. Raises DataError for arrays of another form.
        """
        images = np.asarray(images)
        pictures = are_pictures(name, images, None)
        if pictures and preprocessing is None:
            raise DataError(f"{name} holds uint8 pictures: give the network's preprocessing, or float32 inputs")
        checked = None if labels is None else checked_labels(name, np.asarray(labels), len(images), classes)
        return cls(Arrays(name, images, preprocessing if pictures else None), checked, range(len(images)), name)

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} images, {'no labels' if self._labels is None else 'labels'})"

    def image(self, index: int) -> FloatArray:
        """Image number `index` as float32, `(1, 3, H, W)` for pictures; a copy that the caller may change.

        Raises DataError, naming the file, when a picture cannot be read.
        """
        return self._source.tensor(self._indices[index])

    @cached_property
    def labels(self) -> LabelArray | None:
        """The class index of every image, int64 `(len,)`, or of each of its pixels, `(len, H, W)`; None: no labels.

        A pixel that does not count has -100. Raises DataError, naming the file, when a label map cannot be used.
        """
        if isinstance(self._labels, LabelMaps):
            return np.stack([self._labels.at(index) for index in self._indices])
        return None if self._labels is None else self._labels[list(self._indices)]

    @property
    def label_shape(self) -> tuple[int, ...] | None:
        """The shape of one image's label, () for a number; None: there are no labels. Reads no label map."""
        if isinstance(self._labels, LabelMaps):
            return self._labels.shape
        return None if self._labels is None else self._labels.shape[1:]

    def label(self, index: int) -> int | LabelArray | None:
        """The class index of image number `index`, or its label map; None when there are no labels."""
        if self._labels is None:
            return None
        found = self._label(self._indices[index])
        return found if found.ndim else int(found)

    def _label(self, index: int) -> LabelArray:
        assert self._labels is not None
        return self._labels.at(index) if isinstance(self._labels, LabelMaps) else np.asarray(self._labels[index])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the images as stored (before preprocessing) and the labels, in order; names do not count.

        Reads every image: it is computed when first asked for, and an image is read once for all subsets.
        """
        total = hashlib.sha256(b"adaptivenet-data 1\n")
        for index in self._indices:
            label = "-" if self._labels is None else str(self._label(index).tolist())
            total.update(f"{self._content_digest(index).hex()} {label}\n".encode())
        return total.hexdigest()

    def content_digests(self, indices: Iterable[int] | None = None) -> Iterator[bytes]:
        """The SHA-256 of each image as stored, or of those with these indices. Reads them."""
        for index in range(len(self)) if indices is None else indices:
            yield self._content_digest(self._indices[index])

    def _content_digest(self, index: int) -> bytes:
        if index not in self._digests:
            self._digests[index] = hashlib.sha256(self._source.content(index)).digest()
        return self._digests[index]

    def shared_with(self, other: Dataset) -> int:
        """How many images of this set, as stored, are in the other one too. Reads every image of both."""
        theirs = set(other.content_digests())
        return sum(digest in theirs for digest in self.content_digests())

    def subset(self, indices: Sequence[int]) -> Dataset:
        """The images with these indices, in this order. Raises DataError when one does not exist."""
        for index in indices:
            if not 0 <= index < len(self):
                raise DataError(f"{self.name} has {number_of(len(self), 'image')}; there is no number {index}")
        part = Dataset(self._source, self._labels, [self._indices[index] for index in indices], self.name, self.notes)
        part._digests = self._digests
        return part

    def take(self, count: int, seed: int) -> Dataset:
        """`count` images at random; with the same seed, a smaller take is the beginning of a larger one.

        Raises DataError when there are fewer.
        """
        if not 1 <= count <= len(self):
            raise DataError(f"{self.name} has {number_of(len(self), 'image')}; {count} cannot be taken from it")
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
                raise DataError(
                    f"{self.name} has {number_of(len(self), 'image')}: too few for a part of {part:g}; add images"
                )
            datasets.append(self.subset(shuffled[low:high]))
        return datasets

    def _shuffled(self, seed: int) -> list[int]:
        # Of all generators at hand, only random() promises the same numbers in every version of Python and numpy.
        generator = random.Random(seed)
        keys = [generator.random() for _ in range(len(self))]
        return sorted(range(len(self)), key=keys.__getitem__)
