"""Names of models and files of weights: what they load, and how one that names nothing is explained."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adaptivenet.toolkit.elastic import elastify, load_model
from adaptivenet.toolkit.errors import ModelError
from safetensors.torch import save_file
from small_training import Small
from torch import nn

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
        ("folder/net.onnx", "package.module:function; of an ONNX file .* onnx2torch.convert"),
        ("net.pt2", "of this file the function can return torch.export.load"),
        ("net.PTH", "is no model: the function builds it, and --weights FILE loads a state_dict"),
        ("net.gguf", "package.module:function$"),
    ],
)
def test_a_name_that_names_no_model_is_explained(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(name)


def test_a_supernet_in_place_of_a_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "supernet.json").write_text("{}")
    with pytest.raises(ModelError, match="it is a supernet: --polish PROFILE trains it further"):
        load_model(str(tmp_path))


@pytest.mark.usefixtures("torchvision")
def test_random_weights_are_fetched_from_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*args: object, **kwargs: object) -> None:
        raise AssertionError("weights are downloaded")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetch)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    for name in ("lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large", "squeezenet1_1"):
        assert isinstance(load_model(f"torchvision:{name}"), nn.Module)


@pytest.mark.usefixtures("torchvision")
def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(
        ModelError, match=r"'mobilenet_v2' is no name of a model.*did you mean .*torchvision:mobilenet_v2"
    ):
        load_model("mobilenet_v2")
    with pytest.raises(ModelError, match=r"could not be built: .*; did you mean torchvision:mobilenet_v2 or "):
        load_model("torchvision:mobilenetv2")
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
    messages = {
        "missing.pth": "there is no file of weights",
        "missing.safetensors": "there is no file of weights",
        "text.pth": "is no state dict that can be read safely",
        "text.safetensors": "is no state dict that can be read safely",
        "few.pth": "do not fit the model: Missing key",
        "list.pth": "holds list, not a state dict",
    }
    for name, message in messages.items():
        with pytest.raises(ModelError, match=message):
            load_model("benchmarks.models:resnet20", tmp_path / name)


OTHER_BUILD = """
import sys, torch
load = torch.ops.load_library

def of_another_build(path):
    if "torchvision" in str(path):
        raise OSError("undefined symbol")
    load(path)

torch.ops.load_library = of_another_build
from adaptivenet.toolkit.elastic import load_model
print(type(load_model(sys.argv[1])).__name__)
"""


@pytest.mark.parametrize(("name", "kind"), [("timm:resnet18", "ResNet"), ("own:net", "AlexNet")])
def test_torchvision_whose_operators_are_of_another_build(name: str, kind: str, tmp_path: Path) -> None:
    """Its import then ends with "operator torchvision::nms does not exist"; timm and users' own modules import it."""
    (tmp_path / "own.py").write_text("import torchvision\n\ndef net():\n    return torchvision.models.alexnet()\n")
    (tmp_path / "program.py").write_text(OTHER_BUILD)
    done = subprocess.run(
        [sys.executable, "program.py", name], capture_output=True, text=True, cwd=tmp_path, timeout=240
    )
    assert done.stdout == f"{kind}\n", done.stderr


def test_wrappers_are_taken_off_and_programs_are_refused() -> None:
    torch.manual_seed(0)
    model, x = Small(2).eval(), torch.randn(3, 3, 12, 12)
    for wrapped in (torch.compile(model), nn.DataParallel(model)):
        torch.testing.assert_close(elastify(wrapped, x[:1])(x), model(x))
    message = "is a TorchScript module, which cannot be cut into blocks: build the model in Python"
    with pytest.raises(ModelError, match=f"the model {message}"):
        elastify(torch.jit.trace(model, x), x[:1])
    model.stem = torch.jit.script(model.stem)
    with pytest.raises(ModelError, match=f"stem {message}"):
        elastify(model, x[:1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_another_type_become_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, x = Small(2).eval().to(dtype), torch.randn(3, 3, 12, 12)
    supernet = elastify(model, x[:1])
    assert {tensor.dtype for tensor in supernet.parameters()} == {torch.float32}
    assert next(model.parameters()).dtype == dtype
    torch.testing.assert_close(supernet(x), model.float()(x))


@pytest.mark.parametrize(("dtype", "device"), [(torch.float64, None), (torch.float32, "meta")])
def test_torchs_defaults_do_not_matter_and_are_left_alone(dtype: torch.dtype, device: Any) -> None:
    torch.manual_seed(0)
    model, x = Small(2).eval(), torch.randn(3, 3, 12, 12)
    expected = elastify(model, x[:1])(x)
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        assert torch.equal(elastify(model, x[:1])(x), expected)
        assert (torch.get_default_dtype(), str(torch.get_default_device())) == (dtype, device or "cpu")
        if device:
            with pytest.raises(ModelError, match=r"Small has stem.weight on the meta device, where it has no values"):
                elastify(Small(1), x[:1])
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


class Lazy(Small):
    def __init__(self) -> None:
        super().__init__(2)
        self.head = nn.LazyLinear(5)


def test_lazy_layers_take_their_sizes_from_the_example() -> None:
    model, x = Lazy().eval(), torch.randn(3, 3, 12, 12)
    one, two = elastify(model, x[:1]), elastify(model, x[:1])
    assert one.graph.cuts[-1].shape == (1, 5)
    assert torch.equal(one(x), two(x))
    assert isinstance(model.head.weight, nn.UninitializedParameter)


def test_what_is_no_model_is_told_with_what_to_do() -> None:
    model = nn.Conv2d(3, 4, 3)
    for wrong, what in ((model.state_dict(), "a OrderedDict"), (nn.Conv2d, "the class Conv2d")):
        with pytest.raises(ModelError, match=f"^{what} is no network: .* weights loaded into it"):
            elastify(wrong, torch.zeros(1, 3, 8, 8))  # type: ignore[arg-type]


def test_a_network_trained_for_int8_is_taken_without_its_rounding() -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(3)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), *blocks).train()
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("qnnpack")  # type: ignore[assignment]
    torch.ao.quantization.prepare_qat(model, inplace=True)
    x = torch.randn(2, 3, 8, 8)
    model(x)
    with pytest.raises(ModelError, match=r"rounds as int8 would, .*disable_fake_quant"):
        elastify(model.eval(), x[:1])
    model.apply(torch.ao.quantization.disable_fake_quant)
    supernet = elastify(model, x[:1])
    assert torch.equal(supernet(x), model(x))
    assert not any(
        "fake" in str(node.target) for name in supernet.graph.oracle for node in supernet.blocks[name].graph.nodes
    )  # type: ignore[union-attr]


def dynamically(model: nn.Module) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})


def by_torchao(model: nn.Module) -> nn.Module:
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model


@pytest.mark.parametrize("quantise", [dynamically, by_torchao])
@pytest.mark.filterwarnings("ignore")
def test_a_network_that_is_quantised_already_is_told_from_one_in_float32(quantise: Callable[..., nn.Module]) -> None:
    model = quantise(Small(2).eval())
    with pytest.raises(ModelError, match=r"^head.* is quantised already \(.*give that; the export makes int8"):
        elastify(model, torch.zeros(1, 3, 16, 16))
