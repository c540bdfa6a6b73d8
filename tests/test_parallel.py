"""Several workers train as one would; when one is killed, the others say so and the checkpoint is whole."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.elastic.parallel import Workers
from adaptivenet.toolkit.elastic.phases import Phase, Training
from adaptivenet.toolkit.elastic.train import train
from adaptivenet.toolkit.errors import TrainingError
from training import Labelled, supernet, weights

TESTS = Path(__file__).parent
PHASES = {
    "local": Phase("local", 5, 1e-3),
    "branch": Phase("branch", 5, 1e-3),
    "subnets": Phase("subnets", 5, 1e-3, subnets=2, features=0.5),
    "tune": Phase("tune", 5, 1e-3),
}
# Seven images a step do not divide by two; two workers see three and four.
SETTINGS = Training(tuple(PHASES.values()), batch_size=7, calibration_batches=2, checkpoint_every=5, flip=True, shift=1)

pytestmark = pytest.mark.usefixtures("one_thread")


def one_worker(folder: Path, settings: Training) -> None:
    """What each process runs: writes the curve that the first one is told, and every worker's weights."""
    net, told = Supernet.load(folder / "supernet"), []
    rank = os.environ["RANK"]

    def progress(kind: str, done: int, total: int, loss: float) -> None:
        told.append((kind, loss))
        (folder / "step").write_text(str(done))

    try:
        train(net, Labelled(), settings, checkpoint=folder / "checkpoint", progress=progress)
    except TrainingError as error:
        sys.exit(f"error: {error}")
    if told:
        (folder / "curve.json").write_text(json.dumps(told))
    torch.save(weights(net), folder / f"weights{rank}.pt")


def script(folder: Path, settings: str = "SETTINGS") -> list[str]:
    supernet().save(folder / "supernet")  # quicker to load than to make
    body = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from test_parallel import *; torch.set_num_threads(1)\n"
    (folder / "worker.py").write_text(f"{body}one_worker(Path({str(folder)!r}), {settings})\n")
    return [str(folder / "worker.py")]


def test_two_workers_have_the_curve_of_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*command, *script(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told: list[tuple[str, float]] = []
    alone = supernet()
    train(alone, Labelled(), SETTINGS, progress=lambda kind, done, total, loss: told.append((kind, loss)))
    together = json.loads((tmp_path / "curve.json").read_text())
    assert [kind for kind, _ in together] == [kind for kind, _ in told] == [kind for kind in PHASES for _ in range(5)]
    assert [loss for _, loss in together] == pytest.approx([loss for _, loss in told], rel=1e-3)
    first, second = (torch.load(tmp_path / f"weights{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, tensor in weights(alone).items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name].float(), tensor.float(), atol=1e-3), name


def start(folder: Path, rank: int, port: int, settings: str) -> subprocess.Popen[str]:
    """A worker without torchrun, which would end the others by itself when one is killed."""
    place = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
    return subprocess.Popen(
        [sys.executable, *script(folder, settings)], env=environment, stderr=subprocess.PIPE, text=True
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_other_and_leaves_the_checkpoint(tmp_path: Path, victim: int) -> None:
    port, settings = free_port(), "SETTINGS.lasting(10**6)"
    workers = [start(tmp_path, rank, port, settings) for rank in (0, 1)]
    try:
        deadline = time.monotonic() + 100
        while not ((tmp_path / "step").exists() and int((tmp_path / "step").read_text() or 0) > 10):
            assert time.monotonic() < deadline
            assert all(worker.poll() is None for worker in workers), [worker.communicate() for worker in workers]
            time.sleep(0.05)
        workers[victim].send_signal(signal.SIGKILL)
        _, said = workers[1 - victim].communicate(timeout=60)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert workers[1 - victim].returncode == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "another worker failed or was killed" in line
    assert line.endswith(f"start again with the same command; {tmp_path}/checkpoint holds the last good state")
    # One process goes on where two were stopped.
    first: list[int] = []

    def stop(kind: str, done: int, total: int, loss: float) -> None:
        first.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(supernet(), Labelled(), SETTINGS.lasting(10**6), checkpoint=tmp_path / "checkpoint", progress=stop)
    assert first[0] > 10
    assert first[0] % SETTINGS.checkpoint_every == 1


def test_workers_with_different_settings_are_refused_by_both(tmp_path: Path) -> None:
    port, said = free_port(), []
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
    workers = [start(tmp_path / str(rank), rank, port, f"SETTINGS.lasting({20 + rank})") for rank in (0, 1)]
    for worker in workers:
        said.append(worker.communicate(timeout=100)[1])
    assert [worker.returncode for worker in workers] == [1, 1]
    for text in said:
        assert "1 of 2 workers have other settings, weights or images than the first" in text


def test_every_image_of_a_batch_is_one_workers() -> None:
    for count in range(1, 30):
        for size in range(1, count + 1):
            parts = [Workers(rank, size).part(count) for rank in range(size)]
            assert [place for part in parts for place in part] == list(range(count))
            assert all(parts)
    with pytest.raises(TrainingError, match="batch_size is 2, and there are 3 workers: each needs an image a step"):
        Workers(0, 3).part(2)
