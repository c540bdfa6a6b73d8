"""Metrics that are functions of one's own.

Such a function takes tensors called `output`, and `oracle` or `label` (or `target`, which is the label), and returns
sums of shape (2 · n,): parts, then as many wholes, that add up over images. Their score is the mean of the ratios (see
`toolkit.graph.score`): a share, unless `metric` says another unit and range.

    @metric(unit="dB", worst=0, best=60)
    def psnr_of_luma(output, oracle): ...
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from adaptivenet.toolkit.elastic.models import load_function
from adaptivenet.toolkit.errors import DataError, ExportError, ModelError
from adaptivenet.toolkit.graph.score import SHARE, Score
from torch import nn

from .metric_modules import MOST_SUMS, MetricProgram, noise
from .metric_names import METRICS

_OPERANDS = {"output": "output", "oracle": "oracle", "label": "label", "target": "label"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_Function = TypeVar("_Function", bound=Callable[..., Any])


def metric(
    *, unit: str = "share", worst: float = 0.0, best: float = 1.0, sums: Sequence[str] | None = None
) -> Callable[[_Function], _Function]:
    """Says of a function that is a metric what its scores are: numbers from `worst` to `best` (below `worst` where less
    is better), with a `unit` that stands behind them; `share` is shown in percent. `sums` are names for what it
    returns.

    Raises ExportError for what no pack may have.
    """
    try:
        score = Score(unit, float(worst), float(best))
    except ValueError as error:
        raise ExportError(str(error)) from None

    def noted(function: _Function) -> _Function:
        vars(function).update(adaptivenet_score=score, adaptivenet_sums=None if sums is None else tuple(sums))
        return function

    return noted


class _Own(nn.Module):
    """A function of one's own, as a module that can be exported."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, one: torch.Tensor, two: torch.Tensor, three: torch.Tensor | None = None) -> Any:
        """Its sums, in float32; what is no tensor as it is."""
        sums = self.function(one, two) if three is None else self.function(one, two, three)
        return sums.to(torch.float32) if isinstance(sums, torch.Tensor) else sums


def own_metric(wanted: str, shape: tuple[int, ...]) -> MetricProgram:
    """A function of one's own. Raises ExportError where it is not there or gives what is no metric."""
    what = f"metric {wanted!r}"
    try:
        function = load_function(wanted)
    except ModelError as error:
        raise ExportError(f"{what}: {error}") from error
    operands = _operands(what, function)
    name = wanted.rpartition(":")[2].rpartition(".")[2]
    if not _NAME.fullmatch(name) or name in METRICS:
        raise ExportError(f"{what} would be called {name!r} in the pack, which is taken or no name: rename it")
    output, other = noise(shape)
    near = output + 0.5 * other
    given = {"output": output, "oracle": near, "label": (near.argmax(1) if near.dim() > 1 else near.to(torch.int64))}
    inputs = tuple(given[kind] for kind in operands)
    module = _Own(function).eval()
    score = getattr(function, "adaptivenet_score", SHARE)
    sums = _names_of(what, name, module, inputs, getattr(function, "adaptivenet_sums", None), score)
    return MetricProgram(wanted, name, module, inputs, operands, sums, score, _content(what, module, inputs))


def _operands(what: str, function: Callable[..., Any]) -> tuple[str, ...]:
    if not callable(function):
        raise ExportError(f"{what} is {type(function).__name__}, and no function")
    called = function.forward if isinstance(function, nn.Module) else function
    asked = list(inspect.signature(called).parameters)
    kinds = tuple(_OPERANDS.get(each, "") for each in asked)
    if not 2 <= len(kinds) <= 3 or "" in kinds or len({*kinds}) < len(kinds) or "output" not in kinds:
        raise ExportError(
            f"{what} takes ({', '.join(asked)}): its parameters are to be called output, and oracle or label (or "
            "target)"
        )
    return kinds


def _names_of(
    what: str,
    name: str,
    module: nn.Module,
    inputs: Sequence[torch.Tensor],
    names: tuple[str, ...] | None,
    score: Score,
) -> tuple[str, ...]:
    """Names for the sums that it gives for the inputs. Raises ExportError where these are no sums of a score."""
    shapes = ", ".join(str(tuple(each.shape)) for each in inputs)
    try:
        with torch.no_grad():
            sums = module(*inputs)
    except Exception as error:  # a function of the user's own may fail in any way
        lines = str(error).splitlines() or [""]
        raise ExportError(f"{what} fails for tensors of {shapes}: {type(error).__name__}: {lines[0]}") from error
    if not isinstance(sums, torch.Tensor) or sums.dim() != 1 or not 2 <= len(sums) <= MOST_SUMS or len(sums) % 2:
        gave = tuple(sums.shape) if isinstance(sums, torch.Tensor) else type(sums).__name__
        raise ExportError(
            f"{what} gave {gave} for tensors of {shapes}: it is to return one tensor (2 · n,), sums of parts and then "
            "as many wholes, such as torch.stack((correct, count))"
        )
    if not torch.isfinite(sums).all():
        raise ExportError(f"{what} gave {sums.tolist()[:8]}, which are not all finite, for tensors of {shapes}")
    try:
        score.of_images(name, sums.double().reshape(1, -1).numpy())
    except DataError as error:
        raise ExportError(f"{error} (tried with noise)") from None
    usual = ("score", "count") if len(sums) == 2 else tuple(f"s{at}" for at in range(len(sums)))
    names = names or usual
    if len(names) != len(sums) or not all(_NAME.fullmatch(each) for each in names):
        raise ExportError(f"{what} gives {len(sums)} sums and names {names}: name each by letters, digits, '-' and '_'")
    return names


def _content(what: str, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> str:
    """What the function computes, as torch sees it: its source may call anything."""
    try:
        traced = torch.export.export(module, inputs)
    except Exception as error:  # torch raises what it likes
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        raise ExportError(f"{what} cannot be exported: {type(error).__name__}: {lines[0]}") from error
    content = hashlib.sha256(str(traced.graph).encode())
    for key, tensor in sorted({**traced.state_dict, **traced.constants}.items()):
        if isinstance(tensor, torch.Tensor):
            content.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            content.update(tensor.detach().contiguous().numpy().tobytes())
    return f"{content.hexdigest()} {[tuple(each.shape) for each in inputs]}"


def import_path() -> list[str]:
    """Where a worker is to look for modules, as this process does."""
    return list(sys.path)
