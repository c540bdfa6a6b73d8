"""A bundle for an Android app: a pack cut down to what it ships, the profiles by system on a chip, and an index.

OUT/
├── assets/NAME/
│   ├── bundle.json      the index: every other file with its size and SHA-256, and which profile is of which chip
│   ├── manifest.json    with blobs/, a pack like any other
│   ├── blobs/
│   └── profiles/
└── README.md            the lines of Gradle and Kotlin that use it, and what it weighs

docs/pack.md describes the index. The same pack and profiles give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptivenet.toolkit.atomic import check_folder, new_folder
from adaptivenet.toolkit.errors import ExportError, PackError
from adaptivenet.toolkit.graph.front import FrontPoint
from adaptivenet.toolkit.pack.pack import SUFFIXES, BlockPack
from adaptivenet.toolkit.profiling.profile import Profile

from .android_readme import readme
from .bundle import bundle_pack, in_words

FORMAT = "adaptivenet-bundle"
VERSION = 1
INDEX = "bundle.json"
ASSETS = "assets"
PROFILES = "profiles"
README = "README.md"
AI_PACK_LIMIT = 1_500_000_000
"""Bytes: what Google Play takes as one AI pack."""
BACKEND_OF = {"executorch": "executorch", "onnxruntime": "onnx"}
"""By the engine that a profile was made with, what a pack is exported for."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # aapt leaves out files that begin with a dot or an underscore
_OTHERS = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass(frozen=True)
class Shipped:
    """A profile that a bundle ships, and the file that it came from; `file` is its place in the assets' folder."""

    source: str
    profile: Profile
    file: str

    @property
    def soc(self) -> str | None:
        """The system on a chip that it was made on; None: no Android device, or one that does not say."""
        found: str | None = self.profile.device.get("soc")
        return found


@dataclass(frozen=True)
class PointSize:
    """What one point of a profile weighs: the bytes of the programs that it loads, each once.

    `at` is its place among those that are worth running, the fastest first, by which an app speaks of it.
    """

    soc: str | None
    at: int
    point: FrontPoint
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """A plain dict, with the point's latency, quality and blocks."""
        quality = self.point.quality
        return {
            "soc": self.soc,
            "point": self.at,
            "ms": self.point.latency_ms,
            "measured": self.point.measured_ms is not None,
            "quality": None if quality is None else quality.value,
            "metric": None if quality is None else quality.metric,
            "score": None if quality is None else quality.text,
            "blocks": len(self.point.subnet),
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class AndroidBundle:
    """A bundle that was written: the folder, the assets' name, its pack, and what everything weighs in bytes."""

    path: Path
    name: str
    pack: BlockPack
    backend: str
    points: tuple[PointSize, ...]
    bytes: int
    warnings: tuple[str, ...]
    """What to know before it is shipped, a sentence each."""

    @property
    def assets(self) -> Path:
        """The folder that is the pack, too."""
        return self.path / ASSETS / self.name

    @property
    def no_compress(self) -> tuple[str, ...]:
        """The extensions that the app's build must not compress."""
        return (SUFFIXES[self.backend].removeprefix("."),)


def bundle_for_android(
    pack: BlockPack,
    path: str | Path,
    profiles: Iterable[str | Path],
    *,
    backend: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> AndroidBundle:
    """Writes what an app needs to serve `pack` to the folder `path`.

    The pack holds the programs of the engine that the `profiles` were made with, and of the blocks those that their
    fronts use and the original ones. A phone takes the profile of its own system on a chip, else that of one of the
    same series, else the default: the one that is of no Android device, or the first that is given. `name` is that of
    the folder in the assets (by default that of the pack). `backend` is only compared with the profiles. With
    `overwrite` an older bundle at `path` is replaced.

    The profiles are shipped without their samples, and without the addresses of the phones.
    Raises ExportError when there are no profiles, they do not go together, or the name cannot be that of assets;
    ProfileError when one cannot be read or is of another pack; PackError when `path` cannot be written.
    """
    path = Path(path)
    check_place(path, overwrite)
    shipped = chosen_profiles(profiles, pack)
    backend = backend_of(shipped, backend)
    name = assets_name(name if name is not None else pack.name, given=name is not None)
    used = [point.subnet for each in shipped for point in each.profile.front.points]
    try:
        with new_folder(path) as folder:
            assets = folder / ASSETS / name
            fronts = [in_words(each.profile.device) for each in shipped]
            made = bundle_pack(pack, assets, backend=backend, subnets=used, fronts_of=fronts)
            (assets / PROFILES).mkdir()
            for each in shipped:
                (assets / each.file).write_bytes(_document(for_an_app(each.profile.document, pack.digest)))
            files = _files(assets)
            (assets / INDEX).write_bytes(_document(index(name, made, backend, shipped, files)))
            size = sum(file["bytes"] for file in files) + (assets / INDEX).stat().st_size
            points = tuple(
                PointSize(each.soc, at, point, _weight(made, backend, point.subnet))
                for each in shipped
                for at, point in enumerate(each.profile.front.rising)
            )
            pack = BlockPack(path / ASSETS / name, made.manifest)
            warnings = (*size_warnings(size), *_of_no_phone(shipped))
            bundle = AndroidBundle(path, name, pack, backend, points, size, warnings)
            (folder / README).write_text(readme(bundle), encoding="utf-8")
    except OSError as error:
        raise PackError(f"the bundle {path} cannot be written: {error.strerror or error}") from error
    return bundle


def chosen_profiles(paths: Iterable[str | Path], pack: BlockPack | None = None) -> list[Shipped]:
    """The profiles in these files as a bundle ships them, the default first, the others by system on a chip.

    Raises ExportError when there are none, or two are of one system on a chip or of none; ProfileError when one cannot
    be read or is not of `pack`.
    """
    found: dict[str, Shipped] = {}
    files: set[str] = set()
    for path in paths:
        profile = Profile.load(path, pack)
        soc = profile.device.get("soc")
        key = "" if soc is None else soc.casefold()
        if key in found:
            raise ExportError(_twice(found[key].source, str(path), soc))
        found[key] = Shipped(str(path), profile, _file(soc, files))
        files.add(found[key].file)
    if not found:
        raise ExportError(
            "a bundle for Android needs a profile, from which the app knows what to run: make one with "
            "adaptivenet-profile --device SERIAL, and give it with --profile"
        )
    default = found.pop("") if "" in found else found.pop(next(iter(found)))
    return [default, *(found[key] for key in sorted(found))]


def _twice(one: str, other: str, soc: str | None) -> str:
    if soc is not None:
        return f"{one} and {other} are both profiles of the SoC {soc}, of which a phone can take one: give one of them"
    return (
        f"{one} and {other} do not say of which SoC they are, and only one such profile can be the default: leave one "
        "out, or, if it was made on a phone, profile that again, or write what `adb shell getprop ro.soc.model` says "
        'into its "device", as "soc"'
    )


def _file(soc: str | None, taken: set[str]) -> str:
    """A file name for a profile that assets and every file system take: chips are called MT6893Z/CZA, too."""
    stem = "default" if soc is None else _OTHERS.sub("-", soc).strip("-.") or "soc"
    if any(stem.casefold() == Path(file).stem.casefold() for file in taken) or (soc and stem.casefold() == "default"):
        stem = f"{stem}-{hashlib.sha256(str(soc).encode()).hexdigest()[:8]}"
    return f"{PROFILES}/{stem}.json"


def backend_of(shipped: Sequence[Shipped], asked: str | None = None) -> str:
    """What the programs are for: what the profiles were made with. Raises ExportError when that is not one engine, or
    not what was asked for."""
    first = shipped[0]
    for each in shipped:
        engine = each.profile.device["engine"]
        if engine not in BACKEND_OF:
            raise ExportError(f"{each.source} was made with the engine {engine!r}, for which there is no bundle")
        if engine != first.profile.device["engine"]:
            raise ExportError(
                f"{first.source} was made with {first.profile.device['engine']} and {each.source} with {engine}, and a "
                "bundle is for one engine: give the profiles of one, and make a bundle for each"
            )
    backend = BACKEND_OF[first.profile.device["engine"]]
    if asked not in (None, backend):
        raise ExportError(
            f"--backend {asked} does not go with {first.source}, whose latencies are of {backend}: profile with the "
            "other engine, or leave --backend out"
        )
    return backend


def assets_name(text: str, given: bool) -> str:
    """The name of the folder in the assets: `text` as it was given, or made of a pack's name.

    Raises ExportError when that is none.
    """
    name = text if given else _OTHERS.sub("-", text).strip("-.")[:64].rstrip("-.")
    if not _NAME.fullmatch(name):
        raise ExportError(
            f"{text!r} cannot be the name of a folder of assets: give one with --name, of at most 64 letters, digits, "
            "'-', '_' and '.', that begins with a letter or digit"
        )
    return name


def check_place(path: Path, overwrite: bool) -> None:
    """Raises PackError when something is at `path` that would not be replaced, or nothing can be written there."""
    if os.path.lexists(path):
        if not overwrite:
            raise PackError(f"{path} exists already; remove it, choose another name, or overwrite it (--overwrite)")
        if path.is_symlink() or not path.is_dir() or not _is_bundle(path):
            raise PackError(f"{path} is not a bundle for Android and will not be overwritten; choose another name")
    try:
        check_folder(path)
    except OSError as error:
        raise PackError(f"the bundle {path} cannot be written: {error.strerror or error}") from error


def _is_bundle(path: Path) -> bool:
    """Whether a folder holds one bundle, as it is written here, and nothing else; or nothing at all."""
    inside = {entry.name for entry in path.iterdir()}
    if not inside:
        return True
    if inside != {ASSETS, README} or not (path / ASSETS).is_dir():
        return False
    return all((entry / INDEX).is_file() for entry in (path / ASSETS).iterdir())


def for_an_app(document: Mapping[str, Any], pack: str) -> dict[str, Any]:
    """A profile as an app ships it: of the pack with the digest `pack`, without samples and without a phone's address.

    A serial number or a host's name is nobody else's business, and thousands of timings are of no use there.
    """
    device = dict(document["device"])
    engine = "" if device["engine"] == "executorch" else f":{device['engine']}"
    if device["address"].partition(":")[0] not in ("local", "runner"):
        device["address"] = f"adb{engine}"
    about = {**document["pack"], "digest": pack}
    return {key: value for key, value in document.items() if key != "samples"} | {"device": device, "pack": about}


def index(
    name: str, pack: BlockPack, backend: str, shipped: Sequence[Shipped], files: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What bundle.json says; `files` are all others of the bundle."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "pack": pack.digest,
        "backend": backend,
        "bytes": sum(file["bytes"] for file in files),
        "default": shipped[0].file,
        "profiles": [
            {
                "soc": each.soc,
                "file": each.file,
                "device": in_words(each.profile.device),
            }
            for each in shipped
        ],
        "files": list(files),
    }


def size_warnings(size: int) -> tuple[str, ...]:
    """What to know of a bundle of so many bytes, a sentence each."""
    if size <= AI_PACK_LIMIT:
        return ()
    return (
        f"the bundle has {size / 1e9:.2f} GB, more than the {AI_PACK_LIMIT / 1e9:.1f} GB that Google Play takes as one "
        "AI pack: export with --int8, or profile with fewer budgets and bundle fewer profiles",
    )


def _of_no_phone(shipped: Sequence[Shipped]) -> list[str]:
    if any(each.soc for each in shipped):
        return []
    return [
        "no profile says that it is of a phone: every phone begins with the latencies of another machine, and learns "
        "how many times slower it is while it serves; make profiles with adaptivenet-profile --device SERIAL"
    ]


def _files(folder: Path) -> list[dict[str, Any]]:
    """Every file of a folder, by its path within it, with its size and digest."""
    return [
        {
            "path": file.relative_to(folder).as_posix(),
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    ]


def _weight(pack: BlockPack, backend: str, subnet: Iterable[str]) -> int:
    artifacts = (pack.artifact(block, backend) for block in subnet)
    return sum({artifact.file: artifact.bytes for artifact in artifacts}.values())


def _document(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
