"""Which alternatives are left out before training: dominated ones, and what the front is hardly worse without."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import GraphError, TrainingError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut
from adaptivenet.toolkit.training.beginning import by_layers_too
from adaptivenet.toolkit.training.subnet_draws import costs_of
from adaptivenet.toolkit.training.thinning import Thinned, thin
from adaptivenet.toolkit.training.train import train
from small_training import SETTINGS, Killed, Noise, assert_bit_exact, killed_at, supernet

THINNED = replace(SETTINGS, sampling="front", storage=2.0, cheapest=0.0)

pytestmark = pytest.mark.usefixtures("one_thread")


def graph(*alternatives: Block, originals: int = 2) -> BlockGraph:
    cuts = [Cut(index, (1, 4)) for index in range(originals + 1)]
    blocks = [Block(f"b{at}", at, at + 1, "original", params=100, macs=100) for at in range(originals)]
    return BlockGraph(cuts, [*blocks, *alternatives])


def pruned(name: str, at: int, macs: int, params: int = 50) -> Block:
    return Block(name, at, at + 1, "pruned", params=params, macs=macs)


def left_out(given: BlockGraph, losses: dict[str, float], limit: float = 99.0) -> Thinned:
    return thin(given, costs_of(given, None), losses, limit)


@pytest.mark.parametrize(
    ("losses", "dominated"),
    [
        ({"cheap": 0.5, "dear": 0.2}, ()),
        ({"cheap": 0.2, "dear": 0.2}, ("dear",)),
        ({"cheap": 0.2, "dear": 0.199}, ("dear",)),  # lower by less than the margin
        ({"cheap": 0.2, "dear": 0.19}, ()),
    ],
)
def test_a_dearer_alternative_that_is_no_better_goes(losses: dict[str, float], dominated: tuple[str, ...]) -> None:
    given = graph(pruned("cheap", 0, 40), pruned("dear", 0, 60))
    assert left_out(given, losses).dominated == dominated


def test_of_two_that_are_alike_one_stays() -> None:
    given = graph(pruned("one", 0, 50), pruned("other", 0, 50))
    assert left_out(given, {"one": 0.3, "other": 0.3}).dominated in (("one",), ("other",))
    assert left_out(given, {"one": 0.3, "other": 0.2}).dominated == ("one",)


def test_an_alternative_that_costs_more_than_the_original_goes_and_one_between_other_cuts_stays() -> None:
    given = graph(pruned("more", 0, 101), Block("longer", 0, 2, "merged", params=100, macs=150), pruned("p", 1, 60))
    assert left_out(given, {"more": 0.1, "longer": 0.9, "p": 0.1}).dominated == ("more",)


def test_what_costs_as_much_as_the_original_stays() -> None:
    """Another activation has the same multiply-accumulates; blocks that were made by hand may have none at all."""
    losses = {"same": 0.1, "uncounted": 0.1}
    assert left_out(graph(pruned("same", 0, 100)), losses).names == ()
    whole = graph(pruned("uncounted", 0, 0))
    by_hand = BlockGraph(whole.cuts, [replace(block, macs=0) for block in whole.blocks])
    assert left_out(by_hand, losses).names == ()


def test_what_has_no_parameters_stays_even_where_another_one_is_cheaper_and_better() -> None:
    given = graph(Block("pool", 0, 1, "pool", macs=50), pruned("cheap", 0, 40), pruned("dear", 0, 60))
    assert left_out(given, {"pool": 0.9, "cheap": 0.2, "dear": 0.5}).dominated == ("dear",)


def test_for_storage_goes_what_the_front_is_hardly_worse_without() -> None:
    """A block of which nothing good is expected takes as much room as one that carries the front."""
    good, bad = pruned("good", 0, 50, 100), pruned("bad", 1, 50, 100)
    found = left_out(graph(good, bad), {"good": 0.1, "bad": 5.0}, 1.5)
    assert found == Thinned((), ("bad",), 2.0, 1.5)
    heavy = pruned("heavy", 1, 50, 1000)
    found = left_out(graph(good, heavy), {"good": 0.1, "heavy": 0.1}, 2.0)
    assert found.storage == ("heavy",), "as good, for ten times the room"


def test_the_front_is_judged_by_what_blocks_may_cost_on_other_devices() -> None:
    """By multiply-accumulates two thin blocks are as cheap as a merged one. Where thin layers take their time, too, the
    merged one is the only way to be as fast."""
    merged = Block("merged", 0, 2, "merged", params=100, macs=100)
    useless = Block("useless", 1, 2, "pool", macs=100)  # so bad that to meet no budget counts much
    given = graph(pruned("p0", 0, 50), pruned("p1", 1, 50), merged, useless)
    losses = {"p0": 0.1, "p1": 0.1, "merged": 0.4, "useless": 5.0}
    cost = costs_of(given, None)
    assert thin(given, cost, losses, 1.5).storage == ("merged",)
    assert "merged" not in thin(given, cost, losses, 1.5, [cost | {"p0": 90.0, "p1": 90.0}]).storage


def test_what_takes_no_room_and_the_only_way_to_be_cheap_stay() -> None:
    skip = Block("skip", 1, 2, "skip")
    needed = pruned("needed", 0, 10, 90)
    given = graph(skip, needed, pruned("thick", 0, 90, 90))
    found = left_out(given, {"skip": 0.9, "needed": 0.9, "thick": 0.5}, 1.5)
    assert found.storage == ("thick",)
    assert left_out(given, {"skip": 0.9, "needed": 0.9, "thick": 0.5}, 1.0).storage == ("thick", "needed")


def test_originals_cannot_be_left_out() -> None:
    given = graph(pruned("p", 0, 10))
    assert given.without(["p"]).oracle == given.oracle
    with pytest.raises(GraphError, match="'b0' is an original one"):
        given.without(["b0"])
    with pytest.raises(GraphError, match="no block 'b9'"):
        given.without(["b9"])


def stored(net: Supernet) -> float:
    own = sum(block.params for block in net.graph.blocks if block.is_original)
    return sum(block.params for block in net.graph.blocks) / own


def test_layers_cost_something_however_thin() -> None:
    net = supernet()
    cost = by_layers_too(net)
    assert sum(cost[name] for name in net.graph.oracle) == pytest.approx(2.0)
    half, both = net.graph["b01-p50"], net.graph["b01-m2"]
    assert half.macs == both.macs / 2 == net.graph["b01"].macs / 2
    assert cost["b01"] / 2 < cost[half.name] < cost["b01"]
    assert cost[both.name] == cost["b01"]


def test_a_supernet_is_thinned_before_it_is_trained(tmp_path: Path) -> None:
    net = supernet()
    whole = net.graph
    result = train(net, Noise(), THINNED)
    assert stored(net) <= 2.0 < stored(supernet())
    assert result.thinned is not None
    assert Thinned.from_json(asdict(result.thinned)) == result.thinned
    assert result.thinned.after == pytest.approx(stored(net))
    assert {block.name for block in net.graph.blocks} == set(net.blocks)
    assert {block.name for block in whole.blocks} == {*net.blocks, *result.thinned.names}
    assert result.losses["trained"].keys() == {block.name for block in net.alternatives()}
    net.save(tmp_path / "supernet")
    assert Supernet.load(tmp_path / "supernet").graph == net.graph


@pytest.mark.parametrize("step", [5, 11])
def test_resumed_it_is_thinned_alike_and_draws_the_same_subnets(tmp_path: Path, step: int) -> None:
    uninterrupted = supernet()
    train(uninterrupted, Noise(), THINNED)
    net = supernet()
    with pytest.raises(Killed):
        train(net, Noise(), THINNED, checkpoint=tmp_path / "checkpoint", progress=killed_at(step))
    assert net.graph == supernet().graph, "a run that was ended leaves nothing out"
    train(net, Noise(), THINNED, checkpoint=tmp_path / "checkpoint")
    assert_bit_exact(net, uninterrupted)
    assert net.graph == uninterrupted.graph


def test_a_limit_that_nothing_can_meet_is_named() -> None:
    count = len(supernet().alternatives())
    message = (
        rf"is left: 0 are dominated .*, {count} went for a storage of 1.001 times .*; --storage all \(storage=None\)"
    )
    with pytest.raises(TrainingError, match=message):
        train(supernet(), Noise(), replace(THINNED, storage=1.001))


def test_where_all_are_dominated_the_error_says_so_and_what_keeps_them() -> None:
    net = supernet()
    net = net.without([block.name for block in net.alternatives() if block.kind == "merged"])
    cost = {block.name: 1.0 if block.is_original else 9.0 for block in net.graph.blocks}
    message = rf"is left: {len(net.alternatives())} are dominated by another block, 0 went .*--storage all"
    with pytest.raises(TrainingError, match=message):
        train(net, Noise(), replace(THINNED, storage=100.0), cost=cost)
