"""Networks of other packages, taken by a rule and not by looking: every third, whether it can be done or not.

Of transformers every third entry of what it has for pictures and sound (classes of either, label maps, depth, pictures
from pictures), in the order of their names, with random weights, as its configuration is by default but with at most
four layers a stage, where it runs so. Of segmentation-models-pytorch every third architecture, and of torchaudio every
third model file that is no search for words. Lengths that a network must be given are constants.
"""

from __future__ import annotations

import importlib
import pkgutil

import torch
from adaptivenet.toolkit.errors import ModelError
from torch import nn

from .models import allow_torchvision

_LAYERS = 4
_TASKS = (
    "IMAGE_CLASSIFICATION",
    "AUDIO_CLASSIFICATION",
    "SEMANTIC_SEGMENTATION",
    "DEPTH_ESTIMATION",
    "IMAGE_TO_IMAGE",
)
_SECOND = 16_000  # samples
_FLOATS = ("pixel_values", "input_values", "input_features")


class Answer(nn.Module):
    """A network of transformers that answers with its first tensor alone."""

    def __init__(self, network: nn.Module, key: str) -> None:
        super().__init__()
        self.network, self.key = network, key

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One input, batch first; the logits, the depth or the picture."""
        answer: torch.Tensor = self.network(**{self.key: x}, return_dict=True).to_tuple()[0]
        return answer


class OfLengths(nn.Module):
    """A network of torchaudio for inputs that are all as long as they can be."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, frames, features)"""
        answer: torch.Tensor = self.network(x, torch.full(x.shape[:1], x.shape[1]))[0]
        return answer


def names() -> list[str]:
    """The networks of the packages that are installed, as `package:NAME`."""
    allow_torchvision()
    found: list[str] = []
    for package, listed in (
        ("transformers", _of_transformers),
        ("segmentation_models_pytorch", lambda: _modules("segmentation_models_pytorch.decoders")),
        ("torchaudio", lambda: _modules("torchaudio.models")),
    ):
        try:
            found += [f"{package}:{name}" for name in listed()[::3]]
        except ImportError:
            continue
    return found


def build(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """The network that a name stands for, in eval mode, and the shape of its input at batch size 1."""
    allow_torchvision()
    package, _, model = name.partition(":")
    network, shape = {
        "transformers": _transformer,
        "segmentation_models_pytorch": _segmenter,
        "torchaudio": _of_sound,
    }[package](model)
    return network.eval(), shape


def _modules(package: str) -> list[str]:
    path = importlib.import_module(package).__path__
    found = (module.name for module in pkgutil.iter_modules(path))
    return sorted(name for name in found if not name.startswith("_") and "decoder" not in name)


def _of_transformers() -> list[str]:
    from transformers.models.auto import modeling_auto

    mappings = [getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES") for task in _TASKS]
    return sorted({f"{of}/{kind}" for each in mappings for of, kind in each.items() if isinstance(kind, str)})


def _transformer(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    import transformers

    of, kind = name.split("/")
    config = transformers.AutoConfig.for_model(of)
    for key in ("num_hidden_layers", "encoder_layers"):
        if isinstance(getattr(config, key, None), int):
            setattr(config, key, min(_LAYERS, getattr(config, key)))
    if isinstance(getattr(config, "depths", None), (list, tuple)):
        config.depths = [min(_LAYERS, depth) for depth in config.depths]
    network, shape = _with_input(of, getattr(transformers, kind)(config).eval())
    try:
        with torch.no_grad():
            network(torch.zeros(shape))
    except Exception:  # as where layers are named that are now missing
        network, shape = _with_input(of, getattr(transformers, kind)(transformers.AutoConfig.for_model(of)))
    return network, shape


def _with_input(of: str, network: nn.Module) -> tuple[nn.Module, tuple[int, ...]]:
    """A network of transformers with the shape of its input."""
    config, key = network.config, network.main_input_name
    if key not in _FLOATS:
        raise ModelError(f"{type(network).__name__} takes {key}, which are no floating-point numbers")
    if key == "pixel_values":
        vision = getattr(config, "vision_config", config)
        side = getattr(vision, "image_size", None) or 224
        sides = tuple(side) if isinstance(side, (list, tuple)) else (side, side)
        return Answer(network, key), (1, getattr(vision, "num_channels", 3), *sides)
    if hasattr(config, "max_length") and hasattr(config, "num_mel_bins") and key == "input_values":
        return Answer(network, key), (1, config.max_length, config.num_mel_bins)
    if key == "input_features":
        frames = 2 * getattr(config, "max_source_positions", 100)
        by_time = (1, getattr(config, "num_mel_bins", 80), frames)
        return Answer(network, key), by_time if of == "whisper" else (1, 200, config.feature_projection_input_dim)
    return Answer(network, key), (1, _SECOND)


def _segmenter(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    import segmentation_models_pytorch as smp

    return smp.create_model(name, encoder_weights=None), (1, 3, 224, 224)


def _of_sound(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    from torchaudio import models

    if name == "conformer":
        return OfLengths(models.Conformer(80, 4, 256, 4, 31)), (1, 100, 80)
    if name == "emformer":
        of = {"left_context_length": 30, "right_context_length": 4}  # those of torchaudio.models.emformer_rnnt_base
        return OfLengths(models.Emformer(256, 4, 512, 4, 16, **of)), (1, 100, 256)
    raise ModelError(f"torchaudio's {name} has several inputs of its own, or was added since 2.11")
