"""The whole network at lower resolutions: on which, what it computes there, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.export import export_pack
from adaptivenet.export.cli import main
from adaptivenet.export.exporting import planned
from adaptivenet.export.networks import with_networks
from adaptivenet.export.resolution import RESOLUTIONS, at_resolutions, sides_at
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Supernet, elastify, skip
from adaptivenet.toolkit.errors import ExportError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut
from commands import call, document_of, error_of
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import interpolate

pytestmark = pytest.mark.usefixtures("one_thread")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.conv(x))


def network(*head: nn.Module, side: int = 32) -> Supernet:
    """A network of pictures whose maps have half the picture's sides, with this head."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), *(Residual() for _ in range(3)), *head)
    return elastify(model.eval(), torch.zeros(1, 3, side, side), kinds=[skip()])


def scores(side: int = 32) -> Supernet:
    return network(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), side=side)


def graph_of(first: tuple[int, ...], *others: tuple[int, ...]) -> BlockGraph:
    cuts = [Cut(index, shape) for index, shape in enumerate([first, *others, (1, 5)])]
    return BlockGraph(cuts, [Block(f"b{at}", at, at + 1, "original") for at in range(len(cuts) - 1)])


def test_the_usual_resolutions_of_usual_networks() -> None:
    assert sides_at(graph_of((1, 3, 224, 224), (1, 8, 56, 56), (1, 64, 7, 7), (1, 64, 1, 1)), RESOLUTIONS) == [
        (192, 192),
        (160, 160),
        (128, 128),
    ]
    assert sides_at(graph_of((1, 3, 32, 32), (1, 64, 8, 8)), RESOLUTIONS) == [(28, 28), (24, 24), (20, 20)]
    assert sides_at(graph_of((1, 3, 144, 256), (1, 64, 9, 16)), [0.75]) == [(112, 192)]


@given(
    st.integers(4, 40), st.integers(4, 40), st.integers(1, 32), st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5)
)
def test_all_maps_become_smaller_alike(height: int, width: int, step: int, ratios: list[float]) -> None:
    full = (height * step, width * step)
    found = sides_at(graph_of((1, 3, *full), (1, 8, height, width)), ratios)
    assert len(found) == len(set(found)) <= len(ratios)
    for sides in found:
        assert all(16 <= side < whole and side % step == 0 and side // step >= 2 for side, whole in zip(sides, full))


def test_what_is_no_picture_has_none() -> None:
    for shape in ((1, 77), (1, 77, 512), (1, 8, 16, 16, 16)):
        assert sides_at(graph_of(shape), RESOLUTIONS) == []
    assert sides_at(graph_of((1, 3, 16, 16), (1, 8, 8, 8)), RESOLUTIONS) == []  # too small already


def test_it_is_the_network_on_a_smaller_picture() -> None:
    net = scores()
    made = at_resolutions(with_networks(net), None, print)
    assert [block.name for block in made] == ["whole-28", "whole-22", "whole-18"]
    assert {block.kind for block in made} == {"resized"}
    x = torch.randn(2, 3, 32, 32)
    for block, module in made.items():
        side = int(block.name.removeprefix("whole-"))
        small = interpolate(x, (side, side), mode="bilinear", align_corners=False)
        torch.testing.assert_close(module(x), net(small))
        assert block.params == sum(net.graph[name].params for name in net.graph.oracle)
    macs = [block.macs for block in made]
    assert macs == sorted(macs, reverse=True)


def test_a_map_is_made_as_large_again() -> None:
    net = network(nn.Conv2d(8, 4, 1))
    (module,) = at_resolutions(with_networks(net), [0.75], print).values()
    x = torch.randn(1, 3, 32, 32)
    small = interpolate(x, (24, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(module(x), interpolate(net(small), (16, 16), mode="bilinear", align_corners=False))


class Named(nn.Module):
    """A network that asks for the sides of its maps, as those for maps of classes and for CIFAR do."""

    def __init__(self, pool: nn.Module | None) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(16, 4, 1)
        self.blocks = nn.ModuleList(Residual() for _ in range(3))
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        for block in self.blocks:
            y = block(y)
        pooled = nn.functional.avg_pool2d(y, y.size(3)) if self.pool is None else self.pool(y)
        batch, channels, height, width = y.shape
        y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        y = y.flatten(2).transpose(1, 2).reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        y = torch.cat([nn.functional.interpolate(pooled, size=y.shape[2:]), y], 1)
        return nn.functional.interpolate(self.head(y), size=x.shape[2:], mode="bilinear")


@pytest.mark.parametrize("pool", [None, nn.AvgPool2d(16), nn.AvgPool2d((16, 16), stride=1)])
def test_sides_that_a_model_asks_for_are_those_of_smaller_maps(pool: nn.Module | None) -> None:
    torch.manual_seed(0)
    model = Named(pool).eval()
    full = with_networks(elastify(model, torch.zeros(1, 3, 32, 32), kinds=[skip()]))
    (module,) = at_resolutions(full, [0.75], print).values()
    if pool is not None:
        model.pool = nn.AdaptiveAvgPool2d(1)
    x = torch.randn(1, 3, 32, 32)
    small = interpolate(x, (24, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(module(x), interpolate(model(small), (32, 32), mode="bilinear", align_corners=False))


def test_a_network_that_does_not_run_on_smaller_pictures_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    full = with_networks(network(nn.Flatten(), nn.Linear(8 * 16 * 16, 5)))
    assert at_resolutions(full, None, said.append) == {}
    assert len(said) == 1
    assert said[0].startswith("note: no programs at lower resolutions: Sequential does not run at 28×28: ")
    with pytest.raises(ExportError, match="no programs at lower resolutions: Sequential does not run at 24×24: "):
        at_resolutions(full, [0.75], said.append)
    assert capsys.readouterr() == ("", "")


def test_resolutions_that_are_none_are_refused() -> None:
    full = with_networks(scores(16))
    with pytest.raises(ExportError, match=r"shape \(1, 3, 16, 16\) none of 0.5, 0.7 leaves a picture"):
        at_resolutions(full, [0.5, 0.7], print)
    for wrong in (0.0, 1.0, -0.5, 1.5, float("nan")):
        with pytest.raises(ExportError, match="a share between 0 and 1 is needed"):
            at_resolutions(full, [wrong], print)
    assert at_resolutions(full, [], print) == {}


def test_in_int8_the_networks_in_float32_are_left_out() -> None:
    _, graph, _ = planned(scores(), int8=True, resolutions=[0.75])
    assert [block.name for block in graph.blocks if block.is_network] == ["whole-24-int8", "whole", "whole-int8"]


@pytest.mark.parametrize(("engine", "backend"), [("onnxruntime", "onnx"), ("executorch", "executorch")])
def test_engines_run_it(engine: str, backend: str, tmp_path: Path) -> None:
    net, picture = scores(), torch.randn(1, 3, 32, 32)
    pack = export_pack(net, tmp_path / "pack", [backend], resolutions=[0.75], metrics=["top1"])
    small = interpolate(picture, (24, 24), mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected = net(small).numpy()
    with connect(f"local:{engine}").open(pack) as session:
        session.activate(pack.graph.subnet(["whole-24"]))
        np.testing.assert_allclose(session.infer(picture.numpy()), expected, rtol=1e-4, atol=1e-4)


def test_on_the_command_line(tmp_path: Path) -> None:
    scores().save(tmp_path / "net")

    def blocks(*more: str) -> int:
        asked = (tmp_path / "net", tmp_path / "pack", "--backend", "onnx", "--dry-run", "--json", *more)
        return int(document_of(call(main, *asked))["blocks"])

    none = blocks("--resolution", "")
    assert (blocks(), blocks("--resolution", "0.75,0.76")) == (none + 3, none + 1)
    refused = call(main, tmp_path / "net", tmp_path / "pack", "--dry-run", "--resolution", "7")
    assert error_of(refused) == "error: cannot export at 7 of the resolution: a share between 0 and 1 is needed"
