"""Models by name: `timm:NAME`, `torchvision:NAME`, `package.module:function`."""

from __future__ import annotations

import importlib
import operator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import ModelError

_FORMS = "a model is named timm:NAME, torchvision:NAME or package.module:function"


def load_model(name: str, weights: str | Path | None = None) -> nn.Module:
    """Builds the model that `name` stands for, in eval mode.

    For timm and torchvision the weights are random unless `weights` names a file of a state dict (`.safetensors`, or
    `.pth` read without unpickling code) or is the word `pretrained`, which lets the library fetch its own.
    `package.module:function` is called without arguments and returns a model with whatever weights it gives it.
    Raises ModelError when the name, the library, the model or the weights are not there or do not fit.
    """
    family, separator, rest = name.partition(":")
    if not separator or not rest:
        raise ModelError(f"{name!r} is no name of a model: {_FORMS}")
    pretrained = weights == "pretrained"
    if family == "timm":
        model = _call(name, lambda: _module("timm").create_model(rest, pretrained=pretrained))
    elif family == "torchvision":
        choice = "DEFAULT" if pretrained else None
        model = _call(name, lambda: _module("torchvision.models").get_model(rest, weights=choice))
    else:
        model = _call(name, operator.attrgetter(rest)(_module(family)) if _has(family, rest) else None)
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} returned {type(model).__name__}, not a torch.nn.Module")
    if weights is not None and not pretrained:
        _load_weights(model, Path(weights))
    return model.eval()


def example_input(height: int, width: int) -> torch.Tensor:
    """A picture-shaped input to trace a model with: float32 of shape (1, 3, height, width)."""
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a module of the user's own may fail in any way
        raise ModelError(f"cannot import {name!r}: {type(error).__name__}: {error}") from error


def _has(module: str, attribute: str) -> bool:
    try:
        operator.attrgetter(attribute)(_module(module))
    except AttributeError:
        raise ModelError(f"module {module!r} has no {attribute!r}; {_FORMS}") from None
    return True


def _call(name: str, build: Any) -> Any:
    try:
        return build()
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{name} could not be built: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error


def _load_weights(model: nn.Module, path: Path) -> None:
    state: Any
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no file of weights at {path}") from None
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError, ImportError) as error:
        raise ModelError(f"{path} is no state dict that can be read safely: {str(error).splitlines()[0]}") from error
    except Exception as error:  # torch raises pickle.UnpicklingError, among others
        raise ModelError(f"{path} is no state dict that can be read safely: {type(error).__name__}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} holds {type(state).__name__}, not a state dict of tensors")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(f"the weights of {path} do not fit the model: {' '.join(lines[1:3])[:300]}") from error
