"""What a training run writes for TensorBoard to draw. Needs the extra `tensorboard`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ..atomic import check_file, check_folder
from ..errors import TrainingError

_MISSING = "writing logs needs TensorBoard: pip install 'adaptivenet[tensorboard]'"


def check_logs(folder: Path) -> None:
    """Raises TrainingError when logs could not be written to `folder`, where that can be known before."""
    if find_spec("tensorboard") is None:
        raise TrainingError(_MISSING)
    try:
        if folder.exists():
            check_file(folder / "events")
        else:
            check_folder(folder)
    except OSError as error:
        raise TrainingError(
            f"cannot write logs to {folder}: {error.strerror or error}; name another folder, or train without them"
        ) from error


class Logs:
    """Curves in a folder of event files; `tensorboard --logdir FOLDER` shows them.

    A run that goes on after `step` steps takes the place of what an earlier one wrote from there on. Raises
    TrainingError when TensorBoard is not installed or the folder cannot be written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError(_MISSING) from error
        self._folder = folder
        with self._writing():
            self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve, at a step; the first step is 1. Raises TrainingError when the disk is full."""
        with self._writing():
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Makes sure that everything is in the files. Raises TrainingError when the disk is full."""
        with self._writing():
            self._writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"cannot write logs to {self._folder}: {error.strerror}; make room, or train without them"
            ) from error
