"""Evaluating on a real pack: a shared prefix runs once, and each subnet gives what it gives alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.errors import DataError, PlanError
from adaptivenet.toolkit.graph.graph import Subnet
from adaptivenet.toolkit.plan.plan import compile_plan
from engines import FAST, Spy, outputs, plan_of


def trie_edges(subnets: Sequence[Subnet]) -> Counter[str]:
    """How often each block stands in the trie of these paths."""
    return Counter(prefix[-1] for prefix in {subnet[:end] for subnet in subnets for end in range(1, len(subnet) + 1)})


def test_a_shared_prefix_runs_once(watched: Session, spy: Spy, data: Dataset) -> None:
    subnets = list(watched.pack.graph.paths())
    edges = trie_edges(subnets)
    assert sum(edges.values()) < sum(map(len, subnets))
    evaluation = watched.evaluate(plan_of(watched.pack, subnets), data)
    called = Counter(spy.calls)
    assert {name: called[f"block {name!r}"] for name in edges} == {
        name: count * len(data) for name, count in edges.items()
    }
    assert evaluation.block_runs == sum(edges.values()) * len(data)
    assert called["metric 'top1'"] == called["metric 'agreement'"] == len(subnets) * len(data)
    assert len(spy.loads) == len(set(spy.loads)) == len(edges) + 2


def test_the_oracle_runs_only_for_a_metric_that_reads_it(watched: Session, spy: Spy, data: Dataset) -> None:
    watched.evaluate(plan_of(watched.pack, [FAST], ["top1"]), data)
    assert "block 'b0'" not in spy.calls
    watched.evaluate(plan_of(watched.pack, [FAST], ["agreement"]), data)
    assert spy.calls.count("block 'b0'") == len(data)


def test_an_evaluation_is_what_each_subnet_gives_alone(session: Session, data: Dataset, pictures: np.ndarray) -> None:
    oracle = session.pack.graph.oracle
    subnets = [*session.pack.graph.paths(), session.pack.graph.subnet(FAST)]
    seen: list[tuple[int, int]] = []
    evaluation = session.evaluate(plan_of(session.pack, subnets), data, lambda done, total: seen.append((done, total)))
    answers = {subnet: outputs(session, subnet, pictures).argmax(1) for subnet in subnets}
    assert len(np.unique(answers[oracle])) > 1
    labels = data.labels
    assert labels is not None
    for index, subnet in enumerate(subnets):
        for metric, right in (("top1", labels), ("agreement", answers[oracle])):
            correct = (answers[subnet] == right).astype(np.float64)
            np.testing.assert_array_equal(
                evaluation.sums[metric][index], np.stack([correct, np.ones(len(data))], axis=1)
            )
            quality = evaluation.quality(metric)[index]
            assert (quality.metric, quality.n) == (metric, len(data))
            assert quality.value == pytest.approx(correct.mean())
    assert evaluation.quality("agreement")[subnets.index(oracle)].value == 1
    assert len({quality.value for quality in evaluation.quality("agreement")}) > 1
    assert evaluation.subnets == tuple(subnets)
    assert (evaluation.images, evaluation.engine, evaluation.threads) == (len(data), session.info.engine, 1)
    assert evaluation.seconds > 0
    assert seen == [(done, len(data)) for done in range(1, len(data) + 1)]


def test_a_block_that_runs_on_two_prefixes_does_not_overwrite_its_output(
    session: Session, data: Dataset, pictures: np.ndarray
) -> None:
    """The oracle's output waits in its slot while the last block runs again for every other subnet."""
    others = [subnet for subnet in session.pack.graph.paths() if subnet != session.pack.graph.oracle]
    together = session.evaluate(plan_of(session.pack, others, ["agreement"]), data)
    for index, subnet in enumerate(others):
        alone = session.evaluate(plan_of(session.pack, [subnet], ["agreement"]), data)
        np.testing.assert_array_equal(together.sums["agreement"][index], alone.sums["agreement"][0])


def test_missing_labels_are_missed_only_by_a_metric_that_needs_them(
    session: Session, pictures: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "pictures.npy", pictures)
    data = open_data(tmp_path / "pictures.npy", None, None, session.pack.graph.cuts[0])
    assert session.evaluate(plan_of(session.pack, [FAST], ["agreement"]), data).images == len(pictures)
    with pytest.raises(DataError, match="metric 'top1' needs labels and the data has none"):
        session.evaluate(plan_of(session.pack, [FAST]), data)


def test_images_that_do_not_fit_are_named_with_both_shapes(session: Session, tmp_path: Path) -> None:
    from adaptivenet.toolkit.graph.graph import Cut

    np.save(tmp_path / "larger.npy", np.zeros((2, 3, 20, 20), np.float32))
    data = open_data(tmp_path / "larger.npy", None, None, Cut(0, (1, 3, 20, 20)))
    with pytest.raises(
        DataError, match=r"image 0 is float32 \(1, 3, 20, 20\); the pack takes float32 \(1, 3, 16, 16\)"
    ):
        session.evaluate(plan_of(session.pack, [FAST], ["agreement"]), data)


def test_no_images_are_no_evaluation(session: Session, data: Dataset) -> None:
    with pytest.raises(DataError, match="no images"):
        session.evaluate(plan_of(session.pack, [FAST]), data.subset([]))


def test_a_plan_for_another_pack_is_refused(session: Session, data: Dataset) -> None:
    from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut

    graph = session.pack.graph
    metrics = {"agreement": session.pack.metrics["agreement"]}
    strange = BlockGraph(
        [Cut(index, (1, 2)) for index in range(4)],
        [Block(f"b{index}", index, index + 1, "original") for index in range(3)],
    )
    renamed = BlockGraph(graph.cuts, [Block(f"c{index}", index, index + 1, "original") for index in range(3)])
    for other, block in ((strange, "b0"), (renamed, "c0")):
        with pytest.raises(PlanError, match=f"block {block!r} of the plan is not one of pack 'tiny'"):
            session.evaluate(compile_plan(other, [other.oracle], metrics), data)
    for name, operands in (("bleu", ("output", "label")), ("agreement", ("output", "label")), ("top1", ("output",))):
        with pytest.raises(PlanError, match=f"metric {name!r} of the plan is not one of pack 'tiny'"):
            session.evaluate(compile_plan(graph, [FAST], {name: operands}), data)
