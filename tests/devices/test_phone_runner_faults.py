"""The C++ runner of this computer, driven as one on a phone: what goes wrong, what it leaves behind, the commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.cli.profile import main as profile_command
from adaptivenet.toolkit.cli.run import main as run_command
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.connect import clean, connect
from adaptivenet.toolkit.devices.phone.calls import Calls
from adaptivenet.toolkit.devices.phone.device import PhoneDevice, remove_everything
from adaptivenet.toolkit.devices.phone.here import Here
from adaptivenet.toolkit.devices.phone.push import Store
from adaptivenet.toolkit.errors import DeviceError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import Plan
from adaptivenet.toolkit.search import Evaluator
from adaptivenet.toolkit.serving.simulator import read_trace
from commands import QUICK, call
from runners import bundle_for, ended, wait_until
from wired import Phone, same_scores

FAST = ("b0-m2", "b2")


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
