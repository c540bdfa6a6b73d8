"""Latencies predicted from blocks: they learn from whole subnets, add up, and know how wrong they may be."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.errors import ProfileError
from adaptivenet.toolkit.graph import Block, BlockGraph, Subnet
from adaptivenet.toolkit.prediction import Predictor
from adaptivenet.toolkit.sampling import PathSampler
from graphs import block_graphs, chain, real_costs
from hypothesis import assume, given
from hypothesis import strategies as st


@st.composite
def timed(draw: st.DrawFn) -> tuple[BlockGraph, dict[str, float], list[Subnet]]:
    """A graph, the milliseconds of its blocks, and all its subnets."""
    graph = draw(block_graphs())
    return graph, draw(real_costs(graph)), list(graph.paths())


@given(timed(), st.floats(0.5, 2.0))
def test_a_factor_that_all_subnets_share_is_learned_from_few(
    case: tuple[BlockGraph, dict[str, float], list[Subnet]], factor: float
) -> None:
    _, cost, subnets = case
    whole = {subnet: factor * math.fsum(cost[name] for name in subnet) for subnet in subnets}
    predictor = Predictor(cost, dict(list(whole.items())[:4]))
    for subnet, ms in whole.items():
        predicted, error = predictor.predict(subnet)
        assert predicted == pytest.approx(ms, rel=0.03)
        assert error > 0
        assert predicted == pytest.approx(math.fsum(predictor.ms[name] for name in subnet)), "it adds up"


WIDE = chain(
    8,
    tuple(
        Block(f"{kind}{start}", start, start + span, kind)
        for start in range(8)
        for kind, span in (("merged", 2), ("pruned", 1))
        if start + span <= 8
    ),
)


def truth(
    seed: int, own: float, noise: float, context: float = 0.0
) -> tuple[dict[str, float], dict[Subnet, float], dict[Subnet, list[float]]]:
    """Blocks alone, and 72 subnets whole and in situ.

    Each block costs another share more when it runs in a subnet, and strays by `context` from subnet to subnet.
    """
    rng = random.Random(seed)
    alone = {block.name: rng.uniform(0.5, 3.0) for block in WIDE.blocks}
    inside = {name: ms * (1.1 + rng.gauss(0, own)) for name, ms in alone.items()}
    subnets = dict.fromkeys(PathSampler(WIDE, alone).sample(300, rng))
    chosen = list(subnets)[:72]
    assert len(chosen) == 72
    in_situ = {subnet: [inside[name] * math.exp(rng.gauss(0, context)) for name in subnet] for subnet in chosen}
    whole = {subnet: math.fsum(times) * math.exp(rng.gauss(0, noise)) for subnet, times in in_situ.items()}
    return alone, whole, in_situ


def first(count: int, of: dict[Subnet, Any]) -> dict[Subnet, Any]:
    return dict(list(of.items())[:count])


def errors(predictor: Predictor, whole: dict[Subnet, float]) -> list[float]:
    return [abs(predictor.predict(subnet)[0] - ms) / ms for subnet, ms in whole.items()]


@pytest.mark.parametrize(("own", "noise"), [(0.1, 0.005), (0.0, 0.02), (0.2, 0.02)])
def test_the_stated_error_holds_in_95_of_100_cases(own: float, noise: float) -> None:
    inside = total = 0
    found, plain = [], []
    for seed in range(20):
        alone, whole, _ = truth(seed, own, noise)
        known = first(16, whole)
        predictor = Predictor(alone, known)
        factor = np.median([ms / math.fsum(alone[name] for name in subnet) for subnet, ms in known.items()])
        for subnet, ms in list(whole.items())[16:]:
            predicted, error = predictor.predict(subnet)
            inside += abs(predicted - ms) <= error
            total += 1
            found.append(abs(predicted - ms) / ms)
            plain.append(abs(factor * math.fsum(alone[name] for name in subnet) - ms) / ms)
    assert inside / total >= 0.9
    assert np.median(found) <= 1.1 * np.median(plain), "no worse than the sum times a factor"


def test_more_subnets_predict_better() -> None:
    alone, whole, _ = truth(3, 0.1, 0.005)
    rest = dict(list(whole.items())[40:])

    def mean_error(count: int) -> float:
        return float(np.mean(errors(Predictor(alone, first(count, whole)), rest)))

    assert mean_error(40) < 0.6 * mean_error(2)


@pytest.mark.parametrize(
    ("own", "noise", "context"), [(0.1, 0.005, 0.02), (0.1, 0.02, 0.05), (0.0, 0.02, 0.02), (0.2, 0.005, 0.3)]
)
def test_the_stated_error_holds_with_blocks_in_situ(own: float, noise: float, context: float) -> None:
    inside = total = 0
    without, found = [], []
    for seed in range(20):
        alone, whole, in_situ = truth(seed, own, noise, context)
        known, rest = first(16, whole), dict(list(whole.items())[16:])
        predictor = Predictor(alone, known, first(16, in_situ))
        for subnet, ms in rest.items():
            predicted, error = predictor.predict(subnet)
            assert predicted == pytest.approx(math.fsum(predictor.ms[name] for name in subnet)), "it adds up"
            inside += abs(predicted - ms) <= error
            total += 1
        found += errors(predictor, rest)
        without += errors(Predictor(alone, known), rest)
    assert inside / total >= 0.9
    assert np.median(found) <= 1.05 * np.median(without), "no worse than without"


def test_blocks_in_situ_tell_what_alone_and_whole_cannot() -> None:
    found, without = [], []
    for seed in range(10):
        alone, whole, in_situ = truth(seed, 0.2, 0.002, 0.02)
        rest = dict(list(whole.items())[10:])
        found += errors(Predictor(alone, first(10, whole), first(10, in_situ)), rest)
        without += errors(Predictor(alone, first(10, whole)), rest)
    assert np.median(found) < 0.5 * np.median(without)


@pytest.mark.parametrize("factor", [0.3, 1.1, 3.0])
def test_blocks_in_situ_tell_of_each_other_and_not_how_much_all_take(factor: float) -> None:
    alone, whole, in_situ = truth(0, 0.1, 0.005, 0.02)
    scaled = {subnet: [factor * ms for ms in times] for subnet, times in in_situ.items()}
    expected = Predictor(alone, first(12, whole), first(12, in_situ))
    found = Predictor(alone, first(12, whole), first(12, scaled))
    for subnet in whole:
        assert found.predict(subnet)[0] == pytest.approx(expected.predict(subnet)[0])


@given(timed())
def test_blocks_in_situ_that_say_the_same_change_little(
    case: tuple[BlockGraph, dict[str, float], list[Subnet]],
) -> None:
    _, cost, subnets = case
    whole = {subnet: math.fsum(cost[name] for name in subnet) for subnet in subnets}
    predictor = Predictor(cost, whole, {subnet: [cost[name] for name in subnet] for subnet in subnets[:5]})
    for subnet, ms in whole.items():
        assert predictor.predict(subnet)[0] == pytest.approx(ms, rel=0.01)


@given(timed())
def test_what_was_measured_whole_is_believed(case: tuple[BlockGraph, dict[str, float], list[Subnet]]) -> None:
    graph, cost, subnets = case
    assume(len(subnets) > 1)
    whole = {subnet: 1.2 * math.fsum(cost[name] for name in subnet) for subnet in subnets}
    predictor = Predictor(cost, whole)
    predicted, error = predictor.predict(graph.oracle)
    assert abs(predicted - whole[graph.oracle]) <= error


def test_what_cannot_be_predicted_is_named() -> None:
    graph = chain(2)
    with pytest.raises(ProfileError, match="has no block 'o1'"):
        Predictor({"o0": 1.0}, {graph.oracle: 2.0})
    with pytest.raises(ProfileError, match="take no time"):
        Predictor({"o0": 0.0, "o1": 0.0}, {graph.oracle: 2.0})
    with pytest.raises(ProfileError, match="or from none"):
        Predictor({"o0": 1.0, "o1": 1.0}, {})
    with pytest.raises(ProfileError, match="has no block 'x'"):
        Predictor({"o0": 1.0, "o1": 1.0}, {graph.oracle: 2.0}).predict(["x"])
