"""What is checked before a device runs anything: the same checks, with the same messages, on every device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..data.inputs import noise_rows
from ..errors import DataError, DeviceError, GraphError, PackError, PlanError
from ..graph.graph import Block, BlockGraph, Cut
from ..pack.pack import BlockPack
from ..plan.plan import LABEL, Plan, Run, Score


def check_backend(pack: BlockPack, backend: str, address: str) -> None:
    """Raise PackError unless the pack has artifacts for `backend`, which the device at `address` needs."""
    if backend not in pack.backends:
        raise PackError(
            f"pack {pack.name!r} has no {backend} artifacts, which {address} needs; it has {', '.join(pack.backends)}"
        )


def check_rounds(rounds: int) -> None:
    """Raise ValueError for fewer than one round."""
    if rounds < 1:
        raise ValueError(f"cannot measure in {rounds} rounds: at least 1 is needed")


def check_times(
    times: Sequence[Sequence[Sequence[float]]],
    chains: Sequence[Sequence[Block]],
    rounds: int,
    where: str,
    stamps_cuts: bool = True,
) -> None:
    """Raise DeviceError unless every block of every chain has a time, finite and not negative, for every round, or the
    chain as a whole where its cuts are not stamped."""
    lists = [len(chain) if stamps_cuts else 1 for chain in chains]
    if [[len(block) for block in chain] for chain in times] != [[rounds] * count for count in lists]:
        what = "block of every chain" if stamps_cuts else "chain"
        raise DeviceError(f"not every {what} was timed {rounds} times on {where}")
    if not all(0 <= ms < math.inf for chain in times for block in chain for ms in block):
        raise DeviceError(f"some times are no numbers of milliseconds on {where}")


def check_input(cut: Cut, array: NDArray[Any], what: str) -> None:
    """Raise DataError unless `array`, which the message calls `what`, has the shape and dtype of `cut`."""
    if not isinstance(array, np.ndarray):
        raise DataError(f"{what} is a {type(array).__name__}; give a numpy array, {cut.dtype} {cut.shape}")
    if (array.shape, str(array.dtype)) != (cut.shape, cut.dtype):
        raise DataError(f"{what} is {array.dtype} {array.shape}; the pack takes {cut.dtype} {cut.shape}")


def sample_for(pack: BlockPack, sample: NDArray[Any] | None) -> NDArray[Any]:
    """The sample to measure on: the one given, or noise. Raises DataError when it does not fit the pack's cut 0."""
    cut = pack.graph.cuts[0]
    if sample is None and pack.inputs:
        sample = noise_rows(pack.inputs)
    elif sample is None:
        sample = np.random.default_rng(0).standard_normal(cut.shape).astype(cut.dtype)
    check_input(cut, sample, "the sample")
    return sample


def chain_of(graph: BlockGraph, names: Sequence[str]) -> list[Block]:
    """The blocks with these names. Raises GraphError unless they are consecutive, and at least one."""
    blocks = [graph[name] for name in names]
    if not blocks:
        raise GraphError("a chain to measure needs at least one block")
    for before, after in pairwise(blocks):
        if before.end != after.start:
            raise GraphError(
                f"not a chain: block {before.name!r} ends at cut {before.end}, {after.name!r} starts at "
                f"cut {after.start}"
            )
    return blocks


def check_plan(pack: BlockPack, plan: Plan) -> None:
    """Raise PlanError unless the plan was made for this pack's blocks and metrics."""
    theirs, ours = plan.subnets[0].graph, pack.graph
    for instruction in plan.instructions:
        if isinstance(instruction, Run):
            name = instruction.block
            if (
                name not in ours
                or theirs.cuts != ours.cuts
                or theirs[name].end != ours[name].end
                or theirs.reads(theirs[name]) != ours.reads(ours[name])
            ):
                raise PlanError(f"block {name!r} of the plan is not one of pack {pack.name!r}: compile it again")
        elif isinstance(instruction, Score):
            wants = [kind == "label" for kind in pack.metrics.get(instruction.metric, ())]
            if wants != [slot == LABEL for slot in instruction.operands]:
                raise PlanError(
                    f"metric {instruction.metric!r} of the plan is not one of pack {pack.name!r}, or reads "
                    "other operands: compile it again"
                )


def labels_for(pack: BlockPack, plan: Plan, data: Dataset) -> NDArray[np.int64] | None:
    """The labels of `data`, None when there are none and no metric of the plan needs them.

    Raises DataError when a metric needs them and they are missing or of another shape, and for data without images.
    """
    if not len(data):
        raise DataError("there are no images to evaluate on")
    shape = data.label_shape
    needs = [metric for metric in plan.metrics if "label" in pack.metrics[metric]]
    if needs and shape is None:
        raise DataError(f"metric {needs[0]!r} needs labels and the data has none: label it or use another metric")
    if needs and shape is not None and shape != pack.label[1:]:
        raise DataError(
            f"metric {needs[0]!r} needs labels of shape {pack.label}, and those of the data have "
            f"{(1, *shape)}: label it so or use another metric"
        )
    return data.labels if shape == pack.label[1:] else None


def empty_sums(pack: BlockPack, plan: Plan, images: int) -> dict[str, NDArray[np.float64]]:
    """Room for what the plan's metrics give: by metric, NaN of shape (subnets, images, sums)."""
    return {metric: np.full((len(plan.subnets), images, len(pack.sums[metric])), np.nan) for metric in plan.metrics}


def check_sums(sums: Mapping[str, NDArray[np.float64]], where: str) -> None:
    """Raise DeviceError unless every sum is a finite number; `where` says what computed them."""
    for metric, values in sums.items():
        if not np.isfinite(values).all():
            raise DeviceError(f"metric {metric!r} gave sums that are not finite numbers on {where}")
