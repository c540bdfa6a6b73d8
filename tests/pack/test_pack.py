"""A pack gives back what was written, and whatever is wrong with one is found before anything is used."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from adaptivenet.toolkit.errors import GraphError, PackError
from adaptivenet.toolkit.pack import pack as pack_module
from adaptivenet.toolkit.pack.manifest import MANIFEST_LIMIT, parse_manifest
from adaptivenet.toolkit.pack.pack import Artifact, BlockPack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from packs import CLASSES, GRAPH, PREPROCESSING, build_pack, edit_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return build_pack(tmp_path / "tiny").path


@pytest.fixture(scope="module")
def module_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_pack(tmp_path_factory.mktemp("packs") / "tiny").path


def refusal(path: Path, verify: bool = True) -> str:
    """The one-line error with which the pack is refused."""
    with pytest.raises(PackError) as caught:
        BlockPack.open(path, verify)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def some_blob(pack: Path) -> Path:
    return sorted((pack / "blobs").iterdir())[0]


def test_a_pack_gives_back_what_was_written(pack: Path) -> None:
    opened = BlockPack.open(pack)
    assert opened.graph == GRAPH
    assert opened.graph.count() == 5
    assert (opened.name, opened.classes, opened.preprocessing) == ("tiny", CLASSES, PREPROCESSING)
    assert opened.metrics == {"top1": ("output", "label"), "agreement": ("output", "oracle")}
    assert opened.sums == {"top1": ("correct", "count"), "agreement": ("correct", "count")}
    assert opened.backends == ("onnx",)
    assert opened.manifest["provenance"]["license"] == "Apache-2.0"
    assert len(opened.digest) == 64
    artifact = opened.artifact("b0-m2", "onnx")
    assert (artifact.layout, artifact.max_abs_error, artifact.tolerance) == ("contiguous", 1e-7, 1e-4)
    assert hashlib.sha256(opened.read(artifact)).hexdigest() == artifact.sha256


def test_the_programs_in_the_pack_run_and_the_metrics_count(pack: Path) -> None:
    opened = BlockPack.open(pack)

    def run(artifact: Artifact, *operands: Any) -> Any:
        session = onnxruntime.InferenceSession(opened.read(artifact), providers=["CPUExecutionProvider"])
        return session.run(None, {port.name: x for port, x in zip(session.get_inputs(), operands, strict=True)})[0]

    picture = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    for subnet in opened.graph.paths():
        feature = picture
        for name in subnet:
            feature = run(opened.artifact(name, "onnx"), feature)
            assert feature.shape == opened.graph.cuts[opened.graph[name].end].shape
        answer = int(feature.argmax())
        top1 = opened.metric_artifact("top1", "onnx")
        np.testing.assert_array_equal(run(top1, feature, np.array([answer])), np.float32([1, 1]))
        np.testing.assert_array_equal(run(top1, feature, np.array([(answer + 1) % 5])), np.float32([0, 1]))
        agreement = opened.metric_artifact("agreement", "onnx")
        np.testing.assert_array_equal(run(agreement, feature, feature), np.float32([1, 1]))
        np.testing.assert_array_equal(run(agreement, feature, -feature), np.float32([0, 1]))


def test_what_the_pack_does_not_have_is_named(pack: Path) -> None:
    opened = BlockPack.open(pack)
    with pytest.raises(PackError, match="not exported for 'executorch', only for onnx"):
        opened.artifact("b0", "executorch")
    with pytest.raises(PackError, match="no metric 'bleu'; it has: top1, agreement"):
        opened.metric_artifact("bleu", "onnx")
    with pytest.raises(GraphError, match="no block 'b9'"):
        opened.artifact("b9", "onnx")


def test_files_that_nothing_refers_to_are_ignored(pack: Path) -> None:
    (pack / "blobs" / "notes.txt").write_text("mine")
    assert BlockPack.open(pack).name == "tiny"


def test_missing_blob(pack: Path) -> None:
    blob = some_blob(pack)
    blob.unlink()
    for verify in (True, False):
        assert f"{blob.name} is missing" in refusal(pack, verify)


def test_missing_blob_folder(pack: Path) -> None:
    shutil.rmtree(pack / "blobs")
    assert "blobs is not a folder" in refusal(pack)


def test_truncated_blob(pack: Path) -> None:
    blob = some_blob(pack)
    size = blob.stat().st_size
    os.truncate(blob, size // 2)
    for verify in (True, False):
        assert f"{blob.name} has {size // 2} bytes, the manifest says {size}" in refusal(pack, verify)


def test_flipped_byte_in_a_blob_is_found_at_open_and_at_every_read(pack: Path) -> None:
    opened = BlockPack.open(pack)
    artifact = opened.artifact("b1", "onnx")
    content = bytearray((pack / artifact.file).read_bytes())
    content[100] ^= 1
    (pack / artifact.file).write_bytes(content)
    assert f"{artifact.file} is damaged" in refusal(pack)
    for reader in (opened, BlockPack.open(pack, verify=False)):
        with pytest.raises(PackError, match=f"{artifact.file} is damaged"):
            reader.read(artifact)


def test_digest_mismatch_of_a_blob_under_a_signed_manifest(pack: Path) -> None:
    change = {"file": f"blobs/{'0' * 64}.onnx", "bytes": 7}
    (pack / change["file"]).write_bytes(b"another")
    edit_manifest(pack, lambda manifest: manifest["blocks"][0]["artifacts"]["onnx"].update(change))
    assert f"{'0' * 64}.onnx is damaged" in refusal(pack)


@pytest.mark.parametrize("target", ["inside", "outside"])
def test_symlinked_blob(pack: Path, tmp_path: Path, target: str) -> None:
    blob = some_blob(pack)
    moved = (pack / "blobs" / "moved") if target == "inside" else tmp_path / "moved"
    blob.rename(moved)
    blob.symlink_to(moved)
    assert f"{blob.name} is a symbolic link" in refusal(pack)


def test_symlinked_blob_folder_and_manifest(pack: Path, tmp_path: Path) -> None:
    (pack / "blobs").rename(tmp_path / "elsewhere")
    (pack / "blobs").symlink_to(tmp_path / "elsewhere")
    assert "blobs is not a folder" in refusal(pack)
    (pack / "manifest.json").rename(tmp_path / "manifest.json")
    (pack / "manifest.json").symlink_to(tmp_path / "manifest.json")
    assert "manifest.json is a symbolic link" in refusal(pack)


def test_pipe_in_place_of_a_blob_does_not_hang(pack: Path) -> None:
    blob = some_blob(pack)
    blob.unlink()
    os.mkfifo(blob)
    assert f"{blob.name} is not a regular file" in refusal(pack)


def test_folder_in_place_of_a_blob(pack: Path) -> None:
    blob = some_blob(pack)
    blob.unlink()
    blob.mkdir()
    assert f"{blob.name} is not a regular file" in refusal(pack)


def test_not_a_folder_and_no_manifest(tmp_path: Path) -> None:
    assert "there is nothing there" in refusal(tmp_path / "nothing")
    assert "manifest.json is missing" in refusal(tmp_path)


def test_edited_manifest(pack: Path) -> None:
    edit_manifest(pack, lambda manifest: manifest["blocks"][0].update(macs=1), sign=False)
    assert "manifest.json was edited or damaged" in refusal(pack)


FILES = [
    "../../etc/passwd",
    "blobs/../manifest.json",
    "blobs/../../outside.onnx",
    f"blobs/../blobs/{'a' * 64}.onnx",
    "/etc/passwd",
    f"/blobs/{'a' * 64}.onnx",
    f"blobs//{'a' * 64}.onnx",
    f"blobs/{'A' * 64}.onnx",
    f"blobs/{'a' * 64}.so",
    f"blobs/{'a' * 64}.onnx\n",
    f"blobs/{'a' * 64}.onnx\0",
    "",
]


@pytest.mark.parametrize("file", FILES)
def test_path_traversal_and_absolute_path_in_a_file_name(pack: Path, file: str) -> None:
    edit_manifest(pack, lambda manifest: manifest["blocks"][0]["artifacts"]["onnx"].update(file=file))
    assert repr(file) in refusal(pack)


@pytest.mark.parametrize("file", FILES)
def test_an_artifact_with_a_hostile_file_name_cannot_be_built(file: str) -> None:
    with pytest.raises(PackError, match="file name"):
        Artifact(file, 1)


@pytest.mark.parametrize("name", ["../b0", "/b0", "b0/..", "..", ".b0", "b0\n", "b\x1b[31m", "", "b" * 65, "b 0"])
def test_path_traversal_in_a_block_name_and_in_a_metric_name(pack: Path, name: str) -> None:
    edit_manifest(pack, lambda manifest: manifest["blocks"][0].update(name=name))
    assert repr(name) in refusal(pack)
    edit_manifest(pack, lambda manifest: manifest["blocks"][0].update(name="b0"))
    edit_manifest(pack, lambda manifest: manifest["metrics"].update({name: manifest["metrics"]["top1"]}))
    assert repr(name) in refusal(pack)


@pytest.mark.parametrize("version", [0, 1, 3, 2.0, True, "2", None])
def test_unknown_format_version_names_both(pack: Path, version: object) -> None:
    edit_manifest(pack, lambda manifest: manifest.update(version=version))
    assert f"is of format version {version!r}, but this program reads version 2" in refusal(pack)


def test_another_format(pack: Path) -> None:
    edit_manifest(pack, lambda manifest: manifest.update(format="cheese"))
    assert "not a block pack's manifest" in refusal(pack)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"format": "adaptivenet-pack", "version": 2, "version": 2}', "the key 'version' twice"),
        (b'{"format": "adaptivenet-pack", "provenance": {"a": "x", "a": "y"}}', "the key 'a' twice"),
        (b'{"format": "adaptivenet-pack", "loss": NaN}', "the number NaN"),
        (b'{"format": "adaptivenet-pack", "loss": -Infinity}', "the number -Infinity"),
        (b'{"format": "adaptivenet-pack", "loss": 1e999}', "the number 1e999"),
        (b'{"format": "adaptivenet-pack", "params": 9007199254740992}', "the number 9007199254740992"),
        (b'{"format": "adaptivenet-pack", "params": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
        (b'{"format": "adaptivenet-pack", "params": ' + b"9" * 400 + b"}", "whole ones below 2"),
        (b'{"format": "adaptivenet-pack", "version": 2, "name": "\\ud800"}', "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"\xff\xfe{\x00}\x00", "cannot be read as JSON"),
        (b'\xef\xbb\xbf{"format": "adaptivenet-pack"}', "cannot be read as JSON"),
        (b'{"format": "adaptivenet-pack"', "cannot be read as JSON"),
        (b"[]", "not a block pack's manifest"),
        (b"", "cannot be read as JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_json_that_two_readers_could_read_differently(pack: Path, content: bytes, reason: str) -> None:
    (pack / "manifest.json").write_bytes(content)
    assert reason in refusal(pack)


def test_huge_manifest(pack: Path) -> None:
    manifest = (pack / "manifest.json").read_bytes()
    (pack / "manifest.json").write_bytes(manifest.ljust(MANIFEST_LIMIT))
    assert BlockPack.open(pack).name == "tiny"
    os.truncate(pack / "manifest.json", 1 << 40)  # a hole: takes no room on the disk, must take none in memory
    assert f"more than {MANIFEST_LIMIT} bytes" in refusal(pack)


def export_one_block_for_another_backend(manifest: dict[str, Any]) -> None:
    manifest["blocks"][0]["artifacts"]["executorch"] = {
        **manifest["blocks"][0]["artifacts"]["onnx"],
        "file": f"blobs/{'a' * 64}.pte",
    }


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "not a chain": (lambda m: m["blocks"][0].update(kind="pruned"), "one original block from each cut"),
    "gap in the cuts": (lambda m: m["cuts"].pop(1), "cuts must be numbered"),
    "backward block": (lambda m: m["blocks"][0].update(start=1, end=0), "must go forward"),
    "block beyond the end": (lambda m: m["blocks"][1].update(end=9), "the last cut is 3"),
    "name twice": (lambda m: m["blocks"][0].update(name="b1"), "block names occur twice: b1"),
    "jump over a tap": (lambda m: m["taps"].append(1), "jumps over cut 1, which is a tap"),
    "outputs of another size": (
        lambda m: m.update(outputs=[{"name": "boxes", "shape": [1, 4]}, {"name": "scores", "shape": [1, 2]}]),
        "the outputs hold 6 numbers for one picture, but the last cut is (1, 5)",
    ),
    "one output only": (lambda m: m.update(outputs=[{"name": "boxes", "shape": [1, 5]}]), "$.outputs"),
    "artifact missing": (export_one_block_for_another_backend, "'b0-p50' has no artifact for executorch"),
    "wrong suffix": (
        lambda m: m["blocks"][0].update(artifacts={"executorch": m["blocks"][0]["artifacts"]["onnx"]}),
        "whose files end in .pte",
    ),
    "no artifacts": (lambda m: m["blocks"][0].update(artifacts={}), "$.blocks[0].artifacts"),
    "unknown backend": (lambda m: m["blocks"][0]["artifacts"].update(tvm={}), "'tvm' was unexpected"),
    "unknown field": (lambda m: m.update(extra=1), "'extra' was unexpected"),
    "missing field": (lambda m: m.pop("taps"), "'taps' is a required property"),
    "float in a shape": (lambda m: m["cuts"][0].update(shape=[1, 3, 16.0, 16]), "16.0 is not of type 'integer'"),
    "true in a shape": (lambda m: m["cuts"][0].update(shape=[True, 3, 16, 16]), "True is not of type 'integer'"),
    "unknown operand": (lambda m: m["metrics"]["top1"].update(operands=["secret"]), "'secret' is not one of"),
    "line break after a digest": (
        lambda m: m["blocks"][0]["artifacts"]["onnx"].update(made_from="0" * 64 + "\n"),
        "$.blocks[0].artifacts.onnx.made_from",
    ),
    "error over tolerance": (
        lambda m: m["blocks"][0]["artifacts"]["onnx"].update(max_abs_error=0.5, tolerance=0.1),
        "more than the tolerance of 0.1",
    ),
    "preprocessing of another size": (lambda m: m["preprocessing"].update(height=15), "but cut 0 is float32"),
    "crop larger than the picture": (lambda m: m["preprocessing"].update(resize_short=8), "resize_short is 8"),
    "escape sequence": (lambda m: m.update(name="\x1b[31m"), "$.name"),
    "escape sequence in a key": (lambda m: m["provenance"].update({"\x1b[31m\n": "x"}), "$.provenance"),
    "nested provenance": (lambda m: m["provenance"].update(a={}), "{} is not of type 'string'"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES.keys())
def test_signed_manifest_that_breaks_a_rule(
    pack: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    edit_manifest(pack, change)
    assert reason in refusal(pack)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_single_byte_change_is_found(module_pack: Path, data: st.DataObject) -> None:
    files = [module_pack / "manifest.json", *sorted((module_pack / "blobs").iterdir())]
    # Half of the changes go to the manifest, which has many more ways to be wrong.
    path = data.draw(st.sampled_from(files[:1]) | st.sampled_from(files[1:]), label="file")
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1), label="offset")
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != good[at]), label="byte")
    before = BlockPack.open(module_pack).manifest
    try:
        path.write_bytes(good[:at] + bytes([byte]) + good[at + 1 :])
        after = BlockPack.open(module_pack).manifest
    except PackError:
        return
    finally:
        path.write_bytes(good)
    assert path == files[0]
    assert json.dumps(after) == json.dumps(before)


def test_the_schema_is_one_and_the_page_describes_every_field() -> None:
    schema = json.loads((Path(pack_module.__file__).parent / "schema" / "pack.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    page = (ROOT / "docs" / "pack.md").read_text("utf-8")
    definitions = [schema, *schema["$defs"].values()]
    for field in {name for definition in definitions for name in definition.get("properties", {})}:
        assert f"`{field}`" in page, field


def test_the_example_on_the_page_is_a_manifest() -> None:
    page = (ROOT / "docs" / "pack.md").read_text("utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    manifest = parse_manifest(example.encode())
    assert BlockPack(Path("example"), manifest).graph.count() == 2
