"""A block pack that is open on a phone: each method becomes a request to the runner there."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import Dataset
from ...errors import AdaptiveNetError, ConnectionLost, DataError, DeviceError, PackError
from ...graph.graph import Block, Subnet
from ...pack.pack import BlockPack
from ...plan.plan import Plan
from ..base import PageIn, Resident, Session
from ..checks import check_input, check_times
from ..conditions import Conditions
from ..costs import Progress
from ..energy import Drain, Look, Meter, Schedule
from .calls import Event, OnEvent, read_result
from .contents import BACKENDS, data_files, one_image, pack_items
from .push import Item
from .runner import Runner


class PhoneSession(Session):
    """A pack open on a phone; see `Session`. A lost connection is connected again, and jobs go on in between."""

    def __init__(self, device: Runner, pack: BlockPack) -> None:
        self.pack = pack
        self.info = device.info
        self._device = device
        self._resident = Resident((), 0)
        self._keeps = False  # whether plans have kept features on the phone, as far as this host knows

    def _measure(
        self, chains: Sequence[Sequence[Block]], rounds: int, warmup: int, sample: NDArray[Any], progress: Progress
    ) -> list[list[list[float]]]:
        """See `Session._measure`."""
        self._device.cool_down()
        names = [[block.name for block in chain] for chain in chains]
        data = one_image(sample)
        self._device.put([data])

        def on_event(event: Event) -> None:
            if event["type"] == "progress":
                progress(event["done"], event["total"])

        before = self._device.temperatures()
        fields = {"chains": names, "rounds": rounds, "warmup": warmup, "data": data.sha256}
        result = self._call("measure", on_event, lambda: [data], **fields)
        times = read_result(
            "measure", lambda: [[[float(ms) for ms in block] for block in chain] for chain in result["blocks_ms"]]
        )
        check_times(times, chains, rounds, self._where, self.stamps_cuts)
        after = self._device.temperatures()
        self.conditions = read_result("measure", lambda: self._conditions(result, before, after))
        return times

    @property
    def stamps_cuts(self) -> bool:
        """See `Session.stamps_cuts`. With ONNX Runtime a chain runs as one program."""
        return self.info.engine != "onnxruntime"

    def _conditions(self, result: Event, before: Mapping[str, float], after: Mapping[str, float]) -> Conditions:
        """The sensors that Android reports come first: they tell more about a whole phone than those of its kernel."""
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
            waited=float(result["waited"]),
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
        files = self._device.put_data(self.pack, data)
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
        fields = {"plan": plan.to_json(), "data": list(files), **self._evaluating}
        result = self._call("evaluate", on_event, lambda: data_files(self.pack, data), **fields)
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
        """The threads and cores to evaluate on: with others, the runner would release the active subnet."""
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

        def infer() -> Event:
            return self._call("infer", None, lambda: [data], subnet=list(self._resident.blocks), data=data.sha256)

        try:
            result = infer()
        except ConnectionLost:
            raise
        except DeviceError:
            if not self._was_released():
                raise
            self._device.observer.explain("the active subnet was released in the meantime, and is paged in again")
            self.activate(self._resident.blocks)
            result = infer()
        return read_result("infer", lambda: (_tensor(result["outputs"][0]), float(result["ms"][0])))

    def adapt(
        self,
        front: Sequence[Mapping[str, Any]],
        budgets: Mapping[str, Any],
        data: Dataset,
        inferences: int,
        on_event: OnEvent,
    ) -> Event:
        """Serves on the phone, by the runner's own controller, with the images in turn: no request for each inference.

        `front` and `budgets` are those of the request `adapt` (docs/phone.md), whose events `on_event` is called with,
        on this thread; returns its result. The images are pushed first, and removed when the device is closed. Raises
        what `infer` does.
        """
        self._require_open()
        files = self._device.put_data(self.pack, data)
        fields = {"front": list(front), "budgets": dict(budgets), "inferences": inferences, "data": list(files)}
        self._resident = Resident((), 0)  # which of the points serves is the runner's to know
        return self._call("adapt", on_event, lambda: data_files(self.pack, data), **fields)

    def _resident_mb(self, subnets: Sequence[Subnet], progress: Progress) -> list[float | None]:
        """See `Session.resident_mb`. The daemon goes on with what it has loaded."""
        found: list[float | None] = []
        for subnet in subnets:
            try:
                grown = self._alone("resident", subnet).get("bytes")
            except ConnectionLost:
                raise
            except DeviceError as error:
                self._device.observer.say(f"the memory of {' '.join(subnet)} is not measured: {error}")
                grown = None
            found.append(None if grown is None else max(0, read_result("resident", partial(int, grown))) / 1e6)
            progress(len(found), len(subnets))
        return found

    def _power_files(self) -> Mapping[str, str]:
        """See `Session.meter`."""
        return self._device.power_files()

    def _drain(self, meter: Meter, subnet: Subnet, schedule: Schedule) -> Drain:
        """See `Session.energy_mj`. The daemon's subnet stays active, and does nothing meanwhile."""
        files = [f"{self._device.root.rstrip('/')}/{file}" for file in meter.files]
        result = self._alone("drain", subnet, files=files, **asdict(schedule))

        def looks(phase: str) -> tuple[Look, ...]:
            return tuple(
                Look(float(at_s), tuple(None if text is None else str(text).strip() for text in texts))
                for at_s, *texts in result[phase]
            )

        return read_result(
            "drain", lambda: Drain(looks("before"), looks("running"), looks("after"), int(result["inferences"]))
        )

    def _alone(self, verb: str, subnet: Subnet, **fields: Any) -> Event:
        """The result of a request about a subnet, in a process of its own."""
        given = {"pack": self.pack.digest, "engine": self.info.engine, "threads": self.info.threads}
        given |= {"cores": self._device.cores, "subnet": list(subnet), **fields}
        try:
            return self._device.calls.alone(verb, **given)
        except PackError:
            if not self._device.mend(pack_items(self.pack, BACKENDS[self.info.engine])):
                raise
        return self._device.calls.alone(verb, **given)

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

    def _call(
        self,
        verb: str,
        on_event: OnEvent | None = None,
        items: Callable[[], Sequence[Item]] = lambda: (),
        **fields: Any,
    ) -> Event:
        """The result of a request. When the runner cannot read a file of the pack or of `items`, the files that are
        damaged or missing on the phone are pushed again, and the request is made once more."""
        given = {"pack": self.pack.digest, "engine": self.info.engine, "threads": self.info.threads}
        given |= {"cores": self._device.cores, **fields}
        for _ in range(2):  # once for the pack, once for the data
            try:
                return self._device.calls(verb, on_event, **given)
            except PackError:
                if not self._device.mend(pack_items(self.pack, BACKENDS[self.info.engine])):
                    raise
            except DataError:
                if not self._device.mend(items()):
                    raise
        return self._device.calls(verb, on_event, **given)

    def _was_released(self) -> bool:
        """Whether the runner has other blocks loaded: somebody else used it, or it had ended and was started anew."""
        info = self._device.calls("info")
        return read_result("info", lambda: tuple(info["resident"]["blocks"])) != self._resident.blocks


def _tensor(document: Any) -> NDArray[Any]:
    dtype = np.dtype(document["dtype"]).newbyteorder("<")
    array = np.frombuffer(b64decode(document["base64"], validate=True), dtype).reshape(document["shape"])
    return array.astype(dtype.newbyteorder("="))
