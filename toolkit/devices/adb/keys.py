"""The RSA key that a phone knows this computer by: ~/.android/adbkey, the same that the adb program uses."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import DeviceError


def load_key(explain: Callable[[str], None]) -> Any:
    """A signer of the adb-shell library with the user's key, made when missing (mode 0600, the public one beside it).

    Raises DeviceError for a key that cannot be read or written.
    """
    from adb_shell.auth.keygen import write_public_keyfile
    from adb_shell.auth.sign_cryptography import CryptographySigner

    private = Path.home() / ".android" / "adbkey"
    public = private.with_suffix(".pub")
    try:
        if private.exists():
            explain(f"key: {private}")
        else:
            _make(private)
            explain(f"key: {private}, made now")
        if not public.exists():
            write_public_keyfile(str(private), str(public))
        return CryptographySigner(str(private))
    except (OSError, ValueError, TypeError) as error:
        raise DeviceError(
            f"the key for ADB at {private} cannot be used ({error}): make it readable, or move it away and a new one "
            "is made"
        ) from error


def _make(private: Path) -> None:
    """Write a new pair. Where another program has written one at the same moment, that one stays."""
    from adb_shell.auth.keygen import keygen

    private.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adbkey.", dir=private.parent) as folder:  # mode 0700
        new = Path(folder, "adbkey")
        keygen(str(new))
        new.chmod(0o600)
        try:
            os.link(new, private)
        except FileExistsError:
            return
        os.replace(new.with_suffix(".pub"), private.with_suffix(".pub"))
