"""The demo's pictures: of a folder of one's own, too, each part sees other ones, and training the same ones smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.demo import CALIBRATED_ON, SIZE, TRAINING_SIZE, image_folder


def test_a_folder_is_divided(tmp_path: Path) -> None:
    (tmp_path / "n01440764").mkdir()
    for number in range(20):
        Image.new("RGB", (32, 32), (12 * number, 0, 0)).save(tmp_path / "n01440764" / f"{number}.png")
    made = image_folder(tmp_path)
    parts = {"train": (10, TRAINING_SIZE), "search": (3, SIZE), "verify": (7, SIZE)}
    seen = {}
    for name, (count, side) in parts.items():
        images = [getattr(made, name).image(index) for index in range(len(getattr(made, name)))]
        assert [image.shape for image in images] == [(1, 3, side, side)] * count
        seen[name] = {round(float(image[0, 0].mean()), 3) for image in images}
    assert len(set().union(*seen.values())) == 20, "each has a colour of its own"
    calibrated = [made.calibrate.image(index) for index in range(len(made.calibrate))]
    assert len(calibrated) == min(CALIBRATED_ON, 10)
    assert {image.shape for image in calibrated} == {(1, 3, SIZE, SIZE)}
    assert {round(float(np.mean(image[0, 0])), 3) for image in calibrated} == seen["train"]
