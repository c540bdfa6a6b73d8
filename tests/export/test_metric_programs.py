"""Metric programs against other implementations of what they compute, in torch and through the engines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adaptivenet.export.metrics import choose_metrics, metric_program
from adaptivenet.export.programs import export_program
from adaptivenet.toolkit.errors import ExportError
from sklearn.metrics import jaccard_score, top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES, SIDE, IMAGES = 7, 9, 12


def maps(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Class scores of some images, and labels of which some do not count and none is the last class."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(IMAGES, CLASSES, SIDE, SIDE, generator=generator)
    labels = (scores + torch.randn(scores.shape, generator=generator))[:, :-1].argmax(1)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = -100
    return scores, labels


def sums_of(name: str, outputs: torch.Tensor, others: torch.Tensor) -> np.ndarray:
    """What the metric gives for each image: (images, sums)."""
    program = metric_program(name, (1, *outputs.shape[1:]))
    found = [program.module(outputs[at : at + 1], others[at : at + 1]) for at in range(len(outputs))]
    return torch.stack(found).double().numpy()


def score_of(name: str, outputs: torch.Tensor, others: torch.Tensor) -> float:
    """In the metric's own unit."""
    score = metric_program(name, (1, *outputs.shape[1:])).score
    return score.of(score.of_all(name, sums_of(name, outputs, others)))


def test_miou_is_the_mean_jaccard_index_of_all_pixels() -> None:
    scores, labels = maps(0)
    counted = labels >= 0
    answers = scores.argmax(1)
    assert (answers == CLASSES - 1).any(), "a class that only the answers have is one of those in the mean"
    expected = jaccard_score(labels[counted], answers[counted], average="macro")
    assert score_of("miou", scores, labels) == pytest.approx(expected, abs=1e-12)
    assert score_of("miou", scores[:, : CLASSES - 1], labels) == pytest.approx(
        jaccard_score(labels[counted], scores[:, :-1].argmax(1)[counted], average="macro"), abs=1e-12
    )


def test_miou_is_that_of_the_confusion_matrix() -> None:
    scores, labels = maps(1)
    counted = (labels >= 0).numpy().ravel()
    matrix = np.zeros((CLASSES, CLASSES))
    np.add.at(matrix, (labels.numpy().ravel()[counted], scores.argmax(1).numpy().ravel()[counted]), 1)
    both = np.diag(matrix)
    either = matrix.sum(0) + matrix.sum(1) - both
    total = sums_of("miou", scores, labels).sum(axis=0)
    np.testing.assert_array_equal(total, [*both, *either])


def test_pixels_of_no_class_count_nowhere() -> None:
    scores, labels = maps(2)
    elsewhere = torch.where(labels < 0, torch.full_like(labels, CLASSES + 3), labels)
    np.testing.assert_array_equal(sums_of("miou", scores, labels), sums_of("miou", scores, elsewhere))
    assert not sums_of("miou", scores, torch.full_like(labels, -1)).any()


def test_miou_with_the_oracle_is_that_with_its_classes_as_labels() -> None:
    scores, _ = maps(3)
    others = maps(4)[0]
    np.testing.assert_array_equal(sums_of("miou-agreement", scores, others), sums_of("miou", scores, others.argmax(1)))
    assert score_of("miou-agreement", scores, scores) == 1


@pytest.mark.parametrize("classes", [6, 10])
def test_top5_is_scikit_learns(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(60, classes, generator=generator), torch.arange(60) % classes
    expected = top_k_accuracy_score(labels, scores, k=5)
    assert 0.4 < expected < 1
    assert score_of("top5", scores, labels) == pytest.approx(expected)


def test_top5_of_maps_counts_pixels_that_have_a_label() -> None:
    scores, labels = maps(5)
    counted = labels >= 0
    pixels = scores.movedim(1, -1)[counted]
    expected = top_k_accuracy_score(labels[counted], pixels, k=5, labels=range(CLASSES))
    assert score_of("top5", scores, labels) == pytest.approx(expected)
    assert sums_of("top5", scores, labels)[:, 1].tolist() == counted.sum((1, 2)).tolist()


def test_of_equal_scores_the_first_classes_are_the_five() -> None:
    same, labels = torch.zeros(8, 8), torch.arange(8)
    assert sums_of("top5", same, labels)[:, 0].tolist() == [1] * 5 + [0] * 3
    assert not sums_of("top5", torch.full((8, 8), torch.nan), labels)[:, 0].any()
    assert not sums_of("top5", same, labels + 8)[:, 0].any(), "no such class"


def test_cosine_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(IMAGES, 40, generator=generator) for _ in range(2))
    expected = [float(cosine_similarity(a[None], b[None])[0, 0]) for a, b in zip(one.double(), other.double())]
    assert min(expected) < 0
    np.testing.assert_allclose(sums_of("cosine", one, other)[:, 0], np.maximum(expected, 0), atol=1e-6)
    np.testing.assert_allclose(sums_of("cosine", one, 3 * one)[:, 0], 1, atol=1e-6)
    assert not sums_of("cosine", one, -one)[:, 0].any()
    assert not sums_of("cosine", one, 0 * one)[:, 0].any()


@pytest.mark.parametrize("peak", [1, 255])
def test_psnr_and_l1_are_means_over_images(peak: int) -> None:
    rng = np.random.default_rng(0)
    one = rng.random((IMAGES, 3, 8, 8)) * peak
    other = np.clip(one + rng.normal(0, 0.05 * peak, one.shape) * rng.random((IMAGES, 1, 1, 1)), 0, peak)
    given = torch.tensor(one, dtype=torch.float32), torch.tensor(other, dtype=torch.float32)
    error = np.square(one - other).mean((1, 2, 3))
    assert score_of(f"psnr={peak}", *given) == pytest.approx(np.mean(10 * np.log10(peak**2 / error)), abs=1e-4)
    assert score_of(f"l1={peak}", *given) == pytest.approx(np.abs(one - other).mean(), rel=1e-5)
    if peak == 1:
        assert score_of("psnr", *given) == score_of("psnr=1", *given)
    assert score_of(f"psnr={peak}", given[0], given[0]) == 60, "the most that is told apart"
    assert score_of(f"psnr={peak}", given[0], given[0] + 9 * peak) == 0
    assert score_of(f"l1={peak}", given[0], given[0]) == 0
    assert score_of(f"l1={peak}", given[0], given[0] - 3 * peak) == peak / 4


def test_si_snr_does_not_mind_scale_and_mean() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(IMAGES, 2, 500))
    sound = wanted + rng.normal(size=wanted.shape) * rng.random((IMAGES, 2, 1))
    ratios = []
    for one, other in zip(sound.reshape(-1, 500), wanted.reshape(-1, 500)):
        # Of a straight line through the samples: what it explains over what it leaves.
        line = np.polynomial.Polynomial.fit(other, one, 1)(other)
        ratios.append(10 * np.log10(np.var(line) / np.mean((one - line) ** 2)))
    given = torch.tensor(sound, dtype=torch.float32), torch.tensor(wanted, dtype=torch.float32)
    assert score_of("si-snr", *given) == pytest.approx(np.mean(ratios), abs=1e-3)
    assert score_of("si-snr", -7 * given[0] + 3, given[1]) == pytest.approx(np.mean(ratios), abs=1e-3)
    silence = torch.zeros_like(given[0])
    assert score_of("si-snr", given[1], given[1]) == score_of("si-snr", silence, silence) == 60
    assert score_of("si-snr", silence, given[1]) == score_of("si-snr", given[1], silence) == -20


def boxes_by_loops(one: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """The boxes of either that are in both, and all boxes, of (4 + classes, boxes)."""

    def kept(output: np.ndarray) -> list[tuple[int, np.ndarray]]:
        scores = output[4:].max(0)
        best = [at for at in np.argsort(-scores)[:100] if scores[at] >= 0.25]
        return [(int(output[4:, at].argmax()), output[:4, at]) for at in best]

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        sides = [
            max(0.0, min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2))
            for i in range(2)
        ]
        both = sides[0] * sides[1]
        return float(both / (a[2] * a[3] + b[2] * b[3] - both))

    def is_in(box: tuple[int, np.ndarray], boxes: list[tuple[int, np.ndarray]]) -> bool:
        return any(box[0] == each[0] and overlap(box[1], each[1]) >= 0.5 for each in boxes)

    first, second = kept(one), kept(other)
    matched = sum(is_in(box, second) for box in first) + sum(is_in(box, first) for box in second)
    return matched, len(first) + len(second)


@pytest.mark.parametrize("places", [30, 400])
def test_boxes_are_matched_as_loops_do(places: int) -> None:
    rng = np.random.default_rng(0)
    shape = (IMAGES, 2, places)
    scores = rng.random((IMAGES, 4, places)) ** 4
    one = np.concatenate([rng.random(shape) * 40, 2 + rng.random(shape) * 12, scores], 1).astype(np.float32)
    other = (one + rng.normal(size=one.shape) * np.array([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1])[:, None]).astype(np.float32)
    expected = [boxes_by_loops(a, b) for a, b in zip(one, other)]
    assert 0.2 < np.sum(expected, axis=0)[0] / np.sum(expected, axis=0)[1] < 0.95
    given = torch.from_numpy(one), torch.from_numpy(other)
    np.testing.assert_array_equal(sums_of("boxes", *given), expected)
    assert score_of("boxes", given[0], given[0]) == 1
    nothing = torch.zeros_like(given[0])
    assert not sums_of("boxes", nothing, nothing).any(), "no boxes, nothing to compare"
    assert score_of("boxes", nothing, given[1]) == 0


PROGRAMS = [
    ("boxes", (1, 7, 150)),
    ("top5", (1, 9)),
    ("top5", (1, 9, 5, 4)),
    ("miou", (1, 5, 6, 7)),
    ("miou-agreement", (1, 5, 6, 7)),
    ("cosine", (1, 33)),
    ("l1=255", (1, 3, 6, 5)),
    ("psnr", (1, 3, 6, 5)),
    ("si-snr", (1, 2, 60)),
]


@pytest.mark.parametrize(("name", "shape"), PROGRAMS)
@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_every_program_is_exported_and_verified(name: str, shape: tuple[int, ...], backend: str) -> None:
    program = metric_program(name, shape)
    assert len(program.module(*program.inputs)) == len(program.sums) == len({*program.sums})
    made = export_program(name, program.module, program.inputs, backend)
    assert made.tolerance is not None
    assert made.max_abs_error <= 1e-2 * made.tolerance


@pytest.mark.parametrize(
    ("wanted", "shape", "message"),
    [
        ("top5", (1, 5), "the scores of more than 5 classes along dimension 1"),
        ("miou", (1, 5), r"maps of class scores \(1, classes, height, width\): these have shape \(1, 5\)"),
        ("miou", (1, 2049, 4, 4), "needs outputs with at most 2048 classes"),
        ("boxes", (1, 4, 100), r"needs outputs with boxes and their scores \(1, 4 \+ classes, boxes\)"),
        ("psnr", (1, 1), "'psnr' needs outputs with several numbers"),
        ("psnr=0", (1, 3, 8, 8), "metric 'psnr=0': l1 and psnr take a peak above 0, such as l1=255"),
        ("psnr=", (1, 3, 8, 8), "take a peak above 0"),
        ("l1=nan", (1, 3, 8, 8), "take a peak above 0"),
        ("top1=5", (1, 9), "metric 'top1=5': l1 and psnr take a peak"),
    ],
)
def test_metrics_that_an_output_does_not_have_are_refused(wanted: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        choose_metrics([wanted], shape)


def test_one_name_is_one_metric() -> None:
    with pytest.raises(ExportError, match="'psnr' and 'psnr=255' would both be called 'psnr': choose one"):
        choose_metrics(["psnr", "psnr=255"], (1, 3, 8, 8))
    assert choose_metrics(["psnr=255", "l1=255", "psnr=255"], (1, 3, 8, 8)) == ("psnr=255", "l1=255")


def test_a_peak_that_does_not_fit_the_outputs_is_said() -> None:
    outputs = 255 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    doubt = metric_program("psnr", (1, 3, 8, 8)).doubt(outputs)
    assert doubt is not None
    assert "reaches from " in doubt
    assert doubt.endswith("and psnr is for values that reach 1 far: psnr=PEAK says another reach")
    assert metric_program("psnr=255", (1, 3, 8, 8)).doubt(outputs / 255) is not None
    assert metric_program("l1=255", (1, 3, 8, 8)).doubt(outputs) is None
    assert metric_program("fidelity", (1, 3, 8, 8)).doubt(outputs) is None
