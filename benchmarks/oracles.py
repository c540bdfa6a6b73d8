"""ResNets for CIFAR-10, fine-tuned on its JPEG pictures: the oracles of the training and the search benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch
from adaptivenet.toolkit.cli.console import Console
from adaptivenet.toolkit.elastic import load_model
from adaptivenet.toolkit.training.batches import TrainingData
from torch import nn

from .datasets import batch, cifar10, data_folder


def cifar_resnet(name: str, pictures: int, work: Path, console: Console) -> nn.Module:
    """`resnet20` or `resnet56`, fine-tuned on so many pictures of the training set. Kept in `work` for the next run."""
    file = work / f"{name}-jpeg-{pictures}.pth"
    if file.exists():
        return load_model(f"benchmarks.models:{name}", file)
    (weights,) = (data_folder() / "weights" / "cifar10_resnet").glob(f"{name}-*.th")
    model = load_model(f"benchmarks.models:{name}", weights)
    _fine_tune(model, cifar10("train").some(pictures, 0), console)
    work.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), file)
    return model


def _fine_tune(model: nn.Module, pictures: TrainingData, console: Console) -> None:
    """One epoch of SGD with cross-entropy, flips and a cosine from 0.02."""
    torch.manual_seed(0)
    size = 128
    steps = len(pictures) // size
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for step in range(steps):
        x, labels = batch(pictures, range(step * size, (step + 1) * size))
        x = torch.where(torch.rand(size, 1, 1, 1) < 0.5, x.flip(3), x)
        loss = nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        console.progress("fine-tune", step + 1, steps, f"loss {loss.item():.3f}")
    model.eval()
