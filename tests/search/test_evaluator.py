"""Generations of subnets on the real engines: the same scores with features kept as without, and fewer blocks run."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.local.local import LocalSession
from adaptivenet.toolkit.errors import DeviceError, PlanError
from adaptivenet.toolkit.graph.graph import Subnet
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import Plan, compile_plan
from adaptivenet.toolkit.profiling.journal import Journal, JournaledSession
from adaptivenet.toolkit.search import Evaluator
from engines import FAST, Spy
from named import same

LIMIT = 1 << 22


@pytest.fixture
def generations(wide_pack: BlockPack) -> list[list[Subnet]]:
    """Four, each of which has something of the one before."""
    paths = list(wide_pack.graph.paths())
    drawn = random.Random(3).sample(paths, 40)
    return [drawn[start : start + 13] for start in range(0, 40, 9)][:4]


def test_generations_get_the_same_scores(
    address: str, wide_pack: BlockPack, data: Dataset, generations: list[list[Subnet]]
) -> None:
    runs, plain_runs = 0, 0
    with connect(address).open(wide_pack) as session, Evaluator(session, wide_pack.metrics, LIMIT) as evaluator:
        for number, generation in enumerate(generations):
            piece = data.subset(range(8 * (number % 2), 8 + 8 * (number % 2)))
            seen: list[tuple[int, int]] = []
            found = evaluator.evaluate(generation, piece, lambda done, total, seen=seen: seen.append((done, total)))
            expected = session.evaluate(compile_plan(wide_pack.graph, generation, wide_pack.metrics), piece)
            assert same(found, expected)
            assert (found.images, found.engine, found.threads) == (8, session.info.engine, session.info.threads)
            assert seen == [(done, 8) for done in range(1, 9)]
            runs, plain_runs = runs + found.block_runs, plain_runs + expected.block_runs
    assert runs < 0.9 * plain_runs


def test_the_blocks_that_are_said_to_have_run_have_run(watched: Session, spy: Spy, data: Dataset) -> None:
    evaluator = Evaluator(watched, watched.pack.metrics, LIMIT)
    subnets = list(watched.pack.graph.paths())
    for _ in range(3):
        spy.calls.clear()
        found = evaluator.evaluate(random.Random(1).sample(subnets, 3), data)
        called = Counter(spy.calls)
        assert found.block_runs == sum(count for name, count in called.items() if name.startswith("block"))
        assert called["metric 'top1'"] == called["metric 'agreement'"] == 3 * len(data)
    assert "block 'b0'" not in spy.calls  # the oracle's output, and all that the same subnets need


def test_a_batch_over_the_limit_is_divided(session: Session, data: Dataset) -> None:
    graph, metrics = session.pack.graph, {"top1": session.pack.metrics["top1"]}
    subnets = list(graph.paths())
    together = compile_plan(graph, subnets, metrics)
    least = max(compile_plan(graph, [subnet], metrics).peak_bytes for subnet in subnets)
    assert least < together.peak_bytes
    seen: list[int] = []
    evaluator = Evaluator(session, metrics, least)
    found = evaluator.evaluate(subnets, data, lambda done, total: seen.append(done))
    assert same(found, session.evaluate(together, data))
    assert seen == sorted(seen)
    assert seen[-1] == len(data)
    with pytest.raises(PlanError, match=f"the limit is {least - 1}"):
        Evaluator(session, metrics, least - 1).evaluate(subnets, data)
    with pytest.raises(PlanError, match="nothing to evaluate"):
        evaluator.evaluate([], data)


def test_closing_drops_what_is_kept(session: Session, data: Dataset) -> None:
    metrics = session.pack.metrics
    with Evaluator(session, metrics, LIMIT) as evaluator:
        first = evaluator.evaluate([FAST], data)
        assert evaluator.evaluate([FAST], data).block_runs < first.block_runs
    assert evaluator.evaluate([FAST], data).block_runs == first.block_runs
    session.close()
    with pytest.raises(DeviceError, match="is closed"):
        session.forget()


# Interrupted, and begun again


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that the device is really given."""
    plans: list[Plan] = []
    real: Callable[..., int] = LocalSession._evaluate

    def noting(self: LocalSession, plan: Plan, *rest: object) -> int:
        block_runs = real(self, plan, *rest)
        plans.append(plan)
        return block_runs

    monkeypatch.setattr(LocalSession, "_evaluate", noting)
    return plans


def search(
    pack: BlockPack, data: Dataset, generations: list[list[Subnet]], journal: Path, stop_after: int = 10**9
) -> list[list[float]]:
    """The qualities of generations on a session with a journal, which may be interrupted after some pieces."""
    with connect("local:onnxruntime").open(pack) as inner:
        session = JournaledSession(inner, Journal(journal, {}, resume=True))
        evaluator = Evaluator(session, pack.metrics, LIMIT)
        asked = 0

        def progress(done: int, total: int) -> None:
            nonlocal asked
            if done in (5, 9, 13, total):  # the first image of a piece, or the last of all
                asked += 1
                if asked > stop_after:
                    raise KeyboardInterrupt

        found = []
        for generation in generations:
            evaluation = evaluator.evaluate(generation, data, progress)
            found.append([quality.value for metric in pack.metrics for quality in evaluation.quality(metric)])
        return found


def test_an_interrupted_search_goes_on_without_what_was_kept(
    wide_pack: BlockPack,
    data: Dataset,
    generations: list[list[Subnet]],
    noted: list[Plan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adaptivenet.toolkit.profiling.journal._IMAGES_AT_ONCE", 4)  # 4 pieces
    whole = search(wide_pack, data, generations, tmp_path / "whole.jsonl")
    assert len(noted) == 4 * len(generations)
    for stop_after in (6, 9, 10):
        noted.clear()
        journal = tmp_path / f"{stop_after}.jsonl"
        with pytest.raises(KeyboardInterrupt):
            search(wide_pack, data, generations, journal, stop_after)
        answered = len(noted)
        assert search(wide_pack, data, generations, journal) == whole
        # What was answered is not asked again, and what is answered is kept for the next time.
        assert len(noted) == 4 * len(generations)
        assert 0 < answered < len(noted)
        assert len(journal.read_text().splitlines()) == 1 + 4 * len(generations)
        assert search(wide_pack, data, generations, journal) == whole
        assert len(noted) == 4 * len(generations)
