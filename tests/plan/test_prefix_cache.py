"""Features that outlive a plan: the scores stay the same, the memory within its limit, and the work becomes less.

Random graphs, generations and limits, on the real interpreter with names in the place of features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.devices.local.interpreter import runs_to_copy
from adaptivenet.toolkit.errors import FeaturesLost, PlanError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut, Subnet
from adaptivenet.toolkit.plan.plan import Drop, Free, Keep, Plan, Recall, Run, Score, compile_plan
from adaptivenet.toolkit.plan.prefix_cache import PrefixCache
from adaptivenet.toolkit.plan.prefix_worth import Worth
from adaptivenet.toolkit.search import Evaluator
from graphs import block_graphs, chain
from hypothesis import given, settings
from hypothesis import strategies as st
from named import ALONE, METRICS, named_data, named_session, same

PIECES = ((0, 3), (3, 1), (4, 4))  # the first image, and how many
Generations = list[tuple[list[Subnet], int]]


@st.composite
def searches(draw: st.DrawFn) -> tuple[BlockGraph, Mapping[str, tuple[str, ...]], Generations, int]:
    """Some generations of subnets of a random graph, each on one of the pieces; metrics, and a limit in bytes."""
    graph = draw(block_graphs())
    metrics = draw(st.sampled_from([METRICS, ALONE, METRICS | ALONE]))
    batches = st.lists(st.sampled_from(list(graph.paths())), min_size=1, max_size=8)
    generations = draw(st.lists(st.tuples(batches, st.integers(0, 2)), min_size=1, max_size=7))
    least = sum(cut.bytes for cut in graph.cuts) + graph.cuts[-1].bytes
    limit = int(least * draw(st.sampled_from([0.5, 0.8, 1.0, 1.5, 3, 8, 30, 1000])))
    return graph, metrics, generations, limit


Search = tuple[BlockGraph, Mapping[str, tuple[str, ...]], Generations, int]


@settings(deadline=None)
@given(searches())
def test_a_cache_changes_only_the_work(search: Search) -> None:
    graph, metrics, generations, limit = search
    session, engine = named_session(graph, metrics)
    plain, plain_engine = named_session(graph, metrics)
    evaluator = Evaluator(session, metrics, limit)
    for subnets, piece in generations:
        data = named_data(graph, *PIECES[piece])
        engine.ran.clear()
        engine.peak = 0
        try:
            found = evaluator.evaluate(subnets, data)
        except PlanError:
            # A single subnet needs more than the limit, and nothing else is in its way.
            assert any(compile_plan(graph, [subnet], metrics).peak_bytes > limit for subnet in subnets)
            assert engine.alive == 0
            return
        plan = compile_plan(graph, subnets, metrics)
        expected = plain.evaluate(plan, data)
        assert same(found, expected)
        assert np.isfinite(next(iter(found.sums.values()))).all()
        assert found.block_runs == len(engine.ran)
        assert engine.peak <= limit
        if plan.peak_bytes <= limit:
            assert found.block_runs <= expected.block_runs
            assert len(set(engine.ran)) == len(engine.ran)
    assert plain_engine.alive == 0
    evaluator.close()
    assert engine.alive == 0


@settings(deadline=None)
@given(searches())
def test_every_plan_is_followed_and_read_again(search: Search) -> None:
    graph, metrics, generations, limit = search
    cache = PrefixCache(graph, metrics, limit)
    for number, (subnets, piece) in enumerate(generations):
        first, images = PIECES[piece]
        try:
            plan = cache.plan(subnets, str(first), images)
        except PlanError:
            continue
        again = Plan.from_json(graph, metrics, json.loads(json.dumps(plan.to_json())))
        assert again == plan
        assert again.keeps == plan.keeps
        cache.ran(plan, str(first), [float(number)] * len(subnets))


@settings(deadline=None)
@given(searches(), st.data())
def test_a_plan_that_keeps_cannot_lose_an_instruction_or_what_it_begins_from(
    search: Search, data: st.DataObject
) -> None:
    graph, metrics, generations, _ = search
    cache = PrefixCache(graph, metrics, 1 << 30)
    for subnets, _ in generations:
        plan = cache.plan(subnets, "data", 2)
        cache.ran(plan, "data", [0.0] * len(subnets))
    document = plan.to_json()
    number = data.draw(st.integers(0, len(document["instructions"]) - 1))
    lost: list[Any] = document["instructions"].pop(number)
    if lost[0] in ("keep", "drop"):  # less is kept, or more: the plan is another one, of another size
        document["kept_bytes"] = -1
    with pytest.raises(PlanError):
        Plan.from_json(graph, metrics, document)
    if plan.kept and any(isinstance(step, Recall) for step in plan.instructions):
        with pytest.raises(PlanError):
            Plan.from_json(graph, metrics, {**plan.to_json(), "kept": []})


@settings(deadline=None)
@given(searches())
def test_what_is_lost_is_made_again(search: Search) -> None:
    """The device forgets after every other generation, as one that is started anew."""
    graph, metrics, generations, _ = search
    session, engine = named_session(graph, metrics)
    plain, _ = named_session(graph, metrics)
    evaluator = Evaluator(session, metrics, 1 << 30)
    for number, (subnets, piece) in enumerate(generations):
        data = named_data(graph, *PIECES[piece])
        if number % 2:
            session.forget()
            assert engine.alive == 0
        assert same(evaluator.evaluate(subnets, data), plain.evaluate(compile_plan(graph, subnets, metrics), data))


GRAPH = chain(3, (Block("p1", 1, 2, "pruned"), Block("p2", 2, 3, "pruned")))


def test_a_generation_begins_where_the_last_one_ended() -> None:
    session, engine = named_session(GRAPH, METRICS)
    evaluator = Evaluator(session, METRICS, 1 << 20)
    data = named_data(GRAPH, 0, 2)
    assert evaluator.evaluate([("o0", "o1", "p2")], data).block_runs == 2 * 4
    engine.ran.clear()
    assert evaluator.evaluate([("o0", "p1", "p2"), GRAPH.oracle], data).block_runs == 2 * 2
    assert [path for path, image in engine.ran if image == 0] == [("o0", "p1"), ("o0", "p1", "p2")]
    assert evaluator.evaluate([GRAPH.oracle, GRAPH.oracle], data).block_runs == 0


def test_a_plan_reads_as_one_would_write_it() -> None:
    kept = {4: ("o0", "o1"), 7: ("o0", "o1", "o2"), 9: ("o0", "p1")}
    plan = compile_plan(GRAPH, [("o0", "o1", "p2")], METRICS, kept=kept, keep={7: kept[7], 0: ("o0", "o1", "p2")})
    named = [str(step).replace("agreement", "a").replace("fidelity", "f") for step in plan.instructions]
    assert named == [
        "Drop(key=9)",
        "Free(slot=0)",
        "Recall(key=7, slot=2)",
        "Recall(key=4, slot=3)",
        "Drop(key=4)",
        "Run(block='p2', sources=(3,), target=4)",
        "Keep(slot=4, key=0)",
        "Free(slot=3)",
        "Score(subnet=0, metric='a', operands=(4, 2))",
        "Score(subnet=0, metric='f', operands=(2, 4))",
        "Free(slot=4)",
        "Free(slot=2)",
    ]
    assert plan.keeps == {0: ("o0", "o1", "p2"), 7: GRAPH.oracle}
    assert (plan.block_runs, plan.kept_bytes, plan.peak_bytes) == (1, 12, 16)
    assert plan.peak_over(5) == 16 + 4 * 12


def test_taps_are_recalled_with_what_is_behind_them() -> None:
    graph = chain(4, (Block("p3", 3, 4, "pruned"),), taps=(1, 2))
    kept = {0: ("o0",), 1: ("o0", "o1"), 2: ("o0", "o1", "o2")}
    plan = compile_plan(graph, [("o0", "o1", "o2", "p3")], ALONE, kept=kept, keep=kept)
    assert plan.block_runs == 1
    assert [step.key for step in plan.instructions if isinstance(step, Recall)] == [0, 1, 2]
    del kept[1]  # without a tap, its path is run anew
    plan = compile_plan(graph, [("o0", "o1", "o2", "p3")], ALONE, kept=kept, keep=kept)
    assert [step.block for step in plan.instructions if isinstance(step, Run)] == ["o1", "o2", "p3"]


def test_what_blocks_read_is_recalled_with_what_is_behind_it() -> None:
    graph = chain(4, (Block("p2", 2, 3, "pruned", reads=(0, 1)), Block("p3", 3, 4, "pruned")))
    kept = {0: ("o0",), 1: ("o0", "o1")}
    plan = compile_plan(graph, [("o0", "o1", "p2", "p3")], ALONE, kept=kept, keep=kept)
    assert [str(step) for step in plan.instructions[:3]] == [
        "Recall(key=0, slot=2)",
        "Recall(key=1, slot=3)",
        "Run(block='p2', sources=(3, 0, 2), target=4)",
    ]
    assert plan.instructions[-1] == Free(0)
    del kept[0]
    plan = compile_plan(graph, [("o0", "o1", "p2", "p3")], ALONE, kept=kept, keep=kept)
    assert [step.block for step in plan.instructions if isinstance(step, Run)] == ["o0", "o1", "p2", "p3"]


def test_what_is_kept_of_all_pieces_shares_the_limit() -> None:
    graph = BlockGraph([Cut(at, (1, 25)) for at in range(4)], GRAPH.blocks)  # 100 bytes a feature
    cache = PrefixCache(graph, ALONE, 500 + 10 * 100)
    subnets = list(graph.paths())

    def kept(data: str, images: int) -> int:
        plan = cache.plan(subnets, data, images)
        cache.ran(plan, data, [0.0] * len(subnets))
        assert plan.keeps is not None
        return len(plan.keeps)

    assert kept("one", 2) == 3
    assert kept("other", 3) == 1  # in the room that is left
    assert [kept("one", 2), kept("other", 3)] == [1, 1]
    assert [kept("one", 2), kept("other", 5), kept("other", 5)] == [1, 1, 1]


def test_a_session_that_keeps_nothing_evaluates_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = named_session(GRAPH, METRICS)
    monkeypatch.setattr(type(session), "keeps_features", False)
    evaluator = Evaluator(session, METRICS, 1 << 20)
    data = named_data(GRAPH, 0, 2)
    assert [evaluator.evaluate([("o0", "o1", "p2")], data).block_runs for _ in range(2)] == [8, 8]
    evaluator.close()
    with pytest.raises(PlanError, match="keeps features, which named cannot do"):
        session.evaluate(compile_plan(GRAPH, [GRAPH.oracle], METRICS, kept={}, keep={}), data)


def test_a_failed_evaluation_leaves_nothing_behind() -> None:
    session, engine = named_session(GRAPH, METRICS)
    evaluator = Evaluator(session, METRICS, 1 << 20)
    data = named_data(GRAPH, 0, 3)
    evaluator.evaluate([GRAPH.oracle], data)
    assert engine.alive > 0

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate([("o0", "p1", "p2")], data, interrupt)
    assert evaluator.evaluate([("o0", "o1", "p2")], data).block_runs == 3 * 4


def test_features_of_other_blocks_are_as_good_as_none() -> None:
    session, _ = named_session(GRAPH, ALONE)
    data = named_data(GRAPH, 0, 2)
    session.evaluate(compile_plan(GRAPH, [GRAPH.oracle], ALONE, kept={}, keep={3: ("o0",)}), data)
    session.evaluate(compile_plan(GRAPH, [GRAPH.oracle], ALONE), data)  # leaves what is kept as it is
    good = compile_plan(GRAPH, [GRAPH.oracle], ALONE, kept={3: ("o0",)}, keep={3: ("o0",)})
    assert session.evaluate(good, data).block_runs == 2 * 2
    wrong = compile_plan(GRAPH, [GRAPH.oracle], ALONE, kept={3: ("o0", "p1")}, keep={})
    for plan in (wrong, good):  # and then they are lost
        with pytest.raises(FeaturesLost, match="the features under key 3, which a plan begins from, are not kept"):
            session.evaluate(plan, data)
    with pytest.raises(FeaturesLost):
        session.evaluate(good, named_data(GRAPH, 5, 2))


def document() -> dict[str, Any]:
    """A good plan that recalls, keeps and drops, to be spoilt."""
    kept = {4: ("o0", "o1"), 7: ("o0", "p1")}
    plan = compile_plan(GRAPH, [("o0", "o1", "p2")], ALONE, kept=kept, keep={4: kept[4], 0: ("o0", "o1", "p2")})
    return plan.to_json()


def test_the_document_to_be_spoilt_is_good() -> None:
    assert [entry[0] for entry in document()["instructions"]] == [
        *("drop", "free", "recall", "run", "keep", "free", "score", "free")
    ]
    assert Plan.from_json(GRAPH, ALONE, document()).keeps == {0: ("o0", "o1", "p2"), 4: ("o0", "o1")}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kept", {}, "kept must be a list"),
        ("kept", [4], "kept must be a list"),
        ("kept", [[4, ["o0", "o1"], 1], [7, ["o0"]]], "pairs of a key and blocks"),
        ("kept", [[4, ["o0", "o1"]], [4, ["o0", "o1"]]], "each key once"),
        ("kept", [[True, ["o0"]]], "key must be a whole number"),
        ("kept", [[4, "o0"]], "key 4 must be a list"),
        ("kept", [[-1, ["o0"]]], "begins from key -1"),
        ("kept", [[2**31, ["o0"]]], "begins from key 2147483648"),
        ("kept", [[4, []]], "plan key 4: no blocks"),
        ("kept", [[4, ["o1"]]], "plan key 4: block 'o1' starts at cut 1"),
        ("kept", [[4, ["o0", "x"]]], "plan key 4: there is no block 'x'"),
        ("kept", [[4, ["o0", "o1"]]], "names key 7"),
        ("kept", [[4, ["o0", "p1"]], [7, ["o0", "p1"]]], "features that are not its own output"),
        ("kept", [[4, ["o0"]], [7, ["o0", "p1"]]], "runs block 'p2' on the features at cuts"),
        ("kept_bytes", 7, "states kept_bytes 7; its instructions come to 8"),
        ("kept_bytes", None, "kept_bytes must be a whole number"),
    ],
)
def test_hostile_fields_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.from_json(GRAPH, ALONE, {**document(), field: value})


@pytest.mark.parametrize("field", ["kept", "kept_bytes"])
def test_one_field_without_the_other_is_refused(field: str) -> None:
    with pytest.raises(PlanError, match="with exactly"):
        Plan.from_json(GRAPH, ALONE, {name: value for name, value in document().items() if name != field})


@pytest.mark.parametrize(
    ("place", "entry", "message"),
    [
        (0, ["drop", 3], "names key 3, under which nothing is kept"),
        (0, ["drop", 4], "names key 4, under which nothing is kept"),  # when it is recalled
        (0, ["drop", 7.0], "key must be a whole number"),
        (0, ["drop"], "recall, keep or drop with its operands"),
        (2, ["recall", 7, 2], "names key 7"),
        (2, ["recall", 4, 1], "writes slot 1"),
        (2, ["recall", 4, 5], "writes slot 5"),
        (2, ["recall", 4], "recall, keep or drop with its operands"),
        (4, ["keep", 3, 4], "keeps a feature under key 4: it must be unused"),
        (4, ["keep", 3, -1], "keeps a feature under key -1"),
        (4, ["keep", 3, 2**31], "keeps a feature under key 2147483648"),
        (4, ["keep", 5, 0], "reads slot 5, which is empty"),
        (4, ["keep", 1, 0], "reads slot 1, which is empty"),
        (1, ["keep", 0, 0], "keeps the input"),
        (5, ["recall", 4, 4], "never frees slots"),
    ],
)
def test_hostile_instructions_are_refused(place: int, entry: Any, message: str) -> None:
    spoilt = document()
    spoilt["instructions"][place] = entry
    with pytest.raises(PlanError, match=message) as caught:
        Plan.from_json(GRAPH, ALONE, spoilt)
    assert "\n" not in str(caught.value)


def test_a_plan_that_says_nothing_of_what_is_kept_keeps_nothing() -> None:
    spoilt = document()
    del spoilt["kept"], spoilt["kept_bytes"]
    spoilt["instructions"] = [["run", "o0", [0], 2], ["keep", 2, 0]]
    with pytest.raises(PlanError, match="in a plan that does not say what is kept"):
        Plan.from_json(GRAPH, ALONE, spoilt)


# Outputs that lie in the memory of what made them


@given(searches())
@settings(deadline=None)
def test_an_output_is_read_before_its_block_runs_again(search: Search) -> None:
    """Only what is copied outlasts the next run of the same block, and nothing else is kept."""
    graph, metrics, generations, _ = search
    cache = PrefixCache(graph, metrics, 1 << 30)
    for subnets, _ in generations:
        plan = cache.plan(subnets, "data", 2)
        copied = runs_to_copy(plan.instructions)
        memory: dict[str, int] = {}
        slots: dict[int, tuple[str, int]] = {}

        def intact(slot: int, memory: dict[str, int] = memory, slots: dict[int, tuple[str, int]] = slots) -> bool:
            block, number = slots.get(slot, ("", 0))
            return memory.get(block, number) == number

        for number, step in enumerate(plan.instructions):
            match step:
                case Run(block, sources, target):
                    assert all(map(intact, sources))
                    memory[block] = number
                    slots[target] = ("" if number in copied else block, number)
                case Score(_, _, operands):
                    assert all(map(intact, operands))
                case Keep(slot, _):
                    assert slots.get(slot, ("", 0))[0] == ""
                case Recall(_, slot):
                    slots[slot] = ("", number)
        keeps = [step for step in plan.instructions if isinstance(step, Keep)]
        assert len(copied) <= len(keeps) + 1  # and the oracle's output
        cache.ran(plan, "data", [0.0] * len(subnets))


# What is worth its bytes


def test_what_saves_more_for_its_bytes_is_kept_first() -> None:
    sizes = (10, 100, 100, 10, 10)
    graph = BlockGraph(
        [Cut(at, (1, size), "uint8") for at, size in enumerate(sizes)],
        [
            *(Block(f"o{at}", at, at + 1, "original", macs=10_000) for at in range(4)),
            Block("p3", 3, 4, "pruned", macs=1),
        ],
    )
    prefixes = [graph.oracle[:end] for end in range(1, 5)]
    worth = Worth(graph, {graph.oracle: 10.0})
    assert worth.choose(prefixes, [], 10) == [graph.oracle[:3]]
    assert Worth(graph, {graph.oracle: 10.0}).choose(prefixes, [], 9) == []
    assert Worth(graph, {graph.oracle: 10.0}).choose(prefixes, [], 110) == [graph.oracle[:1], graph.oracle[:3]]
    assert Worth(graph, {graph.oracle: 10.0}).choose(prefixes, [], 1000) == prefixes[:3]  # nobody goes on from the end
    assert Worth(graph, {}, [graph.oracle]).choose(prefixes, [], 1000) == prefixes[3:]
    assert Worth(graph, {}).choose(prefixes, [], 1000) == []


def test_what_is_sooner_run_than_copied_is_kept_only_where_it_is_already() -> None:
    graph = BlockGraph(
        [Cut(at, (1, 1000), "uint8") for at in range(4)],
        [Block(f"o{at}", at, at + 1, "original", macs=5100) for at in range(3)],
    )
    prefixes = [graph.oracle[:end] for end in (1, 2)]
    assert Worth(graph, {graph.oracle: 10.0}).choose(prefixes, [], 2000) == prefixes[:1]
    assert Worth(graph, {graph.oracle: 1.0}).choose(prefixes, [], 2000) == []
    assert Worth(graph, {graph.oracle: 1.0}).choose([], prefixes, 2000) == prefixes


def test_a_prefix_is_kept_with_the_taps_before_it_or_not_at_all() -> None:
    graph = chain(4, taps=(1, 2))
    prefixes = [graph.oracle[:end] for end in range(1, 4)]
    for count in range(4):
        kept = Worth(graph, {graph.oracle: 10.0}).choose(prefixes, [], 4 * count)
        assert kept == prefixes[:count]
    assert Worth(graph, {graph.oracle: 10.0}).choose(prefixes[1:], [], 1000) == []


@settings(deadline=None)
@given(block_graphs(), st.data())
def test_what_is_chosen_fits_and_was_offered(graph: BlockGraph, data: st.DataObject) -> None:
    paths = list(graph.paths())
    known = data.draw(st.lists(st.sampled_from(paths), max_size=5))
    prefixes = {path[:end] for path in known for end in range(1, len(path) + 1)}
    offered = data.draw(st.sets(st.sampled_from(sorted(prefixes)))) if prefixes else set()
    limit = data.draw(st.integers(0, 200))
    chosen = Worth(graph, dict.fromkeys(known, 3.0)).choose(offered, [], limit)
    assert set(chosen) <= offered
    assert sum(graph.cuts[graph[prefix[-1]].end].bytes for prefix in chosen) <= limit


def test_keeps_and_drops_are_balanced_over_a_search() -> None:
    cache = PrefixCache(GRAPH, METRICS, 1 << 20)
    held: set[int] = set()
    for subnets in ([GRAPH.oracle], list(GRAPH.paths()), [GRAPH.oracle]):
        plan = cache.plan(subnets, "data", 3)
        for step in plan.instructions:
            if isinstance(step, Keep):
                held.add(step.key)
            elif isinstance(step, Drop):
                held.remove(step.key)
        assert held == set(plan.keeps or {})
        cache.ran(plan, "data", [1.0] * len(subnets))
