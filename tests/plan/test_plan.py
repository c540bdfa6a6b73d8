"""Plans: compiled, followed step by step by an interpreter of a dozen lines, and refused when hostile."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from adaptivenet.toolkit.errors import GraphError, PlanError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut, Subnet
from adaptivenet.toolkit.plan.plan import INPUT, LABEL, Free, Plan, Run, Score, compile_plan
from graphs import block_graphs, chain
from hypothesis import given
from hypothesis import strategies as st

TOP1 = {"top1": ("output", "label")}
AGREEMENT = {"agreement": ("output", "oracle")}
BOTH = {**TOP1, **AGREEMENT}
ALL = {**TOP1, **AGREEMENT, "distance": ("oracle", "output")}


class Symbolic:
    """Runs a plan on names instead of tensors: a feature is the tuple of blocks that made it."""

    def __init__(self, graph: BlockGraph, plan: Plan) -> None:
        slots: dict[int, Any] = {INPUT: (), LABEL: "label"}
        self.runs: list[tuple[str, ...]] = []
        self.scores: dict[tuple[int, str], tuple[Any, ...]] = {}
        self.peak_bytes, self.highest = 0, LABEL
        for instruction in plan.instructions:
            match instruction:
                case Run(block, sources, target):
                    assert target not in slots
                    paths = [slots[source] for source in sources]
                    assert tuple(graph[path[-1]].end if path else 0 for path in paths) == graph.reads(graph[block])
                    assert all(path == paths[0][: len(path)] for path in paths)
                    slots[target] = (*paths[0], block)
                    self.runs.append(slots[target])
                    self.highest = max(self.highest, target)
                case Score(subnet, metric, operands):
                    assert (subnet, metric) not in self.scores
                    self.scores[subnet, metric] = tuple(slots[slot] for slot in operands)
                case Free(slot):
                    del slots[slot]
            cuts = [graph[feature[-1]].end if feature else 0 for slot, feature in slots.items() if slot != LABEL]
            self.peak_bytes = max(self.peak_bytes, sum(graph.cuts[cut].bytes for cut in cuts))
        self.left = slots


@st.composite
def requests(draw: st.DrawFn) -> tuple[BlockGraph, list[Subnet], dict[str, tuple[str, ...]]]:
    """Some subnets of a random graph, perhaps twice the same, and some metrics."""
    graph = draw(block_graphs())
    subnets = draw(st.lists(st.sampled_from(list(graph.paths())), min_size=1, max_size=12))
    names = draw(st.sets(st.sampled_from(sorted(ALL)), min_size=1))
    return graph, subnets, {name: ALL[name] for name in sorted(names)}


Request = tuple[BlockGraph, list[Subnet], dict[str, tuple[str, ...]]]


def trie_edges(paths: Iterable[Sequence[str]]) -> set[tuple[str, ...]]:
    return {tuple(path[:end]) for path in paths for end in range(1, len(path) + 1)}


@given(requests())
def test_every_distinct_prefix_runs_once(request: Request) -> None:
    graph, subnets, metrics = request
    plan = compile_plan(graph, subnets, metrics)
    oracle = [graph.oracle] if any("oracle" in operands for operands in metrics.values()) else []
    edges = trie_edges([*subnets, *oracle])
    ran = Symbolic(graph, plan).runs
    assert len(ran) == plan.block_runs == len(edges)
    assert set(ran) == edges


@given(requests())
def test_each_subnet_is_scored_by_its_own_blocks(request: Request) -> None:
    graph, subnets, metrics = request
    plan = compile_plan(graph, subnets, metrics)
    assert plan.subnets == tuple(subnets)
    assert plan.metrics == tuple(metrics)
    scores = Symbolic(graph, plan).scores
    assert scores == {
        (number, metric): tuple(
            {"output": subnet, "oracle": graph.oracle, "label": "label"}[operand] for operand in operands
        )
        for number, subnet in enumerate(subnets)
        for metric, operands in metrics.items()
    }


@given(requests())
def test_memory_is_what_the_plan_says_and_nothing_is_left(request: Request) -> None:
    graph, subnets, metrics = request
    plan = compile_plan(graph, subnets, metrics)
    seen = Symbolic(graph, plan)
    assert seen.peak_bytes == plan.peak_bytes
    assert seen.left == {LABEL: "label"}
    assert seen.highest + 1 == plan.slots


@given(requests())
def test_a_slot_is_freed_by_its_last_reader(request: Request) -> None:
    """Between the last instruction that reads a slot and its Free there are only other Frees.

    The input waits until the end where blocks behind the first cut read it, and what else is kept until a head has run.
    """
    graph, subnets, metrics = request
    instructions = compile_plan(graph, subnets, metrics).instructions
    last_read: dict[int, int] = {}
    at = {INPUT: 0}
    for number, instruction in enumerate(instructions):
        match instruction:
            case Run(name, sources, target):
                last_read.update(dict.fromkeys(sources, number))
                at[target] = graph[name].end
            case Score(_, _, operands):
                last_read.update(dict.fromkeys(operands, number))
            case Free(slot):
                between = instructions[last_read.pop(slot) + 1 : number]
                to_the_end = slot in _oracle_slots(instructions, graph) or (slot == INPUT and 0 in graph.kept)
                if at[slot] in graph.kept and not to_the_end:
                    *_, before = (other for other in instructions[:number] if not isinstance(other, Free))
                    assert isinstance(before, Run)
                    assert graph[before.block].end == graph.end
                else:
                    assert to_the_end or all(isinstance(other, Free) for other in between)


def _oracle_slots(instructions: Sequence[Run | Score | Free], graph: BlockGraph) -> set[int]:
    """Slots that ever hold the oracle's output, which is kept to the end."""
    slots: dict[int, tuple[str, ...]] = {INPUT: ()}
    found = set()
    for instruction in instructions:
        if isinstance(instruction, Run):
            slots[instruction.target] = (*slots[instruction.sources[0]], instruction.block)
            if slots[instruction.target] == graph.oracle:
                found.add(instruction.target)
    return found


@given(requests(), st.integers(0, 2**32))
def test_no_other_order_of_children_needs_less_memory(request: Request, seed: int) -> None:
    """Without an oracle to keep, the chosen order is optimal: random orders of the same walk never beat it."""
    graph, subnets, _ = request
    peak = compile_plan(graph, subnets, TOP1).peak_bytes
    edges = trie_edges(subnets)
    rng = random.Random(seed)

    def size(prefix: tuple[str, ...]) -> int:
        return graph.cuts[graph[prefix[-1]].end if prefix else 0].bytes

    def walk(prefix: tuple[str, ...], waiting: int) -> int:
        """The peak of one random walk from `prefix` on, while `waiting` bytes wait above it."""
        children = sorted(edge for edge in edges if edge[:-1] == prefix)
        rng.shuffle(children)
        peaks = [waiting + size(prefix)]
        for child in children:
            peaks.append(waiting + size(prefix) + size(child))
            stays = child is not children[-1] or (graph[prefix[-1]].end if prefix else 0) in graph.kept
            peaks.append(walk(child, waiting + (size(prefix) if stays else 0)))
        return max(peaks)

    assert peak <= min(walk((), 0) for _ in range(5))


def test_the_hungriest_branch_goes_last_by_what_it_needs_when_walked_well() -> None:
    """By way of cut 1 it is 140 bytes (150 if its own branches were walked badly), by way of cut 3 it is 145."""
    sizes = (8, 40, 100, 135, 10)
    graph = BlockGraph(
        [Cut(index, (1, size), "uint8") for index, size in enumerate(sizes)],
        [
            *(Block(f"o{at}", at, at + 1, "original") for at in range(4)),
            Block("m0-3", 0, 3, "merged"),
            Block("m1-4", 1, 4, "merged"),
            Block("m2-4", 2, 4, "merged"),
        ],
    )
    plan = compile_plan(graph, [("m0-3", "o3"), ("o0", "m1-4"), ("o0", "o1", "m2-4")], TOP1)
    assert plan.peak_bytes == 8 + 140
    assert plan.instructions[-6:-4] == (Run("m0-3", (0,), 2), Free(0))


@given(requests())
def test_plans_survive_json(request: Request) -> None:
    graph, subnets, metrics = request
    plan = compile_plan(graph, subnets, metrics)
    again = Plan.from_json(graph, metrics, json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert all(isinstance(subnet, Subnet) for subnet in again.subnets)


@given(requests())
def test_the_limit_is_the_peak(request: Request) -> None:
    graph, subnets, metrics = request
    plan = compile_plan(graph, subnets, metrics)
    assert compile_plan(graph, subnets, metrics, limit_bytes=plan.peak_bytes) == plan
    with pytest.raises(PlanError, match=f"needs {plan.peak_bytes} bytes .* the limit is {plan.peak_bytes - 1}"):
        compile_plan(graph, subnets, metrics, limit_bytes=plan.peak_bytes - 1)


GRAPH = BlockGraph(
    [Cut(0, (1, 3)), Cut(1, (1, 50)), Cut(2, (1, 4)), Cut(3, (1, 2))],
    [
        *(Block(f"o{at}", at, at + 1, "original") for at in range(3)),
        Block("p0", 0, 1, "pruned"),
        Block("m0", 0, 2, "merged"),
        Block("p2", 2, 3, "pruned"),
    ],
)


def test_a_chain_reads_as_one_would_write_it() -> None:
    plan = compile_plan(GRAPH, [GRAPH.oracle], AGREEMENT)
    assert plan.instructions == (
        Run("o0", (0,), 2),
        Free(0),
        Run("o1", (2,), 3),
        Free(2),
        Run("o2", (3,), 2),
        Free(3),
        Score(0, "agreement", (2, 2)),
        Free(2),
    )
    assert (plan.slots, plan.block_runs, plan.peak_bytes) == (4, 3, 4 * (50 + 4))


def test_the_oracle_runs_first_even_when_it_is_not_asked_for() -> None:
    plan = compile_plan(GRAPH, [("m0", "o2"), ("m0", "p2")], AGREEMENT)
    runs = [step.block for step in plan.instructions if isinstance(step, Run)]
    assert runs[:3] == ["o0", "o1", "o2"]
    assert sorted(runs[3:]) == ["m0", "o2", "p2"]
    assert compile_plan(GRAPH, [("m0", "o2"), ("m0", "p2")], TOP1).block_runs == 3


def test_a_subnet_asked_for_twice_runs_once_and_is_scored_twice() -> None:
    plan = compile_plan(GRAPH, [("m0", "p2"), GRAPH.oracle, ("m0", "p2")], TOP1)
    assert plan.block_runs == 5
    assert sorted(step.subnet for step in plan.instructions if isinstance(step, Score)) == [0, 1, 2]


@pytest.mark.parametrize(
    "metrics",
    [{"m": ("output", "teacher")}, {"m": ("oracle",)}, {"m": ("label",)}, {"m": ()}],
)
def test_operands_must_be_known_and_read_the_output(metrics: Mapping[str, tuple[str, ...]]) -> None:
    with pytest.raises(PlanError, match="metric 'm' reads"):
        compile_plan(GRAPH, [GRAPH.oracle], metrics)


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(PlanError, match="nothing to evaluate: 0 subnets, 1 metric;"):
        compile_plan(GRAPH, [], TOP1)
    with pytest.raises(PlanError, match="nothing to evaluate: 1 subnet, 0 metrics"):
        compile_plan(GRAPH, [GRAPH.oracle], {})
    with pytest.raises(GraphError, match="not a subnet"):
        compile_plan(GRAPH, [("m0",)], TOP1)
    with pytest.raises(GraphError, match="no block 'o3'"):
        compile_plan(GRAPH, [chain(4).oracle], TOP1)


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    graph = chain(300, tuple(Block(f"p{at}", at, at + 1, "pruned") for at in range(300)))
    swapped = [graph.replace(graph.oracle, graph[f"p{at}"]) for at in range(300)]
    plan = compile_plan(graph, swapped, AGREEMENT)
    assert plan.block_runs == 300 + sum(300 - at for at in range(300))


def document() -> dict[str, Any]:
    """A good plan of three instructions and their frees, to be spoilt."""
    return copy.deepcopy(compile_plan(GRAPH, [("m0", "o2"), ("m0", "p2")], TOP1).to_json())


def test_the_document_to_be_spoilt_is_good() -> None:
    assert [entry[0] for entry in document()["instructions"]] == [
        "run",
        "free",
        "run",
        "score",
        "free",
        "run",
        "free",
        "score",
        "free",
    ]
    assert Plan.from_json(GRAPH, TOP1, document()).block_runs == 3


@pytest.mark.parametrize("doc", [None, [], "plan", {}, {"instructions": []}, {**document(), "extra": 1}])
def test_other_documents_are_refused(doc: Any) -> None:
    with pytest.raises(PlanError, match="a plan must be an object with exactly"):
        Plan.from_json(GRAPH, TOP1, doc)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("subnets", "m0", "subnets must be a list"),
        ("subnets", [["m0", "o2"], "m0"], "a subnet must be a list"),
        ("subnets", [["m0", "o2"], ["m0", 3]], "a subnet must be a list of strings"),
        ("subnets", [["m0", "o2"], ["m0"]], "plan subnet 1: not a subnet"),
        ("subnets", [["m0", "o2"], ["x"]], "plan subnet 1: there is no block 'x'"),
        ("subnets", [["m0", "o2"]], "scores subnet 1"),
        ("subnets", [["m0", "o2"], ["m0", "p2"], ["m0", "p2"]], "makes 2 scores for 3 subnets"),
        ("subnets", [["m0", "p2"], ["m0", "o2"]], "features that are not its own output"),
        ("subnets", [], "nothing to evaluate: 0 subnets, 1 metric;"),
        ("metrics", [], "nothing to evaluate: 2 subnets, 0 metrics"),
        ("metrics", ["other"], "there is no metric 'other'; there are top1, agreement"),
        ("metrics", ["agreement"], "scores subnet 0 by 'top1'"),
        ("metrics", ["top1", "agreement"], "makes 2 scores for 2 subnets by 2 metrics"),
        ("metrics", ["top1", "top1"], "metrics must each be named once"),
        ("metrics", {"top1": 1}, "metrics must be a list"),
        ("slots", 10**12, "states slots 1000000000000"),
        ("slots", True, "slots must be a whole number"),
        ("peak_bytes", 1, "states peak_bytes 1; its instructions come to"),
        ("peak_bytes", None, "peak_bytes must be a whole number"),
        ("block_runs", 2, "states block_runs 2; its instructions come to 3"),
        ("block_runs", 3.0, "block_runs must be a whole number"),
        ("instructions", {}, "instructions must be a list"),
        ("instructions", [], "never frees slots"),
    ],
)
def test_hostile_fields_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.from_json(GRAPH, BOTH, {**document(), field: value})


@pytest.mark.parametrize(
    ("place", "entry", "message"),
    [
        (0, ["run", "../m0", [0], 2], "runs block '../m0', which this pack does not have"),
        (0, ["run", "o1", [0], 2], r"runs block 'o1' on the features at cuts \(0,\); it reads \(1,\)"),
        (0, ["run", "m0", [], 2], r"runs block 'm0' on the features at cuts \(\); it reads \(0,\)"),
        (0, ["run", "m0", [0, 0], 2], r"runs block 'm0' on the features at cuts \(0, 0\); it reads \(0,\)"),
        (0, ["run", "m0", 0, 2], "run, score, free, recall, keep or drop with its operands"),
        (0, ["run", "m0", [5], 2], "reads slot 5, which is empty"),
        (0, ["run", "m0", [-1], 2], "reads slot -1, which is empty"),
        (0, ["run", "m0", [1], 2], "reads slot 1, which is empty"),  # the label is no feature
        (0, ["run", "m0", [0], 0], "writes slot 0"),
        (0, ["run", "m0", [0], 1], "writes slot 1"),
        (0, ["run", "m0", [0], -7], "writes slot -7"),
        (0, ["run", "m0", [0], 10**9], "writes slot 1000000000: it must be empty, from 2 to 2"),
        (0, ["run", "m0", [0], 2.0], "slot must be a whole number"),
        (0, ["run", "m0", [False], 2], "slot must be a whole number"),
        (0, ["run", "m0", [0]], "run, score, free, recall, keep or drop with its operands"),
        (0, ["run", ["m0"], [0], 2], "run, score, free"),
        (0, ["load", "m0"], "run, score, free"),
        (0, "run", "run, score, free"),
        (0, {"run": "m0"}, "run, score, free"),
        (1, ["free", 1], "reads slot 1, which is empty"),
        (1, ["free", 3], "reads slot 3, which is empty"),
        (1, ["free", 2], "reads slot 2, which is empty"),  # the next instruction reads what was freed
        (2, ["run", "o2", [0], 3], "reads slot 0, which is empty"),
        (2, ["run", "o2", [2], 2], "writes slot 2"),
        (3, ["score", 0, "top1", [2, 1]], "features that are not its own output"),  # not at the last cut
        (3, ["score", 0, "top1", [1]], "reads other operands, output, label"),
        (3, ["score", 0, "top1", []], "reads other operands"),
        (3, ["score", 0, "top1", [3, 2]], "reads other operands"),
        (3, ["score", 0, "top1", [1, 3]], "reads other operands"),
        (3, ["score", 0, "top1", [3, 1, 1]], "reads other operands"),
        (3, ["score", 0, "top1", [9, 1]], "reads slot 9, which is empty"),
        (3, ["score", 1, "top1", [3, 1]], "features that are not its own output"),
        (3, ["score", -1, "top1", [3, 1]], "scores subnet -1"),
        (3, ["score", 2, "top1", [3, 1]], "scores subnet 2"),
        (3, ["score", 0, "other", [3, 1]], "scores subnet 0 by 'other'"),
        (3, ["score", 0, "top1", "31"], "run, score, free"),
        (3, ["score", "0", "top1", [3, 1]], "subnet must be a whole number"),
        (7, ["score", 0, "top1", [3, 1]], "scored already"),
    ],
)
def test_hostile_instructions_are_refused(place: int, entry: Any, message: str) -> None:
    doc = document()
    doc["instructions"][place] = entry
    with pytest.raises(PlanError, match=message) as caught:
        Plan.from_json(GRAPH, TOP1, doc)
    assert "\n" not in str(caught.value)


def test_what_the_subnet_and_what_the_oracle_puts_out_cannot_be_swapped() -> None:
    doc = compile_plan(GRAPH, [("m0", "o2")], AGREEMENT).to_json()
    (score,) = (entry for entry in doc["instructions"] if entry[0] == "score")
    score[3].reverse()
    with pytest.raises(PlanError, match="scores subnet 0 by features that are not its own output"):
        Plan.from_json(GRAPH, AGREEMENT, doc)


@given(requests(), st.data())
def test_a_plan_with_an_instruction_missing_never_passes(request: Request, data: st.DataObject) -> None:
    graph, subnets, metrics = request
    doc = compile_plan(graph, subnets, metrics).to_json()
    del doc["instructions"][data.draw(st.integers(0, len(doc["instructions"]) - 1))]
    with pytest.raises(PlanError):
        Plan.from_json(graph, metrics, doc)


def test_a_plan_for_another_pack_is_refused() -> None:
    with pytest.raises(PlanError, match="there is no block 'm0'"):
        Plan.from_json(chain(3), TOP1, document())
