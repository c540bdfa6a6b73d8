"""A supernet and its files: they are only data, they give back what was saved, and hostile ones are refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.elastic import Supernet, elastify, merge, prune, skip
from adaptivenet.toolkit.errors import GraphError, ModelError
from safetensors.torch import load_file, save_file
from small import Residual, Small, alive
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def small() -> Supernet:
    torch.manual_seed(0)
    preprocessing = Preprocessing(8, 8, 10, mean=(0.5, 0.5, 0.5))
    return elastify(
        Small().eval(),
        torch.zeros(1, 3, 8, 8),
        kinds=[merge(2), merge(3), prune(0.5), skip()],
        preprocessing=preprocessing,
    )


@pytest.fixture
def saved(small: Supernet, tmp_path: Path) -> Path:
    small.save(tmp_path / "supernet")
    return tmp_path / "supernet"


def test_a_path_that_is_none_is_refused(small: Supernet) -> None:
    with pytest.raises(GraphError, match="not a subnet"):
        small(torch.zeros(1, 3, 8, 8), small.graph.oracle[:-1])


def test_what_is_known_of_the_oracle_is_not_run_again(small: Supernet) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    ran: list[str] = []
    hooks = [
        small.blocks[block.name].register_forward_hook(lambda *_, name=block.name: ran.append(name))
        for block in small.graph.blocks
    ]
    try:
        with torch.no_grad():
            features = small.features(x)
            for subnet in small.graph.paths():
                ran.clear()
                found = dict(small.walk(x, subnet, features))
                after = itertools.dropwhile(lambda name: small.graph[name].is_original, subnet)
                assert ran == list(after)
                assert [block.name for block in found] == list(subnet)
                plain = dict(small.walk(x, subnet))
                assert all(torch.equal(found[block], feature) for block, feature in plain.items())
    finally:
        for hook in hooks:
            hook.remove()


def test_only_the_alternatives_train(small: Supernet) -> None:
    small.train()
    try:
        for block in small.graph.blocks:
            module = small.blocks[block.name]
            assert module.training == (block.kind != "original")
            assert all(p.requires_grad == (block.kind != "original") for p in module.parameters())
    finally:
        small.eval()


def test_preprocessing_and_losses_travel(small: Supernet, tmp_path: Path) -> None:
    names = [block.name for block in small.alternatives()]
    twin = Supernet(small.graph.with_losses({names[0]: 0.25}), small.blocks, "a model", small.preprocessing)
    twin.save(tmp_path / "twin")
    loaded = Supernet.load(tmp_path / "twin")
    assert loaded.preprocessing == small.preprocessing
    assert loaded.source == "a model"
    assert loaded.graph[names[0]].loss == 0.25


def test_a_module_may_have_a_name_that_is_no_identifier(tmp_path: Path) -> None:
    class Dashed(Small):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential()
            for index in range(2):
                self.blocks.add_module(f"block-{index}", Residual(8))

    elastify(Dashed().eval(), torch.zeros(1, 3, 8, 8)).save(tmp_path / "supernet")
    assert Supernet.load(tmp_path / "supernet").graph["b01"].source == "blocks.block-0"


def test_a_buffer_of_the_model_stays_a_buffer(saved: Path) -> None:
    loaded = Supernet.load(saved)
    assert [name for name, _ in loaded.blocks["b00"].named_buffers()] == ["mean"]


def test_save_replaces_a_supernet_and_nothing_else(small: Supernet, saved: Path, tmp_path: Path) -> None:
    small.save(saved)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"the only copy")
    (tmp_path / "file").write_bytes(b"the only copy")
    for path in (tmp_path / "photos", tmp_path / "file"):
        with pytest.raises(ModelError, match="is not a supernet and will not be overwritten"):
            small.save(path)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == (tmp_path / "file").read_bytes() == b"the only copy"


def test_what_a_library_has_put_on_layers_is_not_saved_and_what_they_read_is(tmp_path: Path) -> None:
    model = Small().eval()
    for layer in model.modules():
        layer.qconfig = object()  # as torch prepares a network to be trained in int8
    supernet = elastify(model, torch.zeros(1, 3, 8, 8), kinds=[skip()])
    supernet.save(tmp_path / "supernet")
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(Supernet.load(tmp_path / "supernet")(x), model(x))
    layer = next(layer for layer in supernet.modules() if isinstance(layer, nn.Conv2d))
    layer.stride = object()  # type: ignore[assignment]
    with pytest.raises(ModelError, match=r"stride holds a object, which cannot be saved as data"):
        supernet.document()


def test_what_is_no_tensor_operation_cannot_be_saved(tmp_path: Path) -> None:
    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) if x.sum() > 0 else x

    class Model(Small):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 1), Opaque())  # type: ignore[assignment]

    supernet = elastify(Model().eval(), torch.randn(1, 3, 8, 8), kinds=[merge(2), merge(3)])
    with pytest.raises(ModelError, match=r"'stem\.1' is a .*Opaque, which cannot be saved as data"):
        supernet.save(tmp_path / "supernet")
    assert not list(tmp_path.iterdir())


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    doc = json.loads((path / "supernet.json").read_text())
    change(doc)
    (path / "supernet.json").write_text(json.dumps(doc))


def node(doc: dict[str, Any], op: str, block: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in doc["blocks"][block]["program"]["nodes"] if entry["op"] == op)
    return found


@pytest.mark.parametrize("name", ["supernet.json", "weights.safetensors"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ModelError, match=f"is no supernet: {name} is missing"):
        Supernet.load(saved)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere is no supernet: supernet\.json is missing"):
        Supernet.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["supernet.json", "weights.safetensors"])
@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_truncated_file_is_refused(saved: Path, name: str, share: float) -> None:
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match="is damaged"):
        Supernet.load(saved)


def set_path(*keys: Any, value: Any) -> Callable[[dict[str, Any]], object]:
    def change(doc: Any) -> None:
        for key in keys[:-1]:
            doc = doc[key]
        doc[keys[-1]] = value

    return change


PROGRAM = ("blocks", 0, "program")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_path("version", value=2), "has version 2; this toolkit reads version 1"),
        (set_path("format", value="something"), "does not say 'adaptivenet-supernet'"),
        (set_path("blocks", value=3), "damaged"),
        (set_path("blocks", 0, value=3), "damaged"),
        (set_path("blocks", 0, "macs", value=10**400), "it holds the number 10000"),
        (set_path("blocks", 0, value="b00"), "damaged"),
        (set_path("blocks", 0, "start", value=5), "must go forward"),
        (set_path("blocks", 0, "unknown", value=5), "damaged"),
        (set_path("cuts", value=[]), "damaged"),
        (
            set_path("cuts", 1, "shape", value=[1, 8, 7, 7]),
            r"gives shape \(1, 8, 4, 4\) where cut 1 has \(1, 8, 7, 7\)",
        ),
        (set_path("cuts", 0, "shape", value="wide"), "damaged"),
        (set_path("preprocessing", value={"height": 8}), "damaged"),
        (set_path(*PROGRAM, value=None), "damaged"),
        (set_path(*PROGRAM, "nodes", value=[]), "do not lead from its inputs, which come first, to an output"),
        (
            set_path(*PROGRAM, "nodes", 0, "op", value="eval"),
            "do not lead from its inputs, which come first, to an output",
        ),
        (set_path(*PROGRAM, "modules", "stem", "class", value="builtins.eval"), "'builtins.eval', which is not one"),
        (
            set_path(*PROGRAM, "modules", "stem", "class", value="torch.nn.modules.conv.os.system"),
            "not one of torch.nn",
        ),
        (set_path(*PROGRAM, "modules", "stem", "class", value="torch.nn.modules.conv.Tensor"), "not one of torch.nn"),
        (set_path(*PROGRAM, "modules", "stem", "class", value="torch.nn.modules.rnn.LSTM"), "is damaged"),
        (set_path(*PROGRAM, "modules", "stem", "attributes", "forward", value=1), "sets 'forward' on Conv2d"),
        (set_path(*PROGRAM, "modules", "stem", "attributes", "__class__", value=1), "sets '__class__' on Conv2d"),
        (set_path(*PROGRAM, "modules", "stem", "attributes", "_parameters", value={"dict": {}}), "sets '_parameters'"),
        (set_path(*PROGRAM, "modules", "stem", "attributes", "_forward_hooks", value=1), "sets '_forward_hooks'"),
        (set_path(*PROGRAM, "modules", "stem", "attributes", "stride", value={"code": "1"}), "a value of kind 'code'"),
        (set_path(*PROGRAM, "modules", "stem", "attributes", "stride", value={"torch": "load"}), "of kind 'torch'"),
        (set_path(*PROGRAM, "modules", 'a" + str(print()) + "', value={}), "is no name"),
    ],
)
def test_an_edited_recipe_is_refused(saved: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(saved, change)
    with pytest.raises(ModelError, match=message):
        Supernet.load(saved)


@pytest.mark.parametrize(
    "name",
    [
        *("torch.load", "torch.save", "torch.hub.load", "os.system", "builtins.eval", "eval", "exec", "__import__"),
        *("operator.call", "operator.attrgetter", "operator.methodcaller", "torch.Tensor.__reduce_ex__", "setattr"),
    ],
)
def test_only_operations_on_tensors_are_called(saved: Path, name: str) -> None:
    def change(doc: dict[str, Any]) -> None:
        node(doc, "call_function")["target"] = name

    edit(saved, change)
    with pytest.raises(ModelError, match=f"block 'b00' is refused: a recipe calls '{name}', which is no operation"):
        Supernet.load(saved)


@pytest.mark.parametrize(
    "name", ["__reduce__", "apply_", "map_", "register_hook", "new", "set_", "numpy", "untyped_storage", "no_such"]
)
def test_only_operations_on_tensors_are_called_as_methods(saved: Path, name: str) -> None:
    def change(doc: dict[str, Any]) -> None:
        node(doc, "call_function").update(op="call_method", target=name)

    edit(saved, change)
    with pytest.raises(ModelError, match=f"a recipe calls the method '{name}'"):
        Supernet.load(saved)


@pytest.mark.parametrize(
    ("op", "fields", "message"),
    [
        ("call_function", {"target": "getattr", "args": [{"node": "x"}, "__class__"]}, "reads the attribute"),
        ("call_function", {"target": "getattr", "args": ["x", {"node": "x"}]}, "reads the attribute"),
        ("call_function", {"kwargs": {"dict": {"out=print('run'), other": 1}}}, "is no name"),
        ("call_function", {"name": "x\n    print('run')"}, "is no name"),
        ("call_function", {"args": [{"node": "nobody"}]}, "damaged"),
        ("call_function", {"op": "placeholder", "target": "y"}, "do not lead from its inputs, which come first"),
        ("call_function", {"op": "output", "target": "output"}, "more than one output"),
        ("placeholder", {"target": "x=print('run')"}, "is no name"),
        ("get_attr", {"target": "forward.__globals__"}, "which is not in it"),
        ("get_attr", {"target": "stem.__class__"}, "which is not in it"),
        ("call_module", {"target": "elsewhere"}, "which is not in it"),
        ("call_module", {"target": ""}, "which is not in it"),
    ],
)
def test_no_code_gets_into_the_program(
    saved: Path, capsys: pytest.CaptureFixture[str], op: str, fields: dict[str, Any], message: str
) -> None:
    edit(saved, lambda doc: node(doc, op).update(fields))
    with pytest.raises(ModelError, match=message):
        Supernet.load(saved)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update({"b00/stem.weight": torch.zeros(8, 3, 5, 5, 5)}), "block 'b00' does not run"),
        (lambda w: w.update({"b00/stem.weight": torch.zeros(8, 3, 3, 3, dtype=torch.float64)}), "block 'b00' does not"),
        (lambda w: w.pop("b00/stem.weight"), "block 'b00' does not run"),
        (lambda w: w.update({"b99/stem.weight": torch.zeros(1)}), r"weights for \['b99'\], but no such block"),
        (lambda w: w.update({"b00/nowhere.weight": torch.zeros(1)}), "block 'b00' is damaged"),
        (lambda w: w.update({"b00/stem.forward": torch.zeros(1)}), "block 'b00' is damaged"),
        (lambda w: w.update({'b00/stem."+"': torch.zeros(1)}), "is no name"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    saved: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    weights = load_file(saved / "weights.safetensors")
    change(weights)
    save_file(weights, saved / "weights.safetensors")
    with pytest.raises(ModelError, match=message):
        Supernet.load(saved)


class ReadsTheBatch(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half, rest = x.shape[0] / 2, x.shape[0] // 2
        y = self.blocks(self.stem(x)).mean((2, 3), keepdim=True).squeeze()
        return self.head(y) * half + rest


class Hooked(Small):
    def __init__(self) -> None:
        super().__init__()
        for block in self.blocks:
            block.conv1.register_forward_hook(lambda module, given, result: result * 2)


@pytest.mark.parametrize("model", [ReadsTheBatch(), Hooked()])
def test_a_saved_supernet_is_the_model_at_every_batch_size(model: nn.Module, tmp_path: Path) -> None:
    elastify(alive(model), torch.randn(1, 3, 8, 8), kinds=[]).save(tmp_path / "it")
    loaded = Supernet.load(tmp_path / "it")
    for size in (1, 2, 5, 8):
        x = torch.randn(size, 3, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(loaded(x), model(x).reshape(size, 5), rtol=1e-4, atol=1e-4)
