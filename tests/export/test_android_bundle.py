"""adaptivenet-export --bundle android: what an app ships, the same bytes every time, and what does not go together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.export import bundle_for_android, bundle_pack
from adaptivenet.export.android import AI_PACK_LIMIT, AndroidBundle, assets_name, size_warnings
from adaptivenet.export.android_readme import readme
from adaptivenet.export.cli import main as export
from adaptivenet.toolkit.cli.elastify import main as elastify
from adaptivenet.toolkit.cli.profile import main as profile
from adaptivenet.toolkit.devices.phone.soc import soc_of
from adaptivenet.toolkit.errors import ExportError, PackError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.serving.model import Model
from commands import QUICK, call, document_of, error_of
from engines import ENGINES
from packs import build_pack
from reader_vectors import changed

EXECUTORCH, ONNXRUNTIME = ENGINES
Made = Callable[..., Path]


@pytest.fixture
def made_on(profiles: dict[str, Path], tmp_path: Path) -> Made:
    """A profile of the tiny pack as a phone would have made it: a file whose device has another chip and address."""

    def make(soc: str | None, file: str, address: str = "R3CN90ABCDE", engine: str = ONNXRUNTIME) -> Path:
        document = json.loads(profiles[engine].read_text())
        document["device"] |= {"soc": soc, "address": address}
        path = tmp_path / file
        path.write_text(json.dumps(document))
        return path

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def index_of(out: Path, name: str = "tiny") -> dict[str, Any]:
    return dict(json.loads((out / "assets" / name / "bundle.json").read_text()))


def test_a_bundle_has_the_cut_pack_the_profiles_by_chip_and_an_index_of_all(
    tiny_pack: BlockPack, made_on: Made, tmp_path: Path
) -> None:
    out = tmp_path / "app"
    given = ("--profile", made_on("SM8450", "a.json"), "--profile", made_on("MT6983Z/CZA", "b.json"))
    document = document_of(call(export, tiny_pack.path, out, "--bundle", "android", "--name", "tiny", *given, "--json"))
    assets = out / "assets" / "tiny"
    assert document["assets"] == str(assets)
    index = index_of(out)
    assert index["default"] == "profiles/SM8450.json"
    chips = {each["soc"]: each["file"] for each in index["profiles"]}
    assert chips == {"SM8450": "profiles/SM8450.json", "MT6983Z/CZA": "profiles/MT6983Z-CZA.json"}
    found = contents(assets)
    listed = {each["path"]: each for each in index["files"]}
    assert set(listed) == set(found) - {"bundle.json"}
    for path, each in listed.items():
        assert each["bytes"] == len(found[path])
        assert each["sha256"] == hashlib.sha256(found[path]).hexdigest()
    assert document["bytes"] == sum(map(len, found.values()))
    assert document["files"] == len(found)
    assert document["no_compress"] == ["onnx"]
    assert {path.suffix for path in (assets / "blobs").iterdir()} == {".onnx"}
    pack = BlockPack.open(assets)
    assert index["pack"] == pack.digest == document["digest"]
    for point in document["points"]:
        assert 0 < point["bytes"] < document["bytes"]
    for file in chips.values():
        shipped = Profile.load(assets / file, pack)
        assert "samples" not in shipped.document
        assert shipped.device["address"] == "adb:onnxruntime"
    assert document["warnings"] == []
    assert "R3CN90ABCDE" not in "".join(content.decode("latin-1") for content in contents(out).values())


def test_a_bundle_of_several_inputs_says_how_they_are_written(tmp_path: Path) -> None:
    row = [{"name": "ids", "shape": [1, 4], "dtype": "int64"}, {"name": "of $1", "shape": [1], "dtype": "bool"}]
    changes = [[["inputs"], row], [["preprocessing"], None], [["cuts", 0, "shape"], [1, 5]]]
    pack = BlockPack(tmp_path, changed(changes))
    said = readme(AndroidBundle(tmp_path, "texts", pack, "onnx", (), 1000, ()))
    assert "val input = model.createInputRow()\n" in said
    assert 'input.write("ids", values0)  // LongArray(4), int64 (1, 4)\n' in said
    assert 'input.write("of \\$1", values1)  // BooleanArray(1), bool (1,)\n' in said


def test_two_runs_write_the_same_bytes_and_overwrite_replaces(
    tiny_pack: BlockPack, made_on: Made, tmp_path: Path
) -> None:
    given = ("--bundle", "android", "--profile", made_on("SM8450", "a.json"), "--profile", made_on("gs201", "b.json"))
    for out in ("one", "two"):
        said = call(export, tiny_pack.path, tmp_path / out, *given)
        assert said.exit_code == 0, said.output
        assert "SM8450" in said.stdout
        assert "not to be compressed: .onnx" in said.stdout
    first = contents(tmp_path / "one")
    assert first == contents(tmp_path / "two")
    assert "exists already" in error_of(call(export, tiny_pack.path, tmp_path / "one", *given))
    assert call(export, tiny_pack.path, tmp_path / "one", *given[:4], "--overwrite").exit_code == 0
    assert len(contents(tmp_path / "one")) < len(first)
    (tmp_path / "one" / "mine.txt").write_text("mine")
    assert "is not a bundle for Android" in error_of(
        call(export, tiny_pack.path, tmp_path / "one", *given, "--overwrite")
    )
    assert (tmp_path / "one" / "mine.txt").exists()


def test_what_an_app_ships_serves_here_as_well(
    tiny_pack: BlockPack, profiles: dict[str, Path], pictures: Any, tmp_path: Path
) -> None:
    bundle = bundle_for_android(tiny_pack, tmp_path / "app", [profiles[EXECUTORCH]])
    assert bundle.backend == "executorch"
    assert bundle.no_compress == ("pte",)
    (warning,) = bundle.warnings
    assert warning.startswith("no profile says that it is of a phone")
    assert warning in (tmp_path / "app" / "README.md").read_text(encoding="utf-8")
    assert index_of(tmp_path / "app", bundle.name)["profiles"][0]["soc"] is None
    with (
        Model.open(bundle.assets, bundle.assets / "profiles" / "default.json", "1000ms") as shipped,
        Model.open(tiny_pack.path, profiles[EXECUTORCH], "1000ms") as original,
    ):
        assert shipped.status().subnet == original.status().subnet
        assert (shipped.infer(pictures[:1]) == original.infer(pictures[:1])).all()
    served = Profile.load(profiles[EXECUTORCH], tiny_pack).front.rising
    assert [point.point.subnet for point in bundle.points] == [point.subnet for point in served]


def test_the_profile_of_a_computer_is_the_default_wherever_it_is_given(
    tiny_pack: BlockPack, made_on: Made, profiles: dict[str, Path], tmp_path: Path
) -> None:
    phone, here = made_on("SM8450", "a.json"), profiles[ONNXRUNTIME]
    for at, given in enumerate(([phone, here], [here, phone])):
        bundle = bundle_for_android(tiny_pack, tmp_path / str(at), given, name="tiny")
        assert index_of(bundle.path)["default"] == "profiles/default.json"
        assert [each["soc"] for each in index_of(bundle.path)["profiles"]] == [None, "SM8450"]
    assert contents(tmp_path / "0") == contents(tmp_path / "1")


def test_a_bundle_of_a_bundle_takes_the_profiles_of_the_pack(
    tiny_pack: BlockPack, made_on: Made, tmp_path: Path
) -> None:
    small = bundle_pack(tiny_pack, tmp_path / "small", backend="onnx")
    bundle = bundle_for_android(small, tmp_path / "app", [made_on("SM8450", "a.json")])
    assert Profile.load(bundle.assets / "profiles" / "SM8450.json", BlockPack.open(bundle.assets))


def test_what_does_not_go_together(
    tiny_pack: BlockPack, made_on: Made, profiles: dict[str, Path], tmp_path: Path
) -> None:
    one, other = made_on("SM8450", "a.json"), made_on("sm8450", "b.json")
    nowhere, unknown = made_on(None, "c.json"), made_on(None, "d.json")
    executorch = made_on("gs201", "e.json", engine=EXECUTORCH)
    (tmp_path / "broken.json").write_text("{")
    strange = build_pack(tmp_path / "other").path
    out = tmp_path / "app"
    cases: list[tuple[tuple[object, ...], str]] = [
        (
            (tiny_pack.path, out),
            "needs a profile, from which the app knows what to run: make one with adaptivenet-profile",
        ),
        (
            (tiny_pack.path, out, "--profile", one, "--profile", other),
            f"{one} and {other} are both profiles of the SoC",
        ),
        ((tiny_pack.path, out, "--profile", nowhere, "--profile", unknown), "do not say of which SoC they are"),
        ((tiny_pack.path, out, "--profile", one, "--profile", executorch), "a bundle is for one engine"),
        ((tiny_pack.path, out, "--profile", one, "--backend", "executorch"), "--backend executorch does not go with"),
        ((tiny_pack.path, out, "--profile", tmp_path / "broken.json"), "broken.json cannot be read as JSON"),
        ((tiny_pack.path, out, "--profile", tmp_path / "none.json"), "none.json cannot be read"),
        ((strange, out, "--profile", one), "was made for another pack"),
        ((tiny_pack.path, out, "--profile", one, "--name", "_hidden"), "'_hidden' cannot be the name of a folder of"),
        ((tiny_pack.path, out, "--profile", one, "--name", "a/b"), "'a/b' cannot be the name"),
        ((tiny_pack.path, out, "--profile", one, "--jobs", "2"), "--jobs is for exporting a supernet"),
        ((tiny_pack.path, one / "app", "--profile", one), "cannot be written"),
        ((tmp_path / "nothing", out, "--profile", one), "is no supernet"),
    ]
    for arguments, message in cases:
        for dry in ((), ("--dry-run",)):
            assert message in error_of(call(export, *arguments, "--bundle", "android", *dry))
            assert not out.exists()
    assert "Invalid value for '--bundle'" in call(export, tiny_pack.path, out, "--bundle", "ios").stderr
    dry_run = call(export, tiny_pack.path, out, "--bundle", "android", "--profile", one, "--dry-run")
    assert dry_run.stdout == f"would write a bundle for Android to {out}: SM8450 by {one}\n"
    assert not out.exists()


def test_a_supernet_is_exported_as_the_profiled_pack_was(workplace: Path) -> None:
    arguments = ("flower_model:build", "--classes", "classes.txt", "--size", 16, "--out", "supernet")
    assert call(elastify, *arguments).exit_code == 0
    assert call(export, "supernet", "pack", "--backend", "onnx").exit_code == 0
    measured = ("--device", ONNXRUNTIME, "--data", "pictures.npz", *QUICK, "--out", "profile.json")
    assert call(profile, "pack", *measured).exit_code == 0
    given = ("supernet", "app", "--bundle", "android", "--profile", "profile.json", "--reuse", "pack")
    assert "bundle that pack itself" in error_of(call(export, *given, "--backend", "onnx", "--metric", "top1"))
    assert not Path("app").exists()
    document = document_of(call(export, *given, "--backend", "onnx", "--name", "flowers", "--json"))
    assert document["bundled_from"]["digest"] == BlockPack.open("pack").digest
    of_the_pack = ("--bundle", "android", "--profile", "profile.json", "--name", "flowers")
    assert call(export, "pack", "other", *of_the_pack).exit_code == 0
    assert contents(Path("app")) == contents(Path("other"))


def test_names_of_assets_are_made_of_those_of_packs() -> None:
    assert assets_name("timm:efficientnet_lite0.ra_in1k", given=False) == "timm-efficientnet-lite0.ra-in1k"
    with pytest.raises(ExportError, match="give one with --name"):
        assets_name("模型", given=False)


def test_a_bundle_that_google_play_does_not_take_is_named() -> None:
    assert size_warnings(AI_PACK_LIMIT) == ()
    (warning,) = size_warnings(1_620_000_000)
    assert warning.startswith("the bundle has 1.62 GB, more than the 1.5 GB that Google Play takes as one AI pack")


def test_nothing_is_left_where_a_program_of_the_pack_is_damaged(
    tiny_pack: BlockPack, made_on: Made, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(tiny_pack.path, tmp_path / "copy")
    pack = BlockPack.open(tmp_path / "copy")
    (pack.path / pack.artifact("b0", "onnx").file).write_bytes(b"x")
    with pytest.raises(PackError):
        bundle_for_android(pack, tmp_path / "app", [made_on("SM8450", "a.json")])
    assert not [path for path in tmp_path.iterdir() if "app" in path.name]


@pytest.mark.parametrize(
    ("properties", "soc"),
    [
        (("SM8450", "qcom", "taro"), "SM8450"),
        (("", "qcom", "sdm845"), "sdm845"),
        (("unknown", "mt6785", "k85v1_64"), "mt6785"),
        (("", "", ""), None),
        ((), None),
    ],
)
def test_a_chip_is_called_as_an_app_would_call_it(properties: tuple[str, ...], soc: str | None) -> None:
    assert soc_of(properties) == soc
