"""What is reported of quality: which pictures verify, by which metric, and which points stay on the front."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..data import Dataset
from ..devices.base import Session
from ..errors import DataError
from ..graph.graph import Subnet
from ..graph.quality import Quality
from ..pack.pack import BlockPack
from ..plan.plan import compile_plan
from ..plurals import number_of
from ..search import Result
from ..search.racing import is_worse
from .settings import Settings

Qualities = tuple[Quality, tuple[Quality, ...]]
"""By the metric that was searched for, and by the others."""


def divide(data: Dataset, verify: Dataset | None, settings: Settings) -> tuple[Dataset, Dataset]:
    """The pictures to search on and those to verify on, disjoint; at most as many as the settings say.

    Where there are too few for both, they are shared out in the proportion of the settings. Raises DataError when
    pictures are in both.
    """
    given = verify is not None
    if verify is None:
        wanted = settings.search_images + settings.verify_images
        if len(data) < 2:
            raise DataError(
                f"{data.name} has {number_of(len(data), 'picture')}: at least 2 are needed, to search on and to "
                f"verify on"
            )
        drawn = data.take(min(wanted, len(data)), settings.seed)
        first = min(max(1, round(len(drawn) * settings.search_images / wanted)), len(drawn) - 1)
        data, verify = drawn.subset(range(first)), drawn.subset(range(first, len(drawn)))
    searched = data.take(min(settings.search_images, len(data)), settings.seed)
    held_out = verify.take(min(settings.verify_images, len(verify)), settings.seed)
    if given and (shared := searched.shared_with(held_out)):
        raise DataError(
            f"{shared} of the {len(searched)} pictures of {data.name} to search on are among those of {verify.name} to "
            "verify on: quality must come from pictures that the search never saw"
        )
    return searched, held_out


def choose_metric(pack: BlockPack, data: Dataset, wanted: str | None) -> str:
    """The metric to search by. Raises DataError when the pack does not have it, or the pictures lack its labels."""
    if wanted is None:
        usable = usable_metrics(pack, data)
        if not usable:
            raise DataError(
                f"pack {pack.name!r} has only metrics that need labels of shape {pack.label}: label pictures so"
                if pack.scored
                else f"pack {pack.name!r} has no metric that makes a score: export it with one (--metric)"
            )
        return next((name for name in usable if "label" in pack.metrics[name]), usable[0])
    if wanted not in pack.metrics:
        raise DataError(f"pack {pack.name!r} has no metric {wanted!r}: it has {', '.join(pack.metrics) or 'none'}")
    if wanted not in pack.scored:
        raise DataError(f"metric {wanted!r} of pack {pack.name!r} gives sums that make no score: use another one")
    if wanted not in usable_metrics(pack, data):
        has = "none" if data.label_shape is None else f"some of shape {(1, *data.label_shape)}"
        because = f" ({'; '.join(data.notes)})" if data.notes else ""
        raise DataError(
            f"metric {wanted!r} needs labels, and {data.name} has {has}{because}: give each picture one of shape "
            f"{pack.label}, or use another metric"
        )
    return wanted


def usable_metrics(pack: BlockPack, data: Dataset) -> list[str]:
    """The metrics of the pack that make a score, and that need no labels or whose labels the data has."""
    labelled = data.label_shape == pack.label[1:]
    return [name for name in pack.scored if labelled or "label" not in pack.metrics[name]]


def rising(qualities: Sequence[float]) -> list[float]:
    """The qualities of a front's points, fastest first, made to never fall.

    Where a slower point does no better than a faster one both are given their mean: that the faster one came out ahead
    was partly luck. This is isotonic regression by pooling adjacent violators (Barlow and others, Statistical Inference
    under Order Restrictions, 1972).
    """
    pools: list[tuple[float, int]] = []  # the mean, and the number of points
    for quality in qualities:
        pools.append((quality, 1))
        while len(pools) > 1 and pools[-1][0] <= pools[-2][0]:
            mean, count = pools.pop()
            before, points = pools.pop()
            pools.append(((before * points + mean * count) / (points + count), points + count))
    return [mean for mean, count in pools for _ in range(count)]


def surely_beaten(results: Sequence[Result], oracle: Subnet, with_oracle: bool = False) -> dict[Subnet, Subnet]:
    """Of points, fastest first, those that a faster one is surely better than (see `racing`), and which that is.

    The results are on the same pictures. The oracle, which everything is compared with, stays in any case.
    `with_oracle`: the metric says how near a subnet's output is to the oracle's. Then what did worse than the oracle
    on any picture is worse: the oracle's own quality is no draw.
    """
    beaten: dict[Subnet, Subnet] = {}
    kept: list[Result] = []

    def beats(faster: Result, result: Result) -> bool:
        if with_oracle and faster.subnet == oracle:
            return result.quality < faster.quality
        return is_worse(result, faster)

    for result in results:
        better = [faster for faster in kept if beats(faster, result)]
        if better and result.subnet != oracle:
            beaten[result.subnet] = max(better, key=lambda faster: faster.quality).subnet
        else:
            kept.append(result)
    return beaten


def worth_verifying(
    seen: Sequence[Result], near: Mapping[float, Collection[Subnet]], oracle: Subnet, with_oracle: bool = False
) -> list[Subnet]:
    """The points of a front by what the search saw, fastest first: whatever did better than all that is faster, and the
    best near each target latency, without those that a faster one is surely better than; and the oracle.

    `seen` is fastest first, all on the same pictures; `near` is of each target the subnets near it; `with_oracle` as in
    `surely_beaten`.
    """
    beaten = surely_beaten(seen, oracle, with_oracle)
    open_ones = [result for result in seen if result.subnet not in beaten]
    wanted = {oracle}
    for some in near.values():
        among = [result for result in open_ones if result.subnet in some]
        wanted |= {max(among, key=lambda result: result.quality).subnet} if among else set()
    best, kept = -math.inf, []
    for result in open_ones:
        if result.quality > best or result.subnet in wanted:
            kept.append(result.subnet)
        best = max(best, result.quality)
    return kept


def left_out(
    near: Mapping[float, Collection[Subnet]], seen: Sequence[Result], front: Collection[Subnet]
) -> list[dict[str, Any]]:
    """The targets that have no point of the front near them, because a faster one is surely better: of each the
    `target_ms`, the best `subnet` near it, and the one that it is `beaten_by`."""
    of = {result.subnet: result for result in seen}
    found = []
    for target, some in near.items():
        among = [of[subnet] for subnet in some if subnet in of]
        if among and not set(some) & set(front):
            best = max(among, key=lambda result: result.quality)
            faster = [of[subnet] for subnet in front if seen.index(of[subnet]) < seen.index(best)]
            if faster:
                by = max(faster, key=lambda result: result.quality)
                found.append({"target_ms": target, "subnet": list(best.subnet), "beaten_by": list(by.subnet)})
    return found


def verify_points(
    session: Session,
    points: Sequence[Result],
    held_out: Dataset,
    metric: str,
    memory_bytes: int,
    progress: Callable[[int, int], None],
) -> tuple[dict[Subnet, Qualities], dict[Subnet, Qualities], list[Quality]]:
    """The quality of a front's points on the held-out pictures, by the metric searched for and by the others; that of
    the networks that are one program, whether they are among these or not; and the oracle's by each metric.

    They come fastest first, with what the search saw of them. Those that are surely worse than a faster one, on all
    pictures together, are left out; see `surely_beaten`. The searched ones have qualities that never fall, see
    `rising`; networks those that they were seen to have.
    """
    pack, graph = session.pack, session.pack.graph
    usable = usable_metrics(pack, held_out)
    metrics = {name: operands for name, operands in pack.metrics.items() if name == metric or name in usable}
    subnets = list(dict.fromkeys([*(point.subnet for point in points), *graph.networks]))
    plan = compile_plan(graph, subnets, metrics, memory_bytes)
    evaluation = session.evaluate(plan, held_out, progress)
    original = [evaluation.quality(name)[subnets.index(graph.oracle)] for name in metrics]
    others = {name: evaluation.quality(name) for name in metrics if name != metric}
    scores = evaluation.scores(metric)
    together = [Result(point.subnet, np.concatenate([point.scores, row])) for point, row in zip(points, scores)]
    beaten = surely_beaten(together, graph.oracle, "oracle" in pack.metrics[metric])
    rows = [row for row, point in enumerate(points) if point.subnet not in beaten]
    found = evaluation.quality(metric)
    # The subnets make up a curve, but an oracle that is surely worse than something faster stands beside it. Networks
    # were there before the search: that one came out ahead was not the luck of being chosen for it.
    searched = [row for row in rows if points[row].subnet not in graph.networks]
    of_curve = [row for row in searched if not any(is_worse(together[row], each) for each in together[:row])]
    curve = dict(zip(of_curve, rising([found[row].value for row in of_curve]), strict=True))

    def qualities(row: int) -> Qualities:
        reported = curve.get(row, found[row].value)
        own = Quality.from_images(metric, scores[row], evaluation.scored[metric], reported)
        return own, tuple(each[row] for each in others.values())

    networks = {subnet: qualities(subnets.index(subnet)) for subnet in graph.networks}
    return {subnets[row]: qualities(row) for row in rows}, networks, original
