"""The blocks of a measured front trained further, end to end: its subnets learn to give what the original gives.

Only the front's subnets are sampled, so each alternative learns to work behind and before those that it meets there.
Everything else stays as it is, byte by byte: the original blocks, and alternatives that no subnet of the front takes.
A block is shared by several subnets, and what helps one may harm another. Therefore each subnet's loss counts by how
far the subnet was from the original before, relative to itself, and at the end pictures that no step has seen decide:
the blocks of a subnet that is further away than before get their weights from before, until there is no such subnet.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..elastic.defaults import ordinary_defaults
from ..elastic.supernet import Supernet
from ..errors import TrainingError
from ..graph.front import Front
from ..graph.graph import BlockGraph, Subnet
from ..graph.profiled import in_float32
from ..pack.trained_on import TrainedOn
from ..plurals import number_of
from .batches import Part, TrainingData, batches_of, check_data, check_varied, set_apart
from .beginning import Preparing
from .closeness import Closeness, closeness
from .losses import local_losses
from .phases import Training, polishing
from .placement import find_device, placed
from .train import Progress, Trained, digests_of, train

_DECIDING = (0.1, 8, 256)  # the share of the pictures that decides, the fewest and the most
_FEWEST = 8  # pictures to verify on where time is short
_MEASURING = 0.2  # of the minutes: what verifying before and after may take
_LEAST = 0.05  # of the largest divergence: what a subnet's own counts as at least, where losses are weighed by it


@dataclass(frozen=True)
class PolishedSubnet:
    """A subnet of the front, in float32, before and after, on the pictures to verify on. `latencies_ms` are those of
    the points of the front that are this subnet, some with blocks in int8."""

    subnet: Subnet
    latencies_ms: tuple[float, ...]
    before: Closeness
    after: Closeness


@dataclass(frozen=True)
class Polished:
    """What was done: the blocks that have new weights (`changed`), and those that were trained and got the weights from
    before back (`put_back`). `images` were verified on, `deciding` others decided. `warnings` are a sentence each."""

    subnets: tuple[PolishedSubnet, ...]
    changed: tuple[str, ...]
    put_back: tuple[str, ...]
    images: int
    deciding: int
    trained: Trained
    warnings: tuple[str, ...] = ()


def subnets_to_polish(graph: BlockGraph, front: Front, what: str = "this document") -> dict[Subnet, tuple[float, ...]]:
    """The subnets of a profile's front that have blocks to train, in the graph of its supernet, and the latencies in
    milliseconds of the front's points that are each of them, with some blocks in int8 or without.

    `what` names the profile in errors. Raises ProfileError for the front of another supernet, TrainingError where it
    has no such subnet.
    """
    found: dict[Subnet, tuple[float, ...]] = {}
    for point in front.points:
        for subnet in in_float32(graph, point.subnet.graph, [point.subnet], what):
            if trained_blocks(graph, subnet):
                found[subnet] = (*found.get(subnet, ()), point.latency_ms)
    if not found:
        raise TrainingError(
            f"there is nothing to polish: the front of {what} has no blocks that can be trained, only original ones "
            "and such without weights"
        )
    return found


def trained_blocks(graph: BlockGraph, subnet: Subnet) -> list[str]:
    """The blocks of a subnet that polishing trains, by name: alternatives with parameters."""
    return [name for name in subnet if graph[name].params and not graph[name].is_original]


@ordinary_defaults()
def polish(
    supernet: Supernet,
    front: Front,
    data: TrainingData,
    held_out: TrainingData,
    training: Training | None = None,
    *,
    what: str = "this document",
    checkpoint: str | Path | None = None,
    logs: str | Path | None = None,
    progress: Progress | None = None,
    preparing: Preparing | None = None,
    device: str = "cpu",
) -> Polished:
    """Trains the alternatives that a profile's front takes further, in place, from the original network's outputs.

    `front` is that of a profile of a pack of this supernet; blocks in int8 stand for those that they were quantised
    from, and whole networks do not count. Of `data`, a tenth (8 to 256 images) decides which blocks keep their new
    weights and is not trained on. `held_out` are images for the qualities in the result, which nothing else sees.
    `training` is `phases.polishing()` when None; nothing is initialised nor left out, whatever it says, and its
    `max_minutes` are those of all of this. Where blocks have changed, the local losses of all alternatives are measured
    anew, on the images that decided, and the supernet remembers these and those that were trained on. The other
    arguments are those of `train`, and `what` names the profile in errors.

    Raises ProfileError for the front of another supernet, TrainingError where there is nothing to train, for fewer than
    16 images or no time, where outputs are no numbers, and what `train` raises. The supernet is then as it was.
    """
    started, place = time.monotonic(), find_device(device)
    training = replace(training or polishing(), initialise=(), arriving=0, averaging=0, storage=None)
    say: Preparing = preparing or (lambda what, done, total: None)
    latencies = subnets_to_polish(supernet.graph, front, what)
    subnets = list(latencies)
    for each in (data, held_out):
        check_data(each)
    if not len(held_out):
        raise TrainingError("there are no images to verify on")
    rest, deciding = _divided(data, training.seed)
    check_varied(training, rest.image(0).shape, "image 0")
    on_front = {supernet.graph[name]: None for subnet in subnets for name in subnet}
    names = list(dict.fromkeys(name for subnet in subnets for name in trained_blocks(supernet.graph, subnet)))
    before, graph, known = _weights(supernet, names), supernet.graph, supernet.trained_on

    def measured(of: Sequence[Subnet], on: TrainingData, why: str) -> dict[Subnet, Closeness]:
        show: Callable[[int, int], None] = lambda done, total: say(why, done, total)  # noqa: E731
        return closeness(supernet, of, on, training.batch_size, place, show)

    began = time.monotonic()
    decided_by = measured(subnets, deciding, "measuring")
    if not any(math.isfinite(found.divergence) for found in decided_by.values()):
        raise TrainingError(
            f"no subnet of the front of {what} has a finite distance from the original network on the pictures that "
            "decide: look at the pictures and the weights"
        )
    once = (time.monotonic() - began) / len(deciding)  # seconds an image
    if training.max_minutes is not None:
        affordable = int(_MEASURING / 2 * 60 * training.max_minutes / max(once, 1e-9))
        held_out = Part(held_out, range(min(len(held_out), max(_FEWEST, affordable))))
    verified = measured(subnets, held_out, "measuring")
    narrow = supernet.without([block.name for block in supernet.alternatives() if block not in on_front])
    try:
        trained = train(
            narrow,
            rest,
            _in_time(training, started, once * (len(held_out) + 3 * len(deciding))),
            subnets=_weighed({narrow.graph.subnet(each): found.divergence for each, found in decided_by.items()}),
            checkpoint=checkpoint,
            logs=logs,
            progress=progress,
            preparing=preparing,
            device=device,
        )
        put_back: list[str] = []
        affected = subnets
        while worse := [
            subnet
            for subnet, found in measured(affected, deciding, "deciding").items()
            if not found.divergence <= decided_by[subnet].divergence
        ]:
            back = [name for name in names if name not in put_back and any(name in subnet for subnet in worse)]
            _restore(supernet, {name: before[name] for name in back})
            put_back += back
            affected = [subnet for subnet in subnets if not set(back).isdisjoint(subnet)]
        now = _weights(supernet, names)
        changed = [name for name in names if not all(now[name][key].equal(old) for key, old in before[name].items())]
        if changed:
            _note(supernet, narrow.trained_on, deciding, training.batch_size, place)
        after = measured(subnets, held_out, "measuring again")
        points = tuple(PolishedSubnet(each, latencies[each], verified[each], after[each]) for each in subnets)
        warnings = _warnings(supernet, points, held_out)
    except BaseException:
        _restore(supernet, before)
        supernet.graph, supernet.trained_on = graph, known
        raise
    return Polished(points, tuple(changed), tuple(put_back), len(held_out), len(deciding), trained, warnings)


def _divided(data: TrainingData, seed: int) -> tuple[Part, Part]:
    """The images to train on, and those that decide, drawn by the seed."""
    share, fewest, most = _DECIDING
    if len(data) < 2 * fewest:
        raise TrainingError(
            f"too few to polish with: {number_of(len(data), 'image')}, {fewest} of which decide what is kept: give "
            f"at least "
            f"{2 * fewest}, besides those to verify on"
        )
    count = min(most, max(fewest, round(share * len(data))))
    return set_apart(data, count, f"{seed}/deciding")


def _weighed(divergences: Mapping[Subnet, float]) -> dict[Subnet, float]:
    """How much each subnet's loss counts: the less, the further it was from the original; 1 in the mean."""
    finite = {subnet: far if math.isfinite(far) else math.inf for subnet, far in divergences.items()}
    least = max(_LEAST * max(far for far in finite.values() if far < math.inf), 1e-9)
    weights = {subnet: 1 / max(far, least) for subnet, far in finite.items()}
    return {subnet: len(weights) * weight / sum(weights.values()) for subnet, weight in weights.items()}


def _in_time(training: Training, started: float, kept: float) -> Training:
    """The training in what is left of its minutes, of which so many seconds are kept for what follows."""
    if training.max_minutes is None:
        return training
    left = 60 * training.max_minutes - (time.monotonic() - started) - kept
    if left <= 0:
        raise TrainingError(
            f"no time is left to train: of {60 * training.max_minutes:.0f} s, measuring the front before and after "
            f"takes {60 * training.max_minutes - left:.0f} s; give it more minutes"
        )
    return replace(training, max_minutes=left / 60)


def _weights(supernet: Supernet, names: Sequence[str]) -> dict[str, dict[str, torch.Tensor]]:
    return {name: {key: tensor.clone() for key, tensor in supernet.blocks[name].state_dict().items()} for name in names}


def _restore(supernet: Supernet, weights: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    for name, own in weights.items():
        supernet.blocks[name].load_state_dict(own)


def _note(
    supernet: Supernet, trained_on: TrainedOn | None, deciding: Part, batch_size: int, device: torch.device
) -> None:
    """Notes the local losses of all alternatives on the images that decided, and what the supernet has seen now."""
    with placed(supernet, device):
        batches = batches_of(deciding, batch_size, device)
        supernet.graph = supernet.graph.with_losses(local_losses(supernet, batches))
    if hasattr(deciding, "content_digests") and trained_on:
        supernet.trained_on = trained_on.with_pictures(digests_of(deciding, range(len(deciding))))


def _warnings(supernet: Supernet, points: Sequence[PolishedSubnet], held_out: TrainingData) -> tuple[str, ...]:
    found = []
    worse = [each for each in points if each.after.divergence > each.before.divergence]
    if worse:
        found.append(
            f"{len(worse)} of {len(points)} subnets are further from the original than before on the {len(held_out)} "
            "pictures that were verified on, though on none of those that decided"
        )
    digests: Any = getattr(held_out, "content_digests", None)
    if digests and supernet.trained_on:
        seen = supernet.trained_on.among(digests(range(len(held_out))))
        found += [supernet.trained_on.in_words(seen, len(held_out))] if seen else []
    return tuple(found)
