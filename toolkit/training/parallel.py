"""Data parallelism: several processes train one supernet, each on its own part of the same batches.

`torchrun` starts the processes and says in the environment who they are. All draw the same batches and the same
subnets from the same seed; each computes the gradient of its part of the batch, and the sum over the workers is what
one process would have computed, up to the order of additions. Gradients travel through gloo between CPUs and through
NCCL between GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

from ..errors import TrainingError, WorkerLost

_PATIENCE = timedelta(minutes=10)  # for one that hangs: of one that is gone, the others hear at once


def is_first_worker() -> bool:
    """Whether this process is the only one, or the one of its group that writes and prints."""
    return _group_size() == 1 or int(os.environ.get("RANK", 0)) == 0


class Workers:
    """The processes that train together. This one is number `rank` of `size`, and sends tensors that are on `device`.

    Every method is called by all workers at the same point of the run. With one worker nothing is sent. Each raises
    WorkerLost when another worker is gone.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.size = rank, size
        self.device = device or torch.device("cpu")

    def part(self, count: int) -> range:
        """This worker's share of `count` places in a batch. Raises TrainingError when a worker would get none."""
        if count < self.size:
            raise TrainingError(f"batch_size is {count}, and there are {self.size} workers: each needs an image a step")
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces each tensor by its sum over the workers. All have the same shapes on every worker."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _together():
            distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(total.view_as(tensor))

    def take_over(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrites each tensor with the first worker's."""
        if self.size == 1:
            return
        for tensor in tensors:
            sent = tensor.to(self.device, copy=True).contiguous()
            with _together():
                distributed.broadcast(sent, 0)
            tensor.copy_(sent)

    def told(self, make: Callable[[], str]) -> str:
        """What `make` returns on the first worker, where alone it is called.

        A TrainingError that it raises there is raised by every worker.
        """
        if self.size == 1:
            return make()
        answer = ""
        if self.rank == 0:
            try:
                answer = "+" + make()
            except TrainingError as error:
                answer = "-" + str(error)
        data = torch.frombuffer(bytearray(answer.encode() or b" "), dtype=torch.uint8).to(self.device)
        length = torch.tensor([data.numel()], device=self.device)
        with _together():
            distributed.broadcast(length, 0)
            if self.rank:
                data = torch.empty(int(length), dtype=torch.uint8, device=self.device)
            distributed.broadcast(data, 0)
        answer = bytes(data.cpu().tolist()).decode()
        if answer[0] == "-":
            raise TrainingError(answer[1:])
        return answer[1:]

    def must_share(self, text: str, what: str) -> None:
        """Raises TrainingError on every worker when one of them has another `text`; `what` names it."""
        differs = torch.tensor([float(self.told(lambda: text) != text)], device=self.device)
        self.add_up([differs])
        if differs:
            raise TrainingError(
                f"{int(differs)} of {self.size} workers have other {what} than the first: start all of them with the "
                "same command, on the same files"
            )


@contextmanager
def workers(device: torch.device) -> Iterator[Workers]:
    """The group that torchrun, or a program that set up torch.distributed itself, made this process a part of.

    Without either: this process alone. Raises TrainingError when the others cannot be reached.
    """
    joined = distributed.is_available() and not distributed.is_initialized()
    if not distributed.is_available() or (joined and _group_size() == 1):
        yield Workers()
        return
    if joined:
        try:
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"cannot reach the other workers ({_first_line(error)}): start with torchrun"
            ) from error
    try:
        yield Workers(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        if joined:
            distributed.destroy_process_group()


def _group_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what gloo and NCCL raise, whatever happened
        raise WorkerLost(f"another worker failed or was killed ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0][:200]
