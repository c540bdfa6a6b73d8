"""Commands in processes of their own, where standard streams are closed or full and signals come: no work is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.cli.profile import main as profile
from adaptivenet.toolkit.pack.pack import BlockPack
from commands import QUICK, call, error_of

COMMAND = [sys.executable, "-m", "adaptivenet.toolkit.cli.profile"]


@pytest.fixture
def asked(broken: BlockPack, labelled: Path) -> list[str]:
    """A quick profile of a pack, up to the options that say where to write."""
    return [*COMMAND, str(broken.path), "--device", "local:onnxruntime", "--data", str(labelled), *QUICK]


def shell(command: list[str], redirections: str, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command, run by a shell that redirects its streams."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$@" {redirections}', "bash", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=200,
        **options,
    )


def assert_whole(path: Path) -> None:
    assert json.loads(path.read_text())["format"] == "adaptivenet-profile"
    assert not Path(f"{path}.journal").exists()


@pytest.mark.parametrize("redirections", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_cost_nothing(redirections: str, asked: list[str], tmp_path: Path) -> None:
    done = shell([*asked, "--out", "profile.json", "--report", "report.html"], redirections, tmp_path)
    assert done.returncode == 0, done.stderr
    assert_whole(tmp_path / "profile.json")
    assert (tmp_path / "report.html").read_text().endswith("</html>\n")


@pytest.mark.parametrize(
    ("redirections", "reason"), [(">/dev/full", "No space left on device"), ("| true", "Broken pipe")]
)
def test_output_that_cannot_be_written_is_one_line_after_the_files(
    redirections: str, reason: str, asked: list[str], tmp_path: Path
) -> None:
    done = shell([*asked, "--out", "profile.json", "--report", "report.html"], redirections, tmp_path)
    assert done.returncode == 1
    *said, last = done.stderr.splitlines()
    assert last == f"error: the result cannot be written to standard output: {reason}"
    assert said[-1] == "report written to report.html"
    assert_whole(tmp_path / "profile.json")


def test_a_profile_that_would_be_lost_is_refused_before(asked: list[str], tmp_path: Path) -> None:
    done = shell(asked, ">&-", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: standard output is closed, and the profile would be lost: give --out FILE\n"


def test_a_full_disk_leaves_what_was_measured(asked: list[str], tmp_path: Path) -> None:
    done = shell([*asked, "--out", "/dev/full"], "", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: the profile cannot be written to /dev/full: No space left on device"
    )
    assert "measured ms" in done.stdout
    assert not Path("/dev/full.journal").exists()


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_profile_on_standard_output_is_all_that_is_there(name: str, asked: list[str], tmp_path: Path) -> None:
    done = shell([*asked, "--out", name, "--report", "report.html"], ">out.json", tmp_path)
    assert done.returncode == 0, done.stderr
    assert_whole(tmp_path / "out.json")
    done = shell([*COMMAND, "out.json", "--report", "-"], "", tmp_path)
    assert done.stdout == (tmp_path / "report.html").read_text()


def test_devices_and_pipes_take_a_profile(asked: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = shell([*asked, "--out", "pipe", "--report", "/dev/null"], "& cat pipe >got.json; wait $!", tmp_path)
    assert done.returncode == 0, done.stderr
    assert_whole(tmp_path / "got.json")
    assert (tmp_path / "pipe").is_fifo()
    assert Path("/dev/null").is_char_device()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "got.json", "pipe"]


def test_a_stream_has_no_journal_to_go_on_with(asked: list[str], tmp_path: Path) -> None:
    done = shell([*asked, "--out", "-", "--resume"], "", tmp_path)
    assert done.returncode == 2
    assert "--resume needs --out with a file" in done.stderr


def test_no_home(asked: list[str], tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "TMPDIR", "USER")}
    done = shell([*asked, "--out", "profile.json"], "", tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert_whole(tmp_path / "profile.json")


def heed_signals() -> None:
    """As in a terminal, also where the tests themselves run under nohup or in the background."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def started(asked: list[str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a long profile, and waits until it has noted a first answer."""
    running: list[subprocess.Popen[str]] = []

    def start(*before: str) -> subprocess.Popen[str]:
        longer = ("--rounds", "200", "--evaluations", "100000", "--out", "profile.json")
        running.append(
            subprocess.Popen(
                [*before, *asked, *longer],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=heed_signals,
            )
        )
        journal = tmp_path / "profile.json.journal"
        while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
            assert running[0].poll() is None, running[0].communicate()
            time.sleep(0.02)
        return running[0]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_one_line_and_keeps_the_work(
    number: signal.Signals, started: Callable[..., subprocess.Popen[str]], asked: list[str], tmp_path: Path
) -> None:
    process = started()
    process.send_signal(number)
    if number == signal.SIGHUP:
        process.send_signal(number)  # the kernel sends one, and the shell another
    said, error = process.communicate(timeout=100)
    assert (process.returncode, said) == (1, "")
    assert error.splitlines()[-1] == (
        "error: interrupted; what was measured is kept in profile.json.journal: --resume goes on with it"
    )
    assert "Traceback" not in error
    kept = (tmp_path / "profile.json.journal").read_text()
    done = shell([*asked, "--out", "profile.json", "--resume"], "", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on with profile.json.journal" in done.stderr
    assert len(kept.splitlines()) >= 2
    assert_whole(tmp_path / "profile.json")


def test_a_hangup_that_is_ignored_stays_ignored(started: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = started("nohup")
    process.send_signal(signal.SIGHUP)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    assert_whole(tmp_path / "profile.json")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_few_characters_costs_no_result(encoding: str, asked: list[str], tmp_path: Path) -> None:
    done = shell(asked, "", tmp_path, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert "measured ms" in done.stdout


def test_a_command_works_in_a_thread(broken: BlockPack, labelled: Path) -> None:
    codes: list[object] = []

    def run() -> None:
        try:
            profile.main([str(broken.path), "--device", "local:onnxruntime", "--data", str(labelled), "--dry-run"])
        except SystemExit as ended:
            codes.append(ended.code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StopIteration(), "a next value was asked for where there was none"),
        (MemoryError("Unable to allocate 23 GiB"), "there is too little memory (Unable to allocate 23 GiB)"),
        (OSError(28, "No space left on device", "/tmp/x"), "/tmp/x: No space left on device"),
    ],
)
def test_what_the_system_or_a_reader_raises_is_one_line(
    error: Exception, message: str, broken: BlockPack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from adaptivenet.toolkit.data import Dataset

    def fail(self: Dataset, index: int) -> None:
        raise error

    np.savez(tmp_path / "data.npz", images=np.zeros((12, 3, 16, 16), np.float32))
    monkeypatch.setattr(Dataset, "image", fail)
    asked = (broken.path, "--device", "local:onnxruntime", "--data", tmp_path / "data.npz", *QUICK)
    assert message in error_of(call(profile, *asked))


INTERRUPTED_WHILE_IT_IMPORTS = """
import os, sys
from importlib import import_module
module, function, at, number, *sys.argv[1:] = sys.argv[1:]

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == at:
            try:
                os.kill(os.getpid(), int(number))
            except KeyboardInterrupt:  # as a library may
                raise ImportError(f"no {at}") from None

start = getattr(import_module(module), function)
sys.meta_path.insert(0, Interrupting())
start()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("entry", "at"),
    [
        ("toolkit.cli.start:elastify", "click"),
        ("toolkit.cli.start:profile", "adaptivenet.toolkit.cli.console"),
        ("toolkit.cli.start:run", "click"),
        ("export.start:main", "adaptivenet.toolkit.errors"),
        ("android_runner.start:main", "click"),
    ],
)
def test_a_command_that_is_interrupted_while_it_starts_says_so(entry: str, at: str, number: signal.Signals) -> None:
    module, _, function = entry.partition(":")
    given = [f"adaptivenet.{module}", function, at, str(int(number)), "--help"]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_IT_IMPORTS, *given],
        capture_output=True, text=True, timeout=60, check=False, preexec_fn=heed_signals,
    )  # fmt: skip
    assert (done.returncode, done.stderr, done.stdout) == (1, "error: interrupted\n", "")
