"""Settings of a phone that are changed while it is measured, and put back afterwards, whatever happens.

Before anything is changed, a script that puts it back is written to `run/restore` in the folder on the phone. The host
runs it when it has finished; if the host or the cable is gone, the daemon does when nobody has called it for a while,
and a daemon that was killed has it done by the next one.
"""

from __future__ import annotations

import shlex

from ...errors import DeviceError
from .transport import Transport

_NO_SETTINGS = 3  # an exit status
_AWAKE = "settings put global stay_on_while_plugged_in"
_FIXED = "cmd power set-fixed-performance-mode-enabled"

# While `restore` is there, the screen is kept on already: what would be read then is not the owner's choice.
_CHANGE = f"""
command -v settings >/dev/null || exit {_NO_SETTINGS}
if [ ! -e restore ]; then
  old=$(settings get global stay_on_while_plugged_in)
  case "$old" in
  null) back="settings delete global stay_on_while_plugged_in" ;;
  [0-9]*) back="{_AWAKE} $old" ;;
  *) echo "$old"; exit 1 ;;
  esac
  echo "$back" >.part-restore && mv .part-restore restore || exit
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
    transport.shell(f"cd {shlex.quote(home)}/run 2>/dev/null && [ -e restore ] && sh restore && rm -f restore")
