"""The command line of the virtual phone.

    python -m virtual_phone start [options]   start a phone in the background, and print its address
    python -m virtual_phone run [options]     the same in the foreground, until Ctrl-C
    python -m virtual_phone stop [--port N]   end the phone and everything that runs on it
    python -m virtual_phone root [--port N]   print the folder of this computer that is the phone's /
    python -m virtual_phone wipe [--port N]   remove everything that lies on the phone, which must not run
    python -m virtual_phone build             build adbd only

It runs as user 2000 ("shell") and listens on 127.0.0.1 alone. arm64 programs run through QEMU: they do what they would
do on a phone, but some fifty times slower. With the adb program, use a server of your own, so that nobody else's is
touched:

    export ADB_SERVER_SOCKET=tcp:localhost:5939 ADB_EMU=0
    adb connect 127.0.0.1:5557
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from .adbd import built_adbd
from .needs import PhoneError, lacking
from .phone import ABIS, AUTHORIZATIONS, Phone

READY = "READY"
_STOP_S = 30.0


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="virtual_phone", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["start", "run", "stop", "root", "wipe", "build"])
    parser.add_argument("--port", type=int, default=5557, help="an even one: adb looks for emulators at the odd ones")
    parser.add_argument("--abi", choices=ABIS, default=ABIS[0], help="what its programs are")
    parser.add_argument("--auth", choices=AUTHORIZATIONS, default=AUTHORIZATIONS[0], help="whom it lets in: see Phone")
    parser.add_argument("--keys", type=Path, nargs="*", default=[], help="public keys that it knows (adbkey.pub)")
    parser.add_argument("--storage", type=int, default=0, metavar="MB", help="the size of /data")
    parser.add_argument("--tied", action="store_true", help="with run: end when the standard input ends")
    given = parser.parse_args()
    phone = Phone(given.port, given.abi, given.auth, tuple(given.keys), given.storage)
    try:
        match given.verb:
            case "start":
                _start(phone)
            case "run":
                phone.run(lambda: print(READY, _address(phone), flush=True), 0 if given.tied else None)
            case "stop":
                _stop(phone)
            case "root":
                print(phone.root)
            case "wipe":
                phone.wipe()
            case "build":
                if reason := lacking():
                    raise PhoneError(reason)
                print(built_adbd())
    except (PhoneError, OSError) as error:
        print(f"virtual_phone: {error}", file=sys.stderr)
        return 1
    return 0


def _address(phone: Phone) -> str:
    return f"127.0.0.1:{phone.port} root={phone.root}"


def _start(phone: Phone) -> None:
    """Starts `run` in the background, and waits until the phone is there."""
    phone.folder.mkdir(parents=True, exist_ok=True)
    log = phone.folder / "log"
    command = [sys.executable, "-m", __package__ or "virtual_phone", "run", *sys.argv[2:]]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    while READY not in log.read_text(errors="replace"):
        if process.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines()
            raise PhoneError((said or ["it ended without a word"])[-1].removeprefix("virtual_phone: "))
        time.sleep(0.1)
    (phone.folder / "pid").write_text(str(process.pid))
    print(READY, _address(phone))


def _stop(phone: Phone) -> None:
    """Ends the phone that `start` has started; nothing is done when it does not run."""
    file = phone.folder / "pid"
    if not file.exists():
        return
    pid = int(file.read_text())
    file.unlink()
    with suppress(FileNotFoundError):  # the number may be another program's by now
        if b"virtual_phone" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + _STOP_S
            while Path(f"/proc/{pid}/cmdline").exists():
                if time.monotonic() > until:
                    raise PhoneError(f"the phone at port {phone.port} does not end: kill process {pid}")
                time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
