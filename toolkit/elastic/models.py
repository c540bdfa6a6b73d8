"""Models by name: `timm:NAME`, `torchvision:NAME`, `package.module:function`."""

from __future__ import annotations

import importlib
import inspect
import operator
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..data.inputs import Input
from ..errors import ModelError
from .defaults import ordinary_defaults
from .exported import module_of
from .tracing.inputs import unpacked
from .weights import load_weights

_FORMS = "a model is named timm:NAME, torchvision:NAME or package.module:function"
_LIBRARIES = {"timm": "timm", "torchvision": "torchvision.models"}  # what lists their models
_Result = TypeVar("_Result")
_definitions: list[torch.library.Library] = []  # they hold as long as these objects live


def load_model(name: str, weights: str | Path | None = None) -> nn.Module:
    """Builds the model that `name` stands for, in eval mode.

    For timm and torchvision the weights are random unless `weights` names a file (`.safetensors`, or what `torch.save`
    wrote, read without running code; see `weights`) or is the word `pretrained`, which lets the library fetch its own.
    `package.module:function` is called without arguments and returns a model with whatever weights it gives it.
    Raises ModelError when the name, the library, the model or the weights are not there or do not fit.
    """
    family, separator, rest = name.partition(":")
    if not separator or not rest:
        raise ModelError(f"{name!r} is no name of a model: {_FORMS}{_hint(name)}")
    pretrained = weights == "pretrained"
    with ordinary_defaults():  # a module of the user's own may change torch's defaults, for us as well
        if family == "timm":
            model = _call(name, lambda: _module("timm").create_model(rest, pretrained=pretrained))
        elif family == "torchvision":
            model = _call(name, lambda: _torchvision_model(rest, pretrained))
        elif pretrained:
            raise ModelError(f"{name} has no weights called 'pretrained': let the function load them, or name a file")
        else:
            model = _call(name, _function(family, rest))
    if not isinstance(model, (nn.Module, ExportedProgram)):
        raise ModelError(f"{name} returned {type(model).__name__}, not a torch.nn.Module or an ExportedProgram")
    model = unwrapped(model)
    if weights is not None and not pretrained:
        load_weights(model, Path(weights))
    return model.eval()


_FILES = {
    ".onnx": "of an ONNX file the function can return onnx2torch.convert(FILE)",
    ".pt2": "of this file the function can return torch.export.load(FILE)",
    ".pt": (
        "a file that torch.save or torch.jit.save wrote is no model: the function builds it, and --weights FILE loads "
        "a state_dict"
    ),
}
_FILES |= dict.fromkeys((".pth", ".ckpt", ".bin", ".safetensors"), _FILES[".pt"])


def _hint(name: str) -> str:
    """What else to say of a name that is none: of a file or supernet how to give it, else which names may be meant."""
    if (Path(name) / "supernet.json").is_file():
        return "; it is a supernet: --polish PROFILE trains it further, and adaptivenet-export makes a pack of it"
    if suffix := Path(name).suffix.lower():
        return f"; {_FILES[suffix]}" if suffix in _FILES else ""
    return _meant([f"{library}:{name}" for library in _LIBRARIES if name in _names(library)])


def _similar(name: str) -> str:
    """The models of a library that are called much like one that it has not."""
    library, _, rest = name.partition(":")
    names = _names(library)
    return "" if rest in names else _meant([f"{library}:{near}" for near in get_close_matches(rest, names)])


def _meant(names: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _names(library: str) -> list[str]:
    try:
        return list(_module(_LIBRARIES[library]).list_models()) if library in _LIBRARIES else []
    except ModelError:  # it is not installed
        return []


def load_function(name: str) -> Any:
    """What `package.module:function` names, not called. Raises ModelError when it is not there."""
    module, separator, attribute = name.partition(":")
    if not module or not separator or not attribute:
        raise ModelError(f"{name!r} is no name of a function: write package.module:function")
    with ordinary_defaults():  # a module of the user's own may change torch's defaults, for us as well
        return _function(module, attribute, "write package.module:function")


def unwrapped(model: nn.Module | ExportedProgram) -> nn.Module:
    """The model itself, without what `torch.compile` and `DataParallel` put around it; an exported program as a module.

    Raises ModelError for what is no model, and where it is a TorchScript module or is quantised, or holds such a one
    with weights: these cannot be followed.
    """
    if not isinstance(model, (nn.Module, ExportedProgram)):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise ModelError(
            f"{what} is no network: give a torch.nn.Module that was built, with its weights loaded into it"
        )
    inner: nn.Module = module_of(model) if isinstance(model, ExportedProgram) else model
    while True:
        if isinstance(inner, torch._dynamo.OptimizedModule):
            inner = inner._orig_mod
        elif isinstance(inner, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = inner.module
        else:
            break
    for path, module in inner.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and any(True for _ in module.parameters()):
            raise ModelError(
                f"{path or 'the model'} is a TorchScript module, which cannot be cut into blocks: build the model in "
                "Python, and give it this one's state_dict() as its weights"
            )
        if (kind := _quantised(module)) is not None:
            raise ModelError(
                f"{path or 'the model'} is quantised already ({kind}), and blocks are made of the network in float32: "
                "give that; the export makes int8 (--int8)"
            )
    return inner


def _quantised(module: nn.Module) -> str | None:
    """What holds weights that are no floating-point numbers any more; None where nothing does.

    Torch's own quantised layers keep theirs in an object of C++, torchao's in a tensor of a class of its own.
    """
    if any(isinstance(value, torch.ScriptObject) for value in vars(module).values()):
        return type(module).__name__
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if tensor.is_quantized or is_traceable_wrapper_subclass(tensor):
            return type(tensor).__name__
    return None


def example_input(*shape: int) -> torch.Tensor:
    """Noise to trace a model with: one float32 input of this shape, such as (3, 224, 224), and a batch dimension."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, *shape, generator=generator, dtype=torch.float32, device="cpu")


def example_from(image: npt.NDArray[np.float32]) -> torch.Tensor:
    """An input of a data set, with its batch dimension, as `elastify` takes it."""
    return torch.from_numpy(image)


def example_inputs(rows: npt.NDArray[np.float32], inputs: Sequence[Input]) -> dict[str, torch.Tensor]:
    """Rows of several inputs, `(N, width)`, as `elastify` takes them: by name, each of its shape and type."""
    return unpacked(torch.from_numpy(rows), inputs)


def current_folder_last() -> None:
    """Lets modules be named that lie in the current folder, without hiding any that are installed.

    A file there that is called `onnx.py` is then not run in place of the library.
    """
    here = os.getcwd()
    sys.path[:] = [*(entry for entry in sys.path if entry not in ("", here)), here]


def with_torchvision(build: Callable[[], _Result]) -> _Result:
    """What `build` returns, which may import torchvision where its compiled operators do not fit the torch installed.

    Two of these operators are then declared without a body and `build` is called again. No model needs them: they
    choose among boxes, on the host.
    """
    try:
        return build()
    except RuntimeError as error:
        if "operator torchvision::" not in str(error) or _definitions:
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator_name in ("nms", "qnms"):
        library.define(f"{operator_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _definitions.append(library)
    return build()


def _torchvision_model(name: str, pretrained: bool) -> Any:
    models = _module("torchvision.models")
    options: dict[str, str | None] = {"weights": "DEFAULT" if pretrained else None}
    # Segmentation models and detectors fetch weights for their backbone unless they are told not to.
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options["weights_backbone"] = None
    return models.get_model(name, **options)


def _module(name: str) -> Any:
    try:
        return with_torchvision(lambda: importlib.import_module(name))
    except Exception as error:  # a module of the user's own may fail in any way
        raise ModelError(f"cannot import {name!r}: {type(error).__name__}: {error}") from error


def _function(module: str, attribute: str, forms: str = _FORMS) -> Any:
    found = _module(module)
    try:
        return operator.attrgetter(attribute)(found)
    except AttributeError:
        root = module.partition(".")[0]
        file = getattr(found, "__file__", None) or "built into Python"
        twin = next((path for path in (Path(f"{root}.py"), Path(root)) if path.exists()), None)
        if twin is not None and Path.cwd() not in Path(file).parents:
            raise ModelError(
                f"module {module!r} has no {attribute!r}: it is {file}, and {twin} in this folder has the name of a "
                "module that is installed; rename it"
            ) from None
        raise ModelError(f"module {module!r} has no {attribute!r}; {forms}") from None


def _first_line(error: Exception) -> str:
    """What an error says; of one that only names a key, which error it is, too."""
    said = str(error).splitlines()[0] if str(error) else ""
    return repr(error) if isinstance(error, LookupError) or not said else said


def _call(name: str, build: Callable[[], Any]) -> Any:
    try:
        return with_torchvision(build)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{name} could not be built: {_first_line(error)}{_similar(name)}") from error
