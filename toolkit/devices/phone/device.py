"""A phone as a device: the runner is pushed, and asked who the phone is; see docs/phone.md."""

from __future__ import annotations

import hashlib
import platform
import shlex
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...data import Dataset
from ...errors import AdaptiveNetError, EngineMissing
from ...pack.pack import BlockPack
from ...plurals import number_of
from ..adb.transport import Transport
from ..base import Device, DeviceInfo, Log, Observer
from ..checks import check_backend
from ..conditions import spell_cores
from ..energy import PATTERNS
from .calls import Calls, read_result
from .contents import BACKENDS, data_files, pack_items, runner_items
from .cores import choose_cores
from .heat import ask_thermalservice, cool_down
from .push import Item, Store
from .runner_bundle import PROGRAM, Bundle, find_bundle, presets_for
from .session import PhoneSession
from .soc import ask_soc
from .steady import keep_steady, put_back

HOME = "/data/local/tmp/adaptivenet"


class PhoneDevice(Device):
    """A phone, or whatever else runs shell commands behind a transport, with one engine of its runner."""

    root = "/"

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
        runner: str | Path | None = None,
    ) -> None:
        """Pushes the runner where it is missing, and asks it who the phone is.

        `cores` as for `choose_cores`; `home` is the folder on the phone, `idle_s` how long the runner stays when nobody
        calls it. `runner` is for `bundle_for`, `cool_c` for `cool_down`, `fixed_performance` for `keep_steady`. When
        the device is closed or forgotten, the phone's settings are put back and the pictures that were pushed are
        removed; with `temporary`, the runner ends and `home` is removed, too.

        Raises DeviceError when no runner is built for the phone or it does not answer, EngineMissing when it has no
        such engine.
        """
        self.observer = observer or Log()
        self._leave = weakref.finalize(self, remove_everything, transport, home) if temporary else None
        address = address or transport.address
        bundle = bundle_for(transport, runner)
        self.store = Store(transport, home, self.observer)
        self._restore = weakref.finalize(self, _leave_as_it_was, transport, self.store)
        self.calls = Calls(transport, self.store, bundle, self.observer, idle_s=idle_s)
        self.put(runner_items(bundle))
        self._transport = transport
        self._cool_c = cool_c
        self._pushed: dict[tuple[Any, ...], tuple[str, ...]] = {}

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
        soc = ask_soc(transport)
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
                soc=soc,
            ),
        )
        self.observer.explain(f"{address}: {keep_steady(transport, home, fixed_performance)}")

    def _open(self, pack: BlockPack) -> PhoneSession:
        """See `Device.open`. Pushes the pack, as far as it is not on the phone."""
        backend = BACKENDS[self.info.engine]
        check_backend(pack, backend, self.info.address)
        self.put(pack_items(pack, backend))
        return PhoneSession(self, pack)

    def put(self, items: Sequence[Item]) -> None:
        """Have these files on the phone, however often the connection is lost in between."""
        self.calls.patiently(lambda: self.store.put(items))

    def mend(self, items: Sequence[Item]) -> bool:
        """Pushes those of these files again that are damaged or missing on the phone, and says so. False: none was."""
        differing = self.calls.patiently(lambda: self.store.mend(items))
        if differing:
            files = number_of(differing, "file was", "files were")
            self.observer.say(f"{files} damaged or missing on {self.info.address}: pushed again")
        return differing > 0

    def put_data(self, pack: BlockPack, data: Dataset) -> tuple[str, ...]:
        """Have the images of `data` on the phone, with the labels that fit `pack`; returns the SHA-256 of the files.

        The files are made and hashed once for the same content, also when it comes in another `Dataset`.
        """
        # The digest is of the pictures as they are stored. The first picture also tells how they were prepared.
        prepared = hashlib.sha256(data.image(0).tobytes()).hexdigest()
        key = (data.digest, prepared, pack.graph.cuts[0], pack.label)
        if key not in self._pushed:
            files = data_files(pack, data)
            self.put(files)
            self._pushed[key] = tuple(file.sha256 for file in files)
        return self._pushed[key]

    def temperatures(self) -> dict[str, float]:
        """What Android says of its sensors, name to degrees Celsius; empty where it says nothing."""
        return self.calls.patiently(lambda: ask_thermalservice(self._transport))

    def power_files(self) -> dict[str, str]:
        """The files that tell of energy and can be read on the phone, with what they say; see `energy.PATTERNS`."""
        look = f'for f in {" ".join(PATTERNS)}; do v=$(cat "$f" 2>/dev/null) && echo "$f=$v"; done'
        said = self.calls.patiently(lambda: self._transport.shell(f"cd {shlex.quote(self.root)} && {look}"))
        return dict(line.strip().split("=", 1) for line in said.text.splitlines() if "=" in line)

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


def _leave_as_it_was(transport: Transport, store: Store) -> None:
    with suppress(AdaptiveNetError):  # where the phone is gone, the daemon does it
        store.remove_private()
        put_back(transport, store.home)


def bundle_for(transport: Transport, runner: str | Path | None = None) -> Bundle:
    """The runner for the phone behind a transport, or the one in the folder `runner`.

    Raises DeviceError when none is built, or that one is not for this phone.
    """
    said = transport.shell('abi=$(getprop ro.product.cpu.abi 2>/dev/null); echo "abi=$abi"; uname -m').text.split()
    abi = next((word.removeprefix("abi=") for word in said if word.startswith("abi=")), "")
    return find_bundle(presets_for(abi, said[-1] if said else "", platform.machine()), runner=runner)


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


# A daemon that was stopped (SIGSTOP) is woken. Any of the runners in the folder can tell it to end, and it ends within
# 5 s. The folder is removed after that, because the daemon may have to put settings of the phone back.
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
