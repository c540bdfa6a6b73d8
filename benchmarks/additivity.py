"""How well the latency of a subnet is predicted from its blocks: 60 random subnets, predicted against measured.

    python -m benchmarks.additivity [--quick] [--pack FOLDER] [--device local] [--report FILE]

On every engine, for EfficientNet-Lite0 and ResNet-50 with merged and pruned blocks (random weights: they do not matter
for latency; `--pack` gives another pack instead, `--device` another device): every block alone, 12 subnets to learn
from and 60 others are timed in the same rounds, with the oracle as the anchor. Rounds go on until the 95% interval of
every median is within 1%, or 100 were taken. Rounds in which the device was slower or faster than usual are corrected
by the anchor. The 60 subnets are drawn uniformly over the multiply-accumulates, as are the 12; none is in both.

A prediction is made from the blocks and the 12 subnets only. `ENGINE_median_error_pct` and `ENGINE_p95_error_pct` are
over the errors |predicted - measured| / measured of the 60 subnets, of the worse model; `ENGINE_sum_median_error_pct`
is that of the plain sum of the blocks' medians, `ENGINE_scaled_median_error_pct` that of the sum times one factor, the
oracle's. `ENGINE_covered_pct` is the share of the 60 that lie within the error that their prediction states (95% if it
is honest), `ENGINE_uncertainty_pct` the widest interval of a measured median, `ENGINE_slow_rounds_pct` the share of
rounds that were corrected. `--quick` takes EfficientNet-Lite0 alone, and at most 20 rounds.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit.cli.console import Console, reports_errors, table
from adaptivenet.toolkit.devices import connect
from adaptivenet.toolkit.elastic import elastify, merge, prune
from adaptivenet.toolkit.graph import BlockGraph, Subnet
from adaptivenet.toolkit.measuring import Precision, Samples, take_samples
from adaptivenet.toolkit.pack import BlockPack
from adaptivenet.toolkit.prediction import Predictor
from adaptivenet.toolkit.report import markdown

from .machine import describe_machine
from .models import allow_torchvision, efficientnet_lite0
from .subnets import draw_by_macs

LEARNED_FROM = 12
PREDICTED = 60
ENGINES = ("executorch", "onnxruntime")


@dataclass(frozen=True)
class Errors:
    """What came out for one pack on one engine: relative errors of the predictions, and of two simpler ones."""

    predicted: np.ndarray
    summed: np.ndarray
    scaled: np.ndarray
    covered: float
    samples: Samples


def different_subnets(graph: BlockGraph, count: int) -> list[Subnet]:
    """`count` random subnets, or as many as there are, without the oracle and each once."""
    drawn = dict.fromkeys(draw_by_macs(graph, 50 * count, 0))
    return [subnet for subnet in drawn if subnet != graph.oracle][:count]


def measure(pack: BlockPack, device: str, precision: Precision, console: Console) -> Errors:
    """Times a pack's blocks and subnets on a device, and predicts the latter from the former."""
    graph = pack.graph
    subnets = different_subnets(graph, LEARNED_FROM + PREDICTED)
    blocks = [(block.name,) for block in graph.blocks]
    with connect(device).open(pack) as session:
        samples = take_samples(
            session,
            [*blocks, *subnets],
            graph.oracle,
            precision,
            lambda done, total: console.progress(f"{pack.name} on {device}", done, total),
        )
    medians = [latency.median_ms for latency in samples.latencies()]
    alone = {block.name: ms for block, ms in zip(graph.blocks, medians)}
    whole = dict(zip(subnets, medians[len(blocks) :], strict=True))
    oracle = samples.anchor().median_ms
    learned = dict(list(whole.items())[:LEARNED_FROM]) | {graph.oracle: oracle}
    rest = {subnet: ms for subnet, ms in whole.items() if subnet not in learned}
    predictor = Predictor(alone, learned)
    measured = np.array(list(rest.values()))
    predicted, error = np.array([predictor.predict(subnet) for subnet in rest]).T
    summed = np.array([sum(alone[name] for name in subnet) for subnet in rest])
    scaled = summed * oracle / sum(alone[name] for name in graph.oracle)
    return Errors(
        *(np.abs(values - measured) / measured for values in (predicted, summed, scaled)),
        covered=float((np.abs(predicted - measured) <= error).mean()),
        samples=samples,
    )


@contextmanager
def packs(quick: bool, console: Console) -> Iterator[list[BlockPack]]:
    """The packs to measure, made in a folder of their own."""
    models = {"efficientnet-lite0": efficientnet_lite0}
    if not quick:
        models["resnet50"] = _resnet50
    with tempfile.TemporaryDirectory() as folder:
        yield [
            export_pack(
                elastify(build(), torch.zeros(1, 3, 224, 224), kinds=[merge(2), merge(3), prune(0.5)]),
                Path(folder) / name,
                name=name,
                progress=lambda at, total, what: console.progress("export", at, total, what),
            )
            for name, build in models.items()
        ]


def _resnet50() -> torch.nn.Module:
    allow_torchvision()
    from torchvision.models import resnet50

    return resnet50(weights=None).eval()


def _row(pack: str, engine: str, errors: Errors) -> list[str]:
    shares = [np.median(errors.predicted), np.percentile(errors.predicted, 95), np.median(errors.summed)]
    shares += [np.median(errors.scaled), errors.covered, errors.samples.uncertainty()]
    return [pack, engine, *(f"{100 * share:.1f}%" for share in shares), str(errors.samples.rounds)]


HEAD = ["pack", "engine", "median error", "95th percentile", "plain sum", "scaled sum", "covered", "interval", "rounds"]


@click.command()
@click.option("--quick", is_flag=True, help="One model, fewer rounds; at most 10 minutes on 2 cores.")
@click.option("--pack", "given", type=click.Path(path_type=Path), help="A pack to measure in the place of both models.")
@click.option("--device", default="local", show_default=True, help="Where to measure; the engine is appended.")
@click.option("--report", type=click.Path(), help="Write the table here as Markdown.")
@reports_errors
def main(quick: bool, given: Path | None, device: str, report: str | None) -> None:
    """Print the figures as the last line, one json object."""
    console = Console()
    precision = Precision(most=20 if quick else 100)
    found: dict[str, list[Errors]] = {}
    rows = [HEAD]
    with packs(quick, console) if given is None else _opened(given) as measured:
        for pack in measured:
            for engine in ENGINES:
                errors = measure(pack, f"{device}:{engine}", precision, console)
                found.setdefault(engine, []).append(errors)
                rows.append(_row(pack.name, engine, errors))
    click.echo(table(rows, right=range(2, len(HEAD))))
    if report:
        Path(report).write_text(markdown(rows) + "\n")
    figures: dict[str, Any] = {}
    for engine, of_packs in found.items():
        figures |= {
            f"{engine}_median_error_pct": _worst(np.median(errors.predicted) for errors in of_packs),
            f"{engine}_p95_error_pct": _worst(np.percentile(errors.predicted, 95) for errors in of_packs),
            f"{engine}_sum_median_error_pct": _worst(np.median(errors.summed) for errors in of_packs),
            f"{engine}_scaled_median_error_pct": _worst(np.median(errors.scaled) for errors in of_packs),
            f"{engine}_covered_pct": 100 * min(errors.covered for errors in of_packs),
            f"{engine}_uncertainty_pct": _worst(errors.samples.uncertainty() for errors in of_packs),
            f"{engine}_slow_rounds_pct": _worst(_share_of_slow_rounds(errors.samples) for errors in of_packs),
            f"{engine}_rounds": min(errors.samples.rounds for errors in of_packs),
        }
    figures |= {"subnets": PREDICTED, "learned_from": LEARNED_FROM}
    click.echo(json.dumps({"benchmark": "additivity", "figures": figures, "machine": describe_machine()}))


@contextmanager
def _opened(path: Path) -> Iterator[list[BlockPack]]:
    yield [BlockPack.open(path)]


def _share_of_slow_rounds(samples: Samples) -> float:
    return samples.slow_rounds() / samples.rounds


def _worst(shares: Sequence[float] | Iterator[Any]) -> float:
    return 100 * float(max(shares))


if __name__ == "__main__":
    main()
