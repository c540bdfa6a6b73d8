"""Files and folders that appear under their final name whole, or not at all.

`check_file` and `check_folder` say before a long job whether `write_file` and `new_folder` will be able to do theirs.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DESCRIPTOR = re.compile(r"/dev/(?:(stdout)|(stderr)|fd/(\d{1,9}))|/proc/self/fd/(\d{1,9})")
_NAME_SHOWN = 40  # characters of a long name in that of its temporary file


def write_file(path: Path, data: bytes) -> None:
    """Writes `data` beside `path`, makes sure that it is on the disk, and renames it to `path`.

    Whatever goes wrong (a full disk, a kill), a file that was there before is still there, whole. It keeps its mode and
    owner; a new file gets the mode that the umask leaves. What a symbolic link points to is replaced, not the link.
    Devices, pipes and descriptors (see `is_stream`) are written to. Raises OSError, also for a folder and a read-only
    file.
    """
    if is_stream(path):
        with _open_stream(path) as stream:
            stream.write(data)
        return
    target = _target(path)
    descriptor, part = _open_part(target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _copy_mode(target, part)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def check_file(path: Path) -> None:
    """Raises the OSError that `write_file` will raise for `path`, where that can be known; leaves nothing behind."""
    if not is_stream(path):
        descriptor, part = _open_part(_target(path))
        os.close(descriptor)
        part.unlink()


def is_stream(path: Path) -> bool:
    """Whether what is written to `path` goes on to somebody else: a device, a pipe, or a descriptor that is open
    already, such as /dev/stdout. Raises OSError for what takes no file: a folder, a disk, a socket, a descriptor that
    is closed."""
    number = _descriptor(path)
    if number is not None:
        os.fstat(number)
        return True
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise OSError(errno.EINVAL, "it is a disk or a socket, no file", str(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it may not be written to", str(path))
    return not stat.S_ISREG(mode)


def is_standard_output(path: Path | str) -> bool:
    """Whether `path` is that of the process's standard output."""
    return _descriptor(Path(path)) == 1


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the `with` block ends well.

    A folder that is there already is swapped out by a rename, and removed only after the new one, which takes over its
    mode, is in its place. When the block raises, the temporary folder is removed and `path` is as it was. What a
    symbolic link points to is replaced, not the link. Raises OSError.
    """
    path = _target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _new_part(path)
    part.mkdir()
    try:
        yield part
        for file in (*part.rglob("*"), part):
            _sync(file)
        if path.exists():
            _copy_mode(path, part)
            _swap(part, path)
        else:
            os.replace(part, path)
        _sync(path.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def check_folder(path: Path) -> None:
    """Raises the OSError that `new_folder` will raise for `path`, where that can be known; leaves nothing behind."""
    path = _target(path)
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is no folder", str(path))
        if os.path.ismount(path):
            raise OSError(errno.EBUSY, "a disk is mounted there: give a folder inside of it", str(path))
    above = path.parent
    while not os.path.lexists(above):
        above = above.parent
    part = _new_part(above / path.name)
    part.mkdir()
    part.rmdir()


def _descriptor(path: Path) -> int | None:
    """The number of the open file that `path` stands for; opening it by name would empty a file behind it."""
    found = _DESCRIPTOR.fullmatch(os.fspath(path))
    if not found:
        return None
    if found[1] or found[2]:
        return 1 if found[1] else 2
    return int(found[3] or found[4])


def _open_stream(path: Path) -> io.BufferedWriter:
    number = _descriptor(path)
    return open(path if number is None else os.dup(number), "wb")


def _target(path: Path) -> Path:
    """The place behind symbolic links; nothing need be there yet."""
    return Path(os.path.realpath(path))


def _new_part(target: Path) -> Path:
    return target.with_name(f".{target.name[:_NAME_SHOWN]}.{secrets.token_hex(8)}.part")


def _open_part(target: Path) -> tuple[int, Path]:
    part = _new_part(target)
    return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), part


def _copy_mode(old: Path, new: Path) -> None:
    """Gives `new` the owner, where that is allowed, and the mode of `old`, if there is one."""
    with suppress(FileNotFoundError):
        was = old.stat()
        with suppress(PermissionError):
            os.chown(new, was.st_uid, was.st_gid)
        os.chmod(new, stat.S_IMODE(was.st_mode))


def _swap(part: Path, path: Path) -> None:
    """Puts `part` in the place of `path`, and removes what was there. Raises OSError; then `path` is as it was, or,
    where even that cannot be had, the error says where it is now."""
    old = _new_part(path).with_suffix(".old")
    old.mkdir()
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
