"""What the command's two ways to train share, from scratch and further: its minutes, its pictures, its progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TrainingError
from .console import Console

if TYPE_CHECKING:
    from ..data import Dataset
    from ..training.phases import Training

_SMALL_BATCH = 64  # with fewer pictures than this, they may come more than once in a batch


class Clock:
    """How the minutes of the whole command are shared out among its parts."""

    def __init__(self, minutes: float | None) -> None:
        self._until = None if minutes is None else time.monotonic() + 60 * minutes

    def left(self) -> float | None:
        """Seconds, at least 1; None without a limit."""
        return None if self._until is None else max(1.0, self._until - time.monotonic())

    def for_training(self, validates: bool) -> float | None:
        """The minutes for training: a part of what is left is for saving, and for the validation where there is one."""
        left = self.left()
        return None if left is None else left / 60 * (0.77 if validates else 0.97)


def check_places(out: str | None, options: Mapping[str, Any]) -> None:
    """Raises ModelError or TrainingError now, not after an hour of training, when the supernet could not be written to
    the folder `out`, or the checkpoint and the logs to where the options say: not into `out`, which only a supernet
    may fill."""
    from ..elastic.supernet import check_path
    from ..training.checkpoint import check_checkpoint
    from ..training.logs import check_logs

    if out is not None:
        check_path(Path(out))
    for name, check in (("checkpoint", check_checkpoint), ("tensorboard", check_logs)):
        if not options[name]:
            continue
        path = Path(options[name])
        if out is not None and path.resolve().is_relative_to(Path(out).resolve()):
            raise TrainingError(
                f"--{name} {path} lies in --out {out}, which only a supernet may fill: name another place"
            )
        check(path)


def with_options(training: Training, options: Mapping[str, Any]) -> Training:
    """The training with the settings that the command was given."""
    names = ("batch_size", "seed", "flip", "shift", "precision", "max_minutes")
    return replace(training, **{name: options[name] for name in names})


def open_pictures(
    opened: Callable[[str], Dataset], options: Mapping[str, Any], console: Console | None
) -> tuple[Dataset, Dataset | None]:
    """The pictures to train on, and those to validate on, which nothing is trained on."""
    pictures = opened(options["data"])
    held_out = opened(options["held_out"]) if options["held_out"] else None
    if console:
        console.notes(pictures, *([held_out] if held_out else []))
    if share := options["hold_out"]:
        pictures, held_out = pictures.split((1 - share, share), options["seed"])
    return pictures, held_out


def lasting(training: Training, pictures: Dataset, epochs: float | None) -> Training:
    """The training, so long that every picture is seen `epochs` times. Raises TrainingError for too large a batch."""
    if training.batch_size > max(len(pictures), _SMALL_BATCH):
        raise TrainingError(
            f"--batch-size {training.batch_size} is more than there are pictures: {len(pictures)}; take fewer a step"
        )
    return training if epochs is None else training.lasting(round(epochs * len(pictures) / training.batch_size))


def shown(console: Console | None) -> Callable[[str, int, int, float], None]:
    """What shows the steps of a training."""

    def show(kind: str, done: int, total: int, loss: float) -> None:
        if console:
            console.progress("train", done, total, f"{kind} {loss:.3f}")

    return show
