"""What a session needs of the phone that it runs on: files put there, requests answered, cores, and heat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...data import Dataset
from ...pack.pack import BlockPack
from ..base import DeviceInfo, Observer
from .calls import Calls
from .push import Item


class Runner(Protocol):
    """A phone with its runner, as `device.PhoneDevice` reaches it.

    `calls` asks the runner; `cores` and `evaluation_cores` are those that blocks run on while they are timed, and while
    subnets are only evaluated (None: any); `governors` are those of `cores`.
    """

    info: DeviceInfo
    observer: Observer
    calls: Calls
    cores: list[int] | None
    evaluation_cores: list[int] | None
    governors: tuple[str | None, ...]

    root: str
    """Of the phone's files."""

    def put(self, items: Sequence[Item]) -> None:
        """Have these files on the phone."""

    def mend(self, items: Sequence[Item]) -> bool:
        """Push those of these files again that are damaged or missing there. False: none was."""

    def put_data(self, pack: BlockPack, data: Dataset) -> tuple[str, ...]:
        """Have the images of `data` on the phone; returns the SHA-256 of their files."""

    def temperatures(self) -> dict[str, float]:
        """What the phone says of its sensors, name to degrees Celsius."""

    def power_files(self) -> dict[str, str]:
        """The files that tell of energy and can be read on the phone, with what they say; see `energy.PATTERNS`."""

    def cool_down(self) -> None:
        """Wait until the phone is as cool as it was asked to be before it is measured."""
