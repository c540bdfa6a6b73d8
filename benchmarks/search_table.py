"""Makes the table of truth that benchmarks.search and benchmarks.skew read: every subnet of a small supernet.

    python -m benchmarks.search_table --out benchmarks/tables/cifar10-resnet20.npz [--quick] [--work FOLDER]

A ResNet-20, fine-tuned for one epoch on the JPEG pictures of CIFAR-10, with merged blocks (2, 3 and 4 in one) and
pruned ones (three quarters of the inner channels): 3,906 subnets, 138 of them within half of the oracle's latency. The
alternatives are trained by the recipe `uniform`. Each subnet classifies 2,000 pictures of the test set, which neither
training saw, and the table holds which ones it gets right. The latency of a block is measured in torch (one thread,
batch 1, the median of 200, all blocks in turn).

Needs ADAPTIVENET_DATA. Ten minutes of training and an hour of evaluation on one core; the oracle and the trained
weights are kept in `--work`. `--quick` trains for some steps and takes 20 pictures: it shows that the script runs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from adaptivenet.toolkit.cli.console import Console, reports_errors
from adaptivenet.toolkit.elastic import elastify, merge, prune
from adaptivenet.toolkit.training.phases import uniform
from adaptivenet.toolkit.training.train import train

from .datasets import cifar10
from .distill import block_latencies
from .hits import hits
from .machine import describe_machine
from .oracles import cifar_resnet
from .truth import CIFAR10, Truth

KINDS = {"merge": (2, 3, 4), "prune": (0.75,)}
PICTURES = 2000
FINE_TUNED_ON = 50_000


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=CIFAR10, show_default=True, help="The table.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/search_table"), show_default=True)
@click.option("--quick", is_flag=True, help="A few steps and pictures, for a look at the script.")
@reports_errors
def main(out: Path, work: Path, quick: bool) -> None:
    """Print the figures as the last line, one json object."""
    torch.set_num_threads(1)
    console = Console()
    pictures, fine_tuned_on = (20, 1280) if quick else (PICTURES, FINE_TUNED_ON)
    oracle = cifar_resnet("resnet20", fine_tuned_on, work, console)
    kinds = [*map(merge, KINDS["merge"]), *map(prune, KINDS["prune"])]
    supernet = elastify(oracle, torch.zeros(1, 3, 32, 32), kinds=kinds)
    training = replace(uniform(), batch_size=64, flip=True, shift=4, calibration_batches=4, loaders=1)
    # As long for whole subnets as for blocks alone: a step with two subnets takes half as long as one with all blocks.
    local, subnets = (4, 8) if quick else (350, 700)
    training = replace(
        training, phases=tuple(replace(phase, steps=steps) for phase, steps in zip(training.phases, (local, subnets)))
    )
    train(
        supernet,
        cifar10("train"),
        training,
        checkpoint=work / f"training-{local}-{subnets}.safetensors",
        progress=lambda kind, done, total, loss: console.progress(f"train, {kind}", done, total, f"loss {loss:.3f}"),
    )
    cost = block_latencies(supernet, rounds=200)
    test = cifar10("test").some(pictures, 1)
    right = hits(
        supernet,
        list(supernet.graph.paths()),
        test,
        batch_size=100,
        progress=lambda done, total: console.progress("evaluate", done, total, "pictures"),
    )
    made = {
        "by": "benchmarks.search_table",
        "oracle": f"CIFAR-10 ResNet-20, fine-tuned for one epoch on {fine_tuned_on} JPEG training pictures",
        "kinds": KINDS,
        "training": f"uniform: {local} local and {subnets} subnets steps of {training.batch_size} training pictures",
        "pictures": f"{pictures} of the test set, drawn with seed 1",
        "milliseconds": "torch, one thread, batch 1, median of 200 rounds of all blocks in turn",
        "machine": describe_machine(),
    }
    labels = np.array([test.label(index) for index in range(pictures)], np.uint8)
    truth = Truth(supernet.graph, cost, right, labels, made)
    truth.write(out)
    figures = {
        "subnets": len(truth.subnets),
        "pictures": pictures,
        "bytes": out.stat().st_size,
        "oracle_acc": float(truth.accuracy[truth.row[truth.graph.oracle]]),
    }
    for percent in (90, 80, 70, 60, 50):
        budget = truth.budget(percent / 100)
        fits = truth.fits(budget)
        figures[f"subnets_within_{percent}"] = int(fits.sum())
        figures[f"median_acc_within_{percent}"] = float(np.median(truth.accuracy[fits]))
        figures[f"best_acc_within_{percent}"] = truth.optimum(budget)
    click.echo(json.dumps({"benchmark": "search_table", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
