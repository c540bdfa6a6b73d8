"""Blocks are found where the graph repeats, whatever modules a network writes its layers in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from adaptivenet.toolkit.elastic import elastify, merge, prune, skip
from adaptivenet.toolkit.elastic.supernet import Supernet
from adaptivenet.toolkit.elastic.tracing.stretches import Stretch, discover
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.errors import ModelError
from torch import fx, nn
from torch.export import Dim
from torch.utils.checkpoint import checkpoint

PICTURE = torch.randn(1, 3, 32, 32)
KINDS = [merge(2), merge(3), prune(0.25), prune(0.5), skip()]


class InLists(nn.Module):
    """Residual blocks whose layers lie in one list a kind; the additions and activations stand in the forward."""

    def __init__(self, blocks: int = 5, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.first = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(blocks))
        self.norms = nn.ModuleDict({f"{at}{of}": nn.BatchNorm2d(width) for at in range(blocks) for of in "ab"})
        self.head = nn.Linear(width, 5)

    def block(self, at: int, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norms[f"{at}a"](self.first[at](x)))
        return torch.relu(x + self.norms[f"{at}b"](self.second[at](y)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for at in range(len(self.first)):
            x = self.block(at, x)
        return self.head(x.mean((2, 3)))


class Checkpointed(InLists):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for at in range(len(self.first)):
            x = checkpoint(self.block, at, x, use_reentrant=False)
        return self.head(x.mean((2, 3)))


class Shared(nn.Module):
    """Two branches, each of which runs several times."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1))
            for _ in range(2)
        )
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for at in (0, 1, 0, 0, 1):
            x = torch.relu(x + self.branches[at](x))
        return self.head(x.mean((2, 3)))


class Functional(nn.Module):
    """Weights in a list, and no layer at all."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.weights = nn.ParameterList(torch.randn(width, width, 3, 3) / 9 for _ in range(5))
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for weight in self.weights:
            x = x + nn.functional.relu(nn.functional.conv2d(x, weight, padding=1))
        return self.head(x.mean((2, 3)))


class Temporal(nn.Module):
    def __init__(self, layers: int = 8, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, padding=2**at, dilation=2**at) for at in range(layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(layers))
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.layers, self.norms):
            x = torch.relu(norm(layer(x)))
        return self.head(x.mean(-1))


def vgg(*stages: int) -> nn.Sequential:
    """So many convolutions of each width, 32, 64, …, with norms and activations, and a pooling layer after them."""
    layers: list[nn.Module] = []
    before = 3
    for number, count in enumerate(stages):
        width = 32 * (number + 1)
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 5))


def mobilenet(*widths: int) -> nn.Sequential:
    """Depthwise and pointwise convolutions in turn; a new width comes with half the resolution."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU()]
    before = 32
    for width in widths:
        stride = 1 if width == before else 2
        layers += [nn.Conv2d(before, before, 3, stride, 1, groups=before), nn.BatchNorm2d(before), nn.ReLU6()]
        layers += [nn.Conv2d(before, width, 1), nn.BatchNorm2d(width), nn.ReLU6()]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 5))


def exported(model: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(
        model.eval(), (torch.cat([example, example]),), dynamic_shapes=({0: Dim("batch")},), strict=False
    )


def stretches_of(model: nn.Module, example: torch.Tensor) -> tuple[fx.GraphModule, list[Stretch]]:
    traced = trace(model.eval(), example)
    return discover(traced)


def layers_in(traced: fx.GraphModule, stretch: Stretch) -> list[str]:
    """The layers of a stretch, by the names of their classes."""
    return [type(traced.get_submodule(str(node.target))).__name__ for node in stretch.nodes if node.op == "call_module"]


@pytest.mark.parametrize(
    ("make", "example", "blocks", "counts"),
    [
        (InLists, PICTURE, 5, {"pruned": 10, "skip": 5, "merged": 7}),
        (Checkpointed, PICTURE, 5, {"pruned": 10, "skip": 5, "merged": 7}),
        (lambda: torch.compile(InLists().eval()), PICTURE, 5, {"pruned": 10, "skip": 5, "merged": 7}),
        (lambda: exported(InLists(), PICTURE), PICTURE, 5, {"pruned": 10, "skip": 5, "merged": 7}),
        (Shared, PICTURE, 5, {"pruned": 10, "skip": 5, "merged": 7}),
        (Functional, PICTURE, 5, {"skip": 5, "merged": 7}),
        (Temporal, torch.randn(1, 32, 64), 4, {"pruned": 8, "skip": 4, "merged": 5}),
        (lambda: vgg(2, 2, 4, 4), PICTURE, 6, {"pruned": 12, "skip": 1, "merged": 1}),
        (lambda: exported(vgg(2, 2, 4, 4), PICTURE), PICTURE, 6, {"pruned": 12, "skip": 1, "merged": 1}),
        (lambda: vgg(1, 1, 1, 1), PICTURE, 2, {"pruned": 4}),
        (lambda: mobilenet(*[64] * 8), PICTURE, 4, {"pruned": 8, "skip": 3, "merged": 5}),
    ],
    ids=[
        *("lists", "checkpoint", "compiled", "exported", "shared", "functional"),
        *("temporal", "VGG", "VGG exported", "VGG of stages of one", "MobileNetV1"),
    ],
)
def test_what_repeats_becomes_blocks(
    make: Callable[[], Any], example: torch.Tensor, blocks: int, counts: dict[str, int]
) -> None:
    torch.manual_seed(0)
    model = make()
    supernet = elastify(model.eval() if isinstance(model, nn.Module) else model, example, kinds=KINDS)
    graph = supernet.graph
    assert len({block.start for block in graph.blocks if not block.is_original}) == blocks
    assert Counter(block.kind for block in supernet.alternatives()) == counts
    runs = model.eval() if isinstance(model, nn.Module) else model.module()
    x = torch.cat([example, torch.randn_like(example)])
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), runs(x), rtol=1e-4, atol=1e-5)
        for block in supernet.alternatives():
            feature = supernet.features(x)[block.start]
            assert supernet.blocks[block.name](feature).shape[1:] == graph.cuts[block.end].shape[1:]


@pytest.mark.parametrize("model", [vgg(2, 1, 3, 4), mobilenet(32, 64, 64, 96, 96, 96, 128), vgg(1, 2, 2)])
def test_a_layer_its_norm_and_its_activation_are_never_cut_apart(model: nn.Module) -> None:
    traced, stretches = stretches_of(model, PICTURE)
    for stretch in stretches:
        layers = layers_in(traced, stretch)
        assert layers[0] in ("Conv2d", "MaxPool2d", "AdaptiveAvgPool2d")
        assert layers[-1] not in ("Conv2d", "BatchNorm2d")
        assert layers.count("Conv2d") <= layers.count("BatchNorm2d") + 1, "only the stem has no norm"


def test_convolutions_of_one_resolution_stay_together() -> None:
    traced, stretches = stretches_of(vgg(2, 2, 4, 2), PICTURE)
    elastic = [layers_in(traced, each) for each in stretches if each.elastic]
    assert [layers.count("Conv2d") for layers in elastic] == [2] * 5
    assert [layers.index("MaxPool2d") for layers in elastic if "MaxPool2d" in layers] == [6] * 3


def test_what_is_saved_of_blocks_that_share_weights_is_loaded(tmp_path: Any) -> None:
    supernet = elastify(Shared().eval(), PICTURE, kinds=KINDS)
    supernet.save(tmp_path / "it")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(Supernet.load(tmp_path / "it")(x), supernet(x))


def test_a_program_exported_for_one_batch_size_is_refused_with_what_to_do() -> None:
    program = torch.export.export(vgg(2, 2).eval(), (PICTURE,))
    with pytest.raises(ModelError, match=r"exported for a batch of 1 alone: .* dynamic_shapes=.*batch of 2"):
        elastify(program, PICTURE)


def test_a_model_in_which_nothing_can_be_replaced_is_refused_with_the_blocks_that_were_looked_at() -> None:
    with pytest.raises(
        ModelError, match=r"no block of Sequential can be replaced: of 0…5 \(3×32×32 → .* none allows merged m4"
    ):
        elastify(vgg(2, 2, 2).eval(), PICTURE, kinds=[merge(4)])
