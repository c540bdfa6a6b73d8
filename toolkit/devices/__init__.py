"""Devices: where blocks are measured, plans evaluated, and subnets paged in and run.

    device = connect("local")
    with device.open(BlockPack.open("pack")) as session:
        session.activate(session.pack.graph.oracle)
        output = session.infer(x)

`base` says what every device can do; `local` is this computer. An engine is imported when its address is asked for.
"""

from __future__ import annotations

from ..errors import DeviceError
from .base import Device, DeviceInfo, Evaluation, PageIn, Progress, Resident, Session

__all__ = ["Device", "DeviceInfo", "Evaluation", "PageIn", "Progress", "Resident", "Session", "connect"]

ADDRESSES = ("local", "local:executorch", "local:onnxruntime")


def connect(address: str, threads: int = 1) -> Device:
    """The device at `address`: `local` (the same as `local:executorch`) or `local:onnxruntime`, both this computer.

    `threads` is how many threads a block may use. Raises DeviceError for an address that is not understood or fewer
    than one thread, and EngineMissing when the engine is not installed: there is no falling back to the other one.
    """
    from .local import LocalDevice

    if threads < 1:
        raise DeviceError(f"cannot run on {threads} threads: ask for at least 1")
    if address in ("local", "local:executorch"):
        from .executorch_engine import ExecuTorchEngine

        return LocalDevice(address, ExecuTorchEngine(threads))
    if address == "local:onnxruntime":
        from .onnxruntime_engine import OnnxRuntimeEngine

        return LocalDevice(address, OnnxRuntimeEngine(threads))
    raise DeviceError(f"no device at {address!r}: the addresses understood are {', '.join(ADDRESSES)}")
