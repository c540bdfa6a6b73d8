"""Trains the alternatives of a supernet on its own original blocks. No labels are needed.

First *locally*: the original model (the teacher) runs once a batch, and every alternative learns to give the
teacher's feature at its end cut from the teacher's feature at its start cut, all of them in the same pass. Then *end
to end*: subnets are sampled over the range of costs, and their outputs are pulled towards the teacher's. The teacher
never changes. Before the first step the alternatives are initialised on the calibration batches (see `initialise`);
their batch-norm statistics then stay fixed.

A run is a function of the supernet, the data and the settings: the batches of step *k* depend on the seed and *k*
alone, so that a run that was killed and resumed from its checkpoint ends with the same weights as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from ..atomic import write_file
from ..errors import TrainingError
from ..graph import Block, Subnet
from ..sampling import PathSampler
from .initialise import initialise
from .recipe import tensors
from .supernet import Supernet

Progress = Callable[[str, int, int, float], None]


class Images(Protocol):
    """What distillation needs of a data set: preprocessed images of shape (1, channels, height, width), float32."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Distillation:
    """The settings of a run. `local_steps` and `subnet_steps` are batches in the two phases.

    `cheapest` is the lower end of the range of costs, as a share of the oracle's multiply-accumulates, from which the
    second phase draws its subnets, uniformly over the range.
    """

    local_steps: int = 200
    subnet_steps: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3
    subnet_learning_rate: float = 2e-4
    subnets_per_step: int = 2
    cheapest: float = 0.5
    calibration_batches: int = 8
    checkpoint_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 0 if name in ("local_steps", "subnet_steps", "cheapest", "seed") else 1
            if name.endswith("learning_rate"):
                least = 0
            if not (math.isfinite(value) and value >= least):
                raise TrainingError(f"{name} is {value}; it must be at least {least}")


@dataclass(frozen=True)
class Distilled:
    """What a run did: the local loss of every alternative before the first step and after the last, and its time."""

    before: dict[str, float]
    after: dict[str, float]
    steps: int
    seconds: float


def distil(
    supernet: Supernet,
    images: Images,
    settings: Distillation | None = None,
    *,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> Distilled:
    """Trains `supernet` in place and notes each alternative's local loss on its graph (`Block.loss`).

    The local loss is the squared error of a block's output over the variance of the teacher's feature, on the
    calibration batches. With `checkpoint` (a file), the state is written there every `checkpoint_every` steps, and a
    file that is there already is resumed. `progress(phase, done, total, loss)` is called after each step.
    Raises TrainingError for a loss that is no number, a checkpoint of another run, or a disk that does not take one.
    """
    run = _Run(supernet, images, settings or Distillation(), Path(checkpoint) if checkpoint else None, progress)
    return run.run()


class _Run:
    def __init__(
        self, supernet: Supernet, images: Images, settings: Distillation, file: Path | None, progress: Progress | None
    ) -> None:
        if len(images) < 1:
            raise TrainingError("there are no images to distil on")
        self.supernet, self.images, self.settings, self.file = supernet, images, settings, file
        self.progress = progress or (lambda phase, done, total, loss: None)
        self.alternatives = supernet.alternatives()
        if not self.alternatives:
            raise TrainingError("this supernet has no alternatives to train: every block is an original one")
        self.total = settings.local_steps + settings.subnet_steps
        self.done = 0
        self.before: dict[str, float] = {}
        self.identity = ""
        self.named = [
            (f"{block.name}/{name}", parameter)
            for block in self.alternatives
            for name, parameter in supernet.blocks[block.name].named_parameters()
            if parameter.requires_grad
        ]
        self.optimizer = torch.optim.Adam([parameter for _, parameter in self.named], lr=settings.learning_rate)
        self.sampler: PathSampler | None = None

    def run(self) -> Distilled:
        started = time.monotonic()
        self.supernet.eval()
        calibration = [self._batch(-1 - index) for index in range(self.settings.calibration_batches)]
        self.identity = self._identity(calibration)
        if not self._resume():
            initialise(self.supernet, calibration)
            self.before = self._local_losses(calibration)
        while self.done < self.total:
            local = self.done < self.settings.local_steps
            self._set_learning_rate(local)
            batch = self._batch(self.done)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._local_step(batch) if local else self._subnet_step(batch)
            self._check_gradients()
            self.optimizer.step()
            self.done += 1
            if self.file and (self.done % self.settings.checkpoint_every == 0 or self.done == self.total):
                self._save()
            self.progress("local" if local else "subnets", self.done, self.total, loss)
        after = self._local_losses(calibration)
        for name, loss in after.items():
            self._check(loss, f"block {name}")
        self.supernet.graph = self.supernet.graph.with_losses(after)
        return Distilled(self.before, after, self.done, time.monotonic() - started)

    def _identity(self, calibration: Sequence[torch.Tensor]) -> str:
        """A digest of what the run is a function of: settings, blocks, the teacher's weights, images it sees first."""
        blocks = [block.name for block in self.supernet.graph.blocks]
        digest = hashlib.sha256(json.dumps([asdict(self.settings), blocks, len(self.images)]).encode())
        for name in self.supernet.graph.oracle:
            for tensor in tensors(self.supernet.blocks[name]).values():
                digest.update(tensor.contiguous().numpy().tobytes())
        for batch in calibration:
            digest.update(batch.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _batch(self, step: int) -> torch.Tensor:
        """The images of a step: a stretch of the endless sequence of shuffled epochs. Negative steps go backwards."""
        size, count = self.settings.batch_size, len(self.images)
        indices = []
        for position in range(step * size, (step + 1) * size):
            epoch, offset = divmod(position, count)
            indices.append(_shuffled(self.settings.seed, epoch, count)[offset])
        batch = torch.from_numpy(np.concatenate([self.images.image(index) for index in indices]))
        return batch.to(memory_format=torch.channels_last) if batch.dim() == 4 else batch

    def _set_learning_rate(self, local: bool) -> None:
        """A cosine from the phase's rate to nothing."""
        settings = self.settings
        at, length, peak = (
            (self.done, settings.local_steps, settings.learning_rate)
            if local
            else (self.done - settings.local_steps, settings.subnet_steps, settings.subnet_learning_rate)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = peak * 0.5 * (1 + math.cos(math.pi * at / length))

    def _local_step(self, batch: torch.Tensor) -> float:
        with torch.no_grad():
            features = self.supernet.features(batch)
        total = 0.0
        for block in self.alternatives:
            loss = _local_loss(self.supernet.blocks[block.name], features, block)
            total += self._checked(loss, f"block {block.name}")
            if loss.requires_grad:  # a skip has nothing to learn
                loss.backward()
        return total / len(self.alternatives)

    def _subnet_step(self, batch: torch.Tensor) -> float:
        with torch.no_grad():
            teacher = self.supernet(batch)
        total = 0.0
        subnets = self._sample()
        for subnet in subnets:
            loss = _output_loss(self.supernet(batch, subnet), teacher) / len(subnets)
            total += self._checked(loss, f"subnet {' '.join(subnet)}")
            if loss.requires_grad:  # a skip has nothing to learn
                loss.backward()
        return total

    def _sample(self) -> Sequence[Subnet]:
        """Subnets that have something to learn, uniform over the range of costs: first a cost, then a path near it."""
        graph = self.supernet.graph
        if self.sampler is None:
            self.sampler = PathSampler(graph, {block.name: float(block.macs) for block in graph.blocks})
        rng = random.Random(f"{self.settings.seed}/subnets/{self.done}")
        oracle = sum(graph[name].macs for name in graph.oracle)
        fastest = sum(graph[name].macs for name in self.sampler.fastest)
        low = max(self.settings.cheapest * oracle, fastest)
        subnets = []
        for _ in range(self.settings.subnets_per_step):
            target = low + rng.random() * (0.98 * oracle - low)
            width = 0.01 * oracle
            while not self.sampler.count(target - width, target + width):
                width *= 2
            subnets += self.sampler.sample(1, rng, target - width, target + width)
        trainable = [subnet for subnet in subnets if subnet != graph.oracle]
        return trainable or [self.sampler.fastest]

    def _check_gradients(self) -> None:
        for name, parameter in self.named:
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                self._check(math.nan, name.partition("/")[0], "gradient")

    def _checked(self, loss: torch.Tensor, what: str) -> float:
        return self._check(float(loss.detach()), what)

    def _check(self, value: float, what: str, quantity: str = "loss") -> float:
        if not math.isfinite(value):
            kept = f"; {self.file} holds the last good state" if self.file and self.file.exists() else ""
            raise TrainingError(
                f"the {quantity} of {what} is {value} at step {self.done + 1}: lower the learning rate or look at the "
                f"images{kept}"
            )
        return value

    def _local_losses(self, batches: Sequence[torch.Tensor]) -> dict[str, float]:
        sums = dict.fromkeys((block.name for block in self.alternatives), 0.0)
        with torch.no_grad():
            for batch in batches:
                features = self.supernet.features(batch)
                for block in self.alternatives:
                    sums[block.name] += float(_local_loss(self.supernet.blocks[block.name], features, block))
        return {name: total / len(batches) for name, total in sums.items()}

    def _state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Everything a step changes, by name: parameters, batch-norm statistics, the optimizer's moments."""
        for block in self.alternatives:
            module = self.supernet.blocks[block.name]
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                yield f"model/{block.name}/{name}", tensor
        for name, parameter in self.named:
            state = self.optimizer.state.get(parameter, {})
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if key in state:
                    yield f"adam/{key}/{name}", state[key]

    def _save(self) -> None:
        assert self.file is not None
        facts = {"run": self.identity, "done": str(self.done), "before": json.dumps(self.before)}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_file(self.file, save({name: t.detach().contiguous() for name, t in self._state()}, metadata=facts))
        except OSError as error:
            raise TrainingError(
                f"cannot write the checkpoint {self.file} at step {self.done}: {error.strerror}; "
                "the one before it is untouched"
            ) from error

    def _resume(self) -> bool:
        if self.file is None or not self.file.exists():
            return False
        try:
            with safe_open(self.file, "pt") as stored:
                facts = stored.metadata() or {}
                if facts.get("run") != self.identity:
                    raise TrainingError(
                        f"the checkpoint {self.file} belongs to another supernet, other settings or other images: "
                        "name another file, or remove it to start over"
                    )
                held = dict.fromkeys(stored.keys())
                with torch.no_grad():
                    for name, parameter in self.named:
                        if f"adam/step/{name}" in held:
                            self.optimizer.state[parameter] = {
                                key: stored.get_tensor(f"adam/{key}/{name}")
                                for key in ("step", "exp_avg", "exp_avg_sq")
                            }
                    for name, tensor in self._state():
                        tensor.copy_(stored.get_tensor(name))
            self.done, self.before = int(facts["done"]), json.loads(facts["before"])
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise TrainingError(f"the checkpoint {self.file} is damaged: {error}; remove it to start over") from error
        return True


@lru_cache(maxsize=2)  # a step lies in one epoch, or where two meet
def _shuffled(seed: int, epoch: int, count: int) -> list[int]:
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order


def _local_loss(module: nn.Module, features: Sequence[torch.Tensor], block: Block) -> torch.Tensor:
    target = features[block.end]
    error: torch.Tensor = (module(features[block.start]) - target).square().mean()
    return error / target.var().clamp_min(1e-12)


def _output_loss(output: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence for class scores of shape (batch, classes), else the relative squared error."""
    if output.dim() == 2 and output.shape[1] > 1:
        return F.kl_div(F.log_softmax(output, 1), F.log_softmax(teacher, 1), log_target=True, reduction="batchmean")
    return (output - teacher).square().mean() / teacher.var().clamp_min(1e-12)
