"""The C++ runner of this computer, driven as one on a phone: what is pushed and stays private, and who it is."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.adb.transport import PushProgress
from adaptivenet.toolkit.devices.phone import contents
from adaptivenet.toolkit.devices.phone.calls import Calls, Event
from adaptivenet.toolkit.devices.phone.session import PhoneSession
from adaptivenet.toolkit.errors import BudgetError, DeviceError, EngineMissing
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import Plan
from packs import edit_manifest
from runners import wait_until
from wired import Cable, Phone, same_scores

FAST = ("b0-m2", "b2")


# What is pushed


def test_nothing_is_pushed_twice(phone: Phone, tiny_pack: BlockPack, plan: Plan, data: Dataset, tmp_path: Path) -> None:
    first = phone.connect()  # which has pushed the pictures, and removes them in the end
    first.open(tiny_pack).evaluate(plan, data)
    assert len(phone.cable.pushed) == len(set(phone.cable.pushed))
    phone.cable.pushed.clear()
    session = phone.connect().open(tiny_pack)
    session.evaluate(plan, data)
    session.evaluate(plan, data.subset(range(len(data))))
    assert phone.cable.pushed == []


def test_pictures_are_read_and_hashed_once_for_the_same_content(
    phone: Phone, tiny_pack: BlockPack, plan: Plan, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    read: list[int] = []
    real = contents._content

    def content(images: np.ndarray, labels: np.ndarray | None) -> bytes:
        made.append(len(images))
        return real(images, labels)

    monkeypatch.setattr(contents, "_content", content)
    device = phone.connect()
    session = device.open(tiny_pack)
    data = open_data(labelled, None, tiny_pack.classes, tiny_pack.graph.cuts[0])
    stored = data._source.content
    monkeypatch.setattr(data._source, "content", lambda index: read.append(index) or stored(index))
    for _ in range(3):
        session.evaluate(plan, data)
        session.evaluate(plan, data.subset(range(len(data))))
    session.evaluate(plan, open_data(labelled, None, tiny_pack.classes, tiny_pack.graph.cuts[0]))
    with device.open(tiny_pack) as another:
        another.evaluate(plan, data.subset(range(len(data))))
    # Once to hash them, and once to send them.
    assert made == [len(data)] * 2
    assert len(read) <= len(data)
    session.evaluate(plan, data.subset(range(8)))
    assert made[2:] == [8] * 2


def damage(path: Path, how: str) -> None:
    match how:
        case "a bit":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "cut":
            path.write_bytes(path.read_bytes()[:100])
        case "gone":
            path.unlink()


@pytest.mark.parametrize("how", ["a bit", "cut", "gone"])
def test_a_blob_that_is_damaged_on_the_phone_is_pushed_again(
    phone: Phone, tiny_pack: BlockPack, plan: Plan, data: Dataset, expected: dict[str, np.ndarray], how: str
) -> None:
    device = phone.connect()
    session = device.open(tiny_pack)
    blobs = sorted((phone.home / "blobs").iterdir())
    before = {path: path.read_bytes() for path in blobs}
    phone.cable.pushed.clear()
    for path in blobs[:2]:
        damage(path, how)
    same_scores(session, plan, data, expected)
    assert {path: path.read_bytes() for path in before} == before
    assert phone.told.said == ["2 files were damaged or missing on runner: pushed again"]
    assert sorted(name for name in phone.cable.pushed if ".safetensors" not in name) == sorted(
        f".part-{path.name}" for path in blobs[:2]
    )


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_pictures_that_are_gone_from_the_phone_are_pushed_again(
    phone: Phone,
    tiny_pack: BlockPack,
    plan: Plan,
    data: Dataset,
    expected: dict[str, np.ndarray],
    pictures: np.ndarray,
    how: str,
) -> None:
    device = phone.connect()
    session = device.open(tiny_pack)
    same_scores(session, plan, data, expected)
    session.activate(FAST)
    before = session.infer(pictures[:1])
    for path in (phone.home / "data").iterdir():
        damage(path, how)
    same_scores(session, plan, data, expected)
    assert phone.told.said == ["1 file was damaged or missing on runner: pushed again"]
    np.testing.assert_array_equal(session.infer(pictures[:1]), before)


# Memory


def test_memory_is_measured_beside_the_daemon_and_whatever_happens(phone: Phone, tiny_pack: BlockPack) -> None:
    _, session, pid = phone.open(tiny_pack)
    session.activate(FAST)
    damage(phone.home / tiny_pack.artifact("b1", "executorch").file, "a bit")
    phone.cable.lines = 0  # and the cable is back at once
    done: list[tuple[int, int]] = []
    found = session.resident_mb([FAST, tiny_pack.graph.oracle], lambda *at: done.append(at))
    assert all(each is not None and each >= 0 for each in found)
    assert done == [(1, 2), (2, 2)]
    assert any("trying to connect again" in line for line in phone.told.said)
    assert "1 file was damaged or missing on runner: pushed again" in phone.told.said
    assert session.activate(FAST).loaded == (), "the daemon has what it had"
    assert phone.pid(phone.connect()) == pid


def test_a_runner_that_cannot_measure_memory_says_so(
    phone: Phone, tiny_pack: BlockPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, session, _ = phone.open(tiny_pack)
    monkeypatch.setattr(device.calls, "_alone", "echo no such program; ")
    assert session.resident_mb([FAST]) == [None]
    assert re.search(
        r"the memory of b0-m2 b2 is not measured: .* without an answer: no such program", phone.told.said[-1]
    )


# Adapting


def test_the_runner_adapts_by_itself(phone: Phone, tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    """Of points that were profiled to be much faster than anything is, and of ones that were much slower."""
    _, session, _ = phone.open(tiny_pack)
    assert isinstance(session, PhoneSession)
    data = Dataset.from_arrays(pictures[:3])
    subnets = [list(FAST), list(tiny_pack.graph.oracle)]

    def adapt(fastest_ms: float, **budgets: Any) -> tuple[list[Event], Event]:
        front = [
            {"subnet": subnet, "latency_ms": fastest_ms * at, "resident_mb": None, "energy_mj": 3.0 * at}
            for at, subnet in enumerate(subnets, 1)
        ]
        budget = {"latency_ms": fastest_ms * 2.5, "percentile": 50, "memory_mb": None, "energy_mj": None, **budgets}
        events: list[Event] = []
        return events, session.adapt(front, budget, data, 300, events.append)

    # The other point is loaded beside the one that runs, so when it comes depends on the time that this takes.
    events, result = adapt(1e-6)
    while not result["switches"]:
        events, result = adapt(1e-6)
    decisions = [event for event in events if event["type"] == "decision"]
    assert [(event["point"], event["kind"]) for event in decisions[:2]] == [(1, "start"), (0, "nothing_fits")]
    assert decisions[1]["slowdown"] > 100
    assert "times slower than profiled: nothing fits" in decisions[1]["why"]
    inferences = [event for event in events if event["type"] == "inference"]
    ran = [event["point"] for event in inferences]
    assert ran == sorted(ran, reverse=True), "the point that was chosen stays"
    assert ran[:5] == [1] * 5
    assert [event["index"] for event in inferences if event["switched"]] == [ran.index(0)]
    assert (result["points"], result["switches"]) == ([ran.count(0), ran.count(1)], 1)
    times = [event["at_s"] for event in inferences]
    assert times == sorted(times)
    assert times[-1] >= sum(event["ms"] for event in inferences) / 1e3
    assert session.activate(FAST).loaded == ()

    events, result = adapt(1e6, memory_mb=30.0)
    assert (result["points"], result["switches"]) == ([0, 300], 0)
    assert "its memory is not known" in events[0]["why"]
    assert adapt(1e6, energy_mj=4)[1]["points"] == [300, 0]
    fast, slow = (sum(tiny_pack.artifact(name, "executorch").bytes for name in each) / 1e6 for each in subnets)
    assert fast < slow
    assert adapt(1e6, memory_mb=(fast + slow) / 2)[1]["points"] == [300, 0], "its artifacts are too large"
    with pytest.raises(BudgetError, match="latency_ms must be a positive number"):
        adapt(1.0, latency_ms=0.0)
    with pytest.raises(DeviceError, match="'percentile' must be a number"):
        adapt(1.0, percentile=None)
    with pytest.raises(DeviceError, match="heat_mj"):
        adapt(1.0, heat_mj=1.0)


# Pictures are private


def pictures_in(home: Path) -> list[Path]:
    return [path for path in (home / "data").iterdir() if path.is_file()]


def test_pictures_go_with_the_device_that_pushed_them(
    phone: Phone, tiny_pack: BlockPack, plan: Plan, data: Dataset, pictures: np.ndarray
) -> None:
    one, other = phone.connect(), phone.connect()
    with one.open(tiny_pack) as session:
        session.evaluate(plan, data)
        session.measure([FAST], rounds=1, sample=pictures[:1])
        session.activate(FAST)
        session.infer(pictures[1:2])
    mine = set(pictures_in(phone.home))
    assert len(mine) == 3
    with other.open(tiny_pack) as session:
        session.evaluate(plan, data.subset(range(3)))
        assert len(pictures_in(phone.home)) == 4
        one.close()
        assert len(pictures_in(phone.home)) == 1, "those of the other host stay"
        assert not mine & set(pictures_in(phone.home))
    other.close()
    assert pictures_in(phone.home) == []


def test_pictures_go_although_the_host_was_killed(phone: Phone, tiny_pack: BlockPack, data: Dataset) -> None:
    code = (
        "import os, signal, sys\n"
        "from adaptivenet.toolkit.devices.phone.device import PhoneDevice\n"
        "from adaptivenet.toolkit.devices.phone.here import Here\n"
        "from adaptivenet.toolkit.pack.pack import BlockPack\n"
        "import numpy as np\n"
        "pack = BlockPack.open(sys.argv[1])\n"
        "session = PhoneDevice(Here(), home=sys.argv[2], idle_s=1).open(pack)\n"
        "session.measure([pack.graph.oracle], rounds=1, sample=np.ones((1, 3, 16, 16), np.float32))\n"
        "print(len(os.listdir(sys.argv[2] + '/data')), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, os.fspath(tiny_pack.path), str(phone.home)]
    host = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (host.returncode, host.stdout) == (-signal.SIGKILL, "1\n"), host.stderr
    wait_until(lambda: not pictures_in(phone.home), 60)


def test_pictures_go_after_an_error_in_the_middle_of_a_push(
    phone: Phone, tiny_pack: BlockPack, plan: Plan, data: Dataset
) -> None:
    device = phone.connect()
    session = device.open(tiny_pack)
    real = Cable.push

    def cut(source: Path | bytes, remote: str, progress: PushProgress | None = None) -> None:
        assert isinstance(source, bytes)
        real(phone.cable, source[:1000], remote, progress)
        raise KeyboardInterrupt

    phone.cable.push = cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        session.evaluate(plan, data)
    assert len(pictures_in(phone.home)) == 1
    device.close()
    assert pictures_in(phone.home) == []


def test_a_changed_block_is_the_one_blob_that_is_pushed(phone: Phone, tiny_pack: BlockPack, tmp_path: Path) -> None:
    phone.connect().open(tiny_pack)
    phone.cable.pushed.clear()
    path = tmp_path / "changed"
    shutil.copytree(tiny_pack.path, path)
    old = tiny_pack.artifact("b1", "executorch")
    content = tiny_pack.read(old) + b"\0"
    name = f"{sha256(content).hexdigest()}.pte"
    (path / "blobs" / name).write_bytes(content)

    def change(manifest: dict[str, Any]) -> None:
        for block in manifest["blocks"]:
            if block["name"] == "b1":
                block["artifacts"]["executorch"] |= {"file": f"blobs/{name}", "bytes": len(content)}

    edit_manifest(path, change)
    changed = BlockPack.open(path)
    phone.connect().open(changed)
    assert sorted(phone.cable.pushed) == sorted([f".part-{changed.digest}.json", f".part-{name}"])


def test_only_the_engines_own_blobs_are_pushed(phone: Phone, tiny_pack: BlockPack) -> None:
    phone.connect().open(tiny_pack)
    assert any(name.endswith(".pte") for name in phone.cable.pushed)
    assert not any(name.endswith(".onnx") for name in phone.cable.pushed)


def test_the_home_is_private(phone: Phone) -> None:
    phone.connect()
    assert phone.home.stat().st_mode & 0o777 == 0o700
    assert (phone.home / "run").stat().st_mode & 0o777 == 0o700


# Who it is


def test_the_device_says_who_it_is(phone: Phone) -> None:
    info = phone.connect(address="runner:executorch").info
    assert info.address == "runner:executorch"
    assert (info.engine, info.threads) == ("executorch", 1)
    assert info.engine_version
    assert info.name
    assert info.os
    assert info.cores >= 1


def test_an_engine_that_the_runner_lacks_is_named(phone: Phone) -> None:
    with pytest.raises(EngineMissing, match="has no engine 'tflite', only executorch"):
        phone.connect(engine="tflite")


def test_evaluating_has_threads_of_its_own(
    phone: Phone,
    tiny_pack: BlockPack,
    plan: Plan,
    data: Dataset,
    expected: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, int]] = []
    call = Calls.__call__

    def note(self: Calls, verb: str, *arguments: Any, **fields: Any) -> Any:
        asked.append((verb, fields.get("threads", 0)))
        return call(self, verb, *arguments, **fields)

    monkeypatch.setattr(Calls, "__call__", note)
    device = phone.connect(evaluation_threads=2)
    session = device.open(tiny_pack)
    same_scores(session, plan, data, expected)
    session.measure([tiny_pack.graph.oracle], 1, 1)
    session.activate(tiny_pack.graph.oracle)
    same_scores(session, plan, data, expected)
    assert session.resident.blocks == tiny_pack.graph.oracle
    session.infer(data.image(0))
    assert [each for each in asked if each[1]] == [
        ("evaluate", 2),
        ("measure", 1),
        ("activate", 1),
        ("evaluate", 1),  # the active subnet stays
        ("infer", 1),
    ]


def test_cores_and_threads_go_with_every_request(phone: Phone, tiny_pack: BlockPack) -> None:
    core = min(os.sched_getaffinity(0))
    device = phone.connect(cores=str(core))
    assert device.info.cores == 1
    with device.open(tiny_pack) as session:
        session.activate(FAST)
    # The thread that runs the jobs is pinned, the others need not be.
    tasks = Path(f"/proc/{phone.pid(device)}/task").glob("*/status")
    allowed = [
        line.split()[1] for task in tasks for line in task.read_text().splitlines() if "Cpus_allowed_list" in line
    ]
    assert str(core) in allowed
    with pytest.raises(DeviceError, match="there is no core 9999"):
        phone.connect(cores="9999")
