"""Recurrent layers: networks of them are divided, merged and skipped, saved, trained and run by both engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Supernet, elastify, merge, skip
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


class Spotter(nn.Module):
    """Convolutions over a spectrogram, recurrent layers over time, with or without residual connections around them."""

    def __init__(self, layer: type[nn.RNNBase], residual: bool) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.narrow = nn.Linear(32, 16)
        self.layers = nn.ModuleList(layer(16, 16, batch_first=True) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(4))
        self.residual = residual
        self.scores = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.narrow(self.convolutions(x).permute(0, 3, 1, 2).flatten(2))
        for layer, norm in zip(self.layers, self.norms):
            x = x + layer(norm(x))[0] if self.residual else layer(x)[0]
        scores: torch.Tensor = self.scores(x.mean(1))
        return scores


@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize(("residual", "kinds"), [(True, {"merged", "skip"}), (False, {"merged", "skip"})])
def test_recurrent_layers_become_blocks(
    layer: type[nn.RNNBase], residual: bool, kinds: set[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Spotter(layer, residual).eval()
    supernet = elastify(model, torch.randn(1, 1, 16, 12))
    assert {block.kind for block in supernet.alternatives()} >= kinds
    x = torch.randn(3, 1, 16, 12)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x))
    supernet.save(tmp_path / "supernet")
    loaded = Supernet.load(tmp_path / "supernet")
    for subnet in list(supernet.graph.paths())[::3]:
        with torch.no_grad():
            torch.testing.assert_close(loaded(x, subnet), supernet(x, subnet))


def test_a_loaded_layer_computes_with_the_weights_that_train(tmp_path: Path) -> None:
    """A recurrent layer has a second list of its parameters, by which it computes."""
    torch.manual_seed(0)
    elastify(Spotter(nn.GRU, True).eval(), torch.randn(1, 1, 16, 12)).save(tmp_path / "supernet")
    supernet = Supernet.load(tmp_path / "supernet")
    merged = next(block for block in supernet.alternatives() if block.kind == "merged" and "layers" in block.source)
    subnet = next(subnet for subnet in supernet.graph.paths() if merged.name in subnet)
    x = torch.randn(2, 1, 16, 12)
    before = supernet(x, subnet)
    before.square().sum().backward()
    weights = [weight for weight in supernet.blocks[merged.name].parameters() if weight.requires_grad]
    assert any(weight.dim() == 2 and weight.grad is not None and weight.grad.abs().max() > 0 for weight in weights)
    with torch.no_grad():
        for weight in weights:
            weight += 0.1
    assert not torch.allclose(supernet(x, subnet), before)


def test_both_engines_compute_what_torch_computes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    kinds = [merge(2), skip()]
    supernet = elastify(Spotter(nn.GRU, False).eval(), torch.randn(1, 1, 16, 12), kinds=kinds)
    assert {block.kind for block in supernet.alternatives()} == {"merged", "skip"}
    said: list[str] = []
    pack = export_pack(supernet, tmp_path / "pack", metrics=("agreement",), jobs=1, say=said.append)
    assert ["writes a recurrent layer out step by step" in line for line in said] == [True]
    x = np.random.default_rng(0).normal(0, 1, (1, 1, 16, 12)).astype(np.float32)
    for address in ("local:onnxruntime", "local:executorch"):
        with connect(address).open(pack) as session:
            for subnet in supernet.graph.paths():
                session.activate(subnet)
                with torch.no_grad():
                    expected = supernet(torch.from_numpy(x), subnet).numpy()
                np.testing.assert_allclose(session.infer(x), expected, atol=1e-4, err_msg=f"{address} {subnet}")
