"""ExecuTorch in this process: programs that read their inputs where these are, and what may happen to the memory."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from weakref import ref

import numpy as np
import pytest
import torch
from adaptivenet.export.programs import export_program
from adaptivenet.toolkit.devices.local.executorch_engine import ROOM, ExecuTorchEngine
from adaptivenet.toolkit.devices.local.interpreter import Program
from adaptivenet.toolkit.errors import DeviceError
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (1, 3, 8, 8)


class Sum(nn.Module):
    """Of two features, or of one and itself."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 2 * x + y


class Slice(nn.Module):
    """Outside XNNPACK, so that the program is contiguous, and nothing of it needs room but what comes next."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, ::2, ::2]


@pytest.fixture(scope="module")
def engine() -> ExecuTorchEngine:
    return ExecuTorchEngine(1)


@pytest.fixture(autouse=True)
def _seeded(seeded: None) -> None:
    """Every test draws the same weights."""


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU()).eval()


def loaded(engine: ExecuTorchEngine, module: nn.Module, *inputs: torch.Tensor) -> tuple[Program, str]:
    """The program of a module, as it is exported, and its layout."""
    program = export_program("block 'b'", module.eval(), inputs, "executorch")
    with torch.no_grad():
        gives = tuple(module(*inputs).shape), "float32"
    takes = [(tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in inputs]
    return engine.load("block 'b'", program.data, program.layout, takes, gives), program.layout


def loaded_with_copies(engine: ExecuTorchEngine, module: nn.Module, x: torch.Tensor) -> Program:
    """The same, exported as ExecuTorch's exporter does by itself: memory is planned for the input too."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module.eval(), (x.contiguous(memory_format=torch.channels_last),))
        edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        data = bytes(edge.to_executorch().buffer)
    with torch.no_grad():
        gives = tuple(module(x).shape), "float32"
    return engine.load("block 'b'", data, "channels_last", [(tuple(x.shape), "float32")], gives)


def room_behind(tensor: torch.Tensor) -> int:
    """The bytes of a tensor's memory after its last element."""
    last = tensor.storage_offset() + sum((size - 1) * stride for size, stride in zip(*_extent(tensor), strict=True))
    return tensor.untyped_storage().nbytes() - (last + 1) * tensor.element_size()


def _extent(tensor: torch.Tensor) -> tuple[Sequence[int], Sequence[int]]:
    return tuple(tensor.shape), tensor.stride()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "float16"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4, 5), (1, 7, 1, 1), (1, 2, 3, 4, 5)])
def test_every_tensor_has_its_values_its_layout_and_room(
    engine: ExecuTorchEngine, shape: tuple[int, ...], dtype: str, layout: str
) -> None:
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    tensor = engine.tensor(array, layout)
    found = engine.array(tensor)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    wanted = torch.channels_last if layout == "channels_last" and len(shape) == 4 else torch.contiguous_format
    assert tensor.is_contiguous(memory_format=wanted)
    assert room_behind(tensor) >= ROOM


def test_an_array_may_be_a_view_and_may_be_read_only(engine: ExecuTorchEngine) -> None:
    module, x = conv(3, 4), torch.randn(SHAPE)
    program, layout = loaded(engine, module, x)
    with torch.no_grad():
        expected = module(x).numpy()
    transposed = np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    wider = np.concatenate([x.numpy(), x.numpy()], axis=3)[:, :, :, :8]
    frozen = x.numpy().copy()
    frozen.setflags(write=False)
    for array in (transposed, wider, frozen):
        before = array.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tensor = engine.tensor(array, layout)
        np.testing.assert_allclose(engine.array(program([tensor])), expected, atol=1e-5)
        np.testing.assert_array_equal(array, before)


def test_a_feature_in_the_other_layout_is_brought_over(engine: ExecuTorchEngine) -> None:
    module, x = conv(3, 4), torch.randn(SHAPE)
    program, layout = loaded(engine, module, x)
    assert layout == "channels_last"
    with torch.no_grad():
        expected = module(x).numpy()
    for given in ("contiguous", "channels_last"):
        np.testing.assert_allclose(engine.array(program([engine.tensor(x.numpy(), given)])), expected, atol=1e-5)


def test_a_chain_of_both_kinds_of_programs_gives_what_torch_computes(engine: ExecuTorchEngine) -> None:
    """Programs that read their inputs in place, and some of an earlier pack, which copy them."""
    blocks = [conv(3, 8), conv(8, 8, 2), nn.Identity(), conv(8, 16), Slice(), conv(16, 4), nn.AdaptiveAvgPool2d(1)]
    modules = [*blocks, nn.Conv2d(4, 6, 1), nn.Flatten(), nn.Linear(6, 5)]
    programs: list[Program] = []
    x = torch.randn(SHAPE)
    for at, module in enumerate(modules):
        programs.append(loaded_with_copies(engine, module, x) if at in (1, 5) else loaded(engine, module, x)[0])
        with torch.no_grad():
            x = module(x)
    for image in (torch.randn(SHAPE), torch.randn(SHAPE)):
        feature, expected = engine.tensor(image.numpy(), "channels_last"), image
        for program, module in zip(programs, modules, strict=True):
            feature = program([feature], keep=False)
            with torch.no_grad():
                expected = module(expected)
        np.testing.assert_allclose(engine.array(feature), expected.numpy(), atol=1e-5)


def test_one_feature_may_be_given_twice(engine: ExecuTorchEngine) -> None:
    x, y = torch.randn(SHAPE), torch.randn(SHAPE)
    program, layout = loaded(engine, Sum(), x, y)
    one, other = (engine.tensor(each.numpy(), layout) for each in (x, y))
    for operands, expected in (([one, one], 3 * x), ([one, other], 2 * x + y), ([other, one], 2 * y + x)):
        np.testing.assert_allclose(engine.array(program(operands)), expected.numpy(), atol=1e-5)
    np.testing.assert_array_equal(engine.array(one), x.numpy())


def test_programs_that_several_chains_share_read_what_they_are_given_last(engine: ExecuTorchEngine) -> None:
    """In a chain that runs again nothing is handed over, until another chain has used a program of it."""
    modules = {"a": conv(3, 8), "b": conv(3, 8), "c": conv(8, 8), "d": nn.Identity(), "e": conv(8, 4)}
    feature = torch.randn(1, 8, 8, 8)
    programs = {
        name: loaded(engine, module, feature if name in "cde" else torch.randn(SHAPE))[0]
        for name, module in modules.items()
    }
    programs["f"] = loaded_with_copies(engine, modules["c"], feature)
    modules["f"] = modules["c"]
    rng = random.Random(0)
    chains = ["ace", "bce", "ade", "bde", "afe", "bfdce"]
    for path in [*chains, *(each for each in rng.choices(chains, k=20) for _ in range(2))]:
        image = torch.randn(SHAPE)
        given, expected = engine.tensor(image.numpy(), rng.choice(["contiguous", "channels_last"])), image
        for name in path:
            given = programs[name]([given], keep=False)
            with torch.no_grad():
                expected = modules[name](expected)
        np.testing.assert_allclose(engine.array(given), expected.numpy(), atol=1e-5)


def test_what_a_tensor_holds_now_is_read_and_no_tensor_is_kept(engine: ExecuTorchEngine) -> None:
    module, x = conv(3, 4), torch.randn(SHAPE)
    program, layout = loaded(engine, module, x)
    given = engine.tensor(x.numpy(), layout)
    for image in (x, torch.randn(SHAPE)):
        given.copy_(image)
        with torch.no_grad():
            np.testing.assert_allclose(engine.array(program([given])), module(image).numpy(), atol=1e-5)
    alive = ref(given)
    del given
    assert alive() is None
    with pytest.raises(DeviceError, match="block 'b' failed on executorch"):
        program([engine.tensor(np.zeros((1, 3, 4, 4), np.float32), layout)])
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(engine.array(program([engine.tensor(x.numpy(), layout)])), expected, atol=1e-5)


@pytest.mark.parametrize(
    "module", [conv(3, 4), nn.Identity(), Slice(), nn.Flatten()], ids=lambda each: type(each).__name__
)
def test_what_is_kept_outlives_its_input_and_the_next_run(engine: ExecuTorchEngine, module: nn.Module) -> None:
    images = [torch.randn(SHAPE) for _ in range(3)]
    program, layout = loaded(engine, module, images[0])
    kept = [program([engine.tensor(image.numpy(), layout)], keep=True) for image in images]
    for _ in range(20):  # whatever is free now would be written to
        engine.tensor(np.full(SHAPE, 7, np.float32), layout)
    del program
    for image, feature in zip(images, kept, strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(engine.array(feature), module(image).numpy(), atol=1e-5)
        assert room_behind(feature) >= ROOM
