"""adaptivenet-elastify for networks that see no pictures: the shape of one input, or several by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from adaptivenet.toolkit.cli.elastify import main as elastify
from adaptivenet.toolkit.elastic import Supernet
from commands import call, document_of, error_of

KEYWORDS = """
import torch


class Keywords(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(8 if at else 1, 8, 3, padding=1) for at in range(7))
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x.mean((2, 3)))
"""


def test_a_network_that_sees_no_pictures_is_made_elastic_and_trained(workplace: Path) -> None:
    (workplace / "keyword_model.py").write_text(KEYWORDS)
    inputs = np.random.default_rng(0).standard_normal((24, 1, 20, 10)).astype(np.float32)
    np.savez(workplace / "spoken.npz", images=inputs, labels=np.arange(24) % 5)
    arguments = ("keyword_model:Keywords", "--input", "1x20x10", "--out", "made")
    document = document_of(call(elastify, *arguments, "--data", "spoken.npz", "--epochs", "1", "--json"))
    assert document["training"]["steps"] > 0
    supernet = Supernet.load(Path("made"))
    assert supernet.preprocessing is None
    assert supernet.graph.cuts[0].shape == (1, 1, 20, 10)
    said = error_of(call(elastify, *arguments, "--data", "pictures.npz"))
    assert "pictures.npz" in said
    for wrong in ("1x0x10", "wide", "1,20,10", ""):
        assert "is no shape such as 1x49x10" in call(elastify, *arguments[:-3], wrong, *arguments[-2:]).stderr
    assert "--input for anything else" in call(elastify, *arguments, "--size", "32").stderr


def test_a_network_is_traced_with_an_input_of_its_data(workplace: Path) -> None:
    (workplace / "powers_model.py").write_text(KEYWORDS.replace("        for", "        x = x.log()\n        for", 1))
    np.savez(workplace / "powers.npz", images=np.random.default_rng(0).random((8, 1, 20, 10), np.float32) + 1)
    arguments = ("powers_model:Keywords", "--input", "1x20x10", "--dry-run")
    assert "the first of --data is taken" in error_of(call(elastify, *arguments))
    assert document_of(call(elastify, *arguments, "--data", "powers.npz", "--json"))["blocks"]


TEXT = """
import torch

class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.wide, self.narrow = torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)

    def forward(self, x, mask):
        x = x + self.attention(x, x, x, key_padding_mask=~mask, need_weights=False)[0]
        return x + self.narrow(torch.relu(self.wide(x)))

class Text(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = torch.nn.Embedding(30, 8)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(4))
        self.head = torch.nn.Linear(8, 3)

    def forward(self, token_ids, mask):
        x = self.tokens(token_ids)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x.mean(1))
"""


def test_a_network_of_several_inputs_is_made_elastic_and_trained(workplace: Path) -> None:
    (workplace / "text_model.py").write_text(TEXT)
    rng = np.random.default_rng(0)
    mask = np.arange(6) < rng.integers(1, 7, (24, 1))
    np.savez(workplace / "text.npz", token_ids=rng.integers(0, 30, (24, 6)), mask=mask, labels=np.arange(24) % 3)
    named = ("--input", "token_ids=6:int64", "--input", "mask=6:bool")
    arguments = ("text_model:Text", *named, "--out", "made")
    document = document_of(call(elastify, *arguments, "--data", "text.npz", "--epochs", "1", "--json"))
    assert document["training"]["steps"] > 0
    supernet = Supernet.load(Path("made"))
    assert [(each.name, each.shape, each.dtype) for each in supernet.inputs] == [
        ("token_ids", (1, 6), "int64"),
        ("mask", (1, 6), "bool"),
    ]
    assert any(block.reads == (0,) and not block.is_original for block in supernet.graph.blocks)
    held = dict(np.load("text.npz"))
    np.savez("wrong.npz", **{**held, "token_ids": np.where(np.arange(24)[:, None] == 20, -1, held["token_ids"])})
    assert "wrong.npz: 'token_ids' has -1 in row 20 (from 0 on), and the network's table the numbers from 0 to 29" in (
        error_of(call(elastify, *arguments, "--data", "wrong.npz"))
    )
    assert "no array 'token_ids', which the network reads; it holds images, labels" in error_of(
        call(elastify, *arguments, "--data", "pictures.npz")
    )
    assert "give one with the arrays token_ids, mask" in error_of(call(elastify, *arguments, "--data", "."))
    assert "4 of them with alternatives" in call(elastify, "text_model:Text", *named, "--explain").stdout
    for wrong, message in [
        ("mask=6:text", "is no input such as"),
        ("mask=0:bool", "is no shape"),
        ("=6:bool", "is no input such as"),
        ("token_ids=3", "two inputs have one name: token_ids"),
        ("2nd=6:bool", "is no input such as"),
        ("self=6:bool", "error: the forward of Text has no input 'self'; it has token_ids, mask"),
        ("6", "is no input such as"),
    ]:
        result = call(elastify, "text_model:Text", *named, "--input", wrong, "--dry-run")
        assert result.exit_code == (1 if message.startswith("error") else 2)
        assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ("--input", "ids=6:int64", "--input", "mask=6:bool", "--flip"),
            1,
            "the row of ids, mask has shape (1, 12): it",
        ),
        (("--input", "ids=6:int64", "--shift", "1"), 1, "cannot be flipped or shifted by 1 pixels; train without"),
        (("--input", "80x300", "--flip"), 1, "the network's input has shape (1, 80, 300): it cannot be flipped"),
        (("--input", "1x49x10", "--flip", "--shift", "10"), 1, "shape (1, 1, 49, 10): it cannot be flipped or shifted"),
        (
            ("--input", "1x49x10", "--labels", "masks"),
            2,
            "--labels are for RGB pictures, and --input for anything else",
        ),
    ],
)
def test_what_only_pictures_can_do_is_refused_before_a_model_is_loaded(
    arguments: Sequence[str], status: int, message: str, workplace: Path
) -> None:
    result = call(elastify, "no_such_module:build", "--out", "made", "--data", "text.npz", *arguments)
    assert result.exit_code == status
    assert message in result.stderr


def test_pictures_that_are_smaller_than_their_shift_are_refused_before_blocks_are_made(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptivenet.toolkit.elastic.elastify", None)
    arguments = ("flower_model:build", "--size", "32", "--out", "made", "--data", "pictures.npz", "--shift", "32")
    assert "(1, 3, 32, 32): it cannot be flipped or shifted by 32 pixels" in error_of(call(elastify, *arguments))
