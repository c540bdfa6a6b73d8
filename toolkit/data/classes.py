"""What the network's classes are called, and which of them a folder or a number of a label map stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..plurals import number_of

IGNORE = -100  # in a label map: a pixel that counts neither as right nor as wrong, as in torch
_VOID = 255  # the usual value for that in a file
_WORDNET = re.compile(r"n\d{8}")
_SHOWN = 3

LabelArray = npt.NDArray[np.int64]


def read_classes(path: str | Path, scores: Sequence[int] | None) -> list[str]:
    """The names in a text file, one a line; blank lines and a byte order mark do not count.

    `scores` is the shape of the network's class scores, where it gives some. Raises DataError when the file cannot be
    read, or has not one name for each class.
    """
    try:
        names = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise DataError(f"the class names in {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the class names in {path} are not UTF-8 text ({error}); save the file as UTF-8") from error
    names = [name for name in names if name]
    if not names:
        raise DataError(f"{path} holds no class names; write one a line, in the order of the network's outputs")
    if scores is not None and len(names) != scores[1]:
        raise DataError(
            f"{path} has {len(names)} class names and the network gives {scores[1]} scores; write one name a line for "
            "each, in the order of the network's outputs"
        )
    return names


def label_folders(
    path: Path, folders: Sequence[str], names: Sequence[str] | None, classes: int | None
) -> tuple[list[int] | None, tuple[str, ...]]:
    """The class of each class folder of `path`, None where it cannot be known, and what should be said of that.

    `names` are those of the network's classes and `classes` is their number; None: unknown. Folders and classes are
    matched by name, exactly or else without regard to case, spaces, hyphens and underscores. Raises DataError for
    folders that are no class.
    """
    if names is None:
        if classes is None or classes == len(folders):
            return list(range(len(folders))), ()
        return None, (
            f"{path} has {number_of(len(folders), 'class folder')}, and of the network's "
            f"{number_of(classes, 'output')} it is not known which "
            "classes they are, if any: the pictures are used without labels. To use labels, give the names of the "
            "classes (--classes) when the supernet or the pack is made",
        )
    found = [_matches(folder, names) for folder in folders]
    wrong = [folder for folder, matches in zip(folders, found) if not matches]
    if len(wrong) == len(folders) == len(names) and all(map(_WORDNET.fullmatch, folders)):
        return list(range(len(folders))), (
            f"the folders of {path} are named by WordNet, and the network's classes are not: they are taken for the "
            f"{len(names)} classes in the order of their names, as in ImageNet",
        )
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError(
            f"{path / wrong[0]} is not a class of this network ({', '.join(wrong[:_SHOWN])}{more} of "
            f"{number_of(len(folders), 'folder')}); name each folder after one of its "
            f"{number_of(len(names), 'class', 'classes')}: "
            f"{', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
        )
    for folder, matches in zip(folders, found):
        if len(matches) > 1:
            raise DataError(
                f"{path / folder} names {len(matches)} classes of this network; name each folder after one of its "
                f"{len(names)} classes"
            )
    labels = [matches[0] for matches in found]
    for at, label in enumerate(labels):
        if label in labels[:at]:
            first = folders[labels.index(label)]
            raise DataError(
                f"{path}: the folders {first} and {folders[at]} are both class {names[label]!r}; merge them"
            )
    return labels, ()


def _matches(folder: str, names: Sequence[str]) -> list[int]:
    exact = [index for index, name in enumerate(names) if name == folder]
    return exact or [index for index, name in enumerate(names) if _plain(name) == _plain(folder)]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def checked_labels(what: str, labels: npt.NDArray[Any], count: int, classes: int | None) -> LabelArray:
    """Labels from an array: one for each of `count` pictures, or a map for each, with what is not counted as `IGNORE`.

    Raises DataError, naming `what`, for another form and for numbers that are no class.
    """
    if labels.ndim not in (1, 3) or len(labels) != count or not labels.size or labels.dtype.kind not in "iu":
        raise DataError(
            f"{what}: labels must be whole numbers of shape ({count},) or ({count}, height, width), not {labels.dtype} "
            f"of shape {labels.shape}"
        )
    if labels.ndim == 3:
        return np.stack([checked_map(f"{what}, label map {index}", each, classes) for index, each in enumerate(labels)])
    limit = np.iinfo(np.int64).max if classes is None else classes - 1
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > limit:
        raise DataError(
            f"{what}: labels go from {low} to {high}; they must lie between 0 and {limit}; leave out pictures "
            "of no class"
        )
    return labels.astype(np.int64)


def checked_map(what: str, values: npt.NDArray[Any], classes: int | None) -> LabelArray:
    """One label map, with the pixels that are not counted as `IGNORE`.

    These are below 0, or 255 (unless that is a class), or the number after the last class, which many data sets use for
    "none of them". Raises DataError, naming `what`, for a number that is no class, and where no pixel counts.
    """
    low, high = int(values.min()), int(values.max())
    ignored = values < 0
    if classes is None or classes <= _VOID:
        ignored = ignored | (values == _VOID)
    if classes is not None:
        ignored = ignored | (values == classes)
        if (beyond := values[~ignored & (values > classes)]).size:
            raise DataError(
                f"{what}: it holds the class {int(beyond.min())}; the network's classes are 0 to {classes - 1}, and "
                f"{_VOID}, {classes} and numbers below 0 are not counted"
            )
    if ignored.all():
        raise DataError(f"{what}: none of its numbers, {low} to {high}, is a class; leave this picture out")
    return np.where(ignored, IGNORE, values).astype(np.int64)
