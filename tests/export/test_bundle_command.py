"""adaptivenet-export of a pack: the bundle's size beside the original's, and for whose fronts it was cut."""

from __future__ import annotations

import json
import re
from pathlib import Path

from adaptivenet.export.cli import main as export
from adaptivenet.toolkit.pack.pack import BlockPack
from commands import call, document_of
from engines import ENGINES


def blobs(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "blobs").iterdir())


def test_a_bundle_says_its_size_and_for_whom_it_was_cut(
    tiny_pack: BlockPack, profiles: dict[str, Path], tmp_path: Path
) -> None:
    known = {address: json.loads(path.read_text()) for address, path in profiles.items()}
    devices = [
        f"{known[each]['device']['name']}, {known[each]['device']['engine']} "
        f"{known[each]['device']['engine_version']}, 1 thread"
        for each in ENGINES
    ]
    options = [word for each in ENGINES for word in ("--profile", profiles[each])]
    arguments = (tiny_pack.path, tmp_path / "bundle", "--backend", "onnx", *options)
    planned = document_of(call(export, *arguments, "--dry-run", "--json"))
    document = document_of(call(export, *arguments, "--json"))
    for each in (planned, document):
        assert each["fronts"] == devices
        assert each["bundled_from"]["bytes"] == blobs(tiny_pack.path)
        assert each["bundled_from"]["digest"] == tiny_pack.digest
    assert document["bytes"] == blobs(tmp_path / "bundle") < blobs(tiny_pack.path)
    assert BlockPack.open(tmp_path / "bundle").manifest["provenance"]["bundled for"] == "; ".join(devices)
    said = call(export, *arguments, "--overwrite").stdout.splitlines()[-1]
    share = document["bytes"] / blobs(tiny_pack.path)
    assert re.fullmatch(
        rf"\d\.\d\d MB, {share:.0%} of the \d\.\d\d MB of .*; with the blocks of the fronts of .*", said
    )
    assert said.endswith("; ".join(devices))


def test_a_bundle_of_everything_was_cut_for_nobody(tiny_pack: BlockPack, tmp_path: Path) -> None:
    result = call(export, tiny_pack.path, tmp_path / "bundle", "--backend", "onnx")
    assert result.stdout.endswith("; with all blocks: no --profile was given\n")
    assert "bundled for" not in BlockPack.open(tmp_path / "bundle").manifest["provenance"]
