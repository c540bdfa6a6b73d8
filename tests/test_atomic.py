"""Files and folders under their final name: whole, or as they were."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from adaptivenet.toolkit import atomic
from adaptivenet.toolkit.atomic import check_file, check_folder, new_folder, write_file


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "thing"
    path.mkdir()
    (path / "content").write_text("old")
    return path


def replace_failing(monkeypatch: pytest.MonkeyPatch, path: Path, times: int) -> None:
    """Lets the first `times` renames that end at `path` fail, as a file system that is full or gone would."""
    real, left = os.replace, [times]

    def replace(source: object, target: object) -> None:
        if target == path and left[0]:
            left[0] -= 1
            raise OSError(5, "Input/output error")
        real(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(atomic.os, "replace", replace)


def test_a_new_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "thing"
    with new_folder(path) as folder:
        (folder / "content").write_text("new")
        assert not path.exists()
    assert (path / "content").read_text() == "new"
    assert os.listdir(path.parent) == ["thing"]


def test_an_old_folder_is_replaced_whole(old: Path) -> None:
    with new_folder(old) as folder:
        (folder / "other").write_text("new")
        assert (old / "content").read_text() == "old"
    assert os.listdir(old) == ["other"]
    assert os.listdir(old.parent) == ["thing"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_changes_when_the_block_raises(old: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with new_folder(old) as folder:
            (folder / "content").write_text("new")
            raise error

    with pytest.raises(error):
        write()
    assert (old / "content").read_text() == "old"
    assert os.listdir(old.parent) == ["thing"]


def test_the_old_folder_comes_back_when_the_swap_fails(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_failing(monkeypatch, old, times=1)
    with pytest.raises(OSError, match="Input/output error"), new_folder(old) as folder:
        (folder / "content").write_text("new")
    assert (old / "content").read_text() == "old"
    assert os.listdir(old.parent) == ["thing"]


def test_the_old_folder_is_kept_and_named_when_it_cannot_come_back(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_failing(monkeypatch, old, times=2)
    with pytest.raises(OSError, match="could not be put back") as caught, new_folder(old) as folder:
        (folder / "content").write_text("new")
    (kept,) = old.parent.iterdir()
    assert (kept / "thing" / "content").read_text() == "old"
    assert str(kept / "thing") in str(caught.value.strerror)


def test_write_file_replaces_whole(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"old")
    write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_write_file_leaves_the_old_file_when_the_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "file", b"old")
    replace_failing(monkeypatch, tmp_path / "file", times=1)
    with pytest.raises(OSError, match="Input/output error"):
        write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.fixture
def masked() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("masked")
def test_new_files_and_folders_obey_the_umask(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"new")
    with new_folder(tmp_path / "folder"):
        pass
    assert mode_of(tmp_path / "file") == 0o640
    assert mode_of(tmp_path / "folder") == 0o750


def test_what_is_replaced_keeps_its_mode(tmp_path: Path, old: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o606)
    old.chmod(0o705)
    write_file(file, b"new")
    with new_folder(old):
        pass
    assert (mode_of(file), file.read_bytes()) == (0o606, b"new")
    assert (mode_of(old), os.listdir(old)) == (0o705, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_what_is_replaced_keeps_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.chown(file, 1234, 4321)
    write_file(file, b"new")
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 4321)


def test_a_symbolic_link_stays_and_its_target_is_replaced_whole(tmp_path: Path, old: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"old")
    held = (elsewhere / "file").open("rb")
    (tmp_path / "link").symlink_to("elsewhere/file")
    (tmp_path / "dangling").symlink_to("elsewhere/later")
    (tmp_path / "to-folder").symlink_to(old)
    for path in (tmp_path / "link", tmp_path / "dangling"):
        check_file(path)
        write_file(path, b"new")
        assert path.is_symlink()
        assert path.read_bytes() == b"new"
    check_folder(tmp_path / "to-folder")
    with new_folder(tmp_path / "to-folder") as folder:
        (folder / "other").touch()
    assert held.read() == b"old"  # not written over: replaced
    assert sorted(os.listdir(elsewhere)) == ["file", "later"]
    assert (tmp_path / "to-folder").is_symlink()
    assert os.listdir(old) == ["other"]


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A device like /dev/null, but one that a test may lose."""
    path = tmp_path / "null"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        path.write_bytes(b"")
    except OSError:
        pytest.skip("devices cannot be made here")
    return path


def test_a_device_is_written_to_and_stays(device: Path) -> None:
    check_file(device)
    write_file(device, b"new")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert os.listdir(device.parent) == ["null"]


def test_a_full_device_is_an_error() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_file(Path("/dev/full"), b"new")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    check_file(path)  # does not wait for a reader
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    write_file(path, b"new" * 100_000)
    reader.join()
    assert got == [b"new" * 100_000]
    assert path.is_fifo()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_in_a_file_is_gone_on_with(name: str, tmp_path: Path) -> None:
    """Opening the descriptor by its name would empty the file."""
    program = (
        "from pathlib import Path; from adaptivenet.toolkit.atomic import check_file, is_stream, write_file\n"
        f"print('before', flush=True); check_file(Path('{name}')); write_file(Path('{name}'), b'between\\n')\n"
        f"print('after', is_stream(Path('{name}')))"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\nbetween\nafter True\n"
    assert os.listdir(tmp_path) == ["out"]


def unusable(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    server.close()
    (tmp_path / "round").symlink_to("round")
    return {
        "it is a folder": tmp_path / "folder",
        "a disk or a socket": tmp_path / "socket",
        "No such file or directory": tmp_path / "missing" / "file",
        "Not a directory": tmp_path / "file" / "file",
        "File name too long": tmp_path / ("x" * 256),
        "Too many levels of symbolic links": tmp_path / "round",
        "Bad file descriptor": Path("/dev/fd/987654"),
    }


def test_what_cannot_be_written_is_refused_before_and_then(tmp_path: Path) -> None:
    for message, path in unusable(tmp_path).items():
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(OSError, match=message):
            check_file(path)
        with pytest.raises(OSError, match=message):
            write_file(path, b"new")
        assert sorted(os.listdir(tmp_path)) == before


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ö" * 127)  # 254 bytes: one less than there may be
    check_file(path)
    write_file(path, b"new")
    check_folder(path.with_name("ä" * 127))
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_that_cannot_be_made_is_refused_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for message, path in {
        "it is no folder": tmp_path / "file",
        "Not a directory": tmp_path / "file" / "deep" / "folder",
        "File name too long": tmp_path / ("x" * 256),
        "a disk is mounted there": Path("/proc"),
    }.items():
        with pytest.raises(OSError, match=message):
            check_folder(path)
    check_folder(tmp_path / "deep" / "folder")
    assert os.listdir(tmp_path) == ["file"]


def test_an_unwritable_folder_and_file_are_refused_before(tmp_path: Path) -> None:
    """In a process that is not root, for root may write anywhere."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o555)
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o444)
    tmp_path.chmod(0o777)
    program = (
        "import os\nfrom pathlib import Path\nfrom adaptivenet.toolkit.atomic import check_file, check_folder\n"
        "if os.geteuid() == 0: os.setuid(12345)\n"
        "for check, path in ((check_file, 'closed/x'), (check_folder, 'closed/deep/x'), (check_file, 'file')):\n"
        "    try: check(Path(path))\n"
        "    except PermissionError as error: print(error.strerror)\n"
        "check_file(Path('new')); check_folder(Path('deep/new'))\n"
    )
    for folder in (tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)  # pytest's own folders, for the other user to come here
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "Permission denied\nPermission denied\nit may not be written to\n", done.stderr
    assert sorted(os.listdir(tmp_path)) == ["closed", "file"]
