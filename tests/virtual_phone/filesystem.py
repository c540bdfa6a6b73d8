"""The folder that becomes the phone's root: its programs, its properties, and what it says about its battery and heat.

What a phone and Debian both have is taken from Debian: mksh is the shell, toybox has the tools. The folder has no C
library for arm64, as a phone has no GNU one: an arm64 program must bring its own loader and libraries.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SHELL_USER = 2000
"""Android's user `shell`, as which adbd and everything that it starts runs."""
DEVICES = ("null", "zero", "urandom", "random", "tty")
_SYSTEM_USER = 1000
_PROPERTIES = {
    "ro.product.manufacturer": "Virtual",
    "ro.product.model": "Virtual Phone",
    "ro.product.device": "virtual_phone",
    "ro.soc.manufacturer": "QTI",
    "ro.soc.model": "SM8450",
    "ro.board.platform": "taro",
    "ro.hardware": "qcom",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.serialno": "VIRTUAL0001",
}
_STATES = {
    "battery": "Current Battery Service state:\n  USB powered: true\n  level: 100\n  scale: 100\n  temperature: 290\n",
    "thermalservice": (
        "IsStatusOverride: false\nThermal Status: 0\nCached temperatures:\n"
        "\tTemperature{mValue=33.5, mType=3, mName=skin, mStatus=0}\n"
        "\tTemperature{mValue=41.0, mType=0, mName=CPU0, mStatus=0}\nHAL Ready: true\n"
    ),
}
_DUMPSYS = """#!/system/bin/sh
[ -f "/phone_state/$1" ] && exec cat "/phone_state/$1"
echo "Can't find service: $1"
exit 1
"""
# Android's toybox has these, Debian's does not.
_FROM_HERE = ("awk", "bc", "dd", "diff", "expr", "getopt", "gzip", "more", "stty", "tr", "vi")


def make_root(root: Path, adbd: Path, abi: str, keys: Sequence[Path]) -> None:
    """Makes the folder, or brings it up to date; what is in /data and /sdcard stays.

    `keys` are the public keys that adbd knows. A test may rewrite the files of /phone_state, which `dumpsys` prints.
    """
    for name in ("", "system", "system/bin", "usr", "proc", "sys", "dev", "dev/pts", "etc", "phone_state"):
        _folder(root / name, 0o755, 0)
    _folder(root / "dev" / "socket", 0o777, 0)
    _folder(root / "data", 0o771, _SYSTEM_USER)
    _folder(root / "sdcard", 0o777, SHELL_USER)
    for name in DEVICES:
        (root / "dev" / name).touch()
    for name, target in {"bin": "system/bin", "lib": "usr/lib", "lib64": "usr/lib64", "dev/ptmx": "pts/ptmx"}.items():
        _link(root / name, target)
    _add_programs(root / "system" / "bin", adbd, {**_PROPERTIES, "ro.product.cpu.abi": abi})
    for name, text in _STATES.items():
        (root / "phone_state" / name).write_text(text)
    (root / "etc" / "passwd").write_text(
        f"root:x:0:0::/:/system/bin/sh\nshell:x:{SHELL_USER}:{SHELL_USER}::/:/bin/sh\n"
    )
    (root / "etc" / "group").write_text(f"root:x:0:\nshell:x:{SHELL_USER}:\n")
    (root / "adb_keys").write_text("".join(f"{key.read_text().strip()}\n" for key in keys))


def make_data(root: Path) -> None:
    """The folders of /data, which may have been mounted anew."""
    _folder(root / "data" / "local", 0o751, 0)
    _folder(root / "data" / "local" / "tmp", 0o771, SHELL_USER)


def _add_programs(folder: Path, adbd: Path, properties: Mapping[str, str]) -> None:
    for name, source in {"sh": Path("/bin/mksh"), "toybox": Path("/usr/bin/toybox"), "adbd": adbd}.items():
        new = folder / f".{name}"
        shutil.copy(source, new)
        new.replace(folder / name)  # the old one may run
    offered = subprocess.run(["toybox"], capture_output=True, text=True, check=True).stdout.split()
    for name in offered:
        if name not in ("sh", "toybox"):
            _link(folder / name, "toybox")
    for name in _FROM_HERE:
        if name not in offered and Path("/usr/bin", name).exists():
            _link(folder / name, f"/usr/bin/{name}")
    cases = "".join(f"{name}) echo '{value}' ;;\n" for name, value in properties.items())
    every = "".join(f"echo '[{name}]: [{value}]'\n" for name, value in properties.items())
    _program(folder / "getprop", f'#!/system/bin/sh\ncase "$1" in\n{cases}"") {every};;\n*) echo ;;\nesac\n')
    _program(folder / "dumpsys", _DUMPSYS)


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _folder(path: Path, mode: int, owner: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    os.chown(path, owner, owner)


def _link(path: Path, target: str) -> None:
    if not path.is_symlink():
        path.symlink_to(target)
