"""One torch module → one program of a backend, and the proof that it computes the same.

ExecuTorch programs run on XNNPACK and take 4-D tensors channels-last, which spares a change of layout at every border
between blocks; ONNX programs take them contiguous, and those of blocks are parts that can be joined (`onnx_part`).
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
import torch
from adaptivenet.toolkit.devices.local.executorch_engine import ROOM
from adaptivenet.toolkit.devices.local.interpreter import Engine
from adaptivenet.toolkit.errors import AdaptiveNetError, ExportError
from torch import nn

from .int8 import LEAST_SNR_DB, Calibration, executorch_int8, onnx_int8, snr_db
from .onnx_part import Place, as_part

RELATIVE_TOLERANCE = 1e-3
_LEAST_OUTPUT = 0.01  # where all outputs are smaller, what they are computed from may be larger, and so is its rounding
_OPSET = 18
_VERIFIED_ON = 16  # inputs of its calibration that an int8 program is compared with torch on, at most


@dataclass(frozen=True)
class Program:
    """An exported program and what is known of it.

    `max_abs_error` is the largest difference from torch on the inputs it was verified with, `tolerance` the largest
    that was allowed: 1e-3 of the largest output, or 1e-5 where outputs are smaller than 0.01; None for an int8 program,
    of which `snr_db` is known instead: its ratio of signal to noise on what it was calibrated with, in decibels.
    """

    data: bytes
    layout: str
    max_abs_error: float
    tolerance: float | None
    snr_db: float | None = None


class Exporter:
    """Exports one module for inputs of exactly these shapes, and does once what several programs of it need."""

    def __init__(self, module: nn.Module, inputs: Sequence[torch.Tensor]) -> None:
        self.module, self.inputs = module, tuple(inputs)
        self._exported: dict[str, torch.export.ExportedProgram] = {}
        self._answers: tuple[Calibration, list[torch.Tensor]] | None = None

    def export(
        self, name: str, backend: str, place: Place | None = None, calibration: Calibration | None = None
    ) -> Program:
        """The program of the module for a backend, verified on the inputs through the real engine.

        `place` says where a block lies in its network: its ONNX program is made a part of that (None: a metric). With a
        `calibration`, the block is quantised to int8. `name` is what errors call the module.
        Some operations run on contiguous tensors only; a block that has them is exported contiguous.
        Raises ExportError when the backend cannot express the module, or when the program's output differs from torch's
        by more than the tolerance, or in int8 has a lower ratio of signal to noise than `int8.LEAST_SNR_DB`.
        """
        if backend == "executorch" and self._usual_layout == "channels_last":
            try:
                return self._verified(name, backend, "channels_last", place, calibration)
            except AdaptiveNetError:
                pass
        return self._verified(name, backend, "contiguous", place, calibration)

    def _verified(
        self, name: str, backend: str, layout: str, place: Place | None, calibration: Calibration | None
    ) -> Program:
        expected = self._expected
        try:
            with _quiet(), torch.no_grad():
                if backend == "executorch":
                    data = self._executorch(layout, calibration)
                else:
                    data = self._onnx(place, calibration)
        except Exception as error:
            first = error
            while isinstance(first.__cause__, Exception):  # what torch's exporters wrap says what is wrong
                first = first.__cause__
            lines = [line for line in str(first).splitlines() if line.strip()] or [""]
            reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
            why = f"{type(first).__name__}: {reason}{self._complex_numbers}"
            raise ExportError(f"{name} does not export to {backend}: {why}") from error
        engine = _engine(backend)
        program = engine.load(name, data, layout, [_typed(x) for x in self.inputs], _typed(expected))

        def run(given: Sequence[torch.Tensor]) -> torch.Tensor:
            tensors = [engine.tensor(x.contiguous().numpy(), layout) for x in given]
            return torch.from_numpy(engine.array(program(tensors)))

        try:
            actual = run(self.inputs)
        except AdaptiveNetError as error:
            raise ExportError(f"{name} exports to {backend} but does not run there: {error}") from error
        difference = float((actual.double() - expected.double()).abs().max())
        if calibration is not None:
            some = calibration.inputs[:_VERIFIED_ON]
            snr = snr_db(self._expected_of(calibration), [run(given) for given in some])
            if not snr >= LEAST_SNR_DB:
                raise ExportError(
                    f"{name} in int8 on {backend} has {snr:.1f} dB of signal to noise, less than {LEAST_SNR_DB:g}: the "
                    "quantised program is refused"
                )
            return Program(data, layout, difference, None, snr)
        tolerance = RELATIVE_TOLERANCE * max(_LEAST_OUTPUT, float(expected.abs().max()))
        if not difference <= tolerance:  # also when it is NaN
            raise ExportError(
                f"{name} on {backend} differs from torch by {difference:.3g}, more than the tolerance of "
                f"{tolerance:.3g}: the exported program is refused"
            )
        return Program(data, layout, difference, tolerance)

    @cached_property
    def _expected(self) -> torch.Tensor:
        with torch.no_grad():
            answer: torch.Tensor = self.module(*self.inputs)
        return answer

    def _expected_of(self, calibration: Calibration) -> list[torch.Tensor]:
        """What the module gives for the inputs of a calibration that int8 programs are verified on."""
        if self._answers is None or self._answers[0] is not calibration:
            with torch.no_grad():
                self._answers = calibration, [self.module(*given) for given in calibration.inputs[:_VERIFIED_ON]]
        return self._answers[1]

    @property
    def _complex_numbers(self) -> str:
        """What to do where the module has complex numbers, which few operators of a backend take; else empty."""
        values = [node.meta.get("val") for program in self._exported.values() for node in program.graph.nodes]
        if not any(isinstance(value, torch.Tensor) and value.is_complex() for value in values):
            return ""
        return (
            "; it computes complex numbers, as torch.stft and torch.fft do: write a spectrum as two convolutions, with "
            "cosines and with sines, or compute it before the network"
        )

    @property
    def _usual_layout(self) -> str:
        return "channels_last" if any(x.dim() == 4 for x in self.inputs) else "contiguous"

    def _arranged(self, layout: str) -> tuple[torch.Tensor, ...]:
        order = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        return tuple(x.contiguous(memory_format=order) if x.dim() == 4 else x.contiguous() for x in self.inputs)

    def _traced(self, layout: str) -> torch.export.ExportedProgram:
        if layout not in self._exported:
            self._exported[layout] = torch.export.export(self.module, self._arranged(layout))
        return self._exported[layout]

    def _executorch(self, layout: str, calibration: Calibration | None) -> bytes:
        exported = self._traced(layout)
        return _to_executorch(
            exported if calibration is None else executorch_int8(exported, self._arranged(layout), calibration)
        )

    @cached_property
    def _model(self) -> onnx.ModelProto:
        """The float32 model. It comes from what ExecuTorch's program comes from: memory orders mean nothing to ONNX."""
        if self._usual_layout == "channels_last":
            try:
                return self._model_of("channels_last")
            except Exception:  # torch and its exporter raise what they like; of contiguous tensors it is told
                pass
        return self._model_of("contiguous")

    def _model_of(self, layout: str) -> onnx.ModelProto:
        exported = torch.onnx.export(
            self._traced(layout), dynamo=True, opset_version=_OPSET, external_data=False, verbose=False
        )
        assert exported is not None
        return exported.model_proto

    def _onnx(self, place: Place | None, calibration: Calibration | None) -> bytes:
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        if place is not None and calibration is not None:
            model = onnx_int8(model, calibration, place)
        if place is not None:
            model = as_part(model, place)
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


def export_program(
    name: str,
    module: nn.Module,
    inputs: Sequence[torch.Tensor],
    backend: str,
    place: Place | None = None,
    calibration: Calibration | None = None,
) -> Program:
    """One program of a module: see `Exporter.export`."""
    return Exporter(module, inputs).export(name, backend, place, calibration)


def _typed(x: torch.Tensor) -> tuple[tuple[int, ...], str]:
    return tuple(x.shape), str(x.dtype).removeprefix("torch.")


def _engine(backend: str) -> Engine:
    """The engine that runs a backend's programs, on one thread. Imported when it is needed."""
    if backend == "executorch":
        from adaptivenet.toolkit.devices.local.executorch_engine import ExecuTorchEngine

        return ExecuTorchEngine(threads=1)
    from adaptivenet.toolkit.devices.local.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(threads=1)


def _to_executorch(exported: torch.export.ExportedProgram) -> bytes:
    """The program, which reads its inputs where the caller has them.

    Memory that is planned for an input is memory that every call copies the input to. It is needed only where an output
    is an input, as in a block that does nothing: otherwise the runtime gives that output memory which nobody writes to.
    Outputs are planned, since only the runtime for C++ can be given memory for them, and only behind what is planned
    there is room, past whose end the next block's XNNPACK may read.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.memory_planning import MemoryPlanningAlgorithmSuite
    from executorch.exir.passes import MemoryPlanningPass

    plan = MemoryPlanningAlgorithmSuite()

    def plan_with_room(*given: Any) -> list[int]:
        *others, room = given  # which is 0 for a program that does not use XNNPACK itself
        sizes: list[int] = plan(*others, max(room, ROOM))
        return sizes

    for planned in (False, True):
        edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        memory = MemoryPlanningPass(plan_with_room, alloc_graph_input=planned)
        program = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=memory))
        (method,) = program.executorch_program.execution_plan
        if not set(method.inputs) & set(method.outputs):
            break
    return bytes(program.buffer)


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
