"""The C++ runner of this computer, driven as one on a phone: what is pushed, what goes wrong, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.cli.profile import main as profile_command
from adaptivenet.toolkit.cli.run import main as run_command
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.adb.transport import PushProgress
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.devices.connect import clean, connect
from adaptivenet.toolkit.devices.phone import contents
from adaptivenet.toolkit.devices.phone.calls import Calls, Event
from adaptivenet.toolkit.devices.phone.device import PhoneDevice, remove_everything
from adaptivenet.toolkit.devices.phone.here import Here
from adaptivenet.toolkit.devices.phone.push import Store
from adaptivenet.toolkit.devices.phone.session import PhoneSession
from adaptivenet.toolkit.errors import BudgetError, ConnectionLost, DeviceError, EngineMissing
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import Plan, compile_plan
from adaptivenet.toolkit.search import Evaluator
from adaptivenet.toolkit.serving.simulator import read_trace
from commands import QUICK, call
from packs import edit_manifest
from runners import Told, bundle_for, ended, wait_until

FAST = ("b0-m2", "b2")


class Cable(Here):
    """This computer with a cable that can fall out: `lines` of streams go through it, then it is gone `for_calls`."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[str] = []
        self.lines: int | None = None
        self.when_lost: Callable[[], object] = lambda: None

    def push(self, source: Path | bytes, remote: str, progress: PushProgress | None = None) -> None:
        self.pushed.append(Path(remote).name)
        super().push(source, remote, progress)

    def stream(self, command: str) -> Any:
        return self._cut(super().stream(command))

    def _cut(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            if self.lines is not None:
                if self.lines == 0:
                    self.lines = None
                    self.when_lost()
                    raise ConnectionLost("the connection to runner was lost")
                self.lines -= 1
            yield line


class Phone:
    """A home for a runner, and devices that use it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.cable = Cable()
        self.told = Told()

    def connect(self, **options: Any) -> PhoneDevice:
        return PhoneDevice(self.cable, observer=self.told, home=str(self.home), **{"idle_s": 30, **options})

    def open(self, pack: BlockPack) -> tuple[PhoneDevice, Session, int]:
        """The phone connected, the pack open on it, and the runner's process."""
        device = self.connect()
        return device, device.open(pack), self.pid(device)

    def pid(self, device: PhoneDevice) -> int:
        return int(device.calls("info")["pid"])


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Phone]:
    bundle_for("")
    phone = Phone(tmp_path / "home")
    yield phone
    remove_everything(Here(), str(phone.home))


@pytest.fixture
def plan(tiny_pack: BlockPack) -> Plan:
    return compile_plan(tiny_pack.graph, list(tiny_pack.graph.paths()), tiny_pack.metrics)


def same_scores(session: Session, plan: Plan, data: Dataset, expected: dict[str, np.ndarray]) -> None:
    evaluation = session.evaluate(plan, data)
    for metric, sums in expected.items():
        np.testing.assert_array_equal(evaluation.sums[metric], sums)


@pytest.fixture
def expected(tiny_pack: BlockPack, plan: Plan, data: Dataset) -> dict[str, np.ndarray]:
    with connect("local").open(tiny_pack) as session:
        return dict(session.evaluate(plan, data).sums)


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


# Faults


@pytest.mark.parametrize("lines", [0, 1, 2, 7, 16])
def test_an_evaluation_survives_a_lost_connection(
    phone: Phone, tiny_pack: BlockPack, plan: Plan, data: Dataset, expected: dict[str, np.ndarray], lines: int
) -> None:
    device, session, before = phone.open(tiny_pack)
    phone.cable.lines = lines
    seen: list[int] = []
    evaluation = session.evaluate(plan, data, lambda done, total: seen.append(done))
    for metric, sums in expected.items():
        np.testing.assert_array_equal(evaluation.sums[metric], sums)
    assert seen == list(range(1, len(data) + 1)), "no image was evaluated twice"
    assert phone.pid(device) == before
    assert [text.split(";")[0] for text in phone.told.said] == [
        "the connection to runner was lost",
        "connected to runner again",
    ]


def test_a_phone_that_was_started_anew_does_the_job_again(
    phone: Phone, tiny_pack: BlockPack, plan: Plan, data: Dataset, expected: dict[str, np.ndarray]
) -> None:
    device, session, before = phone.open(tiny_pack)
    phone.cable.lines = 4
    phone.cable.when_lost = lambda: os.kill(before, signal.SIGKILL)
    same_scores(session, plan, data, expected)
    assert phone.pid(device) != before
    assert any("started anew: 'evaluate' is done from the beginning" in text for text in phone.told.said)


def test_a_killed_runner_is_one_clear_error_and_the_phone_is_usable_at_once(
    phone: Phone, tiny_pack: BlockPack, plan: Plan, data: Dataset, expected: dict[str, np.ndarray]
) -> None:
    _, session, pid = phone.open(tiny_pack)

    def kill(done: int, total: int) -> None:
        if done == 1:
            os.kill(pid, signal.SIGKILL)

    chains = [tiny_pack.graph.oracle]
    with pytest.raises(DeviceError, match="the runner on runner ended without an answer") as caught:
        session.measure(chains, rounds=200_000, progress=kill)
    assert "\n" not in str(caught.value)
    same_scores(session, plan, data, expected)


def test_a_runner_that_crashes_tells_what_it_was_doing(phone: Phone, tiny_pack: BlockPack) -> None:
    _, session, pid = phone.open(tiny_pack)

    def crash(done: int, total: int) -> None:
        if done == 1:
            os.kill(pid, signal.SIGSEGV)

    said = r"the daemon ended without an answer.*(it|block 'b\d') crashed( while it was run: .*)? \(signal 11\)"
    with pytest.raises(DeviceError, match=said) as caught:
        session.measure([tiny_pack.graph.oracle], rounds=200_000, progress=crash)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([[[1.0], [1.0]]], "not every block of every chain was timed 2 times on executorch on runner"),
        ([[[1.0, 1.0]]], "not every block of every chain was timed 2 times"),
        ([[[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0]]], "not every block of every chain was timed 2 times"),
        ([], "not every block of every chain was timed 2 times"),
        ([[[1.0, 1.0], [1.0, -1.0]]], "some times are no numbers of milliseconds"),
        ([[[1.0, 1.0], [1.0, float("nan")]]], "some times are no numbers of milliseconds"),
        ([[[1.0, 1.0], [1.0, None]]], "the runner's answer to 'measure' is not one"),
        ([[1.0, 1.0]], "the runner's answer to 'measure' is not one"),
        (None, "the runner's answer to 'measure' is not one"),
    ],
)
def test_times_that_are_not_those_asked_for_are_refused(
    answer: Any, message: str, phone: Phone, tiny_pack: BlockPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, session, _ = phone.open(tiny_pack)
    real = Calls.__call__
    monkeypatch.setattr(Calls, "__call__", lambda *verb, **fields: {**real(*verb, **fields), "blocks_ms": answer})
    with pytest.raises(DeviceError, match=message):
        session.samples_in_situ([FAST], rounds=2, warmup=0)


def test_a_subnet_that_was_released_is_paged_in_again(phone: Phone, tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    device = phone.connect()
    session = device.open(tiny_pack)
    session.activate(FAST)
    before = session.infer(pictures[:1])
    os.kill(phone.pid(device), signal.SIGKILL)
    np.testing.assert_array_equal(session.infer(pictures[:1]), before)
    assert phone.told.explained[-1] == "the active subnet was released in the meantime, and is paged in again"


def test_a_search_goes_on_when_the_phone_has_lost_what_it_kept(
    phone: Phone, tiny_pack: BlockPack, data: Dataset
) -> None:
    device, session, pid = phone.open(tiny_pack)
    subnets = list(tiny_pack.graph.paths())
    evaluator = Evaluator(session, tiny_pack.metrics, 1 << 20)
    first = evaluator.evaluate(subnets, data)
    again = evaluator.evaluate(subnets, data)
    assert again.block_runs < first.block_runs
    device.calls.stop()
    wait_until(lambda: ended(pid))
    anew = evaluator.evaluate(subnets, data)
    assert anew.block_runs == first.block_runs
    # Cut in the middle, and the phone is switched off and on: the job cannot go on from what was kept before it.
    phone.cable.lines = 5
    phone.cable.when_lost = lambda: os.kill(phone.pid(phone.connect()), signal.SIGKILL)
    assert evaluator.evaluate(subnets, data).block_runs == first.block_runs
    for found in (again, anew):
        for metric, sums in first.sums.items():
            np.testing.assert_array_equal(found.sums[metric], sums)
    session.close()


def test_an_idle_runner_ends_by_itself(phone: Phone) -> None:
    device = phone.connect(idle_s=1)
    pid = phone.pid(device)
    wait_until(lambda: ended(pid))
    assert phone.pid(device) != pid


def test_two_hosts_at_once_wait_for_each_other(
    phone: Phone, tiny_pack: BlockPack, plan: Plan, data: Dataset, expected: dict[str, np.ndarray]
) -> None:
    devices = [phone.connect() for _ in range(3)]
    failed: list[BaseException] = []

    def work(device: PhoneDevice) -> None:
        try:
            with device.open(tiny_pack) as session:
                for _ in range(3):
                    same_scores(session, plan, data, expected)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[device]) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_host_of_another_version_replaces_an_idle_runner_once(phone: Phone) -> None:
    device = phone.connect()
    pid = phone.pid(device)
    store = Store(phone.cable, str(phone.home), phone.told)
    other = Calls(phone.cable, store, bundle_for(""), phone.told, speaks="9.9.9")
    # The bundle is of this version still, so that the new daemon is refused as well.
    with pytest.raises(DeviceError, match=r"a runner of version 0\.1\.0\+[\w.]+, this is version 9\.9\.9"):
        other("info")
    wait_until(lambda: ended(pid))


def test_a_runner_of_another_version_is_not_taken_from_a_host_that_uses_it(phone: Phone, tiny_pack: BlockPack) -> None:
    device, session, pid = phone.open(tiny_pack)
    store = Store(Here(), str(phone.home), phone.told)
    other = Calls(Here(), store, bundle_for(""), phone.told, speaks="9.9.9")
    errors: list[str] = []

    def interfere(done: int, total: int) -> None:
        if done == 1:
            with pytest.raises(DeviceError) as caught:
                other("info")
            errors.append(str(caught.value))

    session.measure([tiny_pack.graph.oracle], rounds=20_000, progress=interfere)
    assert len(errors) == 1
    assert "not idle" in errors[0]
    assert phone.pid(device) == pid


# What it leaves behind


def test_cleaning_leaves_no_file_and_no_process(phone: Phone, tiny_pack: BlockPack) -> None:
    device = phone.connect()
    device.open(tiny_pack)
    pid = phone.pid(device)
    assert remove_everything(Here(), str(phone.home))
    assert not phone.home.exists()
    wait_until(lambda: ended(pid))
    assert not remove_everything(Here(), str(phone.home))


def test_cleaning_ends_a_daemon_that_was_stopped(phone: Phone, tiny_pack: BlockPack) -> None:
    _, session, pid = phone.open(tiny_pack)
    restored = phone.home.parent / "restored"
    (phone.home / "run" / "restore").write_text(f"sleep 0.3; echo yes > {restored}")
    os.kill(pid, signal.SIGSTOP)
    session.close()
    assert remove_everything(Here(), str(phone.home))
    assert ended(pid)
    assert restored.read_text() == "yes\n"
    assert not phone.home.exists()


def test_the_runner_of_this_computer_goes_with_its_device(tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    bundle_for("")
    device = connect("runner")
    assert isinstance(device, PhoneDevice)
    home, pid = Path(device.store.home), int(device.calls("info")["pid"])
    session = device.open(tiny_pack)
    del device
    session.activate(FAST)
    session.infer(pictures[:1])
    assert home.exists()
    del session
    wait_until(lambda: ended(pid) and not home.exists())


def test_nothing_is_removed_where_nothing_stays() -> None:
    assert not clean("local")
    assert not clean("runner:onnxruntime")


# Commands


def test_a_profile_is_made_and_run_by_way_of_the_runner(tiny_pack: BlockPack, labelled: Path, tmp_path: Path) -> None:
    bundle_for("")
    out = tmp_path / "profile.json"
    given = ("--device", "runner", "--data", labelled, *QUICK, "--out", out, "--verbose", "--cores", "any")
    result = call(profile_command, tiny_pack.path, *given)
    assert result.exit_code == 0, result.output
    assert f"runner runs on any core with 1 threads (runner {bundle_for('').version}, host)" in result.stderr
    assert json.loads(out.read_text())["device"]["address"] == "runner"
    result = call(run_command, tiny_pack.path, out, "--data", labelled, "--budget", "1000ms", "--count", "3", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["latency"]["median_ms"] < 1000
    # The runner decides by itself, with the pictures in turn: it answers nothing but how it is going.
    trace = tmp_path / "trace.jsonl"
    given = ("--data", labelled, "--budget", "1000ms", "--adapt", "--count", "50", "--trace", trace, "--json")
    result = call(run_command, tiny_pack.path, out, *given)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert sum(point["inferences"] for point in document["points"]) == document["inferences"] == 50
    assert document["answers"] == []
    assert document["page_in"]["bytes_in"] > 0
    assert [record.ms is not None for record in read_trace(trace)].count(True) == 50


def test_a_stream_on_a_phone_ends_with_its_summary_when_it_is_interrupted(
    tiny_pack: BlockPack, labelled: Path, tmp_path: Path
) -> None:
    bundle_for("")
    out = tmp_path / "profile.json"
    given = ("--device", "runner", "--data", labelled, *QUICK, "--out", out)
    assert call(profile_command, tiny_pack.path, *given).exit_code == 0
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program += "from adaptivenet.toolkit.cli.run import main; main()"
    command = [sys.executable, "-c", program, str(tiny_pack.path), str(out), "--data", str(labelled), "--adapt"]
    with subprocess.Popen(
        [*command, "--budget", "1000ms", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert any(line.startswith("run: ") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(said)["inferences"] > 0


def test_cleaning_needs_no_pack_and_everything_else_does() -> None:
    result = call(profile_command, "--device", "local", "--clean")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "there was nothing to remove from local" in result.stderr
    for given, missing in (((), "Missing argument 'PACK'"), (("pack",), "Missing option '--data'")):
        result = call(profile_command, *given)
        assert result.exit_code == 2
        assert missing in result.output


def test_cores_are_for_phones() -> None:
    with pytest.raises(DeviceError, match="local runs on the cores that this process has"):
        connect("local", cores="0")
