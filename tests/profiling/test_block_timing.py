"""Blocks timed alone and in situ: every one is in a subnet, and the predictor learns from the subnets it is given."""

from __future__ import annotations

import pytest
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.graph.graph import Block, BlockGraph
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.block_timing import learn, subnets_to_time, time_blocks
from adaptivenet.toolkit.profiling.measuring import Precision, Samples, Timed
from engines import ENGINES
from graphs import block_graphs, chain
from hypothesis import given
from hypothesis import strategies as st


@given(block_graphs(), st.integers(0, 99))
def test_every_block_is_timed_in_a_subnet(graph: BlockGraph, seed: int) -> None:
    subnets = subnets_to_time(graph, seed)
    parts = {block.name for block in graph.blocks if not block.is_network}
    assert {name for subnet in (*subnets, graph.oracle) for name in subnet} == parts
    assert len(set(subnets)) == len(subnets) <= max(12, len(graph.blocks))
    assert graph.oracle not in subnets
    assert subnets == subnets_to_time(graph, seed)


def test_there_are_as_many_subnets_as_every_block_needs() -> None:
    many = tuple(Block(f"p{at}-{ratio}", at, at + 1, "pruned") for at in range(6) for ratio in range(30))
    assert len(subnets_to_time(chain(6, many), 0)) == 30
    few = tuple(Block(f"p{at}", at, at + 1, "pruned") for at in range(6))
    assert 8 <= len(subnets_to_time(chain(6, few), 0)) <= 12, "some may be drawn twice"


def test_int8_blocks_are_timed_next_to_each_other() -> None:
    names = [(f"o{at}", at, "original") for at in range(6)] + [(f"p{at}", at, "pruned") for at in range(6)]
    int8 = tuple(Block(f"{name}-int8", at, at + 1, kind, precision="int8", twin_of=name) for name, at, kind in names)
    graph = chain(6, int8)
    subnets = subnets_to_time(graph, 0)
    alike = [subnet for subnet in subnets if all(graph[name].precision == "int8" for name in subnet)]
    assert {name for subnet in alike for name in subnet} == {block.name for block in int8}
    assert graph.subnet(f"o{at}-int8" for at in range(6)) in subnets, "what is chosen is often much the same"
    mixed = [subnet for subnet in subnets if len({graph[name].precision for name in subnet}) == 2]
    assert len(mixed) >= 3, "and where they meet others"


def timed(names: tuple[str, ...], *ms: float) -> Timed:
    return Timed(names, tuple((each,) * 3 for each in ms))


def test_what_is_learned_comes_from_the_subnets_that_are_named() -> None:
    graph = chain(2, (Block("p0", 0, 1, "pruned"),))
    pruned = graph.subnet(("p0", "o1"))
    samples = Samples(
        (timed(("o0",), 2.0), timed(("o1",), 2.0), timed(("p0",), 1.0), timed(tuple(pruned), 7.0, 9.0)),
        timed(tuple(graph.oracle), 2.0, 2.0),
        0,
    )
    assert learn(samples, [graph.oracle]).predict(graph.oracle)[0] == pytest.approx(4.0, rel=0.01)
    both = learn(samples, [graph.oracle, pruned])
    assert both.predict(pruned)[0] > 1.5 * learn(samples, [graph.oracle]).predict(pruned)[0]
    assert both.ms != learn(samples, [graph.oracle, pruned], in_situ=False).ms
    with pytest.raises(KeyError):
        learn(samples, [graph.subnet(("p0", "o1")), chain(3).oracle])


def test_a_network_as_one_program_is_not_predicted_and_teaches_nothing_of_blocks() -> None:
    known = (timed(("o0",), 2.0), timed(("o1",), 2.0))
    learned = []
    for networks in ((), (Block("whole", 0, 2, "whole"),)):
        graph = chain(2, networks)
        alone = [timed((block.name,), 1.25) for block in networks]
        samples = Samples((*known, *alone), timed(tuple(graph.oracle), 2.5, 2.5), 0)
        learned.append(learn(samples, [graph.oracle]))
    predicted, error = learned[1].predict(("whole",))
    assert predicted == 1.25
    assert 0.02 < error < 0.05, "its own timing, to the speed that a device keeps"
    assert learned[1].predict(("o0", "o1")) == learned[0].predict(("o0", "o1"))


@pytest.mark.parametrize("address", ENGINES)
def test_the_blocks_of_a_pack_are_timed(address: str, tiny_pack: BlockPack) -> None:
    graph = tiny_pack.graph
    with connect(address).open(tiny_pack) as session:
        timing = time_blocks(session, Precision(0.0, 5, 6), seed=3)
    assert timing.table.blocks.keys() == timing.predictor.ms.keys() == {block.name for block in graph.blocks}
    assert all(latency.repetitions == 6 for latency in timing.table.blocks.values())
    assert timing.oracle.median_ms > 0
    chains = [each.chain for each in timing.samples.timed]
    assert chains[: len(graph.blocks)] == [(block.name,) for block in graph.blocks]
    pairs = [] if address == "local:executorch" else [("b0", "b1"), ("b1", "b2")]
    assert chains[len(graph.blocks) :] == [*map(tuple, subnets_to_time(graph, 3)), *pairs]
    assert timing.samples.anchor.chain == graph.oracle
    known = {*subnets_to_time(graph, 3), graph.oracle}
    assert timing.likely.anchor.chain == graph.oracle
    again = [each.chain for each in timing.likely.timed if graph.subnet(each.chain) in known]
    assert 1 <= len(again) <= 5
