"""Files and folders under their final name: whole, or as they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from adaptivenet.toolkit import atomic
from adaptivenet.toolkit.atomic import new_folder, write_file


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
