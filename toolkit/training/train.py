"""Trains the alternatives of a supernet; the original blocks, which are the teacher, never change.

A run is a function of the supernet, the data and the settings: the batches and subnets of step *k* depend on the seed,
on *k*, and on the local losses before the first step, which a checkpoint holds, so that a run that was killed and
resumed from its checkpoint ends with the same weights, bit for bit, as one that was not. (Three exceptions: with
`max_minutes` and with the precision `auto` the clock has a say, and another number of workers adds up in another
order.)
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..elastic.defaults import ordinary_defaults
from ..elastic.recipe import tensors
from ..elastic.supernet import Supernet
from ..errors import DataError, TrainingError, WorkerLost
from ..graph.graph import Block, Subnet
from ..pack.trained_on import TrainedOn
from .agreement import agree
from .averaging import SUBNETS, Averaging, divided
from .batches import Batches, TrainingData, batches_of
from .beginning import Preparing, begin, expected
from .checkpoint import Checkpoint, check_checkpoint
from .folded import folded
from .initialise import held_out
from .logs import Logs, check_logs
from .losses import local_losses, variances
from .objective import Objective
from .parallel import Workers, workers
from .phases import Phase, Training, ours
from .placement import check_memory, find_device, placed
from .precision import faster_precision
from .slope import largest_fall
from .subnet_draws import SubnetDraws
from .thinning import Thinned

Progress = Callable[[str, int, int, float], None]
_DECIDING = 3.0  # steps that it takes to decide by a batch how far weights go, at most
_READING, _BEGINNING = 0.15, 0.4  # of the minutes: until when calibration batches are read, and blocks initialised
_TIMING = 0.1  # of the minutes: for how long a step is timed in both precisions


@dataclass(frozen=True)
class Trained:
    """What a run did, its resumed parts together.

    `losses` is every alternative's local loss on the held-out part of the calibration batches: as it was made
    (`weights`), after each step of the initialisation, and at the end, of those that are left (`trained`). `thinned`
    says which were left out before the first step, None where all were to stay. `precision` is what it came to be.
    `planned` is the number of steps without a limit of minutes. `falling` is by which share the loss still fell at the
    end (see `slope`): 0 where it did not, None where there were too few steps to tell. `kept` is how much of the way
    that the weights went in each phase they went in the end, by `deciding` images (see `averaging`); () without any.
    """

    losses: dict[str, dict[str, float]]
    steps: int
    seconds: float
    planned: int
    falling: float | None
    thinned: Thinned | None = None
    precision: str = "float32"
    kept: tuple[float, ...] = ()
    deciding: int = 0


@ordinary_defaults()
def train(
    supernet: Supernet,
    data: TrainingData,
    training: Training | None = None,
    *,
    cost: Mapping[str, float] | None = None,
    subnets: Mapping[Subnet, float] | None = None,
    checkpoint: str | Path | None = None,
    logs: str | Path | None = None,
    progress: Progress | None = None,
    preparing: Preparing | None = None,
    device: str = "cpu",
) -> Trained:
    """Trains `supernet` in place and notes each alternative's local loss on its graph (`Block.loss`), and which
    images it was trained on, where `data` tells their digests (`Supernet.trained_on`). With a limit of storage in the
    settings, alternatives are left out first (see `thinning`): at the end, `supernet` has them no more.

    `training` is a recipe of `phases`, `ours()` when None. `cost`, one number a block, is what subnets are sampled by:
    milliseconds, say, from a device's latency table; multiply-accumulates when None. With `subnets`, only these are
    sampled, all equally often, and the loss of each counts as often as its number says. With `checkpoint` (a file), the
    state is written there, and a file that is there already is resumed. `logs` is a folder for TensorBoard.
    `progress(kind of phase, steps done, steps in all, loss)` is called after each step, `preparing(what, done, total)`
    while pictures are read and blocks initialised before the first. `device` is `cpu`, `cuda` or
    `auto`. Under torchrun every process calls this; the first one alone writes and reports. Of supernets that each made
    for itself, alternatives that one of them left out for the time they took are left out by all (`Supernet.left_out`).

    Raises TrainingError for a loss that is no number, a checkpoint of another run, a disk that does not take one, data
    without the labels that a phase needs, and when another worker is gone. The last checkpoint is then as it was.
    Raises GraphError for one of `subnets` that is none.
    """
    place = find_device(device)
    training = training or ours()
    data, deciding = divided(data, training.averaging, training.seed)
    if checkpoint:
        check_checkpoint(Path(checkpoint))
    if logs:
        check_logs(Path(logs))
    check_memory(supernet.graph, training, place)
    with (
        workers(place) as group,
        placed(supernet, place),
        Batches(data, training, group.part(training.batch_size), place) as batches,
    ):
        agree(supernet, group)
        given = subnets and {supernet.graph.subnet(subnet): weight for subnet, weight in subnets.items()}
        trained = _Run(supernet, training, group, batches, cost, place, given).run(
            len(data),
            batches_of(deciding, training.batch_size, place),
            Path(checkpoint) if checkpoint else None,
            Path(logs) if logs else None,
            progress if progress and group.rank == 0 else lambda kind, done, total, loss: None,
            preparing if preparing and group.rank == 0 else lambda what, done, total: None,
        )
        if hasattr(data, "content_digests") and group.rank == 0:
            known = supernet.trained_on or TrainedOn()
            digests = digests_of(data, batches.used(trained.steps)), digests_of(deciding, range(len(deciding)))
            supernet.trained_on = known.with_pictures(itertools.chain(*digests))
        return trained


def digests_of(data: Any, indices: Iterable[int]) -> Iterator[bytes]:
    """Of the images that can still be read: the training is done, and one that has gone must not cost it."""
    for index in indices:
        with suppress(DataError):
            yield from data.content_digests([index])


class _Run:
    def __init__(
        self,
        supernet: Supernet,
        training: Training,
        group: Workers,
        batches: Batches,
        cost: Mapping[str, float] | None,
        device: torch.device,
        given: Mapping[Subnet, float] | None = None,
    ) -> None:
        self.whole, self.training, self.group, self.batches = supernet, training, group, batches
        self.supernet = supernet  # without the alternatives that are left out
        self.cost, self.device, self.given = cost, device, given
        self.started = time.monotonic()
        self.share = len(group.part(training.batch_size)) / training.batch_size
        if not any(self._trainable(block) for block in supernet.alternatives()):
            raise TrainingError(
                "this supernet has no alternatives to train: no block beside the original ones has parameters"
            )
        self.thinned: Thinned | None = None
        self.checkpoint: Checkpoint | None = None
        self.done = 0
        self.losses: dict[str, dict[str, float]] = {}
        self.seconds_before = 0.0  # of the parts of this run that ended earlier
        self.seconds_to_begin = 0.0  # from the start to the first step
        self.seconds_to_end = 0.0  # of the last step and of what comes after it, as estimated from the steps so far
        self.history: list[tuple[str, float]] = []  # kind of phase and loss of every step of this part of the run

    def run(
        self,
        images: int,
        deciding: list[torch.Tensor],
        file: Path | None,
        logs: Path | None,
        progress: Progress,
        preparing: Preparing,
    ) -> Trained:
        self.supernet.eval()
        self.deciding = deciding
        settings = replace(self.training, loaders=1, max_minutes=self.training.max_minutes and 1.0)
        self.group.must_share(repr(settings), "settings, weights or images")
        calibration, self.spread = self._calibrated(preparing)
        identity = self._identity(calibration[0], images)
        self.group.must_share(identity, "settings, weights or images")
        self.checkpoint = Checkpoint(file, identity) if file else None
        self._begin(calibration, preparing)
        self.training = replace(self.training, precision=self._precision(calibration[0]))
        self.objective = self._objective(self.training.precision)
        writer = Logs(logs, self.done) if logs and self.group.rank == 0 else None
        try:
            self._loop(writer, progress, preparing, 1 + len(held_out(calibration)[1]) / 2 + len(deciding) * _DECIDING)
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
        self.whole.become(self.supernet)
        seconds, falling, precision = self._seconds(), largest_fall(self.history), self.training.precision
        kept, decided = tuple(self.averaging.kept), sum(len(batch) for batch in deciding)
        return Trained(
            self.losses, self.done, seconds, self.training.steps, falling, self.thinned, precision, kept, decided
        )

    def _objective(self, precision: str) -> Objective:
        training = replace(self.training, precision=precision)
        known = expected(self.losses, self.training)
        return Objective(self.folded, training, self.spread, self.cost, self.device, known, self.given)

    def _precision(self, images: torch.Tensor) -> str:
        """As given, or as the run began; for `auto`, the first worker times it, where there is something to train."""
        if self.training.precision != "auto":
            return self.training.precision
        if not self.training.steps:
            return "float32"
        objectives = {name: self._objective(name) for name in ("float32", "bfloat16")}
        seconds = 60 * _TIMING * (self.training.max_minutes or math.inf)
        return self.group.told(lambda: faster_precision(objectives, images, seconds))

    def _calibrated(self, preparing: Preparing) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The calibration batches and the variance of the teacher's feature at every cut over them.

        At least one batch; with a limit of minutes, as many as there is time for.
        """
        batches: list[torch.Tensor] = []
        spread = [torch.zeros((), device=self.device) for _ in self.supernet.graph.cuts]
        for batch in self.batches.calibration():
            self._check_inputs(batch)
            batches.append(batch)
            spread = [total + own for total, own in zip(spread, variances(self.supernet, [batch]), strict=True)]
            preparing("reading pictures", len(batches), self.training.calibration_batches)
            if self.training.max_minutes is not None and self.group.told(lambda: str(self._late(_READING))) == "True":
                break
        return batches, [total / len(batches) for total in spread]

    def _late(self, share: float) -> bool:
        return time.monotonic() - self.started > 60 * share * (self.training.max_minutes or math.inf)

    def _loop(self, writer: Logs | None, progress: Progress, preparing: Preparing, closing: float) -> None:
        """Takes the steps that are left. What follows the last one takes as long as `closing` steps, at most."""
        saved, averaged = self.done, partial(preparing, "averaging weights")
        if not saved:
            self.seconds_to_begin = self._seconds()
        while (position := self._position()) < self.training.steps:
            phase, rate = self.training.at(position)
            self.averaging.end_phases(self.training.number_at(position), self.group, averaged)
            began = time.monotonic()
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
            self.history.append((phase.kind, loss))
            self.seconds_to_end = max(self.seconds_to_end, closing * (time.monotonic() - began))
        if saved < self.done:
            self._save()
        self.averaging.end_phases(len(self.training.phases), self.group, averaged)

    def _check_inputs(self, batch: torch.Tensor) -> None:
        shape = self.supernet.graph.cuts[0].shape
        if batch.dim() != len(shape) or batch.shape[1] != shape[1]:
            raise TrainingError(f"the images have shape {(1, *batch.shape[1:])}, and the network reads {shape}")

    def _identity(self, first: torch.Tensor, images: int) -> str:
        """A digest of what the run is a function of: settings, blocks, the teacher's weights, images it sees first.

        Not of what may change when a run is resumed: how long it may last, how often it is saved, who loads images.
        Where subnets are given, alternatives are trained further, and so their weights are a part of it as well.
        """
        settings = asdict(replace(self.training, checkpoint_every=1, loaders=1, max_minutes=None))
        blocks = [(block.name, block.params) for block in self.supernet.graph.blocks]
        cost = None if self.cost is None else sorted(self.cost.items())
        digest = hashlib.sha256(json.dumps([settings, blocks, images, cost]).encode())
        names = list(self.supernet.graph.oracle)
        if self.given is not None:
            digest.update(json.dumps(list(self.given)).encode())
            names += [block.name for block in self.supernet.alternatives()]
        for name in names:
            for _, tensor in sorted(tensors(self.supernet.blocks[name]).items()):
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        digest.update(first.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _begin(self, calibration: list[torch.Tensor], preparing: Preparing) -> None:
        """Resumes, or initialises and thins; then every worker has what the first one has."""
        checkpoint = self.checkpoint
        facts = json.loads(self.group.told(lambda: json.dumps(checkpoint.facts() if checkpoint else None)))
        if facts is None:
            seconds = 60 * _BEGINNING * (self.training.max_minutes or math.inf) - (time.monotonic() - self.started)
            begun = begin(self.supernet, calibration, self.training, self.cost, seconds, preparing)
            self.losses = begun.losses
            thinned = self.group.told(lambda: json.dumps(begun.thinned and asdict(begun.thinned)))
        else:
            thinned = facts["thinned"]
            self.done, self.losses = int(facts["done"]), json.loads(facts["losses"])
            self.seconds_before, self.seconds_to_begin = float(facts["seconds"]), float(facts["seconds to begin"])
            self.seconds_to_end = float(facts["seconds to end"])
            self.training = replace(self.training, precision=facts["precision"])
        # As it was written down, so that the subnets that are drawn are the same on every worker and after resuming.
        self.losses = json.loads(self.group.told(lambda: json.dumps(self.losses)))
        if (document := json.loads(thinned)) is not None:
            self.thinned = Thinned.from_json(document)
            self.supernet = self.whole.without(self.thinned.names)
        self._set_up()
        if facts is not None:
            self.averaging.kept = json.loads(facts["kept"])
            self.group.told(self._read_state)
        self.group.take_over(list(self._state().values()))

    def _read_state(self) -> str:
        if self.checkpoint:
            self.checkpoint.read(self._state())
        return ""

    def _set_up(self) -> None:
        """The optimizer of what is left to train, and the blocks as the steps run them."""
        self.folded = folded(self.supernet)
        self.alternatives = self.supernet.alternatives()
        self.parameters = {block.name: self._trainable(block) for block in self.alternatives}
        every = [parameter for own in self.parameters.values() for parameter in own]
        if not every and self.thinned:
            raise TrainingError(
                f"no alternative that can be trained is left: {len(self.thinned.dominated)} are dominated by another "
                f"block, {len(self.thinned.storage)} went for a storage of {self.training.storage} times the original "
                "network's; --storage all (storage=None) keeps them"
            )
        self.optimizer = torch.optim.Adam(every, lr=0.0)
        for parameter in every:  # Adam's own start, made now so that every checkpoint holds the same tensors
            moments = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
            self.optimizer.state[parameter] = {"step": torch.zeros(()), **moments}
        subnets = []
        if self.deciding:
            draws = SubnetDraws(self.supernet.graph, self.training.cheapest, self.cost)
            subnets = draws.front(SUBNETS, expected(self.losses, self.training))
            subnets = subnets or draws.by_walk(SUBNETS, random.Random(self.training.seed))
        self.averaging = Averaging(self.folded, every, subnets, self.deciding, self.spread[-1])

    def _trainable(self, block: Block) -> list[torch.nn.Parameter]:
        # Sorted, because a supernet that was loaded has its parameters in another order than one that was made.
        return [p for _, p in sorted(self.whole.blocks[block.name].named_parameters()) if p.requires_grad]

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
        state |= {f"before/{number:06}": tensor for number, tensor in enumerate(self.averaging.before)}
        return dict(sorted(state.items()))

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _position(self) -> float:
        """How far the run is, in steps: those done, or further where the minutes are further gone."""
        if self.training.max_minutes is None:
            return self.done

        def time_share() -> str:
            seconds, limit = self._seconds(), 60 * (self.training.max_minutes or 0.0) - self.seconds_to_end
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
            facts = {
                "done": self.done,
                "seconds": self._seconds(),
                "seconds to begin": self.seconds_to_begin,
                "seconds to end": self.seconds_to_end,
                "kept": self.averaging.kept,
            }
            texts = {name: repr(value) for name, value in facts.items()}
            texts |= {"losses": json.dumps(self.losses), "thinned": json.dumps(self.thinned and asdict(self.thinned))}
            texts["precision"] = self.training.precision
            self.checkpoint.write(self._state(), texts, self.done)
