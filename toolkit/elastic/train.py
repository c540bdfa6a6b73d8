"""Trains the alternatives of a supernet; the original blocks, which are the teacher, never change.

A run is a function of the supernet, the data and the settings: the batches and subnets of step *k* depend on the seed
and *k* alone, so that a run that was killed and resumed from its checkpoint ends with the same weights, bit for bit,
as one that was not. (Two exceptions: with `max_minutes` the clock has a say, and another number of workers adds up in
another order.)
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from ..errors import TrainingError, WorkerLost
from .batches import Batches, TrainingData
from .checkpoint import Checkpoint
from .initialise import held_out, initialise
from .logs import Logs
from .losses import local_losses, variances
from .objective import Objective
from .parallel import Workers, workers
from .phases import Phase, Training, ours
from .placement import find_device, placed
from .recipe import tensors
from .supernet import Supernet

Progress = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class Trained:
    """What a run did, its resumed parts together.

    `losses` is every alternative's local loss on the held-out part of the calibration batches: as it was made
    (`weights`), after each step of the initialisation, and at the end (`trained`).
    """

    losses: dict[str, dict[str, float]]
    steps: int
    seconds: float


def train(
    supernet: Supernet,
    data: TrainingData,
    training: Training | None = None,
    *,
    cost: Mapping[str, float] | None = None,
    checkpoint: str | Path | None = None,
    logs: str | Path | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Trained:
    """Trains `supernet` in place and notes each alternative's local loss on its graph (`Block.loss`).

    `training` is a recipe of `phases`, `ours()` when None. `cost`, one number a block, is what subnets are sampled by:
    milliseconds, say, from a device's latency table; multiply-accumulates when None. With `checkpoint` (a file), the
    state is written there, and a file that is there already is resumed. `logs` is a folder for TensorBoard.
    `progress(kind of phase, steps done, steps in all, loss)` is called after each step. `device` is `cpu`, `cuda` or
    `auto`. Under torchrun every process calls this; the first one alone writes and reports.

    Raises TrainingError for a loss that is no number, a checkpoint of another run, a disk that does not take one, data
    without the labels that a phase needs, and when another worker is gone. The last checkpoint is then as it was.
    """
    place = find_device(device)
    training = training or ours()
    with (
        workers(place) as group,
        placed(supernet, place),
        Batches(data, training, group.part(training.batch_size), place) as batches,
    ):
        return _Run(supernet, training, group, batches, cost, place).run(
            len(data),
            Path(checkpoint) if checkpoint else None,
            Path(logs) if logs else None,
            progress if progress and group.rank == 0 else lambda kind, done, total, loss: None,
        )


class _Run:
    def __init__(
        self,
        supernet: Supernet,
        training: Training,
        group: Workers,
        batches: Batches,
        cost: Mapping[str, float] | None,
        device: torch.device,
    ) -> None:
        self.supernet, self.training, self.group, self.batches = supernet, training, group, batches
        self.cost, self.device = cost, device
        self.started = time.monotonic()
        self.share = len(group.part(training.batch_size)) / training.batch_size
        self.alternatives = supernet.alternatives()
        # Sorted, because a supernet that was loaded has its parameters in another order than one that was made.
        self.parameters = {
            block.name: [p for _, p in sorted(supernet.blocks[block.name].named_parameters()) if p.requires_grad]
            for block in self.alternatives
        }
        every = [parameter for own in self.parameters.values() for parameter in own]
        if not every:
            raise TrainingError(
                "this supernet has no alternatives to train: no block beside the original ones has parameters"
            )
        self.optimizer = torch.optim.Adam(every, lr=0.0)
        for parameter in every:  # Adam's own start, made now so that every checkpoint holds the same tensors
            moments = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
            self.optimizer.state[parameter] = {"step": torch.zeros(()), **moments}
        self.checkpoint: Checkpoint | None = None
        self.done = 0
        self.losses: dict[str, dict[str, float]] = {}
        self.seconds_before = 0.0  # of the parts of this run that ended earlier
        self.seconds_to_begin = 0.0  # from the start to the first step

    def run(self, images: int, file: Path | None, logs: Path | None, progress: Progress) -> Trained:
        self.supernet.eval()
        calibration = self.batches.calibration()
        self._check_inputs(calibration[0])
        spread = variances(self.supernet, calibration)
        self.objective = Objective(self.supernet, self.training, spread, self.cost, self.device)
        identity = self._identity(calibration, images)
        self.group.must_share(f"{identity} {replace(self.training, loaders=1)}", "settings, weights or images")
        self.checkpoint = Checkpoint(file, identity) if file else None
        self._begin(calibration)
        writer = Logs(logs, self.done) if logs and self.group.rank == 0 else None
        try:
            self._loop(writer, progress)
        except WorkerLost as error:
            raise WorkerLost(
                f"{error} at step {self.done + 1}: start again with the same command{self._kept()}"
            ) from error
        finally:
            if writer:
                writer.close()
        self.losses["trained"] = local_losses(self.supernet, held_out(calibration)[1])
        for name, value in self.losses["trained"].items():
            self._check(value, f"block {name}")
        self.supernet.graph = self.supernet.graph.with_losses(self.losses["trained"])
        return Trained(self.losses, self.done, self._seconds())

    def _loop(self, writer: Logs | None, progress: Progress) -> None:
        saved = self.done
        if not saved:
            self.seconds_to_begin = self._seconds()
        while (position := self._position()) < self.training.steps:
            phase, rate = self.training.at(position)
            losses = self._step(phase, rate)
            self.done += 1
            loss = math.fsum(losses.values()) / len(losses)
            if self.done % self.training.checkpoint_every == 0:
                self._save()
                saved = self.done
            if writer:
                blocks = losses if phase.kind == "local" else {}
                writer.write(self.done, {f"loss/{phase.kind}": loss, "learning rate": rate, **blocks})
            progress(phase.kind, self.done, self.training.steps, loss)
        if saved < self.done:
            self._save()

    def _check_inputs(self, batch: torch.Tensor) -> None:
        shape = self.supernet.graph.cuts[0].shape
        if batch.dim() != len(shape) or batch.shape[1] != shape[1]:
            raise TrainingError(f"the images have shape {(1, *batch.shape[1:])}, and the network reads {shape}")

    def _identity(self, calibration: list[torch.Tensor], images: int) -> str:
        """A digest of what the run is a function of: settings, blocks, the teacher's weights, images it sees first.

        Not of what may change when a run is resumed: how long it may last, how often it is saved, who loads images.
        """
        settings = asdict(replace(self.training, checkpoint_every=1, loaders=1, max_minutes=None))
        blocks = [(block.name, block.params) for block in self.supernet.graph.blocks]
        cost = None if self.cost is None else sorted(self.cost.items())
        digest = hashlib.sha256(json.dumps([settings, blocks, images, cost]).encode())
        for name in self.supernet.graph.oracle:
            for _, tensor in sorted(tensors(self.supernet.blocks[name]).items()):
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        for batch in calibration:
            digest.update(batch.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _begin(self, calibration: list[torch.Tensor]) -> None:
        """Resumes, or initialises; then every worker has what the first one has."""
        checkpoint = self.checkpoint
        facts = json.loads(self.group.told(lambda: json.dumps(checkpoint.read(self._state()) if checkpoint else None)))
        if facts is None:
            self.losses = initialise(self.supernet, calibration, self.training.initialise).losses
        else:
            self.done, self.losses = int(facts["done"]), json.loads(facts["losses"])
            self.seconds_before, self.seconds_to_begin = float(facts["seconds"]), float(facts["seconds to begin"])
        self.group.take_over(list(self._state().values()))

    def _state(self) -> dict[str, torch.Tensor]:
        """Everything a step changes, by name: parameters, batch-norm statistics, the optimizer's moments."""
        state = {}
        for block in self.alternatives:
            module = self.supernet.blocks[block.name]
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                state[f"model/{block.name}/{name}"] = tensor.data
            for name, parameter in module.named_parameters():
                for key, moment in self.optimizer.state.get(parameter, {}).items():
                    state[f"adam/{key}/{block.name}/{name}"] = moment
        return dict(sorted(state.items()))

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _position(self) -> float:
        """How far the run is, in steps: those done, or further where the minutes are further gone."""
        if self.training.max_minutes is None:
            return self.done
        limit = 60 * self.training.max_minutes

        def time_share() -> str:
            seconds = self._seconds()
            return repr(
                1.0 if seconds >= limit else (seconds - self.seconds_to_begin) / (limit - self.seconds_to_begin)
            )

        # The first worker's clock is everybody's: all must be in the same phase, and stop at the same step.
        return max(float(self.done), float(self.group.told(time_share)) * self.training.steps)

    def _step(self, phase: Phase, rate: float) -> dict[str, float]:
        """One batch; returns the loss of every block or subnet that it trained."""
        for settings in self.optimizer.param_groups:
            settings["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        names, values = [], []
        for name, loss, weight in self.objective.losses(phase, self.batches.at(self.done), self.done):
            if loss.requires_grad:  # not where no block on the way has parameters
                (loss * (weight * self.share)).backward()
            names.append(name)
            values.append(loss.detach() * self.share)
        losses = torch.stack(values)
        gradients = [p.grad for own in self.parameters.values() for p in own if p.grad is not None]
        self.group.add_up([losses, *gradients])
        found = dict(zip(names, losses.tolist()))
        for name, value in found.items():
            self._check(value, name)
        self._check_gradients()
        self.optimizer.step()
        return found

    def _check_gradients(self) -> None:
        for name, own in self.parameters.items():
            if gradients := [parameter.grad for parameter in own if parameter.grad is not None]:
                norm = float(torch.nn.utils.get_total_norm(gradients))
                if not math.isfinite(norm) and not all(bool(torch.isfinite(g).all()) for g in gradients):
                    self._check(math.nan, f"block {name}", "gradient")
                if self.training.gradient_clip is not None and norm > self.training.gradient_clip:
                    for gradient in gradients:
                        gradient.mul_(self.training.gradient_clip / norm)

    def _check(self, value: float, what: str, quantity: str = "loss") -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"the {quantity} of {what} is {value} at step {self.done + 1}: lower the learning rate or look at the "
                f"images{self._kept()}"
            )

    def _kept(self) -> str:
        held = self.checkpoint is not None and self.checkpoint.path.exists()
        return f"; {self.checkpoint.path} holds the last good state" if self.checkpoint and held else ""

    def _save(self) -> None:
        if self.checkpoint and self.group.rank == 0:
            facts = {"done": self.done, "seconds": self._seconds(), "seconds to begin": self.seconds_to_begin}
            texts = {name: repr(value) for name, value in facts.items()} | {"losses": json.dumps(self.losses)}
            self.checkpoint.write(self._state(), texts, self.done)
