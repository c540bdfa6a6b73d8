"""Which pages of memory the native libraries of an app load on, as scripts/page_sizes reads it of their ELF headers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "page_sizes"


def library(folder: Path, page: int) -> bytes:
    """A shared library whose segments are aligned to so many bytes."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    path = folder / f"{page}.so"
    empty = ["-x", "c", "/dev/null"]
    subprocess.run([compiler, "-shared", "-nostdlib", f"-Wl,-z,max-page-size={page}", "-o", path, *empty], check=True)
    return path.read_bytes()


def told(folder: Path, files: dict[str, bytes]) -> tuple[int, list[str]]:
    """The exit status for an archive of these files, and what is printed."""
    with zipfile.ZipFile(folder / "engine.aar", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    done = subprocess.run([sys.executable, SCRIPT, folder / "engine.aar"], capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def test_libraries_of_64_bits_are_told(tmp_path: Path) -> None:
    large, small = library(tmp_path, 65536), library(tmp_path, 4096)
    fits = {"jni/arm64-v8a/libe.so": large, "jni/armeabi-v7a/libe.so": small, "classes.jar": b""}
    assert told(tmp_path, fits) == (0, ["engine.aar: jni/arm64-v8a/libe.so: 65536 bytes"])
    status, lines = told(tmp_path, {"lib/x86_64/libe.so": small, "lib/arm64-v8a/libe.so": library(tmp_path, 16384)})
    assert status == 1
    assert lines == [
        "engine.aar: lib/arm64-v8a/libe.so: 16384 bytes",
        "engine.aar: lib/x86_64/libe.so: 4096 bytes; pages of 16384 bytes need 16384",
    ]


def test_what_is_no_library_does_not_fit(tmp_path: Path) -> None:
    whole = library(tmp_path, 16384)
    for content, said in (
        (b"", "it is no 64-bit ELF file"),
        (b"\x7fELF\x01\x01" + whole[6:], "it is no 64-bit ELF file"),
        (whole[:80], "it is cut off"),
        (whole[:56] + b"\0\0" + whole[58:], "it loads nothing"),
    ):
        status, lines = told(tmp_path, {"jni/x86_64/libe.so": content})
        assert (status, lines) == (1, [f"engine.aar: jni/x86_64/libe.so: {said}; pages of 16384 bytes need 16384"])
    assert told(tmp_path, {"classes.jar": b""}) == (
        0,
        ["engine.aar: no native libraries of arm64-v8a or x86_64"],
    )
