"""The metrics that a pack carries: those that come with the exporter, and functions of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from math import isfinite, prod

import torch
from adaptivenet.toolkit.data.inputs import noise_rows
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import ExportError

from .metric_modules import (
    L1,
    MOST_SUMS,
    Agreement,
    Boxes,
    Cosine,
    Fidelity,
    MeanIoU,
    MeanIoUAgreement,
    MetricModule,
    MetricProgram,
    Psnr,
    SiSnr,
    Top1,
    Top5,
    noise,
)
from .metric_names import METRICS, WITH_PEAK, is_own
from .own_metrics import own_metric

MODULES: dict[str, type[MetricModule]] = {
    "top1": Top1,
    "top5": Top5,
    "agreement": Agreement,
    "miou": MeanIoU,
    "miou-agreement": MeanIoUAgreement,
    "boxes": Boxes,
    "fidelity": Fidelity,
    "cosine": Cosine,
    "l1": L1,
    "psnr": Psnr,
    "si-snr": SiSnr,
}


def usual_metrics(supernet: Supernet, named: bool) -> tuple[str, ...]:
    """What a network is scored by where nobody says it; `named`: its classes have names.

    Without them, rows of length 1 with negative numbers among them are embeddings (`cosine`), and an output of as many
    channels as the input's may be a picture as well as class scores (`top1` where there are labels, else `fidelity`).
    A sequence may have its steps first or its classes: unless these are probabilities, it is compared by `fidelity`,
    which needs no classes. For the rest see `choose_metrics`.
    """
    first, shape = supernet.graph.cuts[0].shape, supernet.graph.cuts[-1].shape
    if len(supernet.outputs) > 1:
        return ("fidelity",)  # several tensors in a row are no class scores
    if not named and shape[1:2] == first[1:2] and len(shape) == len(first) > 2 and _has_scores(shape):
        return "top1", "fidelity"
    if not named and len(shape) == 2 and _has_scores(shape) and _gives_embeddings(supernet):
        return ("cosine",)
    if not named and len(shape) == 3 and _has_scores(shape) and not _gives_probabilities(supernet):
        return ("fidelity",)
    return choose_metrics(None, shape)


def doubt_of_usual(chosen: Sequence[str], supernet: Supernet, named: bool) -> str | None:
    """What is to be said of metrics that were chosen by `usual_metrics`, where the output may be something else."""
    shape = supernet.graph.cuts[-1].shape
    if not chosen:
        return (
            "the output is one number, for which no metric is usual, and without one the pack cannot be "
            "profiled: --metric l1=PEAK compares it with the original's, where PEAK is how far its values reach"
        )
    if named or not _has_scores(shape) or len(supernet.outputs) > 1:
        return None
    if len(shape) == 3 and chosen == ("fidelity",):
        return (
            f"the output, {shape[1]} x {shape[2]} numbers, may have classes in either dimension, or none, and is "
            "compared by fidelity: --metric agreement takes the first of the two for the classes"
        )
    if len(shape) == 2 and "agreement" in chosen:
        return (
            f"the {shape[1]} numbers of the output are taken for class scores, and subnets are compared by which is "
            "the highest: where they are none, --metric fidelity compares the numbers, cosine embeddings"
        )
    return None


def _gives_embeddings(supernet: Supernet) -> bool:
    rows = _answer_to_noise(supernet)
    return bool((rows < 0).any()) and torch.allclose(rows.norm(dim=1), torch.ones(len(rows)), atol=1e-3)


def _gives_probabilities(supernet: Supernet) -> bool:
    """Whether the network gives probabilities, or their logarithms, of classes along dimension 1."""
    scores = _answer_to_noise(supernet)
    sums = scores.sum(1), scores.exp().sum(1)
    return any(torch.allclose(each, torch.ones_like(each), atol=1e-3) for each in sums)


def _answer_to_noise(supernet: Supernet) -> torch.Tensor:
    if supernet.inputs:
        inputs = torch.from_numpy(noise_rows(supernet.inputs, 2))
    else:
        inputs = torch.cat([noise(supernet.graph.cuts[0].shape)[0] for _ in range(2)])
    with torch.no_grad():
        answer: torch.Tensor = supernet(inputs)
    return answer


def choose_metrics(wanted: Sequence[str] | None, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The metrics for outputs of `shape`: those `wanted`, or when None those that the shape allows to expect.

    An output with several numbers along dimension 1 is taken for class scores (`top1`, `agreement`), any other one of
    several numbers is not (`fidelity`), and for a single number there is none. Raises ExportError for a metric that
    does not exist or cannot be computed for the shape, and for two of one name.
    """
    if wanted is None:
        return ("top1", "agreement") if _has_scores(shape) else ("fidelity",) if prod(shape) > 1 else ()
    chosen = tuple(dict.fromkeys(wanted))
    names: dict[str, str] = {}
    for each in chosen:
        name = metric_program(each, shape).name
        if name in names:
            raise ExportError(f"metrics {names[name]!r} and {each!r} would both be called {name!r}: choose one")
        names[name] = each
    return chosen


def metric_program(wanted: str, shape: tuple[int, ...]) -> MetricProgram:
    """The metric of that name for outputs of `shape`. Raises ExportError as `choose_metrics` does."""
    if is_own(wanted):
        return own_metric(wanted, shape)
    name, equals, peak = wanted.partition("=")
    if name not in MODULES:
        raise ExportError(
            f"unknown metric {name!r}: choose from {', '.join(METRICS)}, or name a function of your own as "
            "package.module:function"
        )
    if (equals and name not in WITH_PEAK) or not _is_peak(peak if equals else "1"):
        takers = " and ".join(WITH_PEAK)
        raise ExportError(f"metric {wanted!r}: {takers} take a peak above 0, such as {WITH_PEAK[0]}=255")
    if need := _lacks(name, shape):
        raise ExportError(f"metric {name!r} needs outputs with {need}: these have shape {shape}")
    if name in ("miou", "miou-agreement"):
        module: MetricModule = MODULES[name](shape[1])
    else:
        module = MODULES[name](float(peak)) if equals else MODULES[name]()
    reach = (float(peak) if equals else 1.0) if name in WITH_PEAK else None
    content = f"{inspect.getsource(MODULES[name])}{f' {peak}' if equals else ''} {shape}"
    inputs = example_inputs(name, shape, module.spread)
    return MetricProgram(
        wanted, name, module.eval(), inputs, module.operands, module.sums, module.score, content, reach
    )


def example_inputs(name: str, shape: tuple[int, ...], spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs to export and verify a metric with, for outputs of `shape` with a standard deviation of `spread`."""
    output, other = noise(shape, spread)
    if name == "boxes":
        return _some_boxes(output), _some_boxes(output + 0.1 * other)
    if "label" in MODULES[name].operands:
        return output, _some_labels(output, other)
    # Of unrelated outputs most of them are 0, or as low as can be, whatever the program does.
    return output, other if name == "agreement" else output + 0.5 * other


def _some_labels(output: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Labels of which some are what the output says; of maps, some do not count."""
    if output.dim() == 2:
        return output.argmax(1)
    labels = (output + 0.5 * other).argmax(1)
    return torch.where(other.mean(1) > 0.5 * other.mean(1).std(), torch.full_like(labels, -100), labels)


def _some_boxes(noise: torch.Tensor) -> torch.Tensor:
    """Boxes that lie in one another's way, a few of them with high scores."""
    places, sizes, scores = noise[:, :2], noise[:, 2:4], noise[:, 4:]
    return torch.cat((4 * places, 4 + sizes.abs(), (2 * scores - 2).sigmoid()), 1)


def _has_scores(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 2 and shape[1] > 1


def _lacks(name: str, shape: tuple[int, ...]) -> str | None:
    """What outputs of this shape would need for the metric."""
    if name in ("top1", "agreement") and not _has_scores(shape):
        return "class scores along dimension 1"
    if name == "top5" and not (_has_scores(shape) and shape[1] > 5):
        return "the scores of more than 5 classes along dimension 1"
    if name in ("miou", "miou-agreement"):
        if not (len(shape) >= 3 and _has_scores(shape)):
            return "maps of class scores (1, classes, height, width)"
        return None if 2 * shape[1] <= MOST_SUMS else f"at most {MOST_SUMS // 2} classes"
    if name == "boxes" and not (len(shape) == 3 and shape[1] > 4):
        return "boxes and their scores (1, 4 + classes, boxes)"
    return None if prod(shape) > 1 or name == "l1" else "several numbers"


def _is_peak(text: str) -> bool:
    try:
        return isfinite(float(text)) and 1e-6 <= float(text) <= 1e9
    except ValueError:
        return False
