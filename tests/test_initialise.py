"""Initialisation: it finds what can be reached, never makes a block worse, and touches nothing but alternatives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify, merge
from adaptivenet.toolkit.elastic.endings import find_ending
from adaptivenet.toolkit.elastic.initialise import initialise
from adaptivenet.toolkit.elastic.least_squares import NormalEquations, rows_of
from adaptivenet.toolkit.elastic.losses import local_loss
from adaptivenet.toolkit.elastic.options import trainable_copy
from adaptivenet.toolkit.elastic.trace import trace
from adaptivenet.toolkit.errors import TrainingError
from adaptivenet.toolkit.graph import Block, BlockGraph, Cut
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def calibration(shape: Sequence[int], batches: int = 4, size: int = 8, seed: int = 1) -> list[torch.Tensor]:
    """Correlated noise: the channels have different sizes and means, as features do."""
    channels = shape[0] if len(shape) == 3 else shape[-1]
    view = (-1, 1, 1) if len(shape) == 3 else (-1,)
    scale, mean = torch.linspace(0.5, 2, channels).view(view), torch.linspace(-1, 1, channels).view(view)
    return [noise(size, *shape, seed=seed + index) * scale + mean for index in range(batches)]


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms with statistics and weights of which each matters."""
    for index, norm in enumerate(m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean = noise(norm.num_features, seed=seed + 4 * index) * 0.2
        norm.running_var = noise(norm.num_features, seed=seed + 4 * index + 1).square() + 0.5
        norm.weight.data = noise(norm.num_features, seed=seed + 4 * index + 2) * 0.3 + 1
        norm.bias.data = noise(norm.num_features, seed=seed + 4 * index + 3) * 0.3
    return module.eval()


class ReluEnded(nn.Module):
    """As in ResNet; the last convolution has no bias, the norm behind it has."""

    def __init__(self, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.last, self.bn2 = nn.Conv2d(8, 6, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(6)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.last(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + x[:, :, :: self.stride, :: self.stride])


class MBConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.bn1 = nn.Conv2d(6, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.depthwise, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16)
        self.last, self.bn3 = nn.Conv2d(16, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_ = F.relu6(self.bn1(self.expand(x)))
        return x + self.drop(self.bn3(self.last(F.relu6(self.bn2(self.depthwise(x_))))))


class Mlp(nn.Module):
    """The second half of a transformer's block, with a layer scale as small as ConvNeXt starts with."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.last = nn.LayerNorm(6), nn.Linear(6, 12), nn.Linear(12, 6)
        self.gamma = nn.Parameter(torch.linspace(0.2, 1, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.gamma * self.last(F.gelu(self.up(self.norm(x))))


class ChannelsLast(nn.Module):
    """As in ConvNeXt: linear layers on the permuted feature, permuted back behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up, self.last = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Linear(6, 12), nn.Linear(12, 6)
        self.gamma = nn.Parameter(torch.full((6,), 1e-2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.last(F.gelu(self.up(self.conv(x).permute(0, 2, 3, 1))))
        return (self.gamma * out).permute(0, 3, 1, 2) + 0.01 * x


class Repeated(nn.Module):
    """Behind the last layer its output is spread over four positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(6, 8, 3, 2, 1), nn.Conv2d(8, 6, 3, padding=(1, 2), dilation=(1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.last(F.silu(self.conv(x))), scale_factor=2.0)


def stand_in(model: nn.Module, shape: Sequence[int], change: Callable[[nn.Module], object] | None = None) -> Supernet:
    """One original block and a copy of it that was changed."""
    torch.manual_seed(0)
    original = trace(model.eval(), noise(2, *shape))
    copied = trainable_copy(original)
    if change:
        with torch.no_grad():
            change(copied)
    with torch.no_grad():
        end = tuple(original(noise(1, *shape)).shape)
    graph = BlockGraph(
        [Cut(0, (1, *shape)), Cut(1, end)], [Block("b0", 0, 1, "original"), Block("b0-x", 0, 1, "changed")]
    )
    return Supernet(graph, {"b0": original, "b0-x": copied})


def scrambled(module: nn.Module) -> None:
    """The last layer, and the bias behind it, are lost."""
    last = module.get_submodule("last")
    last.weight.copy_(noise(*last.weight.shape, seed=9) * last.weight.std())  # type: ignore[operator, arg-type, union-attr]
    norm = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)][-1:]
    for layer in (last, *norm):
        if layer.bias is not None:
            layer.bias.zero_()  # type: ignore[operator, union-attr]


IMAGE, TOKENS = (6, 12, 12), (40, 6)
BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "relu-ended": (ReluEnded, IMAGE),
    "relu-ended, strided": (lambda: ReluEnded(5, 2), IMAGE),
    "mbconv": (MBConv, IMAGE),
    "mlp": (Mlp, TOKENS),
    "channels last": (ChannelsLast, IMAGE),
    "repeated": (Repeated, IMAGE),
}


@pytest.mark.parametrize("name", BLOCKS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_lost_last_layer_is_found_again(name: str, seed: int) -> None:
    make, shape = BLOCKS[name]
    torch.manual_seed(seed)
    net = stand_in(lively(make(), seed), shape, scrambled)
    losses = initialise(net, calibration(shape, batches=8, size=16), ("fit",)).losses
    assert losses["weights"]["b0-x"] > 4e-3
    assert losses["fit"]["b0-x"] < 1e-3
    fresh = calibration(shape, batches=1, seed=77)[0]
    with torch.no_grad():
        features = net.features(fresh)
        assert float(local_loss(net.blocks["b0-x"], features, net.graph["b0-x"])) < 1e-3


class GroupedLast(MBConv):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(16, 6, 1, groups=2, bias=False)


class Gated(MBConv):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x) * torch.sigmoid(x)


class Pooled(MBConv):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(super().forward(x), 2)


class NormEnded(Mlp):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(x))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(6, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.relu(self.last(x)))


class ReluInside(MBConv):
    """The activation is not the last operation, so that there is no value before it to aim at."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + F.relu(super().forward(x))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (GroupedLast, IMAGE),
        (Gated, IMAGE),
        (Pooled, IMAGE),
        (NormEnded, TOKENS),
        (CalledTwice, IMAGE),
        (ReluInside, IMAGE),
    ],
)
def test_what_is_not_understood_is_left_alone(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    net = stand_in(lively(make()), shape, scrambled)
    before = copy.deepcopy(net.blocks["b0-x"].state_dict())
    result = initialise(net, calibration(shape), ("fit",))
    assert result.kept == {"fit": ()}
    assert result.losses["weights"] == result.losses["fit"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.blocks["b0-x"].state_dict().items())


@pytest.mark.parametrize("change", ["frozen", "shared", "another activation"])
def test_a_layer_that_must_not_change_does_not(change: str) -> None:
    net = stand_in(lively(ReluEnded()), IMAGE, scrambled)
    original, other = net.blocks["b0"], net.blocks["b0-x"]
    if change == "frozen":
        other.get_submodule("last").requires_grad_(False)
    elif change == "shared":
        other.last = original.last
        other.last.requires_grad_(True)  # type: ignore[operator, union-attr]
    else:
        net.blocks["b0-x"] = trainable_copy(
            trace(nn.Sequential(nn.Conv2d(6, 6, 1), nn.SiLU()).eval(), noise(2, *IMAGE))
        )
    before = copy.deepcopy(net.state_dict())
    assert initialise(net, calibration(IMAGE), ("fit",)).kept == {"fit": ()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.sampled_from([0, 1, (0, 2), "valid"]),
    mode=st.sampled_from(["zeros", "reflect"]),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_rows_times_weights_are_what_the_layer_gives(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: int | tuple[int, int] | str,
    mode: str,
    bias: bool,
) -> None:
    layer = nn.Conv2d(3, 4, kernel, stride, padding, dilation, bias=bias, padding_mode=mode)
    x = noise(2, 3, 8, 7)
    expected = layer(x).movedim(1, -1)
    index = torch.arange(expected[..., 0].numel()).flip(0)
    actual = F.linear(rows_of(layer, x, index, expected.shape[:-1]), layer.weight.flatten(1), layer.bias)
    torch.testing.assert_close(actual, expected.flatten(0, -2)[index])


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(3, 4, 5, padding="same", dilation=2), nn.Conv1d(3, 4, 2, 2), nn.Linear(9, 4)]
)
def test_rows_of_one_dimension(layer: nn.Conv1d | nn.Linear) -> None:
    x = noise(2, 3, 9)
    expected = layer(x) if isinstance(layer, nn.Linear) else layer(x).movedim(1, -1)
    index = torch.tensor([3, 1])
    actual = F.linear(rows_of(layer, x, index, expected.shape[:-1]), layer.weight.flatten(1), layer.bias)
    torch.testing.assert_close(actual, expected.flatten(0, -2)[index])


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_solution_minimises_what_it_says(with_bias: bool) -> None:
    """Against the gradient of the objective, by autograd."""
    layer = nn.Linear(5, 3, bias=with_bias)
    x, y = noise(40, 5) + 1, noise(40, 3, seed=1)
    equations = NormalEquations(layer)
    equations.add(x[:30], y[:30], 99)
    equations.add(x[30:], y[30:], 99)
    solution = equations.solve(with_bias)
    assert solution is not None
    weight, bias = (value.requires_grad_(True) for value in solution)
    x, y = x.double(), y.double()
    present = layer.weight.detach().double()
    spread, target = (x - x.mean(0), y - y.mean(0)) if with_bias else (x, y)
    average = spread.square().sum() / len(x)
    first = (
        torch.linalg.solve(spread.T @ spread + average * torch.eye(5), spread.T @ (target - spread @ present.T)).T
        + present
    )
    ridge = 10 * average * (target - spread @ first.T).square().sum() / target.square().sum()
    error = (x @ weight.T + (bias if with_bias else 0) - y).square().sum()
    (error + ridge * (weight - present).square().sum()).backward()
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-6
    if with_bias:
        assert bias.grad is not None
        assert bias.grad.abs().max() < 1e-6


def test_no_more_rows_are_taken_than_asked_for() -> None:
    layer = nn.Conv2d(2, 3, 1)
    equations = NormalEquations(layer)
    for seed in range(3):
        equations.add(noise(4, 2, 8, 8, seed=seed), noise(4, 3, 8, 8), 10)
    assert equations.count == 30


# The whole supernet


class Small(nn.Module):
    """A stem, three residual blocks that end in a ReLU, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, 5)
        self.blocks = nn.Sequential(*(ReluEnded() for _ in range(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def small(seed: int = 0) -> Supernet:
    """Merged alternatives, and pruned ones: `elastify` prunes in eights, so that these are made thinner by hand."""
    torch.manual_seed(seed)
    made = elastify(lively(Small(), seed), torch.zeros(1, 3, 16, 16), kinds=[merge(2), merge(3)])
    blocks = dict(made.blocks.items())
    listed = [*made.graph.blocks]
    for name in made.graph.oracle[1:4]:
        thinner = trainable_copy(blocks[name])  # type: ignore[arg-type]
        last = next(module for path, module in thinner.named_modules() if path.endswith("last"))
        with torch.no_grad():
            last.weight[:, :3] = 0  # type: ignore[index]
        blocks[f"{name}-t"] = thinner
        listed.append(Block(f"{name}-t", made.graph[name].start, made.graph[name].end, "thinned"))
    return Supernet(BlockGraph(made.graph.cuts, listed), blocks)


def inputs(count: int = 8, size: int = 4, seed: int = 5) -> list[torch.Tensor]:
    return calibration((3, 16, 16), count, size, seed)


def held_out_losses(net: Supernet, held: Sequence[torch.Tensor]) -> dict[str, float]:
    with torch.no_grad():
        features = [net.features(batch) for batch in held]
        return {
            block.name: sum(float(local_loss(net.blocks[block.name], found, block)) for found in features) / len(held)
            for block in net.alternatives()
        }


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 6),
    size=st.integers(1, 5),
    steps=st.permutations(["statistics", "fit"]),
)
def test_no_step_makes_any_block_worse(seed: int, count: int, size: int, steps: list[str]) -> None:
    """Also with a single input, which is far fewer than a layer has weights."""
    net, batches = small(seed % 3), inputs(count, size, seed)
    held = batches[-max(1, count // 4) :] if count > 1 else [batches[0][-max(1, size // 4) :]]
    made = held_out_losses(net, held)
    result = initialise(net, batches, steps)
    assert list(result.losses) == ["weights", *steps]
    assert result.losses["weights"] == pytest.approx(made)
    for earlier, later in zip(["weights", *steps], steps):
        assert all(result.losses[later][name] <= loss for name, loss in result.losses[earlier].items())
        changed = {name for name, loss in result.losses[later].items() if loss != result.losses[earlier][name]}
        assert changed <= set(result.kept[later])
    assert held_out_losses(net, held) == pytest.approx(result.losses[steps[-1]])


def test_the_fit_helps_on_inputs_that_were_not_seen() -> None:
    net = small()
    fresh = inputs(4, seed=500)
    before = held_out_losses(net, fresh)
    result = initialise(net, inputs())
    after = held_out_losses(net, fresh)
    assert set(result.kept["fit"]) == set(before)
    for block in net.alternatives():
        # A thinned block still has the channels that it does not read: all of it can be reached again.
        share = 1e-3 if block.kind == "thinned" else 0.9
        assert after[block.name] < share * before[block.name]


def test_a_thin_set_ruins_nothing() -> None:
    """Two inputs, so that a fit without anything to hold it would go through every point."""
    for seed in range(3):
        net = small(seed)
        fresh = inputs(4, seed=500)
        before = held_out_losses(net, fresh)
        initialise(net, inputs(2, 1, seed))
        after = held_out_losses(net, fresh)
        assert all(after[name] < 1.2 * before[name] for name in before)


def test_only_alternatives_change_and_the_same_inputs_give_the_same_weights() -> None:
    net, again = small(), small()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert initialise(net, inputs()) == initialise(again, inputs())
    after = net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in again.state_dict().items())
    changed = {name.split(".")[1] for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert changed == {block.name for block in net.alternatives()}
    assert not any(module.training for module in net.modules())
    momenta = {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)}
    assert momenta == {0.1}


def test_statistics_are_those_of_all_inputs_pooled() -> None:
    """Of batches of very different means and sizes, which the mean of their variances would miss."""

    def lost(module: nn.Module) -> None:
        for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.fill_(50.0)  # type: ignore[union-attr]
            norm.running_var.fill_(0.01)  # type: ignore[union-attr]

    net = stand_in(lively(MBConv()), IMAGE, lost)
    batches = [noise(size, *IMAGE, seed=size) + size for size in (1, 3, 2, 2)]
    assert initialise(net, batches, ("statistics",)).kept == {"statistics": ("b0-x",)}
    block = net.blocks["b0-x"]
    with torch.no_grad():
        read = block.expand(torch.cat(batches[:3]))  # type: ignore[operator]
    torch.testing.assert_close(block.bn1.running_mean, read.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]
    torch.testing.assert_close(block.bn1.running_var, read.var((0, 2, 3)), rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]


class Own(nn.Module):
    """A user's own alternative: no graph, and control flow that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.norm.running_mean = torch.full((6,), 50.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(self.conv(x)) if float(x.sum()) < 1e9 else x


def test_alternatives_of_any_kind() -> None:
    net = stand_in(lively(ReluEnded()), IMAGE)
    graph = BlockGraph(
        net.graph.cuts,
        [net.graph["b0"], Block("b0-own", 0, 1, "own"), Block("b0-skip", 0, 1, "skip")],
    )
    torch.manual_seed(0)
    net = Supernet(graph, {"b0": net.blocks["b0"], "b0-own": Own(), "b0-skip": nn.Identity()})
    result = initialise(net, calibration(IMAGE))
    assert result.kept == {"statistics": ("b0-own",), "fit": ()}
    assert result.losses["statistics"]["b0-own"] < result.losses["weights"]["b0-own"]
    assert result.losses["weights"]["b0-skip"] == result.losses["fit"]["b0-skip"]


def test_a_skip_that_is_a_graph_has_no_ending() -> None:
    skip = trace(nn.Sequential(nn.Identity()).eval(), noise(2, 4))
    assert find_ending(skip, [noise(2, 4)]) is None


@pytest.mark.parametrize(
    ("batches", "steps", "message"),
    [
        (inputs(), ("statistics", "fitt"), "there is no step 'fitt' of initialisation: known are statistics, fit"),
        ([], ("fit",), r"initialisation needs inputs: got batches of \[\]"),
        ([noise(2, 3, 16, 16), noise(0, 3, 16, 16)], ("fit",), r"got batches of \[2, 0\]"),
        ([noise(2, 3, 16, 16) * float("inf")], ("fit",), "the input at cut 0 holds "),
    ],
)
def test_what_cannot_be_used_is_named(batches: list[torch.Tensor], steps: tuple[str, ...], message: str) -> None:
    net = small()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(TrainingError, match=message):
        initialise(net, batches, steps)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_teacher_that_gives_no_numbers_is_named() -> None:
    net = small()
    with torch.no_grad():
        next(net.blocks["b02"].parameters()).fill_(torch.nan)
    with pytest.raises(TrainingError, match="the feature that block 'b02' gives at cut 3 holds nan: look at"):
        initialise(net, inputs())
