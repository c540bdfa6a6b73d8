"""Tracing what depends on values: refused in the model itself, kept whole in a submodule, followed where it can be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.errors import ModelError
from torch import fx, nn
from written import EXAMPLE, Written, assert_same, targets

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


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
    with pytest.raises(
        ModelError, match=r"Written cannot be traced at test_trace_values\.py:\d+: .* values in a tensor"
    ):
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


def length_of_the_batch(self: Written, x: torch.Tensor) -> torch.Tensor:
    token = x.new_ones(1, 1, 1, x.shape[-1]).expand(len(x), x.shape[1], -1, -1)
    assert f"{len(x[0])} {len(x[0]):d} {round(len(x[0]) / 2)} {round(len(x[0]) / 3, 1)}" == "8 8 4 2.7", f"{x}"
    return torch.cat([token, x], 2) * sum(range(len(x[0])))


@pytest.mark.parametrize(
    "function", [with_a_derivative_of_its_own, sizes_one_by_one, numbers_in_a_tensor, length_of_the_batch]
)
@pytest.mark.filterwarnings("ignore:To copy construct")
def test_what_torch_itself_cannot_record_is_followed(function: Callable[..., Any]) -> None:
    model = Written(function)
    before = torch.zeros, torch.autograd.Function.__dict__["apply"], len
    assert_same(model, trace(model, EXAMPLE))
    assert (torch.zeros, torch.autograd.Function.__dict__["apply"], len) == before


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


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: torch.pow(x, 3.0),
        lambda x: torch.pow(2.0, x),
        lambda x: torch.float_power(x, 2).float(),
        lambda x: torch.remainder(x, 2),
        lambda x: torch.xlogy(x.abs(), 2.0),
        lambda x: torch.where(x > 0, x, 2.0),
        lambda x: torch.where(x > 0, 2.0, x),
        lambda x: torch.lerp(x, -x, 0.3),
        lambda x: torch.bitwise_and(x.int(), 3).float(),
        lambda x: torch.bucketize(x, torch.tensor([0.0, 1.0])).float(),
        lambda x: torch.special.xlog1py(x.abs(), 2.0),
        lambda x: torch.tensor([1.0, 2.0, 3.0, 4.0]).pow(x.abs()),
        lambda x: torch.ones(4).masked_fill(x > 0, 2.0),
    ],
)
def test_functions_that_take_tensors_or_numbers_are_recorded(forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return forward(x)

    x = torch.randn(2, 4)
    assert torch.equal(trace(Model(), x[:1])(x), forward(x))


def test_torch_lists_its_own_functions_after_the_first_trace_of_a_process() -> None:
    # Torch makes the list once, when something is recorded for the first time, and a recipe is written by it.
    program = """if True:
        import torch
        from adaptivenet.toolkit.elastic.recipe import to_json
        from adaptivenet.toolkit.elastic.tracing.trace import trace

        class Model(torch.nn.Module):
            def forward(self, x):
                return torch.where(torch.relu(x) > 0, x, torch.mul(x, 2.0))

        to_json(trace(Model(), torch.ones(1, 4)))
    """
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
