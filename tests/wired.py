"""A runner of this computer, driven as one on a phone, by way of a cable that may fall out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.adb.transport import PushProgress
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.devices.phone.device import PhoneDevice
from adaptivenet.toolkit.devices.phone.here import Here
from adaptivenet.toolkit.errors import ConnectionLost
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import Plan
from runners import Told


class Cable(Here):
    """This computer with a cable that can fall out: `lines` of streams go through it, then it is gone once."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[str] = []
        self.lines: int | None = None
        self.when_lost: Callable[[], object] = lambda: None

    def push(self, source: Path | bytes, remote: str, progress: PushProgress | None = None) -> None:
        self.pushed.append(Path(remote).name)
        super().push(source, remote, progress)

    def stream(self, command: str) -> Any:
        return self._cut(super().stream(command))

    def _cut(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            if self.lines is not None:
                if self.lines == 0:
                    self.lines = None
                    self.when_lost()
                    raise ConnectionLost("the connection to runner was lost")
                self.lines -= 1
            yield line


class Phone:
    """A home for a runner, and devices that use it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.cable = Cable()
        self.told = Told()

    def connect(self, **options: Any) -> PhoneDevice:
        return PhoneDevice(self.cable, observer=self.told, home=str(self.home), **{"idle_s": 30, **options})

    def open(self, pack: BlockPack) -> tuple[PhoneDevice, Session, int]:
        """The phone connected, the pack open on it, and the runner's process."""
        device = self.connect()
        return device, device.open(pack), self.pid(device)

    def pid(self, device: PhoneDevice) -> int:
        return int(device.calls("info")["pid"])


def same_scores(session: Session, plan: Plan, data: Dataset, expected: dict[str, np.ndarray]) -> None:
    evaluation = session.evaluate(plan, data)
    for metric, sums in expected.items():
        np.testing.assert_array_equal(evaluation.sums[metric], sums)
