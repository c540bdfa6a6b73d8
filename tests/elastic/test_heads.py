"""Heads that read several features: which cuts become taps, on pyramids, detectors and segmenters."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from adaptivenet.toolkit.elastic import Kind, Supernet, elastify, merge
from adaptivenet.toolkit.graph.sampling import PathSampler
from small import Residual
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


class Pyramid(nn.Module):
    """A backbone whose stages all go into a head, as in a feature pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stages = nn.ModuleList(nn.Sequential(*(Residual(8) for _ in range(3))) for _ in range(3))
        self.down = nn.ModuleList(nn.Conv2d(8, 8, 3, 2, 1) for _ in range(3))
        self.lateral = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.stem(x)
        features = []
        for down, stage in zip(self.down, self.stages):
            x = stage(down(x))
            features.append(x)
        top = self.lateral[2](features[2])
        answers = {"p2": top}
        for level in (1, 0):
            top = self.lateral[level](features[level]) + nn.functional.interpolate(top, scale_factor=2.0)
            answers[f"p{level}"] = top
        return answers


def test_cuts_that_feed_the_head_become_taps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Pyramid().eval()
    supernet = elastify(model, torch.randn(1, 3, 16, 16))
    graph = supernet.graph
    assert [graph[name].source for name in graph.oracle[1:4]] == [f"stages.0.{at}" for at in range(3)]
    sources = [graph[graph.oracle[tap - 1]].source for tap in graph.taps]
    assert sources == ["stages.0.2", "stages.1.2"], "the last stage is where the head starts"
    assert {block.start for block in supernet.alternatives()} >= {start for start in range(1, 12) if start % 4}
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        answer = model(x)
        torch.testing.assert_close(supernet(x), torch.cat([level.flatten(1) for level in answer.values()], 1))
    assert supernet.outputs == (("p2", (1, 4, 2, 2)), ("p1", (1, 4, 4, 4)), ("p0", (1, 4, 8, 8)))
    for subnet in PathSampler(graph, {block.name: 1.0 for block in graph.blocks}).sample(5, random.Random(0)):
        assert set(graph.taps) <= set(subnet.cuts)
        supernet(x, subnet).sum().backward()
    supernet.save(tmp_path / "supernet")
    loaded = Supernet.load(tmp_path / "supernet")
    assert loaded.outputs == supernet.outputs
    with torch.no_grad():
        assert torch.equal(loaded(x), supernet(x))


class Denoiser(nn.Module):
    """A plain chain that finds the noise, which is taken away from the input."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()]
        for _ in range(6):
            layers += [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.layers(x)


class Enlarger(nn.Module):
    """Residual blocks, a skip around all of them, and the enlarged input, to which they add what it lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(*(Residual(8) for _ in range(4)))
        self.last = nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shallow = self.first(x)
        details = nn.functional.pixel_shuffle(self.last(self.body(shallow) + shallow), 2)
        return details + nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")


@pytest.mark.parametrize(("make", "taps", "elastic"), [(Denoiser, (0,), 3), (Enlarger, (0, 1), 4)])
def test_the_input_is_a_tap_where_the_end_reads_it(
    make: Callable[[], nn.Module], taps: tuple[int, ...], elastic: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = make().eval()
    supernet = elastify(model, torch.randn(1, 3, 16, 16))
    graph = supernet.graph
    assert graph.taps == taps
    assert len({block.start for block in supernet.alternatives()}) == elastic
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x))
    supernet.save(tmp_path / "supernet")
    assert Supernet.load(tmp_path / "supernet").graph == graph
    for subnet in PathSampler(graph, {block.name: 1.0 for block in graph.blocks}).sample(5, random.Random(0)):
        assert supernet(x, subnet).shape == model(x).shape


class Exits(nn.Module):
    """Answers after every second block, each computed where it is written: between the blocks, or at the end."""

    def __init__(self, early: bool, writes: bool = False) -> None:
        super().__init__()
        self.early, self.writes = early, writes
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(Residual(8) for _ in range(6))
        self.exits = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)) for _ in range(3))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(x)
        features, answers = [], []
        for at, block in enumerate(self.blocks):
            x = block(x)
            if at % 2:
                features.append(x)
                if self.early:
                    answers.append(self.exits[at // 2](x).mean((2, 3)))
                    if self.writes:
                        answers[-1][:, 0] = 1.0
        return answers or [leave(feature).mean((2, 3)) for leave, feature in zip(self.exits, features)]


@pytest.mark.parametrize("early", [True, False])
def test_answers_between_the_blocks_are_computed_at_the_end(early: bool) -> None:
    torch.manual_seed(0)
    model, x = Exits(early).eval(), torch.randn(2, 3, 16, 16)
    supernet = elastify(model, x[:1])
    graph = supernet.graph
    assert [graph[name].source for name in graph.oracle[1:7]] == [f"blocks.{at}" for at in range(6)]
    assert [graph[graph.oracle[tap - 1]].source for tap in graph.taps] == ["blocks.1", "blocks.3"]
    with torch.no_grad():
        assert torch.equal(supernet(x), torch.cat(model(x), 1))


def test_where_something_is_written_into_an_answer_the_order_stays() -> None:
    torch.manual_seed(0)
    model, x = Exits(True, writes=True).eval(), torch.randn(2, 3, 16, 16)
    supernet = elastify(model, x[:1])
    with torch.no_grad():
        assert torch.equal(supernet(x), torch.cat(model(x), 1))


def test_one_answer_of_several_is_chosen_by_name() -> None:
    model = Pyramid().eval()
    supernet = elastify(model, torch.randn(1, 3, 16, 16), output="p0")
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x)["p0"])


def detector(name: str) -> nn.Module:
    from benchmarks.coverage_worker import build

    return build(f"torchvision:{name}")


def smp_fpn() -> nn.Module:
    smp = pytest.importorskip("segmentation_models_pytorch")
    model: nn.Module = smp.FPN("resnet18", encoder_weights=None, classes=3).eval()
    return model


def smp_unet() -> nn.Module:
    smp = pytest.importorskip("segmentation_models_pytorch")
    model: nn.Module = smp.Unet("resnet18", encoder_weights=None, classes=3).eval()
    return model


def efficientdet() -> nn.Module:
    effdet = pytest.importorskip("effdet")
    config = effdet.get_efficientdet_config("tf_efficientdet_lite0")
    config.image_size = (64, 64)
    model: nn.Module = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    return model


@pytest.mark.parametrize(
    ("make", "side", "taps", "elastic"),
    [
        (lambda: detector("retinanet_resnet50_fpn"), 64, ["layer2.3", "layer3.5"], 16),
        (lambda: detector("lraspp_mobilenet_v3_large"), 64, ["backbone.4"], 15),
        (smp_fpn, 64, ["layer1.1", "layer2.1", "layer3.1"], 8),
        (smp_unet, 64, ["encoder.relu", "layer1.1", "layer2.1", "layer3.1"], 8),
        (efficientdet, 64, ["blocks.2.1", "blocks.4.2"], 16),
    ],
    ids=["torchvision FPN", "LR-ASPP", "smp FPN", "smp U-Net", "EfficientDet"],
)
def test_detectors_and_segmenters_have_taps(
    make: Callable[[], nn.Module], side: int, taps: list[str], elastic: int, torchvision: Any
) -> None:
    torch.manual_seed(0)
    model = make()
    spans: list[Sequence[nn.Module]] = []
    count = Kind("count", lambda span, features: spans.append(span))  # type: ignore[func-returns-value]
    supernet = elastify(model, torch.randn(1, 3, side, side), kinds=[merge(2), count])
    graph = supernet.graph
    sources = [graph[graph.oracle[tap - 1]].source for tap in graph.taps]
    assert len(sources) == len(taps)
    assert all(source.endswith(tap) for source, tap in zip(sources, taps)), sources
    assert len(spans) == elastic
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        answer = model(x)
        expected = torch.cat([tensor.flatten(1) for tensor in tensors_in(answer)], 1)
        torch.testing.assert_close(supernet(x).flatten(1), expected, rtol=1e-4, atol=1e-4)
        for subnet in PathSampler(graph, {block.name: 1.0 for block in graph.blocks}).sample(2, random.Random(0)):
            assert set(graph.taps) <= set(subnet.cuts)
            assert supernet(x, subnet).shape[1:] == graph.cuts[-1].shape[1:]


def tensors_in(answer: Any) -> Iterator[torch.Tensor]:
    if isinstance(answer, torch.Tensor):
        yield answer
    else:
        for part in answer.values() if isinstance(answer, dict) else answer:
            yield from tensors_in(part)
