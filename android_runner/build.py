"""Builds a runner and gathers its bundle: what `adaptivenet-runner build PRESET` does.

For `host` and `linux-arm64` nothing is needed but compilers that Debian and Ubuntu have: the ExecuTorch libraries come
from its wheels, and GNU libc with its loader is put beside the program. The Android presets need the NDK at
ANDROID_NDK_HOME and an ExecuTorch that was built for Android: -DEXECUTORCH_ROOT=FOLDER. Further arguments go to CMake:
-DRUNNER_TESTS=ON prepares the tests too, which `host` has anyway. `host` also has ONNX Runtime, where its headers are
(in a checkout `scripts/onnxruntime_headers` gets them) and its Python package is installed.

In a checkout everything is built in `build/runner`, otherwise in the user's cache; see `runner_bundle.builds_folder`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from configparser import ConfigParser
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from adaptivenet.toolkit.atomic import new_folder
from adaptivenet.toolkit.devices.phone.runner_bundle import (
    PRESETS,
    PROGRAM,
    SOURCES,
    Bundle,
    builds_folder,
    cache_folder,
    is_checkout,
    runner_version,
)
from adaptivenet.toolkit.errors import DeviceError

_WHEEL_TAGS = ("cp311", "manylinux_2_28_aarch64")  # its libraries are the same for every Python
_TOOLS = {"cmake": "cmake", "make": "make", "readelf": "binutils"}
_COMPILERS = {"host": {"g++": "g++"}, "linux-arm64": {"aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu"}}
_HEADERS = {"/usr/include/nlohmann/json.hpp": "nlohmann-json3-dev"}
_TEST_TOOLS = {"linux-arm64": {"qemu-aarch64": "qemu-user"}}
_TEST_SOURCES = {
    "host": {"/usr/include/gtest/gtest.h": "libgtest-dev"},
    "linux-arm64": {"/usr/src/googletest/googletest/CMakeLists.txt": "googletest"},
}


def build(preset: str, arguments: Sequence[str] = (), sources: Path = SOURCES) -> Bundle:
    """Configures, compiles and bundles the runner of `preset`; `arguments` are CMake's.

    What it is doing goes to stderr. Raises DeviceError, with the command that installs what is missing, when something
    is, and when a step fails.
    """
    in_checkout = is_checkout(sources)
    if not in_checkout:
        arguments = ["-DRUNNER_TESTS=OFF", *arguments]  # an installed package has no tests
    require_tools(preset, tests=in_checkout and (preset == "host" or "-DRUNNER_TESTS=ON" in arguments))
    folder = builds_folder(sources) / preset
    folder.mkdir(parents=True, exist_ok=True)
    configure = ["cmake", "-S", str(sources / "android_runner"), "-B", str(folder), "--preset", preset]
    if not any(argument.startswith("-DEXECUTORCH_ROOT") for argument in arguments):
        configure.append(f"-DEXECUTORCH_ROOT={_executorch(preset, sources)}")
    if preset == "host" and not any(argument.startswith("-DONNXRUNTIME") for argument in arguments):
        configure += _onnxruntime(sources)
    configure += arguments
    if in_checkout:
        configure.append(f"-DRUNNER_PYTHON={sys.executable}")
    built = f"{runner_version(_version(sources), sources)}.{_digest_of([*configure, *_engine_versions()])}"
    _run([*configure, f"-DRUNNER_VERSION={built}"], sources / "android_runner")
    jobs = str(os.cpu_count() or 1)
    _run(["cmake", "--build", str(folder), "--target", PROGRAM, "--parallel", jobs], sources)
    with new_folder(folder / "bundle") as part:
        start = gather(folder / PROGRAM, part, compiler_of(folder))
        Bundle.of(part, preset, built, start).write_list()
    return Bundle.read(folder / "bundle")


def require_tools(
    preset: str,
    which: Callable[[str], str | None] = shutil.which,
    exists: Callable[[str], bool] = os.path.exists,
    *,
    tests: bool = False,
) -> None:
    """Raise DeviceError unless everything is installed that building `preset` takes, naming the command that helps.

    With `tests`, what building and running its tests takes as well.
    """
    if preset not in PRESETS:
        raise DeviceError(f"there is no preset {preset!r}: choose from {', '.join(PRESETS)}")
    tools = {**_TOOLS, **_COMPILERS.get(preset, {}), **(_TEST_TOOLS.get(preset, {}) if tests else {})}
    sources = {**_HEADERS, **(_TEST_SOURCES.get(preset, {}) if tests else {})}
    missing = [package for tool, package in tools.items() if not which(tool)]
    missing += [package for path, package in sources.items() if not exists(path)]
    if missing:
        sudo = "" if os.geteuid() == 0 else "sudo "
        raise DeviceError(
            f"{', '.join(missing)} must be installed to build the runner: "
            f"{sudo}apt-get update && {sudo}apt-get install -y {' '.join(missing)}"
        )
    if preset.startswith("android") and not os.environ.get("ANDROID_NDK_HOME"):
        raise DeviceError(
            f"the preset {preset} needs the Android NDK: set ANDROID_NDK_HOME to its folder"
            + (", or use linux-arm64, which needs none" if preset == "android-arm64" else "")
        )


def gather(program: Path, folder: Path, print_file_name: Callable[[str], str]) -> list[str]:
    """Copies a program and the libraries that it needs into `folder`; returns the words that start it there.

    Libraries are looked for where the program itself would, then where the compiler has them: `print_file_name(name)`
    gives the path of a library, or the bare name when the compiler does not know it. Raises DeviceError for one that is
    nowhere.
    """
    places = [Path(place) for place in _dynamic(program, "RUNPATH") + _dynamic(program, "RPATH") if place[0] == "/"]
    shutil.copy2(program, folder / program.name)
    loader = _loader(program)
    android = loader.startswith("/system/")
    wanted, done = [program], {program.name}
    for needy in wanted:
        for name in [*_dynamic(needy, "NEEDED"), *([Path(loader).name] if loader else [])]:
            if name in done:
                continue
            done.add(name)
            found = next((path for place in places if (path := _named(place, name))), None)
            if not found and android:
                continue  # one of Android's own: it is on the phone, and the NDK has only a stand-in for the linker
            found = found or Path(print_file_name(name))
            if not found.is_absolute() or not found.exists():
                raise DeviceError(f"{needy.name} needs the library {name}, which is not found")
            shutil.copy2(found.resolve(), folder / name)
            wanted.append(folder / name)
    if android or not loader:
        return [f"./{program.name}"]
    return [f"./{Path(loader).name}", "--library-path", ".", f"./{program.name}"]


def compiler_of(folder: Path) -> Callable[[str], str]:
    """What finds libraries for the compiler that a build folder was configured for."""
    # The cache does not have the compiler that a toolchain file sets.
    found = [
        match[1]
        for path in folder.glob("CMakeFiles/*/CMakeCXXCompiler.cmake")
        if (match := re.search(r'^set\(CMAKE_CXX_COMPILER "(.+)"\)$', path.read_text(), re.MULTILINE))
    ]
    if not found:
        raise DeviceError(f"{folder} was not configured: it does not say which compiler it uses")
    compiler = found[0]

    def print_file_name(name: str) -> str:
        return _output([compiler, f"-print-file-name={name}"]).strip()

    return print_file_name


def _executorch(preset: str, sources: Path) -> Path:
    """The folder `executorch` of the wheel for a preset: the installed one, or one that is downloaded and unpacked."""
    if preset.startswith("android"):
        raise DeviceError("give the ExecuTorch that was built for Android: -DEXECUTORCH_ROOT=FOLDER")
    try:
        wanted = version("executorch")
    except PackageNotFoundError as error:
        raise DeviceError("the package executorch is not installed here, whose libraries the runner uses") from error
    if preset == "host" or platform.machine() in ("aarch64", "arm64"):
        return Path(str(distribution("executorch").locate_file("executorch")))
    python, system = _WHEEL_TAGS
    wheels = (builds_folder(sources) if is_checkout(sources) else cache_folder()) / "wheels"
    wheel = wheels / f"executorch-{wanted}-{python}-{python}-{system}.whl"
    if not wheel.exists():
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--platform", system]
        _run([*download, "--python-version", "3.11", f"executorch=={wanted}", "-d", str(wheels)], sources)
    unpacked = wheels / wheel.stem
    if not unpacked.exists():
        with new_folder(unpacked) as part, zipfile.ZipFile(wheel) as archive:
            archive.extractall(part)
    return unpacked / "executorch"


def _onnxruntime(sources: Path) -> list[str]:
    """What gives the runner ONNX Runtime: the wheel's library, with headers of the system or of build/onnxruntime.

    A library serves the headers of its own and of earlier versions.
    """
    with suppress(PackageNotFoundError):
        wheel = distribution("onnxruntime")
        minor = int(wheel.version.split(".")[1])
        libraries = sorted(Path(str(wheel.locate_file("onnxruntime/capi"))).glob("libonnxruntime.so*"))
        for folder in _onnxruntime_folders(sources):
            if libraries and (folder / "onnxruntime_cxx_api.h").exists() and _onnxruntime_api(folder) <= minor:
                return [f"-DONNXRUNTIME_INCLUDE={folder}", f"-DONNXRUNTIME_LIBRARY={libraries[0]}"]
    return ["-DONNXRUNTIME_INCLUDE=", "-DONNXRUNTIME_LIBRARY="]  # also against what was configured before


def _onnxruntime_folders(sources: Path) -> list[Path]:
    place = Path("usr/include/onnxruntime")
    return ["/" / place, sources / "build" / "onnxruntime" / place]


def _onnxruntime_api(headers: Path) -> int:
    found = re.search(r"^#define ORT_API_VERSION (\d+)", (headers / "onnxruntime_c_api.h").read_text(), re.MULTILINE)
    return int(found[1]) if found else sys.maxsize


def _engine_versions() -> list[str]:
    found = []
    for package in ("executorch", "onnxruntime"):
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found


def _digest_of(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:6]


def _version(sources: Path) -> str:
    """The version of the package that these sources are of."""
    if not is_checkout(sources):
        return version("adaptivenet")
    setup = ConfigParser()
    setup.read(sources / "setup.cfg", encoding="utf-8")
    return setup["metadata"]["version"]


def _named(place: Path, name: str) -> Path | None:
    """The library `name` in the folder `place`: by its file's name, or by the name that it gives itself."""
    if (place / name).exists():
        return place / name
    stem = name.partition(".so")[0]
    return next((path for path in sorted(place.glob(f"{stem}.so*")) if _dynamic(path, "SONAME") == [name]), None)


def _dynamic(path: Path, tag: str) -> list[str]:
    """The values of a tag in the dynamic section of an ELF file; of a path, its parts."""
    found = re.findall(rf"\({tag}\)[^\[]*\[([^\]]*)\]", _output(["readelf", "-dW", str(path)]))
    return [part for value in found for part in value.split(":") if part]


def _loader(path: Path) -> str:
    found = re.search(r"program interpreter: ([^\]]+)\]", _output(["readelf", "-lW", str(path)]))
    return found[1] if found else ""


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout


def _run(command: Sequence[str], folder: Path) -> None:
    print("+", *command, file=sys.stderr, flush=True)
    status = subprocess.run(command, cwd=folder, stdout=sys.stderr).returncode
    if status:
        raise DeviceError(f"building the runner failed: {command[0]} ended with status {status}, see above")
