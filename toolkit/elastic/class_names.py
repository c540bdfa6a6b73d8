"""The names of the classes that a library's pretrained weights know."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn


def class_names(model: nn.Module, name: str, weights: str | None, classes: int) -> tuple[str, ...] | None:
    """What the library says of a model that was loaded by this name with its own weights, where it names `classes`.

    None for other weights: what their classes are is not known. Nothing is fetched.
    """
    family, _, rest = name.partition(":")
    if weights != "pretrained" or family not in ("timm", "torchvision"):
        return None
    found = _torchvision(rest) if family == "torchvision" else _timm(model)
    return tuple(map(str, found)) if len(found) == classes else None


def _torchvision(name: str) -> list[str]:
    models = importlib.import_module("torchvision.models")
    return list(models.get_model_weights(name)["DEFAULT"].meta.get("categories", ()))


def _timm(model: Any) -> list[str]:
    data = importlib.import_module("timm.data")
    if names := model.pretrained_cfg.get("label_names"):
        return list(names)
    subset = data.infer_imagenet_subset(model)
    return list(data.ImageNetInfo(subset).label_descriptions()) if subset else []
