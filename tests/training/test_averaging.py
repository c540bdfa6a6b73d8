"""How far weights go in a phase is decided by images that no step has seen, among points on the way."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adaptivenet.toolkit.cli.elastified import outcome
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.training.averaging import SHARES, Averaging, divided
from adaptivenet.toolkit.training.batches import batches_of
from adaptivenet.toolkit.training.parallel import Workers
from adaptivenet.toolkit.training.phases import RECIPES, Phase
from adaptivenet.toolkit.training.train import Trained, train
from hypothesis import given
from hypothesis import strategies as st
from small_training import (
    LOCAL,
    SETTINGS,
    SUBNETS,
    Killed,
    Noise,
    assert_bit_exact,
    killed_at,
    supernet,
)
from test_remembered_pictures import pictures

pytestmark = pytest.mark.usefixtures("one_thread")
AVERAGED = replace(SETTINGS, averaging=64)


@given(st.integers(0, 2000), st.integers(0, 100), st.integers(0, 3))
def test_a_tenth_is_set_apart_and_nothing_is_lost(count: int, most: int, seed: int) -> None:
    data = Noise(0)
    data.images = torch.arange(count).numpy()
    rest, deciding = divided(data, most, seed)
    found = [int(part.image(at)) for part in (rest, deciding) for at in range(len(part))]
    assert sorted(found) == list(range(count))
    if count < 16 or not most:
        assert len(deciding) == 0
    else:
        assert len(deciding) == min(most, max(8, round(count / 10)))


def averaging(net: Supernet, count: int = 12) -> tuple[Averaging, list[torch.nn.Parameter]]:
    """Of the block that is pruned, whose subnet decides."""
    (name,) = [block.name for block in net.alternatives() if block.name == "b01-p50"]
    parameters = list(net.blocks[name].parameters())
    subnet = net.graph.subnet([name if net.graph[name].start == net.graph[at].start else at for at in net.graph.oracle])
    batches = batches_of(Noise(count, seed=7), 5, torch.device("cpu"))
    return Averaging(net, parameters, [subnet], batches, torch.ones(())), parameters


@pytest.fixture(scope="module")
def fitted() -> Supernet:
    """A supernet whose alternatives are trained so far that any noise on top makes them worse."""
    net = supernet()
    train(net, Noise(40, seed=7), replace(SETTINGS, phases=(replace(LOCAL, steps=60),)))
    return net


@pytest.mark.parametrize("share", SHARES)
def test_the_best_point_of_the_way_is_kept(fitted: Supernet, share: float) -> None:
    """The way leads in a straight line through the weights that are best, which lie `share` of it from its start."""
    generator = torch.Generator().manual_seed(0)
    found, parameters = averaging(fitted)
    best = [parameter.detach().clone() for parameter in parameters]
    way = [0.5 * weight.std() * torch.randn(weight.shape, generator=generator) for weight in best]
    found.before = [weight - share * step for weight, step in zip(best, way)]
    with torch.no_grad():
        for parameter, weight, step in zip(parameters, best, way):
            parameter.copy_(weight + (1 - share) * step)
    told: list[tuple[int, int]] = []
    found.end_phases(1, Workers(), lambda done, total: told.append((done, total)))
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, weight in zip(parameters, best):
            parameter.copy_(weight)
    assert found.kept == [share]
    torch.testing.assert_close(kept, best)
    assert told == [(done, 15) for done in range(1, 16)]


def test_weights_that_give_no_numbers_are_not_kept() -> None:
    found, parameters = averaging(supernet())
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        parameters[0].fill_(math.nan)
    found.end_phases(1, Workers(), lambda done, total: None)
    assert found.kept == [0.0]
    assert all(torch.equal(parameter, weight) for parameter, weight in zip(parameters, before))


def test_a_phase_that_did_nothing_is_not_measured() -> None:
    found, _ = averaging(supernet())
    told: list[int] = []
    found.end_phases(2, Workers(), lambda done, total: told.append(done))
    assert found.kept == [1.0, 1.0]
    assert told == []


def test_a_training_that_goes_astray_ends_where_it_began() -> None:
    net, untrained = supernet(), supernet()
    astray = (replace(LOCAL, learning_rate=0.3), replace(SUBNETS, learning_rate=0.3))
    result = train(net, Noise(40), replace(AVERAGED, phases=astray))
    train(untrained, Noise(40), replace(AVERAGED, phases=()))
    assert result.kept == (0.0, 0.0)
    assert result.deciding == 8
    assert_bit_exact(net, untrained)
    assert "each phase: 0% and 0%, by 8 other pictures" in outcome(result)


@pytest.mark.parametrize("cost", [0.0, 1.0, 9.0])
def test_where_alternatives_save_nothing_others_decide(cost: float) -> None:
    """Subnets that cost as much as the original, or more, are on no front, and are trained all the same."""
    net = supernet()
    costs = {block.name: 1.0 if block.is_original else cost * (block.end - block.start) for block in net.graph.blocks}
    astray = replace(AVERAGED, phases=(replace(LOCAL, learning_rate=0.3),))
    assert train(net, Noise(40), astray, cost=costs).kept == (0.0,)


def test_too_few_images_decide_nothing() -> None:
    net, plain = supernet(), supernet()
    result = train(net, Noise(15), AVERAGED)
    train(plain, Noise(15), SETTINGS)
    assert (result.kept, result.deciding) == ((), 0)
    assert_bit_exact(net, plain)
    assert "other pictures" not in outcome(result)


@pytest.mark.parametrize("step", [4, 6, 7, 12])
def test_a_run_that_was_killed_ends_bit_for_bit_the_same(tmp_path: Path, step: int) -> None:
    settings, file = replace(AVERAGED, checkpoint_every=1), tmp_path / "checkpoint"
    whole, resumed = supernet(), supernet()
    expected = train(whole, Noise(40), settings)
    with pytest.raises(Killed):
        train(supernet(), Noise(40), settings, checkpoint=file, progress=killed_at(step))
    found = train(resumed, Noise(40), settings, checkpoint=file)
    assert found.kept == expected.kept
    assert_bit_exact(resumed, whole)
    again = supernet()  # from the end, where it was not averaged yet
    train(again, Noise(40), settings, checkpoint=file)
    assert_bit_exact(again, whole)


def test_images_that_decide_are_not_trained_on_but_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = supernet(), pictures(40, 0)
    used: list[int] = []
    image = data.image
    monkeypatch.setattr(data, "image", lambda index: (used.append(index), image(index))[1])
    train(net, data, replace(AVERAGED, phases=(Phase("local", 40, 1e-4),)))
    deciding = used[:8]
    assert not set(deciding) & set(used[8:])
    assert net.trained_on is not None
    assert net.trained_on.among(data.content_digests()) == 40


def test_recipes_whose_front_counts_average() -> None:
    assert {name for name, recipe in RECIPES.items() if recipe().averaging} == {"ours", "front"}


def test_what_was_kept_is_said_only_where_something_was_not() -> None:
    told = Trained({}, 10, 1.0, 10, 0.0, kept=(1.0, 1.0), deciding=8)
    assert "kept" not in outcome(told)
    assert "100% and 25%, by 8 other pictures" in outcome(replace(told, kept=(1.0, 0.25)))
