"""How much of a network becomes one block: repeats inside of repeats, pairs, stages, and what must stay apart."""

from __future__ import annotations

import random

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify
from adaptivenet.toolkit.elastic.tracing.granularity import Granularity, checked, joined
from adaptivenet.toolkit.errors import ModelError
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")
PICTURE = torch.randn(1, 3, 16, 16)


class Layer(nn.Module):
    """A transformer's layer: two halves, each of which adds to its input."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.proj(nn.functional.scaled_dot_product_attention(q, k, v))
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class Mixed(nn.Module):
    """Two kinds of blocks in turn, or stages of them: `kinds` names each, "d" halves the resolution."""

    def __init__(self, kinds: str) -> None:
        super().__init__()
        self.kinds = kinds
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(8, 16, 3, 2 if kind == "d" else 1, 1) for kind in kinds)
        self.second = nn.ModuleList(nn.Conv2d(16, 8, 1) for _ in kinds)
        self.beside = nn.ModuleList(nn.Conv2d(8, 8, 1, 2) for _ in kinds)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for kind, first, second, beside in zip(self.kinds, self.first, self.second, self.beside):
            inner = first(x) if kind == "b" else first(x).relu()
            x = (beside(x) if kind == "d" else x) + second(inner)
        return self.head(x.mean((2, 3)))


def positions(model: nn.Module, granularity: Granularity) -> list[int]:
    """How many layers with weights each block with alternatives has, in order; it computes what the model does."""
    supernet = elastify(model.eval(), PICTURE, granularity=granularity)
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x), rtol=1e-5, atol=1e-5)
    return [layers_of(supernet, name) for name in supernet.graph.oracle if is_elastic(supernet, name)]


def is_elastic(supernet: Supernet, name: str) -> bool:
    return any(block.start == supernet.graph[name].start for block in supernet.alternatives())


def layers_of(supernet: Supernet, name: str) -> int:
    return sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in supernet.blocks[name].modules())


@pytest.mark.parametrize(
    ("granularity", "layers"),
    [
        ("auto", [4] * 9),
        ("fine", [2] * 18),
        ("coarse", [8] * 4 + [4]),  # two layers in a row in four places; three would be in three
        (2, [8] * 4 + [4]),
        (3, [12] * 3),
        (4, [16] * 2 + [4]),
    ],
)
def test_layers_of_a_transformer_are_halved_and_joined(granularity: Granularity, layers: list[int]) -> None:
    assert positions(Transformer(9), granularity) == layers


@pytest.mark.parametrize(
    ("kinds", "granularity", "layers"),
    [
        ("abababab", "auto", [2] * 8),
        ("abababab", "coarse", [4] * 4),  # pairs of two kinds
        ("abababab", 4, [8] * 2),
        ("daadaadaadaa", "coarse", [7] * 4),  # stages
        ("daaadaaaadaa", 3, [7, 2, 7, 2, 2, 7]),
        ("aaaa", "coarse", [2] * 4),  # nothing larger is in four places
    ],
)
def test_pairs_and_stages(kinds: str, granularity: Granularity, layers: list[int]) -> None:
    assert positions(Mixed(kinds), granularity) == layers


def test_a_number_that_nothing_repeats_by_is_an_error() -> None:
    with pytest.raises(ModelError, match="granularity 5: no 5 of the 9 blocks in a row repeat; give a smaller number"):
        elastify(Transformer(9).eval(), PICTURE, granularity=5)


@pytest.mark.parametrize("wrong", ["large", 1, 0, True, 2.0])
def test_what_is_no_granularity_is_refused(wrong: object) -> None:
    with pytest.raises(ModelError, match="give auto, fine, coarse, or how many blocks become one, from 2 on"):
        checked(wrong)  # type: ignore[arg-type]


def test_rows_cover_every_block_once_and_repeat() -> None:
    rng = random.Random(0)
    for _ in range(300):
        likes = rng.choices("ab", k=rng.randrange(1, 20))
        borders = [rng.random() < 0.2 for _ in likes]
        length = rng.randrange(2, 5)
        try:
            rows = joined(likes, borders, length)
        except ModelError:
            rows = [range(number, number + 1) for number in range(len(likes))]
            assert not any(_repeats(likes, borders, start, length) for start in range(len(likes)))
        assert [number for row in rows for number in row] == list(range(len(likes)))
        assert {len(row) for row in rows} <= {1, length}
        for row in rows:
            assert len(row) == 1 or _repeats(likes, borders, row.start, length)


def _repeats(likes: list[str], borders: list[bool], start: int, length: int) -> bool:
    """Whether the row from `start` on is whole, and stands somewhere else without a block in common."""

    def whole(at: int) -> bool:
        return at + length <= len(likes) and not any(borders[at : at + length - 1])

    return whole(start) and any(
        abs(at - start) >= length and whole(at) and likes[at : at + length] == likes[start : start + length]
        for at in range(len(likes))
    )
