"""A pack is written whole or not at all: whatever stops the writing leaves what was there before."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.errors import PackError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.pack.writer import PackWriter, describe
from packs import GRAPH, build_pack, write_programs


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return build_pack(tmp_path / "tiny").path


def only(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def write(path: Path, disturb: Callable[[dict[str, Any]], object], overwrite: bool = False) -> None:
    """Writes the tiny pack, with `disturb` called on its manifest after the blobs and before `finish`."""
    with PackWriter(path, name="new", overwrite=overwrite) as writer:
        manifest = write_programs(writer)
        assert len(only(path.parent)) > path.exists()
        disturb(manifest)
        writer.finish(manifest)


def fail(error: type[BaseException]) -> Callable[[object], object]:
    def disturb(_: object) -> None:
        raise error("in the middle")

    return disturb


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_exception_in_the_middle_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error, match="in the middle"):
        write(tmp_path / "pack", fail(error))
    assert only(tmp_path) == []


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "pack", lambda _: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert only(tmp_path) == []


def test_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "pack", name="x") as writer:
        writer.add_blob(b"program", ".onnx")
    assert only(tmp_path) == []
    with pytest.raises(PackError, match="is not being written"):
        writer.add_blob(b"program", ".onnx")


def test_what_the_reader_refuses_is_not_written(tmp_path: Path) -> None:
    target = tmp_path / "pack"
    with pytest.raises(PackError, match="one original block from each cut") as caught:
        write(target, lambda manifest: manifest["blocks"][0].update(kind="pruned"))
    assert str(target) in str(caught.value)
    assert ".part" not in str(caught.value)
    assert only(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), object(), "\ud800"], ids=["NaN", "object", "surrogate"])
def test_a_manifest_that_is_not_json_is_not_written(tmp_path: Path, value: object) -> None:
    with pytest.raises(PackError, match="cannot be written as JSON"):
        write(tmp_path / "pack", lambda manifest: manifest.update(provenance={"value": value}))
    assert only(tmp_path) == []


def test_a_blob_has_one_of_two_suffixes(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "pack", name="x") as writer, pytest.raises(PackError, match=r"not '/\.\./x'"):
        writer.add_blob(b"program", "/../x")


def test_the_folder_it_goes_into_is_made(tmp_path: Path) -> None:
    assert build_pack(tmp_path / "new" / "folder" / "pack").name == "tiny"


def test_existing_path_is_refused(pack: Path) -> None:
    before = BlockPack.open(pack).digest
    with pytest.raises(PackError, match="exists already"):
        build_pack(pack, name="other")
    assert BlockPack.open(pack).digest == before
    assert only(pack.parent) == ["tiny"]


def test_a_path_that_appears_meanwhile_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "pack"
    with pytest.raises(PackError, match="exists already"):
        write(target, lambda _: target.mkdir())
    assert only(tmp_path) == ["pack"]
    assert only(target) == []


def test_overwrite_replaces_the_old_pack(pack: Path) -> None:
    assert build_pack(pack, name="new", overwrite=True).name == "new"
    assert BlockPack.open(pack).name == "new"
    assert only(pack.parent) == ["tiny"]


@pytest.mark.parametrize(
    ("disturb", "error"),
    [
        (fail(RuntimeError), RuntimeError),
        (fail(KeyboardInterrupt), KeyboardInterrupt),
        (lambda manifest: manifest.update(cuts=[]), PackError),
    ],
    ids=["exception", "Ctrl-C", "refused by the reader"],
)
def test_overwrite_keeps_the_old_pack_on_failure(
    pack: Path, disturb: Callable[[dict[str, Any]], object], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        write(pack, disturb, overwrite=True)
    assert BlockPack.open(pack).name == "tiny"
    assert only(pack.parent) == ["tiny"]


def test_overwrite_replaces_packs_only(tmp_path: Path, pack: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    (tmp_path / "link").symlink_to(pack)
    (tmp_path / "file").write_text("a file")
    for name in ("home", "link", "file"):
        with pytest.raises(PackError, match="is not a block pack and will not be overwritten"):
            build_pack(tmp_path / name, overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"
    assert only(tmp_path) == ["file", "home", "link", "tiny"]


def test_a_write_that_the_kernel_stops_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Only for as long as it takes: pytest's own report may go to a file that is longer.
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(PackError, match="cannot be written: File too large"):
            build_pack(tmp_path / "pack")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert only(tmp_path) == []


def test_disk_full_leaves_nothing_and_keeps_the_old_pack(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        build_pack(disk / "pack")
        (disk / "other data").write_bytes(bytes(200 << 10))
        with pytest.raises(PackError, match="cannot be written: No space left on device"):
            write(disk / "pack", lambda _: None, overwrite=True)
        assert only(disk) == ["other data", "pack"]
        assert BlockPack.open(disk / "pack").name == "tiny"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_describe_names_blocks_without_artifacts() -> None:
    with pytest.raises(PackError, match="for the blocks b0, b0-p50, b0-m2, b1, b1-p50, b2"):
        describe(GRAPH, {}, {})
