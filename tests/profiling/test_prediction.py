"""Latencies predicted from blocks: they learn from whole subnets, add up, and know how wrong they may be."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.errors import ProfileError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Subnet
from adaptivenet.toolkit.graph.sampling import PathSampler
from adaptivenet.toolkit.profiling.prediction import (
    _IN_SITU,
    _NOISE,
    _OF_BLOCK,
    _OF_INT8,
    _OWNED,
    _SHARED,
    Predictor,
    _Evidence,
    _Fits,
)
from graphs import block_graphs, chain, real_costs, total
from hypothesis import assume, given, settings
from hypothesis import strategies as st


@st.composite
def timed(draw: st.DrawFn) -> tuple[BlockGraph, dict[str, float], list[Subnet]]:
    """A graph, the milliseconds of its blocks, and all its subnets."""
    graph = draw(block_graphs())
    return graph, draw(real_costs(graph)), list(graph.paths())


@settings(deadline=None)
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


@settings(deadline=None)
@given(timed())
def test_blocks_in_situ_that_say_the_same_change_little(
    case: tuple[BlockGraph, dict[str, float], list[Subnet]],
) -> None:
    _, cost, subnets = case
    whole = {subnet: math.fsum(cost[name] for name in subnet) for subnet in subnets}
    predictor = Predictor(cost, whole, {subnet: [cost[name] for name in subnet] for subnet in subnets[:5]})
    for subnet, ms in whole.items():
        assert predictor.predict(subnet)[0] == pytest.approx(ms, rel=0.01)


@settings(deadline=None)
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


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 30), st.randoms(use_true_random=False))
def test_the_short_way_to_all_fits_is_the_plain_one(blocks: int, subnets: int, timed: int, rng: random.Random) -> None:
    """Against the textbook's form of the posterior and its marginal likelihood, with one inverse for each fit."""
    own, constants, noise_in_situ, columns = 0.05, 0.2, 0.03, _OWNED + blocks
    draws = np.random.default_rng(rng.randrange(2**32))
    in_whole = draws.uniform(0, 1, (subnets, columns)) * (np.arange(columns) != _IN_SITU)
    of_block = np.zeros((timed, columns))
    of_block[:, _IN_SITU], of_block[:, _OF_BLOCK] = 1, draws.uniform(0, 2, timed)
    of_block[:, _OF_INT8] = draws.integers(2, size=timed)
    of_block[range(timed), _OWNED + draws.integers(blocks, size=timed)] = 1
    whole = _Evidence(in_whole, draws.uniform(0.8, 1.2, subnets), np.ones(subnets))
    in_situ = _Evidence(of_block, draws.uniform(0.8, 1.2, timed), np.ones(timed))
    fits = _Fits(own, constants, noise_in_situ, whole, in_situ)
    prior = np.array([_SHARED, _SHARED, _SHARED, constants, constants, *[own] * blocks]) ** 2
    rows, over = np.vstack([in_whole, of_block]), np.concatenate([whole.over, in_situ.over])
    for at, noise in enumerate(_NOISE):
        errors = np.array([noise**2] * subnets + [noise_in_situ**2] * timed)
        spread = rows * prior @ rows.T + np.diag(errors)
        covariance = np.linalg.inv(np.diag(1 / prior) + (rows.T / errors) @ rows)
        weights = np.eye(len(_NOISE))[at]
        np.testing.assert_allclose(fits.covariance(weights), covariance, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(fits.corrections[at], covariance @ (rows.T / errors) @ over, rtol=1e-6, atol=1e-9)
        likelihood = -0.5 * (over @ np.linalg.solve(spread, over) + np.linalg.slogdet(spread)[1])
        assert fits.log_likelihood[at] == pytest.approx(likelihood, rel=1e-6, abs=1e-6)


def test_what_int8_blocks_have_in_common_is_learned() -> None:
    """Alone they seem faster than they are next to each other: what is learned of some holds for others."""
    names = [f"{kind}{at}" for kind in ("p", "q") for at in range(8)]
    int8 = tuple(Block(name, int(name[1:]), int(name[1:]) + 1, "pruned", precision="int8") for name in names)
    graph = chain(8, int8)
    alone = {block.name: 1.0 if block.precision == "float32" else 0.4 for block in graph.blocks}
    inside = {block.name: 1.0 if block.precision == "float32" else 0.5 for block in graph.blocks}
    learned = [graph.oracle, graph.subnet([f"p{at}" for at in range(8)])]
    learned += [graph.subnet([f"p{at}" if at < cut else f"o{at}" for at in range(8)]) for cut in (2, 4, 6)]
    predictor = Predictor(alone, {subnet: total(inside, subnet) for subnet in learned})
    others = graph.subnet([f"q{at}" for at in range(8)])
    predicted, within = predictor.predict(others)
    assert predicted == pytest.approx(4.0, rel=0.1), "alone, they take 3.2 together"
    assert abs(predicted - 4.0) <= within
    assert predictor.predict(graph.oracle)[0] == pytest.approx(8.0, rel=0.02)
