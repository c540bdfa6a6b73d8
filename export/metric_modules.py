"""The torch modules of the metrics that come with the exporter: output and target → sums that add up over images.

Each returns parts and then as many wholes, in float32 (see `toolkit.graph.score`), and says what its operands, its sums
and its scores are. Those for class scores, which lie along dimension 1 of the output, count pictures where the output
has shape (1, classes), and pixels where it has (1, classes, height, width).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from adaptivenet.toolkit.graph.score import SHARE, Score
from torch import nn

_LEAST_VARIANCE = 1e-30  # where the oracle's output is constant, only the same output is faithful
_LEAST_NORM, _LEAST_POWER = 1e-12, 1e-20  # of an embedding, and of a sound: below, it is nothing
_TOP = 5
MOST_SUMS = 4096  # in a pack
MOST_DB = 60.0  # what is nearer than this is the same: pictures of 8 bits that differ by rounding have 59 dB
_LEAST_DB = -20.0
_BOXES, _LEAST_SCORE, _LEAST_OVERLAP = 100, 0.25, 0.5  # of a detector, that are looked at
_LEAST_REACH, _MOST_REACH = 0.1, 1.5  # of the peak, that one picture's values may reach without a doubt


class MetricModule(nn.Module):
    """A metric: the kinds of its operands, the names of its sums, and what its scores are."""

    operands: tuple[str, ...]
    sums: tuple[str, ...]
    score: Score = SHARE
    spread: float = 1.0
    """The standard deviation of the outputs that it is verified on."""


@dataclass(frozen=True)
class MetricProgram:
    """A metric for outputs of one shape: as it was asked for, its name in the pack, what computes it, and what it is.

    `content` says what it computes, for telling whether a program of it that is there is still right. `peak` is how far
    the values of the outputs reach that it is meant for; None: it does not matter.
    """

    wanted: str
    name: str
    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    operands: tuple[str, ...]
    sums: tuple[str, ...]
    score: Score
    content: str
    peak: float | None = None

    def doubt(self, outputs: torch.Tensor) -> str | None:
        """What to say where the original's `outputs` reach much farther, or much less far, than its peak."""
        low, high = float(outputs.min()), float(outputs.max())
        if self.peak is None or _LEAST_REACH * self.peak <= high - low <= _MOST_REACH * self.peak:
            return None
        return (
            f"the original network's output reaches from {low:.3g} to {high:.3g} on the sample, and {self.name} is for "
            f"values that reach {self.peak:g} far: {self.name}=PEAK says another reach"
        )


class Top1(MetricModule):
    """Whether the highest score is the label's. `label` is int64, of the output's shape without its dimension 1.

    A label below 0 is not counted.
    """

    operands = ("output", "label")
    sums = ("correct", "count")

    def forward(self, output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The two sums."""
        return torch.stack((_sum(output.argmax(1) == label), _sum(label >= 0)))


class Top5(MetricModule):
    """Whether the label's score is among the five highest; of equal scores, the first class has the higher one.

    A label below 0 is not counted. What is no number is higher than all that are.
    """

    operands = ("output", "label")
    sums = ("correct", "count")

    def forward(self, output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The two sums."""
        own = label.clamp(min=0, max=output.shape[1] - 1).unsqueeze(1)
        score = output.gather(1, own)
        classes = torch.arange(output.shape[1]).reshape(1, -1, *[1] * (output.dim() - 2))
        before = ~(output < score) & ~((output == score) & (classes >= own))
        is_among = before.to(torch.float32).sum(1) < _TOP
        counted = label >= 0
        return torch.stack((_sum(is_among & counted & (label < output.shape[1])), _sum(counted)))


class Agreement(MetricModule):
    """Whether the highest score is where the oracle has its own: quality without labels."""

    operands = ("output", "oracle")
    sums = ("correct", "count")

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The two sums."""
        same = output.argmax(1) == oracle.argmax(1)
        return torch.stack((_sum(same), _sum(torch.ones_like(same))))


class MeanIoU(MetricModule):
    """Intersection and union of each class, in pixels: the ratio of their sums over pictures, in the mean over classes.

    What is counted is the diagonal, the rows and the columns of the confusion matrix. A pixel whose label is below 0,
    or no class, counts nowhere, whatever the output says of it.
    """

    operands = ("output", "label")

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.sums = (*(f"both{at}" for at in range(classes)), *(f"either{at}" for at in range(classes)))

    def forward(self, output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The intersections, and the unions: (2 · classes,)."""
        answer, target = output.argmax(1).reshape(-1), label.reshape(-1)
        counted = ((target >= 0) & (target < self.classes)).to(torch.float32)
        target = target.clamp(min=0, max=self.classes - 1)
        none = torch.zeros(self.classes)
        both = none.scatter_add(0, target, counted * (answer == target).to(torch.float32))
        areas = none.scatter_add(0, answer, counted) + none.scatter_add(0, target, counted)
        return torch.cat((both, areas - both))


class MeanIoUAgreement(MeanIoU):
    """The same against the classes that the oracle says, of every pixel: quality without labels."""

    operands = ("output", "oracle")

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The intersections, and the unions: (2 · classes,)."""
        return super().forward(output, oracle.argmax(1))


class Fidelity(MetricModule):
    """The share of the variance of the oracle's output that the output explains: quality without labels.

    That is R², the coefficient of determination, 1 - ‖output - oracle‖² / ‖oracle - mean(oracle)‖², taken over one
    image's output and held at 0 from below: 1 for the same output, 0 for one no better than a constant.
    """

    operands = ("output", "oracle")
    sums = ("fidelity", "count")

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The fidelity of this image, and 1."""
        error = (output - oracle).square().sum()
        variance = (oracle - oracle.mean()).square().sum()
        return _one((1 - error / variance.clamp(min=_LEAST_VARIANCE)).clamp(min=0))


class Cosine(MetricModule):
    """The cosine of the angle between the output and the oracle's, each as one vector: how alike embeddings are.

    It is held at 0 from below: what is at right angles has nothing in common.
    """

    operands = ("output", "oracle")
    sums = ("cosine", "count")
    score = Score("", 0.0, 1.0)

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The cosine of this image's outputs, 0 where one of them is all 0, and 1."""
        one, other = (_unit(each) for each in (output, oracle))
        return _one((one * other).sum().clamp(min=0.0, max=1.0))


class L1(MetricModule):
    """The mean absolute difference from the oracle's output, at most a quarter of `peak`, the range of its values."""

    operands = ("output", "oracle")
    sums = ("l1", "count")

    def __init__(self, peak: float = 1.0) -> None:
        super().__init__()
        self.most = peak / 4
        self.score = Score("", self.most, 0.0)
        self.spread = peak / 4

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The difference of this image's outputs, and 1."""
        return _one((output - oracle).abs().mean().clamp(max=self.most))


class Psnr(MetricModule):
    """The peak signal-to-noise ratio against the oracle's output, 10·log₁₀(peak² / mean square error), in decibels.

    `peak` is the range of the output's values, 1 for images from 0 to 1. It is held between 0 and 60 dB.
    """

    operands = ("output", "oracle")
    sums = ("psnr", "count")
    score = Score("dB", 0.0, MOST_DB)

    def __init__(self, peak: float = 1.0) -> None:
        super().__init__()
        self.peak = peak
        self.spread = peak / 4

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The ratio of this image, and 1."""
        error = ((output - oracle) / self.peak).square().mean()
        return _one((-_decibels(error.clamp(min=_LEAST_POWER))).clamp(min=0.0, max=MOST_DB))


class SiSnr(MetricModule):
    """The scale-invariant signal-to-noise ratio against the oracle's sound, in decibels: Le Roux and others, SDR –
    half-baked or well done?, 2019, of sounds without their mean. It is held between -20 and 60 dB.

    Samples lie along the last dimension; the ratios of all others (channels, sources) count alike.
    """

    operands = ("output", "oracle")
    sums = ("sisnr", "count")
    score = Score("dB", _LEAST_DB, MOST_DB)

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The ratio of this image's sounds, and 1."""
        sound, wanted = (each - each.mean(-1, keepdim=True) for each in (output, oracle))
        power = wanted.square().sum(-1, keepdim=True)
        target = (sound * wanted).sum(-1, keepdim=True) / power.clamp(min=_LEAST_POWER) * wanted
        kept, noise = (each.square().sum(-1) for each in (target, sound - target))
        ratio = _decibels(kept.clamp(min=_LEAST_POWER) / noise.clamp(min=_LEAST_POWER))
        # Of silence there is no ratio: it is as good as can be where silence is wanted, and as bad anywhere else.
        silent, wanted_silent = (each <= _LEAST_POWER for each in (sound.square().sum(-1), power.squeeze(-1)))
        of_silence = torch.where(wanted_silent, torch.full_like(ratio, MOST_DB), torch.full_like(ratio, _LEAST_DB))
        return _one(torch.where(silent, of_silence, ratio).clamp(min=_LEAST_DB, max=MOST_DB).mean())


class Boxes(MetricModule):
    """How many of the boxes that the output and the oracle's hold are in both: a detector without labels.

    Outputs are (1, 4 + classes, boxes): centre, width and height of each box, and its score for each class, from 0 to
    1. Of each, the 100 boxes with the highest scores are looked at, and of these those with a score of 0.25 or more.
    A box is in both where the other has one of the same class whose intersection over union with it is 0.5 or more.
    """

    operands = ("output", "oracle")
    sums = ("matched", "count")

    def forward(self, output: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
        """The boxes of either that are in both, and the boxes of either."""
        (one, of_one, counts_one), (two, of_two, counts_two) = (_best_boxes(each) for each in (output, oracle))
        same = (of_one.unsqueeze(1) == of_two.unsqueeze(0)).to(torch.float32) * counts_one.unsqueeze(1) * counts_two
        matched = same * (_overlaps(one, two) >= _LEAST_OVERLAP).to(torch.float32)
        return torch.stack((matched.amax(0).sum() + matched.amax(1).sum(), counts_one.sum() + counts_two.sum()))


def _best_boxes(output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The corners (4, boxes) of those with the highest scores, their classes, and 1 where the score is high enough."""
    places, scores = output[0, :4], output[0, 4:]
    highest, at = scores.amax(0).topk(min(_BOXES, output.shape[2]))
    middle, half = places[:2].index_select(1, at), places[2:].index_select(1, at) / 2
    classes = scores.argmax(0).index_select(0, at)
    return torch.cat((middle - half, middle + half)), classes, (highest >= _LEAST_SCORE).to(torch.float32)


def _overlaps(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each with each: (boxes, boxes)."""
    low = torch.maximum(one[:2].unsqueeze(2), two[:2].unsqueeze(1))
    high = torch.minimum(one[2:].unsqueeze(2), two[2:].unsqueeze(1))
    sides = (high - low).clamp(min=0.0)
    both = sides[0] * sides[1]
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (one, two)]
    return both / (areas[0].unsqueeze(1) + areas[1].unsqueeze(0) - both).clamp(min=_LEAST_NORM)


def noise(shape: tuple[int, ...], spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two outputs, to try a metric with."""
    generator = torch.Generator().manual_seed(0)
    output, other = (spread * torch.randn(shape, generator=generator) for _ in range(2))
    return output, other


def _sum(counted: torch.Tensor) -> torch.Tensor:
    return counted.to(torch.float32).reshape(-1).sum()


def _one(score: torch.Tensor) -> torch.Tensor:
    """What one image scored, and that it was one."""
    return torch.stack((score, torch.ones_like(score)))


def _unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.square().sum().sqrt().clamp(min=_LEAST_NORM)


def _decibels(ratio: torch.Tensor) -> torch.Tensor:
    return ratio.log() * (10 / math.log(10))
