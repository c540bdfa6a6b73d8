"""Several workers train as one would; when one is killed, the others say so and the checkpoint is whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import TrainingError
from adaptivenet.toolkit.training.parallel import Workers
from adaptivenet.toolkit.training.phases import Phase, Training
from adaptivenet.toolkit.training.train import train
from small_training import Labelled, supernet, weights

TESTS = Path(__file__).parents[1]
PHASES = {
    "local": Phase("local", 5, 1e-3),
    "branch": Phase("branch", 5, 1e-3),
    "subnets": Phase("subnets", 5, 1e-3, subnets=2, features=0.5),
    "tune": Phase("tune", 5, 1e-3),
}
# Seven images a step do not divide by two; two workers see three and four.
SETTINGS = Training(
    tuple(PHASES.values()),
    batch_size=7,
    averaging=8,
    calibration_batches=2,
    checkpoint_every=5,
    flip=True,
    shift=1,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def one_worker(folder: Path, settings: Training, lacking: Sequence[str] = (), slow: bool = True) -> None:
    """What each process runs: writes the curve that the first one is told, and every worker's weights or error.

    Alternatives may be lacking on one of them, because it was too slow to make them or for another reason.
    """
    net, told = Supernet.load(folder / "supernet"), []
    net.become(net.without(lacking))
    net.left_out = dict.fromkeys(lacking if slow else (), "layer: it takes more than 300 s")
    rank = os.environ["RANK"]

    def progress(kind: str, done: int, total: int, loss: float) -> None:
        told.append((kind, loss))
        (folder / "step").write_text(str(done))

    try:
        train(net, Labelled(20), settings, checkpoint=folder / "checkpoint", progress=progress)
    except TrainingError as error:
        (folder / f"error{rank}").write_text(str(error))
        sys.exit(1)
    if told:
        (folder / "curve.json").write_text(json.dumps(told))
    torch.save(weights(net), folder / f"weights{rank}.pt")
    (folder / f"left_out{rank}").write_text(json.dumps(net.left_out))


def test_two_workers_have_the_curve_of_one(tmp_path: Path) -> None:
    supernet().save(tmp_path / "supernet")
    (tmp_path / "worker.py").write_text(
        f"import sys; sys.path[:0] = {[str(TESTS), str(TESTS / 'training')]!r}\n"
        f"from test_parallel import *; torch.set_num_threads(1); one_worker(Path({str(tmp_path)!r}), SETTINGS)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*command, str(tmp_path / "worker.py")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told: list[tuple[str, float]] = []
    alone = supernet()
    train(alone, Labelled(20), SETTINGS, progress=lambda kind, done, total, loss: told.append((kind, loss)))
    together = json.loads((tmp_path / "curve.json").read_text())
    assert [kind for kind, _ in together] == [kind for kind, _ in told] == [kind for kind in PHASES for _ in range(5)]
    assert [loss for _, loss in together] == pytest.approx([loss for _, loss in told], rel=1e-3)
    first, second = (torch.load(tmp_path / f"weights{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, tensor in weights(alone).items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name].float(), tensor.float(), atol=1e-3), name


def started(folder: Path, rank: int, port: int, *options: Any) -> None:
    place = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(1)
    one_worker(folder, *options)


@contextmanager
def two_workers(folder: Path, settings: Sequence[Training], *options: Sequence[Any]) -> Iterator[list[Any]]:
    """Two processes without torchrun, which would end the other one by itself when one is killed.

    What `one_worker` takes is given for each of them.
    """
    supernet().save(folder / "supernet")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["adaptivenet.toolkit.training.train", "torch._dynamo"])
    own = [[each[rank] for each in (settings, *options)] for rank in (0, 1)]
    processes = [context.Process(target=started, args=(folder, rank, port, *own[rank])) for rank in (0, 1)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def exit_codes(workers: Sequence[Any]) -> list[int]:
    for worker in workers:
        worker.join(timeout=100)
    return [worker.exitcode for worker in workers]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_other_and_leaves_the_checkpoint(tmp_path: Path, victim: int) -> None:
    with two_workers(tmp_path, [SETTINGS.lasting(10**6)] * 2) as workers:
        deadline = time.monotonic() + 100
        while not ((tmp_path / "step").exists() and int((tmp_path / "step").read_text() or 0) > 10):
            assert time.monotonic() < deadline
            assert all(worker.is_alive() for worker in workers)
            time.sleep(0.02)
        os.kill(workers[victim].pid, signal.SIGKILL)
        survivor = workers[1 - victim]
        survivor.join(timeout=60)
        assert survivor.exitcode == 1
    said = (tmp_path / f"error{1 - victim}").read_text()
    assert said.startswith("another worker failed or was killed (")
    assert said.endswith(f"start again with the same command; {tmp_path}/checkpoint holds the last good state")
    # One process goes on where two were stopped.
    first: list[int] = []

    def stop(kind: str, done: int, total: int, loss: float) -> None:
        first.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(supernet(), Labelled(20), SETTINGS.lasting(10**6), checkpoint=tmp_path / "checkpoint", progress=stop)
    assert first[0] > 10
    assert first[0] % SETTINGS.checkpoint_every == 1


def test_the_first_workers_clock_is_everybodys(tmp_path: Path) -> None:
    settings = replace(SETTINGS.lasting(10**6), max_minutes=0.1)
    with two_workers(tmp_path, [settings] * 2) as workers:
        assert exit_codes(workers) == [0, 0]
    first, second = (torch.load(tmp_path / f"weights{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads((tmp_path / "curve.json").read_text())


def test_workers_with_different_settings_are_refused_by_both(tmp_path: Path) -> None:
    with two_workers(tmp_path, [SETTINGS, SETTINGS.lasting(21)]) as workers:
        assert exit_codes(workers) == [1, 1]
    for rank in (0, 1):
        said = (tmp_path / f"error{rank}").read_text()
        assert "1 of 2 workers have other settings, weights or images than the first" in said


def test_what_one_worker_was_too_slow_to_make_is_left_out_by_both(tmp_path: Path) -> None:
    with two_workers(tmp_path, [SETTINGS] * 2, [("b01-p50",), ("b02-m2", "b01-p50")]) as workers:
        assert exit_codes(workers) == [0, 0]
    first, second = (torch.load(tmp_path / f"weights{rank}.pt", weights_only=True) for rank in (0, 1))
    assert {name.split(".")[1] for name in first} == set(supernet().blocks) - {"b01-p50", "b02-m2"}
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    of_first, of_second = (json.loads((tmp_path / f"left_out{rank}").read_text()) for rank in (0, 1))
    assert of_first.keys() == of_second.keys() == {"b01-p50", "b02-m2"}
    assert of_first["b02-m2"].endswith(": another worker left it out")


def test_workers_with_other_alternatives_for_another_reason_are_refused_by_both(tmp_path: Path) -> None:
    with two_workers(tmp_path, [SETTINGS] * 2, [("b01-p50",), ()], [False, False]) as workers:
        assert exit_codes(workers) == [1, 1]
    for rank in (0, 1):
        said = (tmp_path / f"error{rank}").read_text()
        assert "1 of 2 workers have other alternatives than the first: start all of them with the same command" in said


def test_every_image_of_a_batch_is_one_workers() -> None:
    for count in range(1, 30):
        for size in range(1, count + 1):
            parts = [Workers(rank, size).part(count) for rank in range(size)]
            assert [place for part in parts for place in part] == list(range(count))
            assert all(parts)
    with pytest.raises(TrainingError, match="batch_size is 2, and there are 3 workers: each needs an image a step"):
        Workers(0, 3).part(2)
