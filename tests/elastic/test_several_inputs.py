"""Networks of several inputs: a mask, a prompt, a time step beside what the blocks pass on, or numbers of tokens."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Supernet, elastify
from adaptivenet.toolkit.elastic.kinds import lowrank, merge, prune, skip
from adaptivenet.toolkit.errors import DataError, ModelError
from adaptivenet.toolkit.graph.sampling import PathSampler
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


class Attention(nn.Module):
    def __init__(self, width: int, context: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(context or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: torch.Tensor, context: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        n, length, width = x.shape
        normed = self.norm(x)
        k, v = self.kv(normed if context is None else context).chunk(2, -1)
        q, k, v = (each.reshape(n, -1, 4, width // 4).transpose(1, 2) for each in (self.q(normed), k, v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // 4)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -1e4)
        out: torch.Tensor = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width))
        return out


class Feed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.narrow(nn.functional.gelu(self.wide(self.norm(x))))
        return out


class Text(nn.Module):
    """An encoder of token numbers, of which some are only there to fill up."""

    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, 16), nn.Embedding(12, 16)
        self.layers = nn.ModuleList(nn.ModuleList([Attention(16), Feed(16)]) for _ in range(layers))
        self.head = nn.Linear(16, 5)

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.tokens(token_ids) + self.places(torch.arange(token_ids.shape[1]))
        for attention, feed in self.layers:
            x = feed(attention(x, mask=mask))
        counted = mask.unsqueeze(-1).float()
        out: torch.Tensor = self.head((x * counted).sum(1) / counted.sum(1).clamp(min=1))
        return out


class OneText(nn.Module):
    """The same of numbers alone: which are there to fill up is told from them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Text()

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.encoder(token_ids, token_ids.ne(0))
        return out


class Modulated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, width)
        self.first, self.second = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)
        self.scale = nn.Linear(8, 2 * width)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        scale, shift = self.scale(time)[..., None, None].chunk(2, 1)
        out: torch.Tensor = x + self.second(torch.relu(self.first(self.norm(x)) * (1 + scale) + shift))
        return out


class Denoiser(nn.Module):
    """A noisy picture and its time step, of which a curve, or a small network (`learned`), makes what blocks read."""

    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 1, 1)
        self.time = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8)) if learned else nn.Identity()
        self.blocks = nn.ModuleList(Modulated(8) for _ in range(5))
        self.last = nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        angles = timestep.float()[:, None] * torch.exp(-torch.arange(4) * 1.5)
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        x = self.first(sample)
        for block in self.blocks:
            x = block(x, time)
        out: torch.Tensor = sample - self.last(x)
        return out


class Prompted(nn.Module):
    """Tokens of a picture that look at those of a prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 4, 4)
        self.layers = nn.ModuleList(nn.ModuleList([Attention(16, 6), Feed(16)]) for _ in range(4))
        self.head = nn.Linear(16, 5)

    def forward(self, pixels: torch.Tensor, prompt: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.first(pixels).flatten(2).transpose(1, 2)
        for attention, feed in self.layers:
            x = feed(attention(x, prompt, mask))
        out: torch.Tensor = self.head(x.mean(1))
        return out


class Sound(nn.Module):
    """A sound and which of it counts: of its frames, those up to the last whole one are written down as a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 16, 4, 4)
        self.layers = nn.ModuleList(nn.ModuleList([Attention(16), Feed(16)]) for _ in range(4))
        self.head = nn.Linear(16, 5)

    def forward(self, sound: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        x = self.first(sound[:, None]).transpose(1, 2)
        last = torch.zeros(x.shape[:2], dtype=torch.long)
        last[(torch.arange(x.shape[0]), counts.sum(1).clamp(min=4) // 4 - 1)] = 1
        mask = last.flip([-1]).cumsum(-1).flip([-1]).bool()
        for attention, feed in self.layers:
            x = feed(attention(x, mask=mask))
        out: torch.Tensor = self.head(x.mean(1))
        return out


def several(batch: int, seed: int = 0) -> dict[str, tuple[nn.Module, dict[str, torch.Tensor]]]:
    torch.manual_seed(seed)
    ids, mask = torch.randint(1, 50, (batch, 12)), torch.rand(batch, 12) > 0.3
    picture, prompt = torch.randn(batch, 3, 16, 16), torch.randn(batch, 7, 6)
    timed = {"sample": picture, "timestep": torch.randint(0, 1000, (batch,))}
    return {
        "text": (Text(), {"token_ids": ids, "mask": mask}),
        "one-text": (OneText(), {"token_ids": ids * mask}),
        "denoiser": (Denoiser(learned=False), timed),
        "learned-denoiser": (Denoiser(learned=True), timed),
        "sound": (Sound(), {"sound": torch.randn(batch, 48), "counts": (torch.rand(batch, 48) > 0.3).long()}),
        "prompted": (Prompted(), {"pixels": picture, "prompt": prompt, "mask": torch.rand(batch, 7) > 0.3}),
    }


NAMES = [*several(1)]
KINDS = (merge(2), prune(0.5), lowrank(0.5), skip())


@pytest.mark.parametrize("name", NAMES)
def test_network_of_several_inputs_computes_what_it_did(name: str, tmp_path: Path) -> None:
    model, inputs = several(3)[name]
    supernet = elastify(model, {key: value[:1] for key, value in inputs.items()}, kinds=KINDS)
    with torch.no_grad():
        expected = model.eval()(**inputs)
        assert torch.allclose(supernet(supernet.row(inputs)), expected, atol=1e-5)
        supernet.save(tmp_path / "supernet")
        again = Supernet.load(tmp_path / "supernet")
        assert (again.inputs, again.graph) == (supernet.inputs, supernet.graph)
        assert torch.allclose(again(again.row(inputs)), expected, atol=1e-5)
    elastic = {block.start for block in supernet.graph.blocks if not block.is_original}
    assert len(elastic) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_subnets_run_and_train(name: str) -> None:
    model, inputs = several(2)[name]
    supernet = elastify(model, {key: value[:1] for key, value in inputs.items()}, kinds=KINDS)
    row = supernet.row(inputs)
    for subnet in PathSampler(supernet.graph, dict.fromkeys(supernet.blocks, 1.0)).sample(10, random.Random(0)):
        output = supernet(row, subnet)
        assert output.shape == supernet(row).shape
        if output.requires_grad:
            output.square().mean().backward()
            assert all(each.grad is None or each.grad.isfinite().all() for each in supernet.parameters())


def test_both_engines_compute_what_torch_computes(tmp_path: Path) -> None:
    _, inputs = several(1)["text"]
    supernet = elastify(Text(2), inputs, kinds=(skip(),))
    assert len(list(supernet.alternatives())) >= 3
    pack = export_pack(supernet, tmp_path / "pack", metrics=("fidelity",), jobs=1)
    arrays = {key: value.numpy() for key, value in several(1, seed=1)["text"][1].items()}
    x = pack.row(arrays)
    for refusing in (
        lambda: pack.row({**arrays, "words": x}),
        lambda: supernet.row({**inputs, "words": inputs["mask"]}),
    ):
        with pytest.raises(DataError, match="there is no input 'words'; the network reads token_ids, mask"):
            refusing()
    np.savez(tmp_path / "data.npz", **arrays)
    assert np.array_equal(pack.open_data(tmp_path / "data.npz").image(0), x)
    for address in ("local:onnxruntime", "local:executorch"):
        with connect(address).open(pack) as session:
            for subnet in PathSampler(supernet.graph, dict.fromkeys(supernet.blocks, 1.0)).sample(4, random.Random(0)):
                session.activate(subnet)
                with torch.no_grad():
                    expected = supernet(torch.from_numpy(x), subnet).numpy()
                np.testing.assert_allclose(session.infer(x), expected, atol=1e-4, err_msg=f"{address} {subnet}")


def test_examples_that_are_no_inputs_are_named() -> None:
    model, inputs = several(1)["text"]
    for wrong, message in [
        ({**inputs, "mask": inputs["mask"].double()}, r"'mask' is float64\(1, 12\)"),
        ({**inputs, "mask": torch.zeros(3, 12, dtype=torch.bool)}, "one batch of all inputs"),
        ({**inputs, "mask": None}, "'mask' is NoneType"),
        ({"words": inputs["token_ids"], "mask": inputs["mask"]}, "has no input 'words'; it has token_ids, mask"),
        ({}, "the example must have one batch of all inputs"),
    ]:
        with pytest.raises(ModelError, match=message):
            elastify(model, wrong)
