"""Training: it learns, it leaves the teacher alone, and a run is a function of its seed, killed or not."""

from __future__ import annotations

import math
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify
from adaptivenet.toolkit.elastic.batches import shifted
from adaptivenet.toolkit.elastic.phases import Phase, Training
from adaptivenet.toolkit.elastic.subnet_draws import SubnetDraws
from adaptivenet.toolkit.elastic.supernet import readable
from adaptivenet.toolkit.elastic.train import train
from adaptivenet.toolkit.errors import TrainingError
from adaptivenet.toolkit.graph import Block, BlockGraph
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save
from torch import nn
from training import Labelled, Noise, Small, curves, supernet, weights

LOCAL, SUBNETS = Phase("local", 6, 1e-3), Phase("subnets", 6, 2e-4, subnets=2, features=0.5)
BRANCH, TUNE = Phase("branch", 6, 1e-3), Phase("tune", 6, 2e-4)
SETTINGS = Training((LOCAL, SUBNETS), batch_size=4, calibration_batches=2, checkpoint_every=4)


pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(Exception):
    pass


def killed_at(step: int) -> Any:
    def progress(phase: str, done: int, total: int, loss: float) -> None:
        if done == step:
            raise Killed

    return progress


def assert_bit_exact(actual: Supernet, expected: Supernet) -> None:
    mine, other = weights(actual), weights(expected)
    assert mine.keys() == other.keys()
    assert [name for name in mine if not torch.equal(mine[name], other[name])] == []


@pytest.fixture(scope="module")
def uninterrupted() -> Supernet:
    net = supernet()
    train(net, Noise(), SETTINGS)
    return net


def test_losses_go_down_and_are_noted_on_the_graph() -> None:
    net = supernet()
    settings = replace(SETTINGS, phases=(replace(LOCAL, steps=40),))
    result = train(net, Noise(), settings)
    names = {block.name for block in net.alternatives()}
    assert list(result.losses) == ["weights", "statistics", "fit", "trained"]
    assert all(losses.keys() == names for losses in result.losses.values())
    assert result.steps == 40
    assert all(result.losses["trained"][name] < result.losses["fit"][name] for name in names)
    assert {block.name: block.loss for block in net.alternatives()} == result.losses["trained"]


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
    train(net, Noise(), replace(SETTINGS, phases=(replace(SUBNETS, steps=60),), cheapest=0.0))
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


def test_a_learning_rate_that_explodes_is_never_noted_as_a_loss() -> None:
    net = supernet()
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(net, Noise(), replace(SETTINGS, phases=(Phase("local", 1, 1e30),)))
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


def test_nothing_to_train_and_nothing_to_train_on() -> None:
    with pytest.raises(TrainingError, match="there are no images"):
        train(supernet(), Noise(count=0), SETTINGS)
    torch.manual_seed(0)
    rigid = elastify(Small().eval(), torch.zeros(1, 3, 12, 12), kinds=[])
    with pytest.raises(TrainingError, match="no alternatives to train"):
        train(rigid, Noise(), SETTINGS)


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("checkpoint_every", 0), ("loaders", 0), ("cheapest", -0.1), ("shift", -1)]
)
def test_settings_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(TrainingError, match=f"{name} is {value}; it must be at least"):
        replace(SETTINGS, **{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "locl"}, "the kind of a phase is 'locl'; known are local, branch, subnets, tune"),
        ({"steps": -1}, "steps is -1; it must be at least 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan; it must be at least 0"),
        ({"subnets": 0}, "subnets is 0; it must be at least 1"),
    ],
)
def test_phases_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(LOCAL, **change)


@pytest.mark.parametrize("change", [{"gradient_clip": 0.0}, {"max_minutes": math.nan}, {"max_minutes": -1.0}])
def test_limits_are_above_zero(change: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match=r"is (0.0|nan|-1.0); it must be above 0"):
        replace(SETTINGS, **change)


def test_no_steps_at_all_only_initialise() -> None:
    result = train(supernet(), Noise(), replace(SETTINGS, phases=()))
    assert result.steps == 0
    assert result.losses["trained"] == pytest.approx(result.losses["fit"])
    result = train(supernet(), Noise(), replace(SETTINGS, phases=(), initialise=("statistics",)))
    assert list(result.losses) == ["weights", "statistics", "trained"]


@given(steps=st.integers(0, 5000), parts=st.lists(st.integers(0, 300), min_size=1, max_size=4).filter(any))
def test_steps_are_divided_in_the_recipes_proportions(steps: int, parts: list[int]) -> None:
    training = Training(tuple(Phase("local", part, 1e-3) for part in parts))
    found = training.lasting(steps)
    assert found.steps == steps
    for phase, part in zip(found.phases, parts):
        assert abs(phase.steps - steps * part / sum(parts)) < 1


@given(parts=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any))
def test_every_phase_begins_at_its_rate_and_falls_towards_nothing(parts: list[int]) -> None:
    training = Training(tuple(Phase("local", part, number + 1.0) for number, part in enumerate(parts)))
    rates = [training.at(step) for step in range(training.steps)]
    for phase in training.phases:
        own = [rate for at, rate in rates if at is phase]
        assert len(own) == phase.steps
        assert own == sorted(own, reverse=True)
        assert own[:1] == [phase.learning_rate][: phase.steps]
    with pytest.raises(IndexError):
        training.at(training.steps)


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


def test_pictures_are_varied_by_seed_and_step_alone(uninterrupted: Supernet, tmp_path: Path) -> None:
    settings = replace(SETTINGS, flip=True, shift=2)
    whole, parts, file = supernet(), supernet(), tmp_path / "checkpoint"
    train(whole, Noise(), settings)
    with pytest.raises(Killed):
        train(supernet(), Noise(), settings, checkpoint=file, progress=killed_at(9))
    train(parts, Noise(), replace(settings, loaders=5), checkpoint=file)
    assert_bit_exact(parts, whole)
    assert any(not torch.equal(*pair) for pair in zip(weights(whole).values(), weights(uninterrupted).values()))


@given(down=st.integers(-5, 5), right=st.integers(-6, 6))
def test_a_shift_moves_pixels_and_fills_with_zeros(down: int, right: int) -> None:
    image = np.arange(1, 1 + 2 * 6 * 7, dtype=np.float32).reshape(1, 2, 6, 7)
    moved = shifted(image, down, right)
    for y in range(6):
        for x in range(7):
            inside = 0 <= y - down < 6 and 0 <= x - right < 7
            expected = image[:, :, y - down, x - right] if inside else np.zeros((1, 2))
            assert np.array_equal(moved[:, :, y, x], expected)


def test_images_that_do_not_fit_are_named() -> None:
    images = Noise()
    images.images = [*images.images]
    images.images[3] = np.zeros((1, 3, 12, 10), np.float32)
    with pytest.raises(TrainingError, match=r"image \d+ is float32 of shape .*a batch needs"):
        train(supernet(), images, SETTINGS)
    images.images = np.zeros((10, 1, 4, 12, 12), np.float32)
    with pytest.raises(TrainingError, match=r"have shape \(1, 4, 12, 12\), and the network reads \(1, 3, 12, 12\)"):
        train(supernet(), images, SETTINGS)
    with pytest.raises(TrainingError, match="cannot be flipped or shifted by 12 pixels"):
        train(supernet(), Noise(), replace(SETTINGS, shift=12))


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


def test_a_gradient_is_clipped_block_by_block() -> None:
    free, clipped = supernet(), supernet()
    settings = replace(SETTINGS, phases=(Phase("local", 1, 1e-3),))
    train(free, Noise(), settings)
    train(clipped, Noise(), replace(settings, gradient_clip=1e-12))
    start = weights(supernet())

    def moved(net: Supernet) -> float:
        return sum(float((start[k] - v).abs().sum()) for k, v in weights(net).items() if k.endswith("conv1.weight"))

    assert moved(clipped) < 0.01 * moved(free)  # Adam takes steps of one size, unless gradients are below its epsilon


def test_costs_of_the_users_own_decide_which_subnets_are_drawn() -> None:
    graph = supernet().graph
    with pytest.raises(TrainingError, match=r"block .* has no cost: give one for each of"):
        SubnetDraws(graph, 0.5, {})
    # By these costs pruned blocks are free and merged ones as dear as what they replace.
    costs = {block.name: 0.0 if block.kind == "pruned" else float(block.end - block.start) for block in graph.blocks}
    draws, rng = SubnetDraws(graph, 0.0, costs), random.Random(0)
    drawn = [draws.by_cost(1, rng)[0] for _ in range(300)]
    shares = Counter(round(sum(costs[name] for name in subnet) / draws.oracle, 3) for subnet in drawn)
    assert shares.keys() == {0.4, 0.6, 0.8, 1.0}  # three, two, one or none of the three blocks for nothing
    assert min(shares[cost] for cost in (0.4, 0.6, 0.8)) > 40
    walked = draws.by_walk(300, rng)
    assert graph.oracle not in walked
    assert set(walked) == {path for path in graph.paths() if path != graph.oracle}


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


def test_the_minutes_are_kept_with_the_schedule_finished(tmp_path: Path) -> None:
    """Far more steps than there is time for: both phases run, and the learning rate comes down all the same."""
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
    assert 3 <= result.seconds <= time.monotonic() - began
    assert result.steps == len(told) < 10**6
    assert sorted(set(told)) == ["local", "subnets"]
    assert told == sorted(told)
    rates = curves(tmp_path / "logs")["learning rate"]
    assert rates[0] > 0.9 * LOCAL.learning_rate
    assert 0 <= rates[-1] < 0.3 * SUBNETS.learning_rate
    # The time is used up, and the checkpoint knows it.
    again = train(supernet(), Noise(), settings, checkpoint=tmp_path / "checkpoint")
    assert again.steps == result.steps


def test_minutes_that_are_never_reached_change_nothing(uninterrupted: Supernet) -> None:
    net = supernet()
    train(net, Noise(), replace(SETTINGS, max_minutes=1000))
    assert_bit_exact(net, uninterrupted)


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
