"""What subnets take besides time, memory and energy, as every session measures it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..errors import EnergyUnknown
from ..graph.graph import Subnet
from ..pack.pack import BlockPack
from .energy import Drain, Meter, Schedule, energy_mj, find_meter

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` while a step that takes long goes on."""


def nobody(done: int, total: int) -> None:
    """Whom progress is told to when nobody asks."""


class MeasuresCosts(ABC):
    """The part of a session that measures memory and energy. Where a device tells neither, there is nothing to do."""

    pack: BlockPack

    def resident_mb(self, subnets: Sequence[Iterable[str]], progress: Progress | None = None) -> list[float | None]:
        """The memory that each of some subnets takes here while it serves, in 10^6 bytes, measured once.

        That is by how much a process of its own grows when it loads the subnet and infers a few times: what it took
        before is not counted. None where the device does not tell. Raises GraphError for what is no subnet.
        """
        self._ready()
        return self._resident_mb([self.pack.graph.subnet(subnet) for subnet in subnets], progress or nobody)

    def meter(self) -> Meter:
        """What tells the energy of the device now. Raises EnergyUnknown, which says why, where nothing does."""
        self._ready()
        return find_meter(self._power_files())

    def energy_mj(self, subnet: Iterable[str], schedule: Schedule | None = None) -> float:
        """What an inference of a subnet takes beyond what the device takes idle, in millijoules, measured once.

        The subnet is active afterwards, or none. Raises EnergyUnknown where the device does not tell, or not as it is
        now.
        """
        meter = self.meter()
        return energy_mj(meter, self._drain(meter, self.pack.graph.subnet(subnet), schedule or Schedule()))

    def _power_files(self) -> Mapping[str, str]:
        """The files of `energy.PATTERNS` that can be read on the device, with what they say."""
        return {}

    def _drain(self, meter: Meter, subnet: Subnet, schedule: Schedule) -> Drain:
        """Looks at the meter's files while the device is idle and while it infers."""
        raise EnergyUnknown("this device cannot be looked at while it infers")

    def _resident_mb(self, subnets: Sequence[Subnet], progress: Progress) -> list[float | None]:
        """See `resident_mb`."""
        return [None] * len(subnets)

    @abstractmethod
    def _ready(self) -> None:
        """Raises DeviceError when nothing can be run."""
