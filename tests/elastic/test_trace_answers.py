"""Tracing what a model answers with: several tensors in one row, one of them alone, and answers that are refused."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from adaptivenet.toolkit.elastic.tracing.trace import trace
from adaptivenet.toolkit.errors import ModelError
from torch import nn
from torch.nn import functional as F
from written import EXAMPLE, Written, inputs

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        x = self.conv(x)
        return {"scores": x, "boxes": [x.mean((2, 3)), (x.amax((2, 3), keepdim=True), x.shape[0])]}


def test_answers_for_each_input_of_a_batch_are_refused_with_what_to_do() -> None:
    def chosen(self: Written, x: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        return [{"boxes": each.flatten(1).T, "scores": each.mean((1, 2))} for each in x]

    with pytest.raises(ModelError, match=r"a part for each input of a batch, .* ends with the raw outputs"):
        trace(Written(chosen), EXAMPLE)


def test_several_answers_come_out_in_one_row() -> None:
    model = Detector().eval()
    traced = trace(model, EXAMPLE)
    assert traced.meta["outputs"] == [
        ("scores", (1, 8, 8, 8)),
        ("boxes.0", (1, 8)),
        ("boxes.1.0", (1, 8, 1, 1)),
    ]
    for x in inputs():
        answer = model(x)
        row = torch.cat([answer["scores"].flatten(1), answer["boxes"][0], answer["boxes"][1][0].flatten(1)], 1)
        torch.testing.assert_close(traced(x), row)


def test_one_of_several_answers_is_kept() -> None:
    model = Detector().eval()
    traced = trace(model, EXAMPLE, "boxes.1.0")
    assert traced.meta["outputs"] == [("boxes.1.0", (1, 8, 1, 1))]
    for x in inputs():
        torch.testing.assert_close(traced(x), model(x)["boxes"][1][0])
    with pytest.raises(ModelError, match=r"holds scores, boxes.0, boxes.1.0; there is no output 'masks'"):
        trace(model, EXAMPLE, "masks")


class Pair(NamedTuple):
    scores: torch.Tensor
    classes: torch.Tensor


def test_an_answer_may_be_a_named_tuple_and_one_number_a_picture() -> None:
    model = Written(lambda self, x: Pair(x.mean((2, 3)), x.mean((2, 3)).argmax(1)))
    traced = trace(model, EXAMPLE)
    assert traced.meta["outputs"] == [("scores", (1, 8)), ("classes", (1,))]
    for x in inputs():
        scores, classes = model(x)
        torch.testing.assert_close(traced(x), torch.cat([scores, classes[:, None]], 1))


@dataclass
class Answer:
    scores: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    loss: torch.Tensor | None = None


@dataclass
class ModelOutput(OrderedDict[str, Any]):
    """As libraries of language models write them: a dict and a dataclass at once, without what is None."""

    scores: torch.Tensor
    loss: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if isinstance(self.scores, torch.Tensor):
            self["scores"] = self.scores


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda x: Answer(x.mean((2, 3)), (x,)), ["scores", "hidden.0"]),
        (lambda x: ModelOutput(x.mean((2, 3))), ["scores"]),
        (lambda x: UserDict(scores=x.mean((2, 3)), hidden=x), ["scores", "hidden"]),
    ],
    ids=["dataclass", "ModelOutput", "mapping"],
)
def test_an_answer_may_be_of_a_class_of_its_own(make: Callable[[torch.Tensor], Any], names: list[str]) -> None:
    model = Written(lambda self, x: make(x))
    traced = trace(model, EXAMPLE)
    assert [name for name, _ in traced.meta["outputs"]] == names
    scores = trace(model, EXAMPLE, "scores")
    for x in inputs():
        answer = model(x)
        by_name = answer if isinstance(answer, Mapping) else vars(answer)
        hidden = [] if len(names) == 1 else [by_name["hidden"]] if "hidden" in names else list(by_name["hidden"])
        row = [tensor.flatten(1) for tensor in (by_name["scores"], *hidden)]
        torch.testing.assert_close(traced(x), torch.cat(row, 1))
        torch.testing.assert_close(scores(x), by_name["scores"])


def test_a_batch_of_one_is_a_batch() -> None:
    traced = trace(Written(lambda self, x: x.mean((2, 3), keepdim=True).squeeze()), EXAMPLE)
    for x in inputs():
        assert traced(x).shape == (len(x), 8)


def alone(self: Written, x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3)) * (2 if x.shape[0] == 1 else 1)


def fixed_batch(self: Written, x: torch.Tensor) -> torch.Tensor:
    return x.reshape(2, -1)[:, :8].repeat(x.shape[0] // 2, 1) if x.shape[0] % 2 == 0 else x.flatten(1)[:, :8]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda self, x: x.view(2, 8, 8, 8), "Written does not run on a batch of 1 input of shape .*3, 8, 8.*float32"),
        (lambda self, x: x.nonsense(), "Written does not run on a batch of 1 input.*'nonsense'"),
        (fixed_batch, "Written computes something else at batch size 3.*fixes the batch size"),
        (alone, "Written computes something else at batch size 1"),
        (lambda self, x: F.dropout(x, 0.5), "Written answers differently to the same input"),
        (lambda self, x: {"shape": x.shape[1]}, "Written answers with dict that holds no tensor; a tensor is needed"),
        (lambda self, x: None, "Written answers with NoneType"),
        (lambda self, x: {"a": x.flatten(1), "b": [x.mean()]}, r"answers with shape \(\) to a batch.* is output 'b.0'"),
        (lambda self, x: x.mean(0, keepdim=True), r"answers with shape \(1, 8\) to a batch of 3; the batch must come"),
        (lambda self, x: x.sum(), r"answers with shape \(\) to a batch of 3"),
    ],
)
def test_what_is_no_chain_of_batches_is_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trace(Written(function), EXAMPLE)
