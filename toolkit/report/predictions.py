"""How well the predicted latencies of a front hold, for the page and for the text."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from ..graph.front import Front


@dataclass(frozen=True)
class Predictions:
    """Of so many points `measured` whole, `within` lie within the 95% interval that their prediction states.

    `median_error` and `worst_error` are how far the predictions are off, as shares of what was measured.
    """

    measured: int
    within: int
    median_error: float
    worst_error: float

    def in_words(self) -> str:
        """Two sentences."""
        return (
            f"Subnets measured whole: {self.measured}. The prediction is off by {self.median_error:.1%} in the median, "
            f"and by {self.worst_error:.1%} at worst. {self.within} of {self.measured} lie within the error that the "
            "prediction states (95% interval)."
        )


def predictions(front: Front) -> Predictions | None:
    """How the predictions of a front compare with what was measured; None where nothing was."""
    found = [(point, point.measured.median_ms) for point in front.points if point.measured]
    if not found:
        return None
    errors = [abs(point.predicted_ms / ms - 1) for point, ms in found]
    within = sum(abs(point.predicted_ms - ms) <= point.predicted_error_ms for point, ms in found)
    return Predictions(len(found), within, median(errors), max(errors))
