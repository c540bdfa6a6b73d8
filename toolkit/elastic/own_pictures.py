"""How a model wants its pictures: what timm and torchvision state for the weights, and ImageNet's custom elsewhere."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from torch import nn

from ..data.preprocessing import Preprocessing
from ..documents import parse_json
from ..errors import ModelError
from .models import with_torchvision

IMAGENET = Preprocessing(224, 224, 256, "center", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def find_preprocessing(
    choice: str, name: str, model: nn.Module, weights: str | None = None, size: int | None = None
) -> Preprocessing:
    """The preprocessing that `choice` stands for: `auto`, `imagenet`, or a json file as in docs/pack.md.

    `auto` is the model's own: timm states it with every model; torchvision with its weights, that is for `pretrained`
    ones and for a file that has the name under which torchvision publishes it. Elsewhere it is ImageNet's. Nothing is
    downloaded. `size` is the side of the input; without it, it is the stated one. Another size keeps the share of the
    picture that is cut out; a file is as it is. Raises ModelError for one that is no such recipe, or of another size.
    """
    if choice not in ("auto", "imagenet"):
        return _read(choice, size)
    own = None if choice == "imagenet" else _timms(model) or _torchvisions(name, weights)
    return _resized(own or IMAGENET, size)


def _timms(model: nn.Module) -> Preprocessing | None:
    config: Any = getattr(model, "pretrained_cfg", None)
    if not isinstance(config, dict) or "mean" not in config:
        return None
    _, height, width = config.get("input_size", (3, 224, 224))
    short = math.floor(max(height, width) / config.get("crop_pct", 0.875))
    interpolation = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
    return Preprocessing(height, width, short, "center", interpolation, tuple(config["mean"]), tuple(config["std"]))


def _torchvisions(name: str, weights: str | None) -> Preprocessing | None:
    family, _, rest = name.partition(":")
    if family != "torchvision" or weights is None:
        return None
    known: Any = with_torchvision(lambda: importlib.import_module("torchvision.models").get_model_weights(rest))
    published = {Path(entry.url).name: entry for entry in known}
    entry = known.DEFAULT if weights == "pretrained" else published.get(Path(weights).name)
    if entry is None:
        return None
    stated: Any = entry.transforms()
    if not hasattr(stated, "mean"):  # detectors normalise by themselves
        return None
    short = stated.resize_size[0]
    side = getattr(stated, "crop_size", [short])[0]  # segmentation keeps the whole picture
    interpolation = "bilinear" if stated.interpolation.value == "bilinear" else "bicubic"
    return Preprocessing(side, side, short, "center", interpolation, tuple(stated.mean), tuple(stated.std))


def _resized(stated: Preprocessing, size: int | None) -> Preprocessing:
    if size is None or (size, size) == (stated.height, stated.width):
        return stated
    short = round(size * (stated.resize_short or size) / max(stated.height, stated.width))
    return Preprocessing(size, size, short, stated.crop, stated.interpolation, stated.mean, stated.std)


def _read(path: str, size: int | None) -> Preprocessing:
    try:
        stated = Preprocessing.from_json(parse_json(Path(path).read_bytes()))
    except OSError as error:
        raise ModelError(f"--preprocessing {path}: neither auto, imagenet nor a file ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"--preprocessing {path} is not JSON: {error}") from error
    if size is not None and (size, size) != (stated.height, stated.width):
        raise ModelError(
            f"--preprocessing {path} makes inputs of {stated.width} x {stated.height} pixels, and --size is {size}: "
            "leave --size out"
        )
    return stated
