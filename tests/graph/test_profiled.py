"""The front of a profile in the graph of a supernet: the same paths, or an error that says what is another one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from adaptivenet.toolkit.errors import ProfileError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph
from adaptivenet.toolkit.graph.profiled import OF_BLOCK, in_float32, subnets_in
from graphs import block_graphs, chain
from hypothesis import given
from hypothesis import strategies as st


def exported(graph: BlockGraph) -> BlockGraph:
    """As a profile tells the pack of a supernet: in int8 too, with networks, without shapes, sizes, taps and twins."""
    whole = [] if graph.networks else [Block("whole", 0, graph.end, "whole")]
    plain = [Block(**{field: getattr(block, field) for field in OF_BLOCK}) for block in (*graph.blocks, *whole)]
    known = {block.name for block in plain}
    int8 = [
        replace(block, name=f"{block.name}-int8", precision="int8")
        for block in plain
        if block.precision == "float32" and f"{block.name}-int8" not in known
    ]
    also = Block("sibling", 0, graph.end, "also")
    return BlockGraph(chain(graph.end).cuts, [*plain, *int8, also])


@given(st.data())
def test_a_front_of_a_supernets_pack_is_found_in_the_supernet(data: st.DataObject) -> None:
    graph = data.draw(block_graphs())
    own = BlockGraph(graph.cuts, [block for block in graph.blocks if not block.is_network], graph.taps)
    profiled = exported(own)
    paths = data.draw(st.lists(st.sampled_from(list(own.paths())), max_size=4))
    mixed = [
        [name + data.draw(st.sampled_from(["", "-int8"]), label=name) for name in path] for path in paths
    ] + data.draw(st.lists(st.sampled_from([["whole"], ["whole-int8"], ["sibling"]]), max_size=2))
    found = in_float32(own, profiled, data.draw(st.permutations(mixed)), "p.json")
    assert set(found) == set(paths)
    assert len(set(found)) == len(found)
    assert all(subnet.graph is own for subnet in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "p1-other"}, "p.json is a profile of another pack: the supernet has no block 'p1-other'"),
        ({"ratio": 0.25}, "p.json is a profile of another pack: its block 'p1' is another one"),
        ({"kind": "lowrank"}, "its block 'p1' is another one"),
        ({"start": 0}, "its block 'p1' is another one"),
        ({"name": "f01-02", "kind": "fused"}, "its block 'f01-02' is several of the supernet's, as in a pack that was"),
        ({"name": "f01-02-2-int8"}, "give the profile of that front"),
    ],
)
def test_a_profile_of_another_supernet_is_refused(change: dict[str, object], message: str) -> None:
    block = Block("p1", 1, 2, "pruned", ratio=0.5)
    graph, profiled = chain(3, (block,)), exported(chain(3, (replace(block, **change),)))  # type: ignore[arg-type]
    with pytest.raises(ProfileError) as error:
        in_float32(graph, profiled, [profiled.oracle], "p.json")
    assert message in str(error.value)
    with pytest.raises(ProfileError) as error:
        subnets_in(graph, profiled, [profiled.oracle], "p.json")


def test_blocks_that_a_supernet_calls_as_a_front_would_are_its_own() -> None:
    block = Block("f01-02", 1, 2, "pruned", ratio=0.5)
    graph = chain(3, (block,))
    assert in_float32(graph, exported(graph), [("o0", "f01-02-int8", "o2")], "p.json") == [("o0", "f01-02", "o2")]


def test_a_front_of_fewer_cuts_is_told_by_its_blocks() -> None:
    profiled = chain(2, (Block("f00-02", 0, 1, "skip"),))
    with pytest.raises(ProfileError, match="'f00-02' is several of the supernet's"):
        in_float32(chain(3), exported(profiled), [profiled.oracle], "p.json")


def test_a_network_of_another_length_is_refused() -> None:
    with pytest.raises(ProfileError, match="its network has 4 blocks in a row, and the supernet's 3"):
        in_float32(chain(3), exported(chain(4)), [("whole",)], "p.json")
