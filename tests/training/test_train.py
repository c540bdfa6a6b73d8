"""Training: it learns, it leaves the teacher alone, and a run is a function of its seed and settings."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify
from adaptivenet.toolkit.elastic.supernet import readable
from adaptivenet.toolkit.errors import TrainingError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut
from adaptivenet.toolkit.training.batches import Batch
from adaptivenet.toolkit.training.objective import Objective
from adaptivenet.toolkit.training.phases import STEPS, Phase
from adaptivenet.toolkit.training.precision import faster_precision
from adaptivenet.toolkit.training.train import train
from small_training import (
    LOCAL,
    SETTINGS,
    SUBNETS,
    Killed,
    Labelled,
    Noise,
    Small,
    assert_bit_exact,
    curves,
    killed_at,
    supernet,
    weights,
)
from torch import nn

BRANCH, TUNE = Phase("branch", 6, 1e-3), Phase("tune", 6, 2e-4)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_losses_go_down_and_are_noted_on_the_graph() -> None:
    net = supernet()
    settings = replace(SETTINGS, phases=(replace(LOCAL, steps=40),))
    result = train(net, Noise(), settings)
    names = {block.name for block in net.alternatives()}
    assert list(result.losses) == ["weights", *STEPS, "trained"]
    assert all(losses.keys() == names for losses in result.losses.values())
    assert result.steps == 40
    assert all(result.losses["trained"][name] < result.losses["fit"][name] for name in names)
    assert {block.name: block.loss for block in net.alternatives()} == result.losses["trained"]


@pytest.mark.parametrize("sampling", ["front", "cost"])
def test_outputs_of_subnets_come_nearer_to_the_teacher(sampling: str) -> None:
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
    train(net, Noise(), replace(SETTINGS, phases=(replace(SUBNETS, steps=60),), sampling=sampling, cheapest=0.0))
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
    train(again, Noise(), SETTINGS)
    assert_bit_exact(again, uninterrupted)
    other = supernet()
    train(other, Noise(), replace(SETTINGS, seed=1))
    assert any(not torch.equal(*pair) for pair in zip(weights(other).values(), weights(again).values()))


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    train(supernet(), Noise(), SETTINGS, progress=lambda phase, done, total, loss: told.append((phase, done, total)))
    assert told == [("local" if step <= 6 else "subnets", step, 12) for step in range(1, 13)]


def test_a_learning_rate_that_explodes_is_never_noted_as_a_loss() -> None:
    net = supernet()
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(net, Noise(), replace(SETTINGS, phases=(Phase("local", 1, 1e30),)))
    assert all(block.loss is None for block in net.alternatives())


def test_nothing_to_train_and_nothing_to_train_on() -> None:
    with pytest.raises(TrainingError, match="there are no images"):
        train(supernet(), Noise(count=0), SETTINGS)
    torch.manual_seed(0)
    rigid = elastify(Small().eval(), torch.zeros(1, 3, 12, 12), kinds=[])
    with pytest.raises(TrainingError, match="no alternatives to train"):
        train(rigid, Noise(), SETTINGS)


def test_no_steps_at_all_only_initialise() -> None:
    result = train(supernet(), Noise(), replace(SETTINGS, phases=()))
    assert result.steps == 0
    assert result.losses["trained"] == pytest.approx(result.losses["fit"])
    result = train(supernet(), Noise(), replace(SETTINGS, phases=(), initialise=("statistics",)))
    assert list(result.losses) == ["weights", "statistics", "trained"]


@pytest.mark.parametrize("phase", [BRANCH, TUNE, replace(SUBNETS, subnets=1)], ids=lambda phase: phase.kind)
@pytest.mark.parametrize("sampling", ["cost", "walk"])
def test_every_kind_of_phase_learns(phase: Phase, sampling: str) -> None:
    """The mean loss of the last steps is below that of the first ones; a step's own loss depends on its subnet."""
    curve: list[float] = []
    settings = replace(SETTINGS, phases=(replace(phase, steps=60, learning_rate=2e-3),), sampling=sampling)
    train(supernet(), Labelled(), settings, progress=lambda kind, done, total, loss: curve.append(loss))
    assert np.mean(curve[-20:]) < np.mean(curve[:20])


def test_a_branch_loss_is_that_of_the_features_behind_the_alternatives() -> None:
    net, told = supernet(), []
    settings = replace(SETTINGS, phases=(Phase("branch", 1, 0.0),), calibration_batches=1, sampling="walk")
    train(net, Noise(4), settings, progress=lambda kind, done, total, loss: told.append(loss))
    x = torch.from_numpy(Noise(4).images[:, 0])
    features = net.features(x)
    expected = []
    for subnet in net.graph.paths():
        at, errors = x, []
        for name in subnet:
            at, block = net.blocks[name](at).detach(), net.graph[name]
            if block.kind != "original":
                errors.append(float((at - features[block.end]).square().mean() / features[block.end].var()))
        if errors:
            expected.append(np.mean(errors))
    assert min(abs(told[0] - value) for value in expected) < 1e-4 * told[0]


def test_tuning_needs_labels_of_the_network() -> None:
    settings = replace(SETTINGS, phases=(TUNE,))
    with pytest.raises(TrainingError, match="tunes with labels, and the data set has none"):
        train(supernet(), Noise(), settings)
    with pytest.raises(TrainingError, match=r"labels go from \d+ to 104, and the network's output has shape \(4, 5\)"):
        train(supernet(), Labelled(add=100), settings)


def test_images_that_do_not_fit_are_named() -> None:
    images = Noise()
    images.images = [*images.images]
    images.images[3] = np.zeros((1, 3, 12, 10), np.float32)
    with pytest.raises(TrainingError, match=r"image \d+ is float32 of shape .*a batch needs"):
        train(supernet(), images, SETTINGS)
    images.images = np.zeros((10, 1, 4, 12, 12), np.float32)
    with pytest.raises(TrainingError, match=r"have shape \(1, 4, 12, 12\), and the network reads \(1, 3, 12, 12\)"):
        train(supernet(), images, SETTINGS)
    prepared: list[str] = []
    with pytest.raises(TrainingError, match="cannot be flipped or shifted by 12 pixels"):
        train(supernet(), Noise(), replace(SETTINGS, shift=12), preparing=lambda what, *_: prepared.append(what))
    assert not prepared


def test_a_gradient_is_clipped_block_by_block() -> None:
    free, clipped = supernet(), supernet()
    settings = replace(SETTINGS, phases=(Phase("local", 1, 1e-3),), initialise=())
    train(free, Noise(), settings)
    train(clipped, Noise(), replace(settings, gradient_clip=1e-12))
    start = weights(supernet())

    def moved(net: Supernet) -> float:
        return sum(float((start[k] - v).abs().sum()) for k, v in weights(net).items() if k.endswith("conv1.weight"))

    assert moved(clipped) < 0.01 * moved(free)  # Adam takes steps of one size, unless gradients are below its epsilon


def test_skips_without_parameters_are_not_trained() -> None:
    net = supernet()
    skip = Block("s", 1, 2, "skip")
    skipping = Supernet(
        BlockGraph(net.graph.cuts, [*(net.graph[name] for name in net.graph.oracle), skip]),
        {**{name: net.blocks[name] for name in net.graph.oracle}, "s": nn.Identity()},
    )
    with pytest.raises(TrainingError, match="no block beside the original ones has parameters"):
        train(skipping, Noise(), SETTINGS)
    both = Supernet(
        BlockGraph(net.graph.cuts, [*net.graph.blocks, skip]), {**dict(net.blocks.items()), "s": nn.Identity()}
    )
    result = train(both, Labelled(), replace(SETTINGS, phases=(LOCAL, SUBNETS, BRANCH, TUNE), sampling="walk"))
    assert result.losses["trained"]["s"] == result.losses["statistics"]["s"] > 0


def test_bfloat16_trains_float32_weights_nearly_as_well(uninterrupted: Supernet) -> None:
    net = supernet()
    result = train(net, Noise(), replace(SETTINGS, precision="bfloat16"))
    assert {tensor.dtype for tensor in net.parameters()} == {torch.float32}
    for block in uninterrupted.alternatives():
        assert block.loss is not None
        assert result.losses["trained"][block.name] == pytest.approx(block.loss, rel=0.1)


@pytest.mark.parametrize(("slower", "expected"), [("bfloat16", "float32"), ("float32", "bfloat16"), ("", "float32")])
def test_the_precision_auto_is_the_faster_one_and_stays_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slower: str, expected: str
) -> None:
    """By a clock on which steps of one precision take twice as long as those of the other, or all the same."""
    clock = [0.0]
    losses = Objective.losses

    def slowed(self: Objective, phase: Phase, batch: Batch, step: int) -> Iterator[tuple[str, torch.Tensor, float]]:
        clock[0] += 2.0 if self._training.precision == slower else 1.0
        return losses(self, phase, batch, step)

    settings = replace(SETTINGS, precision="auto")
    monkeypatch.setattr("adaptivenet.toolkit.training.precision.time.perf_counter", lambda: clock[0])
    with monkeypatch.context() as timed:
        timed.setattr(Objective, "losses", slowed)
        with pytest.raises(Killed):
            train(supernet(), Noise(), settings, checkpoint=tmp_path / "checkpoint", progress=killed_at(5))
    net, plain = supernet(), supernet()
    assert train(net, Noise(), settings, checkpoint=tmp_path / "checkpoint").precision == expected
    train(plain, Noise(), replace(settings, precision=expected))
    assert_bit_exact(net, plain)


@pytest.mark.parametrize(
    ("times_as_long", "seconds", "rounds"),
    [
        (3.0, math.inf, (1, 1)),
        (1.5, math.inf, (3, 3)),
        (0.2, math.inf, (3, 3)),
        (0.2, 2.2, (2, 2)),
        (0.2, 1.1, (1, 1)),
        (0.2, 0.9, (1, 0)),
    ],
)
def test_steps_are_timed_while_they_tell_something_and_there_is_time(
    monkeypatch: pytest.MonkeyPatch, times_as_long: float, seconds: float, rounds: tuple[int, int]
) -> None:
    clock, timed = [0.0], Counter[str]()

    class Clocked:
        def __init__(self, precision: str) -> None:
            self.precision = precision

        def losses(self, phase: Phase, batch: Batch, step: int) -> Iterator[tuple[str, torch.Tensor, float]]:
            timed[self.precision] += 1
            clock[0] += times_as_long if self.precision == "bfloat16" else 1.0
            yield "block", torch.zeros(()), 1.0

    monkeypatch.setattr("adaptivenet.toolkit.training.precision.time.perf_counter", lambda: clock[0])
    found = faster_precision({name: Clocked(name) for name in ("float32", "bfloat16")}, torch.zeros(1), seconds)
    assert found == ("bfloat16" if times_as_long < 0.9 and seconds > 1.2 else "float32")
    assert (timed["float32"], timed["bfloat16"]) == rounds


class Refusing(nn.Module):
    """A convolution, and an operation behind it that fails where that gives bfloat16."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        match self.operation:
            case "complex":
                return torch.complex(y, y).abs()
            case "index_add":
                return x.float().index_add(1, torch.arange(8), y)
            case "nan":
                return y if y.dtype == torch.float32 else y * torch.nan
            case _:
                return y


@pytest.mark.parametrize("operation", ["conv", "complex", "index_add", "nan"])
def test_where_bfloat16_does_not_work_the_precision_auto_is_float32(
    monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    for limit in ("_WORTH", "_HOPELESS"):
        monkeypatch.setattr(f"adaptivenet.toolkit.training.precision.{limit}", math.inf)  # bfloat16, where it works
    cuts = [Cut(0, (1, 3, 12, 12)), Cut(1, (1, 8, 12, 12)), Cut(2, (1, 8, 12, 12))]
    blocks = [
        Block("b0", 0, 1, "original", params=32, macs=9),
        Block("b1", 1, 2, "original", params=72, macs=9),
        Block("b1-x", 1, 2, "pruned", params=72, macs=5),
    ]
    modules = {"b0": nn.Conv2d(3, 8, 1), "b1": Refusing("conv"), "b1-x": Refusing(operation)}
    net = Supernet(BlockGraph(cuts, blocks), modules)
    settings = replace(SETTINGS, precision="auto", initialise=())
    assert train(net, Noise(), settings).precision == ("bfloat16" if operation == "conv" else "float32")


def test_the_minutes_are_kept_with_the_schedule_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more steps than there is time for: both phases run, and the learning rate comes down all the same.

    The clock goes on by 10 ms whenever it is looked at, however busy the computer is.
    """
    ticks = itertools.count()
    monkeypatch.setattr("adaptivenet.toolkit.training.train.time.monotonic", lambda: next(ticks) / 100)
    settings = replace(SETTINGS.lasting(10**6), max_minutes=0.05, checkpoint_every=10**6)
    told: list[str] = []
    began = time.monotonic()
    result = train(
        supernet(),
        Noise(),
        settings,
        checkpoint=tmp_path / "checkpoint",
        logs=tmp_path / "logs",
        progress=lambda kind, done, total, loss: told.append(kind),
    )
    assert 0 < result.seconds <= time.monotonic() - began
    assert result.planned == 10**6
    assert result.steps == len(told) < 10**6
    assert sorted(set(told)) == ["local", "subnets"]
    assert told == sorted(told)
    rates = curves(tmp_path / "logs")["learning rate"]
    assert rates[0] > 0.9 * LOCAL.learning_rate
    assert 0 <= rates[-1] < 0.3 * SUBNETS.learning_rate
    # The time is used up, and the checkpoint knows it.
    again = train(supernet(), Noise(), settings, checkpoint=tmp_path / "checkpoint")
    assert again.steps == result.steps


def test_what_follows_the_steps_has_its_share_of_the_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 5 s: the one that would end after 60 s, counting a half for the losses at the end, is not begun."""
    clock = [0.0]
    monkeypatch.setattr("adaptivenet.toolkit.training.train.time.monotonic", lambda: clock[0])

    def progress(kind: str, done: int, total: int, loss: float) -> None:
        clock[0] += 5

    result = train(supernet(), Noise(), replace(SETTINGS.lasting(1000), max_minutes=1.0), progress=progress)
    assert (result.steps, result.seconds, result.planned) == (11, 55, 1000)


def test_few_minutes_are_not_spent_on_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that take long to read: one batch of them is enough, and no block is initialised."""
    clock, told = [0.0], []
    monkeypatch.setattr("adaptivenet.toolkit.training.train.time.monotonic", lambda: clock[0])

    def preparing(what: str, done: int, total: int) -> None:
        told.append((what, done))
        clock[0] += 30

    result = train(supernet(), Noise(), replace(SETTINGS, max_minutes=1.0), preparing=preparing)
    alternatives = len(supernet().alternatives())
    assert told == [("reading pictures", 1), *(("initialising", done + 1) for done in range(alternatives))]
    assert result.losses["fit"] == result.losses["weights"]
    assert result.steps == 0


def test_what_cannot_be_written_or_held_is_refused_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def never(what: str, done: int, total: int) -> None:
        raise AssertionError(what)

    for changes, message in (
        ({"checkpoint": tmp_path / "file" / "checkpoint"}, r"a checkpoint cannot be written to .*; name another file"),
        ({"checkpoint": tmp_path}, r"a checkpoint cannot be written to .*: it is a folder; name another file"),
        ({"logs": tmp_path / "file"}, r"cannot write logs to .*; name another folder, or train without them"),
        (
            {"training": replace(SETTINGS, batch_size=10**10)},
            r"batch_size is 10000000000, which needs at least \d+.\d GB of memory, and cpu has .* GB: at most",
        ),
    ):
        settings = {"training": SETTINGS, **changes}
        with pytest.raises(TrainingError, match=message):
            train(supernet(), Noise(), preparing=never, **settings)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_minutes_that_are_never_reached_change_nothing(uninterrupted: Supernet) -> None:
    net = supernet()
    train(net, Noise(), replace(SETTINGS, max_minutes=1000))
    assert_bit_exact(net, uninterrupted)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(TrainingError, match="device is 'tpu'; known are auto, cpu, cuda"):
        train(supernet(), Noise(), SETTINGS, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match=r"cuda:0 was asked for and torch .* sees 0 of them"):
            train(supernet(), Noise(), SETTINGS, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_it_learns_the_same(uninterrupted: Supernet, precision: str) -> None:
    net = supernet()
    result = train(net, Noise(), replace(SETTINGS, precision=precision), device="cuda")
    assert {tensor.device.type for tensor in net.parameters()} == {"cpu"}
    for block in uninterrupted.alternatives():
        assert result.losses["trained"][block.name] == pytest.approx(block.loss, rel=0.1)


def test_a_group_norm_never_reads_a_frozen_feature_while_it_trains() -> None:
    """Torch crashes there, and takes the process with it, so the crash itself cannot be provoked here."""
    norm, feature = nn.Sequential(nn.GroupNorm(1, 8), nn.Conv2d(8, 8, 1)), torch.zeros(1, 8, 4, 4)
    given = readable(norm, feature)
    assert given.requires_grad
    assert not feature.requires_grad
    with torch.no_grad():
        assert readable(norm, feature) is feature
    assert readable(nn.Conv2d(8, 8, 1), feature) is feature
    assert readable(norm.requires_grad_(False), feature) is feature
