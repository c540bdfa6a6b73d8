"""A profile's warnings: training pictures among those that verify, an original that guesses or never changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.pack.pack import Artifact, BlockPack
from adaptivenet.toolkit.pack.trained_on import TrainedOn
from adaptivenet.toolkit.pack.writer import PackWriter
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from adaptivenet.toolkit.report.page import page
from adaptivenet.toolkit.report.text import headline
from given_times import give_times
from onnx import numpy_helper
from packs import PREPROCESSING, block_programs, build_pack, edit_manifest, write_programs

QUICK = Settings(("1000ms",), evaluations=8, search_images=10, verify_images=10, rounds=3)
CAUSES = "check the preprocessing, the labels and the weights"


def pictures(folder: Path, pack: BlockPack, labels: Any = None) -> Dataset:
    colours = np.random.default_rng(1).integers(0, 256, (20, 1, 1, 3), dtype=np.uint8)
    images = np.ascontiguousarray(np.broadcast_to(colours, (20, 20, 20, 3)))
    np.savez(folder / "pictures.npz", images=images, **({} if labels is None else {"labels": labels}))
    return open_data(folder / "pictures.npz", PREPROCESSING, pack.classes, pack.graph.cuts[0])


def profiled(pack: BlockPack, data: Dataset, verify: Dataset | None = None, **settings: Any) -> Profile:
    with connect("local:onnxruntime").open(pack) as session:
        return profile(session, data, Settings(**{**vars(QUICK), **settings}), verify=verify)


def answers(pack: BlockPack, data: Dataset) -> list[int]:
    with connect("local:onnxruntime").open(pack) as session:
        session.activate(pack.graph.oracle)
        return [int(session.infer(data.image(index)).argmax()) for index in range(len(data))]


def constant_pack(path: Path) -> BlockPack:
    """The tiny pack, whose classifier prefers class 2 whatever it sees."""
    model = onnx.load_from_string(block_programs()["b2"])
    for weight in model.graph.initializer:
        value = np.zeros(weight.dims, np.float32) if weight.name.endswith("w") else np.eye(5, dtype=np.float32)[2]
        weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    with PackWriter(path, name="constant") as writer:
        program = model.SerializeToString()
        manifest = write_programs(writer)
        artifact = Artifact(writer.add_blob(program, ".onnx"), len(program), "contiguous", 1e-7, 1e-4)
        next(block for block in manifest["blocks"] if block["name"] == "b2")["artifacts"] = {"onnx": artifact.to_json()}
        return writer.finish(manifest)


@pytest.mark.parametrize(("known", "expected"), [(0, 0), (7, 7), (10, 10)])
def test_training_pictures_among_those_that_verify_are_told(tmp_path: Path, known: int, expected: int) -> None:
    pack = build_pack(tmp_path / "pack")
    data = pictures(tmp_path, pack)
    data, verify = data.subset(range(10)), data.subset(range(10, 20))
    seen = TrainedOn().with_pictures(verify.content_digests(range(known)))
    edit_manifest(tmp_path / "pack", lambda manifest: manifest.update(trained_on=seen.to_text()))
    pack = BlockPack.open(tmp_path / "pack")
    result = profiled(pack, data, verify)
    assert result.document["verify"] == {"images": 10, "trained_on": expected}
    told = f"{expected} of the 10 pictures to verify on were trained on"
    places: list[Callable[[], str]] = [
        lambda: headline(result),
        lambda: page(result),
        lambda: json.dumps(result.document["warnings"]),
    ]
    assert [told in place() for place in places] == [expected > 0] * 3
    result.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path / "profile.json", pack).warnings == result.warnings


def test_a_pack_that_knows_nothing_of_its_training_says_nothing(tmp_path: Path) -> None:
    pack = build_pack(tmp_path / "pack")
    result = profiled(pack, pictures(tmp_path, pack))
    assert result.document["verify"]["trained_on"] is None
    assert not any("trained on" in warning for warning in result.warnings)


def test_an_original_whose_answer_never_changes_is_doubted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = constant_pack(tmp_path / "pack")
    # Where the original is the fastest, that the fastest answers as it does says nothing.
    give_times(monkeypatch, {block.name: 1.0 if block.is_original else 0.5 for block in pack.graph.blocks})
    result = profiled(pack, pictures(tmp_path, pack))
    assert len(result.warnings) == 2
    same, lossless = result.warnings
    assert same.startswith("the original network gives the same answer ('rose') for all 10 pictures")
    assert lossless.startswith("the fastest subnet of all reaches 100.0% agreement on 10 pictures")
    assert CAUSES in same
    assert CAUSES in lossless


@pytest.mark.parametrize("right", [True, False])
def test_an_original_that_guesses_is_doubted(tmp_path: Path, right: bool) -> None:
    pack = build_pack(tmp_path / "pack")
    truth = np.array(answers(pack, pictures(tmp_path, pack)))
    assert len(set(truth)) > 1
    data = pictures(tmp_path, pack, truth if right else (truth + 1) % 5)
    result = profiled(pack, data)
    doubted = [warning for warning in result.warnings if "guessing among 5 classes" in warning]
    assert len(doubted) == (0 if right else 1)
    assert all("top1 of 0.0% on 10 pictures" in warning and CAUSES in warning for warning in doubted)
    assert all(warning.endswith("; --metric agreement searches without labels") for warning in doubted)
