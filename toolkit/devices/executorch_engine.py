"""ExecuTorch in this process, through the Python runtime of its wheel.

Two things that the runtime lets pass in silence are settled here. It takes a tensor whose strides are not the ones the
program was exported for and computes garbage: every operand is brought into the artifact's layout. And its thread pool
is one for the whole process, which loaded programs may hold on to: it is never changed under a loaded program.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from io import StringIO
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceError, EngineMissing
from .interpreter import Tensor, TensorType, check_signature

# ScalarType in executorch/runtime/core/portable_type/scalar_type.h
_DTYPES = {0: "uint8", 1: "int8", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 11: "bool", 15: "bfloat16"}


class ExecuTorchEngine:
    """Runs `.pte` programs with the backends of the wheel (XNNPACK on a CPU). Tensors are torch's."""

    name = "executorch"
    backend = "executorch"

    def __init__(self, threads: int) -> None:
        try:
            import torch

            # `executorch.runtime` is the public name of the same classes, but importing it imports the whole exporter:
            # five seconds, and warnings about libraries that only an exporter needs.
            from executorch.extension.pybindings import _C
        except ImportError as error:
            raise EngineMissing(
                f"the engine executorch cannot be imported ({error}): pip install executorch torch"
            ) from error
        self.version = version("executorch")
        self.threads = threads
        self._torch = torch
        self._runtime: Any = _C
        with _told():
            _C._threadpool_get_thread_count()  # the first look makes the pool, which the runtime announces at length
        self._formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

    def check_threads(self) -> None:
        """Give the process's thread pool the number of threads asked for.

        Raises DeviceError when it has another number and programs are loaded that count on it.
        """
        count = self._runtime._threadpool_get_thread_count()
        if count == self.threads:
            return
        if _loaded:
            gc.collect()  # a caught exception's traceback can hold on to blocks that nobody can run any more
        if _loaded:
            raise DeviceError(
                f"cannot run executorch on {self.threads} threads: blocks are loaded in this process that run on "
                f"{count}; close their session first"
            )
        with _told():
            self._runtime._unsafe_reset_threadpool(self.threads)
        if self._runtime._threadpool_get_thread_count() != self.threads:
            raise DeviceError(f"executorch does not run on {self.threads} threads here; ask for fewer")

    def load(self, what: str, data: bytes, layout: str, takes: Sequence[TensorType], gives: TensorType) -> _Program:
        """See `Engine.load`."""
        self.check_threads()
        with _told() as told:
            try:
                program = self._runtime._load_program_from_buffer(
                    data, program_verification=self._runtime.Verification.InternalConsistency
                )
                method = program.load_method("forward")
                meta = method.method_meta()
                inputs = [_type(meta.input_tensor_meta(index)) for index in range(meta.num_inputs())]
                outputs = [_type(meta.output_tensor_meta(index)) for index in range(meta.num_outputs())]
            except RuntimeError as error:
                raise DeviceError(f"{what} does not load on executorch {self.version}: {error}{told()}") from error
        check_signature(what, takes, gives, inputs, outputs)
        return _Program(what, method, self._formats[layout], (data, program))

    def tensor(self, array: NDArray[Any], layout: str) -> Tensor:
        """See `Engine.tensor`."""
        tensor = self._torch.tensor(np.ascontiguousarray(array))
        return tensor.contiguous(memory_format=self._formats[layout]) if tensor.dim() == 4 else tensor

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """See `Engine.array`."""
        return np.array(tensor.numpy(), order="C")


class _Program:
    """A loaded method, and the bytes it points into."""

    def __init__(self, what: str, method: Any, memory_format: Any, memory: tuple[Any, ...]) -> None:
        self._what = what
        self._method = method
        self._format = memory_format
        self._memory = memory
        _loaded.add(self)

    def __call__(self, operands: Sequence[Tensor], keep: bool = True) -> Tensor:
        # For a tensor that has the layout already, `contiguous` returns it as it is.
        inputs = [
            operand.contiguous(memory_format=self._format) if operand.dim() == 4 else operand.contiguous()
            for operand in operands
        ]
        try:
            return self._method(inputs, keep)[0]
        except RuntimeError as error:
            raise DeviceError(f"{self._what} failed on executorch: {error}") from error


_loaded: WeakSet[_Program] = WeakSet()


def _type(info: Any) -> TensorType:
    return tuple(info.sizes()), _DTYPES.get(info.dtype(), f"dtype {info.dtype()}")


@contextmanager
def _told() -> Iterator[Callable[[], str]]:
    """Keep what the runtime logs off the terminal; yields a function that gives it on one line.

    It logs through Python's `sys.stderr`, so nothing needs to be done to the file descriptor.
    """
    with redirect_stderr(StringIO()) as caught:
        yield lambda: "".join(f"; {line.strip()}" for line in caught.getvalue().splitlines() if line.strip())
