"""What a run leaves on disk: a checkpoint from which it goes on bit by bit, and logs that are one curve."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import TrainingError
from adaptivenet.toolkit.training.phases import Training
from adaptivenet.toolkit.training.train import train
from safetensors import safe_open
from safetensors.torch import save
from small_training import (
    LOCAL,
    SETTINGS,
    SUBNETS,
    Killed,
    Noise,
    assert_bit_exact,
    curves,
    killed_at,
    supernet,
    weights,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("steps", [(3,), (4,), (6,), (11,), (12,), (5, 9)])
def test_killed_and_resumed_is_the_same_as_uninterrupted(
    uninterrupted: Supernet, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    file = tmp_path / "deep" / "checkpoint"
    for step in steps:
        with pytest.raises(Killed):
            train(supernet(), Noise(), SETTINGS, checkpoint=file, progress=killed_at(step))
    net = supernet()
    first: list[int] = []
    result = train(
        net, Noise(), SETTINGS, checkpoint=file, progress=lambda phase, done, total, loss: first.append(done)
    )
    assert first[:1] == ([steps[-1] // 4 * 4 + 1] if steps[-1] < 12 else [])
    assert_bit_exact(net, uninterrupted)
    assert net.graph == uninterrupted.graph
    assert result.steps == 12
    assert all(result.losses["statistics"].values())


def test_resuming_with_the_very_object_that_was_killed(uninterrupted: Supernet, tmp_path: Path) -> None:
    net = supernet()
    with pytest.raises(Killed):
        train(net, Noise(), SETTINGS, checkpoint=tmp_path / "checkpoint", progress=killed_at(7))
    train(net, Noise(), SETTINGS, checkpoint=tmp_path / "checkpoint")
    assert_bit_exact(net, uninterrupted)


@pytest.mark.parametrize(
    ("net", "images", "settings"),
    [
        (0, Noise(), replace(SETTINGS, seed=1)),
        (0, Noise(), replace(SETTINGS, phases=(replace(LOCAL, steps=7), SUBNETS))),
        (0, Noise(count=11), SETTINGS),
        (0, Noise(seed=1), SETTINGS),
        (1, Noise(), SETTINGS),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, net: int, images: Noise, settings: Training) -> None:
    file = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train(supernet(), Noise(), SETTINGS, checkpoint=file, progress=killed_at(4))
    before = file.read_bytes()
    with pytest.raises(TrainingError, match="belongs to another supernet, other settings or other images"):
        train(supernet(net), images, settings, checkpoint=file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    file = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train(supernet(), Noise(), SETTINGS, checkpoint=file, progress=killed_at(4))
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(TrainingError, match=r"is damaged: .*; remove it to start over"):
        train(supernet(), Noise(), SETTINGS, checkpoint=file)


class SpoiltLater(Noise):
    """One image is NaN from the moment that `spoilt` is set."""

    spoilt = False

    def image(self, index: int) -> np.ndarray:
        image = super().image(index)
        return image * np.float32(np.nan) if self.spoilt and index == 3 else image


def test_a_nan_stops_the_run_and_leaves_the_checkpoint(uninterrupted: Supernet, tmp_path: Path) -> None:
    images, file, kept = SpoiltLater(), tmp_path / "checkpoint", []

    def progress(phase: str, done: int, total: int, loss: float) -> None:
        if done == 4:
            images.spoilt = True
            kept.append(file.read_bytes())

    with pytest.raises(TrainingError, match=r"the loss of .* is nan at step \d+.*holds the last good state"):
        train(supernet(), images, SETTINGS, checkpoint=file, progress=progress)
    assert [file.read_bytes()] == kept
    net = supernet()
    train(net, Noise(), SETTINGS, checkpoint=file)
    assert_bit_exact(net, uninterrupted)


def test_images_of_nan_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    images = Noise()
    images.images[:] = np.nan
    with pytest.raises(TrainingError, match="the input at cut 0 holds nan"):
        train(supernet(), images, SETTINGS, checkpoint=tmp_path / "checkpoint")
    assert not list(tmp_path.iterdir())


@contextmanager
def largest_file(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_checkpoint_before(uninterrupted: Supernet, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train(supernet(), Noise(), SETTINGS, checkpoint=file, progress=killed_at(4))
    before = file.read_bytes()
    message = r"cannot write the checkpoint .* at step 8: .*; the one before it is untouched"
    with pytest.raises(TrainingError, match=message), largest_file(len(before) // 2):
        train(supernet(), Noise(), SETTINGS, checkpoint=file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    net = supernet()
    train(net, Noise(), SETTINGS, checkpoint=file)
    assert_bit_exact(net, uninterrupted)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
def test_logs_on_a_full_disk_or_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"cannot write logs to .*; make room"), largest_file(2000):
        train(supernet(), Noise(), SETTINGS.lasting(40), logs=tmp_path / "logs")
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot write logs to .*file"):
        train(supernet(), Noise(), SETTINGS, logs=tmp_path / "file")


def test_pictures_are_varied_by_seed_and_step_alone(uninterrupted: Supernet, tmp_path: Path) -> None:
    settings = replace(SETTINGS, flip=True, shift=2)
    whole, parts, file = supernet(), supernet(), tmp_path / "checkpoint"
    train(whole, Noise(), settings)
    with pytest.raises(Killed):
        train(supernet(), Noise(), settings, checkpoint=file, progress=killed_at(9))
    train(parts, Noise(), replace(settings, loaders=5), checkpoint=file)
    assert_bit_exact(parts, whole)
    assert any(not torch.equal(*pair) for pair in zip(weights(whole).values(), weights(uninterrupted).values()))


def test_a_checkpoint_of_other_shapes_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train(supernet(), Noise(), SETTINGS, checkpoint=file, progress=killed_at(4))
    with safe_open(file, "pt") as stored:
        facts, held = stored.metadata(), {name: stored.get_tensor(name) for name in sorted(stored.keys())}
    name = next(name for name in reversed(held) if name.endswith("weight"))
    file.write_bytes(save({**held, name: torch.zeros(3)}, metadata=facts))
    net = supernet()
    before = weights(net)
    with pytest.raises(TrainingError, match=rf"does not fit: it has torch.float32 \(3,\) for {name}"):
        train(net, Noise(), SETTINGS, checkpoint=file)
    assert all(torch.equal(before[key], value) for key, value in weights(net).items())


def test_a_resumed_run_reads_each_tensor_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, read = tmp_path / "checkpoint", []

    @contextmanager
    def counted(path: Path, framework: str) -> Iterator[SimpleNamespace]:
        with safe_open(path, framework) as stored:

            def get_tensor(name: str) -> torch.Tensor:
                read.append(name)
                return stored.get_tensor(name)

            yield SimpleNamespace(metadata=stored.metadata, keys=stored.keys, get_tensor=get_tensor)

    with pytest.raises(Killed):
        train(supernet(), Noise(), SETTINGS, checkpoint=file, progress=killed_at(4))
    monkeypatch.setattr("adaptivenet.toolkit.training.checkpoint.safe_open", counted)
    train(supernet(), Noise(), SETTINGS, checkpoint=file)
    assert read
    assert len(read) == len(set(read))


def test_logs_of_a_resumed_run_are_one_curve(tmp_path: Path) -> None:
    told: dict[int, float] = {}

    def progress(kind: str, done: int, total: int, loss: float) -> None:
        told[done] = loss
        if done == 7 and not resumed:
            raise Killed

    for resumed in (False, True):
        with nullcontext() if resumed else pytest.raises(Killed):
            train(
                supernet(),
                Noise(),
                SETTINGS,
                checkpoint=tmp_path / "checkpoint",
                logs=tmp_path / "logs",
                progress=progress,
            )
    found = curves(tmp_path / "logs")
    assert len(found["learning rate"]) == 12
    assert found["loss/local"] + found["loss/subnets"] == pytest.approx([told[step] for step in range(1, 13)])
    assert len(found[f"block {supernet().alternatives()[0].name}"]) == 6


def test_logs_without_tensorboard_say_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match=r"pip install 'adaptivenet\[tensorboard\]'"):
        train(supernet(), Noise(), SETTINGS, logs=tmp_path / "logs")
