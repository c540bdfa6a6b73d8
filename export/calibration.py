"""What int8 programs are made with: which blocks get one, and the features that the quantisers see."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from adaptivenet.toolkit.atomic import write_file
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import ExportError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph
from safetensors.torch import save

_CALIBRATION_BYTES = 1 << 30  # of features, over all cuts


def check_calibration(graph: BlockGraph, calibrate: torch.Tensor) -> None:
    """Raises ExportError for inputs that a network cannot be calibrated with."""
    shape = graph.cuts[0].shape
    if calibrate.dim() != len(shape) or tuple(calibrate.shape[1:]) != shape[1:] or not len(calibrate):
        raise ExportError(
            f"the inputs to calibrate with have shape {tuple(calibrate.shape)}; wanted are some of {shape}, batch first"
        )


def in_int8(supernet: Supernet) -> list[Block]:
    """The int8 variants of all blocks that have weights and take float32."""
    graph = supernet.graph
    floats = {cut.index for cut in graph.cuts if cut.dtype == "float32"}
    return [
        block.quantised()
        for block in graph.blocks
        if any(True for _ in supernet.blocks[block.name].parameters()) and {*graph.reads(block), block.end} <= floats
    ]


def cuts_of_one_scale(graph: BlockGraph) -> list[list[int]]:
    """The cuts in groups that have one scale in int8: those that a skip connects.

    What lets a feature through as it is gives an int8 neighbour no reason to convert it.
    """
    group = list(range(len(graph.cuts)))
    for block in graph.blocks:
        if block.kind == "skip":
            group = [group[block.start] if each == group[block.end] else each for each in group]
    return [[cut for cut in range(len(group)) if group[cut] == each] for each in sorted(set(group))]


def write_calibration(supernet: Supernet, inputs: torch.Tensor, folder: Path) -> None:
    """Writes the original features of the inputs, a file a cut, and the extremes of each cut. Where all would be too
    many bytes, fewer inputs have features behind the first cut; the extremes are those of all."""
    each = sum(cut.bytes for cut in supernet.graph.cuts[1:])
    kept = max(1, min(len(inputs), _CALIBRATION_BYTES // each))
    ranges: dict[str, tuple[float, float]] = {}
    features: dict[int, list[torch.Tensor]] = {cut.index: [] for cut in supernet.graph.cuts}
    with torch.no_grad():
        for at in range(len(inputs)):
            for cut, feature in enumerate(supernet.features(inputs[at : at + 1])):
                low, high = ranges.get(str(cut), (0.0, 0.0))
                ranges[str(cut)] = (min(low, float(feature.min())), max(high, float(feature.max())))
                if at < kept or not cut:
                    features[cut].append(feature)
    for group in cuts_of_one_scale(supernet.graph):
        together = [ranges[str(cut)] for cut in group]
        ranges |= {str(cut): (min(low for low, _ in together), max(high for _, high in together)) for cut in group}
    for cut, some in features.items():
        write_file(folder / f"calibration-{cut}.safetensors", save({"x": torch.cat(some).contiguous()}))
    write_file(folder / "ranges.json", json.dumps(ranges).encode())
