"""Writes the bundle that the tests of the Android module open: python tests/app_bundle.py FOLDER

FOLDER/app is what adaptivenet-export --bundle android writes of the pack of packs.py with three profiles, and
FOLDER/answers.json inputs and what Python answers for every point that is worth running. What is there already is
kept while it was made by the same modules and versions.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import adaptivenet.export.android
import adaptivenet.export.android_readme
import adaptivenet.export.bundle
import numpy as np
from adaptivenet.export import bundle_for_android
from adaptivenet.toolkit import Settings, connect, profile
from adaptivenet.toolkit.data import Dataset
from packs import build_pack

MADE_BY = (adaptivenet.export.android, adaptivenet.export.android_readme, adaptivenet.export.bundle)
SETTINGS = Settings(evaluations=8, search_images=4, verify_images=6, rounds=3, budgets=("1000ms",))


def main(folder: Path) -> None:
    """Writes everything to `folder`; the stamp comes last."""
    modules = [Path(__file__), Path(__file__).parent / "packs.py", *(Path(str(module.__file__)) for module in MADE_BY)]
    packages = [version(each) for each in ("onnx", "onnxruntime")]
    stamp = hashlib.sha256("\n".join([path.read_text() for path in modules] + packages).encode()).hexdigest()
    if (folder / "stamp").exists() and (folder / "stamp").read_text() == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pack = build_pack(folder / "pack")
    rng = np.random.default_rng(7)
    pictures = (rng.normal(0, 1, (16, 3, 16, 16)) + rng.normal(0, 30, (16, 3, 1, 1))).astype(np.float32)
    with connect("local:onnxruntime").open(pack) as session:
        session.activate(pack.graph.oracle)
        # The oracle is right about all of them, so that it is worth running, whatever the others are.
        labels = [int(session.infer(picture[None]).argmax()) for picture in pictures]
        data = Dataset.from_arrays(pictures, np.array(labels))
        made = profile(session, data, SETTINGS)
        points = made.front.rising
        x = pictures[:1]
        outputs = []
        for point in points:
            session.activate(point.subnet)
            outputs.append([session.infer(x).ravel().tolist()])
    given = []
    for soc in (None, "SM8450", "MT6983Z/CZA"):
        device = {**made.document["device"], "soc": soc}
        path = folder / f"{(soc or 'computer')[:6]}.json"
        replace(made, document={**made.document, "device": device}).save(path)
        given.append(path)
    bundle_for_android(pack, folder / "app", given, name="tiny")
    answers = {"inputs": [x.ravel().tolist()], "subnets": [list(point.subnet) for point in points], "outputs": outputs}
    (folder / "answers.json").write_text(json.dumps(answers))
    (folder / "stamp").write_text(stamp)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
