"""The tracer: what it follows, what it keeps whole, and what it refuses, on models written to trip it."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from adaptivenet.toolkit.elastic.trace import trace
from adaptivenet.toolkit.errors import ModelError
from torch import fx, nn
from torch.nn import functional as F

EXAMPLE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


class Written(nn.Module):
    """A convolution, then a function of the test's choice, then the mean over the pixels."""

    def __init__(self, function: Callable[[Written, torch.Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        x = self.function(self, self.conv(x))
        return x.mean((2, 3)) if isinstance(x, torch.Tensor) and x.dim() == 4 else x


def inputs() -> list[torch.Tensor]:
    """Batches of several sizes and very different values."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(n, 3, 8, 8, generator=generator) * scale + scale / 2 for n, scale in ((1, 1), (4, -9), (2, 9))]


def assert_same(model: nn.Module, traced: nn.Module) -> None:
    model.eval()
    with torch.no_grad():
        for x in inputs():
            torch.testing.assert_close(traced(x.clone()), model(x.clone()), rtol=1e-5, atol=1e-5)


def targets(traced: fx.GraphModule) -> list[Any]:
    return [node.target for node in traced.graph.nodes]


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


def reads_a_number(self: Written, x: torch.Tensor) -> torch.Tensor:
    return x * x.abs().max().item()


def maximum(self: Written, x: torch.Tensor) -> torch.Tensor:
    return x - x.max(dim=1, keepdim=True).values


@pytest.mark.parametrize("function", [by_shape, by_type, by_size_of_batch, reads_a_number, maximum])
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


# In-place operations


def statement(self: Written, x: torch.Tensor) -> torch.Tensor:
    x.mul_(2)
    return x


def function_statement(self: Written, x: torch.Tensor) -> torch.Tensor:
    torch.relu_(x)
    F.leaky_relu(x, 0.1, True)
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


# Control flow that depends on values


def branch(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x if x.sum() > 0 else x * 2


def branch_on_number(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x if x.sum().item() > 0 else x * 2


def branch_on_equal(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x * 2 if torch.equal(x, x.abs()) else x


def loop(self: Any, x: torch.Tensor) -> torch.Tensor:
    for _ in range(int((x.max() > 4).sum()) + 1):
        x = x * 2
    return x


def membership(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x if 0.0 in x.clamp(min=0) else x * 2


def as_float(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x * float(x.mean())


def branch_on_copy(self: Any, x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x)
    y.copy_(x)
    return x if y.max() > 4 else x * 2


def branch_on_view(self: Any, x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x)
    y[:, 0][:] = x[:, 0]
    return x if y.max() > 4 else x * 2


def branch_on_result(self: Any, x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x)
    torch.mul(x, 2, out=y)
    return x if y.max() > 4 else x * 2


def branch_on_own(self: Any, x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros(())
    y.add_(x.max())
    return x if y > 4 else x * 2


ON_VALUES = [branch, branch_on_number, branch_on_equal, loop, membership, as_float]
ON_CHANGED_VALUES = [branch_on_copy, branch_on_view, branch_on_result, branch_on_own]


@pytest.mark.parametrize("function", [*ON_VALUES, *ON_CHANGED_VALUES])
def test_control_flow_on_values_is_refused_in_the_model_itself(function: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match=r"Written cannot be traced at test_trace\.py:\d+: .* values in a tensor"):
        trace(Written(function), EXAMPLE)


class Inner(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, self.conv(x))


class Outer(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.before, self.inner, self.after = nn.Conv2d(3, 8, 3), Inner(function), nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.inner(self.before(x)))


@pytest.mark.parametrize("function", [*ON_VALUES, *ON_CHANGED_VALUES])
def test_control_flow_on_values_keeps_a_submodule_whole(function: Callable[..., Any]) -> None:
    model = Outer(function)
    traced = trace(model, EXAMPLE)
    assert targets(traced) == ["x", "before", "inner", "after", "output"]
    assert_same(model, traced)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(x)
        return x * 2


class Tripled(torch.autograd.Function):
    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x * 3

    @staticmethod
    def setup_context(context: Any, inputs: Any, output: Any) -> None:
        pass


def with_a_derivative_of_its_own(self: Written, x: torch.Tensor) -> torch.Tensor:
    return Doubled.apply(Tripled.apply(x))


def sizes_one_by_one(self: Written, x: torch.Tensor) -> torch.Tensor:
    batch, _, height, width = x.shape
    x = x + torch.zeros(batch, 1, 1, 1, dtype=x.dtype) + torch.empty(0).sum()
    return x * torch.ones(height, width).tril()


def numbers_in_a_tensor(self: Written, x: torch.Tensor) -> torch.Tensor:
    return torch.tensor(x) * torch.tensor([x.shape[1], x.shape[2]]).sum()


@pytest.mark.parametrize("function", [with_a_derivative_of_its_own, sizes_one_by_one, numbers_in_a_tensor])
@pytest.mark.filterwarnings("ignore:To copy construct")
def test_what_torch_itself_cannot_record_is_followed(function: Callable[..., Any]) -> None:
    model = Written(function)
    before = torch.zeros, torch.autograd.Function.__dict__["apply"]
    assert_same(model, trace(model, EXAMPLE))
    assert (torch.zeros, torch.autograd.Function.__dict__["apply"]) == before


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_scripted_function_keeps_its_module_whole() -> None:
    scripted = torch.jit.script(doubled)
    model = Outer(lambda self, x: scripted(x))
    traced = trace(model, EXAMPLE)
    assert targets(traced) == ["x", "before", "inner", "after", "output"]
    assert_same(model, traced)
    with pytest.raises(ModelError, match="calls a scripted function, which cannot be recorded"):
        trace(Written(lambda self, x: scripted(x)), EXAMPLE)


@fx.wrap
def wrapped(x: torch.Tensor, training: bool) -> torch.Tensor:
    return torch.cat([x[:, 4:], x[:, :4]], 1) if not training else x


def test_a_function_that_a_library_wrapped_is_followed() -> None:
    model = Written(lambda self, x: self.second(wrapped(x, self.training)))
    traced = trace(model, EXAMPLE)
    assert wrapped not in targets(traced)
    assert_same(model, traced)
    assert_same(model, trace(model, EXAMPLE))  # tracing leaves nothing behind that would be in the way of the next


def test_a_constant_of_the_model_may_decide() -> None:
    class Switched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.register_buffer("flag", torch.tensor(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) if self.flag else x

    model = Switched()
    assert targets(trace(model, EXAMPLE)) == ["x", "conv", "output"]


# Functions that are layers


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


def test_a_computed_weight_stays_a_function() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)

    model = nn.Sequential(Standardised(3, 8, 3))
    traced = trace(model, EXAMPLE)
    assert torch.conv2d in targets(traced)
    assert_same(model, traced)


# Weights that are computed from others, and hooks


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


# Several answers, and what follows from sizes alone


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        x = self.conv(x)
        return {"scores": x, "boxes": [x.mean((2, 3)), (x.amax((2, 3), keepdim=True), x.shape[0])]}


def test_several_answers_come_out_in_one_row() -> None:
    model = Detector().eval()
    traced = trace(model, EXAMPLE)
    assert traced.meta["outputs"] == [
        ("scores", (1, 8, 8, 8)),
        ("boxes.0", (1, 8)),
        ("boxes.1.0", (1, 8, 1, 1)),
    ]
    for x in inputs():
        answer = model(x)
        row = torch.cat([answer["scores"].flatten(1), answer["boxes"][0], answer["boxes"][1][0].flatten(1)], 1)
        torch.testing.assert_close(traced(x), row)


def test_one_of_several_answers_is_kept() -> None:
    model = Detector().eval()
    traced = trace(model, EXAMPLE, "boxes.1.0")
    assert traced.meta["outputs"] == [("boxes.1.0", (1, 8, 1, 1))]
    for x in inputs():
        torch.testing.assert_close(traced(x), model(x)["boxes"][1][0])
    with pytest.raises(ModelError, match=r"holds scores, boxes.0, boxes.1.0; there is no output 'masks'"):
        trace(model, EXAMPLE, "masks")


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


class Pair(NamedTuple):
    scores: torch.Tensor
    classes: torch.Tensor


def test_an_answer_may_be_a_named_tuple_and_one_number_a_picture() -> None:
    model = Written(lambda self, x: Pair(x.mean((2, 3)), x.mean((2, 3)).argmax(1)))
    traced = trace(model, EXAMPLE)
    assert traced.meta["outputs"] == [("0", (1, 8)), ("1", (1,))]
    for x in inputs():
        scores, classes = model(x)
        torch.testing.assert_close(traced(x), torch.cat([scores, classes[:, None]], 1))


def test_a_batch_of_one_is_a_batch() -> None:
    traced = trace(Written(lambda self, x: x.mean((2, 3), keepdim=True).squeeze()), EXAMPLE)
    for x in inputs():
        assert traced(x).shape == (len(x), 8)


# What is refused


def alone(self: Written, x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3)) * (2 if x.shape[0] == 1 else 1)


def fixed_batch(self: Written, x: torch.Tensor) -> torch.Tensor:
    return x.reshape(2, -1)[:, :8].repeat(x.shape[0] // 2, 1) if x.shape[0] % 2 == 0 else x.flatten(1)[:, :8]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda self, x: x.view(2, 8, 8, 8), "Written does not run on a batch of 3 inputs of shape .*3, 8, 8.*float32"),
        (lambda self, x: x.nonsense(), "Written does not run on a batch of 2 inputs.*'nonsense'"),
        (fixed_batch, "Written computes something else at batch size 3.*fixes the batch size"),
        (alone, "Written computes something else at batch size 1"),
        (lambda self, x: F.dropout(x, 0.5), "Written answers differently to the same input"),
        (lambda self, x: {"shape": x.shape[1]}, "Written answers with dict that holds no tensor; a tensor is needed"),
        (lambda self, x: None, "Written answers with NoneType"),
        (lambda self, x: {"a": x.flatten(1), "b": [x.mean()]}, r"answers with shape \(\) to a batch.* is output 'b.0'"),
        (lambda self, x: x.mean(0, keepdim=True), r"answers with shape \(1, 8\) to a batch of 3; the batch must come"),
        (lambda self, x: x.sum(), r"answers with shape \(\) to a batch of 3"),
    ],
)
def test_what_is_no_chain_of_batches_is_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trace(Written(function), EXAMPLE)


def test_an_input_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(ModelError, match=r"does not run on a batch of 2 inputs of shape \(5, 8, 8\)"):
        trace(Written(by_shape), torch.randn(1, 5, 8, 8))
