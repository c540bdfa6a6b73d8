"""How well the latency of a subnet is predicted from its blocks: 60 random subnets, predicted against measured.

    python -m benchmarks.additivity [--quick] [--small] [--int8] [--engine E] [--pack FOLDER] [--device local]

On every engine, for EfficientNet-Lite0 and ResNet-50 with merged and pruned blocks, or with `--small` for networks of
very small blocks, ResNet-20 for CIFAR and MobileNetV3-Small at 32 pixels, with merged, pruned and skipped blocks
(random weights: they do not matter for latency; `--pack` gives another pack instead, `--device` another device), in the
same rounds: every block alone, the subnets that a profile learns from (12, or more where so many do not hold every
block), on ExecuTorch with time-stamps at their cuts, and 60 others, with the oracle as the anchor. Rounds go on until
the 95% interval of every median is within 1%, or 100 were taken. Rounds in which the device was slower or faster than
usual are corrected by the anchor. The 60 subnets are drawn uniformly over the multiply-accumulates; none is among those
that are learned from.

A prediction is made from the blocks and the subnets to learn from only, as a profile makes it, but for the likely ones.

What a profile goes by is not drawn uniformly: it is what a search chose. So a profile's whole way to a prediction is
gone as well, likely subnets included, and up to 16 subnets are timed after it that are the best for their latency by
qualities that are made up, by another rule than the toolkit's own (a loss within a factor of ten for each block, in
proportion to a power of how many it replaces, and less for int8). `ENGINE_front_median_error_pct`,
`ENGINE_front_p95_error_pct`, `ENGINE_front_bias_pct` and `ENGINE_front_covered_pct` are theirs. `--int8` adds int8
blocks to the packs (calibrated with noise), among which such subnets mostly are.

`ENGINE_median_error_pct` and `ENGINE_p95_error_pct` are over the errors |predicted - measured| / measured of the 60
subnets, of the worse model; `ENGINE_bias_pct` is the median of their signed errors, of the model where it is farthest
from 0: above 0, predictions are too long on the whole. The same with `_without_in_situ` learns only from what the
subnets took whole; with `_uncorrected`, neither what is learned from nor what is measured is corrected by the anchor.
`ENGINE_sum_median_error_pct` is that of the plain sum of the blocks' medians, `ENGINE_scaled_median_error_pct` that of
the sum times one factor, the oracle's. `ENGINE_covered_pct` is the share of the 60 that lie within the error that their
prediction states (95% if it is honest), `ENGINE_stated_error_pct` the median of the errors that are stated,
`ENGINE_uncertainty_pct` the widest interval of a measured median, `ENGINE_slow_rounds_pct` the share of rounds that
were corrected. `--quick` takes at most 20 rounds, and of the two large models EfficientNet-Lite0 alone.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import elastify, merge, prune, skip
from adaptivenet.toolkit.graph.best_paths import best_paths
from adaptivenet.toolkit.graph.graph import BlockGraph, Subnet
from adaptivenet.toolkit.graph.ticks import fastest_and_slowest
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.block_timing import learn, subnets_to_time, time_blocks
from adaptivenet.toolkit.profiling.borders import neighbours
from adaptivenet.toolkit.profiling.measuring import Precision, Samples, take_samples
from adaptivenet.toolkit.profiling.prediction import Predictor
from adaptivenet.toolkit.report.text import markdown

from .machine import describe_machine
from .models import allow_torchvision, efficientnet_lite0, resnet20
from .subnets import draw_by_macs

PREDICTED = 60
FRONTS, LATENCIES = 4, 4  # made-up qualities, and latencies for each, of subnets like those of a front
ENGINES = {"executorch": "executorch", "onnxruntime": "onnx"}  # and the backend that each runs
VARIANTS = ("", "_without_in_situ", "_uncorrected")


@dataclass(frozen=True)
class Errors:
    """What came out for one pack on one engine: relative errors of the predictions, and of two simpler ones.

    An error is above 0 where the prediction is longer than what was measured.
    """

    predicted: Mapping[str, np.ndarray]  # by variant
    summed: np.ndarray
    scaled: np.ndarray
    covered: float
    stated: float
    learned_from: int
    slow_rounds: float
    uncertainty: float
    rounds: int
    front: np.ndarray
    front_covered: float


def measure(pack: BlockPack, device: str, precision: Precision, console: Console) -> Errors:
    """Times a pack's blocks and subnets on a device, and predicts the latter from the former."""
    graph = pack.graph
    learned = subnets_to_time(graph, 0)
    others = dict.fromkeys(draw_by_macs(graph, 50 * PREDICTED, 0))
    rest = [subnet for subnet in others if subnet not in learned and subnet != graph.oracle][:PREDICTED]
    blocks = [(block.name,) for block in graph.blocks]
    with connect(device).open(pack) as session:
        samples = take_samples(
            session,
            [*blocks, *learned, *rest, *neighbours(session)],
            graph.oracle,
            precision,
            lambda done, total: console.progress(f"{pack.name} on {device}", done, total),
        )
        front, front_covered = of_a_front(session, precision, console)
    known = [*learned, graph.oracle]
    corrected = samples.corrected()
    predicted, stated = predictions(learn(corrected, known), rest)
    measured = medians(corrected, rest)
    without, _ = predictions(learn(corrected, known, in_situ=False), rest)
    uncorrected, _ = predictions(learn(samples, known), rest)
    alone = {name: ms for (name,), ms in zip(blocks, medians(corrected, blocks))}
    summed = np.array([sum(alone[name] for name in subnet) for subnet in rest])
    scaled = summed * corrected.anchor.latency().median_ms / sum(alone[name] for name in graph.oracle)
    of_variants = (
        relative(predicted, measured),
        relative(without, measured),
        relative(uncorrected, medians(samples, rest)),
    )
    return Errors(
        dict(zip(VARIANTS, of_variants, strict=True)),
        relative(summed, measured),
        relative(scaled, measured),
        covered=float((np.abs(predicted - measured) <= stated).mean()),
        stated=float(np.median(stated / predicted)),
        learned_from=len(learned),
        slow_rounds=samples.slow_rounds() / samples.rounds,
        uncertainty=corrected.uncertainty(),
        rounds=samples.rounds,
        front=front,
        front_covered=front_covered,
    )


def of_a_front(session: Session, precision: Precision, console: Console) -> tuple[np.ndarray, float]:
    """The errors of a profile's predictions of subnets like those of a front, and how many lie within what they state.

    Which these are goes by the predictions, as in a search.
    """
    graph = session.pack.graph
    timing = time_blocks(session, precision, 0, console.progress)
    learned = {each.chain for each in (*timing.samples.timed, *timing.likely.timed)}
    chosen = [each for seed in range(FRONTS) for each in like_a_front(graph, timing.predictor.ms, seed)]
    rest = [each for each in dict.fromkeys(chosen) if tuple(each) not in learned and each != graph.oracle]
    samples = take_samples(session, rest, graph.oracle, precision).corrected(timing.samples.usual_ms())
    predicted, stated = predictions(timing.predictor, rest)
    measured = medians(samples, rest)
    return relative(predicted, measured), float((np.abs(predicted - measured) <= stated).mean())


def like_a_front(graph: BlockGraph, cost: Mapping[str, float], seed: int) -> list[Subnet]:
    """The best subnets for some latencies by one set of made-up qualities."""
    rng = random.Random(seed)
    blocks = graph.of_blocks
    lost = {
        block.name: 0.0 if block.kind == "original" else rng.uniform(0.1, 1) * (block.end - block.start) ** 1.3
        for block in blocks.blocks
    }
    by_int8 = rng.choice([0.002, 0.01, 0.05, 0.2])
    for block in blocks.blocks:
        if known := blocks.in_float32(block):
            lost[block.name] = lost[known.name] + by_int8 * rng.uniform(0.2, 1)
    cost = {block.name: cost[block.name] for block in blocks.blocks}
    low, high = (sum(cost[name] for name in each) for each in (fastest_and_slowest(blocks, cost)[0], graph.oracle))
    budgets = [low + (high - low) * share for share in np.linspace(0.1, 0.85, LATENCIES)]
    found = best_paths(blocks, cost, {name: -each for name, each in lost.items()}, budgets)
    return [graph.subnet(subnet) for each in found for subnet in each]


def predictions(predictor: Predictor, subnets: Sequence[Subnet]) -> tuple[np.ndarray, np.ndarray]:
    """The latency of each subnet, and the error that its prediction states, in ms."""
    predicted, stated = np.array([predictor.predict(subnet) for subnet in subnets]).T
    return predicted, stated


def medians(samples: Samples, chains: Sequence[Sequence[str]]) -> np.ndarray:
    """What each of the chains took, in ms."""
    by_chain = {each.chain: each.latency().median_ms for each in samples.timed}
    return np.array([by_chain[tuple(chain)] for chain in chains])


def relative(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """The error of each prediction, as a share of what was measured."""
    return (predicted - measured) / measured


@contextmanager
def packs(quick: bool, small: bool, int8: bool, backends: Sequence[str], console: Console) -> Iterator[list[BlockPack]]:
    """The packs to measure, made in a folder of their own."""
    models = {"efficientnet-lite0": efficientnet_lite0, "resnet50": _resnet50}
    if small:
        models = {"resnet20-cifar": resnet20, "mobilenetv3-small-32": _mobilenet}
    elif quick:
        del models["resnet50"]
    pixels = 32 if small else 224
    kinds = [merge(2), merge(3), prune(0.5), *([skip()] if small else [])]
    with tempfile.TemporaryDirectory() as folder:
        yield [
            export_pack(
                elastify(build(), torch.zeros(1, 3, pixels, pixels), kinds=kinds),
                Path(folder) / name,
                backends,
                name=name,
                calibrate=torch.randn(8, 3, pixels, pixels) if int8 else None,
                progress=lambda at, total, what: console.progress("export", at, total, what),
            )
            for name, build in models.items()
        ]


def _resnet50() -> torch.nn.Module:
    allow_torchvision()
    from torchvision.models import resnet50

    return resnet50(weights=None).eval()


def _mobilenet() -> torch.nn.Module:
    allow_torchvision()
    from torchvision.models import mobilenet_v3_small

    return mobilenet_v3_small(weights=None).eval()


def typical(errors: np.ndarray) -> float:
    """The median of the errors, whichever side they are on."""
    return float(np.median(np.abs(errors)))


def large(errors: np.ndarray) -> float:
    """What 95% of the errors are no larger than, whichever side they are on."""
    return float(np.percentile(np.abs(errors), 95))


def bias(errors: np.ndarray) -> float:
    """Whether the predictions are too long (above 0) or too short on the whole: the median of the signed errors."""
    return float(np.median(errors))


def _row(pack: str, engine: str, errors: Errors) -> list[str]:
    shares = [share for of in errors.predicted.values() for share in (typical(of), large(of))]
    shares += [typical(errors.summed), typical(errors.scaled), errors.covered, errors.stated, errors.uncertainty]
    shares += [typical(errors.front), large(errors.front), errors.front_covered]
    biased = f"{100 * bias(errors.predicted['']):+.1f}%"
    return [pack, engine, biased, *(f"{100 * share:.1f}%" for share in shares), str(errors.rounds)]


HEAD = ["pack", "engine", "bias", "median error", "95th percentile", "without in situ", "95th", "uncorrected", "95th"]
HEAD += ["plain sum", "scaled sum", "covered", "stated", "interval", "front", "95th", "covered", "rounds"]


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds, one large model; at most 10 minutes on 2 cores.")
@click.option("--small", is_flag=True, help="Two networks of very small blocks in the place of both models.")
@click.option("--int8", is_flag=True, help="With int8 blocks.")
@click.option(
    "--engine", "engines", multiple=True, type=click.Choice([*ENGINES]), help="May be repeated. [default: both]"
)
@click.option("--pack", "given", type=click.Path(path_type=Path), help="A pack to measure in the place of both models.")
@click.option("--device", default="local", show_default=True, help="Where to measure; the engine is appended.")
@click.option("--report", type=click.Path(), help="Write the table here as Markdown.")
@reports_errors
def main(
    quick: bool,
    small: bool,
    int8: bool,
    engines: tuple[str, ...],
    given: Path | None,
    device: str,
    report: str | None,
) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    precision = Precision(most=20 if quick else 100)
    wanted = engines or tuple(ENGINES)
    found: dict[str, list[Errors]] = {}
    rows = [HEAD]
    with (
        packs(quick, small, int8, [ENGINES[engine] for engine in wanted], console)
        if given is None
        else _opened(given) as measured
    ):
        for pack in measured:
            for engine in wanted:
                errors = measure(pack, f"{device}:{engine}", precision, console)
                found.setdefault(engine, []).append(errors)
                rows.append(_row(pack.name, engine, errors))
    click.echo(table(rows, right=range(2, len(HEAD))))
    if report:
        Path(report).write_text(markdown(rows) + "\n")
    figures: dict[str, Any] = {}
    for engine, of_packs in found.items():
        for variant in VARIANTS:
            of_variant = [errors.predicted[variant] for errors in of_packs]
            figures[f"{engine}_median_error_pct{variant}"] = _worst(map(typical, of_variant))
            figures[f"{engine}_p95_error_pct{variant}"] = _worst(map(large, of_variant))
        figures |= {
            f"{engine}_bias_pct": 100 * max((bias(errors.predicted[""]) for errors in of_packs), key=abs),
            f"{engine}_front_median_error_pct": _worst(typical(errors.front) for errors in of_packs),
            f"{engine}_front_p95_error_pct": _worst(large(errors.front) for errors in of_packs),
            f"{engine}_front_bias_pct": 100 * max((bias(errors.front) for errors in of_packs), key=abs),
            f"{engine}_front_covered_pct": 100 * min(errors.front_covered for errors in of_packs),
            f"{engine}_sum_median_error_pct": _worst(typical(errors.summed) for errors in of_packs),
            f"{engine}_scaled_median_error_pct": _worst(typical(errors.scaled) for errors in of_packs),
            f"{engine}_covered_pct": 100 * min(errors.covered for errors in of_packs),
            f"{engine}_stated_error_pct": _worst(errors.stated for errors in of_packs),
            f"{engine}_uncertainty_pct": _worst(errors.uncertainty for errors in of_packs),
            f"{engine}_slow_rounds_pct": _worst(errors.slow_rounds for errors in of_packs),
            f"{engine}_rounds": min(errors.rounds for errors in of_packs),
        }
    learned_from = max(errors.learned_from for of_packs in found.values() for errors in of_packs)
    figures |= {"subnets": PREDICTED, "learned_from": learned_from}
    click.echo(json.dumps({"benchmark": "additivity", "figures": figures, "machine": describe_machine()}))


@contextmanager
def _opened(path: Path) -> Iterator[list[BlockPack]]:
    yield [BlockPack.open(path)]


def _worst(shares: Iterable[Any]) -> float:
    return 100 * float(max(shares))


if __name__ == "__main__":
    main()
