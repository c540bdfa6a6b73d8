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
from commands import call, document_of, error_of
from PIL import Image
from training import curves


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
"""


def test_elastify_explains_where_it_cut(workplace: Path) -> None:
    assert call(elastify, "flower_model:build", "--size", "32", "--explain").stdout == TREE
    assert call(elastify, "flower_model:build", "--size", "32", "--explain", "--no-skip").stdout.count("skip") == 0
    assert sorted(path.name for path in workplace.iterdir() if path.is_dir() and path.name != "__pycache__") == []
    result = call(elastify, "flower_model:build", "--size", "32")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Missing option '--out'" in result.stderr


@pytest.mark.parametrize("recipe", ["ours", "paper", "naive"])
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


def test_elastify_under_torchrun(workplace: Path) -> None:
    """Two workers write one supernet and one document, and their curve is that of one."""
    arguments = [
        "flower_model:build", "--size", "32", "--data", "pictures.npz", "--epochs", "1", "--batch-size", "4",
        "--json",
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["source"] == "flower_model:build"
    assert done.stderr == "loading flower_model:build\n"


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
        (("flower_model:build", "--data", "pictures.npz", "--classes", "nothing"), "--classes nothing cannot be read"),
        (("flower_model:build", "--data", "pictures.npz", "--hold-out", "0.01"), "too few for a part of 0.01"),
        (("flower_model:build", "--data", "pictures.npz", "--validate", "nothing"), "nothing does not exist"),
        (("flower_model:build", "--weights", "nothing.pth"), "there is no file of weights at nothing.pth"),
        (("flower_model:build", "--output", "boxes"), "there is no output 'boxes'"),
        (("flower_model:build", "--prune", "1.5"), "cannot prune 1.5: a share between 0 and 1 is needed"),
        (("flower_model:build", "--out", "taken"), "taken is not a supernet and will not be overwritten"),
        (("flower_model:build", "--out", "classes.txt/supernet"), "supernet"),
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
