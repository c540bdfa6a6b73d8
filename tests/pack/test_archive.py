"""A pack in one file: what tar writes serves as the folder does; what somebody has changed is refused or the same."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.errors import PackError
from adaptivenet.toolkit.pack.archive import Archive
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.serving.model import Model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packs import GRAPH

BLOCK = 512


def tar(pack: BlockPack, path: Path, *options: str) -> Path:
    """By the command that docs/pack.md has."""
    command = ["tar", *(options or ("--format=ustar",)), "-cf", path, "-C", pack.path, "manifest.json", "blobs"]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="module")
def archived(tiny_pack: BlockPack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tar(tiny_pack, tmp_path_factory.mktemp("archive") / "pack.tar")


def test_the_command_is_the_one_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "pack.md").read_text()
    assert "tar --format=ustar -cf pack.tar -C PACK manifest.json blobs" in page


@pytest.mark.parametrize("form", ["ustar", "gnu"])
def test_an_archive_holds_what_the_folder_holds(form: str, tiny_pack: BlockPack, tmp_path: Path) -> None:
    path = tar(tiny_pack, tmp_path / "pack.tar", f"--format={form}")
    found = BlockPack.open(path)
    assert (found.digest, found.path) == (tiny_pack.digest, path)
    for artifact in tiny_pack.artifacts():
        assert found.read(artifact) == tiny_pack.read(artifact)


def test_an_archive_that_pythons_tarfile_writes_is_one(tiny_pack: BlockPack, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pack.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(tiny_pack.path, ".")
    assert BlockPack.open(tmp_path / "pack.tar").digest == tiny_pack.digest


def test_a_model_and_a_session_serve_an_archive(
    archived: Path, tiny_pack: BlockPack, profiles: dict[str, Path]
) -> None:
    x = np.random.default_rng(0).normal(size=GRAPH.cuts[0].shape).astype(np.float32)
    for address, profile in profiles.items():
        with Model.open(archived, profile) as model, connect(address).open(tiny_pack) as session:
            subnet = model.status().subnet
            assert subnet is not None
            session.activate(subnet)
            np.testing.assert_array_equal(model.infer(x), session.infer(x))
            assert Profile.load(profile, BlockPack.open(archived)).pack == tiny_pack.digest


def header(name: str, size: int, kind: bytes = b"0", prefix: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    made = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    made[345 : 345 + len(prefix)] = prefix.encode()
    return summed(made)


def summed(of: bytearray) -> bytes:
    of[148:156] = b" " * 8
    of[148:156] = b"%06o\0 " % sum(of)
    return bytes(of)


def entry(name: str, content: bytes = b"{}", kind: bytes = b"0") -> bytes:
    return header(name, len(content), kind) + content + bytes(-len(content) % BLOCK)


END = bytes(2 * BLOCK)
MANIFEST = entry("manifest.json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is cut off"),
        (b"x" * 10240, "neither a folder that holds manifest.json nor a tar archive of one"),
        (MANIFEST, "is cut off"),
        (MANIFEST + b"x" * 10240, "is damaged at byte 1024"),
        (MANIFEST * 2 + END, "has manifest.json twice"),
        (MANIFEST + entry("./manifest.json") + END, "has manifest.json twice"),
        (MANIFEST + END + b"x", "goes on after its end"),
        (MANIFEST + bytes(2 << 20), "goes on after its end"),
        (header("manifest.json", 4096) + END, "ends before the end of manifest.json"),
        (header("manifest.json", 0o77777777777) + END, "ends before the end of manifest.json"),
        *(
            (entry(name) + END, "no file of a pack")
            for name in ("../manifest.json", "/manifest.json", "x", "blobs/x.pte")
        ),
        (header("manifest.json", 2, prefix="..") + b"{}" + bytes(510) + END, "no file of a pack"),
        *((entry("manifest.json", kind=kind) + END, "which is no file") for kind in (b"1", b"2", b"5", b"x", b"L")),
        (entry("blobs/" + "a" * 64 + ".pte") + END, "manifest.json is missing in the archive"),
        (MANIFEST + END, "it is not a block pack's manifest"),
    ],
)
def test_what_no_tar_would_write_of_a_pack_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "pack.tar"
    path.write_bytes(content)
    with pytest.raises(PackError, match=says):
        BlockPack.open(path)


def test_a_blob_that_is_missing_or_damaged_is_named(tiny_pack: BlockPack, archived: Path, tmp_path: Path) -> None:
    artifact = next(tiny_pack.artifacts())
    content, blob = archived.read_bytes(), tiny_pack.read(artifact)
    assert content.count(blob) == 1
    (tmp_path / "damaged.tar").write_bytes(content.replace(blob, blob[:-1] + bytes([blob[-1] ^ 1])))
    with pytest.raises(PackError, match=f"{artifact.sha256}.* is damaged"):
        BlockPack.open(tmp_path / "damaged.tar")
    with tarfile.open(archived) as old, tarfile.open(tmp_path / "less.tar", "w", format=tarfile.USTAR_FORMAT) as less:
        for member in old:
            if member.name != artifact.file:
                less.addfile(member, old.extractfile(member))
    with pytest.raises(PackError, match=f"{artifact.sha256}.* is missing in the archive"):
        BlockPack.open(tmp_path / "less.tar")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_changed_in_it_is_refused_or_is_the_same_pack(
    data: st.DataObject, tiny_pack: BlockPack, archived: Path, tmp_path: Path
) -> None:
    content = bytearray(archived.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(content)) as members:
        headers = [member.offset for member in members]
    at = data.draw(st.sampled_from(headers))

    def any_byte() -> None:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))

    def in_a_header() -> None:
        content[at + data.draw(st.integers(0, BLOCK - 1))] = data.draw(st.integers(0, 255))
        content[at : at + BLOCK] = summed(content[at : at + BLOCK])

    def size() -> None:
        content[at + 124 : at + 136] = b"%011o\0" % data.draw(st.integers(0, 0o77777777777))
        content[at : at + BLOCK] = summed(content[at : at + BLOCK])

    def cut() -> None:
        del content[data.draw(st.integers(0, len(content))) :]

    change: Callable[[], None] = data.draw(st.sampled_from([any_byte, in_a_header, size, cut]))
    change()
    path = tmp_path / "changed.tar"
    path.write_bytes(content)
    try:
        found = BlockPack.open(path)
    except PackError:
        return
    assert found.digest == tiny_pack.digest
    for artifact in tiny_pack.artifacts():
        assert found.read(artifact) == tiny_pack.read(artifact)


def test_an_archive_is_read_again_for_each_file(archived: Path) -> None:
    archive = Archive(archived)
    assert archive.open("manifest.json")[0].read() == archive.open("manifest.json")[0].read()
