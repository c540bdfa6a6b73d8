"""Ways to train a supernet for equal time, and what each step of the initialisation is worth before that.

    python -m benchmarks.distill [--quick] [--experiment cifar10] [--recipe ours ...] [--seeds 3] [--minutes 3]

`cifar10` is a ResNet-56 on CIFAR-10, fine-tuned first on the JPEG pictures that it then sees (in the folder `--work`,
kept for the next run); `tiny` is EfficientNet-Lite0 as it ships, at 128 pixels, on the 200 classes of Tiny-ImageNet.
Both need ADAPTIVENET_DATA. `--recipe`, which may come more than once, takes only some of the recipes.

The recipes: `naive` (cross-entropy on subnets from the first step), `paper` (AdaptiveNet's branch distillation for two
thirds of the time, then cross-entropy), `uniform` (initialised by least squares, then local distillation for half of
the time, then distillation of subnets of all costs), `ours` (the same with subnets near the expected front, thinned out
before to twice the original's parameters, its weights averaged with those before each phase), `front` (as `ours`, but
fitted to what arrives in subnets near that front in place of local distillation). Each trains one and the same
untrained supernet, with the same pictures, for all of the time, and again for a third of it, with a schedule of its own
that ends there. Time is CPU seconds of one thread, all that training does included, evaluation not: it does not count
what other programs take from a shared machine.
How many steps fit is found from a few steps of every phase, taken in one run before. A recipe whose initialisation
takes longer than its time gets no steps, and stands with the time that it took. Every recipe's learning rates are
scaled by the one of 1, 0.3, 0.1 and 0.03 that serves it best in a run of a third of the time, with another seed, on
pictures that are neither trained on nor the test's.

What is compared is the mean top-1 accuracy of 50 subnets on test pictures, which are drawn uniformly over 50 to 95% of
the oracle's latency (the same subnets for all recipes that leave no alternative out), which is the sum of the blocks'
latencies in torch (measured here, one thread, batch 1, median of 15, all blocks in turn). `*_mean_acc` is the mean over
the seeds at full time, `*_spread` the largest difference between seeds; `time_to_paper_ratio` is the least time, among
those tried, after which `ours` is at least as good as `paper` at the end, over the paper recipe's time, both as
measured; 0 where none of them was. `RECIPE_best_at_B_pct` is the accuracy, on the test pictures, of the best subnet
within B% of the oracle's latency: of the 10 with the least sum of local losses, the one that is best on the pictures
that learning rates are chosen on. `initialised_STEPS_acc` is the mean accuracy after these steps of the initialisation,
without any gradient, and `initialised_STEPS_best_at_B_pct` that of the best subnets then. `--quick` does one seed, 30
seconds, and fewer pictures.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.elastic import Supernet, elastify
from adaptivenet.toolkit.graph.best_paths import best_paths
from adaptivenet.toolkit.graph.graph import Subnet
from adaptivenet.toolkit.report.text import markdown
from adaptivenet.toolkit.training.batches import TrainingData
from adaptivenet.toolkit.training.initialise import initialise
from adaptivenet.toolkit.training.phases import RECIPES, STEPS, Phase, Training
from adaptivenet.toolkit.training.subnet_draws import SubnetDraws
from adaptivenet.toolkit.training.train import train
from torch import nn

from .datasets import batch, cifar10, tiny_imagenet, tiny_imagenet_classes
from .hits import hits
from .machine import describe_machine
from .models import efficientnet_lite0
from .oracles import cifar_resnet

SHARES = (1 / 3, 1.0)  # of the time, each with a schedule of its own
RATES = (1.0, 0.3, 0.1, 0.03)
TIME_SHARES = {  # of a recipe's phases
    "naive": (1.0,),
    "paper": (2 / 3, 1 / 3),
    "uniform": (0.5, 0.5),
    "ours": (0.5, 0.5),
    "front": (1.0,),
}
BUDGETS = (0.9, 0.75, 0.6, 0.5)  # of the oracle's latency
CANDIDATES = 10  # for the best subnet within each
TRIAL_STEPS = 4
CALIBRATION = 128  # pictures for the initialisation


@dataclass(frozen=True)
class Experiment:
    """A supernet that is untrained; pictures to train it on, to choose learning rates on, and to measure it on."""

    supernet: Supernet
    training: TrainingData
    choosing: TrainingData
    test: TrainingData
    batch_size: int
    shift: int


@dataclass(frozen=True)
class Run:
    """What one training gave: the mean accuracy of random subnets, that of the best one within each of `BUDGETS` where
    it had all of the time, and the CPU seconds it took."""

    recipe: str
    share: float
    seed: int
    accuracy: float
    seconds: float
    steps: int
    best: tuple[float, ...] = ()


def cifar(work: Path, test_pictures: int, fine_tuning: int, console: Console) -> Experiment:
    """ResNet-56, fine-tuned on `fine_tuning` JPEG pictures of CIFAR-10."""
    supernet = elastify(cifar_resnet("resnet56", fine_tuning, work, console), torch.zeros(1, 3, 32, 32))
    training, choosing = cifar10("train").divided(1000, 2)
    return Experiment(
        supernet, training, choosing.some(test_pictures, 3), cifar10("test").some(test_pictures, 1), 32, 4
    )


class _Among(nn.Module):
    """The scores of some classes only."""

    def __init__(self, classes: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("classes", torch.tensor(classes))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.index_select(1, self.classes)


def tiny(test_pictures: int) -> Experiment:
    """EfficientNet-Lite0 on Tiny-ImageNet at 128 pixels, its scores taken among the 200 classes."""
    model = nn.Sequential(efficientnet_lite0(), _Among(tiny_imagenet_classes().tolist())).eval()
    supernet = elastify(model, torch.zeros(1, 3, 128, 128))
    training, choosing = tiny_imagenet("train", 128).divided(1000, 2)
    test = tiny_imagenet("val", 128).some(test_pictures, 1)
    return Experiment(supernet, training, choosing.some(test_pictures, 3), test, 16, 8)


def block_latencies(supernet: Supernet, rounds: int = 15) -> dict[str, float]:
    """The milliseconds of every block in torch: one thread, batch 1, the median of `rounds` in which all take turns."""
    graph = supernet.graph
    samples: dict[str, list[float]] = {block.name: [] for block in graph.blocks}
    with torch.no_grad():
        features = supernet.features(torch.randn(graph.cuts[0].shape))
        for _ in range(rounds):
            for block in graph.blocks:
                inputs = [features[cut] for cut in graph.reads(block)]
                begun = time.perf_counter()
                supernet.blocks[block.name](*inputs)
                samples[block.name].append((time.perf_counter() - begun) * 1e3)
    return {name: statistics.median(values) for name, values in samples.items()}


def draw_subnets(supernet: Supernet, cost: dict[str, float], count: int) -> list[Subnet]:
    """`count` subnets: first a latency, uniform over 50 to 95% of the oracle's, then one of those within 1% of it."""
    own = {block.name: cost[block.name] for block in supernet.graph.blocks}
    draws, rng = SubnetDraws(supernet.graph, 0.5, own), random.Random(0)
    return [draws.about(rng.uniform(0.5, 0.95) * draws.oracle, rng) for _ in range(count)]


def accuracies(supernet: Supernet, subnets: Sequence[Subnet], pictures: TrainingData) -> list[float]:
    """The share of pictures that each subnet gets right, in percent."""
    return [100 * float(share) for share in hits(supernet, subnets, pictures).mean(axis=1)]


def best_accuracies(experiment: Experiment, supernet: Supernet, cost: dict[str, float]) -> tuple[float, ...]:
    """The accuracy on test pictures of the best subnet within each of `BUDGETS`; local losses and others choose it."""
    graph = supernet.graph
    own = {block.name: cost[block.name] for block in graph.blocks}
    value = {block.name: -(block.loss or 0.0) for block in graph.blocks}
    oracle = sum(own[name] for name in graph.oracle)
    candidates = best_paths(graph, own, value, [share * oracle for share in BUDGETS], k=CANDIDATES)
    chosen = []
    for subnets in candidates:
        found = accuracies(supernet, subnets, experiment.choosing)
        chosen.append(max(zip(found, subnets, strict=True), key=lambda pair: pair[0])[1])
    return tuple(accuracies(supernet, chosen, experiment.test))


def trial(experiment: Experiment, recipe: str) -> tuple[float, list[float]]:
    """The CPU seconds that a recipe takes beside its steps, and for a step of each of its phases."""
    training = _settings(experiment, recipe, [TRIAL_STEPS] * len(TIME_SHARES[recipe]), 1.0, seed=1000)
    marks = [time.process_time()]
    train(
        copy.deepcopy(experiment.supernet),
        experiment.training,
        training,
        progress=lambda kind, done, total, loss: marks.append(time.process_time()),
    )
    took = time.process_time() - marks[0]
    steps = [after - before for before, after in itertools.pairwise(marks)]
    phases = [statistics.median(steps[at + 1 : at + TRIAL_STEPS]) for at in range(0, len(steps), TRIAL_STEPS)]
    return took - TRIAL_STEPS * math.fsum(phases), phases


def _settings(experiment: Experiment, recipe: str, steps: Sequence[int], rate: float, seed: int) -> Training:
    base = RECIPES[recipe]()
    phases: list[Phase] = [
        replace(phase, steps=count, learning_rate=rate * phase.learning_rate)
        for phase, count in zip(base.phases, steps, strict=True)
    ]
    return replace(
        base,
        phases=tuple(phases),
        batch_size=experiment.batch_size,
        seed=seed,
        flip=True,
        shift=experiment.shift,
        calibration_batches=max(1, CALIBRATION // experiment.batch_size),
        loaders=1,
    )


def train_for(
    experiment: Experiment, recipe: str, seconds: float, costs: tuple[float, list[float]], rate: float, seed: int
) -> tuple[Supernet, float, int]:
    """A supernet trained for so many CPU seconds, as far as a trial can tell, those it took, and its steps."""
    beside, phases = costs
    left = max(0.0, seconds - beside)
    steps = [round(left * share / cost) for share, cost in zip(TIME_SHARES[recipe], phases, strict=True)]
    supernet = copy.deepcopy(experiment.supernet)
    begun = time.process_time()
    train(supernet, experiment.training, _settings(experiment, recipe, steps, rate, seed))
    return supernet, time.process_time() - begun, sum(steps)


def choose_rate(
    experiment: Experiment,
    recipe: str,
    seconds: float,
    costs: tuple[float, list[float]],
    cost: dict[str, float],
    console: Console,
) -> float:
    """The scale of a recipe's learning rates that gives the best accuracy after so many CPU seconds."""
    found = {}
    for rate in RATES:
        supernet, _, steps = train_for(experiment, recipe, seconds, costs, rate, seed=1000)
        found[rate] = statistics.fmean(accuracies(supernet, draw_subnets(supernet, cost, 50), experiment.choosing))
        console.say(f"{recipe}, rates scaled by {rate}: {found[rate]:.1f}% after {steps} steps")
    return max(found, key=lambda rate: found[rate])


def initialisation(
    experiment: Experiment, subnets: Sequence[Subnet], cost: dict[str, float], say: Callable[[str], None]
) -> dict[str, float]:
    """The mean accuracy of the subnets as they are made, and after steps of the initialisation, after two sets of which
    that of the best subnets, too: the figures by name."""
    size = experiment.batch_size
    batches = [
        batch(experiment.training, range(at * size, (at + 1) * size))[0] for at in range(max(1, CALIBRATION // size))
    ]
    found = {}
    for steps in ((), ("statistics",), ("fit",), ("statistics", "fit"), STEPS):
        supernet = copy.deepcopy(experiment.supernet)
        losses = initialise(supernet, batches, steps).losses
        name = "initialised_" + ("all_steps" if steps == STEPS else "_and_".join(steps) or "weights")
        found[f"{name}_acc"] = statistics.fmean(accuracies(supernet, subnets, experiment.test))
        line = f"{name}: {found[f'{name}_acc']:.1f}%"
        if len(steps) > 1:
            supernet.graph = supernet.graph.with_losses(losses[steps[-1]])
            for share, value in zip(BUDGETS, best_accuracies(experiment, supernet, cost), strict=True):
                found[f"{name}_best_at_{100 * share:.0f}_pct"] = value
                line += f", {value:.1f}% at {share:.0%}"
        say(line)
    return found


def figures_of(runs: Sequence[Run], seconds: float) -> dict[str, Any]:
    """The agreed figures, from all runs."""

    def mean(recipe: str, share: float, of: str = "accuracy") -> float:
        return statistics.fmean(getattr(run, of) for run in runs if (run.recipe, run.share) == (recipe, share))

    found: dict[str, Any] = {"budget_cpu_seconds": seconds, "seeds": len({run.seed for run in runs})}
    recipes = dict.fromkeys(run.recipe for run in runs)
    for recipe in recipes:
        final = [run.accuracy for run in runs if (run.recipe, run.share) == (recipe, 1.0)]
        found[f"{recipe}_mean_acc"] = mean(recipe, 1.0)
        found[f"{recipe}_spread"] = max(final) - min(final)
        best = [run.best for run in runs if run.recipe == recipe and run.best]
        for share, values in zip(BUDGETS, zip(*best, strict=True), strict=True):
            found[f"{recipe}_best_at_{100 * share:.0f}_pct"] = statistics.fmean(values)
    if {"ours", "paper"} <= recipes.keys():
        reached = [
            mean("ours", share, "seconds") / mean("paper", 1.0, "seconds")
            for share in SHARES
            if mean("ours", share) >= mean("paper", 1.0)
        ]
        found["time_to_paper_ratio"] = min(reached, default=0.0)
    return found


def _rows(runs: Sequence[Run]) -> list[list[str]]:
    rows = [["recipe", "share of the time", "CPU seconds", "steps", "mean top-1 of random subnets, by seed"]]
    rows[0] += [f"best at {share:.0%}" for share in BUDGETS]
    for recipe, share in itertools.product(dict.fromkeys(run.recipe for run in runs), SHARES):
        own = [run for run in runs if (run.recipe, run.share) == (recipe, share)]
        cpu, steps = (statistics.fmean(getattr(run, key) for run in own) for key in ("seconds", "steps"))
        accuracy = ", ".join(f"{run.accuracy:.1f}%" for run in own)
        best = [f"{statistics.fmean(values):.1f}%" for values in zip(*(run.best for run in own), strict=True)]
        rows.append([recipe, f"{share:.2f}", f"{cpu:.0f}", f"{steps:.0f}", accuracy, *(best or [""] * len(BUDGETS))])
    return rows


@click.command()
@click.option("--quick", is_flag=True, help="One seed, a minute, fewer pictures; at most 10 minutes on 2 cores.")
@click.option("--experiment", type=click.Choice(["cifar10", "tiny"]), default="cifar10", show_default=True)
@click.option(
    "--recipe", "recipes", type=click.Choice([*RECIPES]), multiple=True, default=[*RECIPES], help="Only these."
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=3.0, show_default=True)
@click.option("--pictures", type=click.IntRange(min=1), default=250, show_default=True, help="Test pictures.")
@click.option("--work", type=click.Path(), default="build/distill", show_default=True, help="Keeps the oracle.")
@click.option("--report", type=click.Path(), help="Write the runs here as Markdown.")
@reports_errors
def main(
    quick: bool,
    experiment: str,
    recipes: tuple[str, ...],
    seeds: int,
    minutes: float,
    pictures: int,
    work: str,
    report: str | None,
) -> None:
    """Print the figures as the last line, one json object."""
    torch.set_num_threads(1)
    console = Console()
    if quick:
        seeds, minutes, pictures = 1, 0.5, 100
    seconds = 60 * minutes
    chosen = (
        cifar(Path(work), pictures, 6400 if quick else 20480, console) if experiment == "cifar10" else tiny(pictures)
    )
    cost = block_latencies(chosen.supernet)
    subnets = draw_subnets(chosen.supernet, cost, 50)
    oracle = accuracies(chosen.supernet, [chosen.supernet.graph.oracle], chosen.test)[0]
    console.say(f"oracle: {oracle:.1f}% of {len(chosen.test)} pictures")
    initialised = initialisation(chosen, subnets, cost, console.say)
    costs = {recipe: trial(chosen, recipe) for recipe in recipes}
    for recipe, (beside, phases) in costs.items():
        console.say(
            f"{recipe}: {beside:.1f} s beside its steps; a step takes {', '.join(f'{each:.2f}' for each in phases)} s"
        )
    rates = {recipe: choose_rate(chosen, recipe, seconds / 3, costs[recipe], cost, console) for recipe in recipes}
    runs: list[Run] = []
    for seed in range(seeds):
        for recipe, share in itertools.product(recipes, SHARES):
            supernet, took, steps = train_for(chosen, recipe, seconds * share, costs[recipe], rates[recipe], seed)
            accuracy = statistics.fmean(accuracies(supernet, draw_subnets(supernet, cost, 50), chosen.test))
            best = best_accuracies(chosen, supernet, cost) if share == 1 else ()
            runs.append(Run(recipe, share, seed, accuracy, took, steps, best))
            of_best = "".join(f", {value:.1f}% at {at:.0%}" for value, at in zip(best, BUDGETS))
            console.say(f"seed {seed}, {recipe}, {took:.0f} s of CPU, {steps} steps: {accuracy:.1f}%{of_best}")
    rows = _rows(runs)
    click.echo(table(rows, right=range(1, 4)))
    if report:
        Path(report).write_text(markdown(rows) + "\n")
    figures = figures_of(runs, seconds) | {"oracle_acc": oracle, "test_pictures": len(chosen.test)}
    figures |= initialised | {f"{recipe}_rate_scale": rate for recipe, rate in rates.items()}
    click.echo(json.dumps({"benchmark": "distill", "figures": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
