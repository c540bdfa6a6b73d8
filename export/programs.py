"""One torch module → one program of a backend, and the proof that it computes the same.

ExecuTorch programs run on XNNPACK and take 4-D tensors channels-last, which spares a change of layout at every border
between blocks; ONNX programs take them contiguous.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

import torch
from adaptivenet.toolkit.devices.interpreter import Engine
from adaptivenet.toolkit.errors import AdaptiveNetError, ExportError
from torch import nn

RELATIVE_TOLERANCE = 1e-3
_OPSET = 18


@dataclass(frozen=True)
class Program:
    """An exported program and what is known of it.

    `max_abs_error` is the largest difference from torch on the inputs it was verified with, `tolerance` the largest
    that was allowed: 1e-3 of the largest output, or 1e-3 where outputs are smaller than 1.
    """

    data: bytes
    layout: str
    max_abs_error: float
    tolerance: float


def export_program(name: str, module: nn.Module, inputs: Sequence[torch.Tensor], backend: str) -> Program:
    """Exports `module` for inputs of exactly these shapes and verifies the program on them, through the real engine.

    Some operations outside XNNPACK run on contiguous tensors only; a block that has them is exported contiguous.
    Raises ExportError when the backend cannot express the module, or when the program's output differs from torch's by
    more than the tolerance.
    """
    if backend == "executorch" and any(x.dim() == 4 for x in inputs):
        try:
            return _verified(name, module, inputs, backend, "channels_last")
        except AdaptiveNetError:
            pass
    return _verified(name, module, inputs, backend, "contiguous")


def _verified(name: str, module: nn.Module, inputs: Sequence[torch.Tensor], backend: str, layout: str) -> Program:
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    arranged = tuple(x.contiguous(memory_format=memory_format) if x.dim() == 4 else x.contiguous() for x in inputs)
    with torch.no_grad():
        expected = module(*inputs)
    try:
        with _quiet():
            data = _executorch(module, arranged) if backend == "executorch" else _onnx(module, arranged)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        raise ExportError(f"{name} does not export to {backend}: {type(error).__name__}: {lines[0]}") from error
    engine = _engine(backend)
    program = engine.load(name, data, layout, [_typed(x) for x in inputs], _typed(expected))
    actual = torch.from_numpy(engine.array(program([engine.tensor(x.contiguous().numpy(), layout) for x in inputs])))
    difference = float((actual.double() - expected.double()).abs().max())
    tolerance = RELATIVE_TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= tolerance:  # also when it is NaN
        raise ExportError(
            f"{name} on {backend} differs from torch by {difference:.3g}, more than the tolerance of {tolerance:.3g}: "
            "the exported program is refused"
        )
    return Program(data, layout, difference, tolerance)


def _typed(x: torch.Tensor) -> tuple[tuple[int, ...], str]:
    return tuple(x.shape), str(x.dtype).removeprefix("torch.")


def _engine(backend: str) -> Engine:
    """The engine that runs a backend's programs, on one thread. Imported when it is needed."""
    if backend == "executorch":
        from adaptivenet.toolkit.devices.executorch_engine import ExecuTorchEngine

        return ExecuTorchEngine(threads=1)
    from adaptivenet.toolkit.devices.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(threads=1)


def _executorch(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(module, inputs)
    edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    return bytes(edge.to_executorch().buffer)


def _onnx(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> bytes:
    exported = torch.onnx.export(module, inputs, dynamo=True, opset_version=_OPSET, external_data=False, verbose=False)
    assert exported is not None
    model = exported.model_proto
    # The exporter notes stack traces with the paths of the machine it ran on; a pack must not carry them.
    for thing in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
    ):
        thing.ClearField("metadata_props")
        thing.ClearField("doc_string")
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters talk on both streams about things a user can do nothing about."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
