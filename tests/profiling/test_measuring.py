"""Measuring on a real pack: every chain timed once a round, in shuffled order, on the features of the oracle."""

from __future__ import annotations

import gc
import itertools
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.devices.local.interpreter import Program, Tensor, TensorType
from adaptivenet.toolkit.devices.local.local import LocalDevice
from adaptivenet.toolkit.devices.local.onnxruntime_engine import OnnxRuntimeEngine
from adaptivenet.toolkit.devices.local.stopwatch import Stopwatch
from adaptivenet.toolkit.errors import DataError, GraphError
from adaptivenet.toolkit.pack.pack import BlockPack
from engines import FAST, THIN, Spy, plan_of


def test_each_chain_is_timed_once_a_round_after_it_has_run_once(watched: Session, spy: Spy) -> None:
    oracle = watched.pack.graph.oracle
    chains = [("b0",), ("b1", "b2"), oracle, ("b0-m2",)]
    seen: list[tuple[int, int]] = []
    latencies = watched.measure(chains, rounds=6, warmup=2, progress=lambda done, total: seen.append((done, total)))
    assert [latency.repetitions for latency in latencies] == [6] * 4
    assert all(latency.median_ms > 0 and latency.spread_ms >= 0 for latency in latencies)
    assert seen == [(done, 8) for done in range(1, 9)]
    # The oracle ran once to give `("b1", "b2")` its input; after that, in 8 rounds, each chain twice.
    blocks = Counter(name for chain in chains for name in chain)
    once = Counter({"b0": 1})
    assert Counter(spy.calls) == Counter({f"block {name!r}": 16 * blocks[name] + once[name] for name in blocks})
    # Blocks are loaded once, or, where chains are assembled of them, once for each of these.
    loaded = [*blocks] if watched.stamps_cuts else [name for chain in chains for name in chain]
    assert sorted(spy.loads) == sorted(f"block {name!r}" for name in loaded)


def test_rounds_interleave_the_chains_in_shuffled_order(watched: Session, spy: Spy) -> None:
    singles = [(block.name,) for block in watched.pack.graph.blocks if block.start == 0]
    watched.measure(singles, rounds=20, warmup=0)
    assert spy.calls[::2] == spy.calls[1::2], "each runs twice in a row"
    calls = spy.calls[::2]
    rounds = [tuple(calls[at : at + len(singles)]) for at in range(0, len(calls), len(singles))]
    assert len(rounds) == 20
    assert {tuple(sorted(order)) for order in rounds} == {tuple(sorted(f"block {name!r}" for (name,) in singles))}
    assert len(set(rounds)) > 1


def test_the_clock_is_read_when_a_chain_begins_and_at_each_of_its_cuts(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter_ns", lambda: 10_000 * next(ticks))
    monkeypatch.setattr(Stopwatch, "_waited", lambda _: 0)
    chains = [("b0",), ("b1", "b2"), session.pack.graph.oracle]
    in_situ = session.samples_in_situ(chains, rounds=3, warmup=1)
    links = [len(chain) if session.stamps_cuts else 1 for chain in chains]
    assert in_situ == [[[0.01] * 3] * count for count in links], "a look at what the kernel counts is not timed itself"
    assert next(ticks) == 2 * 4 * sum(1 + count for count in links)
    for times, count in zip(session.samples(chains, rounds=3, warmup=1), links, strict=True):
        assert times == pytest.approx([0.01 * count] * 3)


@pytest.mark.parametrize("assembling", [False, True])
def test_whole_subnets_are_timed_as_inferences_are(
    assembling: bool, tiny_pack: BlockPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the caller's array to the caller's array: both times hold what the way into the engine and out takes."""
    now = 0.0

    def after(ms: float) -> None:
        nonlocal now
        now += ms

    class Slow(Spy):
        """Only the engine moves the clock: by 1 ms a block, 10 ms for the way in, 100 ms for the way out."""

        def noted(self, names: Sequence[str], program: Program) -> Program:
            program = super().noted(names, program)

            def slow(operands: Sequence[Tensor], keep: bool = True) -> Tensor:
                after(len(names))
                return program(operands, keep)

            return slow

    engine = OnnxRuntimeEngine(1)
    spy = Slow(engine)
    if not assembling:
        spy.assemble = None
    monkeypatch.setattr(time, "perf_counter", lambda: now / 1e3)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: round(now * 1e6))
    monkeypatch.setattr(Stopwatch, "_waited", lambda _: 0)
    monkeypatch.setattr(spy, "tensor", lambda array, layout: (after(10), engine.tensor(array, layout))[1])
    monkeypatch.setattr(spy, "array", lambda tensor: (after(100), engine.array(tensor))[1])
    with LocalDevice("local", spy).open(tiny_pack) as session:
        times = session.samples_in_situ([THIN, ("b0",), ("b1",), ("b2",), ("b1", "b2")], rounds=2, warmup=1)
        session.activate(THIN)
        _, ms = session.infer_timed(np.zeros(tiny_pack.graph.cuts[0].shape, np.float32))
    expected = [[113], [11], [1], [101], [102]] if assembling else [[11, 1, 101], [11], [1], [101], [1, 101]]
    assert [[block[0] for block in chain] for chain in times] == expected
    assert ms == pytest.approx(113)


def test_a_chain_that_is_not_timed_reads_no_clock(watched: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.activate(FAST)
    cut = watched.pack.graph.cuts[0]
    monkeypatch.setattr("adaptivenet.toolkit.devices.local.local.Stopwatch", None)
    watched.infer(np.zeros(cut.shape, np.float32))


def test_measuring_leaves_only_the_active_subnet(watched: Session, spy: Spy, data: Dataset) -> None:
    watched.activate(FAST)
    spy.loads.clear()
    watched.measure([FAST, THIN], rounds=1, warmup=0)
    new = ["b0-p50", "b1-p50"] if watched.stamps_cuts else [*FAST, *THIN]
    assert Counter(spy.loads) == Counter(f"block {name!r}" for name in new)
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
    assert [feature.shape for feature in given] == [last.shape] * 2, "it runs once before it is timed"
    for feature in given:
        np.testing.assert_allclose(feature, expected, atol=1e-6)


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
