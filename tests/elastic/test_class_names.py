"""Class names: what libraries call the classes of their weights, kept in supernets, checked against the outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet, elastify, prune
from adaptivenet.toolkit.elastic.class_names import class_names
from adaptivenet.toolkit.errors import ModelError
from small import Small
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["daisy", "poppy", "rose", "tulip", "violet"]


def made(classes: list[str] | None) -> Supernet:
    return elastify(Small().eval(), torch.zeros(1, 3, 8, 8), kinds=[prune(0.5)], classes=classes)


def test_class_names_are_kept(tmp_path: Path) -> None:
    made(NAMES).save(tmp_path / "named")
    assert Supernet.load(tmp_path / "named").classes == tuple(NAMES)
    made(None).save(tmp_path / "unnamed")
    assert Supernet.load(tmp_path / "unnamed").classes is None


def test_there_is_one_name_for_each_class(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="4 class names are given and the network gives 5 class scores"):
        made(NAMES[:4])
    made(NAMES).save(tmp_path / "supernet")
    file = tmp_path / "supernet" / "supernet.json"
    document = json.loads(file.read_text())
    document["classes"] = NAMES[:4]
    file.write_text(json.dumps(document))
    with pytest.raises(ModelError, match="4 class names are given"):
        Supernet.load(tmp_path / "supernet")


def test_pretrained_weights_of_torchvision_name_their_classes() -> None:
    names = class_names(nn.Identity(), "torchvision:mobilenet_v2", "pretrained", 1000)
    assert names is not None
    assert (len(names), names[0], names[999]) == (1000, "tench", "toilet tissue")
    assert class_names(nn.Identity(), "torchvision:mobilenet_v2", "pretrained", 10) is None
    assert class_names(nn.Identity(), "torchvision:mobilenet_v2", "mobilenet.pth", 1000) is None
    assert class_names(nn.Identity(), "my.module:build", "pretrained", 1000) is None


def test_pretrained_weights_of_timm_name_their_classes() -> None:
    import timm

    model = timm.create_model("mobilenetv3_small_050")
    names = class_names(model, "timm:mobilenetv3_small_050", "pretrained", 1000)
    assert names is not None
    assert (len(names), names[1]) == (1000, "goldfish, Carassius auratus")
