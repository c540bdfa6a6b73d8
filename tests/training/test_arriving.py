"""Alternatives are fitted to what arrives in subnets, and subnets are nearer to the teacher by it."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify, prune
from adaptivenet.toolkit.errors import TrainingError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Subnet
from adaptivenet.toolkit.training.arriving import fit_arriving
from adaptivenet.toolkit.training.beginning import expected
from adaptivenet.toolkit.training.initialise import initialise
from adaptivenet.toolkit.training.losses import relative_error
from adaptivenet.toolkit.training.phases import STEPS
from adaptivenet.toolkit.training.subnet_draws import SubnetDraws
from adaptivenet.toolkit.training.thinning import thin
from adaptivenet.toolkit.training.train import train
from gated import PICTURE, STEP, gated
from small_training import SETTINGS, Killed, Noise, assert_bit_exact, killed_at, supernet, teacher, weights
from torch import fx, nn

pytestmark = pytest.mark.usefixtures("one_thread")


def batches(count: int = 8) -> list[torch.Tensor]:
    pictures = np.random.default_rng(5).normal(size=(count, 16, 3, 12, 12)).astype(np.float32)
    return list(torch.from_numpy(pictures))


def pruned_throughout(net: Supernet) -> Subnet:
    """The subnet of the pruned alternative wherever there is one."""
    graph = net.graph
    pruned = {block.start: block.name for block in graph.blocks if block.kind == "pruned"}
    return graph.subnet(pruned.get(at, graph.oracle[at]) for at in range(graph.end))


def error(net: Supernet, subnet: Subnet, x: torch.Tensor, cut: int) -> float:
    """How far a subnet's feature at `cut` is from the teacher's."""
    with torch.no_grad():
        feature = next(feature for block, feature in net.walk(x, subnet) if block.end == cut)
        return float(relative_error(feature, net.features(x)[cut]))


def fitted(seed: int = 0) -> Supernet:
    net = elastify(teacher(seed), torch.zeros(1, 3, 12, 12), kinds=[prune(0.5), prune(0.75)])
    initialise(net, batches())
    return net


def test_a_subnet_of_many_alternatives_comes_nearer_to_the_teacher() -> None:
    net, unseen = fitted(), torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    subnet = pruned_throughout(net)
    last = max(block.end for block in net.alternatives())
    before = error(net, subnet, unseen, last)
    fit_arriving(net, batches(), [subnet])
    assert error(net, subnet, unseen, last) < 0.97 * before


def test_what_no_other_alternative_comes_before_stays_as_it_is_and_so_does_the_teacher() -> None:
    net = fitted()
    before, told = weights(net), []
    losses = fit_arriving(net, batches(), [pruned_throughout(net)], progress=lambda *at: told.append(at))
    after = weights(net)
    first = min(block.start for block in net.alternatives())
    changed = {name.split(".")[1] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert all(net.graph[name].start > first and net.graph[name].kind == "pruned" for name in changed)
    assert losses.keys() == {block.name for block in net.alternatives()}
    assert told == [(done + 1, len(losses)) for done in range(len(losses))]


class Shifted(nn.Module):
    """A convolution that a time step shifts, and a last layer that can be fitted."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.shift, self.out = nn.Conv2d(8, 8, 3, 2, 1), nn.Linear(STEP, 8), nn.Conv2d(8, 12, 1)

    def forward(self, x: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.conv(x) + self.shift(row[:, PICTURE:]).unsqueeze(-1).unsqueeze(-1)))


@pytest.mark.parametrize(("replaced", "fitted"), [((), {"b2-own", "b3-late"}), (("b0-own",), {"b2-own"})])
def test_a_block_that_reads_what_no_alternative_changes_is_fitted_to_what_arrives(
    replaced: tuple[str, ...], fitted: set[str]
) -> None:
    plain = gated()
    own = [Block("b2-own", 2, 3, "own", reads=(0,)), *(Block(name, 0, 1, "own") for name in replaced)]
    graph = BlockGraph(plain.graph.cuts, [*plain.graph.blocks, *own])
    blocks = {**dict(plain.blocks.items()), **dict.fromkeys(replaced, plain.blocks["b0"])}
    net = plain.with_blocks(graph, {**blocks, "b2-own": fx.symbolic_trace(Shifted().eval())})
    rows = [torch.randn(16, PICTURE + STEP, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    initialise(net, rows)
    before, late = weights(net), graph.subnet(("b0", "b1-p50", "b2-own", "b3-late"))
    apart = error(net, late, rows[0], 3)
    losses = fit_arriving(net, rows, [late, graph.subnet(("b0", "b1-p50", "b2", "b3"))])
    assert losses.keys() == {block.name for block in net.alternatives()}
    changed = {name.split(".")[1] for name, value in weights(net).items() if not torch.equal(value, before[name])}
    assert changed == fitted
    assert error(net, late, rows[0], 3) < apart


def test_subnets_of_one_alternative_and_no_time_change_nothing() -> None:
    net = fitted()
    before = weights(net)
    alone = [net.graph.replace(net.graph.oracle, block) for block in net.alternatives() if block.start == 3]
    fit_arriving(net, batches(), alone)
    fit_arriving(net, batches(), [])
    fit_arriving(net, batches(), [pruned_throughout(net)], until=time.monotonic() - 1)
    assert all(torch.equal(before[name], value) for name, value in weights(net).items())


def test_a_run_fits_to_what_arrives_and_can_be_resumed(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS, sampling="front", storage=3.0, cheapest=0.0, arriving=8, batch_size=16, calibration_batches=4
    )
    whole, plain = supernet(), supernet()
    result = train(whole, Noise(64), settings)
    assert list(result.losses) == ["weights", *STEPS, "arriving", "trained"]
    assert result.losses["arriving"].keys() == result.losses["trained"].keys()
    train(plain, Noise(64), replace(settings, arriving=0))
    assert any(not torch.equal(*pair) for pair in zip(weights(whole).values(), weights(plain).values(), strict=True))
    resumed = supernet()
    with pytest.raises(Killed):
        train(supernet(), Noise(64), settings, checkpoint=tmp_path / "checkpoint", progress=killed_at(9))
    again = train(resumed, Noise(64), settings, checkpoint=tmp_path / "checkpoint")
    assert_bit_exact(resumed, whole)
    assert again.losses == result.losses


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_alternatives_without_a_finite_loss_are_on_no_front_and_hide_no_other(wrong: float) -> None:
    net = supernet()
    with torch.no_grad():
        for name in ("b01-p50", "b02-p50"):
            for parameter in net.blocks[name].parameters():
                parameter.fill_(wrong)
    steps = ("statistics", "fit")  # the choice of channels would take them from the original, and mend them
    settings = replace(SETTINGS, sampling="front", storage=50.0, cheapest=0.0, arriving=8, initialise=steps)
    known = expected(initialise(net, batches(), steps).losses, settings)
    assert all(math.isfinite(loss) for loss in known.values())
    assert known["b01-p50"] > 1e6
    subnets = SubnetDraws(net.graph, 0.0).front(8, known)
    assert subnets
    assert not {"b01-p50", "b02-p50"} & {name for subnet in subnets for name in subnet}
    cheaper = {block.name: 0.1 if block.kind == "merged" else 1.0 for block in net.graph.blocks}
    assert "b01-p50" not in thin(net.graph, cheaper, known, 50.0).dominated
    with pytest.raises(TrainingError, match=r"the loss of block b0[12]-p50 is (nan|inf)"):
        train(net, Noise(), settings)


def test_ways_of_merged_blocks_arrive_where_they_end() -> None:
    """A block that starts between the ends of a merged one is fitted by no way that jumps over it."""
    net = supernet()
    initialise(net, batches())
    merged = [block for block in net.alternatives() if block.kind == "merged" and block.end - block.start == 2]
    jumping = net.graph.replace(pruned_throughout(net), merged[0])
    before = weights(net)
    fit_arriving(net, batches(), [jumping])
    changed = {name.split(".")[1] for name, value in weights(net).items() if not torch.equal(value, before[name])}
    assert all(net.graph[name].start >= merged[0].end for name in changed)
