"""The profile of a device: one json document with who the device is, what its blocks take, and its front."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..atomic import write_file
from ..devices.base import PageIn
from ..devices.conditions import Conditions
from ..documents import parse_json, violation
from ..errors import BudgetError, GraphError, ProfileError
from ..graph.front import Front, FrontPoint
from ..graph.graph import Block, BlockGraph, Cut
from ..graph.latency import Latency, LatencyTable
from ..graph.profiled import OF_BLOCK
from ..graph.ticks import of_every_block
from ..pack.pack import BlockPack
from ..plurals import number_of
from .budgets import Limits, within_limits
from .slowing import Slowdown

FORMAT = "adaptivenet-profile"
VERSION = 2
_NUMBERS = re.compile(r"\[\n\s+([-+.\deE,\s]+?)\n\s*\]")  # a list of them, a line each


@dataclass(frozen=True)
class Choice:
    """What a budget comes to: the point of the front chosen for it, and what it took to page it in for the oracle.

    The point may be over the budget by `tolerance`, a share of it.
    """

    budget: str
    budget_ms: float
    point: FrontPoint
    page_in: PageIn
    tolerance: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A plain dict: the point's fields beside the budget's."""
        own = {"budget": self.budget, "budget_ms": self.budget_ms, "tolerance": self.tolerance}
        return {**own, **self.point.to_json(), "page_in": self.page_in.to_json()}

    @classmethod
    def from_json(cls, front: Front, doc: Mapping[str, Any]) -> Choice:
        """Reads what `to_json` wrote. Raises ProfileError unless the point is one of the front."""
        of_point = {key: doc[key] for key in front.points[0].to_json() if key in doc}
        point = FrontPoint.from_json(front.points[0].subnet.graph, of_point)
        if point not in front.points:
            raise ProfileError(f"the subnet chosen for {doc['budget']!r} is not on the front")
        return cls(doc["budget"], float(doc["budget_ms"]), point, PageIn.from_json(doc["page_in"]), doc["tolerance"])

    @property
    def allowed_ms(self) -> float:
        """The most that the point may take, the tolerance counted in."""
        return self.budget_ms * (1 + self.tolerance)


@dataclass(frozen=True)
class Profile:
    """All that is known of one device and one pack. `document` is the whole of it as plain data, and what is saved.

    There, a block's `median_ms` is measured, alone; its `in_subnet_ms` is predicted, so that those of a path add up to
    the subnet's `predicted_ms`. `samples` has every timing, by the stage it was taken in, not corrected: `ms` of each
    whole chain, and in the first stage `in_situ`, for each chain of several blocks a list a block. docs/profile.md
    describes all of it. `graph` is the pack's, or, where a profile is read without its pack, what the document tells
    of it: there, the shapes of its cuts are empty. `reference` is what budgets are shares of: the original network in
    float32 as one program, or the oracle where the pack does not have that. `whole` are the networks that are one
    program, as points, on the front or not; in a bundle only those that it holds.
    """

    pack: str
    device: Mapping[str, Any]
    oracle: Latency
    reference: Latency
    latency: LatencyTable
    front: Front
    whole: tuple[FrontPoint, ...]
    choices: tuple[Choice, ...]
    graph: BlockGraph = field(compare=False, repr=False)
    document: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """What the pack calls itself."""
        return str(self.document["pack"]["name"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to doubt the quality, a sentence each."""
        return tuple(self.document.get("warnings", ()))

    @property
    def limits(self) -> Limits:
        """What the chosen points were to take at most besides time."""
        settings = self.document["settings"]
        return Limits(settings.get("memory_limit_mb"), settings.get("energy_limit_mj"))

    @property
    def within_limits(self) -> Front:
        """The points of the front that could be chosen; all where none keeps the limits, and none was chosen."""
        try:
            return within_limits(self.front, self.limits)
        except BudgetError:
            return self.front

    @property
    def slowdowns(self) -> tuple[str, ...]:
        """What to know of stages in which the device got slower while it was timed, a sentence each."""
        conditions = {stage: Conditions.from_json(each) for stage, each in self.document.get("conditions", {}).items()}
        return tuple(
            Slowdown.from_json(found).in_words(stage, conditions.get(stage))
            for stage, found in self.document.get("slowdowns", {}).items()
        )

    def to_json(self) -> dict[str, Any]:
        """The document, as `save` writes it."""
        return dict(self.document)

    def save(self, path: str | Path) -> None:
        """Writes the profile to the file `path`. Raises ProfileError when it cannot be written."""
        try:
            text = json.dumps(self.document, indent=1, allow_nan=False)
            # A list of numbers takes one line: there are thousands of timings.
            text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
            write_file(Path(path), f"{text}\n".encode())
        except OSError as error:
            raise ProfileError(f"the profile cannot be written to {path}: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: str | Path, pack: BlockPack | None = None) -> Profile:
        """Reads what `save` wrote. With `pack`, it must be the one that was profiled, or a bundle of it.

        Raises ProfileError when it is damaged or was made for another pack than `pack`.
        """
        try:
            document = parse_json(Path(path).read_bytes())
        except OSError as error:
            raise ProfileError(f"the profile {path} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ProfileError(f"the profile {path} cannot be read as JSON: {error}; profile again") from error
        return cls.from_json(document, pack, str(path))

    @classmethod
    def from_json(cls, document: Any, pack: BlockPack | None = None, what: str = "this document") -> Profile:
        """The profile that a document of plain data holds; `what` names it in errors. Raises what `load` raises."""
        if not isinstance(document, Mapping) or document.get("format") != FORMAT:
            raise ProfileError(f"{what} is not a profile: it does not say {FORMAT!r}")
        if document.get("version") != VERSION:
            raise ProfileError(f"{what} has version {document.get('version')!r}; this toolkit reads version {VERSION}")
        if wrong := violation(document, __package__, "profile.schema.json"):
            raise ProfileError(f"{what} is damaged: {wrong}; profile again")
        for stage, samples in document.get("samples", {}).items():
            if len(samples["chains"]) != len(samples["ms"]):
                chains, times = len(samples["chains"]), len(samples["ms"])
                raise ProfileError(
                    f"{what} is damaged: its samples of {stage!r} have {number_of(chains, 'chain')} and times of "
                    f"{times}; profile again"
                )
        made_for: str = document["pack"]["digest"]
        if pack:
            require_made_for(pack, made_for, what)
        try:
            graph = pack.graph if pack else _graph(document["blocks"])
            latency = LatencyTable({block["name"]: _latency(block) for block in document["blocks"]})
            of_every_block(graph, latency.ms, "latency")
            oracle = _latency(document["oracle_latency"])
            reference = _latency(document["reference"])
            front = Front.from_json(graph, document["front"])
            there = [each for each in document["whole"] if all(name in graph for name in each["subnet"])]
            whole = tuple(FrontPoint.from_json(graph, each) for each in there)
            choices = tuple(Choice.from_json(front, each) for each in document["budgets"])
        except (GraphError, ProfileError) as error:
            raise ProfileError(f"{what} is damaged: {error}") from error
        if min(oracle.median_ms, reference.median_ms, front.points[0].latency_ms) <= 0:
            raise ProfileError(f"{what} is damaged: a whole subnet takes 0 ms, which cannot be")
        return cls(
            made_for, dict(document["device"]), oracle, reference, latency, front, whole, choices, graph, document
        )


def require_made_for(pack: BlockPack, made_for: str, what: str) -> None:
    """Raise ProfileError unless a profile of the pack with the digest `made_for` is one of `pack`, or of what it was
    bundled from."""
    if made_for not in (pack.digest, pack.manifest["provenance"].get("bundled from", pack.digest)):
        raise ProfileError(
            f"{what} was made for another pack ({made_for[:12]}…, this one is {pack.digest[:12]}…): profile this one"
        )


def _graph(blocks: Sequence[Mapping[str, Any]]) -> BlockGraph:
    """The search space as a profile tells it: from where to where its blocks lead, without shapes and sizes."""
    last = max(block["end"] for block in blocks)
    return BlockGraph(
        [Cut(index, ()) for index in range(last + 1)],
        [Block(**{field: block[field] for field in OF_BLOCK}) for block in blocks],
    )


def _latency(found: Mapping[str, Any]) -> Latency:
    return Latency.from_json({key: found[key] for key in ("median_ms", "spread_ms", "repetitions")})
