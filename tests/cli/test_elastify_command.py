"""adaptivenet-elastify: what it prints of cuts, training and quality, under torchrun too, and bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from adaptivenet.toolkit.cli.elastify import main as elastify
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import TrainingError
from commands import call, document_of, error_of
from PIL import Image
from small_training import curves


def test_elastify_dry_run_and_table(workplace: Path) -> None:
    arguments = ("flower_model:build", "--out", "supernet", "--size", "32")
    result = call(elastify, *arguments, "--dry-run")
    assert result.exit_code == 0
    assert re.search(r"^b01-m2 +\S+ +1 → 3", result.stdout, re.MULTILINE)
    assert result.stdout.endswith(" subnets\n")
    document = document_of(call(elastify, *arguments, "--dry-run", "--json"))
    assert (document["dry_run"], document["training"]) == (True, None)
    assert not Path("supernet").exists()
    result = call(elastify, *arguments)
    assert "no --data" in result.stderr
    assert sorted(os.listdir("supernet")) == ["supernet.json", "weights.safetensors"]


TREE = """\
flower_model:build: 5 cuts, no taps, 4 original blocks, 2 of them with alternatives, 11 blocks in all, 17 subnets
├── 0…1  b00 → 16×16×16 · 0.1 MMACs · as it is
├── 2  b01 → 16×16×16 · 2.4 MMACs · p25, p50, skip, m2
├── 3  b02 → 16×16×16 · 2.4 MMACs · p25, p50, skip
└── 4…6  b03 → 5 · 0.0 MMACs · as it is
granularity auto: what repeats is a block (--granularity auto, fine, coarse or a number divides it otherwise)
"""


def test_the_table_of_all_blocks_is_printed_when_it_is_asked_for(workplace: Path) -> None:
    arguments = ("flower_model:build", "--size", "32", "--out", "supernet")

    lines = call(elastify, *arguments).stdout
    assert re.fullmatch(r"11 blocks \((\d original|\d merged|\d pruned|\d skip|, )+\), 17 subnets\n", lines)
    for option in ("--blocks", "--verbose"):
        said = call(elastify, *arguments, option).stdout
        assert said.startswith("block ")
        assert said.endswith(lines)
        assert said.count("\n") == 2 + 11 + 2


def test_elastify_explains_where_it_cut(workplace: Path) -> None:
    assert call(elastify, "flower_model:build", "--size", "32", "--explain").stdout == TREE
    document = document_of(call(elastify, "flower_model:build", "--size", "32", "--explain", "--json"))
    assert document["tree"] == TREE.splitlines()
    assert (document["dry_run"], document["subnets"], len(document["blocks"])) == (True, 17, 11)
    assert call(elastify, "flower_model:build", "--size", "32", "--explain", "--no-skip").stdout.count("skip") == 0
    assert sorted(path.name for path in workplace.iterdir() if path.is_dir() and path.name != "__pycache__") == []
    result = call(elastify, "flower_model:build", "--size", "32")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Missing option '--out'" in result.stderr


def test_factorised_blocks_are_made_where_they_are_asked_for(workplace: Path) -> None:
    arguments = ("flower_model:build", "--size", "32", "--dry-run", "--json")
    document = document_of(call(elastify, *arguments, "--lowrank", "0.5,0.25"))
    made = [(block["name"], block["ratio"]) for block in document["blocks"] if block["kind"] == "lowrank"]
    assert made == [("b01-l25", 0.25), ("b01-l50", 0.5), ("b02-l25", 0.25), ("b02-l50", 0.5)]
    assert "cannot factorise to 2.0: a share" in error_of(call(elastify, *arguments, "--lowrank", "2"))


def test_what_is_over_the_patience_is_named(workplace: Path) -> None:
    arguments = ("flower_model:build", "--size", "32", "--dry-run")
    assert document_of(call(elastify, *arguments, "--json"))["left_out"] == {}
    result = call(elastify, *arguments, "--json", "--patience", "60,0.2")
    assert list(document_of(result)["left_out"]) == ["b01-p25", "b01-p50", "b02-p25", "b02-p50"]
    assert re.findall(r"^left out (\S+) of (.*)$", result.stderr, re.MULTILINE)[0] == (
        "b01-p25",
        "2: it needs about 0.242 MB of memory (--patience)",
    )
    assert "no alternative of a block of" in error_of(call(elastify, *arguments, "--patience", "60,0.001", "--no-skip"))


def test_blocks_are_as_large_as_asked_for(workplace: Path) -> None:
    arguments = ("flower_model:build", "--size", "32", "--explain", "--granularity")
    lines = call(elastify, *arguments, "fine").stdout.splitlines()
    assert lines[-1].startswith("granularity fine: the smallest that repeats is a block (--granularity auto, fine")
    assert "no 2 of the 2 blocks in a row repeat; give a smaller number" in error_of(call(elastify, *arguments, "2"))
    for wrong in ("1", "-2", "large", "2.5"):
        result = call(elastify, *arguments, wrong)
        assert result.exit_code == 2
        assert f"{wrong!r} is none of auto, fine and coarse, nor a number from 2 on" in result.stderr


@pytest.mark.parametrize("value", ["0", "-1", "60,0", "60,", "1,2,3", "nan", "long"])
def test_a_patience_is_seconds_and_megabytes(value: str, workplace: Path) -> None:
    result = call(elastify, "flower_model:build", "--dry-run", "--patience", value)
    assert result.exit_code == 2
    assert f"{value!r} is neither seconds nor seconds and megabytes, such as 60 or 60,500" in result.stderr


@pytest.mark.parametrize("recipe", ["ours", "uniform", "front", "paper", "naive"])
def test_elastify_ends_with_a_table_of_quality(recipe: str, workplace: Path) -> None:
    arguments = [
        "flower_model:build", "--out", "supernet", "--size", "32", "--data", "pictures.npz", "--epochs", "0.6",
        "--batch-size", "4", "--recipe", recipe, "--classes", "classes.txt", "--hold-out", "0.25",
    ]  # fmt: skip
    result = call(elastify, *arguments)
    assert result.exit_code == 0, result.stderr
    assert re.search(r"^oracle +1 +\S+%", result.stdout, re.MULTILINE)
    assert re.search(r"^90% +\d+ ", result.stdout, re.MULTILINE)
    assert "top1 on 5 pictures" in result.stdout
    document = document_of(call(elastify, *arguments, "--json"))
    assert [at["budget"] for at in document["validation"]["budgets"]] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert document["validation"]["losses"].keys() == document["training"]["losses"]["trained"].keys()
    np.savez("own.npz", images=np.load("pictures.npz")["images"][:3])
    document = document_of(call(elastify, *arguments[:-2], "--validate", "own.npz", "--json"))
    assert (document["validation"]["metric"], document["validation"]["oracle"]["value"]) == ("agreement", 1.0)


@pytest.mark.parametrize(
    ("storage", "stays"), [(("--storage", "2"), False), (("--storage", "1.5"), False), (("--storage", "all"), True)]
)
def test_alternatives_are_left_out_for_storage_and_that_is_said(
    storage: Sequence[str], stays: bool, workplace: Path
) -> None:
    arguments = ["flower_model:build", "--out", "supernet", "--size", "32", "--epochs", "0.2", "--batch-size", "4"]
    everything = document_of(call(elastify, *arguments, "--dry-run", "--json"))
    result = call(elastify, *arguments, "--data", "pictures.npz", *storage, "--json")
    document = document_of(result)
    said = re.search(
        r"left out (\d+) alternatives \((\d+) that another one dominates, (\d+) for storage, now (\S+) and not (\S+) "
        r"times the original network's; --storage all keeps them\): b\d\d \w",
        result.stderr,
    )
    assert (said is None) == stays
    names = [block["name"] for block in document["blocks"]]
    if said is None:
        assert (len(names), document["training"]["thinned"]) == (len(everything["blocks"]), None)
        return
    thinned = document["training"]["thinned"]
    assert int(said[1]) == int(said[2]) + int(said[3]) == len(everything["blocks"]) - len(names)
    assert sorted([*names, *thinned["dominated"], *thinned["storage"]]) == sorted(
        block["name"] for block in everything["blocks"]
    )
    own = sum(block["params"] for block in document["blocks"] if block["kind"] == "original")
    after = sum(block["params"] for block in document["blocks"]) / own
    assert thinned["after"] == pytest.approx(after)
    assert (said[4], float(said[4]) <= float(storage[1])) == (f"{after:.2f}", True)
    assert float(said[5]) > after
    assert len(Supernet.load("supernet").graph.blocks) == len(names)


def test_little_is_stored_in_any_case_unless_a_limit_is_named(workplace: Path) -> None:
    arguments = ["flower_model:build", "--out", "supernet", "--size", "32", "--epochs", "0.2", "--batch-size", "4"]
    thinned = document_of(call(elastify, *arguments, "--data", "pictures.npz", "--json"))["training"]["thinned"]
    assert thinned is None or thinned["storage"] == []


OTHER_MODELS = """
import torch
from flower_model import Residual
from torch import nn


class Chooses(nn.Module):
    def forward(self, x):
        return x if x.sum() > 1e9 else x * 2


def unsaveable():
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), Residual(), Residual(), Chooses())


def without_scores():
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), Residual(), Residual(), nn.Flatten(2))
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("other_models:unsaveable",), "'3' is a Chooses, which cannot be saved as data"),
        (("other_models:without_scores", "--hold-out", "0.5"), "(1, 16, 256): quality is known for class scores"),
        (("flower_model:build", "--validate", "wrong.npz"), "labels go from 0 to 7; they must lie between 0 and 4"),
        (("flower_model:build", "--checkpoint", "classes.txt/at"), "a checkpoint cannot be written to classes.txt/at"),
        (("flower_model:build", "--tensorboard", "classes.txt"), "cannot write logs to classes.txt"),
        (("flower_model:build", "--out", "/proc/supernet"), "cannot write the supernet to /proc/supernet"),
        (("flower_model:build", "--batch-size", "1000000"), "--batch-size 1000000 is more than there are pictures: 20"),
    ],
)
def test_what_cannot_end_well_is_refused_before_the_training(
    arguments: Sequence[str], message: str, workplace: Path
) -> None:
    (workplace / "other_models.py").write_text(OTHER_MODELS)
    np.savez("wrong.npz", images=np.load("pictures.npz")["images"], labels=np.arange(20) % 8)
    out = () if "--out" in arguments else ("--out", "supernet")
    result = call(elastify, *arguments, *out, "--size", "32", "--data", "pictures.npz")
    assert message in error_of(result)
    assert "initialising" not in result.stderr
    assert not (workplace / "supernet").exists()


@pytest.mark.parametrize("option", ["--epochs", "--max-minutes"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_lengths_are_finite(option: str, value: str, workplace: Path) -> None:
    result = call(elastify, "flower_model:build", "--out", "supernet", option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': {value} is no number that something can last" in result.stderr


def test_the_supernet_is_saved_before_it_is_validated(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        assert (workplace / "supernet" / "weights.safetensors").exists()
        raise TrainingError("validation failed")

    monkeypatch.setattr("adaptivenet.toolkit.training.validate.validate", failing)
    arguments = ["--size", "32", "--data", "pictures.npz", "--epochs", "0.6", "--hold-out", "0.25"]
    result = call(elastify, "flower_model:build", "--out", "supernet", *arguments)
    assert error_of(result) == "error: validation failed"
    assert re.search(
        r"^trained \d+ steps \((float32|bfloat16)\) in \d+ s; too few steps to tell", result.stderr, re.MULTILINE
    )


def test_elastify_under_torchrun(workplace: Path) -> None:
    """Two workers write one supernet and one document, and their curve is that of one."""
    arguments = [
        "flower_model:build", "--size", "32", "--data", "pictures.npz", "--epochs", "1", "--batch-size", "4",
        "--precision", "float32", "--json",
    ]  # fmt: skip
    alone = document_of(call(elastify, *arguments, "--out", "alone", "--tensorboard", "alone-logs"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["adaptivenet.toolkit.cli.elastify", *arguments, "--out", "together", "--tensorboard", "together-logs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    assert done.stderr.count("supernet written to together") == 1
    for name, losses in curves(Path("alone-logs")).items():
        assert curves(Path("together-logs"))[name] == pytest.approx(losses, rel=1e-3, abs=1e-6), name
    for block, loss in alone["training"]["losses"]["trained"].items():
        assert together["training"]["losses"]["trained"][block] == pytest.approx(loss, rel=1e-2)


def test_elastify_looks_for_modules_in_the_current_folder(workplace: Path) -> None:
    script = Path(sys.executable).with_name("adaptivenet-elastify")
    command = [str(script), "flower_model:build", "--out", "supernet", "--size", "32", "--dry-run", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["source"] == "flower_model:build"
    assert done.stderr == "loading flower_model:build\n"


def test_a_file_in_the_current_folder_hides_no_library(workplace: Path) -> None:
    for name in ("onnx", "numpy", "torch", "tensorboard"):
        (workplace / f"{name}.py").write_text("raise SystemExit('run in place of the library')\n")
    script = str(Path(sys.executable).with_name("adaptivenet-elastify"))
    for model, message in (
        ("flower_model:build", "4 original blocks"),
        ("onnx:build", "onnx.py in this folder has the name of a module that is installed; rename it"),
    ):
        done = subprocess.run(
            [script, model, "--size", "32", "--explain"], capture_output=True, text=True, timeout=240, cwd=workplace
        )
        assert message in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no_such_module:build",), "cannot import 'no_such_module'"),
        (("flower_model:nothing",), "module 'flower_model' has no 'nothing'"),
        (("flower_model",), "is no name of a model"),
        (("flower_model:build", "--preprocessing", "nothing.json"), "neither auto, imagenet nor a file"),
        (("flower_model:build", "--preprocessing", "classes.txt"), "is not JSON"),
        (("flower_model:build", "--data", "nothing"), "nothing does not exist"),
        (("flower_model:build", "--data", "pictures.npz", "--batch-size", "0"), "batch_size is 0"),
        (("flower_model:build", "--data", "unlabelled", "--recipe", "paper"), "the data set has none"),
        (
            ("flower_model:build", "--data", "pictures.npz", "--classes", "nothing"),
            "the class names in nothing cannot be read",
        ),
        (("flower_model:build", "--data", "pictures.npz", "--hold-out", "0.01"), "too few for a part of 0.01"),
        (("flower_model:build", "--data", "pictures.npz", "--validate", "nothing"), "nothing does not exist"),
        (("flower_model:build", "--weights", "nothing.pth"), "there is no file of weights at nothing.pth"),
        (("flower_model:build", "--output", "boxes"), "there is no output 'boxes'"),
        (("flower_model:build", "--prune", "1.5"), "cannot prune 1.5: a share between 0 and 1 is needed"),
        (("flower_model:build", "--out", "taken"), "taken is not a supernet and will not be overwritten"),
        (("flower_model:build", "--out", "classes.txt/supernet"), "supernet"),
        (
            ("flower_model:build", "--data", "pictures.npz", "--out", "made", "--checkpoint", "./made/a/state"),
            "--checkpoint made/a/state lies in --out made, which only a supernet may fill: name another place",
        ),
        (("flower_model:build", "--out", "made", "--checkpoint", "made"), "--checkpoint made lies in --out made"),
        (("flower_model:build", "--out", "made", "--tensorboard", "made/l"), "--tensorboard made/l lies in --out made"),
    ],
)
def test_bad_input_of_elastify(arguments: Sequence[str], message: str, workplace: Path) -> None:
    (workplace / "taken").mkdir()
    (workplace / "taken" / "precious.txt").write_text("")
    (workplace / "unlabelled").mkdir()
    Image.new("RGB", (40, 40)).save(workplace / "unlabelled" / "picture.png")
    before = sorted(workplace.rglob("*"))
    out = () if "--out" in arguments else ("--out", "supernet")
    assert message in error_of(call(elastify, *arguments, *out, "--size", "32"))
    after = [path for path in sorted(workplace.rglob("*")) if "__pycache__" not in path.parts]
    assert after == before
