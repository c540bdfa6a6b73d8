"""Weights from a file into a model. What the file holds besides tensors is not read, and no code in it is run.

People save weights in many wrappings: under a key such as `state_dict`, `model` or `ema`, with a prefix such as
`module.` or `_orig_mod.` on every name, beside the settings of the training. Every mapping of names to tensors in the
file is compared with what the model needs, and the first one that holds all of it is taken.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import ModelError

_AVERAGED = ("ema", "average", "swa")  # in the name of a key: weights that were averaged over the training's steps
_DEEPEST = 4  # mappings within mappings


def load_weights(model: nn.Module, path: Path) -> None:
    """Copies the weights in `path` into `model`: a `.safetensors` file, or one that `torch.save` wrote.

    Where the file holds averaged weights (`ema`) beside others, the averaged ones are taken, because those are what
    is evaluated. Raises ModelError when the file cannot be read without running code, holds no weights, or holds those
    of another model.
    """
    content = _read(path)
    found = list(_states(content))
    if not found:
        raise ModelError(_nothing_in(path, content))
    found.sort(key=lambda state: not any(word in state[0].lower() for word in _AVERAGED))
    wanted = model.state_dict()
    for _, state in found:
        if (fitting := _fitting(state, wanted)) is not None:
            _copy(model, fitting, path)
            return
    where, state = max(found, key=lambda state: len(state[1].keys() & wanted.keys()))
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    raise ModelError(
        f"the weights of {path}{f' under {where!r}' if where else ''} do not fit the model: Missing key(s) "
        f"{_some(missing)}, unexpected key(s) {_some(unknown)}; name the model that they were trained with"
    )


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb"):
            pass  # torch's own message about a file that is not there is longer
        return _unpickled(path)
    except FileNotFoundError:
        raise ModelError(f"there is no file of weights at {path}") from None
    except OSError as error:
        raise ModelError(f"the weights {path} cannot be read: {error.strerror or error}") from error
    except ModelError:
        raise
    except SafetensorError as error:
        raise ModelError(f"{path} is no state dict that can be read safely: {error}") from error
    except Exception as error:  # torch raises pickle.UnpicklingError, RuntimeError and others on damaged files
        raise ModelError(
            f"{path} is no state dict that can be read safely ({type(error).__name__}): "
            "write it with torch.save(model.state_dict(), FILE)"
        ) from error


class _Unread:
    """Stands in for an object of a class that is no tensor: it takes whatever it is given and keeps nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class _UnreadMapping:
    """Stands in for a mapping of a class of its own, such as a `defaultdict`: the items are kept, the class is not."""

    def __new__(cls, *_: Any) -> Any:
        return collections.OrderedDict()


def _unpickled(path: Path) -> Any:
    """What `torch.save` wrote, with stand-ins for everything that is not a tensor or plain data."""
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except ValueError as error:
        if "torchscript" in str(error).lower():
            raise ModelError(
                f"{path} is a TorchScript program, not weights: where you trust it, write its weights with "
                "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
            ) from error
        foreign = ["argparse.Namespace", "pathlib.PosixPath"]  # of a file of before torch 1.6 they cannot be listed
    try:
        return _load(path, foreign, _Unread)
    except Exception:
        return _load(path, foreign, _UnreadMapping)


def _load(path: Path, foreign: list[str], stand_in: type) -> Any:
    known: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (type(name, (_Unread if name.startswith("numpy") else stand_in,), {}), name) for name in foreign
    ]
    with torch.serialization.safe_globals(known):
        return torch.load(path, map_location="cpu", weights_only=True)


def _states(content: Any, where: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Every mapping of names to tensors in a file, with the key that it lies under."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors and all(isinstance(name, str) for name in tensors):
        yield where, tensors
    for key, value in content.items():
        yield from _states(value, f"{where}.{key}".lstrip("."), depth + 1)


def _fitting(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """The part of `state` that the model needs, by the model's names; None where something is missing or too much.

    Of names with a prefix (`module.`, `model.`) those without it belong to something else and are left out.
    """
    plain = {name.replace("_orig_mod.", ""): value for name, value in state.items()}
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}  # old files do not hold these
    first = next(iter(needed), "")
    prefixes = {name[: len(name) - len(first)] for name in plain if name.endswith(first)}
    for prefix in sorted(prefixes, key=len):
        if prefix and not prefix.endswith("."):
            continue
        named = {name[len(prefix) :]: value for name, value in plain.items() if name.startswith(prefix)}
        if needed <= named.keys() <= wanted.keys():
            return named
    return None


def _copy(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        model.load_state_dict({**{k: v for k, v in model.state_dict().items() if k not in state}, **state})
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(f"the weights of {path} do not fit the model: {' '.join(lines[1:3])[:300]}") from error


def _nothing_in(path: Path, content: Any) -> str:
    """Why a file without any mapping of names to tensors is refused, and what to do."""
    places = content.items() if isinstance(content, Mapping) else [("", content)]
    for key, value in places:
        if isinstance(value, _Unread):
            return (
                f"{path} holds a whole {type(value).__name__}{f' under {key!r}' if key else ''}, and reading it would "
                "run its code: it is no state dict that can be read safely; where you trust it, write "
                "torch.save(model.state_dict(), FILE)"
            )
    of = f" of {_some([str(key) for key in content])}" if isinstance(content, Mapping) else ""
    held = f"{type(content).__name__}{of}"
    return f"{path} holds {held}, not a state dict of tensors: write it with torch.save(model.state_dict(), FILE)"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"
