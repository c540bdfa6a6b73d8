"""Initialisation of a supernet: it never makes a block worse, and touches nothing but alternatives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify, merge
from adaptivenet.toolkit.elastic.kinds import trainable_copy
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.errors import TrainingError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph
from adaptivenet.toolkit.training.endings import find_ending
from adaptivenet.toolkit.training.initialise import initialise
from adaptivenet.toolkit.training.losses import local_loss
from adaptivenet.toolkit.training.phases import STEPS
from blocks import IMAGE, MBConv, ReluEnded, calibration, lively, noise, stand_in
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


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
            block.name: sum(float(local_loss(net, block, found)) for found in features) / len(held)
            for block in net.alternatives()
        }


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 6),
    size=st.integers(1, 5),
    steps=st.permutations(STEPS),
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
    result = initialise(net, inputs(), ("statistics", "fit"))
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
    assert {step: names for step, names in result.kept.items() if names} == {"statistics": ("b0-own",)}
    assert result.losses["statistics"]["b0-own"] < result.losses["weights"]["b0-own"]
    assert result.losses["weights"]["b0-skip"] == result.losses["fit"]["b0-skip"]


def test_a_skip_that_is_a_graph_has_no_ending() -> None:
    skip = trace(nn.Sequential(nn.Identity()).eval(), noise(2, 4))
    assert find_ending(skip, [noise(2, 4)]) is None


@pytest.mark.parametrize(
    ("batches", "steps", "message"),
    [
        (
            inputs(),
            ("statistics", "fitt"),
            "no step 'fitt' of initialisation: known are copies, channels, factors, statistics, fit",
        ),
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
