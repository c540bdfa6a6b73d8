"""Distillation: it learns, it leaves the teacher alone, and a run is a function of its seed, killed or not."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify
from adaptivenet.toolkit.elastic.distil import Distillation, distil
from adaptivenet.toolkit.errors import TrainingError
from torch import nn

SETTINGS = Distillation(local_steps=6, subnet_steps=6, batch_size=4, calibration_batches=2, checkpoint_every=4)


pytestmark = pytest.mark.usefixtures("one_thread")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn, self.conv2 = nn.Conv2d(8, 24, 3, padding=1), nn.BatchNorm2d(24), nn.Conv2d(24, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(x + self.conv2(nn.functional.relu(self.bn(self.conv1(x)))))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 5)
        self.blocks = nn.Sequential(Residual(), Residual(), Residual())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def supernet(seed: int = 0) -> Supernet:
    """A teacher whose batch norms know the images, as a trained one's do, with alternatives that are untrained."""
    torch.manual_seed(seed)
    model = Small()
    with torch.no_grad():
        model.head.weight.mul_(10)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        for index in range(10):
            model(torch.from_numpy(Noise().image(index)))
    return elastify(model.eval(), torch.zeros(1, 3, 12, 12))


class Noise:
    """Images of noise, always the same."""

    def __init__(self, count: int = 10, seed: int = 0) -> None:
        self.images = np.random.default_rng(seed).normal(size=(count, 1, 3, 12, 12)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]


class Killed(Exception):
    pass


def killed_at(step: int) -> Any:
    def progress(phase: str, done: int, total: int, loss: float) -> None:
        if done == step:
            raise Killed

    return progress


def weights(net: Supernet) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_bit_exact(actual: Supernet, expected: Supernet) -> None:
    mine, other = weights(actual), weights(expected)
    assert mine.keys() == other.keys()
    assert [name for name in mine if not torch.equal(mine[name], other[name])] == []


@pytest.fixture(scope="module")
def uninterrupted() -> Supernet:
    net = supernet()
    distil(net, Noise(), SETTINGS)
    return net


def test_losses_go_down_and_are_noted_on_the_graph() -> None:
    net = supernet()
    settings = replace(SETTINGS, local_steps=40, subnet_steps=0)
    result = distil(net, Noise(), settings)
    names = {block.name for block in net.alternatives()}
    assert result.before.keys() == result.after.keys() == names
    assert result.steps == 40
    trained = {block.name for block in net.alternatives() if block.kind != "skip"}
    assert all(result.after[name] < result.before[name] for name in trained)
    assert {block.name: block.loss for block in net.alternatives()} == result.after


def test_outputs_of_subnets_come_nearer_to_the_teacher() -> None:
    net = supernet()
    x = torch.from_numpy(np.concatenate([Noise().image(index) for index in range(10)]))

    def distance() -> float:
        """The divergence from the teacher's scores, over all subnets."""
        with torch.no_grad():
            teacher = net(x).log_softmax(1)
            student = [net(x, subnet).log_softmax(1) for subnet in net.graph.paths()]
        return sum(
            float(nn.functional.kl_div(scores, teacher, log_target=True, reduction="batchmean")) for scores in student
        )

    before = distance()
    distil(net, Noise(), replace(SETTINGS, local_steps=0, subnet_steps=60, cheapest=0.0))
    assert distance() < before


def test_the_teacher_is_not_changed(uninterrupted: Supernet) -> None:
    fresh, trained = weights(supernet()), weights(uninterrupted)
    originals = [name for name in fresh if name.split(".")[1] in uninterrupted.graph.oracle]
    assert originals
    assert all(torch.equal(fresh[name], trained[name]) for name in originals)
    assert all(
        not torch.equal(fresh[name], trained[name])
        for name in fresh
        if name.endswith("conv1.weight") and name not in originals
    )


def test_it_ends_in_eval_mode(uninterrupted: Supernet) -> None:
    assert not any(module.training for module in uninterrupted.modules())


def test_the_same_seed_gives_the_same_weights(uninterrupted: Supernet) -> None:
    torch.manual_seed(99)  # the global generator has no say
    again = supernet()
    distil(again, Noise(), SETTINGS)
    assert_bit_exact(again, uninterrupted)
    other = supernet()
    distil(other, Noise(), replace(SETTINGS, seed=1))
    assert any(not torch.equal(*pair) for pair in zip(weights(other).values(), weights(again).values()))


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    distil(supernet(), Noise(), SETTINGS, progress=lambda phase, done, total, loss: told.append((phase, done, total)))
    assert told == [("local" if step <= 6 else "subnets", step, 12) for step in range(1, 13)]


@pytest.mark.parametrize("steps", [(3,), (4,), (6,), (11,), (12,), (5, 9)])
def test_killed_and_resumed_is_the_same_as_uninterrupted(
    uninterrupted: Supernet, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    file = tmp_path / "deep" / "checkpoint"
    for step in steps:
        with pytest.raises(Killed):
            distil(supernet(), Noise(), SETTINGS, checkpoint=file, progress=killed_at(step))
    net = supernet()
    first: list[int] = []
    result = distil(
        net, Noise(), SETTINGS, checkpoint=file, progress=lambda phase, done, total, loss: first.append(done)
    )
    assert first[:1] == ([steps[-1] // 4 * 4 + 1] if steps[-1] < 12 else [])
    assert_bit_exact(net, uninterrupted)
    assert net.graph == uninterrupted.graph
    assert result.steps == 12
    assert all(result.before.values())


def test_resuming_with_the_very_object_that_was_killed(uninterrupted: Supernet, tmp_path: Path) -> None:
    net = supernet()
    with pytest.raises(Killed):
        distil(net, Noise(), SETTINGS, checkpoint=tmp_path / "checkpoint", progress=killed_at(7))
    distil(net, Noise(), SETTINGS, checkpoint=tmp_path / "checkpoint")
    assert_bit_exact(net, uninterrupted)


@pytest.mark.parametrize(
    ("net", "images", "settings"),
    [
        (0, Noise(), replace(SETTINGS, seed=1)),
        (0, Noise(), replace(SETTINGS, local_steps=7)),
        (0, Noise(count=11), SETTINGS),
        (0, Noise(seed=1), SETTINGS),
        (1, Noise(), SETTINGS),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, net: int, images: Noise, settings: Distillation
) -> None:
    file = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        distil(supernet(), Noise(), SETTINGS, checkpoint=file, progress=killed_at(4))
    before = file.read_bytes()
    with pytest.raises(TrainingError, match="belongs to another supernet, other settings or other images"):
        distil(supernet(net), images, settings, checkpoint=file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    file = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        distil(supernet(), Noise(), SETTINGS, checkpoint=file, progress=killed_at(4))
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(TrainingError, match=r"is damaged: .*; remove it to start over"):
        distil(supernet(), Noise(), SETTINGS, checkpoint=file)


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
        distil(supernet(), images, SETTINGS, checkpoint=file, progress=progress)
    assert [file.read_bytes()] == kept
    net = supernet()
    distil(net, Noise(), SETTINGS, checkpoint=file)
    assert_bit_exact(net, uninterrupted)


def test_images_of_nan_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    images = Noise()
    images.images[:] = np.nan
    with pytest.raises(TrainingError, match="the input at cut 0 holds nan"):
        distil(supernet(), images, SETTINGS, checkpoint=tmp_path / "checkpoint")
    assert not list(tmp_path.iterdir())


def test_a_learning_rate_that_explodes_is_never_noted_as_a_loss() -> None:
    net = supernet()
    with pytest.raises(TrainingError, match="lower the learning rate"):
        distil(net, Noise(), replace(SETTINGS, local_steps=1, subnet_steps=0, learning_rate=1e30))
    assert all(block.loss is None for block in net.alternatives())


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
        distil(supernet(), Noise(), SETTINGS, checkpoint=file, progress=killed_at(4))
    before = file.read_bytes()
    message = r"cannot write the checkpoint .* at step 8: .*; the one before it is untouched"
    with pytest.raises(TrainingError, match=message), largest_file(len(before) // 2):
        distil(supernet(), Noise(), SETTINGS, checkpoint=file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    net = supernet()
    distil(net, Noise(), SETTINGS, checkpoint=file)
    assert_bit_exact(net, uninterrupted)


def test_nothing_to_train_and_nothing_to_train_on() -> None:
    with pytest.raises(TrainingError, match="there are no images"):
        distil(supernet(), Noise(count=0), SETTINGS)
    torch.manual_seed(0)
    rigid = elastify(Small().eval(), torch.zeros(1, 3, 12, 12), kinds=[])
    with pytest.raises(TrainingError, match="no alternatives to train"):
        distil(rigid, Noise(), SETTINGS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("checkpoint_every", 0), ("local_steps", -1), ("learning_rate", math.nan), ("cheapest", -0.1)],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(TrainingError, match=f"{name} is {value}; it must be at least"):
        replace(SETTINGS, **{name: value})


def test_no_steps_at_all_only_recalibrate() -> None:
    result = distil(supernet(), Noise(), replace(SETTINGS, local_steps=0, subnet_steps=0))
    assert result.steps == 0
    assert result.before == result.after
