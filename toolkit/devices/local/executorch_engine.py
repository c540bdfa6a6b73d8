"""ExecuTorch in this process, through the Python runtime of its wheel.

Three things that the runtime lets pass in silence are settled here. It takes a tensor whose strides are not the ones
the program was exported for and computes garbage: every operand is brought into the artifact's layout. A program reads
its inputs where they are, and XNNPACK reads past their end: every operand lies in memory with room behind it. And the
thread pool is one for the whole process, which loaded programs may hold on to: it is never changed under a loaded
program.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from io import StringIO, TextIOBase
from math import prod
from operator import is_
from typing import Any, TextIO
from weakref import WeakSet, ref

import numpy as np
from numpy.typing import NDArray

from ...errors import DeviceError, EngineMissing
from .interpreter import Tensor, TensorType, check_signature

# ScalarType in executorch/runtime/core/portable_type/scalar_type.h
_DTYPES = {0: "uint8", 1: "int8", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 11: "bool", 15: "bfloat16"}

# XNNPACK may read as many bytes past the end of an input (XNN_EXTRA_BYTES, which is 16), and ignores what it reads. The
# exporter leaves as much behind the outputs that it plans.
ROOM = 64


class ExecuTorchEngine:
    """Runs `.pte` programs with the backends of the wheel (XNNPACK on a CPU). Tensors are torch's."""

    name = "executorch"
    backend = "executorch"
    assemble = None

    def __init__(self, threads: int) -> None:
        torch, _C = import_libraries()
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
                inputs = [meta.input_tensor_meta(index) for index in range(meta.num_inputs())]
                outputs = [meta.output_tensor_meta(index) for index in range(meta.num_outputs())]
            except RuntimeError as error:
                raise DeviceError(f"{what} does not load on executorch {self.version}: {error}{told()}") from error
        check_signature(what, takes, gives, [*map(_type, inputs)], [*map(_type, outputs)])
        reads_in_place = not any(each.is_memory_planned() for each in inputs)
        gives_in_place = all(each.is_memory_planned() for each in outputs)
        return _Program(what, method, layout, self._formats[layout], (data, program), reads_in_place, gives_in_place)

    def tensor(self, array: NDArray[Any], layout: str) -> Tensor:
        """See `Engine.tensor`."""
        array = np.require(array, requirements=("C", "W"))  # torch warns of memory that it may not write to
        return _with_room(self._torch.from_numpy(array), layout)

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """See `Engine.array`."""
        return np.array(tensor.numpy(), order="C")


def import_libraries() -> tuple[Any, Any]:
    """torch and the runtime. No thread is started yet. Raises EngineMissing where they are not installed."""
    try:
        import torch

        # `executorch.runtime` is the public name of the same classes, but importing it imports the whole exporter:
        # five seconds, and warnings about libraries that only an exporter needs.
        from executorch.extension.pybindings import _C
    except ImportError as error:
        raise EngineMissing(
            f"the engine executorch cannot be imported ({error}): pip install executorch torch"
        ) from error
    return torch, _C


class _Program:
    """A loaded method, and the bytes it points into.

    A method reads its inputs where they were when it was given them, until it is given others, and its output always
    lies in the same memory. So the one tensor stands for that output, and where a program is given what it was given
    before, as by a chain that runs again, it is only executed: to hand over tensors takes longer than their bytes.
    """

    def __init__(
        self,
        what: str,
        method: Any,
        layout: str,
        memory_format: Any,
        memory: tuple[Any, ...],
        reads_in_place: bool,
        gives_in_place: bool,
    ) -> None:
        self._what = what
        self._method = method
        self._layout = layout
        self._format = memory_format
        self._memory = memory
        self._reads_in_place, self._gives_in_place = reads_in_place, gives_in_place
        self._given: tuple[ref[Tensor], ...] = ()  # what the method reads, where that is what the caller has
        self._output: Tensor | None = None
        _loaded.add(self)

    def __call__(self, operands: Sequence[Tensor], keep: bool = True) -> Tensor:
        try:
            output = self._executed(operands)
        except RuntimeError as error:
            raise DeviceError(f"{self._what} failed on executorch: {error}") from error
        return _with_room(output, self._layout) if keep else output

    def _executed(self, operands: Sequence[Tensor]) -> Tensor:
        if self._output is not None and self._has(operands):
            self._method.execute()
            return self._output
        self._given = ()
        inputs = [each if self._has_layout(each) else _with_room(each, self._layout) for each in operands]
        output = self._output
        if output is None:
            (output,) = self._method(inputs, False)
            self._output = output if self._gives_in_place else None
        else:
            self._method.set_inputs(inputs)
            self._method.execute()
        if self._reads_in_place and all(map(is_, inputs, operands)):
            self._given = tuple(map(ref, operands))
        return output

    def _has(self, operands: Sequence[Tensor]) -> bool:
        return len(self._given) == len(operands) and all(own() is each for own, each in zip(self._given, operands))

    def _has_layout(self, operand: Tensor) -> bool:
        return bool(
            operand.is_contiguous(memory_format=self._format) if operand.dim() == 4 else operand.is_contiguous()
        )


def _with_room(tensor: Tensor, layout: str) -> Tensor:
    """A copy of `tensor`, in `layout` when it has four dimensions, with ROOM bytes behind it."""
    shape, count = tensor.shape, prod(tensor.shape)
    memory = tensor.new_empty(count + -(-ROOM // tensor.element_size()))[:count]
    if len(shape) == 4 and layout == "channels_last":
        images, channels, height, width = shape
        made = memory.view(images, height, width, channels).permute(0, 3, 1, 2)
    else:
        made = memory.view(shape)
    return made.copy_(tensor)


_loaded: WeakSet[_Program] = WeakSet()


def _type(info: Any) -> TensorType:
    return tuple(info.sizes()), _DTYPES.get(info.dtype(), f"dtype {info.dtype()}")


@contextmanager
def _told() -> Iterator[Callable[[], str]]:
    """Keep what the runtime logs off the terminal; yields a function that gives it on one line.

    It logs through Python's `sys.stderr`, so nothing needs to be done to the file descriptor. What other threads write
    meanwhile is not touched.
    """
    with _TELLING, redirect_stderr(_OfThisThread(sys.stderr)) as caught:
        yield lambda: "".join(f"; {line.strip()}" for line in caught.text.splitlines() if line.strip())


_TELLING = threading.RLock()


class _OfThisThread(TextIOBase):
    """Keeps what the thread that makes it writes; everything else goes to the stream that was there before, if any."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream, self._thread, self._lines = stream, threading.get_ident(), StringIO()

    @property
    def text(self) -> str:
        """What was kept."""
        return self._lines.getvalue()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            return self._lines.write(text)
        return self._stream.write(text) if self._stream else len(text)

    def flush(self) -> None:
        if threading.get_ident() != self._thread and self._stream:
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty() if self._stream else False
