"""Devices: where blocks are measured, plans evaluated, and subnets paged in and run.

    device = connect("local")
    with device.open(BlockPack.open("pack")) as session:
        session.activate(session.pack.graph.oracle)
        output = session.infer(x)

`base` says what every device can do; `local` is this computer, and `phone` a phone, or this computer by way of the
runner that phones have. An engine is imported when its address is asked for.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError
from .base import Device, DeviceInfo, Evaluation, Log, Observer, PageIn, Progress, Resident, Session

if TYPE_CHECKING:
    from .phone.transport import Transport

__all__ = [
    "Device",
    "DeviceInfo",
    "Evaluation",
    "Log",
    "Observer",
    "PageIn",
    "Progress",
    "Resident",
    "Session",
    "clean",
    "connect",
]

ADDRESSES = ("local", "local:executorch", "local:onnxruntime")
_ENGINES = ("executorch", "onnxruntime")


def connect(
    address: str,
    threads: int = 1,
    *,
    cores: str | None = None,
    cool_c: float | None = None,
    fixed_performance: bool = False,
    observer: Observer | None = None,
) -> Device:
    """The device at `address`, ready to be used.

    - `local` (the same as `local:executorch`) and `local:onnxruntime` are this computer, in this process.
    - `runner` is this computer too, by the program that runs on phones.
    - Everything else is a phone: a serial as `adb devices` shows it, `usb`, `tcp:HOST:PORT`, and what else
      `phone.address` lists.

    The last two run ExecuTorch; with `:onnxruntime` behind the address, ONNX Runtime. `threads` is how many threads a
    block may use. Of a phone, `cores` are those to run on (`4-7`, `any`, by default the fastest that there are); before
    it is measured, it is waited for until it is not hotter than `cool_c` degrees Celsius; and with `fixed_performance`
    Android keeps its clocks within sustainable bounds. The observer is told what a device does beside what it was asked
    for; without one, Python's log gets warnings.

    Raises DeviceError for an address that is not understood or not reached, or fewer than one thread, and EngineMissing
    when the engine is not installed: there is no falling back to another one.
    """
    if threads < 1:
        raise DeviceError(f"cannot run on {threads} threads: ask for at least 1")
    if address == "local" or address.startswith("local:"):
        if cores is not None:
            raise DeviceError(f"{address} runs on the cores that this process has (see taskset): cores are for phones")
        if cool_c is not None or fixed_performance:
            raise DeviceError(f"{address} can neither be waited for to cool nor fix its clocks: those are for phones")
        return _local(address, threads)
    place, engine = _place_and_engine(address)
    observer = observer or Log()
    from .phone.device import PhoneDevice

    transport: Transport
    home: dict[str, Any] = {}
    if place == "runner":
        from .phone.here import Here

        transport = Here(address)
        home = {"home": tempfile.mkdtemp(prefix="adaptivenet-runner-"), "idle_s": 60, "temporary": True}
    else:
        from .phone import find_phone

        transport = find_phone(place, observer.explain, observer.say)
    return PhoneDevice(transport, address, engine, threads, cores, observer, cool_c, fixed_performance, **home)


def clean(address: str, observer: Observer | None = None) -> bool:
    """Removes everything that was pushed to the phone at `address`, and ends what runs there. False: there was nothing.

    Raises DeviceError when the phone is not reached.
    """
    place, _ = _place_and_engine(address)
    if place in ("local", "runner"):
        return False  # nothing stays on this computer
    from .phone import find_phone
    from .phone.device import remove_everything

    observer = observer or Log()
    with find_phone(place, observer.explain, observer.say) as transport:
        return remove_everything(transport)


def _place_and_engine(address: str) -> tuple[str, str]:
    place, colon, engine = address.rpartition(":")
    return (place, engine) if colon and engine in _ENGINES else (address, "executorch")


def _local(address: str, threads: int) -> Device:
    from .local import LocalDevice

    if address in ("local", "local:executorch"):
        from .executorch_engine import ExecuTorchEngine

        return LocalDevice(address, ExecuTorchEngine(threads))
    if address == "local:onnxruntime":
        from .onnxruntime_engine import OnnxRuntimeEngine

        return LocalDevice(address, OnnxRuntimeEngine(threads))
    raise DeviceError(f"no device at {address!r}: this computer is {', '.join(ADDRESSES)}")
