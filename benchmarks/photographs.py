"""Crops of the photographs that scikit-image and scikit-learn ship: real images on every machine, without a download.

Every photograph is divided once: crops for training come from its left half, those to search on from the upper right
quarter, those to verify on from the lower right one. No pixel is in two of the three.
"""

from __future__ import annotations

import random
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

_SKIMAGE = (
    *("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "camera.png", "coins.png"),
    *("hubble_deep_field.jpg", "retina.jpg", "ihc.png", "brick.png", "grass.png", "gravel.png", "clock_motion.png"),
)
_SKLEARN = ("china.jpg", "flower.jpg")
PARTS = {"train": (0.0, 0.0, 0.5, 1.0), "search": (0.5, 0.0, 1.0, 0.5), "verify": (0.5, 0.5, 1.0, 1.0)}


def photographs() -> list[Path]:
    """The files of the photographs."""
    folders = [(files("skimage") / "data", _SKIMAGE), (files("sklearn") / "datasets" / "images", _SKLEARN)]
    return [Path(str(folder / name)) for folder, names in folders for name in names]


def crops(part: str, count: int, size: int, seed: int = 0) -> np.ndarray:
    """`count` square crops of one part of the photographs, uint8 of shape (count, size, size, 3).

    Position and extent (30 to 100% of the part's shorter side) are random, and every second crop is mirrored. The
    photographs take turns.
    """
    left, top, right, bottom = PARTS[part]
    regions = []
    for path in photographs():
        with Image.open(path) as image:
            width, height = image.size
            box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
            regions.append(image.convert("RGB").crop(box))
    rng = random.Random(f"{seed}/{part}")
    result = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        region = regions[index % len(regions)]
        side = round(min(region.size) * rng.uniform(0.3, 1.0))
        x, y = rng.randint(0, region.width - side), rng.randint(0, region.height - side)
        crop = region.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
        result[index] = np.asarray(crop)[:, :: -1 if rng.random() < 0.5 else 1]
    return result
