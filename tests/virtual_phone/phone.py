"""One virtual phone: a process that keeps adbd running in a mount namespace and a root folder of its own.

Two phones have nothing in common but the computer: each has its port, and beside it its folder. adbd counts as running
when the socket that listens on the port is its own, so that a phone is never taken for another one.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from .adbd import BUILD, built_adbd
from .filesystem import DEVICES, SHELL_USER, make_data, make_root
from .needs import PhoneError, lacking

ABIS = ("arm64-v8a", "x86_64")
AUTHORIZATIONS = ("none", "keys", "accept", "reject")
_START_S = 60.0  # on a busy computer
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
# How Linux recognises an arm64 ELF program: its first bytes, and which of their bits count.
_ARM64_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_ARM64_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# Of linux/mount.h, linux/sched.h and linux/prctl.h.
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 1 << 5, 1 << 12, 1 << 14, 1 << 18
_CLONE_NEWNS = 0x20000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Phone:
    """What a phone is. `auth` says whom it lets in:

    `none`: everybody. `keys`: who has one of `keys`; others wait without an answer, as on a phone whose dialog nobody
    taps. `accept` and `reject`: somebody taps Allow, or Deny. `storage_mb` bounds /data (0: no bound of its own).
    """

    port: int
    abi: str = "arm64-v8a"
    auth: str = "none"
    keys: tuple[Path, ...] = ()
    storage_mb: int = 0

    @property
    def folder(self) -> Path:
        """Where this phone lies in this checkout."""
        return BUILD / "phones" / str(self.port)

    @property
    def root(self) -> Path:
        """The folder of this computer that is the phone's /."""
        return self.folder / "root"

    def wipe(self) -> None:
        """Removes everything that lies on the phone, which must not run."""
        here = str(self.folder.resolve())
        if any(
            line.split()[4].startswith(f"{here}/") for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ):
            raise PhoneError(f"something is mounted below {here}: unmount it first")
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, ready: Callable[[], None], while_open: int | None = None) -> None:
        """Runs the phone until SIGTERM, SIGINT, its adbd's end, or the end of the input `while_open`.

        `ready` is called when adbd listens. What was started on the phone ends with the phone; but when somebody kills
        adbd, it goes on, as on a real phone. Raises PhoneError when the phone does not start.
        """
        if reason := lacking():
            raise PhoneError(reason)
        adbd = built_adbd()
        if self.abi == "arm64-v8a":
            _let_arm64_programs_run()
        _require_free(self.port)
        make_root(self.root, adbd, self.abi, self.keys)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _interrupt)
        pid = os.fork()
        if pid == 0:
            try:
                self._become_adbd()
            except BaseException as error:
                print(f"virtual_phone: {error}", file=sys.stderr, flush=True)
            os._exit(127)
        stopped = True
        try:
            self._await_adbd(pid)
            if self.auth in ("accept", "reject"):
                threading.Thread(target=self._answer_dialog, daemon=True).start()
            ready()
            stopped = _stopped_before_it_ends(pid, while_open)
        except KeyboardInterrupt:
            pass
        finally:
            if stopped:
                _end(pid, self.root)

    def _become_adbd(self) -> None:
        """In the child: leaves this computer's folders behind, and runs adbd."""
        os.setsid()
        nothing = os.open("/dev/null", os.O_RDWR)  # the input and output of `run` are its caller's
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        # Under nohup, what adbd starts would inherit that a hang-up is ignored, which it is not on a real phone.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        _check(_libc.unshare(_CLONE_NEWNS), "a mount namespace")
        _mount("none", Path("/"), flags=_MS_REC | _MS_PRIVATE)
        for name in ("usr", "proc", "sys"):
            _mount(f"/{name}", self.root / name, flags=_MS_BIND | _MS_REC)
        _mount("none", self.root / "sys", flags=_MS_BIND | _MS_REMOUNT | _MS_RDONLY)
        _mount("devpts", self.root / "dev" / "pts", "devpts", options="newinstance,ptmxmode=0666")
        for name in DEVICES:
            _mount(f"/dev/{name}", self.root / "dev" / name, flags=_MS_BIND)
        if self.storage_mb:
            _mount("tmpfs", self.root / "data", "tmpfs", options=f"size={self.storage_mb}m,mode=0771")
        make_data(self.root)
        os.chroot(self.root)
        os.chdir("/")
        environment = {
            **{"PATH": "/system/bin", "ANDROID_DATA": "/data", "ANDROID_ROOT": "/system"},
            "EXTERNAL_STORAGE": "/sdcard",
            "ADBD_PROPERTIES": "\n".join(
                [
                    f"service.adb.listen_addrs=tcp:localhost:{self.port}",
                    f"ro.adb.secure={int(self.auth != 'none')}",
                    *("ro.debuggable=1", "ro.product.name=virtual_phone"),
                    *("ro.product.model=Virtual Phone", "ro.product.device=virtual_phone"),
                ]
            ),
        }
        if self.auth in ("accept", "reject"):
            environment["ANDROID_SOCKET_adbd"] = str(_dialog_socket())
        os.setgroups([])
        os.setgid(SHELL_USER)
        os.setuid(SHELL_USER)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        os.execve("/system/bin/adbd", ["adbd"], environment)

    def _await_adbd(self, pid: int) -> None:
        until = time.monotonic() + _START_S
        while not _listens(pid, self.port):
            if os.waitpid(pid, os.WNOHANG)[0]:
                raise PhoneError("adbd ended before it listened")
            if time.monotonic() > until:
                raise PhoneError(f"adbd does not listen on port {self.port} after {_START_S:.0f} s")
            time.sleep(0.05)

    def _answer_dialog(self) -> None:
        """Answers when adbd asks whether a key is allowed, as the phone's owner does."""
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as dialog:
            dialog.connect(str(self.root / "dev" / "socket" / "adbd"))
            while asked := dialog.recv(8192):
                if asked[:2] == b"PK":
                    dialog.send(b"OK" if self.auth == "accept" else b"NO")


def _dialog_socket() -> int:
    """The socket at which adbd waits for the program that shows its dialog; a descriptor that adbd inherits."""
    path = Path("/dev/socket/adbd")
    path.unlink(missing_ok=True)
    dialog = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dialog.bind(str(path))
    path.chmod(0o666)
    dialog.listen(4)
    dialog.set_inheritable(True)
    return dialog.detach()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PhoneError(f"port {port} cannot be used ({error.strerror}): give another one with --port") from error


def _listens(pid: int, port: int) -> bool:
    """Whether a process is the one that listens on a port of 127.0.0.1."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1] == f"0100007F:{port:04X}" and row[3] == "0A"}
    with suppress(OSError):
        return any(os.readlink(descriptor) in sockets for descriptor in os.scandir(f"/proc/{pid}/fd"))
    return False


def _let_arm64_programs_run() -> None:
    """Has Linux run arm64 programs by QEMU, also in a phone. This is a setting of the whole computer; it stays."""
    if os.uname().machine == "aarch64":
        return
    if not (_BINFMT / "register").exists():
        _mount("none", _BINFMT, "binfmt_misc")
    if (_BINFMT / "qemu-aarch64").exists():
        return
    interpreter = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    with suppress(FileExistsError):  # another phone that starts at this moment has done it
        (_BINFMT / "register").write_text(f":qemu-aarch64:M::{_ARM64_MAGIC}:{_ARM64_MASK}:{interpreter}:F")


def _stopped_before_it_ends(pid: int, while_open: int | None) -> bool:
    """Waits for the end of a process (False), or of the input `while_open` (True)."""
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if while_open is None:
            time.sleep(0.2)
        elif select.select([while_open], [], [], 0.2)[0] and not os.read(while_open, 4096):
            return True
    return False


def _end(pid: int, root: Path) -> None:
    """Kills adbd and everything that was started on the phone: all processes that have the phone's root."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt this
    there = root.stat()
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if int(each.name) == pid or os.path.samestat((each / "root").stat(), there):
                os.kill(int(each.name), signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    given = (source.encode(), os.fsencode(target), kind.encode() or None, flags, options.encode() or None)
    _check(_libc.mount(*given), f"{source} mounted on {target}")


def _check(status: int, what: str) -> None:
    if status != 0:
        raise PhoneError(f"there cannot be {what}: {os.strerror(ctypes.get_errno())}")
