"""What this computer needs so that a virtual phone can run on it, and what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# A file that is there when the Debian package is.
_PACKAGES = {
    "adb": "/usr/bin/adb",
    "android-libbase-dev": "/usr/lib/*/android/libbase.so",
    "android-libboringssl-dev": "/usr/include/android/openssl/is_boringssl.h",
    "android-libcutils-dev": "/usr/lib/*/android/libcutils.so",
    "android-liblog-dev": "/usr/lib/*/android/liblog.so",
    "clang": "/usr/bin/clang++",
    "dpkg-dev": "/usr/bin/dpkg-source",
    "libcap-dev": "/usr/include/sys/capability.h",
    "mksh": "/bin/mksh",
    "qemu-user": "/usr/bin/qemu-aarch64*",
    "toybox": "/usr/bin/toybox",
}


class PhoneError(Exception):
    """A virtual phone cannot be made or started; the message says why in one line."""


def lacking() -> str | None:
    """Why no virtual phone can run on this computer, and what to do, in one line; None when one can."""
    if sys.platform != "linux":
        return f"a virtual phone needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "a virtual phone needs root (it mounts, and changes its root folder)"
    if not shutil.which("apt-get"):
        return "a virtual phone needs Debian 12: its adbd is built from Debian's sources, and there is no apt-get here"
    missing = [name for name, file in _PACKAGES.items() if not any(Path("/").glob(file.lstrip("/")))]
    if missing:
        return f"a virtual phone needs packages: apt-get update && apt-get install -y {' '.join(missing)}"
    # In a container root may be without this right.
    tried = subprocess.run(["unshare", "--mount", "true"], stdin=subprocess.DEVNULL, capture_output=True)
    if tried.returncode:
        return "a virtual phone needs the right to make a mount namespace (CAP_SYS_ADMIN), and this root lacks it"
    return None
