"""The state of a training run on the disk: one safetensors file that is whole or not there. No code is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..atomic import check_file, check_folder, write_file
from ..errors import TrainingError


def check_checkpoint(path: Path) -> None:
    """Raises TrainingError when a checkpoint could not be written to `path`, where that can be known before."""
    try:
        if path.parent.exists():
            check_file(path)
        else:
            check_folder(path.parent)
    except OSError as error:
        raise TrainingError(
            f"a checkpoint cannot be written to {path}: {error.strerror or error}; name another file"
        ) from error


class Checkpoint:
    """The checkpoint of one run at `path`. `run` is a digest of everything that the run is a function of."""

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self._run = run

    def write(self, state: Mapping[str, torch.Tensor], facts: Mapping[str, str], step: int) -> None:
        """Replaces the file. Raises TrainingError when the disk does not take it; then the old file is still there."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self.path, save(tensors, metadata={**facts, "run": self._run}))
        except OSError as error:
            raise TrainingError(
                f"cannot write the checkpoint {self.path} at step {step}: {error.strerror}; "
                "the one before it is untouched"
            ) from error

    def facts(self) -> dict[str, str] | None:
        """The facts that were written beside the tensors; None when there is no file.

        Raises TrainingError for a file that is damaged or of another run.
        """
        if not self.path.exists():
            return None
        with self._opened() as stored:
            facts = stored.metadata() or {}
        if facts.get("run") != self._run:
            raise TrainingError(
                f"the checkpoint {self.path} belongs to another supernet, other settings or other images: "
                "name another file, or remove it to start over"
            )
        return facts

    def read(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copies the file's tensors into `state`, all or none.

        Raises TrainingError for a file that is damaged, and where its tensors are not those of `state`.
        """
        with self._opened() as stored:
            held = {name: stored.get_tensor(name) for name in sorted(stored.keys())}
        for name in sorted(held.keys() | state.keys()):
            found, wanted = (
                f"{tensors[name].dtype} {tuple(tensors[name].shape)}" if name in tensors else "nothing"
                for tensors in (held, state)
            )
            if found != wanted:
                raise TrainingError(
                    f"the checkpoint {self.path} does not fit: it has {found} for {name}, this run {wanted}; "
                    "remove it to start over"
                )
        with torch.no_grad():
            for name, tensor in state.items():
                tensor.copy_(held[name])

    @contextmanager
    def _opened(self) -> Iterator[Any]:  # safe_open has no types
        try:
            with safe_open(self.path, "pt") as stored:
                yield stored
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise TrainingError(f"the checkpoint {self.path} is damaged: {error}; remove it to start over") from error
