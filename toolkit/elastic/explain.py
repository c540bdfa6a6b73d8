"""How a model falls into blocks, as a tree of its modules."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..graph.graph import Block, BlockGraph
from ..plurals import number_of


@dataclass
class _Branch:
    name: str
    note: str = ""
    branches: list[_Branch] = field(default_factory=list)

    def under(self, name: str) -> _Branch:
        """The last branch when it has this name, else a new one."""
        if not self.branches or self.branches[-1].name != name or self.branches[-1].note:
            self.branches.append(_Branch(name))
        return self.branches[-1]


def explain(graph: BlockGraph, name: str, divided: str = "") -> str:
    """The modules of the model `name` as a tree, down to the original blocks.

    Each comes with the shape at its end cut, its multiply-accumulates, its alternatives, and whether its end is a tap.
    `divided` is a last line, which says how large blocks are.
    """
    root = _Branch(name)
    for block in (graph[name] for name in graph.oracle):
        first, joined, last = block.source.partition("…")
        path = first.split(".") if first else []
        ends = last.split(".") if joined else path
        shared = next((at for at, (a, b) in enumerate(zip(path, ends)) if a != b), min(len(path), len(ends)))
        shared = min(shared, len(path) - 1) if path else 0
        branch = root
        for part in path[:shared]:
            branch = branch.under(part)
        label = ".".join(path[shared:]) + (f"…{'.'.join(ends[shared:]) or last}" if joined else "")
        branch.branches.append(_Branch(label or "(its own operations)", _note(graph, block)))
    elastic = {block.start for block in graph.blocks if not block.is_original}
    taps = number_of(len(graph.taps), "tap") if graph.taps else "no taps"
    head = (
        f"{name}: {number_of(len(graph.cuts), 'cut')}, {taps}, {number_of(len(graph.oracle), 'original block')}, "
        f"{len(elastic)} of them with alternatives, {number_of(len(graph.blocks), 'block')} in all, "
        f"{number_of(graph.count(), 'subnet')}"
    )
    return "\n".join([head, *_lines(root, ""), *([divided] if divided else [])])


def _note(graph: BlockGraph, block: Block) -> str:
    others = [other for other in graph.leaving[block.start] if other is not block]
    shape = "×".join(str(side) for side in graph.cuts[block.end].shape[1:]) or "1"
    found = ", ".join(other.name.removeprefix(f"{block.name}-") for other in others)
    notes = [f"{block.name} → {shape}", f"{block.macs / 1e6:.1f} MMACs", found or "as it is"]
    if block.end in graph.taps:
        notes.append("a tap")
    if 0 in block.reads:
        notes.append("reads the inputs")
    if shared := [f"b{cut - 1:02d}" for cut in block.reads if cut]:
        notes.append(f"reads {', '.join(shared)}")
    return " · ".join(notes)


def _lines(branch: _Branch, indent: str) -> list[str]:
    lines = []
    for index, below in enumerate(branch.branches):
        last = index == len(branch.branches) - 1
        lines.append(f"{indent}{'└── ' if last else '├── '}{below.name}" + (f"  {below.note}" if below.note else ""))
        lines.extend(_lines(below, indent + ("    " if last else "│   ")))
    return lines
