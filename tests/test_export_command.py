"""adaptivenet-export: it refuses what is there before the long part, and bad input in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from adaptivenet.export.cli import main as export
from adaptivenet.toolkit.pack import BlockPack
from commands import call, document_of, error_of
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
        (("nothing", "pack", "--profile", "profile.json"), "--profile is for bundling one"),
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
