"""Files and folders that appear under their final name whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_file(path: Path, data: bytes) -> None:
    """Writes `data` beside `path`, makes sure that it is on the disk, and renames it to `path`.

    Whatever goes wrong (a full disk, a kill), a file that was there before is still there, whole. Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the `with` block ends well.

    A folder that is there already is swapped out by a rename, and removed only after the new one is in its place. When
    the block raises, the temporary folder is removed and `path` is as it was. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        part.chmod(0o755)
        yield part
        for file in (*part.rglob("*"), part):
            _sync(file)
        if path.exists():
            _swap(part, path)
        else:
            os.replace(part, path)
        _sync(path.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _swap(part: Path, path: Path) -> None:
    """Puts `part` in the place of `path`, and removes what was there. Raises OSError; then `path` is as it was, or,
    where even that cannot be had, the error says where it is now."""
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    try:
        os.replace(path, old / path.name)
        os.replace(part, path)
    except BaseException as error:
        if os.path.lexists(old / path.name):
            try:
                os.replace(old / path.name, path)
            except OSError as second:
                reason = (
                    f"{error}; what was there could not be put back ({second.strerror}): it is at {old / path.name}"
                )
                raise OSError(second.errno, reason) from error
        shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
