"""A phone as a device: the runner is pushed, and asked who the phone is; see docs/phone.md."""

from __future__ import annotations

import platform
import shlex
import weakref
from collections.abc import Sequence
from contextlib import suppress

from ...errors import AdaptiveNetError, EngineMissing
from ...pack import BlockPack
from ..base import Device, DeviceInfo, Log, Observer
from ..checks import check_backend
from ..conditions import spell_cores
from .bundle import PROGRAM, Bundle, find_bundle, presets_for
from .calls import Calls, read_result
from .contents import pack_items, runner_items
from .cores import choose_cores
from .heat import ask_thermalservice, cool_down
from .push import Item, Store
from .session import PhoneSession
from .steady import keep_steady, put_back
from .transport import Transport

HOME = "/data/local/tmp/adaptivenet"
BACKENDS = {"executorch": "executorch", "onnxruntime": "onnx"}  # an engine and the pack's name for what it reads


class PhoneDevice(Device):
    """A phone, or whatever else runs shell commands behind a transport, with one engine of its runner."""

    def __init__(
        self,
        transport: Transport,
        address: str | None = None,
        engine: str = "executorch",
        threads: int = 1,
        cores: str | None = None,
        observer: Observer | None = None,
        cool_c: float | None = None,
        fixed_performance: bool = False,
        evaluation_threads: int | None = None,
        home: str = HOME,
        idle_s: int = 300,
        temporary: bool = False,
    ) -> None:
        """Pushes the runner where it is missing, and asks it who the phone is.

        `cores` as for `choose_cores`; `home` is the folder on the phone, `idle_s` how long the runner stays when nobody
        calls it. With `temporary`, both go when the device is closed or forgotten. `cool_c` is for `cool_down`,
        `fixed_performance` for `keep_steady`, which is undone when the device is closed or forgotten.

        Raises DeviceError when no runner is built for the phone or it does not answer, EngineMissing when it has no
        such engine.
        """
        self.observer = observer or Log()
        self._leave = weakref.finalize(self, remove_everything, transport, home) if temporary else None
        address = address or transport.address
        bundle = bundle_for(transport)
        self.store = Store(transport, home, self.observer)
        self.calls = Calls(transport, self.store, bundle, self.observer, idle_s=idle_s)
        self.put(runner_items(bundle))
        self._transport = transport
        self._cool_c = cool_c

        info = self.calls("info")
        engines = read_result("info", lambda: dict(info["engines"]))
        if engine not in engines:
            raise EngineMissing(
                f"the runner for {address} has no engine {engine!r}, only {', '.join(engines)}; see docs/phone.md for "
                "how to build it with others"
            )
        there = read_result("info", lambda: list(info["cores"]))
        chosen = choose_cores(there, threads, cores)
        self.cores = None if chosen is None else list(chosen)
        wider = choose_cores(there, evaluation_threads or threads, cores)
        self.evaluation_cores = None if wider is None else list(wider)
        self.governors = read_result(
            "info", lambda: tuple(core["governor"] for core in info["cores"] if chosen is None or core["cpu"] in chosen)
        )
        self.observer.explain(
            f"{address} runs on {'any core' if chosen is None else f'cores {spell_cores(chosen)}'} with {threads} "
            f"threads (runner {bundle.version}, {bundle.preset})"
        )
        self.info = read_result(
            "info",
            lambda: DeviceInfo(
                address=address,
                name=str(info["processor"]),
                os=str(info["os"]),
                engine=engine,
                engine_version=str(engines[engine]),
                threads=threads,
                cores=len(self.cores or info["cores"]),
                evaluation_threads=evaluation_threads,
            ),
        )
        self._restore = weakref.finalize(self, _put_back, transport, home)
        self.observer.explain(f"{address}: {keep_steady(transport, home, fixed_performance)}")

    def open(self, pack: BlockPack) -> PhoneSession:
        """See `Device.open`. Pushes the pack, as far as it is not on the phone."""
        backend = BACKENDS[self.info.engine]
        check_backend(pack, backend, self.info.address)
        self.put(pack_items(pack, backend))
        return PhoneSession(self, pack)

    def put(self, items: Sequence[Item]) -> None:
        """Have these files on the phone, however often the connection is lost in between."""
        self.calls.patiently(lambda: self.store.put(items))

    def temperatures(self) -> dict[str, float]:
        """What Android says of its sensors, name to degrees Celsius; empty where it says nothing."""
        return self.calls.patiently(lambda: ask_thermalservice(self._transport))

    def cool_down(self) -> None:
        """Waits until the phone is as cool as it was asked to be before it is measured; see `heat.cool_down`."""
        if self._cool_c is not None:
            cool_down(self._cool_c, self._read_heat, self.info.address, self.observer)

    def _read_heat(self) -> dict[str, float]:
        return self.temperatures() or read_result("info", lambda: dict(self.calls("info")["temperatures"]))

    def close(self) -> None:
        """See `Device.close`. The runner stays for a while, for the next one who calls."""
        self._restore()
        if self._leave:
            self._leave()
        self._transport.close()


def _put_back(transport: Transport, home: str) -> None:
    with suppress(AdaptiveNetError):  # where the phone is gone, the daemon does it
        put_back(transport, home)


def bundle_for(transport: Transport) -> Bundle:
    """The runner for the phone behind a transport. Raises DeviceError when none is built."""
    said = transport.shell('abi=$(getprop ro.product.cpu.abi 2>/dev/null); echo "abi=$abi"; uname -m').text.split()
    abi = next((word.removeprefix("abi=") for word in said if word.startswith("abi=")), "")
    return find_bundle(presets_for(abi, said[-1] if said else "", platform.machine()))


def remove_everything(transport: Transport, home: str = HOME) -> bool:
    """Ends the daemon on a phone, whatever version it has, and removes the whole folder. False: there was none."""
    stop = shlex.quote('{"verb":"stop"}')
    found = transport.shell(
        _END.format(home=shlex.quote(home), call=f"call --home {shlex.quote(home)} --idle 5 {stop}"), 90
    )
    if found.status:
        return False
    put_back(transport, home)  # where no daemon was left to do it
    Store(transport, home, Log()).clean()
    return True


# A daemon that was stopped (SIGSTOP) is woken. Any of the runners that are there can tell it to end, and it ends within
# 5 s; it must have ended before its folder goes, because it may have settings of the phone to put back.
_END = f"""cd {{home}} 2>/dev/null || exit 1
p=$(sed -n 's/^adaptivenet-runner .*, process \\([0-9]*\\)$/\\1/p' run/log 2>/dev/null)
runs() {{{{ [ -n "$p" ] && [ "$(cat "/proc/$p/comm" 2>/dev/null)" = adaptivenet ]; }}}}
runs && kill -CONT "$p"
for d in runner/*/; do
  [ -e run/socket ] || break
  ( cd "$d" || exit; l=$(echo ld-*)
    if [ -f "$l" ]; then "./$l" --library-path . ./{PROGRAM} {{call}}; else ./{PROGRAM} {{call}}; fi )
done
n=0
while runs; do
  if [ $n -ge 100 ]; then kill -9 "$p"; break; fi
  n=$((n + 1)); sleep 0.1
done
exit 0"""
