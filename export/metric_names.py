"""The names of the metrics that come with the exporter, and what each is, in a few words; without torch."""

from __future__ import annotations

METRICS = {
    "top1": "the highest score is the label's",
    "top5": "the label's score is among the five highest",
    "agreement": "the highest score is where the original network has its own; of maps, the share of such pixels",
    "miou": "mean intersection over union of the classes of pixels and their labels",
    "miou-agreement": "the same against the original network's classes",
    "boxes": "the share of the boxes of a detector, (1, 4 + classes, boxes), that are the original's",
    "fidelity": "the share of the variance of the original's output that the output explains",
    "cosine": "of the angle to the original's output, for embeddings",
    "l1": "mean absolute difference from the original's output, for images",
    "psnr": "peak signal-to-noise ratio against the original's output in dB, for images",
    "si-snr": "scale-invariant signal-to-noise ratio against the original's output in dB, for sounds",
}
WITH_PEAK = ("l1", "psnr")
"""Of images whose values reach to another peak than 1, these are `l1=PEAK`."""


def is_own(wanted: str) -> bool:
    """Whether a metric is named as a function of one's own: `package.module:function`."""
    return ":" in wanted
