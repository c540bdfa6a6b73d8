"""What a phone is left as: its settings are put back, and the user's pictures are removed, whatever happens.

Before anything is changed, a script that puts it back is written to `run/restore` in the folder on the phone. The host
runs it when it has finished. If the host or the cable is gone, the daemon runs it when nobody has called it for a
while; if the daemon was killed, the next one does.

A line of this script removes all pictures. A host that has finished leaves this line out, because another host may use
the phone at the same time: it removes the pictures that it has pushed itself (see `push`).
"""

from __future__ import annotations

import shlex

from ...errors import DeviceError
from ..adb.transport import Transport

_NO_SETTINGS = 3  # an exit status
_AWAKE = "settings put global stay_on_while_plugged_in"
_FIXED = "cmd power set-fixed-performance-mode-enabled"

# When the script holds this setting, the screen is kept on already: the value now is not the owner's choice.
_CHANGE = f"""
command -v settings >/dev/null || exit {_NO_SETTINGS}
if ! grep -q stay_on restore 2>/dev/null; then
  old=$(settings get global stay_on_while_plugged_in)
  case "$old" in
  null) back="settings delete global stay_on_while_plugged_in" ;;
  [0-9]*) back="{_AWAKE} $old" ;;
  *) echo "$old"; exit 1 ;;
  esac
  echo "$back" >>restore || exit
fi
{_AWAKE} 7 || exit
input keyevent KEYCODE_WAKEUP 2>/dev/null
[ -n "$fixed" ] || exit 0
grep -q fixed-performance restore || echo "{_FIXED} false" >>restore || exit
{_FIXED} true
"""


def keep_steady(transport: Transport, home: str, fixed_performance: bool) -> str:
    """Keeps the phone's screen on, and with `fixed_performance` its clocks within Android's sustainable bounds.

    Returns what was changed, or why nothing was, for people. A daemon must have run in `home`. Raises DeviceError when
    fixed performance was asked for and the phone does not have it.
    """
    fixed = "fixed=1" if fixed_performance else "fixed="
    result = transport.shell(f"cd {shlex.quote(home)}/run || exit; {fixed}\n{_CHANGE}")
    said = " ".join(result.text.split())[:200] or "it has no such setting"
    if result.status == 0:
        return "the screen stays on" + (", clocks within fixed bounds" if fixed_performance else "")
    if fixed_performance:
        put_back(transport, home)
        raise DeviceError(f"{transport.address} cannot be kept at fixed performance: {said}")
    return f"its screen cannot be kept on: {said}"


def put_back(transport: Transport, home: str) -> None:
    """Puts the settings back that `keep_steady` has changed; harmless where it has not."""
    script = f"cd {shlex.quote(home)}/run 2>/dev/null && [ -e restore ] || exit 0; keep_data=1 sh restore || exit"
    line = shlex.quote(_remove_data(home))
    transport.shell(f"{script}; if grep -qxF {line} restore; then echo {line} >restore; else rm -f restore; fi")


def remove_data_later(home: str) -> str:
    """The shell command after which `run/restore` removes all pictures in `home`."""
    line, script = shlex.quote(_remove_data(home)), shlex.quote(f"{home}/run/restore")
    return f"mkdir -p {shlex.quote(home)}/run; grep -qsxF {line} {script} || echo {line} >>{script}"


def _remove_data(home: str) -> str:
    return f'[ "$keep_data" ] || find {shlex.quote(home)}/data -type f -exec rm -f {{}} +'
