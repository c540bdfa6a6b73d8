"""A model in this process: what it answers, what decides which subnet serves, and what it pages while it infers."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.errors import DataError, GraphError, ProfileError
from adaptivenet.toolkit.graph.front import Front
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.serving.decision import Kind, Signals
from adaptivenet.toolkit.serving.model import Model
from fronts import POINTS, SLOWEST, X, with_front
from numpy.typing import NDArray


def test_it_opens_with_the_best_point_for_the_budget(
    known: Profile, tiny_pack: BlockPack, outputs: list[NDArray[Any]]
) -> None:
    with Model.open(tiny_pack, known, "3500000ms") as opened:
        status = opened.status()
        assert (status.point, status.subnet, status.loading) == (2, POINTS[2], None)
        assert status.resident_bytes == sum(
            tiny_pack.artifact(name, "onnx" if known.device["engine"] == "onnxruntime" else "executorch").bytes
            for name in POINTS[2]
        )
        np.testing.assert_array_equal(opened.infer(X), outputs[2])
        assert status.error is None
        assert "3000000.00 ms" in status.why


def test_it_writes_to_the_callers_array(model: Model, outputs: list[NDArray[Any]]) -> None:
    out = np.zeros_like(outputs[SLOWEST])
    found, ms = model.infer_timed(X, out)
    assert found is out
    assert ms > 0
    np.testing.assert_array_equal(out, outputs[SLOWEST])
    with pytest.raises(DataError, match=r"is float32 \(1, 5\); what it shall be written to is float64 \(5,\)"):
        model.infer_timed(X, np.zeros(5))
    with pytest.raises(DataError, match="the input"):
        model.infer(X[0])
    np.testing.assert_array_equal(model.infer(X), outputs[SLOWEST])


def test_pictures_come_and_go_in_either_layout(known: Profile, picture_pack: BlockPack) -> None:
    def last(x: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1))

    x = np.random.default_rng(0).standard_normal(picture_pack.graph.cuts[0].shape).astype(np.float32)
    front = Front([replace(known.front.points[0], subnet=picture_pack.graph.oracle)])
    of_pictures = replace(known, pack=picture_pack.digest, front=front)
    with Model.open(picture_pack, of_pictures, "4000000ms") as opened:
        for subnet in picture_pack.graph.paths():  # on ExecuTorch they have different layouts
            opened.activate(subnet)
            assert opened.wait(60)
            expected = opened.infer(x)
            assert expected.shape == (1, 2, 6, 4)
            found = opened.infer(last(x), layout="channels_last", output_layout="channels_last")
            np.testing.assert_array_equal(found, last(expected))
            assert found.flags.c_contiguous
            np.testing.assert_array_equal(opened.infer(last(x), layout="channels_last"), expected)
            out = np.zeros_like(found)
            assert opened.infer_timed(x, out, output_layout="channels_last")[0] is out
            np.testing.assert_array_equal(out, found)
        with pytest.raises(
            DataError, match=r"the input is float32 \(1, 3, 6, 4\); the pack takes float32 \(1, 6, 4, 3\)"
        ):
            opened.infer(x, layout="channels_last")
        with pytest.raises(DataError, match=r"the output is float32 \(1, 6, 4, 2\); what it shall be written to is"):
            opened.infer_timed(x, np.zeros_like(expected), output_layout="channels_last")
        with pytest.raises(DataError, match="a layout is 'contiguous' or 'channels_last': got 'nhwc'"):
            opened.infer(x, output_layout="nhwc")  # type: ignore[arg-type]


def test_an_output_that_is_no_picture_has_one_layout(model: Model, outputs: list[NDArray[Any]]) -> None:
    np.testing.assert_array_equal(model.infer(X, output_layout="channels_last"), outputs[SLOWEST])


def test_budgets_and_names_decide_what_serves(model: Model, outputs: list[NDArray[Any]]) -> None:
    assert model.set_budget("1500000ms").kind is Kind.BUDGET
    assert model.wait(60)
    np.testing.assert_array_equal(model.infer(X), outputs[0])
    model.activate(("b0", "b1-p50", "b2"))
    assert model.wait(60)
    np.testing.assert_array_equal(model.infer(X), outputs[2])
    assert (model.status().why, model.status().point) == ("it was asked for", 2)
    model.activate(("b0-p50", "b1", "b2"))
    assert model.wait(60)
    assert model.status().point is None, "it is on no front"
    with pytest.raises(GraphError):
        model.activate(("b0", "b2"))
    for none in (-1, len(POINTS)):
        with pytest.raises(GraphError, match=f"there is no point {none}: the model has 4"):
            model.activate(none)
    model.set_budget("1ms")
    assert model.wait(60)
    assert model.decision.kind is Kind.NOTHING_FITS
    assert model.status().point == 0, "the fastest serves"


def test_a_device_that_is_much_slower_than_profiled_gets_the_fastest(known: Profile, tiny_pack: BlockPack) -> None:
    fast = with_front(known, 1e-6, 2e-6, 3e-6, 4e-6)
    with Model.open(tiny_pack, fast, "0.000004ms") as opened:
        assert opened.status().point == SLOWEST
        for _ in range(20):
            opened.infer(X)
        assert opened.wait(60)
        status = opened.status()
        assert status.point == 0
        assert status.slowdown > 100
        assert "nothing fits" in status.why


def test_what_sensors_say_is_heeded(known: Profile, tiny_pack: BlockPack) -> None:
    with Model.open(tiny_pack, known, "4000000ms") as opened:
        decisions = [opened.observe(Signals(headroom=headroom)) for headroom in (1.1, 1.2, 1.3)]
        assert any(decision and decision.kind is Kind.HEAT for decision in decisions)
        assert opened.wait(60)
        assert opened.status().point != SLOWEST


def test_switches_while_another_thread_infers_never_mix_subnets(model: Model, outputs: list[NDArray[Any]]) -> None:
    wrong, ended = [], threading.Event()

    def infer() -> None:
        while not ended.is_set():
            output, _, point = model.infer_at(X)
            if point is None or not np.array_equal(output, outputs[point]):
                wrong.append(output)

    thread = threading.Thread(target=infer)
    thread.start()
    try:
        for number in range(300):
            model.activate(number % len(POINTS))
            if number % 3 == 0:
                assert model.wait(60)
                assert model.status().point == number % len(POINTS)
        assert model.wait(60)
    finally:
        ended.set()
        thread.join()
    assert wrong == []
    np.testing.assert_array_equal(model.infer(X), outputs[299 % len(POINTS)])
    model.activate(SLOWEST)
    model.wait(60)
    model.infer(X)
    only = sum(model._loader._assembler.bytes((name,)) for name in POINTS[SLOWEST])
    assert model.status().resident_bytes == only, "nothing else is kept"


def test_a_closed_model_has_nothing_that_serves(known: Profile, tiny_pack: BlockPack) -> None:
    with Model.open(tiny_pack, known) as opened:
        assert opened.status().resident_bytes > 0
    opened.close()
    status = opened.status()
    assert (status.subnet, status.point, status.loading, status.resident_bytes) == (None, None, None, 0)


def test_a_model_that_nobody_closes_ends_with_its_last_reference(known: Profile, tiny_pack: BlockPack) -> None:
    before = set(threading.enumerate())
    opened = Model.open(tiny_pack, known)
    assert set(threading.enumerate()) - before
    del opened
    gc.collect()
    assert not set(threading.enumerate()) - before


def test_a_profile_of_another_device_is_refused_unless_that_is_said(known: Profile, tiny_pack: BlockPack) -> None:
    other = replace(known, device={**known.device, "name": "Pear X1"})
    with pytest.raises(ProfileError, match=r"was made on name Pear X1, and this is name .* with of_another"):
        Model.open(tiny_pack, other)
    Model.open(tiny_pack, other, of_another_device=True).close()
    with pytest.raises(ProfileError, match="threads 1, and this is threads 2"):
        Model.open(tiny_pack, known, threads=2)
    with pytest.raises(ProfileError, match="the profile was made for another pack"):
        Model.open(tiny_pack, replace(known, pack="0" * 64), of_another_device=True)
