"""A block pack open on a phone: what is asked of it becomes requests to the runner there."""

from __future__ import annotations

import statistics
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ...data import Dataset
from ...errors import AdaptiveNetError, ConnectionLost, DeviceError
from ...graph import Block
from ...pack import BlockPack
from ...plan import Plan
from ..base import PageIn, Progress, Resident, Session
from ..checks import check_input, check_times
from ..conditions import Conditions
from .calls import Event, OnEvent, read_result
from .contents import data_files, one_image
from .throttling import throttling, warning

if TYPE_CHECKING:
    from .device import PhoneDevice


class PhoneSession(Session):
    """A pack open on a phone; see `Session`. A lost connection is connected again, and jobs go on in between."""

    def __init__(self, device: PhoneDevice, pack: BlockPack) -> None:
        self.pack = pack
        self.info = device.info
        self._device = device
        self._resident = Resident((), 0)
        self._keeps = False  # features there, as far as is known
        self._pushed: WeakKeyDictionary[Dataset, list[str]] = WeakKeyDictionary()  # the digests of its files

    def _measure(
        self, chains: Sequence[Sequence[Block]], rounds: int, warmup: int, sample: NDArray[Any], progress: Progress
    ) -> list[list[list[float]]]:
        """See `Session._measure`. The observer is told when the phone got slower on the way."""
        self._device.cool_down()
        names = [[block.name for block in chain] for chain in chains]
        data = one_image(sample)
        self._device.put([data])

        def on_event(event: Event) -> None:
            if event["type"] == "progress":
                progress(event["done"], event["total"])

        before = self._device.temperatures()
        result = self._call("measure", on_event, chains=names, rounds=rounds, warmup=warmup, data=data.sha256)
        times = read_result(
            "measure", lambda: [[[float(ms) for ms in block] for block in chain] for chain in result["blocks_ms"]]
        )
        check_times(times, chains, rounds, self._where)
        after = self._device.temperatures()
        self.conditions = read_result("measure", lambda: self._conditions(result, before, after))
        whole = ([sum(each) for each in zip(*blocks)] for blocks in times)
        anchor = max(whole, key=statistics.median, default=[])
        if anchor and (slowdown := throttling(anchor)):
            self._device.observer.say(warning(slowdown, rounds, self.conditions))
        return times

    def _conditions(self, result: Event, before: Mapping[str, float], after: Mapping[str, float]) -> Conditions:
        """The phone's own sensors are read where there are any: of a whole phone they tell more than its kernel's."""
        cores, state = self._device.cores, (result["before"], result["after"])
        clocks = [tuple(None if khz is None else int(khz) for khz in each["khz"]) for each in state]
        heat = [{str(name): float(value) for name, value in each["temperatures"].items()} for each in state]
        return Conditions(
            threads=self.info.threads,
            cores=None if cores is None else tuple(cores),
            governors=self._device.governors,
            khz_before=clocks[0],
            khz_after=clocks[1],
            celsius_before=before or heat[0],
            celsius_after=after or heat[1],
        )

    def _evaluate(
        self,
        plan: Plan,
        data: Dataset,
        labels: NDArray[np.int64] | None,
        sums: Mapping[str, NDArray[np.float64]],
        progress: Progress,
    ) -> int:
        """See `Session._evaluate`. The images and labels are pushed first; `seconds` counts that too."""
        if data not in self._pushed:
            files = data_files(self.pack, data)
            self._device.put(files)
            self._pushed[data] = [file.sha256 for file in files]
        done = 0

        def note_scores(image: int, by_metric: Mapping[str, Any]) -> None:
            for metric in plan.metrics:
                sums[metric][:, image] = by_metric[metric]

        def on_event(event: Event) -> None:
            nonlocal done
            if event["type"] == "scores":
                read_result("evaluate", lambda: note_scores(event["image"], event["sums"]))
                done = max(done, event["image"] + 1)
                progress(done, len(data))

        keeps, self._keeps = self._keeps or bool(plan.keeps), False
        result = self._call("evaluate", on_event, plan=plan.to_json(), data=self._pushed[data], **self._evaluating)
        self._keeps = keeps
        return read_result("evaluate", lambda: int(result["block_runs"]))

    @property
    def keeps_features(self) -> bool:
        """See `Session.keeps_features`."""
        return True

    def forget(self) -> None:
        """See `Session.forget`."""
        super().forget()
        self._call("forget", **self._evaluating)
        self._keeps = False

    @property
    def evaluation_threads(self) -> int:
        """See `Session.evaluation_threads`. As many as the active subnet has, while there is one."""
        return self.info.threads if self._resident.blocks else super().evaluation_threads

    @property
    def _evaluating(self) -> dict[str, Any]:
        """On what to evaluate: other threads and cores would make the runner release the active subnet."""
        cores = self._device.cores if self._resident.blocks else self._device.evaluation_cores
        return {"threads": self.evaluation_threads, "cores": cores}

    @property
    def _where(self) -> str:
        return f"{self.info.engine} on {self.info.address}"

    def activate(self, subnet: Iterable[str]) -> PageIn:
        """See `Session.activate`. `ms` is the phone's own time."""
        self._ready()
        wanted = self.pack.graph.subnet(subnet)
        result = self._call("activate", subnet=list(wanted))
        self._resident = read_result(
            "activate", lambda: Resident(tuple(result["resident"]["blocks"]), int(result["resident"]["bytes"]))
        )
        return read_result(
            "activate",
            lambda: PageIn(
                loaded=tuple(result["loaded"]),
                released=tuple(result["released"]),
                bytes_in=int(result["bytes_in"]),
                bytes_out=int(result["bytes_out"]),
                ms=float(result["ms"]),
                engine=self.info.engine,
                threads=self.info.threads,
            ),
        )

    def infer_timed(self, x: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """See `Session.infer_timed`."""
        self._require_open()
        if not self._resident.blocks:
            raise DeviceError("no subnet is active: activate one first")
        check_input(self.pack.graph.cuts[0], x, "the input")
        data = one_image(x)
        self._device.put([data])
        try:
            result = self._call("infer", subnet=list(self._resident.blocks), data=data.sha256)
        except ConnectionLost:
            raise
        except DeviceError:
            if not self._was_released():
                raise
            self._device.observer.explain("the active subnet was released in the meantime, and is paged in again")
            self.activate(self._resident.blocks)
            result = self._call("infer", subnet=list(self._resident.blocks), data=data.sha256)
        return read_result("infer", lambda: (_tensor(result["outputs"][0]), float(result["ms"][0])))

    @property
    def resident(self) -> Resident:
        """See `Session.resident`."""
        return self._resident

    def close(self) -> None:
        """See `Session.close`. The runner has its blocks loaded until somebody else uses it, or it ends."""
        if self._keeps:
            with suppress(AdaptiveNetError):
                self.forget()
        super().close()
        self._resident = Resident((), 0)

    def _call(self, verb: str, on_event: OnEvent | None = None, **fields: Any) -> Event:
        return self._device.calls(
            verb,
            on_event,
            pack=self.pack.digest,
            engine=self.info.engine,
            **{"threads": self.info.threads, "cores": self._device.cores, **fields},
        )

    def _was_released(self) -> bool:
        """Whether the runner has other blocks loaded: somebody else used it, or it had ended and was started anew."""
        info = self._device.calls("info")
        return read_result("info", lambda: tuple(info["resident"]["blocks"])) != self._resident.blocks


def _tensor(document: Any) -> NDArray[Any]:
    dtype = np.dtype(document["dtype"]).newbyteorder("<")
    array = np.frombuffer(b64decode(document["base64"], validate=True), dtype).reshape(document["shape"])
    return array.astype(dtype.newbyteorder("="))
