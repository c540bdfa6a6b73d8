"""The host's path on a system that has nothing that only Linux has, as a Mac."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from adaptivenet.toolkit.pack.pack import BlockPack
from commands import QUICK

# Python imports this file first of all when it starts.
TAKEN_AWAY = """
import os, signal, socket, sys

for module, names in {
    os: ["sched_getaffinity", "sched_setaffinity", "O_PATH", "O_TMPFILE", "posix_fadvise", "posix_fallocate",
         "memfd_create", "eventfd", "pidfd_open", "copy_file_range", "sendfile", "splice", "getrandom"],
    signal: ["SIGRTMIN", "SIGRTMAX", "SIGPWR", "SIGPOLL"],
    socket: ["SO_PEERCRED", "AF_NETLINK"],
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.modules["fcntl"] = None


def hook(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and arguments and isinstance(arguments[0], str):
        if arguments[0].startswith(("/proc/", "/sys/", "/dev/shm")):
            raise FileNotFoundError(2, "No such file or directory", arguments[0])


sys.addaudithook(hook)
"""


def test_a_profile_is_made_and_run_without_what_only_linux_has(
    broken: BlockPack, labelled: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(TAKEN_AWAY)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(command: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", f"adaptivenet.toolkit.cli.{command}", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    check = "import os, signal\ntry: open('/proc/cpuinfo')\nexcept OSError: print(hasattr(os, 'sched_getaffinity'))"
    taken = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=True)
    assert taken.stdout == "False\n"
    data = ("--data", labelled)
    run("profile", broken.path, "--device", "local:onnxruntime", *data, *QUICK, "--out", "p.json", "--report", "p.html")
    assert json.loads((tmp_path / "p.json").read_text())["device"]["name"]
    answers = json.loads(run("run", broken.path, "p.json", *data, "--budget", "1000ms", "--count", "3", "--json"))
    assert len(answers["answers"]) == 3
