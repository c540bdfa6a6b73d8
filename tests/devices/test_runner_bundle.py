"""Which runner a phone gets: the presets for it, and where the built ones are looked for."""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.phone.runner_bundle import (
    LIST,
    Bundle,
    build_command,
    builds_folder,
    cache_folder,
    find_bundle,
    presets_for,
    runner_version,
)
from adaptivenet.toolkit.errors import DeviceError


@pytest.mark.parametrize(
    ("abi", "machine", "here", "presets"),
    [
        ("arm64-v8a", "aarch64", "x86_64", ("android-arm64", "linux-arm64")),
        ("arm64-v8a", "aarch64", "aarch64", ("android-arm64", "linux-arm64", "host")),
        ("arm64-v8a", "armv8l", "x86_64", ("android-arm64", "linux-arm64")),
        ("x86_64", "x86_64", "x86_64", ("android-x86_64", "host")),
        ("x86_64", "x86_64", "aarch64", ("android-x86_64",)),
        ("", "x86_64", "x86_64", ("host",)),
        ("", "aarch64", "aarch64", ("host",)),
        ("", "aarch64", "x86_64", ("linux-arm64",)),
    ],
)
def test_a_phone_gets_a_runner_that_runs_there(abi: str, machine: str, here: str, presets: tuple[str, ...]) -> None:
    assert presets_for(abi, machine, here) == presets


@pytest.mark.parametrize(
    ("abi", "machine", "here"),
    [("armeabi-v7a", "armv7l", "x86_64"), ("", "riscv64", "x86_64"), ("", "x86_64", "arm64"), ("", "", "x86_64")],
)
def test_a_processor_without_a_runner_is_named(abi: str, machine: str, here: str) -> None:
    with pytest.raises(DeviceError, match=f"there is no runner for {abi or machine or 'this device'}: arm64-v8a"):
        presets_for(abi, machine, here)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A source checkout with a bundle for linux-arm64."""
    (tmp_path / "android_runner").mkdir()
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "build_runner").touch()
    folder = tmp_path / "build" / "runner" / "linux-arm64" / "bundle"
    folder.mkdir(parents=True)
    (folder / "adaptivenet-runner").write_bytes(b"program")
    (folder / "libc.so.6").write_bytes(b"library")
    Bundle.of(folder, "linux-arm64", "0.1.0", ["./adaptivenet-runner"]).write_list()
    return tmp_path


def test_a_bundle_is_found_and_read(sources: Path) -> None:
    bundle = find_bundle(["android-arm64", "linux-arm64"], "0.1.0", sources)
    assert (bundle.preset, bundle.version, bundle.start) == ("linux-arm64", "0.1.0", ("./adaptivenet-runner",))
    assert [(file.name, file.bytes) for file in bundle.files] == [("adaptivenet-runner", 7), ("libc.so.6", 7)]


def test_the_digest_stands_for_the_files_and_the_start(sources: Path) -> None:
    bundle = find_bundle(["linux-arm64"], "0.1.0", sources)
    same = Bundle.of(bundle.folder, "other", "0.2", bundle.start)
    assert same.digest == bundle.digest
    assert Bundle.of(bundle.folder, "linux-arm64", "0.1.0", ["sh", *bundle.start]).digest != bundle.digest
    (bundle.folder / "libc.so.6").write_bytes(b"another")
    assert Bundle.of(bundle.folder, "linux-arm64", "0.1.0", bundle.start).digest != bundle.digest


def test_a_missing_bundle_is_an_error_with_the_command_that_builds_it(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DeviceError, match=rf"no runner is built for host; build one: {sources}/scripts/build_runner host$"
    ):
        find_bundle(["host"], "0.1.0", sources)
    shutil.rmtree(sources / "build")
    with pytest.raises(DeviceError, match=r"for android-arm64 or linux-arm64; build one: .*/build_runner linux-arm64$"):
        find_bundle(["android-arm64", "linux-arm64"], "0.1.0", sources)
    assert build_command("host", tmp_path / "site-packages") == "adaptivenet-runner build host"


def test_a_bundle_of_another_version_is_to_be_built_again(sources: Path) -> None:
    with pytest.raises(
        DeviceError, match=r"is of version 0\.1\.0, this is 0\.2\.0; build it again: .*runner linux-arm64"
    ):
        find_bundle(["linux-arm64"], "0.2.0", sources)


@pytest.mark.parametrize("changed", ["CMakeLists.txt", "CMakePresets.json", "cmake/a.cmake", "core/a.cpp", "core/a.h"])
def test_a_bundle_of_other_sources_is_to_be_built_again(changed: str, sources: Path) -> None:
    folder = sources / "android_runner"
    for file in (
        "CMakeLists.txt",
        "CMakePresets.json",
        "cmake/a.cmake",
        "core/a.cpp",
        "daemon/a.h",
        "core/version.h.in",
    ):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(file)
    built = runner_version(version("adaptivenet"), sources)
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{12}", built)
    bundle = sources / "build" / "runner" / "linux-arm64" / "bundle"
    Bundle.of(bundle, "linux-arm64", f"{built}.abcdef", ["./adaptivenet-runner"]).write_list()
    assert find_bundle(["linux-arm64"], sources=sources).version == f"{built}.abcdef"

    (folder / "tests").mkdir()
    for beside in ("tests/a_test.cpp", "core/.a.cpp.swp", "core/a.cpp~", "CMakeUserPresets.json"):
        (folder / beside).write_text("beside the program's sources")
    (folder / "core" / ".#a.cpp").symlink_to("an editor's lock")
    assert find_bundle(["linux-arm64"], sources=sources).version == f"{built}.abcdef"

    (folder / changed).write_text("changed")
    with pytest.raises(
        DeviceError, match=r"is of version \S+\.abcdef, this is \S+; build it again: .*runner linux-arm64"
    ):
        find_bundle(["linux-arm64"], sources=sources)


def test_without_sources_every_build_of_a_version_will_do(sources: Path, tmp_path: Path) -> None:
    folder = sources / "build" / "runner" / "linux-arm64" / "bundle"
    Bundle.of(folder, "linux-arm64", "0.1.0+abc.def", ["./adaptivenet-runner"]).write_list()
    (sources / "android_runner").rmdir()
    assert runner_version("0.1.0", sources) == "0.1.0"
    assert find_bundle(["linux-arm64"], "0.1.0", sources).version == "0.1.0+abc.def"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / LIST).write_text("{"),
        lambda folder: (folder / LIST).write_text("[]"),
        lambda folder: (folder / "libc.so.6").unlink(),
        lambda folder: (folder / "libc.so.6").write_bytes(b"cut"),
        lambda folder: edit(folder, lambda document: document.update(format="zip")),
        lambda folder: edit(folder, lambda document: document.pop("start")),
        lambda folder: edit(folder, lambda document: document["files"][0].update(name="../adaptivenet-runner")),
    ],
)
def test_a_damaged_bundle_is_refused(sources: Path, damage: Any) -> None:
    damage(sources / "build" / "runner" / "linux-arm64" / "bundle")
    with pytest.raises(DeviceError, match=r"the runner in .* is damaged .*: build it again"):
        find_bundle(["linux-arm64"], "0.1.0", sources)


def edit(folder: Path, change: Any) -> None:
    document = json.loads((folder / LIST).read_text())
    change(document)
    (folder / LIST).write_text(json.dumps(document))


def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A package that is installed, with the runner's sources and a cache of its own: both folders."""
    sources, cache = tmp_path / "site-packages", tmp_path / "cache"
    (sources / "android_runner" / "core").mkdir(parents=True)
    (sources / "android_runner" / "core" / "a.cpp").write_text("source")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return sources, cache


def test_an_installed_package_builds_into_the_cache_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, cache = installed(tmp_path, monkeypatch)
    first = builds_folder(sources)
    assert first == cache / "adaptivenet" / "runner" / runner_version(version("adaptivenet"), sources)
    with pytest.raises(DeviceError, match=r"no runner is built for host; build one: adaptivenet-runner build host$"):
        find_bundle(["host"], sources=sources)
    make_bundle(first / "host" / "bundle", "host", f"{runner_version(version('adaptivenet'), sources)}.abcdef")
    assert find_bundle(["host"], sources=sources).folder == first / "host" / "bundle"

    (sources / "android_runner" / "core" / "a.cpp").write_text("another")
    assert builds_folder(sources) != first
    with pytest.raises(DeviceError, match="no runner is built for host"):
        find_bundle(["host"], sources=sources)


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "", ".cache/adaptivenet/runner"),
        ("linux", "relative", ".cache/adaptivenet/runner"),
        ("darwin", "", "Library/Caches/adaptivenet/runner"),
    ],
)
def test_the_cache_is_where_the_system_wants_it(
    platform: str, variable: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / expected


def test_without_a_home_the_cache_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(DeviceError, match="set XDG_CACHE_HOME"):
        cache_folder()


def test_a_runner_can_be_named_by_its_folder(tmp_path: Path) -> None:
    """It need not be built from the sources that are here, but for this device and this version of the package."""
    folder = make_bundle(tmp_path / "mine", "linux-arm64", f"{version('adaptivenet')}+123456789abc.def012")
    assert find_bundle(["android-arm64", "linux-arm64"], runner=folder).folder == folder
    assert find_bundle(["linux-arm64"], runner=str(folder)).folder == folder
    with pytest.raises(DeviceError, match=r"mine is built for linux-arm64, and this device needs host$"):
        find_bundle(["host"], runner=folder)
    with pytest.raises(DeviceError, match=r"there is no runner in .*other: give the folder with its bundle\.json"):
        find_bundle(["host"], runner=tmp_path / "other")
    old = make_bundle(tmp_path / "old", "host", "0.0.9+123456789abc.def012")
    with pytest.raises(DeviceError, match=r"old is of version 0\.0\.9\S+, this is \S+: use the runner and the package"):
        find_bundle(["host"], runner=old)


def make_bundle(folder: Path, preset: str, version: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "adaptivenet-runner").write_bytes(b"program")
    Bundle.of(folder, preset, version, ["./adaptivenet-runner"]).write_list()
    return folder


def test_only_a_phone_has_a_runner() -> None:
    with pytest.raises(DeviceError, match="local runs in this process and uses no runner"):
        connect("local", runner="somewhere")
