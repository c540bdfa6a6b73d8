"""Folded blocks: in float64 they give what the blocks give, and the same gradients, whatever stands around a layer."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from adaptivenet.toolkit.training.folded import fold, folded
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import Noise, supernet
from torch import fx, nn


class Around(nn.Module):
    """A convolution and what may stand around it; `read` is the place where something else reads a value, too."""

    def __init__(self, read: str = "") -> None:
        super().__init__()
        self.zeros: nn.Module = nn.Identity()
        self.conv: nn.Module = nn.Identity()
        self.norm: nn.Module = nn.Identity()
        self.activation: nn.Module = nn.Identity()
        self.read = read

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x.sum()
        for name in ("zeros", "conv", "norm", "activation"):
            x = getattr(self, name)(x)
            if name == self.read:
                total = total + x.square().mean()
        return x + total


@st.composite
def arounds(draw: st.DrawFn) -> Around:
    module = Around(draw(st.sampled_from(["", "zeros", "conv", "norm"])))
    groups, bias = draw(st.sampled_from([1, 2, 4])), draw(st.booleans())
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = draw(st.sampled_from(["same", (0, 0), (1, 0)]))
    stride = 1 if padding == "same" else draw(st.integers(1, 2))
    mode = draw(st.sampled_from(["zeros", "circular"]))
    dilation = draw(st.integers(1, 2))
    module.conv = nn.Conv2d(
        4, 4, kernel, stride, padding, dilation=dilation, groups=groups, bias=bias, padding_mode=mode
    )
    if draw(st.booleans()):
        module.zeros = nn.ZeroPad2d(draw(st.tuples(*[st.integers(0, 2)] * 4)))
    if draw(st.booleans()):
        norm = nn.BatchNorm2d(4, affine=draw(st.booleans()), track_running_stats=draw(st.booleans()))
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        module.norm = norm
    module.activation = draw(st.sampled_from([nn.Identity(), nn.ReLU(), nn.ReLU6(), nn.SiLU()]))
    return module.double().eval()


def run(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What it gives, and the gradients of its input and of its parameters."""
    x = x.clone().requires_grad_()
    given = module(x)
    wanted = [x, *dict(sorted((id(each), each) for each in module.parameters())).values()]
    found = torch.autograd.grad(given.square().sum(), wanted, allow_unused=True)
    return [given.detach(), *(torch.zeros(()) if each is None else each for each in found)]


@settings(deadline=None, max_examples=150)
@given(around=arounds())
def test_a_folded_block_is_the_same_function(around: Around) -> None:
    block = fx.symbolic_trace(around)
    made = fold(block)
    assert {id(each) for each in made.parameters()} == {id(each) for each in block.parameters()}
    x = torch.randn(2, 4, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(run(made, x), run(block, x))


@pytest.mark.parametrize(("groups", "left"), [(4, []), (1, ["ZeroPad2d"])])
def test_what_a_folded_block_still_runs(groups: int, left: list[str]) -> None:
    """Uneven zeros stay a layer of their own where the kernel would cost more by them."""
    around = Around()
    around.zeros, around.conv = nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 4, 3, 2, groups=groups)
    around.norm, around.activation = nn.BatchNorm2d(4), nn.ReLU6()
    made = fold(fx.symbolic_trace(around.eval()))
    assert isinstance(made, fx.GraphModule)
    called = [type(made.get_submodule(str(node.target))) for node in made.graph.nodes if node.op == "call_module"]
    assert [each.__name__ for each in called] == [*left, "_Folded"]


def test_layers_of_any_name_stay_what_they_are() -> None:
    layers = {"stem": nn.Conv2d(4, 4, 1), "relu": nn.ReLU(), "folded_0": nn.Conv2d(4, 4, 3), "folded_1": nn.SiLU()}
    block = fx.symbolic_trace(nn.Sequential(OrderedDict(layers)).double().eval())
    x = torch.randn(2, 4, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(run(fold(block), x), run(block, x))


def test_uneven_zeros_are_the_same_in_bfloat16() -> None:
    around = Around()
    around.zeros, around.conv = nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(4, 4, 3, 2, groups=4)
    block = fx.symbolic_trace(around.eval())
    x = torch.randn(2, 4, 7, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(fold(block)(x), block(x))


def test_blocks_without_anything_to_fold_are_themselves() -> None:
    linear, plain = nn.Linear(3, 4), fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU()))
    assert fold(linear) is linear
    assert fold(plain) is plain


def test_a_folded_supernet_follows_the_weights_and_leaves_the_other_as_it_was() -> None:
    net = supernet()
    before = copy.deepcopy(net)
    x = torch.from_numpy(Noise().image(0))
    subnets = list(net.graph.paths())
    made = folded(net)
    assert net.document() == before.document()
    assert net.state_dict().keys() == before.state_dict().keys()
    with torch.no_grad():
        for tensor in (*net.parameters(), *(each for each in net.buffers() if each.is_floating_point())):
            tensor.mul_(1.1)
        for subnet in subnets:
            torch.testing.assert_close(made(x, subnet), net(x, subnet))
            assert not torch.allclose(net(x, subnet), before(x, subnet))
