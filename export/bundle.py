"""A pack cut down to what one app ships: one backend, and only the blocks that its subnets use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptivenet.toolkit.errors import PackError
from adaptivenet.toolkit.graph.graph import BlockGraph
from adaptivenet.toolkit.pack.pack import SUFFIXES, BlockPack
from adaptivenet.toolkit.pack.writer import Metric, PackWriter, check_backends, describe
from adaptivenet.toolkit.plurals import number_of


def bundle_pack(
    pack: BlockPack,
    path: str | Path,
    *,
    backend: str,
    subnets: Iterable[Sequence[str]] | None = None,
    fronts_of: Iterable[str] = (),
    overwrite: bool = False,
) -> BlockPack:
    """Writes a smaller pack to the folder `path`, and opens it.

    It holds the programs of one backend only. With `subnets` (for instance those of a profile's front) it holds the
    blocks that they use and the original ones, without which no pack is complete; else all blocks. Its provenance says
    whose fronts it was cut for: `fronts_of`, a line a device.
    Raises PackError when the backend is not in the pack or `path` cannot be written, GraphError for what is no subnet.
    """
    if backend not in pack.backends:
        raise PackError(f"pack {pack.name!r} has no programs for {backend!r}: it has {', '.join(pack.backends)}")
    if Path(path).resolve() == pack.path.resolve():
        raise PackError(f"{path} cannot be replaced by a bundle of itself: choose another name")
    if overwrite:
        check_backends(path, [backend])
    if subnets is None:
        kept = pack.graph.blocks
    else:
        used = set(pack.graph.oracle).union(*(pack.graph.subnet(names) for names in subnets))
        kept = tuple(block for block in pack.graph.blocks if block.name in used)
    graph = BlockGraph(pack.graph.cuts, kept, pack.graph.taps)
    artifacts = {block.name: {backend: pack.artifact(block.name, backend)} for block in kept}
    metrics = {
        name: Metric(operands, {backend: pack.metric_artifact(name, backend)}, pack.sums[name], pack.scored.get(name))
        for name, operands in pack.metrics.items()
    }
    with PackWriter(path, pack.name, overwrite) as writer:
        for programs in (*artifacts.values(), *(metric.artifacts for metric in metrics.values())):
            writer.add_blob(pack.read(programs[backend]), SUFFIXES[backend])
        provenance = {**pack.manifest["provenance"], "bundled from": pack.digest}
        provenance |= {"bundled for": "; ".join(devices)} if (devices := list(dict.fromkeys(fronts_of))) else {}
        return writer.finish(
            describe(
                graph,
                artifacts,
                metrics,
                pack.preprocessing,
                pack.classes,
                provenance,
                pack.outputs,
                pack.trained_on,
                pack.inputs,
            )
        )


def in_words(device: Mapping[str, Any]) -> str:
    """The device of a profile in a few words."""
    threads = number_of(device["threads"], "thread")
    return f"{device['name']}, {device['engine']} {device['engine_version']}, {threads}"
