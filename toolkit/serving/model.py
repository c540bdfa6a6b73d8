"""A pack that serves in this process: the best subnet for a budget runs, another takes its place when that changes.

Inferences never wait for a load: a thread loads what shall serve next beside what serves (see `loader`), and the swap
is between two inferences. Which point of the profile's front that is, the controller decides from the latency of each
inference and from what it is told of the device (see `controller`).
"""

from __future__ import annotations

import operator
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from ..devices.base import DeviceInfo
from ..devices.checks import check_input
from ..devices.connect import connect
from ..devices.local.assembler import Assembler
from ..devices.local.local import LocalDevice
from ..errors import DataError, DeviceError, GraphError, ProfileError
from ..graph.front import FrontPoint
from ..graph.graph import Cut, Subnet
from ..pack.pack import BlockPack
from ..profiling.profile import Profile, require_made_for
from ..profiling.settings import Budget
from .controller import Controller
from .decision import Budgets, Decision, Signals, points_of
from .loader import Loader, Target

Layout = Literal["contiguous", "channels_last"]
"""The order of an array of four dimensions: (n, channels, height, width), or (n, height, width, channels)."""


@dataclass(frozen=True)
class Status:
    """A model at one moment.

    `subnet` serves from the next inference on (None before the first is loaded), and is the point `point` of
    `Model.points` (None where it was asked for by name and is none). `loading` is loaded beside it. `slowdown` is how
    many times slower than profiled the device is believed to be. `resident_bytes` are those of the artifacts of all
    that is loaded; `switches` counts how often another subnet came to serve. `why` says why this one shall serve,
    `error` what last went wrong with loading one.
    """

    subnet: Subnet | None
    point: int | None
    loading: Subnet | None
    slowdown: float
    resident_bytes: int
    switches: int
    why: str
    error: str | None


class Inference(NamedTuple):
    """The output, the milliseconds that it took, and the point of `Model.points` that ran (None: it is none)."""

    output: NDArray[Any]
    ms: float
    point: int | None


class Model:
    """A pack and a profile, open to infer with. A context manager; leaving it closes it.

    `points` are the points of the front that are worth running, fastest first.

    Every method may be called from any thread, and from a signal handler, whatever that interrupts; but no inference
    from a handler that interrupts one.
    """

    def __init__(
        self,
        pack: BlockPack,
        profile: Profile,
        assembler: Assembler,
        budgets: Budgets,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """See `open`, which makes the parts. `clock` gives seconds."""
        self.pack, self.profile = pack, profile
        self.points: tuple[FrontPoint, ...] = profile.front.rising
        self._clock = clock
        self._cut = pack.graph.cuts[0]
        # A signal handler that interrupts a thread which has one of them gets it as well, and need not wait for ever.
        self._turn = threading.RLock()  # of inferences
        self._deciding = threading.RLock()
        self._infers = False  # whoever has the turn
        self._controller = Controller(points_of(profile.front), budgets)
        self._by_name: Subnet | None = None
        self._index = {point.subnet: at for at, point in enumerate(self.points)}
        memory = budgets.memory_mb
        limit = None if memory is None else int(memory * 1e6)
        self._loader = Loader(assembler, [point.subnet for point in self.points], limit)
        # Also for a model that nobody closes: an engine that loads while the interpreter ends would abort the process.
        weakref.finalize(self, self._loader.close)
        self._want(self._controller.point)

    @classmethod
    def open(
        cls,
        pack: str | Path | BlockPack,
        profile: str | Path | Profile,
        budget: str = "100%",
        *,
        percentile: float = 50.0,
        memory_mb: float | None = None,
        energy_mj: float | None = None,
        engine: str | None = None,
        threads: int | None = None,
        of_another_device: bool = False,
    ) -> Model:
        """Opens `pack` to serve as `profile` says, and returns when the first subnet serves.

        `budget` is `75%` of the whole network's latency as profiled, or `12.5ms`, for the `percentile` of all
        inferences. `memory_mb` bounds the artifacts of what is loaded, and what a point may keep resident; `energy_mj`
        what an inference may take, where the profile knows. `engine` and `threads` are as profiled unless given.

        When nothing fits the budget, the fastest serves, and `status().why` says so. Raises PackError and ProfileError
        for what cannot be read; ProfileError for a profile of another pack, and of another engine, number of threads
        or device, whose latencies are not these (unless `of_another_device`); DeviceError when no subnet can be loaded.
        """
        opened = pack if isinstance(pack, BlockPack) else BlockPack.open(pack)
        known = profile if isinstance(profile, Profile) else Profile.load(profile, opened)
        require_made_for(opened, known.pack, "the profile")
        device = connect(
            f"local:{engine or known.device['engine']}", known.device["threads"] if threads is None else threads
        )
        assert isinstance(device, LocalDevice)
        if not of_another_device:
            _require_same_device(known, device.info)
        assembler = device.assembler(opened)
        budgets = Budgets(Budget(budget).ms(known.reference.median_ms), percentile, memory_mb, energy_mj)
        model = cls(opened, known, assembler, budgets)
        try:
            model.wait()
        except BaseException:
            model.close()
            raise
        return model

    def infer(
        self, x: NDArray[Any], *, layout: Layout = "contiguous", output_layout: Layout = "contiguous"
    ) -> NDArray[Any]:
        """The serving subnet's output for one input of cut 0's shape and dtype: a new array.

        With "channels_last" for `layout`, `x` has the shape (n, height, width, channels) where cut 0 has (n, channels,
        height, width), as pictures lie in most libraries; with `output_layout` so does the output, where it has four
        dimensions. Arrays of other than four dimensions have one layout.
        """
        return self.infer_at(x, layout=layout, output_layout=output_layout).output

    def infer_timed(
        self,
        x: NDArray[Any],
        out: NDArray[Any] | None = None,
        *,
        layout: Layout = "contiguous",
        output_layout: Layout = "contiguous",
    ) -> tuple[NDArray[Any], float]:
        """The output, written to `out` where that is given, and the milliseconds that it took; layouts as in `infer`.

        The time is from the input as the caller has it to the output as the caller gets it, without waiting for the
        turn where several threads infer. Raises DataError for arrays of the wrong form and layouts that are none,
        DeviceError when nothing serves or the engine fails.
        """
        output, ms, _ = self.infer_at(x, out, layout=layout, output_layout=output_layout)
        return output, ms

    def infer_at(
        self,
        x: NDArray[Any],
        out: NDArray[Any] | None = None,
        *,
        layout: Layout = "contiguous",
        output_layout: Layout = "contiguous",
    ) -> Inference:
        """As `infer_timed`, and which point it was that ran."""
        cut = self._cut
        takes_last, gives_last = _is_last(layout, cut), _is_last(output_layout, self.pack.graph.cuts[-1])
        if takes_last:
            images, channels, height, width = cut.shape
            cut = replace(cut, shape=(images, height, width, channels))
        check_input(cut, x, "the input")
        if out is not None:
            _require_writable(out)
        with self._turn:
            if self._infers:
                raise DeviceError("a signal handler cannot infer within the inference that it interrupts")
            ready = self._loader.begin()
            if ready is None:
                raise DeviceError("no subnet serves: the model is closed, or none could be loaded")
            try:
                self._infers = True
                begin = time.perf_counter()
                output = ready.chain({0: x.transpose(0, 3, 1, 2) if takes_last else x})
                if gives_last:
                    output = output.transpose(0, 2, 3, 1)
                if out is not None:
                    output = _copied(output, out)
                elif gives_last:
                    output = np.ascontiguousarray(output)
                ms = (time.perf_counter() - begin) * 1e3
            finally:
                self._infers = False
                target = ready.target
                self._loader.end(ready)
                del ready  # its last reference may be the loader's
            self._observe(target.point, ms)
        return Inference(output, ms, target.point)

    def activate(self, subnet: Iterable[str] | SupportsIndex) -> None:
        """This subnet, or this one of `points`, serves as soon as it is loaded, whatever the budget, until
        `set_budget`. Returns at once; see `wait`. Raises GraphError for what is no subnet of the pack, and no point.
        """
        names = self._named(subnet)
        with self._deciding:
            self._by_name = names
            self._loader.want([Target(names, self._index.get(names))], by_name=True)

    def set_budget(
        self,
        budget: str,
        *,
        percentile: float | None = None,
        memory_mb: float | None = None,
        energy_mj: float | None = None,
    ) -> Decision:
        """Other budgets from now on (see `open`); what is None is as before. The controller decides again, also after
        `activate`; returns its decision at once. The limit of what is loaded stays that of `open`."""
        with self._deciding:
            before = self._controller.budgets
            budgets = Budgets(
                Budget(budget).ms(self.profile.reference.median_ms),
                before.percentile if percentile is None else percentile,
                before.memory_mb if memory_mb is None else memory_mb,
                before.energy_mj if energy_mj is None else energy_mj,
            )
            self._by_name = None
            decision = self._controller.set_budget(self._clock(), budgets)
            self._want(decision.point)
        return decision

    def observe(self, signals: Signals) -> Decision | None:
        """What sensors say now, at any rate (`read_signals` of `signals` reads those of this computer); the decision,
        where one was made."""
        with self._deciding:
            return self._follow(self._controller.sense(self._clock(), signals))

    def status(self) -> Status:
        """What serves now, and why."""
        with self._deciding:
            decision, by_name = self._controller.decision, self._by_name
            settled, state = self._loader.is_settled, self._loader.state
        serving, loading = state.serving, state.loading
        return Status(
            subnet=serving.subnet if serving else None,
            point=serving.point if serving else None,
            loading=loading.subnet if loading else None,
            slowdown=decision.slowdown,
            resident_bytes=state.bytes,
            switches=state.switches,
            why=_why(serving, decision, by_name, settled),
            error=state.error,
        )

    @property
    def decision(self) -> Decision:
        """The controller's latest."""
        return self._controller.decision

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until what was decided or asked for serves, or the next best where it cannot be loaded.

        False when that takes longer. Raises DeviceError when nothing can be loaded.
        """
        return self._loader.wait(timeout_s)

    def close(self) -> None:
        """Releases everything, after the inference that runs; one that this call interrupts, as from a signal handler,
        ends afterwards. Nothing can be asked of the model any more."""
        with self._turn:
            self._loader.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _named(self, subnet: Iterable[str] | SupportsIndex) -> Subnet:
        if isinstance(subnet, SupportsIndex):
            point = operator.index(subnet)
            if not 0 <= point < len(self.points):
                raise GraphError(f"there is no point {point}: the model has {len(self.points)}")
            return self.points[point].subnet
        if not isinstance(subnet, Iterable):
            raise GraphError(f"{subnet!r} is neither the names of a subnet's blocks nor the index of a point")
        return self.pack.graph.subnet(subnet)

    def _observe(self, point: int | None, ms: float) -> None:
        with self._deciding:
            if self._by_name is None and point is not None:
                self._follow(self._controller.observe(self._clock(), ms, point))

    def _follow(self, decision: Decision | None) -> Decision | None:
        if decision is not None and self._by_name is None:
            self._want(decision.point)
        return decision

    def _want(self, point: int) -> None:
        """This point, or the best below it that can be loaded."""
        self._loader.want([Target(self.points[at].subnet, at) for at in range(point, -1, -1)])


def _why(serving: Target | None, decision: Decision, by_name: Subnet | None, settled: bool) -> str:
    """Why what serves does, once that has settled; before, why what is loaded shall serve. In the words of C++."""
    if settled and serving is None:
        return "nothing was loaded yet"
    if by_name is not None:
        found = not settled or serving is None or serving.subnet == by_name
        return "it was asked for" if found else "what was asked for cannot be loaded"
    found = not settled or serving is None or serving.point == decision.point
    return decision.why if found else "the controller's choice cannot be loaded"


def _is_last(layout: Layout, cut: Cut) -> bool:
    """Whether the caller has the cut's channels last. Raises DataError for what is no layout."""
    if layout not in ("contiguous", "channels_last"):
        raise DataError(f"a layout is 'contiguous' or 'channels_last': got {layout!r}")
    return layout == "channels_last" and len(cut.shape) == 4


def _require_writable(out: NDArray[Any]) -> None:
    if not isinstance(out, np.ndarray):
        raise DataError(f"what the output shall be written to is a {type(out).__name__}; give a numpy array")
    if not out.flags.writeable:
        raise DataError("what the output shall be written to is read-only; give an array that is not")


def _copied(output: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
    if out.shape != output.shape or out.dtype != output.dtype:
        raise DataError(
            f"the output is {output.dtype} {output.shape}; what it shall be written to is {out.dtype} {out.shape}"
        )
    np.copyto(out, output)
    return out


def _require_same_device(profile: Profile, here: DeviceInfo) -> None:
    differs = [key for key in ("name", "engine", "threads") if getattr(here, key) != profile.device[key]]
    if differs:
        was = ", ".join(f"{key} {profile.device[key]}" for key in differs)
        is_ = ", ".join(f"{key} {getattr(here, key)}" for key in differs)
        raise ProfileError(
            f"the profile was made on {was}, and this is {is_}: the latencies are not those of this device. Profile "
            "it, or open the model with of_another_device"
        )
