"""Builds adbd, the phone's side of ADB, from Debian's source package android-platform-tools; once, into build/.

AOSP supports adbd on Linux itself ("host_adbd_supported" in its Android.bp); the lists below follow what it compiles
there for `libadbd_core`, `libadbd_services` and `adbd`. apt-get fetches the sources with lists of its own, so that the
system's lists stay as they are. What the daemon needs beside them comes from Debian's packages (see `needs`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .needs import PhoneError

BUILD = Path(__file__).resolve().parents[2] / "build" / "virtual_phone"
VERSION = "29.0.6"  # of Debian 12: newer packages have their sources in other folders
_PACKAGE = "android-platform-tools"
_GLUE = Path(__file__).with_name("adbd_on_linux.cpp")
_ADB = "system/core/adb"
_SOURCES = (
    *(
        f"{_ADB}/{name}"
        for name in (
            *("adb.cpp", "adb_io.cpp", "adb_listeners.cpp", "adb_trace.cpp", "adb_unique_fd.cpp", "adb_utils.cpp"),
            *("fdevent/fdevent.cpp", "fdevent/fdevent_epoll.cpp", "fdevent/fdevent_poll.cpp"),
            *("services.cpp", "shell_service_protocol.cpp", "socket_spec.cpp", "sockets.cpp", "types.cpp"),
            *("sysdeps/errno.cpp", "sysdeps/posix/network.cpp", "sysdeps_unix.cpp"),
            *("transport.cpp", "transport_fd.cpp", "transport_local.cpp", "transport_usb.cpp"),
            *("daemon/auth.cpp", "daemon/file_sync_service.cpp", "daemon/jdwp_service.cpp", "daemon/main.cpp"),
            *("daemon/services.cpp", "daemon/shell_service.cpp", "daemon/usb_dummy.cpp"),
            "adbconnection/adbconnection_server.cpp",
        )
    ),
    "system/core/diagnose_usb/diagnose_usb.cpp",
    "system/core/libasyncio/AsyncIO.cpp",
    "system/core/libcrypto_utils/android_pubkey.c",
    "frameworks/native/libs/adbd_auth/adbd_auth.cpp",
)
_INCLUDES = (
    *(f"{_ADB}{folder}" for folder in ("", "/daemon/include", "/adbconnection/include")),
    *(f"system/core/{name}/include" for name in ("base", "libcutils", "liblog", "libcrypto_utils", "diagnose_usb")),
    *("system/core/include", "system/core/libasyncio/include", "frameworks/native/libs/adbd_auth/include"),
)
_DEFINED = (
    *("_GNU_SOURCE", "NDEBUG", "ADB_HOST=0", "ALLOW_ADBD_ROOT=1", "ALLOW_ADBD_DISABLE_VERITY", "ALLOW_ADBD_NO_AUTH"),
    *("ANDROID_BASE_UNIQUE_FD_DISABLE_IMPLICIT_CONVERSION=1", f'ADB_VERSION="{VERSION}"'),
    f'PLATFORM_TOOLS_VERSION="{VERSION}"',
)
_FLAGS = ("-O1", "-fPIE", "-fno-strict-aliasing", "-w", "-I/usr/include/android")
# Android's own C++ library includes these headers by itself, and the sources count on that.
_CXX_FLAGS = (
    *("-std=gnu++2a", "-fno-exceptions", "-include", "atomic", "-include", "optional"),
    *("-include", "functional", "-include", "mutex"),
)
_LIBRARIES = ("-lbase", "-lcrypto", "-lcutils", "-llog", "-lpthread", "-lresolv", "-lutil")
# Two faults of the sources that show on Linux only: a file, what stands there, and what it becomes.
_CHANGES = (
    (  # errno is looked at although the socket was made, and adbd does not listen then
        f"{_ADB}/transport_local.cpp",
        "if (errno == EAFNOSUPPORT || errno == EINVAL || errno == EPROTONOSUPPORT) {",
        "if (serverfd < 0 && (errno == EAFNOSUPPORT || errno == EINVAL || errno == EPROTONOSUPPORT)) {",
    ),
    (  # a packet is freed before it is written
        "frameworks/native/libs/adbd_auth/adbd_auth.cpp",
        "output_queue_.pop_front();\n\n        ssize_t rc = writev(framework_fd_.get(), iovs, 2);",
        "ssize_t rc = writev(framework_fd_.get(), iovs, 2);\n        output_queue_.pop_front();",
    ),
)


def built_adbd() -> Path:
    """The adbd program; it is built when it is not there yet, which takes one to two minutes.

    Raises PhoneError, in one line, when it cannot be built.
    """
    recipe = repr((VERSION, _SOURCES, _INCLUDES, _DEFINED, _FLAGS, _CXX_FLAGS, _LIBRARIES, _CHANGES, _GLUE.read_text()))
    program = BUILD / f"adbd-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with _only_one_builds():
        if not program.exists():
            print(f"building adbd from Debian's sources, once, into {BUILD}", file=sys.stderr, flush=True)
            folder = BUILD / "sources"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            _compile(_fetch(folder), folder, program)
            shutil.rmtree(folder)
    return program


@contextmanager
def _only_one_builds() -> Iterator[None]:
    """Other processes that want to build wait here, and then find what the first one has built."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(folder: Path) -> Path:
    """Downloads the source package into `folder` and unpacks it there; returns the unpacked folder."""
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    targets = _run(["apt-get", "indextargets", "--format", "$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)"], folder)
    places = {line.removeprefix("Packages ") for line in targets.splitlines() if line.startswith("Packages ")}
    (folder / "sources.list").write_text("".join(f"deb-src {place}\n" for place in sorted(places)))
    apt_get = [
        *("apt-get", "-qq", "-o", f"Dir::Etc::SourceList={folder / 'sources.list'}"),
        *("-o", "Dir::Etc::SourceParts=/dev/null", "-o", f"Dir::State::Lists={lists}"),
        *("-o", "Acquire::Languages=none", "-o", "Acquire::http::Timeout=30", "-o", "APT::Sandbox::User=root"),
    ]
    _run([*apt_get, "update"], folder)
    offered = _run([*apt_get, "showsrc", "--only-source", _PACKAGE], folder, program="apt-cache")
    versions = [line.split()[1] for line in offered.splitlines() if line.startswith("Version: ")]
    fitting = [version for version in versions if version.startswith(f"{VERSION}-")]
    if not fitting:
        raise PhoneError(
            f"apt-get offers the sources of {_PACKAGE} in version {', '.join(versions) or 'none'}, and adbd is built "
            f"from {VERSION}: use Debian 12"
        )
    _run([*apt_get, "source", f"{_PACKAGE}={fitting[0]}"], folder)
    sources = folder / f"{_PACKAGE}-{VERSION}"
    for name, before, after in _CHANGES:
        text = (sources / name).read_text()
        if text.count(before) != 1:
            raise PhoneError(f"{name} of {_PACKAGE} {fitting[0]} is not as expected: it cannot be changed for Linux")
        (sources / name).write_text(text.replace(before, after))
    return sources


def _compile(sources: Path, folder: Path, program: Path) -> None:
    """Compiles and links adbd; `program` appears when it is whole."""
    common = [*_FLAGS, *(f"-D{name}" for name in _DEFINED), *(f"-I{sources / name}" for name in _INCLUDES)]

    def compiled(source: Path) -> str:
        target = folder / f"{source.parent.name}-{source.name}.o"
        compiler = ["clang"] if source.suffix == ".c" else ["clang++", *_CXX_FLAGS]
        _run([*compiler, *common, "-c", str(source), "-o", str(target)], folder)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        objects = list(threads.map(compiled, [*(sources / name for name in _SOURCES), _GLUE]))
    libraries = f"/usr/lib/{platform.machine()}-linux-gnu/android"
    part = folder / "adbd"
    _run(
        ["clang++", "-pie", *objects, f"-L{libraries}", f"-Wl,-rpath={libraries}", *_LIBRARIES, "-o", str(part)], folder
    )
    part.replace(program)


def _run(command: Sequence[str], folder: Path, program: str | None = None) -> str:
    """What a command prints. `program` is called in place of the first word. Raises PhoneError when it fails."""
    command = [program or command[0], *command[1:]]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=900
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PhoneError(f"adbd cannot be built: {command[0]} does not end or cannot be run ({error})") from error
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        telling = [line for line in said if "error" in line.lower() or line.startswith("E:")]
        reason = (telling or said or [f"exit status {done.returncode}"])[0].strip()
        raise PhoneError(f"adbd cannot be built: {' '.join(command[:2])[:60]} failed: {reason[:300]}")
    return done.stdout
