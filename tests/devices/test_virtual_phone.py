"""The virtual phone of the tests itself: two at once do not meet, nothing of one stays, and what it lacks is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from adaptivenet.toolkit.devices.adb.discovery import find_phone
from adaptivenet.toolkit.devices.phone.soc import ask_soc
from phones import TESTS, VirtualPhone, claimed_port
from runners import ended, wait_until
from virtual_phone import needs
from virtual_phone.phone import Phone

NewPhone = Callable[..., VirtualPhone]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "virtual_phone", *arguments], cwd=TESTS, capture_output=True, text=True, timeout=300
    )


def started(phone: VirtualPhone) -> int:
    """The process of a command that goes on on the phone by itself."""
    with find_phone(f"tcp:{phone.endpoint}") as transport:
        transport.shell("echo mine >/data/local/tmp/file; setsid sleep 600 & echo $! >/data/local/tmp/pid; sleep 0.2")
    return int((phone.root / "data" / "local" / "tmp" / "pid").read_text())


def test_two_phones_have_nothing_in_common(new_phone: NewPhone, adb_environment: int) -> None:
    one, other = new_phone(), new_phone()
    pids = [started(phone) for phone in (one, other)]
    assert one.root != other.root
    (one.root / "data" / "local" / "tmp" / "file").write_text("one")
    assert (other.root / "data" / "local" / "tmp" / "file").read_text() == "mine\n"
    one.stop()
    wait_until(lambda: ended(pids[0]))
    assert not ended(pids[1])
    assert not (one.root / "usr" / "bin").exists(), "what is mounted on the phone is not mounted here"
    one.start()
    assert (one.root / "data" / "local" / "tmp" / "file").read_text() == "one", "the storage stays"
    other.remove()
    wait_until(lambda: ended(pids[1]))
    assert not other.root.exists()
    assert Path("/usr/bin").exists()


def test_what_runs_on_a_phone_outlives_an_adbd_that_is_killed(new_phone: NewPhone, adb_environment: int) -> None:
    phone = new_phone()
    pid = started(phone)
    os.kill(phone.adbd, signal.SIGKILL)
    phone.await_end()
    assert not ended(pid)
    phone.start()
    phone.stop()
    wait_until(lambda: ended(pid))


def test_ports_are_claimed_once() -> None:
    claims = [claimed_port() for _ in range(100)]
    assert len({claim.getsockname()[1] for claim in claims}) == len(claims)
    for claim in claims:
        claim.close()


def test_a_port_that_somebody_uses_is_refused(new_phone: NewPhone) -> None:
    used = str(new_phone().port)
    result = command("start", "--abi", "x86_64", "--port", used)
    assert result.returncode == 1
    assert result.stderr == (
        f"virtual_phone: port {used} cannot be used (Address already in use): give another one with --port\n"
    )


def test_a_phone_ends_with_the_tests_that_started_it(new_phone: NewPhone, adb_environment: int) -> None:
    new_phone().stop()  # so that there can be one
    code = (
        "import sys, phones\n"
        "phone = phones.VirtualPhone('--abi', 'x86_64')\n"
        "phone.start()\n"
        "print(phone.port, phone.adbd, flush=True)\n"
        "sys.stdin.read()\n"
    )
    tests = subprocess.Popen(
        [sys.executable, "-c", code], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert tests.stdout
    port, adbd = map(int, tests.stdout.readline().split())
    assert not ended(adbd)
    os.kill(tests.pid, signal.SIGKILL)
    wait_until(lambda: ended(adbd))
    tests.communicate()
    Phone(port).wipe()


def test_a_phone_is_used_by_hand(new_phone: NewPhone, adb_environment: int) -> None:
    new_phone().stop()  # so that there can be one
    with closing(claimed_port()) as claim:
        port = str(claim.getsockname()[1])
        result = command("start", "--abi", "x86_64", "--port", port)
        root = command("root", "--port", port).stdout.strip()
        assert (result.stdout, result.stderr) == (f"READY 127.0.0.1:{port} root={root}\n", "")
        with find_phone(f"tcp:127.0.0.1:{port}") as phone:
            assert phone.shell("id -u; getprop ro.product.cpu.abi").text == "2000\nx86_64\n"
            assert ask_soc(phone) == "SM8450"
        assert command("stop", "--port", port).returncode == 0
        assert command("wipe", "--port", port).returncode == 0
        assert not Path(root).exists()


def test_what_a_computer_lacks_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(sys, "platform", "darwin")
        assert needs.lacking() == "a virtual phone needs Linux, this is darwin"
    if sys.platform != "linux":
        return
    with monkeypatch.context() as changed:
        changed.setattr(os, "geteuid", lambda: 1000)
        assert needs.lacking() == "a virtual phone needs root (it mounts, and changes its root folder)"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with monkeypatch.context() as changed:
        changed.setenv("PATH", str(tmp_path))
        assert "needs Debian 12" in str(needs.lacking())
    (tmp_path / "apt-get").write_text("#!/bin/sh\n")
    (tmp_path / "apt-get").chmod(0o755)
    (tmp_path / "unshare").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(needs, "_PACKAGES", {"mksh": "/nowhere/mksh", "toybox": "/nowhere/*", "sh": "/bin/sh"})
    assert needs.lacking() == "a virtual phone needs packages: apt-get update && apt-get install -y mksh toybox"
    monkeypatch.setattr(needs, "_PACKAGES", {"sh": "/bin/sh"})
    assert "CAP_SYS_ADMIN" in str(needs.lacking())
