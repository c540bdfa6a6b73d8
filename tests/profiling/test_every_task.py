"""Networks that classify nothing are searched by metrics of their own, and what is reported is what torch computes.

A segmentation network by the mean intersection over union, one from image to image by PSNR and by the absolute
difference, one of embeddings by their cosine, one of sound by its scale-invariant ratio of signal to noise, a detector
by its boxes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.export import export_pack
from adaptivenet.export.metrics import metric_program
from adaptivenet.toolkit import Model
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Supernet, elastify, merge, prune
from adaptivenet.toolkit.graph.graph import Subnet
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from adaptivenet.toolkit.profiling.verify import choose_metric, divide
from adaptivenet.toolkit.report.page import page
from adaptivenet.toolkit.report.text import draw_front, report
from given_times import give_times
from sklearn.metrics import jaccard_score
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES, SIDE, SAMPLES = 6, 16, 256
SETTINGS = Settings(("100%", "80%"), evaluations=16, search_images=24, verify_images=16, rounds=5)


class Residual(nn.Module):
    def __init__(self, width: int, dimensions: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if dimensions == 2 else nn.Conv1d
        self.conv1, self.conv2 = conv(width, 2 * width, 3, padding=1), conv(2 * width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.5 * self.conv2(torch.relu(self.conv1(x)))


class Body(nn.Module):
    """Residual blocks between a stem and what is made of them."""

    def __init__(self, inputs: int, head: nn.Module, dimensions: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if dimensions == 2 else nn.Conv1d
        self.stem = conv(inputs, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(8, dimensions) for _ in range(4)))
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)))


@dataclass(frozen=True)
class Task:
    """A network, its inputs, and the metrics that its pack has; the first is searched by."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    metrics: tuple[str, ...]


TASKS = {
    "segmentation": Task(
        lambda: Body(3, nn.Conv2d(8, CLASSES, 1)), (3, SIDE, SIDE), ("miou", "miou-agreement", "top5", "agreement")
    ),
    "image": Task(
        lambda: Body(3, nn.Sequential(nn.Conv2d(8, 3, 3, padding=1), nn.Sigmoid())), (3, SIDE, SIDE), ("psnr", "l1")
    ),
    "embedding": Task(
        lambda: Body(3, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 24))),
        (3, SIDE, SIDE),
        ("cosine",),
    ),
    "detector": Task(
        lambda: Body(3, nn.Sequential(nn.Conv2d(8, 7, 3, stride=2, padding=1), nn.Sigmoid(), nn.Flatten(2))),
        (3, SIDE, SIDE),
        ("boxes",),
    ),
    "sound": Task(lambda: Body(1, nn.Conv1d(8, 1, 3, padding=1), 1), (1, SAMPLES), ("si-snr",)),
}


@dataclass(frozen=True)
class Made:
    net: Supernet
    pack: BlockPack
    data: Dataset
    profile: Profile


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Callable[..., Made]:
    """A task's supernet, pack and profile, made when they are asked for first."""

    @cache
    def packed(name: str) -> tuple[Supernet, BlockPack, Dataset]:
        task = TASKS[name]
        torch.manual_seed(1)
        model = task.build().eval()
        net = elastify(model, torch.zeros(1, *task.shape), kinds=[prune(0.34), prune(0.67), merge(2)])
        path = tmp_path_factory.mktemp("packs") / name
        pack = export_pack(net, path, ["onnx"], jobs=1, metrics=task.metrics)
        images = np.random.default_rng(0).standard_normal((40, *task.shape)).astype(np.float32)
        return net, pack, Dataset.from_arrays(images, labels_for(net, images) if name == "segmentation" else None)

    @cache
    def profiled(name: str, metric: str | None = None) -> Made:
        net, pack, data = packed(name)
        cost = {block.name: 1.0 - 0.4 * (block.ratio or 0) for block in pack.graph.blocks} | {"whole": 20.0}
        with pytest.MonkeyPatch.context() as monkeypatch, connect("local:onnxruntime").open(pack) as session:
            give_times(monkeypatch, cost)
            settings = SETTINGS if metric is None else Settings(**{**vars(SETTINGS), "metric": metric})
            return Made(net, pack, data, profile(session, data, settings))

    return profiled


def labels_for(net: Supernet, images: np.ndarray) -> np.ndarray:
    """Label maps that the original network is right about in three of four places; of some it is not said."""
    rng = np.random.default_rng(1)
    labels = outputs(net, net.graph.oracle, images).argmax(1)
    other = rng.integers(0, CLASSES, labels.shape)
    labels = np.where(rng.random(labels.shape) < 0.25, other, labels)
    return np.where(rng.random(labels.shape) < 0.1, 255, labels)


def outputs(net: Supernet, subnet: Subnet, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(images), subnet).numpy()


def held_out(data: Dataset) -> np.ndarray:
    """The pictures that a profile verifies on."""
    _, verify = divide(data, None, SETTINGS)
    return np.concatenate([verify.image(index) for index in range(len(verify))])


def by_numpy(metric: str, one: np.ndarray, other: np.ndarray) -> float:
    """Of (images, …), in the metric's own unit."""
    if metric == "boxes":  # which is held against loops where its program is tested
        program = metric_program(metric, (1, *one.shape[1:]))
        given = [(torch.from_numpy(a[None]), torch.from_numpy(b[None])) for a, b in zip(one, other)]
        total = torch.stack([program.module(*each) for each in given]).sum(0)
        return float(total[0] / total[1])
    error = (one - other).astype(np.float64).reshape(len(one), -1)
    if metric == "psnr":
        return float(np.mean(np.minimum(60, -10 * np.log10(np.square(error).mean(1) + 1e-20))))
    if metric == "l1":
        return float(np.abs(error).mean())
    first, second = (each.astype(np.float64).reshape(len(each), -1) for each in (one, other))
    if metric == "cosine":
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return float(np.mean((first * second).sum(1) / norms))
    first, second = (each - each.mean(1, keepdims=True) for each in (first, second))
    target = (first * second).sum(1, keepdims=True) / np.square(second).sum(1, keepdims=True) * second
    ratio = np.square(target).sum(1) / (np.square(first - target).sum(1) + 1e-20)
    return float(np.mean(np.clip(10 * np.log10(ratio), -20, 60)))


@pytest.mark.parametrize(
    ("name", "metric"),
    [("image", "psnr"), ("image", "l1"), ("embedding", "cosine"), ("sound", "si-snr"), ("detector", "boxes")],
)
def test_what_is_reported_is_what_torch_and_numpy_say(made: Callable[..., Made], name: str, metric: str) -> None:
    found = made(name, metric)
    pictures = held_out(found.data)
    oracle = outputs(found.net, found.net.graph.oracle, pictures)
    whole = next(point for point in found.profile.whole if point.subnet == ("whole",))
    points = [*found.profile.front.points, whole]
    told = {point.subnet: next(q for q in point.qualities if q.metric == metric) for point in points}
    expected = {
        subnet: by_numpy(metric, outputs(found.net, subnet, pictures) if "whole" not in subnet else oracle, oracle)
        for subnet in told
    }
    for subnet, quality in told.items():
        # The points of a front never get worse; where one did, it has a mean, which lies between.
        score = quality.score.of(quality.value)
        assert min(expected.values()) - 1e-3 <= score <= max(expected.values()) + 1e-3
        if len({*expected.values()}) == len({each.value for each in told.values()}):
            assert score == pytest.approx(expected[subnet], abs=1e-3)
    assert told[found.net.graph.oracle].text == told[("whole",)].text == whole.qualities[0].text


def test_the_miou_of_a_set_is_that_of_its_pixels(made: Callable[..., Made]) -> None:
    found = made("segmentation")
    _, verify = divide(found.data, None, SETTINGS)
    labels = np.stack([verify.labels[index] for index in range(len(verify))]) if verify.labels is not None else None
    assert labels is not None
    oracle = outputs(found.net, found.net.graph.oracle, held_out(found.data)).argmax(1)
    counted = labels >= 0
    assert not counted.all()
    expected = jaccard_score(labels[counted], oracle[counted], average="macro")
    whole = next(point for point in found.profile.whole)
    by_metric = {quality.metric: quality for quality in whole.qualities}
    assert by_metric["miou"].value == pytest.approx(expected, abs=2e-3)
    assert by_metric["miou-agreement"].value == pytest.approx(1, abs=2e-3)
    assert by_metric["top5"].value > by_metric["miou"].value
    assert by_metric["miou"].low < expected < by_metric["miou"].high
    assert found.profile.document["search"]["metric"] == "miou", "the first that reads labels"


@pytest.mark.parametrize("name", TASKS)
def test_the_search_finds_what_is_best(made: Callable[..., Made], name: str) -> None:
    """On the pictures that it saw, no other subnet that is as fast is better by much."""
    found = made(name)
    metric = found.profile.document["search"]["metric"]
    searched, _ = divide(found.data, None, SETTINGS)
    pictures = np.concatenate([searched.image(index) for index in range(len(searched))])
    oracle = outputs(found.net, found.net.graph.oracle, pictures)

    def quality(subnet: Subnet) -> float:
        own = outputs(found.net, subnet, pictures)
        if metric != "miou":
            return by_numpy(metric, own, oracle)
        labels = np.stack([searched.labels[index] for index in range(len(searched))])  # type: ignore[index]
        return float(jaccard_score(labels[labels >= 0], own.argmax(1)[labels >= 0], average="macro"))

    cost = {block.name: 1.0 - 0.4 * (block.ratio or 0) for block in found.pack.graph.blocks}
    subnets = [point.subnet for point in found.profile.front.points if point.subnet != ("whole",)]
    front = {subnet: sum(cost[block] for block in subnet) for subnet in subnets}
    known = {path: quality(path) for path in found.net.graph.paths()}
    spread = max(known.values()) - min(known.values())
    assert spread > 0
    for budget in sorted(front.values()):
        best = max(value for path, value in known.items() if sum(cost[block] for block in path) <= budget + 1e-9)
        ours = max(known[subnet] for subnet, ms in front.items() if ms <= budget + 1e-9)
        assert ours >= best - 0.15 * spread


UNITS = {
    "segmentation": r"miou \d+\.\d% \(\d+\.\d%–\d+\.\d%\); miou-agreement 100\.0%",
    "image": r"psnr 60\.00 dB \(on all \d+ pictures\); l1 0\.00000 \(",
    "embedding": r"cosine 0\.\d{4} \(0\.\d{4}–[01]\.\d{4}\)",
    "detector": r"boxes \d+\.\d% \(\d+\.\d%–",
    "sound": r"si-snr \d+\.\d\d dB \(\d+\.\d\d–\d\d\.\d\d\)",
}


@pytest.mark.parametrize("name", TASKS)
def test_what_is_printed_has_the_metrics_unit(made: Callable[..., Made], name: str, tmp_path: Path) -> None:
    found = made(name)
    text = report(found.profile)
    assert re.search(UNITS[name], text), text
    own = page(found.profile)
    draw_front(found.profile, tmp_path / "front.svg")
    drawing = (tmp_path / "front.svg").read_text()
    if name in ("segmentation", "detector"):
        assert "is better" not in text
        assert "quality, %" in own
    else:
        assert "%" not in "".join(re.findall(r"(?:psnr|l1|cosine|si-snr) [^;|]*", text.split("## Front")[1]))
        assert ("Of psnr, more is better: it lies between 0 and 60 dB." in text) == (name == "image")
        assert f"{TASKS[name].metrics[0]}{'' if name == 'embedding' else ', dB'}" in own
        assert "quality, %" not in own
    assert "<svg" in drawing


def test_less_is_better_turns_the_axis(made: Callable[..., Made], tmp_path: Path) -> None:
    found = made("image", "l1")
    values = [point.qualities[0].score.of(point.qualities[0].value) for point in found.profile.front.points]
    assert values == sorted(values, reverse=True)
    assert values[-1] == 0
    own, text = page(found.profile), report(found.profile)
    assert "Of l1, less is better: the axis is upside down." in own
    assert "Not drawn, for it has another unit, but in the table: psnr." in own
    assert "that was searched for falls" in own
    assert "Of l1, less is better: it lies between 0 and 0.25." in text
    draw_front(found.profile, tmp_path / "front.png")


@pytest.mark.parametrize("name", ["image", "sound"])
def test_a_profile_is_read_and_served(made: Callable[..., Made], name: str, tmp_path: Path) -> None:
    found = made(name, TASKS[name].metrics[-1])
    found.profile.save(tmp_path / "profile.json")
    again = Profile.load(tmp_path / "profile.json", found.pack)
    assert again == found.profile
    with Model.open(found.pack.path, tmp_path / "profile.json") as model:
        output = model.infer(found.data.image(0))
    assert output.shape == found.pack.graph.cuts[-1].shape


def test_the_first_metric_that_reads_labels_is_searched_by(made: Callable[..., Made]) -> None:
    found = made("segmentation")
    images = np.concatenate([found.data.image(index) for index in range(3)])
    assert choose_metric(found.pack, Dataset.from_arrays(images), None) == "miou-agreement"
    assert found.pack.scores == (1, CLASSES, SIDE, SIDE)
