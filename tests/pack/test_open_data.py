"""`pack.open_data`: the pack's own preprocessing, classes and outputs, and metrics that say what labels lack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adaptivenet.toolkit.errors import DataError, PackError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.verify import choose_metric
from packs import PREPROCESSING, build_pack, edit_manifest
from PIL import Image


def image_folder(root: Path, *names: str) -> Path:
    for at, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (30, 20), (40 * at, 9, 9)).save(root / name / "a.png")
    return root


def test_pictures_are_prepared_and_labelled_for_the_pack(tmp_path: Path) -> None:
    pack = build_pack(tmp_path / "pack")
    assert pack.scores == (1, 5)
    data = pack.open_data(image_folder(tmp_path / "pictures", "Rose", "tulip"))
    assert data.labels is not None
    assert data.labels.tolist() == [2, 3]
    with Image.open(tmp_path / "pictures" / "tulip" / "a.png") as picture:
        np.testing.assert_array_equal(data.image(1), PREPROCESSING.apply(picture))
    with pytest.raises(DataError, match="cat is not a class of this network"):
        pack.open_data(image_folder(tmp_path / "others", "cat", "rose"))


def test_folders_for_a_pack_without_class_names_have_no_labels_and_say_why(tmp_path: Path) -> None:
    build_pack(tmp_path / "pack")
    edit_manifest(tmp_path / "pack", lambda manifest: manifest.update(classes=None))
    pack = BlockPack.open(tmp_path / "pack")
    data = pack.open_data(image_folder(tmp_path / "pictures", "cat", "dog"))
    assert choose_metric(pack, data, None) == "agreement"
    with pytest.raises(DataError, match=r"'top1' needs labels, and pictures has none .*2 class folders.*--classes"):
        choose_metric(pack, data, "top1")


def test_a_manifest_whose_preprocessing_makes_no_sense_is_a_damaged_pack(tmp_path: Path) -> None:
    build_pack(tmp_path / "pack")
    edit_manifest(tmp_path / "pack", lambda manifest: manifest["preprocessing"].update(resize_short=8))
    with pytest.raises(PackError, match=r"manifest\.json: preprocessing: resize_short is 8"):
        BlockPack.open(tmp_path / "pack")
