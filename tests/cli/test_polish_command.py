"""adaptivenet-elastify --polish: a supernet, a profile of its pack and pictures make a supernet that is nearer."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.export.cli import main as export
from adaptivenet.toolkit.cli.elastify import main as elastify
from adaptivenet.toolkit.cli.polishing import kept
from adaptivenet.toolkit.cli.profile import main as profile
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.training.polish import Polished
from adaptivenet.toolkit.training.train import Trained
from commands import MODEL, QUICK, call, document_of, error_of
from safetensors.numpy import load_file

ONE, OTHER = ("b00", "b01-p50", "b02", "b03"), ("b00", "b01", "b02-p25", "b03")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A folder with a supernet, its pack, and a profile of that with a front of our own."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        Path("flower_model.py").write_text(MODEL)
        images = np.random.default_rng(5).integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
        np.savez("pictures.npz", images=images)
        arguments = ("--size", "32", "--data", "pictures.npz", "--epochs", "0", "--storage", "all")
        assert call(elastify, "flower_model:build", "--out", "supernet", *arguments).exit_code == 0
        assert call(export, "supernet", "pack", "--backend", "onnx", "--jobs", 1).exit_code == 0
        given = ("--device", "local:onnxruntime", "--data", "pictures.npz", *QUICK, "--out", "made.json")
        assert call(profile, "pack", *given).exit_code == 0
        document = json.loads(Path("made.json").read_text())
        write("profile.json", document, [OTHER, ["whole"], ONE])
        write("whole.json", document, [["whole"], ["b00", "b01", "b02", "b03"]])
        patch.delitem(sys.modules, "flower_model", raising=False)
    return folder


def write(file: str, document: dict[str, Any], front: Sequence[Sequence[str]]) -> None:
    """The profile with a front of these subnets, at 1, 2, 3 … ms."""
    points = [
        {**document["front"][0], "subnet": list(subnet), "measured_ms": float(at)} for at, subnet in enumerate(front, 1)
    ]
    Path(file).write_text(json.dumps({**document, "front": points, "budgets": [], "chosen": None}))


@pytest.fixture
def place(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


POLISH = ("supernet", "--polish", "profile.json", "--data", "pictures.npz", "--batch-size", 4, "--epochs", 3)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_front_is_polished_and_all_else_is_as_it_was(place: Path) -> None:
    before = contents(place / "supernet")
    result = call(elastify, *POLISH, "--out", "polished")
    assert result.exit_code == 0, result.stderr
    assert contents(place / "supernet") == before
    table = [line.split() for line in result.stdout.splitlines()]
    header = ["on", "the", "front", "at", "distance", "before", "after", "agreement", "before", "after"]
    at = table.index(header)
    assert [row[:2] for row in table[at + 2 : at + 4]] == [["1", "ms"], ["3", "ms"]]
    assert "in float32, on 6 pictures that neither trained nor decided" in result.stdout
    assert "supernet written to polished" in result.stderr
    document = document_of(call(elastify, *POLISH, "--out", "again", "--json"))
    polished = document["polished"]
    assert [each["subnet"] for each in polished["subnets"]] == [list(OTHER), list(ONE)]
    assert (polished["images"], polished["deciding"]) == (6, 8)
    old, new = (load_file(place / name / "weights.safetensors") for name in ("supernet", "again"))
    assert old.keys() == new.keys()
    changed = {key.split("/")[0] for key in old if old[key].tobytes() != new[key].tobytes()}
    assert changed == set(polished["changed"]) <= {"b01-p50", "b02-p25"}
    assert {*polished["changed"], *polished["put_back"]} == {"b01-p50", "b02-p25"}
    assert load_file(place / "polished" / "weights.safetensors").keys() == old.keys()
    assert document["training"]["planned"] == document["training"]["steps"] == round(3 * 54 / 4)


def test_what_is_verified_on_can_be_said(place: Path) -> None:
    np.savez("own.npz", images=np.random.default_rng(6).integers(0, 255, (9, 32, 32, 3), dtype=np.uint8))
    for options, images in ((("--validate", "own.npz"), 9), (("--hold-out", 0.5), 30)):
        document = document_of(call(elastify, *POLISH, *options, "--out", "polished", "--json"))
        assert document["polished"]["images"] == images
    assert Supernet.load("polished").trained_on is not None


def test_what_became_of_the_blocks_is_said() -> None:
    trained = Trained({}, 1, 1.0, 1, None)
    assert kept(Polished((), ("b1",), (), 9, 8, trained)) == "1 block has new weights"
    said = kept(Polished((), ("b1", "b2"), ("b3", "b4"), 9, 8, trained))
    assert said.startswith("2 blocks have new weights; back to those from before, because a subnet was further from")
    assert said.endswith(" on the 8 pictures that decided: b3 b4")


def test_time_that_is_short_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptivenet.toolkit.training.polish._MEASURING", 1e-9)
    np.savez("own.npz", images=np.random.default_rng(6).integers(0, 255, (9, 32, 32, 3), dtype=np.uint8))
    result = call(elastify, *POLISH, "--validate", "own.npz", "--max-minutes", 5, "--out", "polished")
    assert result.exit_code == 0, result.stderr
    assert "verified on 8 of 9 pictures: for more there was no time left" in result.stderr


def test_a_dry_run_says_what_would_be_trained(place: Path) -> None:
    arguments = ("supernet", "--polish", "profile.json", "--dry-run")
    rows = [line.split() for line in call(elastify, *arguments).stdout.splitlines()]
    assert rows[2:] == [["1", "ms", "b02-p25"], ["3", "ms", "b01-p50"]]
    document = document_of(call(elastify, *arguments, "--json"))
    assert [each["trains"] for each in document["subnets"]] == [["b02-p25"], ["b01-p50"]]
    assert document["dry_run"] is True


def test_where_nothing_is_trained_nothing_has_changed(place: Path) -> None:
    result = call(elastify, *POLISH[:-1], 0, "--out", "polished", "--json")
    polished = document_of(result)["polished"]
    assert "0 blocks have new weights" in result.stderr
    assert (polished["changed"], polished["put_back"]) == ([], [])
    assert all(each["before"] == each["after"] for each in polished["subnets"])
    assert contents(place / "polished") == contents(place / "supernet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("supernet", "--polish", "nothing.json"), "the profile nothing.json cannot be read"),
        (("supernet", "--polish", "pack/manifest.json"), "pack/manifest.json is not a profile"),
        (("pack", "--polish", "profile.json"), "pack is no supernet: supernet.json is missing"),
        (("supernet", "--polish", "whole.json"), "there is nothing to polish: the front of whole.json has no blocks"),
        (("other", "--polish", "profile.json"), "profile.json is a profile of another pack: the supernet has no block"),
        (
            ("supernet", "--polish", "profile.json", "--out", "./supernet"),
            "./supernet lies in the supernet that is polished",
        ),
        (
            ("supernet", "--polish", "profile.json", "--out", "supernet/inner"),
            "supernet/inner lies in the supernet that is polished",
        ),
        (
            ("supernet", "--polish", "profile.json", "--out", "pack"),
            "pack is not a supernet and will not be overwritten",
        ),
        (
            ("supernet", "--polish", "profile.json", "--checkpoint", "polished/state"),
            "--checkpoint polished/state lies in --out polished, which only a supernet may fill",
        ),
        (("supernet", "--polish", "profile.json", "--data", "few.npz"), "too few to polish with: 15 images"),
        (("supernet", "--polish", "profile.json", "--data", "nothing"), "nothing does not exist"),
        (("supernet", "--polish", "profile.json", "--batch-size", "0"), "batch_size is 0"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_lost(
    arguments: Sequence[str], message: str, place: Path
) -> None:
    np.savez("few.npz", images=np.load("pictures.npz")["images"][:17])
    assert call(elastify, "flower_model:build", "--size", "32", "--out", "other", "--prune", "0.75").exit_code == 0
    before = contents(place / "supernet")
    default = {"--out": "polished", "--data": "pictures.npz"}
    given = [each for option, value in default.items() if option not in arguments for each in (option, value)]
    assert message in error_of(call(elastify, *arguments, *given))
    assert contents(place / "supernet") == before
    assert not (place / "polished").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recipe", "ours", "--storage", "2", "--no-skip"), "--skip, --recipe, --storage: not with --polish"),
        (("--weights", "w.pth", "--explain"), "--weights, --explain: not with --polish"),
        (("--validate", "pictures.npz", "--hold-out", "0.5"), "give one of them"),
        (("--out", "polished"), "--polish needs --data, the pictures to train on, and --out"),
        (("--data", "pictures.npz"), "--polish needs --data, the pictures to train on, and --out"),
    ],
)
def test_options_of_another_way_to_train_are_refused(options: Sequence[str], message: str, place: Path) -> None:
    result = call(elastify, "supernet", "--polish", "profile.json", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
