"""The model of quality and the paired test: what they are sure of is so, and how sure they are is calibrated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from adaptivenet.toolkit.graph import Block, BlockGraph, Subnet
from adaptivenet.toolkit.search.base import Result
from adaptivenet.toolkit.search.observed import Observed, correlations
from adaptivenet.toolkit.search.quality_model import QualityModel
from adaptivenet.toolkit.search.racing import is_worse
from graphs import block_graphs, chain
from hypothesis import given, settings
from hypothesis import strategies as st


def made(share: float, difficulty: np.ndarray, seed: int, own: float = 0.15) -> np.ndarray:
    """Right where the difficulty, and a little noise of one's own, is low; the share right is exact."""
    order = np.argsort(difficulty + own * np.random.default_rng(seed).standard_normal(len(difficulty)))
    scores = np.zeros(len(difficulty))
    scores[order[: round(share * len(difficulty))]] = 1
    return scores


def space(length: int = 6) -> BlockGraph:
    """Each block has two thinner alternatives; hundreds of paths."""
    return chain(length, tuple(Block(f"p{at}{kind}", at, at + 1, "pruned") for at in range(length) for kind in "ab"))


def truth(graph: BlockGraph, seed: int, misfit: float = 0.01) -> dict[Subnet, float]:
    rng = np.random.default_rng(seed)
    taken = {block.name: 0.0 if block.kind == "original" else rng.uniform(0.01, 0.15) for block in graph.blocks}
    return {
        path: 0.9 * float(np.exp(-sum(taken[name] for name in path) + misfit * rng.standard_normal()))
        for path in graph.paths()
    }


def test_qualities_that_were_not_measured_lie_where_the_model_says() -> None:
    graph, images, inside = space(), 400, []
    for seed in range(8):
        quality = truth(graph, seed)
        rng = np.random.default_rng(seed)
        difficulty = rng.permutation(images) / images
        paths = list(quality)
        rng.shuffle(paths)
        known, unknown = paths[:60], paths[60:160]
        results = [
            Result(path, made(min(1.0, quality[path]), difficulty, number)[: int(rng.choice([32, 64, 400]))])
            for number, path in enumerate(known)
        ]
        posterior = QualityModel(graph, images).fit(results)
        mean, covariance = posterior.log_qualities(unknown)
        away = np.array([np.log(quality[path]) for path in unknown]) - mean
        inside += (np.abs(away) <= 1.96 * np.sqrt(np.diag(covariance))).tolist()
    assert 0.85 <= np.mean(inside) <= 1.0


def test_what_was_measured_on_all_images_that_matter_is_known() -> None:
    graph, images = space(), 200
    quality = truth(graph, 0)
    difficulty = np.random.default_rng(0).permutation(images) / images
    paths = list(quality)[:30]
    scores = [made(quality[path], difficulty, number) for number, path in enumerate(paths)]
    results = [
        Result(path, each[:32] if number % 2 else each) for number, (path, each) in enumerate(zip(paths, scores))
    ]
    expected = dict(zip(paths, np.exp(QualityModel(graph, images).fit(results).log_qualities(paths)[0])))
    for number, path in enumerate(paths):
        if not number % 2:
            assert expected[path] == pytest.approx(scores[number].mean(), abs=1e-4)


def test_the_same_images_tell_two_subnets_apart_better_than_others() -> None:
    graph, images = space(), 100
    difficulty = np.random.default_rng(1).permutation(images) / images
    results = [
        Result(path, made(0.5, difficulty, number, own=0.02))
        for number, path in enumerate(itertools.islice(graph.paths(), 9))
    ]
    noise = Observed(graph, results, None).noise
    apart = noise[0, 0] + noise[1, 1] - 2 * noise[0, 1]
    assert apart < 0.4 * (noise[0, 0] + noise[1, 1])


def test_easy_images_do_not_flatter_those_that_saw_no_others() -> None:
    graph, images = space(), 400
    paths = list(itertools.islice(graph.paths(), 12))
    difficulty = np.random.default_rng(0).permutation(images) / images
    difficulty[:100] *= 0.6  # the first ones are easier
    scores = [made(0.6, difficulty, number, own=0.1) for number in range(len(paths))]
    results = [
        Result(path, each[: 100 if number % 2 else images]) for number, (path, each) in enumerate(zip(paths, scores))
    ]
    assert min(result.quality for result in results[1::2]) > 0.7
    expected = dict(zip(paths, np.exp(QualityModel(graph, images).fit(results).log_qualities(paths)[0])))
    flattered = np.array([result.quality - 0.6 for result in results])
    assert ([expected[path] - 0.6 for path in paths] <= flattered / 2 + 1e-3).all()


def test_of_two_that_look_alike_the_better_known_is_thought_better_of() -> None:
    graph, images = space(), 400
    paths = list(itertools.islice(graph.paths(), 6))
    alike = made(0.6, np.random.default_rng(0).permutation(images) / images, 0)
    seen = [images, 50, images, 50, 100, 200]
    results = [Result(path, alike[:count]) for path, count in zip(paths, seen)]
    thought = QualityModel(graph).fit(results).cautious(paths)
    assert min(thought[paths[0]], thought[paths[2]]) > max(thought[paths[1]], thought[paths[3]])
    assert max(thought.values()) < 0.62


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 99))
def test_the_values_of_a_subnet_make_its_log_quality(seen: list[int], seed: int) -> None:
    graph = space()
    rng = np.random.default_rng(seed)
    results = [Result(path, rng.uniform(0.5, 1, images)) for path, images in zip(graph.paths(), seen)]
    observed = Observed(graph, results, None)
    ends = sorted(set(seen))
    for number, result in enumerate(results):
        lengths = np.diff([0, *(end for end in ends if end <= result.n)])
        assert observed.values[observed.of == number] @ lengths / result.n == pytest.approx(np.log(result.quality))


@given(st.lists(st.integers(1, 40), min_size=2, max_size=8), st.integers(0, 99))
def test_what_all_images_that_matter_say_has_no_error(seen: list[int], seed: int) -> None:
    graph = space()
    rng = np.random.default_rng(seed)
    results = [Result(path, rng.random(images)) for path, images in zip(graph.paths(), [40, *seen])]
    observed = Observed(graph, results, 40)
    first = observed.of == 0
    weights = np.zeros(len(observed.of))
    weights[first] = np.diff([0, *sorted({40, *seen})]) / 40
    assert np.abs(observed.noise @ weights).max() < 1e-6


def test_subnets_that_share_more_blocks_go_together_more() -> None:
    graph, images = space(), 4000
    paths = list(itertools.islice(graph.paths(), 16))
    rng = np.random.default_rng(3)
    of_block = {block.name: rng.standard_normal(images) for block in graph.blocks}
    common = rng.standard_normal(images)
    results = []
    for path in paths:
        own = sum(of_block[name] * np.sqrt((graph[name].end - graph[name].start) / graph.end) for name in path)
        results.append(Result(path, np.clip(0.5 + 0.05 * (np.sqrt(0.3) * common + np.sqrt(0.7) * own), 0, 1)))
    found = correlations(graph, results)
    planted = np.corrcoef([result.scores for result in results])
    assert np.abs(found - planted)[np.triu_indices(len(paths), 1)].max() < 0.08


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_covariances_are_covariances(data: st.DataObject) -> None:
    graph = data.draw(block_graphs())
    paths = list(itertools.islice(graph.paths(), 12))
    population = data.draw(st.sampled_from([None, 40]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    seen = data.draw(st.lists(st.integers(1, 40), min_size=len(paths), max_size=len(paths)))
    scores = rng.integers(0, 2, (len(paths), 40)).astype(float) * data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    results = [Result(path, row[:images]) for path, row, images in zip(paths, scores, seen)]
    model = QualityModel(graph, population)
    assert np.linalg.eigvalsh(Observed(graph, results, population).noise).min() > -1e-9
    assert np.linalg.eigvalsh(model.covariance(paths, paths)).min() > -1e-9
    half = results[: max(1, len(results) // 2)]
    mean, covariance = model.fit(half).log_qualities(paths)
    assert np.isfinite(mean).all()
    assert np.linalg.eigvalsh(covariance).min() > -1e-6
    more = np.diag(model.fit(results).log_qualities(paths)[1])
    assert np.isfinite(more).all()


def test_what_a_block_takes_is_found() -> None:
    graph = chain(3, tuple(Block(f"p{at}", at, at + 1, "pruned") for at in range(3)))
    taken = {"p0": 0.3, "p1": 0.0, "p2": 0.1}
    results = [
        Result(path, np.full(10**4, np.exp(-sum(taken.get(name, 0.0) for name in path)))) for path in graph.paths()
    ]
    model = QualityModel(graph)
    expected, *drawn = model.fit(results).of_blocks(3, np.random.default_rng(0))
    for value in (expected, *drawn):
        assert value == pytest.approx({name: -taken.get(name, 0.0) for name in value}, abs=0.05)
    assert model.fit(results[:1]).of_blocks(0, np.random.default_rng(0))[0]["o0"] == 0.0


SUBNET = chain(1).oracle


@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 200), st.sampled_from([None, 100, 200]))
@settings(max_examples=200, deadline=None)
def test_worse_is_a_strict_order_on_the_images_that_both_saw(
    seed: int, first: int, second: int, population: int | None
) -> None:
    rng = np.random.default_rng(seed)
    one, other = (Result(SUBNET, (rng.random(200) < rng.random()).astype(float)[:n]) for n in (first, second))
    assert not is_worse(one, one, population)
    assert not (is_worse(one, other, population) and is_worse(other, one, population))
    images = min(first, second)
    if is_worse(one, other, population):
        assert one.scores[:images].mean() < other.scores[:images].mean()
    elif population and images >= population:
        assert one.scores[:images].mean() >= other.scores[:images].mean()


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("images", [32, 500])
def test_equals_are_rarely_dropped(share: float, images: int) -> None:
    rng = np.random.default_rng(0)
    dropped = 0
    for _ in range(2000):
        both = rng.random(images) < share * 0.7
        one, other = (both | (rng.random(images) < share * 0.3) for _ in range(2))
        dropped += is_worse(Result(SUBNET, one.astype(float)), Result(SUBNET, other.astype(float)))
    assert dropped <= 2000 * 0.012


def test_the_worse_is_found_out() -> None:
    difficulty = np.random.default_rng(0).permutation(1000) / 1000
    good, bad = Result(SUBNET, made(0.8, difficulty, 1)), Result(SUBNET, made(0.7, difficulty, 2))
    assert is_worse(bad, good)
    assert not is_worse(Result(SUBNET, bad.scores[:16]), good), "16 images are too few"
