"""The tracer on models written to trip it: shapes, in-place operations, functions that are layers, and hooks."""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.errors import ModelError
from torch import nn
from torch.nn import functional as F
from written import EXAMPLE, Written, assert_same, targets

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def by_shape(self: Written, x: torch.Tensor) -> torch.Tensor:
    if x.shape[-1] > 4 and len(x.shape) == 4 and x.dim() == 4:
        x = F.max_pool2d(x, 2)
    for _ in range(x.size(1) // 4):
        x = self.second(x)
    height, width = x.shape[-2:]
    return x.reshape(x.shape[0], x.size(1), height * width).view(-1, 8, height, width)


def by_type(self: Written, x: torch.Tensor) -> torch.Tensor:
    if isinstance(x, (list, tuple)) or not isinstance(x, torch.Tensor) or x.dtype != torch.float32 or x.is_cuda:
        return x
    first, second = x.chunk(2, dim=1)
    return torch.cat([part * 2 for part in (second, first)], 1)


def by_size_of_batch(self: Written, x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n * c, h * w).softmax(-1).reshape(n, -1, h, w).expand(n, c, h, w)


def by_lengths(self: Written, x: torch.Tensor) -> torch.Tensor:
    lengths = torch.full((x.shape[0],), x.shape[3])
    mask = torch.arange(int(lengths.max().item())).expand(x.shape[0], x.shape[3]) < lengths.unsqueeze(1)
    places = torch.ones(1).repeat(x.shape[0], 1).view(x.shape[0], 1, 1, 1)
    return x * mask[:, None, None, :] + places


def reads_a_number(self: Written, x: torch.Tensor) -> torch.Tensor:
    return x * x.abs().max().item()


def maximum(self: Written, x: torch.Tensor) -> torch.Tensor:
    return x - x.max(dim=1, keepdim=True).values


class Viewing(nn.Module):
    """Flattens features of several pixels with `view`, as networks for small pictures often do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(144, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (
            self.head(self.conv(x).view(x.size(0), -1))
            + x.view(torch.int32).view(torch.float32).sum((1, 2, 3))[:, None]
        )


def test_a_view_takes_inputs_of_any_memory_order() -> None:
    model, x = Viewing().eval(), torch.randn(2, 3, 8, 8)
    traced = trace(model, EXAMPLE)
    ordered = x.to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(traced(ordered), model(x))


@pytest.mark.parametrize("function", [by_shape, by_type, by_size_of_batch, by_lengths, reads_a_number, maximum])
def test_what_depends_on_shapes_alone_is_followed(function: Callable[..., Any]) -> None:
    model = Written(function)
    traced = trace(model, EXAMPLE)
    assert_same(model, traced)
    assert "" not in targets(traced)


def test_the_seen_shapes_tell_the_batch_size_from_the_rest() -> None:
    nodes = {node.name: node for node in trace(Written(by_size_of_batch), EXAMPLE).graph.nodes}
    assert nodes["conv"].meta["seen"] == ((2, 8, 8, 8), (3, 8, 8, 8))
    assert nodes["conv"].meta["dtype"] == "float32"
    sizes = [node for node in nodes.values() if node.target is operator.getitem]
    assert sizes
    assert sizes[0].meta["seen"] == (2, 3)


def test_the_model_itself_is_not_touched() -> None:
    model = Written(lambda self, x: self.relu(x))
    model.train()
    before = copy.deepcopy(model.state_dict())
    traced = trace(model, EXAMPLE)
    with torch.no_grad():
        for parameter in traced.parameters():
            parameter.add_(1)
    assert model.training
    assert model.relu.inplace
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def statement(self: Written, x: torch.Tensor) -> torch.Tensor:
    x.mul_(2)
    return x


def function_statement(self: Written, x: torch.Tensor) -> torch.Tensor:
    torch.relu_(x)
    F.leaky_relu(x, 0.1, True)
    F.hardtanh_(x, 0.0, 6.0)  # which tensors have not, nor torch
    F.relu(x, inplace=True)
    return x


def both_names(self: Written, x: torch.Tensor) -> torch.Tensor:
    y = x.add_(3)
    return x * y


def augmented(self: Written, x: torch.Tensor) -> torch.Tensor:
    kept = x
    x += 1
    x *= 2
    return x - kept / 2


def module(self: Written, x: torch.Tensor) -> torch.Tensor:
    out = self.second(self.relu(x))
    return self.relu(out) + x


def item_assignment(self: Written, x: torch.Tensor) -> torch.Tensor:
    x[:, 0] = 7
    x[:, 1:3] = x[:, 3:5]
    return x


def without_a_twin(self: Written, x: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x)
    y.fill_(2)
    return y.copy_(x) + y


def augmented_sizes(self: Written, x: torch.Tensor) -> torch.Tensor:
    n = x.shape[0]
    n *= 2
    return x.view(n, 4, 8, 8).reshape(-1, 8, 8, 8)


def of_another_type(self: Written, x: torch.Tensor) -> torch.Tensor:
    x += torch.arange(8, dtype=torch.float64).view(8, 1, 1)  # the sum is a float32 nevertheless
    return x * x.gt(0) + x.clone().gt_(0)


def into_another(self: Written, x: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x)
    torch.mul(x, 2, out=y)
    return x + y


IN_PLACE = [statement, function_statement, both_names, augmented, module, item_assignment, without_a_twin]


@pytest.mark.parametrize("function", [*IN_PLACE, augmented_sizes, of_another_type, into_another])
def test_in_place_operations_become_ordinary_ones(function: Callable[..., Any]) -> None:
    model = Written(function)
    traced = trace(model, EXAMPLE)
    assert_same(model, traced)
    changing = [target for target in targets(traced) if isinstance(target, str) and target.endswith("_")]
    assert set(changing) <= {"fill_", "copy_", "gt_"}, "only those that have no twin stay, and they work on a copy"


class ChangesItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sub_(0.5).div_(0.2)
        x[:, 0] = 0
        return self.conv(x)


def test_a_trace_never_changes_its_input() -> None:
    model = ChangesItsInput()
    traced = trace(model, EXAMPLE)
    assert_same(model, traced)
    x = EXAMPLE.clone()
    traced(x)
    assert torch.equal(x, EXAMPLE)


def test_a_view_that_is_changed_in_place_is_refused() -> None:
    def function(self: Written, x: torch.Tensor) -> torch.Tensor:
        x[:, :3].add_(5)
        return x

    with pytest.raises(ModelError, match=r"Written cannot be followed: .* a view is changed in place"):
        trace(Written(function), EXAMPLE)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3))
        self.bias = nn.Parameter(torch.randn(8))
        self.depthwise = nn.Parameter(torch.randn(8, 1, 3, 3))
        self.linear = nn.Parameter(torch.randn(5, 8))
        self.norm = nn.ParameterDict({"weight": torch.rand(8) + 0.5, "bias": torch.randn(8)})
        self.register_buffer("mean", torch.randn(8))
        self.register_buffer("var", torch.rand(8) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, self.weight, self.bias, stride=2, padding=(1, 1))
        x = F.batch_norm(x, self.mean, self.var, self.norm["weight"], self.norm["bias"], False, 0.1, 1e-3)
        x = F.conv2d(x, self.depthwise, None, 1, "same", 1, 8)
        x = x.mean((2, 3))
        x = F.batch_norm(x, self.mean, self.var, weight=self.norm["weight"], bias=self.norm["bias"])
        x = F.layer_norm(x, (8,), self.norm["weight"], self.norm["bias"], 1e-4)
        return F.linear(x, self.linear)


def test_functional_layers_become_modules() -> None:
    model = Functional()
    traced = trace(model, EXAMPLE)
    kinds = [type(traced.get_submodule(node.target)) for node in traced.graph.nodes if node.op == "call_module"]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.BatchNorm1d, nn.LayerNorm, nn.Linear]
    assert_same(model, traced)


@pytest.mark.parametrize("norm", [F.group_norm, F.rms_norm])
def test_a_norm_without_a_bias_becomes_a_layer_that_trains_channels_last(norm: Any) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.weight = nn.Conv2d(3, 8, 3), nn.Parameter(torch.rand(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            if norm is F.group_norm:
                return norm(x, 2, weight=self.weight)
            return norm(x.permute(0, 2, 3, 1), (8,), self.weight, 1e-6)

    model = Normed()
    traced = trace(model, EXAMPLE)
    assert norm not in targets(traced)
    assert_same(model, traced)
    traced.requires_grad_(True)
    traced(EXAMPLE.contiguous(memory_format=torch.channels_last)).square().mean().backward()


def test_products_with_weights_become_linear_layers_and_other_products_stay() -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = (
                nn.Parameter(torch.randn(*shape)) for shape in ((3, 6), (6, 4), (4, 5))
            )
            self.bias = nn.Parameter(torch.randn(4))
            self.register_buffer("turned", torch.linalg.qr(torch.randn(5, 5))[0])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.permute(0, 2, 3, 1) @ self.first
            n = x.shape[0]
            x = torch.addmm(self.bias, x.reshape(-1, 6), self.second).view(n, -1, 4)
            x = torch.relu(x).matmul(self.third) @ self.turned
            return torch.addmm(self.bias, (x @ x.transpose(1, 2)).mean(2)[:, :6], self.second, beta=0.5)

    model = Products()
    traced = trace(model, EXAMPLE)
    kinds = [type(traced.get_submodule(node.target)) for node in traced.graph.nodes if node.op == "call_module"]
    assert kinds == [nn.Linear] * 3
    assert_same(model, traced)


@pytest.mark.parametrize(
    "compute",
    [
        torch.nn.utils.parametrizations.weight_norm,
        torch.nn.utils.parametrizations.spectral_norm,
        pytest.param(torch.nn.utils.weight_norm, marks=pytest.mark.filterwarnings("ignore::FutureWarning")),
        torch.nn.utils.spectral_norm,
    ],
)
def test_a_computed_weight_of_a_layer_is_what_it_is_now(compute: Callable[[nn.Module], nn.Module]) -> None:
    model = Written(lambda self, x: self.second(x))
    compute(model.second)
    before = copy.copy(model.second.__dict__), type(model.second)
    traced = trace(model, EXAMPLE)
    assert (model.second.__dict__, type(model.second)) == before
    assert_same(model, traced)
    assert type(traced.second) is nn.Conv2d
    assert [name for name, _ in traced.second.named_parameters()] in (["weight", "bias"], ["bias", "weight"])
    assert not traced.second._forward_pre_hooks


def test_what_a_hook_does_is_recorded() -> None:
    model = Written(lambda self, x: self.second(x))
    model.second.register_forward_hook(lambda module, given, result: result * 2)
    traced = trace(model, EXAMPLE)
    assert_same(model, traced)
    assert not any(layer._forward_hooks for layer in traced.modules())


def positions(self: Written, x: torch.Tensor) -> torch.Tensor:
    rows = torch.arange(x.shape[2]).float()
    grid = torch.stack(torch.meshgrid(rows, rows, indexing="ij"))
    assert grid.max().item() == 7.0, "a number that follows from sizes alone may be read"
    return x + grid.sin().sum(0) + torch.zeros_like(x[:, :1])


def test_what_follows_from_sizes_alone_is_a_constant() -> None:
    model = Written(positions)
    traced = trace(model, EXAMPLE)
    assert_same(model, traced)
    assert not {torch.arange, torch.meshgrid, torch.sin, "sin", torch.stack} & set(targets(traced))
    assert torch.zeros_like in targets(traced), "its size follows from the batch size"


def written_into(self: Written, x: torch.Tensor) -> torch.Tensor:
    mask = x.new_zeros(x.shape[1:])
    mask[:4] = 1.0
    other = torch.zeros_like(x)
    other[:, 0] = x[:, 1]
    return x * mask + other


def test_a_tensor_that_is_written_into_is_no_constant_unless_all_of_it_is() -> None:
    model = Written(written_into)
    traced = trace(model, EXAMPLE)
    assert_same(model, traced)
    assert targets(traced).count(operator.setitem) == 1


def test_an_input_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(ModelError, match=r"does not run on a batch of 1 input of shape \(5, 8, 8\)"):
        trace(Written(by_shape), torch.randn(1, 5, 8, 8))


class OddlyNamed(nn.Module):
    """Layers with names as converters give them, which code can only get as text."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("net/Conv", "net:Conv", "net_Conv"):
            self.add_module(name, nn.Conv2d(3, 3, 1))
        self.register_parameter("onnx::Mul_1", nn.Parameter(torch.rand(3, 1, 1)))
        self.register_buffer("onnx::Add_2", torch.rand(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in ("net/Conv", "net:Conv", "net_Conv", "net/Conv"):
            x = getattr(self, name)(x).relu()
        return x * getattr(self, "onnx::Mul_1") + getattr(self, "onnx::Add_2")


def test_names_that_code_cannot_have_become_plain_ones() -> None:
    model = OddlyNamed()
    traced = trace(model, EXAMPLE)
    assert_same(model, traced)
    named = [str(node.target) for node in traced.graph.nodes if node.op in ("call_module", "get_attr")]
    assert len(set(named)) == 5
    assert all(re.fullmatch(r"\w+", name) for name in named)
    assert "net/Conv" in dict(model.named_modules()), "the model itself stays as it is"
