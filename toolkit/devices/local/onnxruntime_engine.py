"""ONNX Runtime in this process, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DeviceError, EngineMissing
from .interpreter import Part, Tensor, TensorType, check_signature
from .onnx_assembly import assemble

# Errors come back as exceptions; without this they would be printed on standard error as well.
_ONLY_FATAL = 4
_DTYPES = {"float": "float32", "double": "float64"}


class OnnxRuntimeEngine:
    """Runs `.onnx` programs with the CPU execution provider. Tensors are numpy's, and always contiguous."""

    name = "onnxruntime"
    backend = "onnx"

    def __init__(self, threads: int) -> None:
        onnxruntime = import_library()
        self.version = str(onnxruntime.__version__)
        self.threads = threads
        self._runtime: Any = onnxruntime
        # Every block is a session with threads of its own. Were they to spin after a block, they would take the cores
        # from the next one. An assembled network has no next one.
        self._of_block, self._of_network = self._options(spinning=False), self._options(spinning=True)

    def _options(self, spinning: bool) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ONLY_FATAL
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        return options

    def check_threads(self) -> None:
        """Nothing to check: each program has its own threads, as many as it was loaded with."""

    def load(self, what: str, data: bytes, layout: str, takes: Sequence[TensorType], gives: TensorType) -> _Program:
        """See `Engine.load`."""
        return self._load(what, data, self._of_block, takes, gives)

    def assemble(self, parts: Sequence[Part], types: Sequence[TensorType]) -> _Program:
        """See `Assemble`."""
        made = {part.gives for part in parts}
        takes = dict.fromkeys(cut for part in parts for cut in part.takes if cut not in made)
        what = parts[0].what if len(parts) == 1 else f"the network from {parts[0].what} to {parts[-1].what}"
        return self._load(
            what, assemble(parts), self._of_network, [types[cut] for cut in takes], types[parts[-1].gives]
        )

    def _load(self, what: str, data: bytes, options: Any, takes: Sequence[TensorType], gives: TensorType) -> _Program:
        try:
            session = self._runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exceptions share no other base
            raise DeviceError(f"{what} does not load on onnxruntime {self.version}: {_line(error)}") from error
        # The runtime keeps the model's bytes for a session with other providers, which is none of ours.
        session.disable_fallback()
        session._model_bytes = None
        inputs, outputs = map(_type, session.get_inputs()), map(_type, session.get_outputs())
        check_signature(what, takes, gives, list(inputs), list(outputs))
        return _Program(what, session)

    def tensor(self, array: NDArray[Any], layout: str) -> Tensor:
        """See `Engine.tensor`."""
        return np.ascontiguousarray(array)

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """See `Engine.array`."""
        return np.array(tensor, order="C")


def import_library() -> Any:
    """The runtime. No thread is started yet. Raises EngineMissing where it is not installed."""
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise EngineMissing(f"the engine onnxruntime cannot be imported ({error}): pip install onnxruntime") from error
    return onnxruntime


class _Program:
    """A loaded session. Its outputs are new arrays on every run."""

    def __init__(self, what: str, session: Any) -> None:
        self._what = what
        self._session = session
        self._inputs = [node.name for node in session.get_inputs()]
        self._output = [session.get_outputs()[0].name]

    def __call__(self, operands: Sequence[Tensor], keep: bool = True) -> Tensor:
        try:
            return self._session.run(self._output, dict(zip(self._inputs, operands, strict=True)))[0]
        except Exception as error:  # the runtime's exceptions share no other base
            raise DeviceError(f"{self._what} failed on onnxruntime: {_line(error)}") from error


def _type(node: Any) -> TensorType:
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    return tuple(node.shape), _DTYPES.get(dtype, dtype)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
