"""What a batch trains: the losses of subnets, and what each of them counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adaptivenet.toolkit.training.batches import Batch
from adaptivenet.toolkit.training.objective import Objective
from small_training import (
    SETTINGS,
    SUBNETS,
    Noise,
    supernet,
)
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("several", [False, True])
def test_several_outputs_in_a_row_are_no_class_scores(several: bool) -> None:
    net, x = supernet(), torch.from_numpy(Noise().image(0))
    if several:
        net.outputs = (("box", (1, 4)), ("score", (1, 1)))
    phase, spread = replace(SUBNETS, features=0.0), [torch.tensor(2.0)] * len(net.graph.cuts)
    objective = Objective(net, SETTINGS, spread, None, torch.device("cpu"), {})
    for name, loss, _ in objective.losses(phase, Batch(x), 0):
        output, wanted = net(x, name.split()[1:]), net(x)
        if several:
            expected = nn.functional.mse_loss(output, wanted) / 2
        else:
            scores, originals = output.log_softmax(1), wanted.log_softmax(1)
            expected = nn.functional.kl_div(scores, originals, log_target=True, reduction="batchmean")
        torch.testing.assert_close(loss, expected)


def test_near_the_front_a_subnet_counts_by_the_inverse_of_its_expected_loss() -> None:
    net, x = supernet(), torch.from_numpy(Noise().image(0))
    expected = {block.name: 0.25 * number for number, block in enumerate(net.alternatives(), 1)}
    weights = {}
    for sampling in ("front", "cost"):
        settings = replace(SETTINGS, sampling=sampling, cheapest=0.0)
        spread = [torch.tensor(1.0)] * len(net.graph.cuts)
        objective = Objective(net, settings, spread, None, torch.device("cpu"), expected)
        weights[sampling] = {
            name.removeprefix("subnet "): (weight, len(found))
            for step in range(20)
            for found in [list(objective.losses(SUBNETS, Batch(x), step))]
            for name, _, weight in found
        }
    assert all(weight == 1 / drawn for weight, drawn in weights["cost"].values())
    assert len(weights["front"]) > 1
    for names, (weight, drawn) in weights["front"].items():
        assert weight * drawn == pytest.approx(1 / sum(expected.get(name, 0.0) for name in names.split()))
