"""What a model makes of arguments that are not quite what it takes: what is clear is taken, the rest is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.errors import BudgetError, DataError, GraphError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.serving.decision import Budgets
from adaptivenet.toolkit.serving.model import Model
from packs import GRAPH


@pytest.fixture(scope="module")
def model(profiles: dict[str, Path], tiny_pack: BlockPack) -> Iterator[Model]:
    with Model.open(tiny_pack, Profile.load(profiles["local:onnxruntime"], tiny_pack), "100000ms") as opened:
        yield opened


def test_integers_of_numpy_are_points_and_numbers(model: Model) -> None:
    for point in (0, np.int64(0), np.uint8(0), np.array(0)):
        model.activate(point)
        assert model.wait(60)
        assert model.status().point == 0
    model.set_budget("100000ms", percentile=np.int32(90), memory_mb=np.float32(1e3))
    assert model.wait(60)


def read_only(of: np.ndarray) -> np.ndarray:
    of.flags.writeable = False
    return of


WRONG: tuple[tuple[type[Exception], str, Callable[[Model], Any]], ...] = (
    (GraphError, "there is no point 9", lambda model: model.activate(np.int16(9))),
    (GraphError, "neither the names .* nor the index", lambda model: model.activate(1.5)),
    (GraphError, "neither the names .* nor the index", lambda model: model.activate(None)),
    (BudgetError, "5 is no latency budget: write it like 75%", lambda model: model.set_budget(5)),
    (BudgetError, "None is no latency budget", lambda model: model.set_budget(None)),
    (BudgetError, "a percentile from 50 to 99: got '95'", lambda model: model.set_budget("75%", percentile="95")),
    (BudgetError, "a percentile from 50 to 99: got True", lambda model: model.set_budget("75%", percentile=True)),
    (BudgetError, "memory_mb must be a positive number: got '3'", lambda model: model.set_budget("75%", memory_mb="3")),
    (BudgetError, "energy_mj must be a positive number", lambda model: model.set_budget("75%", energy_mj=[1])),
)


@pytest.mark.parametrize(("error", "says", "call"), WRONG, ids=[says for _, says, _ in WRONG])
def test_what_is_not_clear_is_an_error_of_ours(
    model: Model, error: type[Exception], says: str, call: Callable[[Model], Any]
) -> None:
    before = model.decision
    with pytest.raises(error, match=says):
        call(model)
    assert model.decision is before


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ([0.0] * 5, "written to is a list; give a numpy array"),
        (read_only(np.zeros((1, 5), np.float32)), "written to is read-only"),
        (np.zeros((1, 5)), "written to is float64"),
    ],
)
def test_an_output_that_cannot_be_written_to_is_refused(model: Model, out: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        model.infer_timed(np.zeros(GRAPH.cuts[0].shape, np.float32), out)
    assert model.infer(np.zeros(GRAPH.cuts[0].shape, np.float32)).shape == (1, 5), "and the model infers on"


def test_budgets_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(BudgetError, match="latency_ms must be a positive number: got '5'"):
        Budgets("5")  # type: ignore[arg-type]
