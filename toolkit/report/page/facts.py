"""What a page tells of a profile, arranged for its figures and tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ...devices.conditions import Conditions
from ...graph.front import FrontPoint
from ...graph.graph import Block
from ...graph.latency import Latency
from ...profiling.profile import Choice, Profile
from .free_parts import spelled


@dataclass(frozen=True)
class TimedBlock:
    """A block and its latency by itself. `in_subnet_ms` is predicted."""

    block: Block
    latency: Latency
    in_subnet_ms: float

    @property
    def option(self) -> str:
        """Its kind and what tells it from others of that kind: `pruned 50%`, `merged 3`."""
        block = self.block
        share = f" {block.ratio:.0%}" if block.ratio is not None else ""
        length = f" {block.end - block.start}" if block.end - block.start > 1 and not block.is_network else ""
        return block.kind + share + length + (" int8" if block.precision == "int8" else "")


@dataclass(frozen=True)
class Facts:
    """A profile, and what the page tells of it more than once."""

    profile: Profile

    @property
    def oracle(self) -> Latency:
        """What the oracle takes."""
        return self.profile.oracle

    @property
    def reference(self) -> Latency:
        """What budgets are shares of."""
        return self.profile.reference

    @property
    def reference_name(self) -> str:
        """What that is called: the whole network, or the oracle where a pack has no more."""
        return "oracle" if self.profile.graph.reference == self.profile.graph.oracle else "whole"

    @property
    def points(self) -> tuple[FrontPoint, ...]:
        """The front, fastest first."""
        return self.profile.front.points

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What was chosen for each budget."""
        return self.profile.choices

    @cached_property
    def blocks(self) -> tuple[TimedBlock, ...]:
        """The latency table."""
        inside = {block["name"]: block["in_subnet_ms"] for block in self.profile.document["blocks"]}
        latencies = self.profile.latency.blocks
        return tuple(
            TimedBlock(block, latencies[block.name], inside[block.name]) for block in self.profile.graph.blocks
        )

    @property
    def stages(self) -> list[tuple[str, float]]:
        """The stages and their seconds."""
        return list(self.profile.document["seconds"].items())

    @property
    def conditions(self) -> dict[str, Conditions]:
        """What is known of the device in each stage."""
        found = self.profile.document.get("conditions", {})
        return {stage: Conditions.from_json(each) for stage, each in found.items()}

    def words(self, part: str) -> list[tuple[str, str]]:
        """A part of the document as names and values for people."""
        return list(spelled(self.profile.document[part]))

    def changed(self, point: FrontPoint) -> list[str]:
        """The blocks of a point's subnet that are not original."""
        return [name for name in point.subnet if not self.profile.graph[name].is_original]

    def chosen_for(self, point: FrontPoint) -> list[str]:
        """The budgets that this point was chosen for."""
        return [choice.budget for choice in self.choices if choice.point.subnet == point.subnet]

    def share(self, block: Block) -> float | None:
        """A block's median over the sum of those of the original blocks that it replaces; None for an original."""
        if block.is_original:
            return None
        table = self.profile.latency
        replaced = table.predict_ms(self.profile.graph.replaced_by(block))
        return table.blocks[block.name].median_ms / replaced if replaced else None
