"""Cuts of several tensors: networks that pass on a few at once, in streams, in cells, or beside a growing sum."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Supernet, elastify, merge, skip
from adaptivenet.toolkit.elastic.tracing.joining import with_joined_cuts
from adaptivenet.toolkit.elastic.tracing.stretches import discover
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.graph.sampling import PathSampler
from hypothesis import given
from hypothesis import strategies as st
from small import Residual
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


class Waves(nn.Module):
    """Gated convolutions in time, as in WaveNet: what each has found is added up beside what it passes on."""

    def __init__(self, blocks: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 8, 1)
        self.gated = nn.ModuleList(nn.Conv1d(8, 16, 3, padding=2**at, dilation=2**at) for at in range(blocks))
        self.mixed = nn.ModuleList(nn.Conv1d(8, 8, 1) for _ in range(blocks))
        self.last = nn.Conv1d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        found = torch.zeros_like(x)
        for gated, mixed in zip(self.gated, self.mixed):
            values, gates = gated(x).chunk(2, 1)
            new = mixed(torch.tanh(values) * torch.sigmoid(gates))
            found = found + new
            x = x + new
        out: torch.Tensor = self.last(torch.relu(found))
        return out


class Streams(nn.Module):
    """Three resolutions beside each other, each of several residual blocks, mixed in between, as in HRNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Conv2d(3, 4 * 2**at, 3, 2**at, 1) for at in range(3))
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Sequential(*(Residual(4 * 2**at) for _ in range(2))) for at in range(3)) for _ in range(3)
        )
        self.down = nn.ModuleList(nn.Conv2d(4 * 2**at, 8 * 2**at, 3, 2, 1) for at in range(2))
        self.last = nn.Linear(28, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        streams = [first(x) for first in self.first]
        for stage in self.stages:
            streams = [blocks(stream) for blocks, stream in zip(stage, streams)]
            streams[1:] = [low + down(high) for low, high, down in zip(streams[1:], streams, self.down)]
        out: torch.Tensor = self.last(torch.cat([stream.mean((2, 3)) for stream in streams], 1))
        return out


class Cells(nn.Module):
    """Each cell reads what the two before it gave, as in NASNet; tokens of a patch come beside those of its picture."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.near = nn.ModuleList(Residual(8) for _ in range(6))
        self.far = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(6))
        self.last = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = x = self.first(x)
        for near, far in zip(self.near, self.far):
            before, x = x, torch.relu(near(x) + far(before))
        out: torch.Tensor = self.last(x.mean((2, 3)))
        return out


class TimeFirst(nn.Module):
    """A transformer as torch has it by default: time, batch, features."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 16)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 5, enable_nested_tensor=False)
        self.last = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.layers(self.first(x).transpose(0, 1)).mean(0))
        return out


CASES = [(Waves, (2, 20), 3), (Streams, (3, 16, 16), 15), (Cells, (3, 16, 16), 4), (TimeFirst, (12, 4), 3)]


@pytest.mark.parametrize(("make", "shape", "elastic"), CASES, ids=lambda case: getattr(case, "__name__", None))
def test_networks_that_pass_on_several_tensors_become_elastic(
    make: type[nn.Module], shape: tuple[int, ...], elastic: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = make().eval()
    supernet = elastify(model, torch.randn(1, *shape))
    graph = supernet.graph
    assert len({block.start for block in supernet.alternatives()}) >= elastic
    x = torch.randn(3, *shape)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x))
    supernet.save(tmp_path / "supernet")
    loaded = Supernet.load(tmp_path / "supernet")
    for subnet in PathSampler(graph, {block.name: 1.0 for block in graph.blocks}).sample(5, random.Random(0)):
        with torch.no_grad():
            torch.testing.assert_close(loaded(x, subnet), supernet(x, subnet))


def test_a_network_that_one_tensor_carries_is_left_as_it_is() -> None:
    traced = trace(nn.Sequential(nn.Conv2d(3, 8, 3), *(Residual(8) for _ in range(4))).eval(), torch.randn(1, 3, 8, 8))
    assert discover(traced)[0] is traced
    assert with_joined_cuts(traced) is None


def test_both_engines_compute_what_torch_computes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    supernet = elastify(Waves(4).eval(), torch.randn(1, 2, 20), kinds=[merge(2), skip()])
    pack = export_pack(supernet, tmp_path / "pack", metrics=("fidelity",), jobs=1)
    x = np.random.default_rng(0).normal(0, 1, (1, 2, 20)).astype(np.float32)
    for address in ("local:onnxruntime", "local:executorch"):
        with connect(address).open(pack) as session:
            for subnet in list(supernet.graph.paths())[::5]:
                session.activate(subnet)
                with torch.no_grad():
                    expected = supernet(torch.from_numpy(x), subnet).numpy()
                np.testing.assert_allclose(session.infer(x), expected, atol=1e-4, err_msg=f"{address} {subnet}")


@given(st.lists(st.sampled_from(["left", "right", "both", "mix"]), min_size=3, max_size=8), st.integers(0, 99))
def test_the_graph_computes_the_same(steps: list[str], seed: int) -> None:
    """Two streams of other shapes, one of them with several rows for each input, as windows and patches are."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.ModuleList(nn.Linear(6, 6) for _ in steps)
            self.right = nn.ModuleList(nn.Linear(4, 4) for _ in steps)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = x[:, :6], x[:, 6:].reshape(-1, 4)
            for step, of_left, of_right in zip(steps, self.left, self.right):
                if step in ("left", "both"):
                    left = left + torch.relu(of_left(left))
                if step in ("right", "both"):
                    right = right + torch.relu(of_right(right))
                if step == "mix":
                    left = left + right.reshape(left.shape[0], -1)[:, :6]
            return torch.cat([left, right.reshape(left.shape[0], -1)], 1)

    torch.manual_seed(seed)
    model = Two().eval()
    joined = with_joined_cuts(trace(model, torch.randn(1, 14)))
    x = torch.randn(5, 14)
    if joined is not None:
        with torch.no_grad():
            assert torch.equal(joined(x), model(x))
