"""Picture files: which files of a folder are pictures, what is said of those that cannot be read, and decoding."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, features

from ..errors import DataError, PreprocessingError
from .preprocessing import FloatArray, Preprocessing

# What Pillow reads by itself. None of these formats starts another program, as EPS would.
_READ = {
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    "PNG": (".apng", ".png"),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    **({"AVIF": (".avif",)} if features.check("avif") else {}),
    **({"JPEG2000": (".j2k", ".jp2")} if features.check("jpg_2000") else {}),
}
FORMATS = tuple(_READ)
SUFFIXES = tuple(sorted(suffix for suffixes in _READ.values() for suffix in suffixes))
# Pictures that Pillow does not read, or only a part of.
_UNREAD = {".arw", ".avif", ".cr2", ".cr3", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".hif", ".jp2", ".j2k"}
_UNREAD |= {".jxl", ".nef", ".orf", ".pef", ".psd", ".raf", ".raw", ".rw2", ".srw", ".svg", ".xcf"}
_UNREAD -= set(SUFFIXES)
# What file managers, network drives and archives leave in folders. Hidden folders are left out as well.
_JUNK = {"$recycle.bin", "@eadir", "__macosx", "desktop.ini", "lost+found", "system volume information", "thumbs.db"}


class Files:
    """Picture files, decoded when asked for."""

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing) -> None:
        self.paths = paths
        self.preprocessing = preprocessing

    def tensor(self, index: int) -> FloatArray:
        path = self.paths[index]
        try:
            with Image.open(path, formats=FORMATS) as picture:
                return self.preprocessing.apply(picture)
        except (DataError, PreprocessingError) as error:
            raise DataError(f"{path}: {error}") from error
        except Exception as error:  # Pillow's decoders raise a dozen kinds of exception on damaged files
            raise unreadable(path, error) from error

    def content(self, index: int) -> bytes:
        try:
            return self.paths[index].read_bytes()
        except OSError as error:
            raise DataError(f"{self.paths[index]} cannot be read: {error.strerror}") from error


def unreadable(path: Path, error: Exception) -> DataError:
    """What to raise for a picture on which Pillow raised `error`."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path} is not a picture that can be read ({reason}); replace or remove it")


def entries(folder: Path) -> list[Path]:
    """What is in a folder, in order, without what is hidden or no user's. Raises DataError when it may not be read."""
    try:
        return sorted(entry for entry in folder.iterdir() if _is_shown(entry.name))
    except OSError as error:
        raise _closed(error) from error


def is_picture(path: Path) -> bool:
    """Whether the name says that it is a picture of a kind that can be read."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def pictures_in(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The pictures in a folder and the folders in it, in order, and how many pictures of which suffix cannot be read.

    Raises DataError when a folder may not be read.
    """
    found = list(_files(folder))
    unread = Counter(path.suffix.lower() for path in found if path.suffix.lower() in _UNREAD)
    return sorted(path for path in found if is_picture(path)), unread


def left_out(folder: Path, unread: Counter[str]) -> str:
    """One sentence on the pictures that cannot be read."""
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items()))
    return f"{kinds} files in {folder} cannot be read: convert them to .jpg or .png"


def _files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise _closed(error) from error

    for where, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = filter(_is_shown, folders)
        yield from (Path(where, name) for name in files if _is_shown(name))


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _JUNK


def _closed(error: OSError) -> DataError:
    return DataError(f"the folder {error.filename} cannot be read: {error.strerror}; allow reading it")
