"""Pictures as a model's own library states them: torchvision's weights, timm's models, ImageNet's elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.elastic.own_pictures import IMAGENET, find_preprocessing
from adaptivenet.toolkit.errors import ModelError
from PIL import Image
from torch import nn


@pytest.mark.parametrize(
    ("name", "side", "short", "interpolation"),
    [
        ("resnet50", 224, 232, "bilinear"),
        ("efficientnet_b3", 300, 320, "bicubic"),
        ("inception_v3", 299, 342, "bilinear"),
        ("vit_l_32", 224, 256, "bilinear"),
        ("lraspp_mobilenet_v3_large", 520, 520, "bilinear"),
    ],
)
def test_torchvisions_weights_state_their_pictures(
    torchvision: Any, name: str, side: int, short: int, interpolation: str
) -> None:
    found = find_preprocessing("auto", f"torchvision:{name}", nn.Identity(), "pretrained")
    assert (found.height, found.width, found.resize_short, found.interpolation) == (side, side, short, interpolation)
    assert (found.mean, found.std) == (IMAGENET.mean, IMAGENET.std)
    pixels = np.random.default_rng(0).integers(0, 256, (700, 600, 3), dtype=np.uint8)
    own = torchvision.models.get_model_weights(name).DEFAULT.transforms()(Image.fromarray(pixels))
    top = (own.shape[1] - side) // 2
    torch.testing.assert_close(
        torch.from_numpy(found.apply_array(pixels))[0], own[:, top : top + side], atol=1e-4, rtol=1e-4
    )


@pytest.mark.usefixtures("torchvision")
def test_weights_are_known_by_the_name_of_their_file() -> None:
    old, new = (
        find_preprocessing("auto", "torchvision:resnet50", nn.Identity(), f"somewhere/resnet50-{digest}.pth")
        for digest in ("0676ba61", "11ad3fa6")
    )
    assert (old.resize_short, new.resize_short) == (256, 232)
    for weights in (None, "my.pth"):
        assert find_preprocessing("auto", "torchvision:resnet50", nn.Identity(), weights) == IMAGENET
    assert find_preprocessing("imagenet", "torchvision:resnet50", nn.Identity(), "pretrained") == IMAGENET
    detector = "torchvision:fasterrcnn_resnet50_fpn"
    assert find_preprocessing("auto", detector, nn.Identity(), "pretrained") == IMAGENET


def test_timms_models_state_theirs_and_another_size_keeps_the_share() -> None:
    model = nn.Identity()
    model.pretrained_cfg = {  # type: ignore[assignment]
        "input_size": (3, 288, 288), "crop_pct": 0.9, "interpolation": "bicubic", "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
    }  # fmt: skip
    found = find_preprocessing("auto", "timm:some", model)
    assert found == Preprocessing(288, 288, 320, "center", "bicubic", (0.5,) * 3, (0.25,) * 3)
    other = find_preprocessing("auto", "timm:some", model, size=144)
    assert (other.height, other.width, other.resize_short, other.mean) == (144, 144, 160, (0.5,) * 3)
    assert find_preprocessing("auto", "own:model", nn.Identity(), size=112).resize_short == 128


def test_a_file_says_all(tmp_path: Path) -> None:
    wanted = Preprocessing(20, 30, 40)
    (tmp_path / "own.json").write_text(json.dumps(asdict(wanted)))
    assert find_preprocessing(str(tmp_path / "own.json"), "own:model", nn.Identity()) == wanted
    with pytest.raises(
        ModelError, match=r"own.json makes inputs of 30 x 20 pixels, and --size is 20: leave --size out"
    ):
        find_preprocessing(str(tmp_path / "own.json"), "own:model", nn.Identity(), size=20)
    (tmp_path / "square.json").write_text(json.dumps(asdict(replace(wanted, width=20))))
    assert find_preprocessing(str(tmp_path / "square.json"), "own:model", nn.Identity(), size=20).width == 20
    (tmp_path / "none.json").write_text("none")
    with pytest.raises(ModelError, match="is not JSON"):
        find_preprocessing(str(tmp_path / "none.json"), "own:model", nn.Identity())
