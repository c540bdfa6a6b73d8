"""What happens to real phones: cables that fall out, storage that is full, hosts and runners that die.

On virtual phones with the real adbd, in both ways that reach them. They run the programs of this computer, so that the
runner is that of this computer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.cli.profile import main as profile
from adaptivenet.toolkit.cli.run import main as run
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.connect import clean, connect
from adaptivenet.toolkit.devices.phone.device import HOME, PhoneDevice
from adaptivenet.toolkit.devices.phone.push import Item
from adaptivenet.toolkit.errors import DeviceError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import Plan, compile_plan
from commands import QUICK, call
from reached import Phone, both_ways
from runners import Told, ended, wait_until

pytestmark = pytest.mark.usefixtures("adb_server")


@pytest.fixture
def plan(tiny_pack: BlockPack) -> Plan:
    return compile_plan(tiny_pack.graph, list(tiny_pack.graph.paths()), tiny_pack.metrics)


@pytest.fixture
def long_data(tiny_pack: BlockPack, pictures: np.ndarray, tmp_path: Path) -> Dataset:
    """So many pictures that an evaluation takes a while."""
    np.savez(tmp_path / "many.npz", images=np.tile(pictures, (200, 1, 1, 1)), labels=np.arange(3200) % 5)
    return open_data(tmp_path / "many.npz", None, tiny_pack.classes, tiny_pack.graph.cuts[0])


@both_ways
def test_an_evaluation_goes_on_while_adbd_is_killed(
    way: str, new_phone: Any, tiny_pack: BlockPack, plan: Plan, long_data: Dataset
) -> None:
    phone = Phone(new_phone, way)
    device, session, pid = phone.open(tiny_pack)
    seen: list[int] = []

    def kill(done: int, total: int) -> None:
        seen.append(done)
        if done == 50:
            phone.kill_adbd()

    found = session.evaluate(plan, long_data, kill)
    phone.starting.join()
    assert seen == list(range(1, len(long_data) + 1))
    assert any("lost" in text for text in phone.told.said)
    assert phone.told.said[-1] == f"connected to {phone.address} again"
    with connect("local").open(tiny_pack) as reference:
        expected = reference.evaluate(plan, long_data)
    for metric, sums in expected.sums.items():
        np.testing.assert_array_equal(found.sums[metric], sums)
    assert device.calls("info")["pid"] == pid, "the runner went on"
    device.calls.stop()


@both_ways
def test_a_push_goes_on_after_adbd_is_killed(way: str, new_phone: Any) -> None:
    phone = Phone(new_phone, way)
    contents = [os.urandom(4 << 20) for _ in range(8)]
    made: list[int] = []
    killed: list[bool] = []

    def item(at: int, content: bytes) -> Item:
        def read() -> bytes:
            made.append(at)
            return content

        digest = sha256(content).hexdigest()
        return Item(f"data/{digest}.safetensors", digest, len(content), read)

    class Killing(Told):
        def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
            if made and done > 18_000 and not killed:
                killed.append(True)
                phone.kill_adbd()

    device = phone.connect(Killing())
    device.put([item(at, content) for at, content in enumerate(contents)])
    phone.starting.join()
    assert made in ([0, 1, 2, 3, 4, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 5, 6, 7]), "what had arrived is not sent again"
    folder = phone.virtual.root / HOME.lstrip("/") / "data"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"{sha256(content).hexdigest()}.safetensors": content for content in contents
    }
    device.calls.stop()


@both_ways
def test_a_killed_runner_is_one_clear_error(
    way: str, new_phone: Any, tiny_pack: BlockPack, plan: Plan, long_data: Dataset
) -> None:
    phone = Phone(new_phone, way)
    device, session, pid = phone.open(tiny_pack)

    def kill(done: int, total: int) -> None:
        if done == 50:
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(DeviceError, match=r"the runner on \S+ ended without an answer: .*the daemon ended"):
        session.evaluate(plan, long_data, kill)
    assert session.evaluate(plan, long_data).images == len(long_data)
    device.calls.stop()


@both_ways
def test_full_storage_is_found_before_pushing(way: str, new_phone: Any) -> None:
    phone = Phone(new_phone, way, "--storage", "96")  # the runner fits
    device = phone.connect()
    content = bytes(90 << 20)
    named = rf"not enough space on {way}:\S+: 111 MB are needed in {HOME} and \d\d MB are free; .*--clean"
    with pytest.raises(DeviceError, match=named):
        device.put([Item("data/x.safetensors", sha256(content).hexdigest(), len(content), lambda: content)])
    assert str(device.calls("info")["version"]).startswith("0.1.0+")
    device.calls.stop()


def test_a_phone_without_room_for_the_runner_says_so(new_phone: Any) -> None:
    phone = Phone(new_phone, "adb-shell", "--storage", "8")
    with pytest.raises(DeviceError, match=rf"not enough space on \S+: \d\d MB are needed in {HOME} and 8 MB are free"):
        phone.connect()


@both_ways
def test_clean_leaves_nothing_on_the_phone(way: str, new_phone: Any, tiny_pack: BlockPack) -> None:
    phone = Phone(new_phone, way)
    device = phone.connect()
    device.open(tiny_pack).activate(tiny_pack.graph.oracle)
    pid = device.calls("info")["pid"]
    assert clean(phone.address)
    wait_until(lambda: ended(pid))
    assert not (phone.virtual.root / HOME.lstrip("/")).exists()
    assert not clean(phone.address)


@both_ways
def test_a_profile_is_made_on_a_phone_with_nothing_on_it(
    way: str, new_phone: Any, tiny_pack: BlockPack, labelled: Path, tmp_path: Path
) -> None:
    phone = Phone(new_phone, way)
    out = tmp_path / "profile.json"
    given = ("--device", phone.address, "--data", labelled, *QUICK, "--out", out, "--verbose")
    result = call(profile, tiny_pack.path, *given)
    assert result.exit_code == 0, result.output
    assert "push (kB): " in result.stderr
    assert "adb" in result.stderr, "how the phone was reached is explained"
    assert "push" not in call(profile, tiny_pack.path, *given).stderr, "the second time, everything is there"
    result = call(run, tiny_pack.path, out, "--data", labelled, "--count", "3", "--budget", "1000ms")
    assert result.exit_code == 0, result.output
    result = call(profile, "--device", phone.address, "--clean")
    assert (result.exit_code, result.stderr) == (0, f"everything was removed from {phone.address}\n")
    assert not (phone.virtual.root / HOME.lstrip("/")).exists()


def pictures_on(phone: Phone) -> list[str]:
    return [path.name for path in (phone.virtual.root / HOME.lstrip("/") / "data").glob("**/*")]


@both_ways
def test_pictures_go_with_the_command_and_with_the_cable(
    way: str, new_phone: Any, tiny_pack: BlockPack, plan: Plan, data: Dataset
) -> None:
    phone = Phone(new_phone, way)
    device = phone.connect()
    device.open(tiny_pack).evaluate(plan, data)
    assert len(pictures_on(phone)) == 1
    device.close()
    assert pictures_on(phone) == []
    # The cable is pulled: after a while the runner does it.
    device = phone.connect()
    device.calls.stop()
    device = phone.connect(idle_s=2)
    device.open(tiny_pack).evaluate(plan, data)
    pid = int(device.calls("info")["pid"])
    assert len(pictures_on(phone)) == 1
    phone.kill_adbd(start_after_s=0)
    wait_until(lambda: ended(pid))
    assert pictures_on(phone) == []
    phone.starting.join()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_pictures_go_when_the_command_is_interrupted(
    sent: int, new_phone: Any, tiny_pack: BlockPack, labelled: Path
) -> None:
    phone = Phone(new_phone, "adb-shell")
    command = [
        *("env", "--default-signal=INT", sys.executable, "-m", "adaptivenet.toolkit.cli.profile", tiny_pack.path),
        *("--device", phone.address, "--data", labelled, "--rounds", "1000000", "--budget", "1000ms"),
    ]
    host = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert host.stderr
    for line in host.stderr:
        if line.startswith("measure: "):
            break
    assert pictures_on(phone)
    host.send_signal(sent)
    assert host.stderr.read().splitlines()[-1] == "error: interrupted"
    assert host.wait(30) == 1
    assert pictures_on(phone) == []


def test_a_host_that_is_killed_leaves_a_runner_that_ends_by_itself(new_phone: Any, tiny_pack: BlockPack) -> None:
    phone = Phone(new_phone, "adb-shell")
    code = (
        "import os, sys, signal\n"
        "from adaptivenet.toolkit.devices.adb.discovery import find_phone\n"
        "from adaptivenet.toolkit.devices.phone.device import PhoneDevice\n"
        "from adaptivenet.toolkit.pack.pack import BlockPack\n"
        "device = PhoneDevice(find_phone(sys.argv[1]), idle_s=2)\n"
        "pack = BlockPack.open(sys.argv[2])\n"
        "def kill(done, total):\n"
        "    if done == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "print(device.calls('info')['pid'], flush=True)\n"
        "device.open(pack).measure([pack.graph.oracle], rounds=10_000_000, progress=kill)\n"
    )
    command = [sys.executable, "-c", code, phone.address, os.fspath(tiny_pack.path)]
    host = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert host.returncode == -signal.SIGKILL, host.stderr
    pid = int(host.stdout)
    wait_until(lambda: ended(pid), 60)


@both_ways
def test_two_hosts_at_once(
    way: str, new_phone: Any, tiny_pack: BlockPack, plan: Plan, long_data: Dataset, wide_pack: BlockPack
) -> None:
    phone = Phone(new_phone, way)
    one, other = phone.connect(), phone.connect()
    results: dict[str, Any] = {}

    def work(name: str, device: PhoneDevice, pack: BlockPack) -> None:
        subnets = list(pack.graph.paths())[:5]
        compiled = compile_plan(pack.graph, subnets, pack.metrics)
        try:
            with device.open(pack) as session:
                results[name] = session.evaluate(compiled, long_data.subset(range(200)))
        except BaseException as error:
            results[name] = error

    threads = [
        threading.Thread(target=work, args=("tiny", one, tiny_pack)),
        threading.Thread(target=work, args=("wide", other, wide_pack)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, pack in (("tiny", tiny_pack), ("wide", wide_pack)):
        with connect("local").open(pack) as reference:
            compiled = compile_plan(pack.graph, list(pack.graph.paths())[:5], pack.metrics)
            expected = reference.evaluate(compiled, long_data.subset(range(200)))
        for metric, sums in expected.sums.items():
            np.testing.assert_array_equal(results[name].sums[metric], sums)
    one.calls.stop()
