"""Training remembers exactly the pictures that it has used, and a picture that has gone since costs no training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.data.preprocessing import FloatArray
from adaptivenet.toolkit.errors import DataError
from adaptivenet.toolkit.pack.trained_on import TrainedOn
from adaptivenet.toolkit.training.train import train
from small_training import SETTINGS, Noise, supernet

pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(count: int, seed: int) -> Dataset:
    return Dataset.from_arrays(np.concatenate([Noise(count, seed).image(index) for index in range(count)]))


def test_a_supernet_remembers_what_it_was_trained_on() -> None:
    net, data, others = supernet(), pictures(10, 0), pictures(10, 1)
    assert net.trained_on is None
    train(net, data, SETTINGS)
    assert net.trained_on is not None
    assert net.trained_on.among(data.content_digests()) == 10
    assert net.trained_on.among(others.content_digests()) == 0
    train(net, others.subset([2, 3, 4]), SETTINGS)
    assert net.trained_on.among(data.content_digests()) == 10
    assert net.trained_on.among(others.content_digests()) == 3


def test_pictures_that_were_never_used_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = supernet(), pictures(200, 0)
    image, used = data.image, set[int]()

    def noted(index: int) -> FloatArray:
        used.add(index)
        return image(index)

    monkeypatch.setattr(data, "image", noted)
    train(net, data, replace(SETTINGS, phases=SETTINGS.phases[:1]))
    assert 20 < len(used) <= 32
    assert net.trained_on == TrainedOn().with_pictures(data.content_digests(used))


def test_pictures_that_have_gone_cost_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = supernet(), pictures(10, 0)
    content = data._source.content

    def gone(index: int) -> bytes:
        if index == 3:
            raise DataError("gone")
        return content(index)

    monkeypatch.setattr(data._source, "content", gone)
    train(net, data, SETTINGS)
    assert net.trained_on is not None
    assert len(net.trained_on.digests) == 9
