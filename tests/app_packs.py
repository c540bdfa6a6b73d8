"""Writes the packs that the tests of the Kotlin library serve: python tests/app_packs.py FOLDER

Each is FOLDER/NAME/pack, and for every engine beside it ENGINE.json, a profile with invented latencies, and
ENGINE-answers.json: inputs, and what a session in Python answers for every subnet of the front. `tiny` and `wide` are
those of packs.py, `taps` has a head that reads three depths, `reads` blocks that read the input and the first cut as
well, `int8` whole networks and blocks in int8, `row` a network with several inputs, `picture` one that gives a picture.
FOLDER/search is what app_search.py writes. What is there already is kept while it was made by the same modules and
versions.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import app_search
import numpy as np
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import elastify, prune
from adaptivenet.toolkit.graph.front import FrontPoint
from adaptivenet.toolkit.graph.graph import Subnet
from adaptivenet.toolkit.graph.quality import Quality
from adaptivenet.toolkit.pack.pack import Artifact, BlockPack
from adaptivenet.toolkit.pack.writer import PackWriter, describe
from exported_packs import export_pack as export_programs
from exported_packs import export_picture_pack, export_row_pack
from gated import gated
from packs import CLASSES, GRAPH, PREPROCESSING, WIDE, block_programs, wide_programs
from small_training import Small
from tapped import tapped

INPUTS = 2
ENGINES = {"onnx": "onnxruntime", "executorch": "executorch"}  # by backend
FIRST_MS = 1e6  # so slow that no inference of a test can be slower: what serves is what budgets say


def front(subnets: Sequence[Subnet]) -> list[dict[str, Any]]:
    """One point a subnet, slower and better one after the other."""
    return [
        FrontPoint(subnet, ms, ms, 0.0, 9, Quality("top1", value, value, value, 100)).to_json()
        for subnet, ms, value in (
            (subnet, FIRST_MS * (at + 1), (at + 1) / (len(subnets) + 1)) for at, subnet in enumerate(subnets)
        )
    ]


def drawn(pack: BlockPack, rng: np.random.Generator) -> np.ndarray:
    """An input: noise, and where the network has several, small whole numbers and truth values in their places."""
    if not pack.inputs:
        return rng.normal(size=pack.graph.cuts[0].shape).astype(np.float32)
    return pack.row(
        {
            each.name: rng.integers(0, 2 if each.dtype == "bool" else 50, each.shape).astype(each.dtype)
            for each in pack.inputs
        }
    )


def write(folder: Path, pack: BlockPack, subnets: Sequence[Subnet]) -> None:
    """The profiles of a pack, and what Python answers, beside it."""
    rng = np.random.default_rng(0)
    inputs = [drawn(pack, rng) for _ in range(INPUTS)]
    for engine in (ENGINES[backend] for backend in pack.backends):
        answers = []
        with connect(f"local:{engine}", threads=1).open(pack) as session:
            for subnet in subnets:
                session.activate(subnet)
                answers.append([session.infer(x).ravel().tolist() for x in inputs])
        document = {
            "inputs": [x.ravel().tolist() for x in inputs],
            "subnets": list(map(list, subnets)),
            "outputs": answers,
        }
        (folder / f"{engine}.json").write_text(json.dumps(profile_of(pack, engine, subnets), indent=1))
        (folder / f"{engine}-answers.json").write_text(json.dumps(document))


def profile_of(pack: BlockPack, engine: str, subnets: Sequence[Subnet]) -> dict[str, Any]:
    """What a program that serves reads of a profile."""
    return {
        "format": "adaptivenet-profile",
        "version": 2,
        "pack": {"name": pack.name, "digest": pack.digest},
        "device": {"engine": engine, "threads": 1},
        "reference": {"median_ms": 4 * FIRST_MS},
        "blocks": [
            {"name": block.name, "in_subnet_ms": FIRST_MS * (block.end - block.start)} for block in pack.graph.blocks
        ],
        "front": front(subnets),
    }


def wide_pack(path: Path) -> BlockPack:
    """The graph of 109 subnets."""
    with PackWriter(path, name="wide") as writer:
        blocks = {
            name: {"onnx": Artifact(writer.add_blob(program, ".onnx"), len(program))}
            for name, program in wide_programs().items()
        }
        return writer.finish(describe(WIDE, blocks, {}, PREPROCESSING, CLASSES))


def int8_pack(path: Path) -> BlockPack:
    """Blocks and whole networks, each in float32 and in int8."""
    torch.manual_seed(0)
    net = elastify(Small(2).eval(), torch.zeros(1, 3, 16, 16), kinds=[prune(0.34)])
    pictures = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return export_pack(net, path, jobs=1, calibrate=pictures)


def in_int8(pack: BlockPack, subnet: Subnet) -> Subnet:
    """The subnet with the int8 twin of every block that has one."""
    return pack.graph.subnet([f"{name}-int8" if f"{name}-int8" in pack.graph else name for name in subnet])


def main(folder: Path) -> None:
    """Writes everything to `folder`; the stamp comes last."""
    modules = [
        Path(__file__),
        *(
            Path(__file__).parent / f"{name}.py"
            for name in ("packs", "exported_packs", "tapped", "gated", "small_training", "app_search")
        ),
    ]
    packages = [version(each) for each in ("executorch", "torch", "onnx", "onnxruntime")]
    stamp = hashlib.sha256("\n".join([path.read_text() for path in modules] + packages).encode()).hexdigest()
    if (folder / "stamp").exists() and (folder / "stamp").read_text() == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)
    torch.set_num_threads(1)

    tiny = export_programs(folder / "tiny" / "pack", GRAPH, block_programs())
    write(
        folder / "tiny", tiny, sorted(GRAPH.paths(), key=lambda subnet: sum(GRAPH[name].macs or 0 for name in subnet))
    )

    wide = wide_pack(folder / "wide" / "pack")
    write(folder / "wide", wide, list(WIDE.paths())[::12])

    taps = export_pack(tapped(), folder / "taps" / "pack", jobs=1, metrics=())
    write(folder / "taps", taps, [*taps.graph.paths()][:8])

    reads = export_pack(gated(), folder / "reads" / "pack", jobs=1, metrics=())
    write(folder / "reads", reads, [*reads.graph.paths()])

    row = export_row_pack(folder / "row" / "pack")
    write(folder / "row", row, [row.graph.oracle])

    picture = export_picture_pack(folder / "picture" / "pack")
    write(folder / "picture", picture, [*picture.graph.paths()])

    int8 = int8_pack(folder / "int8" / "pack")
    oracle = int8.graph.oracle
    half = int8.graph.subnet([*in_int8(int8, oracle)[:2], *oracle[2:]])
    write(folder / "int8", int8, [("whole-int8",), in_int8(int8, oracle), half, ("whole",), oracle])

    (folder / "search").mkdir()
    app_search.write(folder / "search")

    (folder / "stamp").write_text(stamp)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
