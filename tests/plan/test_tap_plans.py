"""Plans for blocks that read several features: these wait as long as a block may need them, and no longer."""

from __future__ import annotations

import json

import pytest
import torch
from adaptivenet.toolkit.devices.local.interpreter import PlanRunner, Program
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import PlanError
from adaptivenet.toolkit.graph.graph import BlockGraph, Subnet
from adaptivenet.toolkit.plan.plan import Free, Plan, Run, Score, compile_plan
from graphs import block_graphs
from hypothesis import given
from hypothesis import strategies as st
from tapped import GRAPH
from torch import nn

TOP1 = {"top1": ("output", "label")}
AGREEMENT = {"agreement": ("output", "oracle")}

pytestmark = pytest.mark.usefixtures("one_thread")


class Mix(nn.Module):
    """Any number of features, mixed into one number that tells their values and their order."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.shift = sum(name.encode()) / 100

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.sin(x * (place + 1) + self.shift) for place, x in enumerate(features)]).sum()


@st.composite
def requests(draw: st.DrawFn) -> tuple[BlockGraph, list[Subnet]]:
    graph = draw(block_graphs().filter(lambda graph: graph.kept))
    return graph, draw(st.lists(st.sampled_from(list(graph.paths())), min_size=1, max_size=8))


@given(requests())
def test_a_plan_gives_each_subnet_the_output_that_the_supernet_gives(
    request: tuple[BlockGraph, list[Subnet]],
) -> None:
    graph, subnets = request
    supernet = Supernet(graph, {block.name: Mix(block.name) for block in graph.blocks})
    plan = compile_plan(graph, subnets, {"m": ("output", "oracle")})
    programs = {name: as_program(block) for name, block in supernet.blocks.items()}
    x = torch.tensor(0.5)
    runner = PlanRunner(plan, programs, {"m": lambda operands, keep=True: tuple(operands)})
    outputs = {score.subnet: found for score, found in runner([x, None], {})}
    expected = {number: (supernet(x, subnet), supernet(x)) for number, subnet in enumerate(subnets)}
    assert outputs == expected


def as_program(block: nn.Module) -> Program:
    return lambda operands, keep=True: block(*operands)


def test_taps_wait_for_the_last_head_and_no_longer() -> None:
    short = ("b0", "b1-m2", "b3-skip", "head")
    plan = compile_plan(GRAPH, [short, (*short[:-1], "head-p50")], TOP1)
    assert plan.instructions == (
        Run("b0", (0,), 2),
        Run("b1-m2", (2,), 3),
        Run("b3-skip", (3,), 4),
        Run("head", (4, 0, 2, 3), 5),
        Score(0, "top1", (5, 1)),
        Free(5),
        Run("head-p50", (4, 0, 2, 3), 5),
        Free(2),
        Free(3),
        Free(4),
        Score(1, "top1", (5, 1)),
        Free(5),
        Free(0),
    )
    bytes_at = [cut.bytes for cut in GRAPH.cuts]
    last = bytes_at[4] + bytes_at[0] + bytes_at[1] + bytes_at[3] + bytes_at[5]
    assert plan.peak_bytes == max(bytes_at[0] + bytes_at[1], last)
    with pytest.raises(PlanError, match=f"needs {plan.peak_bytes} bytes"):
        compile_plan(GRAPH, [short], TOP1, limit_bytes=plan.peak_bytes - 1)
    assert plan.to_json()["instructions"][3] == ["run", "head", [4, 0, 2, 3], 5]
    assert Plan.from_json(GRAPH, TOP1, json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([4], r"runs block 'head' on the features at cuts \(4,\); it reads \(4, 0, 1, 3\)"),
        ([4, 0, 3, 2], r"on the features at cuts \(4, 0, 3, 1\)"),
        ([4, 0, 2, 3, 3], r"on the features at cuts \(4, 0, 1, 3, 3\)"),
        ([4, 0, 2, 7], "reads slot 7, which is empty"),
        ([4, 0, 2, 1], "reads slot 1, which is empty"),
    ],
)
def test_a_head_reads_its_cuts_in_order(sources: list[int], message: str) -> None:
    doc = compile_plan(GRAPH, [("b0", "b1-m2", "b3-skip", "head")], TOP1).to_json()
    doc["instructions"][3][2] = sources
    with pytest.raises(PlanError, match=message):
        Plan.from_json(GRAPH, TOP1, doc)


def test_a_head_reads_features_of_one_path() -> None:
    """The other path's feature at the same cut has the right shape, and would give a number that looks right."""
    subnets = [("b0", "b1", "b2", "b3", "head"), ("b0", "b1-m2", "b3", "head")]
    doc = compile_plan(GRAPH, subnets, AGREEMENT).to_json()
    steps = doc["instructions"]
    doc["subnets"] = doc["subnets"][:1]
    first_head = next(place for place, step in enumerate(steps) if step[:2] == ["run", "head"])
    steps.insert(first_head, ["run", "b1-m2", steps[first_head][2][2:3], 9])
    unused = max(step[-1] for step in steps[:first_head] if step[0] == "run") + 1
    steps[first_head][-1] = unused
    steps[first_head + 1][2][3] = unused
    with pytest.raises(PlanError, match="runs block 'head' on features of different paths"):
        Plan.from_json(GRAPH, AGREEMENT, doc)
