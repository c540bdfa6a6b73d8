"""From an address to a device.

    with connect("local") as device, device.open("pack") as session:
        session.activate(session.pack.graph.oracle)
        output = session.infer(x)

An engine is imported when its address is asked for.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from ..errors import DeviceError
from .base import Device, Log, Observer, usable_cores

ADDRESSES = ("local", "local:executorch", "local:onnxruntime")
_MOST_THREADS = 16  # or as many as this computer has cores; engines crash on thousands
_ENGINES = ("executorch", "onnxruntime")


def connect(
    address: str,
    threads: int = 1,
    *,
    evaluation_threads: int | None = None,
    cores: str | None = None,
    cool_c: float | None = None,
    fixed_performance: bool = False,
    observer: Observer | None = None,
    runner: str | Path | None = None,
) -> Device:
    """The device at `address`, ready to be used.

    - `local` (the same as `local:executorch`) and `local:onnxruntime` are this computer, in this process.
    - `runner` is this computer too, by the program that runs on phones.
    - Everything else is a phone: a serial as `adb devices` shows it, `usb`, `tcp:HOST:PORT`, and what else
      `phone.address` lists.

    The last two run ExecuTorch; with `:onnxruntime` behind the address, ONNX Runtime. `threads` is how many threads a
    block may use, and `evaluation_threads` how many while subnets are only evaluated (None: as many). Of a phone,
    `cores` are those to run on (`4-7`, `any`, by default the fastest that there are); before it is measured, it is
    waited for until it is not hotter than `cool_c` degrees Celsius; and with `fixed_performance` Android keeps its
    clocks within sustainable bounds. `runner` is the folder of the runner to use (by default the one that was
    built here for the device; see `adaptivenet-runner list`). The observer is told what a device does beside what it
    was asked for; without one, Python's log gets warnings.

    Raises DeviceError for an address that is not understood or not reached, and for fewer threads than one or far more
    than there are cores; EngineMissing when the engine is not installed: there is no falling back to another one.
    """
    for count in (threads, evaluation_threads):
        if count is not None and count < 1:
            raise DeviceError(f"cannot run on {count} threads: ask for at least 1")
        if count is not None and count > (most := max(usable_cores(), _MOST_THREADS)):
            raise DeviceError(f"cannot run on {count} threads: ask for at most {most}")
    if is_local(address):
        if cores is not None:
            raise DeviceError(f"{address} runs on the cores that this process has (see taskset): cores are for phones")
        if cool_c is not None or fixed_performance:
            raise DeviceError(f"{address} can neither be waited for to cool nor fix its clocks: those are for phones")
        if runner is not None:
            raise DeviceError(
                f"{address} runs in this process and uses no runner: give the device `runner`, or a phone"
            )
        return _local(address, threads, evaluation_threads or threads)
    place, engine = _place_and_engine(address)
    observer = observer or Log()
    from .phone.device import PhoneDevice

    # What a phone and this computer have in common; mypy sees through a partial, and not through a dict of options.
    reached = partial(
        PhoneDevice,
        address=address,
        engine=engine,
        threads=threads,
        cores=cores,
        observer=observer,
        cool_c=cool_c,
        fixed_performance=fixed_performance,
        evaluation_threads=evaluation_threads,
        runner=runner,
    )
    if place == "runner":
        from .phone.here import Here

        return reached(Here(address), home=tempfile.mkdtemp(prefix="adaptivenet-runner-"), idle_s=60, temporary=True)
    from .adb.discovery import find_phone

    return reached(find_phone(place, observer.explain, observer.say))


def is_local(address: str) -> bool:
    """Whether the address is this computer, in this process."""
    return address == "local" or address.startswith("local:")


def engine_of(address: str) -> str:
    """The name of the engine that the device at an address runs."""
    return _place_and_engine(address)[1]


def clean(address: str, observer: Observer | None = None) -> bool:
    """Removes everything that was pushed to the phone at `address`, and ends what runs there. False: there was nothing.

    Raises DeviceError when the phone is not reached.
    """
    place, _ = _place_and_engine(address)
    if place in ("local", "runner"):
        return False  # nothing stays on this computer
    from .adb.discovery import find_phone
    from .phone.device import remove_everything

    observer = observer or Log()
    with find_phone(place, observer.explain, observer.say) as transport:
        return remove_everything(transport)


def _place_and_engine(address: str) -> tuple[str, str]:
    place, colon, engine = address.rpartition(":")
    return (place, engine) if colon and engine in _ENGINES else (address, "executorch")


def _local(address: str, threads: int, evaluation_threads: int) -> Device:
    from .local.local import LocalDevice

    if address in ("local", "local:executorch"):
        from .local.executorch_engine import ExecuTorchEngine

        return LocalDevice(address, ExecuTorchEngine(threads), ExecuTorchEngine(evaluation_threads))
    if address == "local:onnxruntime":
        from .local.onnxruntime_engine import OnnxRuntimeEngine

        return LocalDevice(address, OnnxRuntimeEngine(threads), OnnxRuntimeEngine(evaluation_threads))
    raise DeviceError(f"no device at {address!r}: this computer is {', '.join(ADDRESSES)}")
