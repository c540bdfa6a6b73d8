"""Profiles as files: they come back as they were, fit their pack and no other, and damaged ones are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.export import bundle_pack
from adaptivenet.toolkit.errors import ProfileError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from packs import build_pack, edit_manifest

HOSTILE = ("NaN", "-Infinity", "1e400", "9" * 400, "9007199254740992", "-1e309")


@pytest.fixture(scope="module")
def document(made: dict[str, Profile]) -> dict[str, Any]:
    text = json.dumps(made["local:onnxruntime"].to_json())
    return dict(json.loads(text))


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_a_profile_comes_back_as_it_was(profiled: Profile, tiny_pack: BlockPack, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profiled.save(path)
    back = Profile.load(path, tiny_pack)
    assert back == profiled
    assert back.choices == profiled.choices
    assert [choice.budget for choice in back.choices] == ["1000ms", "10000%"]
    alone = Profile.load(path)
    assert alone == profiled, "without its pack"
    assert alone.graph.count() == tiny_pack.graph.count()
    assert all(point.subnet.graph is alone.graph for point in alone.front.points)
    back.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_a_profile_of_another_pack_is_refused(profiled: Profile, tmp_path: Path) -> None:
    profiled.save(tmp_path / "profile.json")
    other = build_pack(tmp_path / "other")
    with pytest.raises(ProfileError, match=r"made for another pack .* profile this one"):
        Profile.load(tmp_path / "profile.json", other)


def test_a_profile_fits_the_bundle_that_was_made_by_it(
    made: dict[str, Profile], tiny_pack: BlockPack, tmp_path: Path
) -> None:
    known = made["local:onnxruntime"]
    known.save(tmp_path / "profile.json")
    subnets = [point.subnet for point in known.front.points]
    bundle = bundle_pack(tiny_pack, tmp_path / "bundle", backend="onnx", subnets=subnets)
    back = Profile.load(tmp_path / "profile.json", bundle)
    assert [tuple(point.subnet) for point in back.front.points] == [tuple(subnet) for subnet in subnets]
    assert all(point.subnet.graph == bundle.graph for point in back.front.points)


def test_a_profile_without_a_digest_fits_no_pack(document: dict[str, Any], tmp_path: Path) -> None:
    other = build_pack(tmp_path / "other")
    for digest in (None, "", 7):
        path = write(tmp_path / "profile.json", {**document, "pack": {"name": "tiny", "digest": digest}})
        with pytest.raises(ProfileError, match=r"is damaged: \$\.pack\.digest"):
            Profile.load(path, other)


def change(*path: Any, value: Any) -> Callable[[Any], Any]:
    def apply(document: Any) -> Any:
        at = document
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        return document

    return apply


def without(*path: Any) -> Callable[[Any], Any]:
    def apply(document: Any) -> Any:
        at = document
        for step in path[:-1]:
            at = at[step]
        del at[path[-1]]
        return document

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: [document],
        lambda document: None,
        change("format", value="adaptivenet-pack"),
        change("version", value=1),
        change("pack", value="tiny"),
        without("pack"),
        without("blocks"),
        without("blocks", 0),
        without("blocks", 0, "median_ms"),
        change("blocks", value=[["b0"]]),
        change("blocks", 0, value=None),
        change("blocks", 0, "name", value=["b0"]),
        change("blocks", 0, "median_ms", value=-1),
        change("blocks", 0, "median_ms", value="1"),
        change("blocks", 0, "median_ms", value=float("nan")),
        change("blocks", 0, "repetitions", value=1.5),
        change("samples", "measure", value=1e300),
        without("samples", "measure", "anchor_ms"),
        change("samples", "measure", "anchor_ms", value=[]),
        change("samples", "measure", "ms", 0, value=None),
        change("samples", "measure", "ms", 0, 0, value="x"),
        change("samples", "measure", "chains", 0, value=-1),
        change("samples", "measure", "chains", 0, 0, value={}),
        without("samples", "measure", "chains", 0),
        without("device"),
        without("device", "threads"),
        change("device", "threads", value="one"),
        change("device", "threads", value=0),
        change("device", "address", value=None),
        change("device", value=[1]),
        without("oracle_latency"),
        change("oracle_latency", "median_ms", value=0),
        change("front", value=[]),
        change("front", value={}),
        change("front", 0, "subnet", value=["b0"]),
        change("front", 0, "subnet", value=["b0", "nothing", "b2"]),
        change("front", 0, "measured_ms", value=float("inf")),
        change("front", 0, "measured_ms", value=0),
        change("front", 0, "quality", "high", value=2),
        change("front", 0, "quality", value=0.5),
        without("front", 0, "also"),
        change("front", 0, "resident_mb", value=-1),
        change("front", 0, "resident_mb", value="3 MB"),
        change("front", 0, "resident_mb", value=True),
        change("front", 0, "energy_mj", value=3.5),
        change("front", 0, "energy_repetitions", value=3),
        without("budgets"),
        without("budgets", 0, "page_in"),
        change("budgets", 0, "page_in", "loaded", value="b0"),
        change("budgets", 0, "subnet", value=["b0"]),
        change("budgets", 0, "predicted_ms", value=123.0),
        change("budgets", 0, "budget", value=7),
        change("seconds", value={}),
        change("seconds", "measure", value="long"),
        change("seconds", "measure", value=1e300),
        change("conditions", "measure", value="hot"),
        change("drift", value=0),
        change("settings", "tolerance", value="1%"),
        change("budgets", 0, "tolerance", value=None),
        change("verify", "images", value=0),
        change("search", "metric", value=None),
        change("samples", value=[1]),
        without("search"),
        change("blocks", 0, "end", value=5000),
    ],
)
def test_a_damaged_profile_is_refused(
    damage: Callable[[Any], Any], document: dict[str, Any], tiny_pack: BlockPack, tmp_path: Path
) -> None:
    intact = write(tmp_path / "profile.json", document)
    Profile.load(intact, tiny_pack)
    path = write(tmp_path / "profile.json", damage(json.loads(json.dumps(document))))
    for pack in (tiny_pack, None):
        with pytest.raises(ProfileError, match=r"profile\.json") as caught:
            Profile.load(path, pack)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "number"),
    [
        *(("anchor_ms", number) for number in HOSTILE),
        *(
            (where, number)
            for where in ("median_ms", "repetitions", "measured_ms", "n", "budget_ms", "measure")
            for number in (*HOSTILE, "-0.5", "true")
        ),
    ],
)
def test_hostile_numbers_are_refused(where: str, number: str, document: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(document)
    before, _, after = text.partition(f'"{where}": ')
    rest = re.sub(r"^(\[)?[^,}\]]+", lambda found: (found[1] or "") + number, after, count=1)
    (tmp_path / "profile.json").write_text(f'{before}"{where}": {rest}')
    with pytest.raises(ProfileError, match=r"profile\.json (is damaged|cannot be read as JSON)"):
        Profile.load(tmp_path / "profile.json")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[" * 70 + b"]" * 70, b"null", b'{"format": NaN}']
)
def test_what_is_no_json_is_refused(data: bytes, tiny_pack: BlockPack, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(data)
    with pytest.raises(ProfileError, match=r"profile\.json"):
        Profile.load(path, tiny_pack)


def test_a_profile_that_is_not_there(tiny_pack: BlockPack, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.json", tmp_path):
        with pytest.raises(ProfileError, match="cannot be read"):
            Profile.load(path, tiny_pack)


def test_a_profile_that_cannot_be_written_leaves_nothing(profiled: Profile, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"cannot be written to .*No such file"):
        profiled.save(tmp_path / "nowhere" / "profile.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProfileError, match="cannot be written"):
        profiled.save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_pack_that_claims_to_be_a_bundle_of_itself_is_no_way_in(document: dict[str, Any], tmp_path: Path) -> None:
    # The blocks are looked at all the same: every one needs its latency, every subnet its blocks.
    claims = build_pack(tmp_path / "claims")
    digest = document["pack"]["digest"]
    edit_manifest(claims.path, lambda manifest: manifest["provenance"].update({"bundled from": digest}))
    fewer = {**document, "blocks": document["blocks"][1:]}
    Profile.load(write(tmp_path / "profile.json", document), BlockPack.open(claims.path))
    with pytest.raises(ProfileError, match="no latency for 1 of 6 blocks"):
        Profile.load(write(tmp_path / "profile.json", fewer), BlockPack.open(claims.path))
