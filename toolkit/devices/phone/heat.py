"""How hot a phone is, and waiting until it has cooled."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from ...errors import DeviceError
from ..adb.transport import Transport
from ..base import Observer
from ..conditions import hottest

PATIENCE_S = 900.0
PAUSE_S = 2.0
_READING = re.compile(r"Temperature\{mValue=([-+.\dEe]+), mType=(-?\d+), mName=([^,}]+), mStatus=\d+\}")
_NO_TEMPERATURES = ("6", "7", "8")  # types that are a battery's voltage, current and charge


def read_thermalservice(text: str) -> dict[str, float]:
    """The degrees Celsius by sensor in what `dumpsys thermalservice` prints: its cached values, or its current ones."""
    return {name: float(value) for value, kind, name in _READING.findall(text) if kind not in _NO_TEMPERATURES}


def ask_thermalservice(transport: Transport) -> dict[str, float]:
    """The same from a phone; empty where there is no such service."""
    return read_thermalservice(transport.shell("dumpsys thermalservice 2>/dev/null").text)


def cool_down(
    limit: float,
    read: Callable[[], Mapping[str, float]],
    address: str,
    observer: Observer,
    patience_s: float = PATIENCE_S,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns when no sensor that `read` gives is hotter than `limit` degrees Celsius; the observer sees a countdown.

    Raises DeviceError when there are no sensors, and when it takes longer than `patience_s`.
    """
    waited, first = 0.0, None
    while True:
        now = hottest(read())
        if now is None:
            raise DeviceError(f"{address} does not tell how hot it is: measure without waiting for it to cool")
        first = first or now
        if now <= limit:
            if waited:
                observer.progress("cool down", round(waited), round(waited), f"{now:.1f} °C")
            return
        if waited >= patience_s:
            raise DeviceError(
                f"{address} has not cooled to {limit:g} °C in {patience_s / 60:.0f} minutes: it went from {first:.1f} "
                f"to {now:.1f} °C. Take it out of its case, or allow more"
            )
        left = patience_s - waited
        note = f"{now:.1f} °C, to be {limit:g} °C; {left // 60:.0f}:{left % 60:02.0f} left"
        observer.progress("cool down", round(waited), round(patience_s), note)
        sleep(PAUSE_S)
        waited += PAUSE_S
