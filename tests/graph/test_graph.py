"""Cuts, blocks, graphs and subnets: what can be built, what cannot, and that the errors say why."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
from adaptivenet.toolkit.errors import AdaptiveNetError, GraphError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut, Subnet
from graphs import block_graphs, chain
from hypothesis import given
from hypothesis import strategies as st

MERGED = Block("m0", 0, 2, "merged")
PRUNED = Block("p1", 1, 2, "pruned", ratio=0.5)
GRAPH = chain(3, (MERGED, PRUNED))


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 4), ("float16", 2), ("bfloat16", 2), ("int64", 8), ("int8", 1), ("bool", 1)]
)
def test_cut_bytes(dtype: str, size: int) -> None:
    assert Cut(0, (1, 24, 5, 7), dtype).bytes == 24 * 5 * 7 * size
    assert Cut(0, (), dtype).bytes == size


def test_cut_refuses_what_has_no_size() -> None:
    with pytest.raises(GraphError, match="cut 3 has dtype 'complex64'; known are float32"):
        Cut(3, (1,), "complex64")
    for side in (0, -1):
        with pytest.raises(GraphError, match="cut 3 has shape"):
            Cut(3, (1, side))


@pytest.mark.parametrize("name", ["a", "0", "B7-x_y", "a" * 64])
def test_block_names(name: str) -> None:
    assert Block(name, 0, 1, "original").name == name


@pytest.mark.parametrize("name", ["", "-a", "_a", "a" * 65, "a b", "../a", "a/b", "a.b", "a\n", "é", "a\0"])
def test_block_refuses_other_names(name: str) -> None:
    with pytest.raises(GraphError, match="block name"):
        Block(name, 0, 1, "original")


@pytest.mark.parametrize(
    ("start", "end", "kind", "message"),
    [
        (0, 1, "", "kind ''"),
        (0, 1, "Pruned", "kind 'Pruned': at most 32 lower-case letters"),
        (0, 1, "a" * 33, "at most 32"),
        (0, 1, "a\n", "at most 32"),
        (2, 2, "merged", "from cut 2 to cut 2; it must go forward"),
        (2, 1, "pruned", "it must go forward"),
        (-1, 1, "merged", "it must go forward"),
        (0, 2, "original", "original block 'b' spans 2 cuts"),
    ],
)
def test_block_refuses(start: int, end: int, kind: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Block("b", start, end, kind)


def test_head_reads_every_tap_once() -> None:
    graph = chain(4, (Block("m0", 2, 4, "merged"),), taps=(1, 2))
    reads = {block.name: graph.reads(block) for block in graph.blocks}
    assert reads == {"o0": (0,), "o1": (1,), "o2": (2,), "o3": (3, 1, 2), "m0": (2, 1)}
    of_input = chain(2, (Block("whole", 0, 2, "whole"),), taps=(0,))
    assert {block.name: of_input.reads(block) for block in of_input.blocks} == {"o0": (0,), "whole": (0,), "o1": (1, 0)}


def test_a_block_reads_its_start_then_earlier_cuts_ascending() -> None:
    extra = (Block("p2", 2, 3, "pruned", reads=(0, 1)), Block("p3", 3, 4, "pruned", reads=(0, 2)))
    graph = chain(4, (*extra, Block("whole", 0, 4, "whole")), taps=(1, 2))
    reads = {block.name: graph.reads(block) for block in graph.blocks}
    assert reads == {
        **{"o0": (0,), "o1": (1,), "o2": (2,), "p2": (2, 0, 1), "whole": (0,)},
        **{"o3": (3, 1, 2), "p3": (3, 0, 1, 2)},
    }
    assert graph.kept == (0, 1, 2)
    assert graph.without(["p2", "p3"]).kept == (1, 2)
    assert chain(3).kept == ()
    for same in (graph.with_losses({"p2": 0.5}), graph.of_blocks, pickle.loads(pickle.dumps(graph))):
        assert same["p2"].reads == (0, 1)
    assert graph["p2"].quantised().reads == (0, 1)
    other = BlockGraph(graph.cuts, (replace(block, reads=()) for block in graph.blocks), graph.taps)
    assert other != graph
    assert Block("b", 2, 3, "pruned", reads=[0, 1]) == Block("b", 2, 3, "pruned", reads=(0, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize("reads", [(2,), (0, 2), (3,), (1, 0), (0, 0), (-1,)])
def test_block_refuses_to_read_what_is_not_before_it(reads: tuple[int, ...]) -> None:
    with pytest.raises(GraphError, match=r"'b' starts at cut 2 and reads cuts \[.*\] besides: they must be ascending"):
        Block("b", 2, 3, "pruned", reads=reads)


def test_no_block_jumps_over_a_cut_that_another_reads() -> None:
    reader = Block("p2", 2, 3, "pruned", reads=(0, 1))
    with pytest.raises(GraphError, match="'m0' jumps over cut 1, which is one that other blocks read"):
        chain(4, (reader, MERGED))
    graph = chain(3, (reader, Block("whole", 0, 3, "whole"), Block("m1", 1, 3, "merged")))
    assert graph.kept == (0, 1)


def test_graph_refuses_wrong_cuts() -> None:
    block = Block("o0", 0, 1, "original")
    for indices in ([0, 2], [1, 2], [1, 0], [0, 0], [0], []):
        with pytest.raises(GraphError, match="cuts must be numbered"):
            BlockGraph([Cut(index, (1,)) for index in indices], [block])


def test_graph_refuses_wrong_blocks() -> None:
    with pytest.raises(GraphError, match=r"occur twice: m0$"):
        chain(3, (MERGED, Block("m0", 1, 3, "merged"), PRUNED))
    with pytest.raises(GraphError, match="'m0' ends at cut 2; the last cut is 1"):
        chain(1, (MERGED,))
    with pytest.raises(GraphError, match=r"one original block from each cut to the next: they start at \[0, 1, 1\]"):
        chain(2, (Block("o1b", 1, 2, "original"),))
    with pytest.raises(GraphError, match=r"they start at \[1\]"):
        BlockGraph(GRAPH.cuts[:3], [Block("o1", 1, 2, "original"), MERGED])


def test_graph_refuses_wrong_taps() -> None:
    with pytest.raises(GraphError, match="'m0' jumps over cut 1, which is a tap"):
        chain(3, (MERGED,), taps=(1,))
    for tap in (3, 4, -1):
        with pytest.raises(GraphError, match="a tap is a cut before the last, 0 to 2"):
            chain(3, taps=(tap,))
    assert chain(3, (MERGED,), taps=(2, 2)).taps == (2,)


def test_graph_looks_up_blocks() -> None:
    assert GRAPH["m0"] is MERGED
    assert "m0" in GRAPH
    assert "m1" not in GRAPH
    assert 3 not in GRAPH
    assert [[block.name for block in leaving] for leaving in GRAPH.leaving] == [["o0", "m0"], ["o1", "p1"], ["o2"], []]
    with pytest.raises(GraphError, match="there is no block 'm1' in this graph of 5 blocks"):
        GRAPH["m1"]
    assert repr(GRAPH) == "BlockGraph(4 cuts, 5 blocks, 3 subnets)"


def test_errors_are_one_tree_and_value_errors() -> None:
    assert issubclass(GraphError, AdaptiveNetError)
    assert issubclass(GraphError, ValueError)


def test_replaced_by() -> None:
    assert GRAPH.replaced_by(MERGED) == ("o0", "o1")
    assert GRAPH.replaced_by(PRUNED) == ("o1",)


def test_replace_a_stretch() -> None:
    assert GRAPH.replace(GRAPH.oracle, MERGED) == ("m0", "o2")
    assert GRAPH.replace(GRAPH.oracle, PRUNED) == ("o0", "p1", "o2")
    assert GRAPH.replace(GRAPH.subnet(("m0", "o2")), GRAPH["o2"]) == ("m0", "o2")
    with pytest.raises(GraphError, match="'p1' cannot replace a stretch"):
        GRAPH.replace(GRAPH.subnet(("m0", "o2")), PRUNED)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "the path ends at cut 0, the last cut is 3"),
        (("o0", "o1"), "the path ends at cut 2, the last cut is 3"),
        (("o0", "o2"), "'o2' starts at cut 2, but the path is at cut 1"),
        (("o1", "o2"), "'o1' starts at cut 1, but the path is at cut 0"),
        (("o0", "o1", "o2", "o2"), "'o2' starts at cut 2, but the path is at cut 3"),
        (("o0", "x", "o2"), "there is no block 'x'"),
    ],
)
def test_what_is_no_path_is_no_subnet(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Subnet(GRAPH, names)


def test_a_subnet_is_the_tuple_of_its_names() -> None:
    subnet = GRAPH.subnet(["m0", "o2"])
    assert subnet == ("m0", "o2")
    assert {("m0", "o2"): 1}[subnet] == 1
    assert repr(subnet) == "('m0', 'o2')"
    assert subnet.cuts == (0, 2, 3)
    for twin in (copy.copy(subnet), copy.deepcopy(subnet), pickle.loads(pickle.dumps(subnet))):
        assert isinstance(twin, Subnet)
        assert (twin, twin.graph) == (subnet, GRAPH)


def test_with_losses() -> None:
    noted = GRAPH.with_losses({"m0": 0.25})
    assert [block.name for block in noted.blocks if block.loss is not None] == ["m0"]
    assert noted["m0"].loss == 0.25
    assert noted.with_losses({"p1": 0.5})["m0"].loss == 0.25
    assert noted != GRAPH
    assert GRAPH["m0"].loss is None


def test_a_network_as_one_program_reads_the_input_alone_and_is_what_budgets_are_shares_of() -> None:
    networks = (
        Block("whole", 0, 3, "whole"),
        Block("whole-int8", 0, 3, "whole", precision="int8"),
        Block("small", 0, 3, "also"),
    )
    graph = chain(3, (*networks, Block("o1-int8", 1, 2, "original", precision="int8")), (1, 2))
    assert graph.reads(graph["whole"]) == (0,)
    assert graph.reads(graph["o2"]) == (2, 1)
    assert graph.networks == (("small",), ("whole",), ("whole-int8",))
    assert graph.reference == ("whole",)
    assert graph.oracle == ("o0", "o1", "o2")
    assert chain(3).reference == chain(3).oracle
    with pytest.raises(GraphError, match="'whole' of kind 'whole' must go from the first cut to the last"):
        chain(3, (Block("whole", 0, 2, "whole"),))
    with pytest.raises(GraphError, match="precision 'int4'; known are float32, int8"):
        Block("x", 0, 1, "pruned", precision="int4")


@given(block_graphs())
def test_paths_are_all_subnets_and_counted(graph: BlockGraph) -> None:
    paths = list(graph.paths())
    assert len(set(paths)) == len(paths) == graph.count()
    assert graph.oracle in paths
    for path in paths:
        assert graph.subnet(path) == path
        assert {0, graph.end} <= set(path.cuts)
        assert len(path) == 1 or set(graph.kept) <= set(path.cuts)
        at = {0, *path.cuts}
        assert all(set(graph.reads(graph[name])) <= at for name in path)


@given(block_graphs(max_blocks=3, max_alternatives=4))
def test_every_set_of_blocks_that_tiles_the_chain_is_a_path(graph: BlockGraph) -> None:
    """Brute force that shares nothing with `paths`: try all subsets of blocks."""
    tilings = set()
    for size in range(1, graph.end + 1):
        for chosen in combinations(graph.blocks, size):  # the graph keeps its blocks sorted by start
            covered = [cut for block in chosen for cut in range(block.start, block.end)]
            if covered == list(range(graph.end)):
                tilings.add(tuple(block.name for block in chosen))
    assert set(graph.paths()) == tilings


@given(block_graphs(), st.randoms(use_true_random=False))
def test_order_of_blocks_does_not_matter(graph: BlockGraph, rng: object) -> None:
    blocks = list(graph.blocks)
    rng.shuffle(blocks)  # type: ignore[attr-defined]
    again = BlockGraph(graph.cuts, blocks, reversed(graph.taps))
    assert again == graph
    assert hash(again) == hash(graph)
    assert list(again.paths()) == list(graph.paths())


def test_graphs_differ() -> None:
    assert chain(3) != chain(2)
    assert chain(3) != chain(3, taps=(1,))
    assert chain(3) != "a graph"
    assert BlockGraph([Cut(0, (1,)), Cut(1, (2,))], [Block("o0", 0, 1, "original")]) != chain(1)


@given(block_graphs(), st.data())
def test_replacing_changes_the_stretch_and_nothing_else(graph: BlockGraph, data: st.DataObject) -> None:
    block = data.draw(st.sampled_from(graph.blocks))
    replaced = graph.replace(graph.oracle, block)
    assert replaced == (*graph.oracle[: block.start], block.name, *graph.oracle[block.end :])
    assert graph.replaced_by(block) == graph.oracle[block.start : block.end]


def test_counts_are_exact_beyond_floats() -> None:
    extra = tuple(Block(f"p{number}-{at}", at, at + 1, "pruned") for at in range(60) for number in range(6))
    assert chain(60, extra).count() == 7**60


def test_the_twin_of_an_int8_block_is_known_by_name() -> None:
    """Two blocks that are alike in all else, as two kinds of the user's own can make them, are not confused."""
    alike = [Block(name, 0, 1, "low-rank", "layer1", 0.5, 8, 9) for name in ("a", "b")]
    int8 = [replace(block, name=f"{block.name}8", precision="int8", twin_of=block.name) for block in reversed(alike)]
    graph = chain(2, (*alike, *int8))
    assert [graph.in_float32(graph[name]) for name in ("a8", "b8", "a", "o0")] == [*alike, None, None]
    without = chain(2, tuple(int8))
    assert without.in_float32(without["a8"]) is None, "a bundle need not have it"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda: Block("a", 0, 1, "pruned", twin_of="o0"),
            "'a' is in float32 and says that it was quantised from 'o0'",
        ),
        (
            lambda: chain(2, (Block("a", 0, 2, "merged", precision="int8", twin_of="o0"),)),
            "'a' says that it was quantised from 'o0', which is no float32 block from cut 0 to cut 2",
        ),
        (
            lambda: chain(
                2,
                (
                    Block("a", 0, 1, "pruned", precision="int8", twin_of="b"),
                    Block("b", 0, 1, "pruned", precision="int8"),
                ),
            ),
            "'a' says that it was quantised from 'b', which is no float32 block",
        ),
    ],
)
def test_only_a_float32_block_between_the_same_cuts_is_a_twin(made: Callable[[], object], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        made()
