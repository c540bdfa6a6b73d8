"""What lies at a path, opened as a data set for a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..graph.graph import Cut
from .arrays import Arrays, are_pictures, load_arrays
from .classes import LabelArray, checked_labels, label_folders
from .dataset import Cached, Dataset, Source
from .folders import SUFFIXES, Files, entries, is_picture, left_out, pictures_in
from .inputs import Input
from .maps import LabelMaps, find_pair, holds_pairs, matched
from .preprocessing import Preprocessing

_Opened = tuple[Source, LabelArray | LabelMaps | None, int, tuple[str, ...]]


def open_data(
    path: str | os.PathLike[str],
    preprocessing: Preprocessing | None,
    classes: Sequence[str] | None,
    cut: Cut,
    *,
    scores: tuple[int, ...] | None = None,
    labels: str | None = None,
    inputs: Sequence[Input] = (),
) -> Dataset:
    """The images at `path` as inputs for `cut`, the first cut of a graph.

    `path` is one of

    - an ImageFolder: one subfolder a class; the label is the class in `classes` of the folder's name, or, when
      `classes` is None and there are as many folders as classes, its place in the sorted names;
    - a folder with a folder of pictures and a folder of their label maps, such as `images` and `labels`: pictures with
      one channel, whose values are class numbers, named as the pictures are. `labels` names the second one where it is
      called otherwise. They are turned, resized and cropped as the pictures;
    - a folder of pictures: no labels;
    - an .npz with `images` and optionally `labels` (whole numbers, `(N,)`, or `(N, height, width)` with one for each
      pixel of the network's output), or an .npy with the images alone. Images are uint8 RGB `(N, H, W, 3)`, prepared as
      pictures are, or float32 `(N, *cut.shape[1:])`, ready for the cut.

    Of a network with several `inputs`, which cut 0 holds in a row, only an .npz file has all: each under its name,
    `(N, *shape[1:])`, and perhaps labels.

    `scores` is the shape of the network's class scores, `(1, classes)` or `(1, classes, height, width)`; None: unknown,
    or it gives none. In a label map 255, numbers below 0 and the number after the last class are not counted.

    Files and folders whose name starts with a dot are ignored, and so are files that are not pictures. Raises
    DataError, naming the file or folder, when `path` is missing, empty or of another form. A picture is decoded when
    it is asked for: that is when a damaged one is reported.
    """
    path = Path(path)
    try:
        is_there, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; allow reading it") from error
    if not is_there:
        raise DataError(f"{path} does not exist; give a folder of pictures, an .npz or an .npy file")
    count = scores[1] if scores is not None else None if classes is None else len(classes)
    if inputs and (is_folder or path.suffix != ".npz"):
        names = ", ".join(each.name for each in inputs)
        raise DataError(
            f"{path} is no .npz file: the network reads several inputs, so give one with the arrays {names}"
        )
    if is_folder:
        opened = _open_folder(path, _fitting(path, preprocessing, cut), classes, count, scores, labels)
    elif labels is not None:
        raise DataError(f"{path} is a file: label maps in the folder {labels} belong to a folder of pictures")
    elif path.suffix in (".npz", ".npy"):
        opened = _open_array(path, preprocessing, count, cut, inputs)
    else:
        raise DataError(f"{path} is neither a folder nor an .npz or .npy file; put pictures into a folder")
    source, found, images, notes = opened
    return Dataset(Cached(source, cut.bytes), found, range(images), path.name, notes)


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
    path: Path,
    preprocessing: Preprocessing,
    names: Sequence[str] | None,
    count: int | None,
    scores: tuple[int, ...] | None,
    labels: str | None,
) -> _Opened:
    visible = entries(path)
    folders = [entry for entry in visible if entry.is_dir()]
    flat = [entry for entry in visible if is_picture(entry)]
    pair = None
    if labels is not None or not {folder.name for folder in folders} <= set(names or ()):
        pair = find_pair(path, folders, labels)
    if pair:
        return _open_pair(*pair, preprocessing, count, scores)
    if folders and flat:
        raise DataError(
            f"{path} holds both pictures ({flat[0].name}) and folders ({folders[0].name}); "
            "keep either one folder a class or pictures alone"
        )
    if not folders:
        pictures, notes = _pictures(path)
        return Files(pictures, preprocessing), None, len(pictures), notes
    return _open_classes(path, folders, preprocessing, names, scores, count)


def _open_classes(
    path: Path,
    folders: Sequence[Path],
    preprocessing: Preprocessing,
    names: Sequence[str] | None,
    scores: tuple[int, ...] | None,
    count: int | None,
) -> _Opened:
    paths: list[Path] = []
    sizes: list[int] = []
    notes: tuple[str, ...] = ()
    for folder in folders:
        if holds_pairs(folder):
            raise DataError(f"{path} is no data set: {folder.name} in it holds pictures and label maps; give {folder}")
        pictures, unread = pictures_in(folder)
        if unread and not pictures:
            raise DataError(left_out(folder, unread))
        notes += (f"{left_out(folder, unread)}; they are left out",) if unread else ()
        notes += () if pictures else (f"the class folder {folder} holds no pictures",)
        paths += pictures
        sizes.append(len(pictures))
    if not paths:
        raise DataError(f"{path} holds no pictures; known are {', '.join(SUFFIXES)}")
    if scores is not None and len(scores) == 4:
        said = (
            f"{path} has {len(folders)} class folders, and the network answers with a map or a picture, of which the "
            "class of a whole picture says nothing: the pictures are used without labels"
        )
        return Files(paths, preprocessing), None, len(paths), (said, *notes)
    of_folders, told = label_folders(path, [folder.name for folder in folders], names, count)
    labels = None if of_folders is None else np.repeat(np.asarray(of_folders, dtype=np.int64), sizes)
    return Files(paths, preprocessing), labels, len(paths), (*told, *notes)


def _open_pair(
    images: Path, maps: Path, preprocessing: Preprocessing, count: int | None, scores: tuple[int, ...] | None
) -> _Opened:
    pictures, notes = _pictures(images)
    if scores is not None and len(scores) != 4:
        notes += (
            f"{maps} holds label maps, and the network gives one class for a picture: the pictures are used without "
            "labels",
        )
        return Files(pictures, preprocessing), None, len(pictures), notes
    shape = (preprocessing.height, preprocessing.width) if scores is None else scores[2:]
    labels = LabelMaps(pictures, matched(pictures, images, maps), preprocessing, shape, count)
    return Files(pictures, preprocessing), labels, len(pictures), notes


def _pictures(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The pictures in a folder, and what is to be said of others."""
    pictures, unread = pictures_in(folder)
    if not pictures:
        reason = f": {left_out(folder, unread)}" if unread else f"; known are {', '.join(SUFFIXES)}"
        raise DataError(f"{folder} holds no pictures{reason}")
    return pictures, (f"{left_out(folder, unread)}; they are left out",) if unread else ()


def _open_array(
    path: Path, preprocessing: Preprocessing | None, count: int | None, cut: Cut, inputs: Sequence[Input]
) -> _Opened:
    images, labels = load_arrays(path, inputs)
    pictures = are_pictures(str(path), images, cut.shape if cut.dtype == "float32" else None)
    if not pictures and cut.dtype != "float32":
        raise DataError(f"{path}: images have dtype {images.dtype}; give uint8 pictures or {cut.dtype} for the network")
    fitting = _fitting(path, preprocessing, cut) if pictures else None
    checked = None if labels is None else checked_labels(str(path), labels, len(images), count)
    return Arrays(str(path), images, fitting), checked, len(images), ()
