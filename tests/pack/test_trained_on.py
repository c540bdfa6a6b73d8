"""What a pack remembers of the pictures that it was trained on: exactly, a sample of very many, and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from adaptivenet.export import bundle_pack
from adaptivenet.toolkit.errors import PackError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.pack.trained_on import BYTES, LIMIT, TrainedOn
from hypothesis import given
from hypothesis import strategies as st
from packs import build_pack, edit_manifest


def digests(first: int, last: int) -> list[bytes]:
    return [hashlib.sha256(str(number).encode()).digest() for number in range(first, last)]


@given(st.sets(st.integers(0, 99)), st.sets(st.integers(0, 99)), st.sets(st.integers(0, 99)))
def test_pictures_are_remembered_exactly_and_through_text(one: set[int], two: set[int], asked: set[int]) -> None:
    every = digests(0, 100)
    known = TrainedOn().with_pictures(every[at] for at in one).with_pictures(every[at] for at in two)
    assert known.is_complete
    assert known.among(every[at] for at in asked) == len((one | two) & asked)
    assert TrainedOn.from_text(known.to_text()) == known
    assert len(known.to_text()) == 8 * len(one | two)


def test_of_very_many_pictures_a_sample_is_kept_that_estimates() -> None:
    known = TrainedOn().with_pictures(digests(0, 4 * LIMIT))
    assert not known.is_complete
    assert len(known.to_text()) == 8 * LIMIT == 128 << 10
    half = digests(4 * LIMIT - 2000, 4 * LIMIT + 2000)
    # About 1000 of the 4000 are in the sample's range: a standard deviation of 63.
    assert 2000 - 4 * 63 < known.among(half) < 2000 + 4 * 63
    assert known.among(digests(4 * LIMIT, 5 * LIMIT)) == 0
    assert known == TrainedOn().with_pictures(digests(LIMIT, 4 * LIMIT)).with_pictures(digests(0, LIMIT))


@pytest.mark.parametrize("text", ["AAAA", "AAAAAAA=", "?AAAAAAA", "AAAAAAAA\n", "A" * 8 * (LIMIT + 1), 3, None])
def test_damaged_digests_are_refused(text: object) -> None:
    with pytest.raises(PackError, match="trained_on"):
        TrainedOn.from_text(text)
    assert BYTES == 6


def test_a_pack_and_its_bundle_remember(tmp_path: Path) -> None:
    assert build_pack(tmp_path / "pack").trained_on is None
    known = TrainedOn().with_pictures(digests(0, 5))
    edit_manifest(tmp_path / "pack", lambda manifest: manifest.update(trained_on=known.to_text()))
    pack = BlockPack.open(tmp_path / "pack")
    assert pack.trained_on == known
    assert bundle_pack(pack, tmp_path / "bundle", backend="onnx").trained_on == known
    edit_manifest(tmp_path / "pack", lambda manifest: manifest.update(trained_on="AAAA"))
    with pytest.raises(PackError, match="trained_on"):
        BlockPack.open(tmp_path / "pack")
