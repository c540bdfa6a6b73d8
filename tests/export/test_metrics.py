"""Metrics: which ones an output has, what fidelity is, and intervals from images, whatever was counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.export.exporting import check_export
from adaptivenet.export.metric_modules import Fidelity, Top1
from adaptivenet.export.metrics import choose_metrics, doubt_of_usual, example_inputs, usual_metrics
from adaptivenet.export.programs import export_program
from adaptivenet.toolkit.elastic import elastify, prune
from adaptivenet.toolkit.errors import ExportError
from adaptivenet.toolkit.graph.quality import Quality
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("wanted", "shape", "chosen"),
    [
        (None, (1, 5), ("top1", "agreement")),
        (None, (1, 5, 8, 8), ("top1", "agreement")),
        (None, (1, 1, 8, 8), ("fidelity",)),
        (None, (1, 1), ()),
        (("l1=3",), (1, 1), ("l1=3",)),
        ((), (1, 5), ()),
        (("fidelity",), (1, 400), ("fidelity",)),
        (("fidelity", "agreement", "fidelity"), (1, 400), ("fidelity", "agreement")),
    ],
)
def test_metrics_are_those_asked_for_or_those_that_the_output_has(
    wanted: Sequence[str] | None, shape: tuple[int, ...], chosen: tuple[str, ...]
) -> None:
    assert choose_metrics(wanted, shape) == chosen


class Embedding(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(x.flatten(1), dim=1)


@pytest.mark.parametrize(
    ("end", "named", "metrics"),
    [
        (Embedding(), False, ("cosine",)),
        (Embedding(), True, ("top1", "agreement")),
        (nn.Sequential(nn.Flatten(), nn.Softmax(1)), False, ("top1", "agreement")),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), False, ("top1", "agreement")),
        (nn.Identity(), False, ("top1", "fidelity")),
        (nn.Identity(), True, ("top1", "agreement")),
        (nn.Conv2d(3, 7, 1), False, ("top1", "agreement")),
        (nn.Conv2d(3, 1, 1), False, ("fidelity",)),
        (nn.Sequential(nn.Conv2d(3, 7, 1), nn.Flatten(2)), False, ("fidelity",)),
        (nn.Sequential(nn.Conv2d(3, 7, 1), nn.Flatten(2)), True, ("top1", "agreement")),
        (nn.Sequential(nn.Conv2d(3, 7, 1), nn.Flatten(2), nn.Softmax(1)), False, ("top1", "agreement")),
        (nn.Sequential(nn.Conv2d(3, 7, 1), nn.Flatten(2), nn.LogSoftmax(1)), False, ("top1", "agreement")),
        (nn.Sequential(nn.Conv2d(3, 7, 1), nn.Flatten(2), nn.LogSoftmax(2)), False, ("fidelity",)),
    ],
)
def test_what_a_network_is_scored_by_where_nobody_says_it(
    end: nn.Module, named: bool, metrics: tuple[str, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 3, 1)) for _ in range(3)))
    supernet = elastify(nn.Sequential(body, end).eval(), torch.randn(1, 3, 8, 8), kinds=[prune(0.5)])
    classes = [f"class {at}" for at in range(supernet.graph.cuts[-1].shape[1])] if named else None
    assert check_export(supernet, tmp_path / "pack", classes=classes) == metrics


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 12)), "the 12 numbers of the output are taken for class scores"),
        (nn.Sequential(nn.Conv2d(3, 7, 1), nn.Flatten(2)), "the output, 7 x 64 numbers, may have classes in either"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), "the output is one number"),
        (nn.Conv2d(3, 7, 1), None),
        (Embedding(), None),
    ],
)
def test_what_an_output_is_taken_for_is_said_where_it_may_be_something_else(end: nn.Module, said: str | None) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 3, 1)) for _ in range(3)))
    supernet = elastify(nn.Sequential(body, end).eval(), torch.randn(1, 3, 8, 8), kinds=[prune(0.5)])
    doubt = doubt_of_usual(usual_metrics(supernet, False), supernet, False)
    assert doubt is None if said is None else doubt is not None and said in doubt
    if supernet.graph.cuts[-1].shape[1] > 1:
        assert doubt_of_usual(usual_metrics(supernet, True), supernet, True) is None


@pytest.mark.parametrize(
    ("wanted", "shape", "message"),
    [
        (
            "bleu",
            (1, 5),
            "unknown metric 'bleu': choose from top1, top5, agreement, miou, miou-agreement, boxes, fidelity, cosine",
        ),
        ("top1", (1, 1, 8, 8), "'top1' needs outputs with class scores along dimension 1"),
        ("fidelity", (1, 1), r"'fidelity' needs outputs with several numbers: these have shape \(1, 1\)"),
    ],
)
def test_metrics_that_make_no_sense_are_refused(wanted: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        choose_metrics([wanted], shape)


def test_fidelity_is_the_share_of_the_oracles_variance() -> None:
    torch.manual_seed(0)
    fidelity, oracle = Fidelity(), torch.randn(1, 40) * 30 + 100
    mean = torch.full_like(oracle, float(oracle.mean()))
    for output, expected in [
        (oracle, 1),
        (mean, 0),
        (-oracle, 0),
        (oracle * 1e30, 0),
        ((oracle + mean) / 2, 0.75),
    ]:
        torch.testing.assert_close(fidelity(output, oracle), torch.tensor([expected, 1.0]), atol=1e-5, rtol=0)
    assert fidelity(mean, mean).tolist() == [1, 1]
    assert fidelity(mean + 1e-3, mean).tolist() == [0, 1]


def test_fidelity_is_exported_for_the_concatenated_heads_of_a_detector() -> None:
    inputs = example_inputs("fidelity", (1, 400))
    assert 0.5 < Fidelity()(*inputs)[0] < 0.9, "a value of 0 or 1 would verify nothing"
    program = export_program("metric 'fidelity'", Fidelity().eval(), inputs, "onnx")
    assert program.max_abs_error < 1e-5


def test_an_interval_is_from_images_whatever_was_counted() -> None:
    assert Quality.from_counts("top1", 3, 4) == Quality.from_counts("top1", 3, 4, 4)
    pixels = Quality.from_counts("top1", 300, 400, 4)
    assert (pixels.value, pixels.low, pixels.high, pixels.n) == (0.75, *interval(3, 4), 4)
    assert Quality.from_counts("fidelity", 2.5, 4, 4).value == 0.625


def interval(correct: float, count: float) -> tuple[float, float]:
    quality = Quality.from_counts("m", correct, count)
    return quality.low, quality.high


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_wilsons_interval_is_wide_enough_for_means(values: list[float]) -> None:
    """It holds the interval that counts as many rights and wrongs: no numbers between 0 and 1 vary more."""
    mean = float(np.mean(values))
    assert np.var(values) <= mean * (1 - mean) + 1e-12
    quality = Quality.from_counts("fidelity", min(sum(values), len(values)), len(values))
    assert quality.low - 1e-9 <= mean <= quality.high + 1e-9


@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_places_whose_label_is_below_0_are_not_counted(backend: str) -> None:
    output = torch.zeros(1, 3, 2, 2)
    output[0, 1] = 1  # the answer is class 1 everywhere
    label = torch.tensor([[[1, 2], [-100, 1]]])
    assert Top1()(output, label).tolist() == [2, 3]
    assert Top1()(output, torch.full_like(label, -100)).tolist() == [0, 0]
    program = export_program("metric 'top1'", Top1().eval(), (output, label), backend)
    assert program.max_abs_error == 0
