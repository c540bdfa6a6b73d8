"""Folders as people have them: hidden ones, kinds that cannot be read, damaged tags, closed folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.errors import DataError
from adaptivenet.toolkit.graph.graph import Cut
from PIL import Image, features

CUT = Cut(0, (1, 3, 16, 16))
PLAIN = Preprocessing(16, 16, scale=1.0)


def picture(path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 20, 3), 90, np.uint8)).save(path, **options)
    return path


def opened(path: Path) -> Dataset:
    return open_data(path, PLAIN, None, CUT)


@pytest.mark.parametrize(
    "junk", [".ipynb_checkpoints", "@eaDir", "__MACOSX", "roses/.ipynb_checkpoints", "roses/@eaDir"]
)
def test_folders_that_nobody_made_are_no_classes_and_hold_no_pictures(tmp_path: Path, junk: str) -> None:
    picture(tmp_path / "roses" / "a.png")
    picture(tmp_path / "tulips" / "deep" / "b.png")
    picture(tmp_path / junk / "a-checkpoint.png")
    picture(tmp_path / "tulips" / "._b.png")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    data = opened(tmp_path)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1]
    assert data.notes == ()


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("a.jfif", "JPEG"),
        ("a.JPE", "JPEG"),
        ("a.gif", "GIF"),
        ("a.tga", "TGA"),
        ("a.jp2", "JPEG2000"),
        ("a.avif", "AVIF"),
        ("a.pbm", "PPM"),
    ],
)
def test_what_pillow_reads_is_read(tmp_path: Path, name: str, format_: str) -> None:
    if format_ in ("AVIF", "JPEG2000") and not features.check({"AVIF": "avif", "JPEG2000": "jpg_2000"}[format_]):
        pytest.skip(f"this Pillow does not write {format_}")
    grey = Image.fromarray(np.full((16, 20, 3), 255, np.uint8))
    (grey.convert("1") if name.endswith(".pbm") else grey).save(tmp_path / name, format=format_)
    assert opened(tmp_path).image(0).min() > 250


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), (level, level, level)) for level in (200, 10)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert opened(tmp_path).image(0).min() == 200


def test_pictures_that_cannot_be_read_are_told_by_folder_or_refused(tmp_path: Path) -> None:
    picture(tmp_path / "roses" / "a.png")
    for name in ("b.HEIC", "c.heic", "d.jxl", "notes.txt"):
        (tmp_path / "roses" / name).write_bytes(b"x")
    assert opened(tmp_path / "roses").notes == opened(tmp_path).notes
    assert opened(tmp_path).notes == (
        f"2 .heic, 1 .jxl files in {tmp_path / 'roses'} cannot be read: convert them to .jpg or .png; they are left "
        "out",
    )
    (tmp_path / "tulips").mkdir()
    assert opened(tmp_path).notes[-1] == f"the class folder {tmp_path / 'tulips'} holds no pictures"
    (tmp_path / "tulips" / "a.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 \.heic files in .*tulips cannot be read: convert them"):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"tulips holds no pictures: 1 \.heic files"):
        opened(tmp_path / "tulips")


def test_a_damaged_exif_tag_spoils_no_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "a.jpg", exif=exif)
    content = (tmp_path / "a.jpg").read_bytes()
    # The type of the orientation becomes text, or a number of a kind that no orientation has.
    at = content.index(b"\x12\x01\x03\x00") if b"\x12\x01\x03\x00" in content else content.index(b"\x01\x12\x00\x03")
    for kind in (2, 5, 7, 12):
        damaged = bytearray(content)
        damaged[at + 2 : at + 4] = bytes([kind, 0]) if content[at] == 0x12 else bytes([0, kind])
        (tmp_path / "a.jpg").write_bytes(bytes(damaged))
        assert opened(tmp_path).image(0).shape == (1, 3, 16, 16)


def test_text_tags_that_are_no_text_spoil_no_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    picture(tmp_path / "a.jpg", exif=exif)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content.replace(b"a description", b"\xff\xfe\x80 descript\xe9"))
    assert opened(tmp_path).image(0).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    "error", [StopIteration(), Image.DecompressionBombError("too\nlarge"), MemoryError(), SystemError()]
)
def test_whatever_a_decoder_raises_is_one_line_with_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = picture(tmp_path / "a.png")

    def fails(*_: Any, **__: Any) -> None:
        raise error

    data = opened(tmp_path)
    monkeypatch.setattr(Image, "open", fails)
    with pytest.raises(DataError) as caught:
        data.image(0)
    assert f"{path} is not a picture that can be read" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def closed() -> Iterator[Path]:
    """A class folder that this process may not read: as root it becomes another user for the time."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    picture(root / "open" / "a.png")
    picture(root / "closed" / "a.png")
    (root / "closed").chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield root
    os.seteuid(user)
    (root / "closed").chmod(0o755)
    shutil.rmtree(root)


def test_a_folder_that_may_not_be_read_is_named(closed: Path) -> None:
    for path in (closed, closed / "closed"):
        with pytest.raises(
            DataError, match=r"the folder .*/closed cannot be read: Permission denied; allow reading it"
        ):
            opened(path)
    with pytest.raises(DataError, match=r"closed/a\.png cannot be read: Permission denied|does not exist"):
        opened(closed / "closed" / "a.png")
