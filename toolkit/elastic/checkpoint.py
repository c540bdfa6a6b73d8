"""The state of a training run on the disk: one safetensors file that is whole or not there. No code is stored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..atomic import write_file
from ..errors import TrainingError


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

    def read(self, state: Mapping[str, torch.Tensor]) -> dict[str, str] | None:
        """Copies the file's tensors into `state`, all or none, and returns its facts; None when there is no file.

        Raises TrainingError for a file that is damaged, of another run, or whose tensors are not those of `state`.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as stored:
                facts: dict[str, str] = stored.metadata() or {}
                held = {name: stored.get_tensor(name) for name in sorted(stored.keys())}
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise TrainingError(f"the checkpoint {self.path} is damaged: {error}; remove it to start over") from error
        if facts.get("run") != self._run:
            raise TrainingError(
                f"the checkpoint {self.path} belongs to another supernet, other settings or other images: "
                "name another file, or remove it to start over"
            )
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
        return facts
