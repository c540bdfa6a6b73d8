"""Pictures with label maps: a folder of pictures beside a folder of maps, one of the same name for each picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import DataError, PreprocessingError
from .classes import LabelArray, checked_map
from .folders import FORMATS, entries, pictures_in, unreadable
from .preprocessing import Preprocessing

_PICTURES = {
    "image",
    "images",
    "img",
    "imgs",
    "input",
    "inputs",
    "jpegimages",
    "photo",
    "photos",
    "picture",
    "pictures",
}
_MAPS = {"ann", "annotation", "annotations", "anns", "annot", "ground_truth", "groundtruth", "gt", "label", "labels"}
_MAPS |= {"map", "maps", "mask", "masks", "segmentation", "segmentationclass", "segmentations", "target", "targets"}
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16")


class LabelMaps:
    """The label maps of pictures, turned, resized and cropped as the pictures are, to `shape`: (height, width).

    They are decoded when asked for. A map is a picture with one channel, whose values are the numbers of classes.
    """

    def __init__(
        self,
        pictures: Sequence[Path],
        maps: Sequence[Path],
        preprocessing: Preprocessing,
        shape: tuple[int, ...],
        classes: int | None,
    ) -> None:
        self.pictures, self.maps, self.preprocessing = pictures, maps, preprocessing
        self.shape, self.classes = shape, classes

    def at(self, index: int) -> LabelArray:
        """The map of a picture, int64, of this shape. Raises DataError, naming the file, when it does not fit."""
        path = self.maps[index]
        try:
            with Image.open(self.pictures[index], formats=FORMATS) as picture, Image.open(path, formats=FORMATS) as own:
                if own.mode not in _ONE_CHANNEL:
                    raise DataError(
                        f"it has the mode {own.mode}: a label map has one channel, whose values are class numbers"
                    )
                if own.size != picture.size:
                    raise DataError(f"it has {own.size} pixels and its picture {picture.size}: they must be the same")
                fitted = self.preprocessing.apply_map(np.asarray(own, dtype=np.int32), picture)
        except (DataError, PreprocessingError) as error:
            raise DataError(f"{path}: {error}") from error
        except Exception as error:  # as in `Files`
            raise unreadable(path, error) from error
        return checked_map(str(path), _nearest(fitted, self.shape), self.classes)


def find_pair(path: Path, folders: Sequence[Path], labels: str | None) -> tuple[Path, Path] | None:
    """The folder of pictures and the folder of their label maps, where `path` holds such a pair.

    `labels` names the folder of maps: in `path`, or anywhere; None: it is known by its usual names. Raises DataError
    when the folder that is named is not there, or the pictures cannot be told.
    """
    if labels is None:
        pictures = [folder for folder in folders if folder.name.lower() in _PICTURES]
        maps = [folder for folder in folders if folder.name.lower() in _MAPS]
        return (pictures[0], maps[0]) if len(pictures) == len(maps) == 1 else None
    found = next((folder for folder in (path / labels, Path(labels)) if folder.is_dir()), None)
    if found is None:
        raise DataError(f"there is no folder {labels} of label maps, neither in {path} nor here; name one that exists")
    others = [folder for folder in folders if folder.resolve() != found.resolve()]
    named = [folder for folder in others if folder.name.lower() in _PICTURES] or others
    if len(named) > 1:
        raise DataError(
            f"{path} holds several folders beside the label maps ({', '.join(folder.name for folder in named[:3])}); "
            "keep the pictures in one"
        )
    return (named[0] if named else path), found


def holds_pairs(folder: Path) -> bool:
    """Whether a folder, taken for a class, holds pictures and their label maps."""
    return find_pair(folder, [entry for entry in entries(folder) if entry.is_dir()], None) is not None


def matched(pictures: Sequence[Path], images: Path, maps: Path) -> list[Path]:
    """The label map of each picture of the folder `images`: that of its name, or of its name and one ending for all.

    Raises DataError when a picture has none.
    """
    found = {path.relative_to(maps).with_suffix("").as_posix(): path for path in pictures_in(maps)[0]}
    stems = [path.relative_to(images).with_suffix("").as_posix() for path in pictures]
    endings = ["", *sorted(name[len(stems[0]) :] for name in found if name.startswith(stems[0]))]
    lacking = {ending: [stem for stem in stems if stem + ending not in found] for ending in endings}
    ending = min(endings, key=lambda ending: len(lacking[ending]))
    if missing := lacking[ending]:
        raise DataError(
            f"{len(missing)} of the {len(stems)} pictures in {images} have no label map of their name in {maps} (the "
            f"first: {missing[0]}); add the maps, or remove these pictures"
        )
    return [found[stem + ending] for stem in stems]


def _nearest(values: npt.NDArray[np.int32], shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """The map at another resolution: at each place what lies nearest to its centre."""
    if values.shape == shape:
        return values
    rows, columns = (
        ((np.arange(wanted) + 0.5) * given / wanted).astype(np.int64) for wanted, given in zip(shape, values.shape)
    )
    return values[np.ix_(rows, columns)]
