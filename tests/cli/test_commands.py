"""The commands together: from a model to a served subnet, and bad packs, data, budgets and usage in one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from adaptivenet.export.cli import main as export
from adaptivenet.toolkit.cli.elastify import main as elastify
from adaptivenet.toolkit.cli.profile import main as profile
from adaptivenet.toolkit.cli.run import main as run
from adaptivenet.toolkit.errors import DeviceError
from adaptivenet.toolkit.pack.pack import BlockPack
from commands import QUICK, call, document_of, error_of, in_process
from engines import ENGINES
from packs import edit_manifest


def _delete_blob(pack: BlockPack) -> None:
    (pack.path / pack.artifact("b1", "onnx").file).unlink()


def _truncate_blob(pack: BlockPack) -> None:
    path = pack.path / pack.artifact("b1", "onnx").file
    path.write_bytes(path.read_bytes()[:-7])


def _change_blob(pack: BlockPack) -> None:
    path = pack.path / pack.artifact("b1", "onnx").file
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])


def _manifest(change: Callable[[dict[str, Any]], object], sign: bool) -> Callable[[BlockPack], None]:
    return lambda pack: edit_manifest(pack.path, change, sign)


def _climb(manifest: dict[str, Any]) -> None:
    manifest["blocks"][0]["artifacts"]["onnx"]["file"] = "blobs/../../secret.onnx"


BAD_PACKS: dict[str, tuple[Callable[[BlockPack], None], str]] = {
    "missing blob": (_delete_blob, r"\.onnx is missing; export or copy the pack again"),
    "truncated blob": (_truncate_blob, r"has \d+ bytes, the manifest says \d+"),
    "digest that does not match": (_change_blob, r"is damaged: its content has SHA-256"),
    "edited manifest": (_manifest(lambda m: m.update(name="better"), False), "manifest.json was edited or damaged"),
    "path traversal": (_manifest(_climb, True), "blobs/../../secret.onnx"),
    "unknown version": (_manifest(lambda m: m.update(version=9), True), "format version 9, but this program reads"),
    "not a pack": (lambda pack: shutil.rmtree(pack.path / "blobs"), "blobs is not a folder"),
    "no pack at all": (lambda pack: shutil.rmtree(pack.path), "there is nothing there"),
}


@pytest.mark.parametrize("what", BAD_PACKS)
def test_a_bad_pack_is_one_line(
    what: str, broken: BlockPack, profiles: dict[str, Path], labelled: Path, tmp_path: Path
) -> None:
    damage, message = BAD_PACKS[what]
    damage(broken)
    out = tmp_path / "profile.json"
    results = [
        call(profile, broken.path, "--device", "local:onnxruntime", "--data", labelled, *QUICK, "--out", out, "--json"),
        call(run, broken.path, profiles[ENGINES[1]], "--data", labelled),
    ]
    if (broken.path / "manifest.json").exists():
        results.append(call(export, broken.path, tmp_path / "bundle"))
    for result in results:
        line = error_of(result)
        assert re.search(message, line), line
        assert str(broken.path) in line
        assert result.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"broken"}


def _float_of_another_shape(folder: Path) -> Path:
    np.save(folder / "data.npy", np.zeros((8, 3, 8, 8), np.float32))
    return folder / "data.npy"


def _float_of_another_dtype(folder: Path) -> Path:
    np.save(folder / "data.npy", np.zeros((8, 3, 16, 16), np.float64))
    return folder / "data.npy"


def _grey(folder: Path) -> Path:
    np.savez(folder / "data.npz", images=np.zeros((8, 16, 16), np.uint8))
    return folder / "data.npz"


def _short_labels(folder: Path) -> Path:
    np.savez(folder / "data.npz", images=np.zeros((8, 16, 16, 3), np.uint8), labels=np.zeros(7, np.int64))
    return folder / "data.npz"


def _no_picture(folder: Path) -> Path:
    (folder / "data").mkdir()
    for number in range(4):
        (folder / "data" / f"{number}.png").write_bytes(b"no picture")
    return folder / "data"


BAD_DATA: dict[str, tuple[Callable[[Path], Path], str]] = {
    "shape": (_float_of_another_shape, r"must have shape \(N, 3, 16, 16\), not \(8, 3, 8, 8\)"),
    "dtype": (_float_of_another_dtype, "images have dtype float64"),
    "grey": (_grey, r"must have shape \(N, H, W, 3\), not \(8, 16, 16\)"),
    "labels": (_short_labels, r"labels must be whole numbers of shape \(8,\)"),
    "no picture": (_no_picture, r"\.png is not a picture that can be read"),
    "missing": (lambda folder: folder / "data", "does not exist; give a folder of pictures"),
}


@pytest.mark.parametrize("what", BAD_DATA)
def test_bad_data_is_one_line(what: str, tiny_pack: BlockPack, profiles: dict[str, Path], tmp_path: Path) -> None:
    make, message = BAD_DATA[what]
    path = make(tmp_path)
    out = tmp_path / "profile.json"
    for result in (
        call(profile, tiny_pack.path, "--device", "local:onnxruntime", "--data", path, *QUICK, "--out", out, "--json"),
        call(run, tiny_pack.path, profiles[ENGINES[1]], "--budget", "1000ms", "--data", path),
    ):
        line = error_of(result)
        assert re.search(message, line), line
        assert str(path) in line
    assert not out.exists()


def test_a_budget_below_the_fastest_names_the_fastest(
    tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "profile.json"
    result = call(
        profile, tiny_pack.path, "--device", "local:onnxruntime", "--data", labelled, "--rounds", "3",
        "--budget", "0.01%", "--out", out,
    )  # fmt: skip
    assert re.search(r"budget of 0\.01% .*: the fastest takes \S+ ms, \d+% of the whole network's", error_of(result))
    assert not out.exists()
    result = call(run, tiny_pack.path, profiles[ENGINES[1]], "--data", labelled, "--budget", "0.0000001ms")
    assert re.search(r"the fastest takes \S+ ms, \d+% of the whole network's \S+ ms \(measured\)", error_of(result))


@pytest.mark.parametrize("budget", ["75", "-5%", "0%", "abc"])
def test_a_silly_budget_is_refused_before_anything_else(
    budget: str, tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path
) -> None:
    for result in (
        call(profile, tiny_pack.path, "--data", labelled, f"--budget={budget}", "--dry-run"),
        call(run, tiny_pack.path, profiles[ENGINES[1]], "--data", labelled, f"--budget={budget}"),
    ):
        assert f"{budget!r} is no latency budget: write it like 75%" in error_of(result)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (profile, ()),
        (profile, ("pack",)),
        (profile, ("pack", "--data", "x", "--rounds", "many")),
        (profile, ("pack", "--data", "x", "--bogus")),
        (profile, ("profile.json", "--report", "-", "--json")),
        (profile, ("pack", "--data", "x", "--report", "-", "--out", "-")),
        (run, ("pack", "profile.json")),
        (run, ("pack", "profile.json", "--data", "x", "--count", "0")),
        (elastify, ("a:b",)),
        (elastify, ("a:b", "--out", "x", "--size", "0")),
        (elastify, ("a:b", "--out", "x", "--merge", "two")),
        (elastify, ("a:b", "--out", "x", "--recipe", "theirs")),
        (elastify, ("a:b", "--out", "x", "--max-minutes", "0")),
        (elastify, ("a:b", "--out", "x", "--storage", "1")),
        (elastify, ("a:b", "--out", "x", "--storage", "none")),
        (elastify, ("a:b", "--out", "x", "--data", "d", "--validate", "v", "--hold-out", "0.1")),
        (export, ("supernet",)),
        (export, ("supernet", "out", "--backend", "tflite")),
    ],
)
def test_wrong_usage_is_status_2(command: click.Command, arguments: Sequence[str]) -> None:
    result = call(command, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("command", [profile, run, elastify, export])
def test_help(command: click.Command) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    for option in ("--json", "--dry-run", "--verbose"):
        assert option in result.stdout


def test_verbose_adds_the_traceback(tiny_pack: BlockPack, labelled: Path) -> None:
    with pytest.raises(DeviceError, match="lokal"):
        call(profile, tiny_pack.path, "--data", labelled, "--device", "lokal", "--verbose")


def test_profile_and_run_work_where_torch_is_not_installed(
    tiny_pack: BlockPack, labelled: Path, tmp_path: Path
) -> None:
    without = ("torch", "executorch", "torchvision", "timm", "matplotlib")
    out = tmp_path / "profile.json"
    done = in_process(
        "adaptivenet.toolkit.cli.profile", tiny_pack.path, "--device", "local:onnxruntime", "--data", labelled, *QUICK,
        "--out", out, "--json", without=without,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"]["engine"] == "onnxruntime"
    arguments = (tiny_pack.path, out, "--data", labelled, "--budget", "1000ms", "--count", "3", "--json")
    done = in_process("adaptivenet.toolkit.cli.run", *arguments, without=without)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["answers"]) == 3


def test_from_a_model_to_a_served_subnet(workplace: Path) -> None:
    made = document_of(
        call(
            elastify, "flower_model:build", "--out", "supernet", "--size", "32", "--prune", "0.5", "--merge", "2",
            "--data", "pictures.npz", "--epochs", "0.6", "--batch-size", "4", "--json",
        )
    )  # fmt: skip
    kinds = {block["kind"] for block in made["blocks"]}
    assert kinds == {"original", "merged", "pruned", "skip"}
    assert made["training"]["steps"] == 3  # 0.6 times 20 pictures
    assert made["validation"] is None
    assert all(block["loss"] is not None for block in made["blocks"] if block["kind"] != "original")

    planned = document_of(call(export, "supernet", "pack", "--dry-run", "--json"))
    assert planned["programs"] == 2 * (len(made["blocks"]) + 1 + 3), "and the whole network, at lower resolutions too"
    assert not Path("pack").exists()
    arguments = ("--sample", "pictures.npz", "--classes", "classes.txt", "--name", "flowers", "--json")
    exported = call(export, "supernet", "pack", *arguments)
    document = document_of(exported)
    assert (document["name"], document["subnets"]) == ("flowers", made["subnets"] + 4)
    assert set(document["backends"]) == {"executorch", "onnx"}
    assert all(facts["worst"] <= 1 for facts in document["backends"].values())
    assert "export: " in exported.stderr

    for address in ENGINES:
        options = ("--device", address, "--data", "pictures.npz", *QUICK, "--out", "profile.json")
        assert document_of(call(profile, "pack", *options, "--json"))["device"]["address"] == address
        options = ("--data", "pictures.npz", "--budget", "1000ms", "--count", "4", "--adapt", "--json")
        served = document_of(call(run, "pack", "profile.json", *options))
        assert served["device"]["address"] == address
        assert len(served["answers"]) == 4

    bundled = document_of(call(export, "pack", "bundle", "--backend", "onnx", "--profile", "profile.json", "--json"))
    assert list(bundled["backends"]) == ["onnx"]
    assert bundled["blocks"] <= document["blocks"]
    again = document_of(call(run, "bundle", "profile.json", *options))
    assert again["answers"] == served["answers"]
