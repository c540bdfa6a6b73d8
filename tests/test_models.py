"""Names of models and files of weights: what they load, and how one that names nothing is explained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adaptivenet.toolkit.elastic import load_model
from adaptivenet.toolkit.errors import ModelError
from safetensors.torch import save_file
from small import Small

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", "'resnet50' is no name of a model: a model is named timm:NAME"),
        ("torchvision:", "is no name of a model"),
        ("no_such_module:thing", "cannot import 'no_such_module'"),
        ("../path:thing", "cannot import|is no name"),
        (".relative:thing", "cannot import|is no name"),
        ("benchmarks.models:no_such", "module 'benchmarks.models' has no 'no_such'"),
        ("benchmarks.models:torch", "benchmarks.models:torch could not be built"),
        ("math:pi", "math:pi could not be built"),
        ("os:getcwd", "os:getcwd returned str, not a torch.nn.Module"),
    ],
)
def test_a_name_that_names_no_model_is_explained(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(name)


@pytest.mark.usefixtures("torchvision")
def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(ModelError, match="torchvision:no_such_model could not be built"):
        load_model("torchvision:no_such_model")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(11)
    expected = load_model("benchmarks.models:resnet20")
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in expected.state_dict().items()}}, file)
    else:
        save_file(expected.state_dict(), file)
    x = torch.randn(1, 3, 32, 32)
    loaded = load_model("benchmarks.models:resnet20", file)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(x), expected(x))


def test_weights_that_are_none_are_explained(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"linear.weight": torch.zeros(10, 64)}, tmp_path / "few.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save(Small(), tmp_path / "whole.pth")
    messages = {
        "missing.pth": "there is no file of weights",
        "missing.safetensors": "there is no file of weights",
        "text.pth": "is no state dict that can be read safely",
        "text.safetensors": "is no state dict that can be read safely",
        "few.pth": "do not fit the model: Missing key",
        "list.pth": "holds list, not a state dict",
        "whole.pth": "is no state dict that can be read safely",
    }
    for name, message in messages.items():
        with pytest.raises(ModelError, match=message):
            load_model("benchmarks.models:resnet20", tmp_path / name)
