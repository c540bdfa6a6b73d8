"""The interpreter of plans, and what it needs of an engine.

An engine turns the bytes of an artifact into a `Program`, a callable from tensors to one tensor. Features stay in the
engine's own tensors from the first block to the metric: the interpreter only moves them between slots. A `Chain` is the
same for one path, without a plan: what is measured, and what an active subnet runs. It has a program for each of its
blocks, or one for all of them, where the engine can assemble it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from ...errors import PackError
from ...graph.graph import Block, BlockGraph
from ...plan.plan import INPUT, LABEL, Drop, Free, Instruction, Keep, Plan, Recall, Run, Score

Tensor = Any
"""A tensor of the engine: torch's for ExecuTorch, numpy's for ONNX Runtime."""

TensorType = tuple[tuple[int, ...], str]
"""A shape and numpy's name of a dtype."""


class Program(Protocol):
    """A block or a metric, loaded."""

    def __call__(self, operands: Sequence[Tensor], keep: bool = True) -> Tensor:
        """The program's one output.

        With `keep=False` it may lie in the program's own memory: read it before the program runs again or is dropped.
        """


@dataclass(frozen=True)
class Part:
    """A block to assemble with others: `what` it is in errors, its artifact, the cuts that it reads and gives."""

    what: str
    data: bytes
    takes: tuple[int, ...]
    gives: int


class Assemble(Protocol):
    """Makes one program of consecutive blocks."""

    def __call__(self, parts: Sequence[Part], types: Sequence[TensorType]) -> Program:
        """The program that takes what no part gives, in the order in which it is first read, and gives what the last
        part gives. `types` are those of all cuts of the graph.

        Raises what `Engine.load` raises, and PackError for parts that do not fit together.
        """


class Engine(Protocol):
    """A library that runs artifacts in this process. `backend` is the pack's name for the artifacts it reads."""

    name: str
    version: str
    backend: str
    threads: int

    @property
    def assemble(self) -> Assemble | None:
        """How this engine makes one program of several; None where it cannot."""

    def check_threads(self) -> None:
        """Raise DeviceError unless programs run on exactly `threads` threads."""

    def load(self, what: str, data: bytes, layout: str, takes: Sequence[TensorType], gives: TensorType) -> Program:
        """The program in `data`, whose 4-D inputs it wants in `layout`; `what` names it in errors.

        Raises DeviceError when it does not load, PackError when it does not take and give what the manifest says.
        """

    def tensor(self, array: NDArray[Any], layout: str) -> Tensor:
        """A tensor with the values of `array`, in `layout` when it has four dimensions."""

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """A new array with the values of `tensor`, contiguous."""


def check_signature(
    what: str,
    takes: Sequence[TensorType],
    gives: TensorType,
    inputs: Sequence[TensorType],
    outputs: Sequence[TensorType],
) -> None:
    """Raise PackError unless a program's inputs and outputs are the ones that the manifest says.

    The manifest was checked before, and the program's bytes too; this finds a program under another one's name.
    """
    if (list(takes), [gives]) != (list(inputs), list(outputs)):
        raise PackError(
            f"{what} takes {_typed(inputs)} and gives {_typed(outputs)}, but its pack says {_typed(takes)} and "
            f"{_typed([gives])}; export the pack again"
        )


def _typed(types: Sequence[TensorType]) -> str:
    return " + ".join(f"{dtype} {shape}" for shape, dtype in types) or "nothing"


def first_readers(graph: BlockGraph, blocks: Sequence[Block]) -> dict[int, Block]:
    """The cuts whose features consecutive blocks must be given, in the order in which they are first read, and which
    block that is: the cut where they start, and what they read from before there."""
    made = {block.end for block in blocks}
    readers: dict[int, Block] = {}
    for block in blocks:
        for cut in graph.reads(block):
            if cut not in made:
                readers.setdefault(cut, block)
    return readers


@dataclass(frozen=True)
class Link:
    """A program of a chain, the cuts that it reads, and the one that it gives."""

    program: Program
    reads: tuple[int, ...]
    end: int


class Chain:
    """Consecutive blocks of a graph with their programs loaded: a single block, a subnet, or a stretch of one.

    What begins at cut 0 takes the caller's array there, and what ends at the last cut gives a new array: to bring them
    into the engine's tensors and out again belongs to the chain, whether it is measured or serves.
    """

    def __init__(self, graph: BlockGraph, links: Sequence[Link], engine: Engine, layout: str) -> None:
        """`layout` is the one in which the first block wants its input."""
        last_read = {cut: link for link in links for cut in link.reads}
        self.links = len(links)
        self._end = links[-1].end
        self._engine = engine
        self._layout = layout if links[0].reads[0] == 0 else None
        self._answers = self._end == graph.end
        self._steps = [
            (link.program, link.reads, link.end, [cut for cut in link.reads if last_read[cut] is link])
            for link in links
        ]

    def __call__(self, given: Mapping[int, Tensor], passed: Callable[[], None] | None = None) -> Tensor:
        """The last block's output for the features at the cuts of `first_readers`.

        A tensor may lie in a program's own memory (see `Program`): each program runs once, so nothing that waits in
        one is overwritten, and nothing needs to be copied out in between. A feature is dropped after its last reader.
        `passed` is called when each of its `links` has ended.
        """
        features = dict(given)
        if self._layout is not None:
            features[0] = self._engine.tensor(features[0], self._layout)
        for program, reads, end, frees in self._steps:
            features[end] = program([features[cut] for cut in reads], keep=False)
            if self._answers and end == self._end:
                features[end] = self._engine.array(features[end])
            for cut in frees:
                del features[cut]
            if passed is not None:
                passed()
        return features[self._end]


def runs_to_copy(instructions: Sequence[Instruction]) -> set[int]:
    """The numbers of the runs whose outputs must be copied out of the program's own memory (see `Program`).

    These are still needed when their block runs again, or after the plan. In a compiled plan they are few: the features
    that are kept, and the oracle's output.
    """
    found: set[int] = set()
    made_by: dict[int, int | None] = {}  # the run whose output is in a slot
    latest: dict[str, int] = {}  # the run of a block whose output lies in its memory
    for number, step in enumerate(instructions):
        match step:
            case Run(block, _, target):
                before = latest.get(block)
                if before is not None and before in made_by.values():
                    found.add(before)
                made_by[target] = latest[block] = number
            case Keep(slot, _):
                if (run := made_by[slot]) is not None:
                    found.add(run)
            case Recall(_, slot):
                made_by[slot] = None
            case Free(slot):
                made_by.pop(slot, None)
    return found


_Slots = list[Tensor | None]
_Kept = MutableMapping[int, Tensor]


class PlanRunner:
    """A plan with its programs loaded; call it once for each image. `block_runs` counts the blocks it has run."""

    def __init__(self, plan: Plan, blocks: Mapping[str, Program], metrics: Mapping[str, Program]) -> None:
        self.block_runs = 0
        self._slots = plan.slots
        self._scores: list[tuple[Score, Tensor]] = []
        copied = runs_to_copy(plan.instructions)
        # Names are looked up here, once, and not for every image.
        self._steps = [
            self._step(instruction, number in copied, blocks, metrics)
            for number, instruction in enumerate(plan.instructions)
        ]

    def __call__(self, given: _Slots, kept: _Kept) -> list[tuple[Score, Tensor]]:
        """Run the plan on one image: each score with the sums that its metric gave.

        `given` are the input and the label, in a list that is emptied: so the plan can free the input. `kept` are the
        features that are kept of this image, by key; they change as the plan says.
        """
        slots: _Slots = [None] * self._slots
        slots[LABEL], slots[INPUT] = given.pop(), given.pop()
        self._scores = []
        for step in self._steps:
            step(slots, kept)
        return self._scores

    def _step(
        self, instruction: Instruction, copied: bool, blocks: Mapping[str, Program], metrics: Mapping[str, Program]
    ) -> Callable[[_Slots, _Kept], None]:
        match instruction:
            case Run(name, sources, target):
                block = blocks[name]

                def run(slots: _Slots, kept: _Kept) -> None:
                    slots[target] = block([slots[source] for source in sources], copied)
                    self.block_runs += 1

                return run
            case Score(_, name, operands):
                metric = metrics[name]

                def score(slots: _Slots, kept: _Kept) -> None:
                    self._scores.append((instruction, metric([slots[slot] for slot in operands])))

                return score
            case Free(slot):

                def free(slots: _Slots, kept: _Kept) -> None:
                    slots[slot] = None

                return free
            case Recall(key, slot):

                def recall(slots: _Slots, kept: _Kept) -> None:
                    slots[slot] = kept[key]

                return recall
            case Keep(slot, key):

                def keep(slots: _Slots, kept: _Kept) -> None:
                    kept[key] = slots[slot]

                return keep
            case Drop(key):

                def drop(slots: _Slots, kept: _Kept) -> None:
                    del kept[key]

                return drop
