"""The name of a phone's system on a chip: latencies depend on it most, and an app can ask for it, too."""

from __future__ import annotations

from collections.abc import Sequence

from ..adb.transport import Transport

PROPERTIES = ("ro.soc.model", "ro.hardware", "ro.product.board")
"""What Android's `Build` gives to apps as `SOC_MODEL` (since Android 12), `HARDWARE` and `BOARD`."""
_SAYS_NOTHING = {"", "unknown", "qcom"}  # on phones of Qualcomm's, the hardware is its maker's name


def soc_of(properties: Sequence[str]) -> str | None:
    """The first of the values of `PROPERTIES`, in their order, that says which chip it is; None: none does."""
    values = (value.strip() for value in properties)
    return next((value for value in values if value.lower() not in _SAYS_NOTHING and value.isprintable()), None)


def ask_soc(transport: Transport) -> str | None:
    """The system on a chip behind a transport; None where that is no Android."""
    each = "; ".join(f"getprop {name} 2>/dev/null || echo" for name in PROPERTIES)
    return soc_of(transport.shell(each).text.splitlines())
