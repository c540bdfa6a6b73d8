"""Files of weights: every wrapping that people save them in, and files that are refused without running their code."""

from __future__ import annotations

import argparse
import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.elastic import load_model
from adaptivenet.toolkit.elastic.weights import load_weights
from adaptivenet.toolkit.errors import ModelError
from safetensors.torch import save_file
from small_training import Small
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def expected() -> nn.Module:
    torch.manual_seed(11)
    return Small(1)


def assert_loaded(file: Path, expected: nn.Module) -> None:
    torch.manual_seed(12)
    model = Small(1)
    load_weights(model, file)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def renamed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPINGS = {
    "plain": lambda state: state,
    "module": lambda state: renamed(state, "module."),
    "compiled": lambda state: renamed(state, "_orig_mod."),
    "both": lambda state: {"state_dict": renamed(state, "module._orig_mod.")},
    "compiled inside": lambda state: {name.replace("blocks.", "blocks._orig_mod."): t for name, t in state.items()},
    "model": lambda state: {"model": state, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}},
    "lightning": lambda state: {"state_dict": {**renamed(state, "model."), "loss.weight": torch.ones(5)}},
    "averaged": lambda state: {"model": {k: t + 1 for k, t in state.items()}, "model_ema": state},
    "swa": lambda state: {"n_averaged": torch.tensor(3), **renamed(state, "module.")},
    "settings": lambda state: {"args": argparse.Namespace(lr=0.1, path=Path("x")), "model": state},
    "numbers": lambda state: {"best": np.float64(0.9), "curve": np.arange(3), "net": state},
    "mapping": lambda state: {"log": collections.defaultdict(list, {"loss": [1.0]}), "net": state},
    "old": lambda state: {name: t for name, t in state.items() if "num_batches" not in name},
    "two networks": lambda state: {"generator": {"conv.weight": torch.ones(3)}, "discriminator": state},
}


@pytest.mark.parametrize(
    ("wrapping", "zipped"), [*((wrapping, True) for wrapping in WRAPPINGS), ("settings", False), ("both", False)]
)
def test_weights_in_every_wrapping(wrapping: str, zipped: bool, expected: nn.Module, tmp_path: Path) -> None:
    """Not zipped: as torch wrote them before its version 1.6."""
    content = WRAPPINGS[wrapping](dict(expected.state_dict()))
    torch.save(content, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
    assert_loaded(tmp_path / "weights.pth", expected)


def test_prefixes_in_safetensors(expected: nn.Module, tmp_path: Path) -> None:
    save_file(renamed(expected.state_dict(), "backbone."), tmp_path / "weights.safetensors")
    assert_loaded(tmp_path / "weights.safetensors", expected)


class Written:
    """What pickle would call with a file to write."""

    def __init__(self, file: Path) -> None:
        file.write_text("its code was run")


class Writes:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Written, (self.file,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_of_weights_is_not_run(expected: nn.Module, zipped: bool, tmp_path: Path) -> None:
    file, trace = tmp_path / "weights.pth", tmp_path / "trace"
    torch.save({"model": expected.state_dict(), "extra": Writes(trace)}, file, _use_new_zipfile_serialization=zipped)
    if zipped:
        assert_loaded(file, expected)
    else:
        with pytest.raises(ModelError, match="is no state dict that can be read safely"):
            assert_loaded(file, expected)
    assert not trace.exists()


def test_what_is_no_weights_is_told_with_what_to_do(expected: nn.Module, tmp_path: Path) -> None:
    torch.save(expected, tmp_path / "whole.pth")
    torch.save({"epoch": 1, "ema": expected}, tmp_path / "wrapped.pth")
    torch.save({"epoch": 1, "best": 0.5}, tmp_path / "none.pth")
    torch.save({"a": {"x.weight": torch.ones(1)}}, tmp_path / "other.pth")
    torch.save({**expected.state_dict(), "head.weight": torch.ones(7, 8)}, tmp_path / "classes.pth")
    torch.jit.script(nn.Conv2d(3, 8, 3)).save(str(tmp_path / "script.pt"))
    messages = {
        "whole.pth": r"holds a whole small_training.Small, and reading it would run its code: .*; where you trust it",
        "wrapped.pth": r"holds a whole small_training.Small under 'ema'",
        "none.pth": r"holds dict of epoch, best, not a state dict of tensors: write it with torch.save\(model.state",
        "other.pth": r"under 'a' do not fit the model: Missing key\(s\) .*, unexpected key\(s\) x.weight; name",
        "classes.pth": "do not fit the model: size mismatch for head.weight",
        "script.pt": "is a TorchScript program, not weights: where .*torch.jit.load",
        ".": "cannot be read: Is a directory",
    }
    for name, message in messages.items():
        with pytest.raises(ModelError, match=message):
            load_weights(Small(1), tmp_path / name)
    with pytest.raises(ModelError, match="has no weights called 'pretrained': let the function load them"):
        load_model("benchmarks.models:resnet20", "pretrained")
