"""Exporters that waste nothing: what they compute anew for every program although it is always the same, computed once
a process, and no more threads than the worker has.

Measured with torch 2.13 and executorch 1.5 on one MBConv block: 1.8 → 1.2 s a program for ExecuTorch, 1.1 → 0.4 s for
ONNX. The names are private ones: where another version does not have them, nothing is changed and export is only
slower. Every program is verified against torch afterwards, so that a stale table could not go unnoticed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import Any

_ALWAYS_THE_SAME = (
    # The operators that decompose into others: a walk over some 2,000 of them.
    ("torch._export.utils", "_collect_all_valid_cia_ops_for_namespace"),
    # The table of ONNX translations: it parses the source of 497 functions.
    ("torch.onnx._internal.exporter._registration", "ONNXRegistry.from_torchlib"),
)
# Where a node of a graph comes from: copied with every node in every pass, although nobody changes it.
_NEVER_CHANGED = ("torch.fx.traceback", "NodeSource")


@functools.cache
def remember_tables() -> None:
    """Makes this process compute the exporters' tables once, and copy no notes on where nodes come from."""
    with contextlib.suppress(ImportError, AttributeError):
        _found(*_NEVER_CHANGED).__deepcopy__ = lambda self, memo: self
    for module_name, path in _ALWAYS_THE_SAME:
        try:
            parent, _, name = path.rpartition(".")
            owner = _found(module_name, parent)
            cached = functools.cache(getattr(owner, name))
            setattr(owner, name, staticmethod(cached) if isinstance(owner, type) else cached)
        except (ImportError, AttributeError):
            continue


def compute_onnx_table() -> None:
    """Computes the table for ONNX before an export asks for it."""
    with contextlib.suppress(ImportError, AttributeError):
        _found(*_ALWAYS_THE_SAME[1])()


@functools.cache
def calibrate_on_one_thread() -> None:
    """Makes ONNX Runtime's quantiser run models on one thread in this process: of several workers, each would take all
    cores."""
    with contextlib.suppress(ImportError, AttributeError):
        import onnxruntime  # type: ignore[import-untyped]

        calibrater = _found("onnxruntime.quantization.calibrate", "CalibraterBase")

        def create(self: Any) -> None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            self.infer_session = onnxruntime.InferenceSession(
                self.augmented_model_path, sess_options=options, providers=self.execution_providers
            )

        if hasattr(calibrater, "create_inference_session"):
            calibrater.create_inference_session = create


def _found(module_name: str, path: str) -> Any:
    """What a module has under a path of names, or the module itself for none."""
    found: Any = importlib.import_module(module_name)
    for name in path.split(".") if path else ():
        found = getattr(found, name)
    return found
