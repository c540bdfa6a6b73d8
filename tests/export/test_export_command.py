"""adaptivenet-export: it refuses what is there before the long part, and bad input in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from adaptivenet.export import bundle_pack
from adaptivenet.export.cli import main as export
from adaptivenet.toolkit.cli.elastify import main as elastify
from adaptivenet.toolkit.pack.pack import BlockPack
from commands import call, document_of, error_of, in_process
from engines import ENGINES
from packs import build_pack


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_export_refuses_what_is_there_before_the_long_part(dry: Sequence[str], workplace: Path) -> None:
    (workplace / "pack").mkdir()
    result = call(export, "supernet", "pack", *dry)
    assert "pack exists already; remove it, choose another name" in error_of(result)
    assert result.stderr.count("\n") == 1


def test_bad_input_of_export(workplace: Path, tiny_pack: BlockPack, profiles: dict[str, Path]) -> None:
    cases: list[tuple[tuple[object, ...], str]] = [
        (("nothing", "pack"), "nothing is no supernet"),
        (("nothing", "pack", "--profile", "profile.json"), "nothing is no supernet"),
        ((tiny_pack.path, "pack", "--backend", "onnx", "--backend", "executorch"), "a bundle holds one backend"),
        ((tiny_pack.path, "pack", "--jobs", "2", "--name", "x"), "--name, --jobs is for exporting a supernet"),
        ((tiny_pack.path, "pack", "--profile", "nothing.json"), "nothing.json cannot be read"),
        ((build_pack(workplace / "other").path, "pack", "--profile", profiles[ENGINES[0]]), "made for another pack"),
        ((workplace / "other", "pack", "--backend", "executorch"), "has no programs for 'executorch'"),
    ]
    for arguments, message in cases:
        assert message in error_of(call(export, *arguments))
        assert not (workplace / "pack").exists()
    dry = document_of(call(export, tiny_pack.path, "pack", "--dry-run", "--json", "--profile", profiles[ENGINES[0]]))
    assert dry["dry_run"] is True
    assert 3 <= dry["blocks"] <= 6


@pytest.fixture
def untrained(workplace: Path) -> Path:
    """A supernet of five classes, in the current folder."""
    result = call(elastify, "flower_model:build", "--out", "supernet", "--size", "32", "--merge", "2", "--prune", "0.5")
    assert result.exit_code == 0, result.stderr
    return workplace


def test_what_an_export_cannot_do_is_refused_before_it(untrained: Path, broken: BlockPack) -> None:
    (untrained / "file").touch()
    (untrained / "four.txt").write_text("daisy\npoppy\nrose\ntulip\n")
    (untrained / "control.txt").write_text("daisy\npoppy\nrose\ntulip\nvio\x07let\n")
    build_pack(untrained / "onnx only")
    cases: list[tuple[tuple[object, ...], str]] = [
        (("file/pack",), "pack file/pack cannot be written: Not a directory"),
        (("x" * 256,), "cannot be written: File name too long"),
        (("pack", "--name", ""), "$.name: '' "),
        (("pack", "--name", "a\nb"), "$.name: "),
        (("pack", "--name", "a" * 201), "is too long"),
        (("pack", "--classes", "nothing.txt"), "class names in nothing.txt cannot be read"),
        (("pack", "--classes", "four.txt"), "four.txt has 4 class names and the network gives 5 scores"),
        (("pack", "--classes", "control.txt"), "$.classes"),
        (("pack", "--jobs", "0"), "cannot export with 0 jobs"),
        (("pack", "--reuse", "nothing"), "no programs can be taken over from nothing: "),
        (
            ("onnx only", "--overwrite", "--backend", "executorch"),
            "onnx only has programs for onnx too, which would be",
        ),
    ]
    before = sorted(path.name for path in untrained.iterdir())
    for arguments, message in cases:
        for dry in ((), ("--dry-run",)):
            result = call(export, "supernet", *arguments, *dry)
            assert message in error_of(result)
            assert result.stderr.count("\n") == 1, "it began to work before it looked"
    assert sorted(path.name for path in untrained.iterdir()) == before


def test_a_bundle_drops_no_backend_and_not_its_own_pack(
    broken: BlockPack, tiny_pack: BlockPack, tmp_path: Path
) -> None:
    bundle = bundle_pack(tiny_pack, tmp_path / "bundle", backend="executorch")
    for pack, path, message in (
        (broken, bundle.path, "has programs for executorch too, which would be lost"),
        (broken, broken.path, "cannot be replaced by a bundle of itself"),
    ):
        said = error_of(call(export, pack.path, path, "--backend", "onnx", "--overwrite"))
        assert message in said
        assert BlockPack.open(path).digest == (bundle if path == bundle.path else broken).digest


@pytest.mark.parametrize("command", ["elastify", "export", "profile", "run"])
def test_help_imports_nothing_that_is_slow(command: str) -> None:
    module = "adaptivenet.export.cli" if command == "export" else f"adaptivenet.toolkit.cli.{command}"
    slow = ("torch", "torchvision", "timm", "executorch", "onnx", "onnxruntime", "onnxscript", "matplotlib")
    done = in_process(module, "--help", without=slow)
    assert done.returncode == 0, done.stderr
    assert "Usage: command" in done.stdout


def test_what_the_package_names_is_there_whatever_was_imported_before() -> None:
    program = (
        "import adaptivenet.export.exporting, adaptivenet.export.bundle, adaptivenet.export as export\n"
        "print([getattr(export, name).__name__ for name in export.__all__])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['bundle_for_android', 'bundle_pack', 'export_pack', 'metric']\n"


def test_a_supernet_is_not_fused_for_the_profile_of_another_pack(untrained: Path, profiles: dict[str, Path]) -> None:
    for more in ((), ("--dry-run",)):
        said = error_of(call(export, "supernet", "pack", "--profile", profiles[ENGINES[0]], *more))
        assert f"{profiles[ENGINES[0]]} is a profile of another pack: " in said
    assert "cannot be read" in error_of(call(export, "supernet", "pack", "--profile", "nothing.json", "--dry-run"))
    assert not (untrained / "pack").exists()


def test_int8_and_other_networks_from_the_command_line(untrained: Path) -> None:
    cases = [
        (("--int8",), "--int8 and --calibrate go together"),
        (("--calibrate", "pictures.npz"), "--int8 and --calibrate go together"),
        (("--also", "small"), "--also small: write NAME=MODEL[:WEIGHTS]"),
        (("--also", "small=flower_model"), "write NAME=MODEL[:WEIGHTS]"),
    ]
    for arguments, message in cases:
        result = call(export, "supernet", "pack", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
    for arguments, message in (
        (("--int8", "--calibrate", "nothing.npz"), "nothing.npz"),
        (("--also", "small=flower_model:nothing"), "has no 'nothing'"),
        (("--also", "small=flower_model:build:nothing.pth"), "nothing.pth"),
    ):
        assert message in error_of(call(export, "supernet", "pack", *arguments))
    assert not (untrained / "pack").exists()
    np.savez("pictures.npz", images=np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))
    more = ("--int8", "--calibrate", "pictures.npz", "--also", "small=flower_model:build", "--resolution", "")
    more = (*more, "--backend", "onnx")
    document = document_of(call(export, "supernet", "pack", *more, "--json"))
    pack = BlockPack.open("pack")
    assert document["blocks"] == len(pack.graph.blocks)
    assert pack.graph.networks == (("small",), ("small-int8",), ("whole",), ("whole-int8",))
