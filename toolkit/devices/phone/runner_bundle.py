"""Which runner a phone gets: the bundle for its processor, if one was built or came with the package.

A bundle is a folder with the program `adaptivenet-runner`, the libraries it needs beside it, and `bundle.json`, which
lists them. `adaptivenet-runner build PRESET` makes one (see `adaptivenet.android_runner.build`). A program built for
GNU libc brings its own loader and libc, so that it runs where neither is installed: on a phone.

The C++ sources lie beside the toolkit, in a checkout and in an installed package alike. What is built from those of a
checkout stays there, in `build/runner`; otherwise it goes into the user's cache, by the version.

A runner's version is that of the package and, behind a `+`, the beginning of the SHA-256 of the C++ sources, and of how
it was built: 0.1.0+f3a83f0b17d2.9c01d2. So the toolkit notices when a runner was built from other sources, and a host
notices when the daemon on a phone is of another build.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...documents import parse_json
from ...errors import DeviceError
from ...pack.pack import stream_sha256

FORMAT = "adaptivenet-runner"
LIST = "bundle.json"
PROGRAM = "adaptivenet-runner"
PRESETS = ("host", "linux-arm64", "android-arm64", "android-x86_64")
_ARM64 = ("aarch64", "arm64")  # as `uname -m` says
_X86_64 = ("x86_64", "amd64")
_PROGRAM_SOURCES = (
    "CMakeLists.txt",
    "CMakePresets.json",
    "cmake/*.cmake",
    "*/*.cpp",
    "*/*.h",
    "*/*.in",
    "include/*/*.h",
)
_NOT_OF_THE_PROGRAM = ("bench", "examples", "fuzz", "tests")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_PACKAGE = Path(__file__).resolve().parents[2]  # toolkit/
SOURCES = _PACKAGE.parent  # the folder that android_runner/ is in


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle: its name (no folders), its size and the SHA-256 of its content."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """A runner that is ready to be pushed. `start` are the words that start it, in its own folder."""

    folder: Path
    preset: str
    version: str
    start: tuple[str, ...]
    files: tuple[BundleFile, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the list of files and of how the program is started: the folder's name on the phone."""
        listed = [list(self.start), [[file.name, file.sha256] for file in sorted(self.files, key=lambda f: f.name)]]
        return hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()

    @classmethod
    def of(cls, folder: Path, preset: str, version: str, start: Sequence[str]) -> Bundle:
        """The bundle of all the files in `folder`, which are read."""
        paths = sorted(path for path in folder.iterdir() if path.name != LIST)
        files = [BundleFile(path.name, path.stat().st_size, file_sha256(path)) for path in paths]
        return cls(folder, preset, version, tuple(start), tuple(files))

    @classmethod
    def read(cls, folder: Path) -> Bundle:
        """The bundle that `write_list` described. Raises DeviceError when the list is damaged or a file is missing."""
        try:
            document = parse_json((folder / LIST).read_bytes())
            if document["format"] != FORMAT:
                raise ValueError(f"its format is {document['format']!r}")
            files = tuple(BundleFile(str(f["name"]), int(f["bytes"]), str(f["sha256"])) for f in document["files"])
            bundle = cls(folder, document["preset"], document["version"], tuple(document["start"]), files)
            for file in files:
                if not _FILE.fullmatch(file.name) or (folder / file.name).stat().st_size != file.bytes:
                    raise ValueError(f"{file.name} is not of the size that {LIST} says")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeviceError(f"the runner in {folder} is damaged ({error}): build it again") from error
        return bundle

    def write_list(self) -> None:
        """Writes `bundle.json`."""
        (self.folder / LIST).write_text(json.dumps(self.to_json(), indent=1) + "\n")

    def to_json(self) -> dict[str, Any]:
        """What `bundle.json` holds."""
        return {
            "format": FORMAT,
            "preset": self.preset,
            "version": self.version,
            "start": list(self.start),
            "files": [{"name": f.name, "bytes": f.bytes, "sha256": f.sha256} for f in self.files],
        }


def presets_for(android_abi: str, machine: str, this_machine: str) -> tuple[str, ...]:
    """The presets whose program runs on a phone, best first.

    `android_abi` is what `getprop ro.product.cpu.abi` says there (empty: not Android), `machine` what `uname -m` says
    there, and `this_machine` what it says here. Raises DeviceError when no preset builds for it.
    """
    arm64 = android_abi == "arm64-v8a" or (not android_abi and machine in _ARM64)
    x86_64 = android_abi == "x86_64" or (not android_abi and machine in _X86_64)
    presets: list[str] = []
    if android_abi:
        presets += (["android-arm64", "linux-arm64"] if arm64 else []) + (["android-x86_64"] if x86_64 else [])
    if (arm64 and this_machine in _ARM64) or (x86_64 and this_machine in _X86_64):
        presets.append("host")  # it brings its own loader and libc, so it runs wherever the processor is the same
    elif arm64 and not android_abi:
        presets.append("linux-arm64")
    if not presets:
        raise DeviceError(
            f"there is no runner for {android_abi or machine or 'this device'}: arm64-v8a (aarch64) and x86_64 are "
            "the processors it is built for"
        )
    return tuple(presets)


def find_bundle(
    presets: Sequence[str], wanted: str | None = None, sources: Path = SOURCES, runner: str | Path | None = None
) -> Bundle:
    """The first bundle that is there, of these presets: in `builds_folder`, or packaged with the toolkit.

    `wanted` is the version of package and sources that it must have, or of the package alone; by default what is here.
    With `runner`, the bundle in that folder, of one of these presets and of this package's version, from any sources.
    Raises DeviceError, with the command that builds one, when there is none or it is of another version.
    """
    if runner is not None:
        return _named_bundle(Path(runner), presets)
    wanted = wanted or runner_version(version("adaptivenet"), sources)
    for preset in presets:
        for folder in _places(preset, sources):
            if (folder / LIST).is_file():
                bundle = Bundle.read(folder)
                if not _is_wanted(bundle.version, wanted):
                    raise DeviceError(
                        f"the runner in {folder} is of version {bundle.version}, this is {wanted}; build it again: "
                        f"{build_command(preset, sources)}"
                    )
                return bundle
    # The preset that needs no Android NDK is the one to recommend.
    easiest = next((preset for preset in presets if not preset.startswith("android")), presets[0])
    raise DeviceError(f"no runner is built for {' or '.join(presets)}; build one: {build_command(easiest, sources)}")


def _named_bundle(folder: Path, presets: Sequence[str]) -> Bundle:
    if not (folder / LIST).is_file():
        raise DeviceError(
            f"there is no runner in {folder}: give the folder with its {LIST}; adaptivenet-runner list shows those here"
        )
    bundle = Bundle.read(folder)
    if bundle.preset not in presets:
        raise DeviceError(
            f"the runner in {folder} is built for {bundle.preset}, and this device needs {' or '.join(presets)}"
        )
    if not _is_wanted(bundle.version, version("adaptivenet")):
        raise DeviceError(
            f"the runner in {folder} is of version {bundle.version}, this is {version('adaptivenet')}: use the runner "
            "and the package of one version"
        )
    return bundle


def is_checkout(sources: Path = SOURCES) -> bool:
    """Whether `sources` is a checkout of the repository, and not where a package is installed."""
    return (sources / "scripts" / "build_runner").is_file()


def builds_folder(sources: Path = SOURCES) -> Path:
    """Where runners are built, each in a folder that has the name of its preset, with the bundle in `bundle`.

    In a checkout `build/runner`; otherwise, by the version of package and sources, in the user's cache: XDG_CACHE_HOME
    where it is set, else `~/Library/Caches` on a Mac, else `~/.cache`. Raises DeviceError where there is no home.
    """
    if is_checkout(sources):
        return sources / "build" / "runner"
    return cache_folder() / runner_version(version("adaptivenet"), sources)


def cache_folder() -> Path:
    """The folder for runners in the user's cache; see `builds_folder`."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):  # as the XDG specification wants it: a relative path is ignored
        return Path(named) / "adaptivenet" / "runner"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise DeviceError(f"there is no folder for runners ({error}): set XDG_CACHE_HOME") from error
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "adaptivenet" / "runner"


def runner_version(package: str, sources: Path = SOURCES) -> str:
    """The version of a runner that is built from `sources`; that of the package alone where there are none."""
    folder = sources / "android_runner"
    if not folder.is_dir():
        return package
    found = [
        path
        for pattern in _PROGRAM_SOURCES
        for path in folder.glob(pattern)
        if path.name[0] != "." and path.parent.name not in _NOT_OF_THE_PROGRAM
    ]
    listed = [[str(path.relative_to(folder)), file_sha256(path)] for path in sorted(found)]
    return f"{package}+{hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]}"


def _is_wanted(found: str, wanted: str) -> bool:
    (package, _, build), (wanted_package, _, sources) = found.partition("+"), wanted.partition("+")
    return package == wanted_package and (not sources or build.partition(".")[0] == sources)


def build_command(preset: str, sources: Path = SOURCES) -> str:
    """The command that builds the bundle of a preset, as one types it."""
    program = str(sources / "scripts" / "build_runner") if is_checkout(sources) else "adaptivenet-runner build"
    return f"{program} {preset}"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as stream:
        return stream_sha256(stream)


def _places(preset: str, sources: Path) -> Iterable[Path]:
    yield builds_folder(sources) / preset / "bundle"
    yield _PACKAGE / "runners" / preset
