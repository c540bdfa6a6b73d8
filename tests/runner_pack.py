"""Writes the pack that the runner's own tests serve: python tests/runner_pack.py FOLDER

It is the tiny pack of packs.py, exported for both backends. FOLDER/pack is the pack, FOLDER/executorch.json and
FOLDER/onnxruntime.json are profiles of it with invented latencies. FOLDER/row and FOLDER/row.json are a pack and a
profile of a network with several inputs, FOLDER/picture and FOLDER/picture.json of one that gives a picture. What is
there already is kept while it was made by the same modules and versions.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adaptivenet.toolkit.graph.front import FrontPoint
from adaptivenet.toolkit.graph.quality import Quality
from adaptivenet.toolkit.pack.pack import BlockPack
from exported_packs import export_pack, export_picture_pack, export_row_pack
from packs import GRAPH, block_programs


def profile_of(pack: BlockPack, engine: str) -> dict[str, Any]:
    """A document with the fields that a program that serves reads; the last two are no better than a faster one.

    The second takes the most energy, the third the most memory of the others; the energy of the first is not known."""
    subnets = sorted(pack.graph.paths(), key=lambda subnet: sum(pack.graph[name].macs or 0 for name in subnet))
    points = [
        FrontPoint(
            *(subnet, at + 1.0, at + 1.0, 0.1, 9, Quality("top1", value, value, value, 100)),
            resident_mb=at + 1.5,
            energy_mj=9.0 - at if at else None,
            energy_spread_mj=0.5 if at else None,
            energy_repetitions=5 if at else 0,
        )
        for at, (subnet, value) in enumerate(zip(subnets, (0.5, 0.6, 0.7, 0.65, 0.7)))
    ]
    return {
        "format": "adaptivenet-profile",
        "version": 2,
        "pack": {"name": pack.name, "digest": pack.digest},
        "device": {"engine": engine, "threads": 1},
        "reference": {"median_ms": 5.0},
        "front": [point.to_json() for point in points],
    }


def main(folder: Path) -> None:
    """Writes everything to `folder`; the stamp comes last."""
    modules = [*sorted(Path(__file__).parent.glob("*packs.py")), Path(__file__)]
    texts = [path.read_text() for path in modules] + [version(each) for each in ("executorch", "torch", "onnx")]
    stamp = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    if (folder / "stamp").exists() and (folder / "stamp").read_text() == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)
    pack = export_pack(folder / "pack", GRAPH, block_programs())
    for engine in ("executorch", "onnxruntime"):
        (folder / f"{engine}.json").write_text(json.dumps(profile_of(pack, engine), indent=1))
    for name, export in (("row", export_row_pack), ("picture", export_picture_pack)):
        document = profile_of(export(folder / name), "executorch")
        (folder / f"{name}.json").write_text(json.dumps(document, indent=1))
    (folder / "stamp").write_text(stamp)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
