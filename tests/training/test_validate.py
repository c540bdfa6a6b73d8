"""The validation table: the oracle, every option, and random subnets around each budget, against brute force."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.toolkit.errors import TrainingError
from adaptivenet.toolkit.graph.graph import BlockGraph
from adaptivenet.toolkit.training.losses import local_losses
from adaptivenet.toolkit.training.validate import check, validate
from small_training import Labelled, Noise, supernet

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("images", [Noise(30), Labelled(30)], ids=["agreement", "top1"])
def test_a_budgets_quality_is_that_of_subnets_that_cost_as_much(images: Noise) -> None:
    net = supernet()
    graph = net.graph
    x = torch.from_numpy(images.images[:, 0])
    with torch.no_grad():
        oracle = net(x).argmax(1)
        truth = torch.tensor([images.label(i) for i in range(30)]) if isinstance(images, Labelled) else oracle
        macs = sum(graph[name].macs for name in graph.oracle)
        shares = sorted({sum(graph[name].macs for name in path) / macs for path in graph.paths()})
        found: dict[float, list[float]] = {shares[at]: [] for at in (1, len(shares) // 2, -2)}
        for path in graph.paths():
            share = sum(graph[name].macs for name in path) / macs
            for budget, qualities in found.items():
                if abs(share - budget) <= 0.025:
                    qualities.append(float((net(x, path).argmax(1) == truth).float().mean()))
    result = validate(net, images, budgets=(*found, 0.01), subnets=400, batch_size=7)
    assert result.metric == ("top1" if isinstance(images, Labelled) else "agreement")
    assert result.oracle.value == pytest.approx(float((oracle == truth).float().mean()))
    assert result.oracle.n == result.images == 30
    for at, (budget, qualities) in zip(result.budgets, found.items()):
        assert qualities
        assert (at.budget, at.subnets) == (budget, 400)
        assert at.lowest == pytest.approx(min(qualities))
        assert at.highest == pytest.approx(max(qualities))
        assert at.mean == pytest.approx(fmean(qualities), abs=0.05)
    nothing = result.budgets[-1]
    assert (nothing.subnets, nothing.mean, nothing.lowest, nothing.highest) == (0, None, None, None)
    assert result.losses == pytest.approx(local_losses(net, [x]), rel=0.05)  # a variance a batch, not one for all
    assert validate(net, images, budgets=[*found], subnets=5) == validate(net, images, budgets=[*found], subnets=5)


class OneTooMany(Labelled):
    def label(self, index: int) -> int:
        return super().label(index) + (index == 9)


def test_what_cannot_be_validated() -> None:
    with pytest.raises(TrainingError, match="there are no images to validate on"):
        validate(supernet(), Noise(0))
    with pytest.raises(TrainingError, match="labels go from 0 to 5, and the network has 5 classes"):
        validate(supernet(), OneTooMany())


def test_labels_and_images_come_from_the_same_index() -> None:
    """Labels that are the oracle's own answers make its top-1 perfect."""
    net, images = supernet(), Labelled(30)
    with torch.no_grad():
        answers = net(torch.from_numpy(images.images[:, 0])).argmax(1)
    images.label = lambda index: int(answers[index])  # type: ignore[method-assign]
    assert len(np.unique(answers)) > 1
    assert validate(net, images, subnets=1, batch_size=4).oracle.value == 1


def test_an_original_that_guesses_or_never_changes_is_doubted() -> None:
    net = supernet()
    labels = [int(net(torch.from_numpy(Noise(30).image(index))).argmax()) for index in range(30)]

    class Right(Noise):
        def label(self, index: int) -> int:
            return (labels[index] + self.wrong) % 5

        wrong = 0

    data = Right(30)
    assert validate(net, data, budgets=[]).warnings == ()
    data.wrong = 1
    (doubt,) = validate(net, data, budgets=[]).warnings
    assert "top1 of 0.0% on 30 pictures, and guessing among 5 classes" in doubt

    with torch.no_grad():
        for parameter in net.blocks[net.graph.oracle[-1]].parameters():
            parameter.zero_()
    (doubt,) = validate(net, Noise(30), budgets=[]).warnings
    assert doubt.startswith("the original network gives the same answer (class 0) for all 30 pictures")


def test_a_validation_is_cut_to_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle takes 1 s an image on this clock, as everything else does."""
    net, clock = supernet(), [0.0]
    monkeypatch.setattr("adaptivenet.toolkit.training.validate.time.monotonic", lambda: clock[0])
    walk = net.walk

    def slow(x: torch.Tensor, *subnet: Any) -> Any:
        clock[0] += len(x)
        return walk(x, *subnet)

    monkeypatch.setattr(net, "walk", slow)
    whole = validate(net, Labelled(64), budgets=(0.7,))
    clock[0] = 0
    result = validate(net, Labelled(64), budgets=(0.7,), seconds=300)
    assert clock[0] < 400
    assert 8 <= result.images < 64
    assert 1 <= result.budgets[0].subnets < whole.budgets[0].subnets == 10
    assert result.oracle.n == result.images
    assert validate(net, Labelled(64), budgets=(0.7,), seconds=10**6) == whole
    with pytest.raises(TrainingError, match=r"no time is left to validate: 8 images would take \d+ s; give it more"):
        validate(net, Labelled(64), seconds=1)


def test_a_network_without_class_scores_is_refused_before_anything_runs() -> None:
    net = supernet()
    cuts = [*net.graph.cuts[:-1], replace(net.graph.cuts[-1], shape=(1, 5, 4))]
    net.graph = BlockGraph(cuts, net.graph.blocks)
    with pytest.raises(TrainingError, match=r"gives \(1, 5, 4\): .*; train without validation"):
        check(net, Noise())
