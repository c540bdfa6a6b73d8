"""Measuring on a real pack: every chain once a round, in shuffled order, on the features that the oracle gives."""

from __future__ import annotations

import gc
import itertools
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices import Session
from adaptivenet.toolkit.devices.interpreter import Program, Tensor, TensorType
from adaptivenet.toolkit.devices.local import LocalDevice
from adaptivenet.toolkit.devices.onnxruntime_engine import OnnxRuntimeEngine
from adaptivenet.toolkit.errors import DataError, GraphError
from adaptivenet.toolkit.pack import BlockPack
from engines import FAST, THIN, Spy, plan_of


def test_each_chain_is_measured_once_a_round(watched: Session, spy: Spy) -> None:
    oracle = watched.pack.graph.oracle
    chains = [("b0",), ("b1", "b2"), oracle, ("b0-m2",)]
    seen: list[tuple[int, int]] = []
    latencies = watched.measure(chains, rounds=6, warmup=2, progress=lambda done, total: seen.append((done, total)))
    assert [latency.repetitions for latency in latencies] == [6] * 4
    assert all(latency.median_ms > 0 and latency.spread_ms >= 0 for latency in latencies)
    assert seen == [(done, 8) for done in range(1, 9)]
    # The oracle ran once to give `("b1", "b2")` its input; after that, in 8 rounds, each chain once.
    blocks = Counter(name for chain in chains for name in chain)
    once = Counter({"b0": 1})
    assert Counter(spy.calls) == Counter({f"block {name!r}": 8 * blocks[name] + once[name] for name in blocks})
    assert sorted(spy.loads) == sorted({f"block {name!r}" for name in blocks})


def test_rounds_interleave_the_chains_in_shuffled_order(watched: Session, spy: Spy) -> None:
    singles = [(block.name,) for block in watched.pack.graph.blocks if block.start == 0]
    watched.measure(singles, rounds=20, warmup=0)
    rounds = [tuple(spy.calls[at : at + len(singles)]) for at in range(0, len(spy.calls), len(singles))]
    assert len(rounds) == 20
    assert {tuple(sorted(order)) for order in rounds} == {tuple(sorted(f"block {name!r}" for (name,) in singles))}
    assert len(set(rounds)) > 1


def test_the_clock_is_read_when_a_chain_begins_and_at_each_of_its_cuts(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter_ns", lambda: 1_000_000 * next(ticks))
    chains = [("b0",), ("b1", "b2"), session.pack.graph.oracle]
    in_situ = session.samples_in_situ(chains, rounds=3, warmup=1)
    assert in_situ == [[[1.0] * 3 for _ in chain] for chain in chains]
    assert next(ticks) == 4 * sum(1 + len(chain) for chain in chains)
    assert session.samples(chains, rounds=3, warmup=1) == [[float(len(chain))] * 3 for chain in chains]


def test_a_chain_that_is_not_timed_reads_no_clock(watched: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.activate(FAST)
    cut = watched.pack.graph.cuts[0]
    monkeypatch.setattr("adaptivenet.toolkit.devices.interpreter.time", None)
    watched.infer(np.zeros(cut.shape, np.float32))


def test_measuring_leaves_only_the_active_subnet(watched: Session, spy: Spy, data: Dataset) -> None:
    watched.activate(FAST)
    spy.loads.clear()
    watched.measure([FAST, THIN], rounds=1, warmup=0)
    assert Counter(spy.loads) == Counter({"block 'b0-p50'": 1, "block 'b1-p50'": 1})
    watched.evaluate(plan_of(watched.pack, [THIN], ["top1"]), data)
    assert watched.resident.blocks == FAST


def test_a_chain_is_given_the_oracles_feature(tiny_pack: BlockPack, pictures: np.ndarray) -> None:
    engine = OnnxRuntimeEngine(1)
    given: list[np.ndarray] = []

    class Recorder(Spy):
        def load(self, what: str, data: bytes, layout: str, takes: Sequence[TensorType], gives: TensorType) -> Program:
            program = super().load(what, data, layout, takes, gives)

            def recorded(operands: Sequence[Tensor], keep: bool = True) -> Tensor:
                given.extend(operands if what == "block 'b2'" else ())
                return program(operands, keep)

            return recorded

    with LocalDevice("local", Recorder(engine)).open(tiny_pack) as session:
        session.measure([("b2",)], rounds=1, warmup=0, sample=pictures[:1])
        assert session.resident.blocks == ()
        last = tiny_pack.graph.cuts[2]
        expected = pictures[:1]
        for name in ("b0", "b1"):
            artifact, block = tiny_pack.artifact(name, "onnx"), tiny_pack.graph[name]
            start, end = tiny_pack.graph.cuts[block.start], tiny_pack.graph.cuts[block.end]
            program = engine.load(
                name, tiny_pack.read(artifact), "contiguous", [(start.shape, "float32")], (end.shape, "float32")
            )
            expected = program([expected])
    assert [feature.shape for feature in given] == [last.shape]
    np.testing.assert_allclose(given[0], expected, atol=1e-6)


def test_a_sample_of_the_wrong_form_is_refused(session: Session) -> None:
    with pytest.raises(DataError, match=r"the sample is float32 \(1, 3\); the pack takes float32 \(1, 3, 16, 16\)"):
        session.measure([FAST], sample=np.zeros((1, 3), np.float32))


@pytest.mark.parametrize("chain", [(), ("b0", "b2"), ("b1", "b0"), ("nothing",)])
def test_a_chain_that_is_none_is_refused(session: Session, chain: tuple[str, ...]) -> None:
    with pytest.raises(GraphError):
        session.measure([FAST, chain])


def test_garbage_collection_is_back_on_after_measuring(session: Session) -> None:
    during: list[bool] = []
    session.measure([FAST], rounds=2, warmup=1, progress=lambda done, total: during.append(gc.isenabled()))
    assert during == [True] * 3
    gc.disable()
    try:
        session.measure([FAST], rounds=1, warmup=0)
        assert not gc.isenabled()
    finally:
        gc.enable()
