"""The phone as a device: a small C++ program is pushed to it, and called over whatever way reaches it.

    with find_phone("tcp:192.168.1.20:5555", explain=print) as phone:
        phone.push(Path("blob.pte"), "/data/local/tmp/blob.pte")
        result = phone.shell("sha256sum /data/local/tmp/blob.pte")

`discovery` goes from an address to a `Transport`; the kinds are in `adb_shell_transport` (the library, over TCP and
USB), `adb_program_transport` (the user's own adb) and `here` (this computer). `push` and `calls` are what is done over
them, `device` the `Device` made of that; docs/phone.md describes the protocol.
"""

from .discovery import find_phone
from .transport import LineStream, PushProgress, ShellResult, Transport

__all__ = ["LineStream", "PushProgress", "ShellResult", "Transport", "find_phone"]
