"""Cuts that every block may read: what a network computes once and uses in all of its blocks."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify
from adaptivenet.toolkit.elastic.explain import explain
from adaptivenet.toolkit.elastic.kinds import merge, prune, skip
from adaptivenet.toolkit.errors import ModelError
from adaptivenet.toolkit.graph.sampling import PathSampler
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = (merge(2), prune(0.5), skip())


class Timed(nn.Module):
    """A residual block that adds a projection of a time step's embedding inside."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, 1, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.time = nn.Linear(8, outputs)
        self.short = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        inside = self.first(torch.relu(x)) + self.time(nn.functional.silu(time))[..., None, None]
        out: torch.Tensor = self.short(x) + self.second(torch.relu(inside))
        return out


class UNet(nn.Module):
    """A denoiser of `levels` resolutions with skips between them; `late`: the time step is embedded after the stem."""

    def __init__(self, levels: int, late: bool) -> None:
        super().__init__()
        self.late = late
        self.time = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 8))
        self.first, self.last = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 3, 3, 1, 1)
        self.down = nn.ModuleList(nn.ModuleList(Timed(8, 8) for _ in range(2)) for _ in range(levels))
        self.up = nn.ModuleList(nn.ModuleList([Timed(16, 8), Timed(8, 8)]) for _ in range(levels))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        x = self.first(sample) if self.late else sample
        time = self.time(torch.sin(timestep.float()[:, None] * torch.exp(-torch.arange(4) * 1.5)))
        x = x if self.late else self.first(sample)
        skips = []
        for blocks in self.down:
            for block in blocks:
                x = block(x, time)
            skips.append(x)
            x = nn.functional.avg_pool2d(x, 2)
        for blocks in self.up:
            x = torch.cat([nn.functional.interpolate(x, scale_factor=2.0), skips.pop()], 1)
            for block in blocks:
                x = block(x, time)
        out: torch.Tensor = self.last(x)
        return out


class Gated(nn.Module):
    """Blocks of which each multiplies what it adds by `measure(input, first feature)`, and an end that reads one of
    them again."""

    def __init__(self, measure: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
        super().__init__()
        self.measure = measure
        self.first, self.last = nn.Conv2d(3, 8, 3, 1, 1), nn.Linear(16, 5)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1)) for _ in range(5)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        feature = self.first(x)
        gate = self.measure(x, feature)
        kept = []
        for block in self.blocks:
            feature = feature + block(feature) * gate
            kept.append(feature)
        out: torch.Tensor = self.last(torch.cat([kept[1], feature], 1).mean((2, 3)))
        return out


def of_input(x: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
    return x.abs().amax((1, 2, 3), keepdim=True)


def of_feature(x: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(feature.mean((2, 3), keepdim=True))


def examples(batch: int) -> dict[str, torch.Tensor]:
    return {"sample": torch.randn(batch, 3, 16, 16), "timestep": torch.arange(1, batch + 1) * 300}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("levels", [1, 3])
def test_blocks_of_a_denoiser_read_the_embedding_of_the_time_step(levels: int, late: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = UNet(levels, late).eval()
    supernet = elastify(model, examples(1), kinds=KINDS)
    graph, inputs = supernet.graph, examples(3)
    assert graph.cuts[1].shape == (1, 8)
    assert graph.kept[:2] == (0, 1)
    assert len(graph.taps) == levels - 1
    elastic = [block for block in supernet.alternatives() if block.kind == "pruned"]
    assert len(elastic) >= 2 * levels
    assert {block.reads for block in elastic} == {(1,)}
    assert "reads b00" in explain(supernet.graph, "UNet")
    with torch.no_grad():
        torch.testing.assert_close(supernet(supernet.row(inputs)), model(**inputs))
        supernet.save(tmp_path / "supernet")
        again = Supernet.load(tmp_path / "supernet")
        for subnet in PathSampler(graph, dict.fromkeys(supernet.blocks, 1.0)).sample(5, random.Random(0)):
            torch.testing.assert_close(again(again.row(inputs), subnet), supernet(supernet.row(inputs), subnet))


@pytest.mark.parametrize("measure", [of_input, of_feature])
def test_blocks_read_what_is_measured_once(
    measure: Callable[[torch.Tensor, torch.Tensor], object],
) -> None:
    torch.manual_seed(0)
    model, x = Gated(measure).eval(), torch.randn(3, 3, 16, 16)
    supernet = elastify(model, x[:1], kinds=KINDS)
    gate = next(cut.index for cut in supernet.graph.cuts if cut.shape[2:] == (1, 1))
    assert all(cut.shape[1:] != (2049,) for cut in supernet.graph.cuts)  # nothing is copied from block to block
    pruned = [block for block in supernet.alternatives() if block.kind == "pruned"]
    assert len(pruned) >= 4
    assert all(gate in (block.start, *block.reads) for block in pruned)
    assert len(supernet.graph.taps) == 1
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x))


@pytest.mark.parametrize(
    ("measure", "named"),
    [
        (lambda x, feature: x.abs().max().item(), "the number that 'item' gives in the forward itself"),
        (lambda x, feature: x.abs().max(), "the float32 tensor () that 'max' gives in the forward itself"),
    ],
)
def test_what_is_one_for_the_whole_batch_is_named(
    measure: Callable[[torch.Tensor, torch.Tensor], object], named: str
) -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=re.escape(named) + r" is read in 5 places, up to \S+, .*keepdim=True"):
        elastify(Gated(measure).eval(), torch.randn(1, 3, 16, 16))
