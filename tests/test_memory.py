"""How much memory is free: of the computer, of control groups of both versions, of the process's own limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from adaptivenet.toolkit.memory import free_bytes_told, taking

MB = 1 << 20


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


COMPUTER = {"proc/meminfo": "MemTotal:  8192000 kB\nMemFree:  9 kB\nMemAvailable:    2048000 kB\n"}
SECOND = {
    **COMPUTER,
    "proc/self/cgroup": "0::/app/worker\n",
    "sys/fs/cgroup/app/memory.max": f"{500 * MB}\n",
    "sys/fs/cgroup/app/memory.current": f"{400 * MB}\n",
    "sys/fs/cgroup/app/memory.stat": f"anon {90 * MB}\ninactive_file {50 * MB}\nactive_file 7\n",
    "sys/fs/cgroup/app/worker/memory.max": "max\n",
    "sys/fs/cgroup/app/worker/memory.current": f"{300 * MB}\n",
}
FIRST = {
    **COMPUTER,
    "proc/self/cgroup": "4:cpu,cpuacct:/else\n3:memory:/app\n",
    "sys/fs/cgroup/memory/app/memory.limit_in_bytes": f"{90 * MB}\n",
    "sys/fs/cgroup/memory/app/memory.usage_in_bytes": f"{60 * MB}\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{70 * MB}\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (COMPUTER, 2000 * MB),
        (SECOND, 150 * MB),  # the group above leaves less than the computer
        ({**SECOND, "sys/fs/cgroup/app/memory.current": f"{700 * MB}\n"}, 0),
        (FIRST, 30 * MB),
        ({**COMPUTER, "proc/self/cgroup": "0::/\n"}, 2000 * MB),  # a group without limits
    ],
)
def test_free_memory_is_the_least_of_what_is_left(files: dict[str, str], free: int, tmp_path: Path) -> None:
    assert free_bytes_told(machine(tmp_path, files)) == free


LIMITED = """
import resource, sys
from adaptivenet.toolkit.memory import free_bytes_told
taken = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(sys.argv[2]))
resource.setrlimit(getattr(resource, sys.argv[1]), (1024 * taken + (64 << 20),) * 2)
print(free_bytes_told())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")
@pytest.mark.parametrize(("limit", "taken"), [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_limits_of_the_process_count(limit: str, taken: str) -> None:
    said = subprocess.run([sys.executable, "-c", LIMITED, limit, taken], capture_output=True, text=True, check=True)
    assert 48 * MB <= int(said.stdout) <= 64 * MB


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")
def test_what_a_call_takes_is_seen_after_it_was_freed() -> None:
    given, took = taking(lambda: len(bytearray(b"1") * (80 * MB)))
    assert given == 80 * MB
    assert 70 * MB <= took < 200 * MB
    assert taking(lambda: 1)[1] < 40 * MB
