"""Profiles a device: measures its blocks, searches its best subnets, verifies them, and writes it all down.

The pictures are divided once: the search sees one part, the reported quality comes from the other. A subnet's latency
is *predicted* while searching: from its blocks, alone and in some random subnets that are measured whole beside them
(see `block_timing`). The subnets of the front are then *measured* whole, in turn with the oracle, and a budget is met
when the measured latency meets it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from .atomic import write_file
from .block_timing import BlockTiming, time_blocks
from .data import Dataset
from .devices import DeviceInfo, PageIn, Session
from .errors import BudgetError, DataError, DeviceError, ProfileError
from .finalists import FIRST, time_finalists
from .front import Front, FrontPoint
from .graph import BlockGraph, Subnet
from .journal import Journal, JournaledSession
from .latency import Latency, LatencyTable, fastest_and_slowest, of_every_block
from .measuring import Precision, Samples, take_samples
from .pack import BlockPack
from .plan import compile_plan
from .prediction import Predictor
from .quality import Quality
from .search import STRATEGIES, Annealing, Evolutionary, Random, Searched, Strategy, Surrogate, first_look, search

FORMAT = "adaptivenet-profile"
VERSION = 1
Progress = Callable[[str, int, int], None]
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(%|ms)")
_NUMBERS = re.compile(r"\[\n\s+([-+.\deE,\s]+?)\n\s*\]")  # a list of them, a line each
_GRID = 8  # latencies from the fastest subnet to the oracle that are searched, budgets asked for among them
_GENERATIONS = 10
_EVALUATIONS = 20  # unless it is said, or a pack has very many alternatives
_SHARES = (0.98, 1.0)  # of a budget that are searched: what is predicted at its very edge is often measured over it
_PRECISION, _LEAST_ROUNDS = 0.01, 10


@dataclass(frozen=True)
class Budget:
    """A latency budget as it was asked for: `text` is `75%` (of the oracle's measured latency) or `12.5ms`."""

    text: str

    def __post_init__(self) -> None:
        if not _BUDGET.fullmatch(self.text.strip()) or self.ms(1.0) <= 0:
            raise BudgetError(f"{self.text!r} is no latency budget: write it like 75% (of the oracle's) or 12.5ms")

    def ms(self, oracle_ms: float) -> float:
        """The budget in milliseconds, for an oracle that takes `oracle_ms`."""
        match = _BUDGET.fullmatch(self.text.strip())
        assert match
        return float(match[1]) / 100 * oracle_ms if match[2] == "%" else float(match[1])


@dataclass(frozen=True)
class Settings:
    """How to profile. The search may cost as much as `evaluations` subnets on all of `search_images` pictures: a
    strategy that races evaluates more subnets, most of them on a part of the pictures. None: 20, or more where a pack
    has so many alternatives that `surrogate`'s first look at them takes more than a third of that.

    `verify_images` pictures that the search never saw give the reported quality. `rounds` is how often each block and
    each finalist is timed at most: it ends sooner when every median is known to 1% (see `measuring`). `memory_bytes`
    bounds the features that are held while evaluating. Raises BudgetError for a budget that is none, ProfileError for
    another value that makes no sense.
    """

    budgets: tuple[str, ...] = ("75%",)
    metric: str | None = None
    strategy: str = "surrogate"
    evaluations: int | None = None
    search_images: int = 200
    verify_images: int = 200
    rounds: int = 40
    memory_bytes: int = 256 << 20
    seed: int = 0

    def __post_init__(self) -> None:
        for text in self.budgets:
            Budget(text)
        if self.strategy not in STRATEGIES:
            raise ProfileError(f"unknown search strategy {self.strategy!r}: choose from {', '.join(STRATEGIES)}")
        # Two subnets are always evaluated: the oracle and the fastest.
        least = {"evaluations": 2, "search_images": 1, "verify_images": 1, "rounds": 1, "memory_bytes": 1}
        for name, lowest in least.items():
            if (value := getattr(self, name)) is not None and value < lowest:
                raise ProfileError(f"{name} is {value}; it must be at least {lowest}")


@dataclass(frozen=True)
class Choice:
    """What a budget comes to: the point of the front chosen for it, and what it took to page it in for the oracle."""

    budget: str
    budget_ms: float
    point: FrontPoint
    page_in: PageIn

    def to_json(self) -> dict[str, Any]:
        """A plain dict: the point's fields beside the budget's."""
        own = {"budget": self.budget, "budget_ms": self.budget_ms}
        return {**own, **self.point.to_json(), "page_in": self.page_in.to_json()}


@dataclass(frozen=True)
class Profile:
    """All that is known of one device and one pack. `document` is the whole of it as plain data.

    There, a block's `median_ms` is measured, alone; its `in_subnet_ms` is predicted, so that those of a path add up to
    the subnet's `predicted_ms`. `samples` has every timing, by the stage it was taken in, not corrected: `ms` of each
    whole chain, and in the first stage `in_situ`, for each chain of several blocks a list a block.
    """

    pack: str
    device: Mapping[str, Any]
    oracle: Latency
    latency: LatencyTable
    front: Front
    document: Mapping[str, Any] = field(repr=False)
    choices: tuple[Choice, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document, as `save` writes it."""
        return dict(self.document)

    def save(self, path: str | Path) -> None:
        """Writes the profile to the file `path`. Raises ProfileError when it cannot be written."""
        try:
            text = json.dumps(self.document, indent=1, allow_nan=False)
            # A list of numbers takes one line: there are thousands of timings.
            text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
            write_file(Path(path), f"{text}\n".encode())
        except OSError as error:
            raise ProfileError(f"the profile cannot be written to {path}: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: str | Path, pack: BlockPack) -> Profile:
        """Reads what `save` wrote, for the pack that was profiled or a bundle of it.

        Raises ProfileError when it is damaged or was made for another pack than `pack`.
        """
        document = read_document(path)
        try:
            made_for = document["pack"]["digest"]
            if made_for not in (pack.digest, pack.manifest["provenance"].get("bundled from", pack.digest)):
                raise ProfileError(
                    f"{path} was made for another pack ({str(made_for)[:12]}…, this one is {pack.digest[:12]}…): "
                    "profile this one"
                )
            latency = {
                block["name"]: Latency.from_json({key: block[key] for key in ("median_ms", "spread_ms", "repetitions")})
                for block in document["blocks"]
            }
            of_every_block(pack.graph, LatencyTable(latency).ms, "latency")
            device = DeviceInfo(**document["device"])
            oracle = Latency.from_json(document["oracle_latency"])
            front = Front.from_json(pack.graph, document["front"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ProfileError(f"the profile {path} is damaged: {type(error).__name__}: {error}") from error
        if type(device.threads) is not int or device.threads < 1 or not isinstance(device.address, str):
            raise ProfileError(f"the profile {path} is damaged: its device is {str(document['device'])[:120]}")
        if min(oracle.median_ms, front.points[0].latency_ms) <= 0:
            raise ProfileError(f"the profile {path} is damaged: nothing takes 0 ms")
        return cls(made_for, device.to_json(), oracle, LatencyTable(latency), front, document)


def read_document(path: str | Path) -> dict[str, Any]:
    """The document in the file `path`, whatever pack it was made for. Raises ProfileError when it is no profile."""
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ProfileError(f"the profile {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"the profile {path} is not JSON: {error}") from error
    check_format(document, str(path))
    return dict(document)


def check_format(document: object, what: str) -> None:
    """Raises ProfileError, naming `what`, unless the document says that it is a profile of this version."""
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise ProfileError(f"{what} is no profile: it does not say {FORMAT!r}")
    if document.get("version") != VERSION:
        raise ProfileError(f"{what} has version {document.get('version')!r}; this toolkit reads version {VERSION}")


def profile(
    session: Session,
    data: Dataset,
    settings: Settings | None = None,
    *,
    verify: Dataset | None = None,
    journal: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Profile:
    """Measures, searches and verifies on the device of `session`.

    `data` is divided into pictures to search on and pictures to verify on, unless `verify` gives the latter. The metric
    is `top1` where the pack has it and the pictures its labels, else the pack's first that needs none, unless the
    settings name one.

    What the device has answered is kept in the file `journal` as it comes; with `resume`, what is there already is not
    asked again. `progress(stage, done, total)` is called as it goes. Raises BudgetError, naming the fastest subnet, for
    a budget that no subnet meets; DataError when the pictures are too few or lack labels that the metric needs;
    ProfileError when the journal cannot be used.
    """
    if journal is not None:
        about = {"pack": session.pack.digest, "device": session.info.to_json()}
        session = JournaledSession(session, Journal(journal, about, resume))
    return _Profiling(session, data, settings or Settings(), verify, progress).run()


class _Profiling:
    def __init__(
        self,
        session: Session,
        data: Dataset,
        settings: Settings,
        verify: Dataset | None,
        progress: Progress | None,
    ) -> None:
        self.session, self.pack, self.settings = session, session.pack, settings
        self.graph: BlockGraph = session.pack.graph
        self.report = progress or (lambda stage, done, total: None)
        self.budgets = [Budget(text) for text in settings.budgets]
        self.data, self.held_out = divide(data, verify, settings)
        self.metric = choose_metric(self.pack, self.data, settings.metric)
        self.image_evaluations = image_evaluations(self.graph, settings, len(self.data))
        self.seconds: dict[str, float] = {}
        self.conditions: dict[str, Any] = {}
        self.samples: dict[str, Any] = {}
        self.drift = 1.0  # how many times slower the device was when the finalists were timed than for the blocks
        rounds = settings.rounds
        self.precision = Precision(_PRECISION, min(_LEAST_ROUNDS, rounds), rounds)

    def run(self) -> Profile:
        with self._stage("measure"):
            timing = self._measure_blocks()
            predictor = timing.predictor
            targets = self._targets(predictor, timing)
        strategy = self._strategy(predictor.ms, targets)
        with self._stage("search"):
            searched = search(
                self.session,
                strategy,
                self.data,
                self.metric,
                image_evaluations=self.image_evaluations,
                limit_bytes=self.settings.memory_bytes,
                progress=lambda done, total: self.report("search", done, total),
            )
        estimate = strategy.estimate()
        with self._stage(FIRST):
            measured = self._time_finalists(predictor, estimate, targets, timing)
        oracle = measured[self.graph.oracle]
        kept = _front(estimate, measured)
        with self._stage("verify"):
            qualities = self._verify(kept)
        front = Front(self._point(subnet, predictor, measured[subnet], *found) for subnet, found in qualities.items())
        with self._stage("page in"):
            choices = tuple(self._choose(front, budget, oracle.median_ms) for budget in self.budgets)
        return self._document(timing.table, oracle, predictor, searched, front, choices)

    @staticmethod
    def _point(
        subnet: Subnet, predictor: Predictor, latency: Latency, quality: Quality, also: tuple[Quality, ...]
    ) -> FrontPoint:
        predicted, error = predictor.predict(subnet)
        return FrontPoint(
            subnet, predicted, latency.median_ms, latency.spread_ms, latency.repetitions, quality, also, error
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 3)

    def _measure_blocks(self) -> BlockTiming:
        report = partial(self.report, "measure")
        timing = time_blocks(self.session, self.precision, self.settings.seed, report)
        self._keep("measure", timing.samples.to_json(in_situ=True))
        return timing

    def _time_finalists(
        self,
        predictor: Predictor,
        estimate: Mapping[Subnet, float],
        targets: Sequence[float],
        timing: BlockTiming,
    ) -> dict[Subnet, Latency]:
        predicted = {subnet: predictor.predict(subnet)[0] for subnet in estimate}
        budgets = [budget.ms(timing.oracle.median_ms) for budget in self.budgets]
        usual_ms = timing.samples.usual_ms()

        def keep(stage: str, samples: Samples) -> None:
            self._keep(stage, samples.to_json())
            if stage == FIRST:
                self.drift = samples.usual_ms() / usual_ms

        return time_finalists(
            self.session, predicted, estimate, targets, budgets, usual_ms, self.precision, self.report, keep
        )

    def _keep(self, stage: str, samples: Mapping[str, Any]) -> None:
        self.samples[stage] = samples
        if self.session.conditions:
            self.conditions[stage] = self.session.conditions.to_json()

    def _targets(self, predictor: Predictor, timing: BlockTiming) -> list[float]:
        """The predicted latencies to search for: the budgets', and some more over the range where no budget is near.

        Raises BudgetError for a budget below the fastest subnet.
        """
        fastest, _ = fastest_and_slowest(self.graph, predictor.ms)
        oracle, precision = timing.oracle, replace(self.precision, most=self.precision.least)
        timed = take_samples(self.session, [fastest], self.graph.oracle, precision)
        fastest_ms = timed.corrected(timing.samples.usual_ms()).timed[0].latency().median_ms
        first, last = (predictor.predict(subnet)[0] for subnet in (fastest, self.graph.oracle))
        targets = {first, last}
        for budget in self.budgets:
            budget_ms = budget.ms(oracle.median_ms)
            if budget_ms < fastest_ms:
                raise BudgetError(
                    f"no subnet meets a budget of {budget.text} ({budget_ms:.4g} ms): the fastest takes "
                    f"{fastest_ms:.4g} ms, {fastest_ms / oracle.median_ms:.0%} of the oracle's "
                    f"{oracle.median_ms:.4g} ms (measured)"
                )
            targets |= {max(first, share * budget_ms) for share in _SHARES}
        step = (last - first) / (_GRID - 1)
        between = [first + step * number for number in range(1, _GRID - 1)]
        return sorted(targets | {each for each in between if min(abs(each - target) for target in targets) > step / 2})

    def _strategy(self, cost: Mapping[str, float], targets: Sequence[float]) -> Strategy:
        images, seed = len(self.data), self.settings.seed
        each = max(1, self.image_evaluations // images // len(targets))  # where they are shared out among the targets
        match self.settings.strategy:
            case "evolutionary":
                population = max(4, each // _GENERATIONS)
                return Evolutionary(
                    self.graph, cost, targets, images, population=population, generations=_GENERATIONS, seed=seed
                )
            case "annealing":
                return Annealing(self.graph, cost, targets, images, walkers=1, steps=each, seed=seed)
            case "random":
                return Random(self.graph, cost, targets, images, draws=each, seed=seed)
            case _:
                return Surrogate(self.graph, cost, targets, images, seed=seed)

    def _verify(self, subnets: Sequence[Subnet]) -> dict[Subnet, tuple[Quality, tuple[Quality, ...]]]:
        """The quality of subnets on the held-out pictures, by the metric searched for and by the others.

        They come fastest first. Those that do no better there than a faster one are left out; see `_rising`.
        """
        usable = _usable_metrics(self.pack, self.held_out)
        metrics = {
            name: operands for name, operands in self.pack.metrics.items() if name == self.metric or name in usable
        }
        plan = compile_plan(self.graph, subnets, metrics, self.settings.memory_bytes)
        evaluation = self.session.evaluate(plan, self.held_out, lambda done, total: self.report("verify", done, total))
        others = {name: evaluation.quality(name) for name in metrics if name != self.metric}
        sums: list[list[float]] = evaluation.sums[self.metric].sum(axis=1).tolist()
        return {
            subnets[row]: (
                Quality.from_counts(self.metric, correct, sums[row][1], evaluation.images),
                tuple(qualities[row] for qualities in others.values()),
            )
            for row, correct in _rising([correct for correct, _ in sums])
        }

    def _choose(self, front: Front, budget: Budget, oracle_ms: float) -> Choice:
        budget_ms = budget.ms(oracle_ms)
        point = front.best(budget_ms)
        self.session.activate(self.graph.oracle)
        page_in = self.session.activate(point.subnet)
        if self.session.resident.blocks != tuple(point.subnet):
            raise DeviceError(f"the device holds {self.session.resident.blocks} after paging in {point.subnet}")
        self.session.infer(self.held_out.image(0))
        return Choice(budget.text, budget_ms, point, page_in)

    def _document(
        self,
        table: LatencyTable,
        oracle: Latency,
        predictor: Predictor,
        searched: Searched,
        front: Front,
        choices: tuple[Choice, ...],
    ) -> Profile:
        device = self.session.info.to_json()
        document = {
            "format": FORMAT,
            "version": VERSION,
            "pack": {"name": self.pack.name, "digest": self.pack.digest},
            "device": device,
            "conditions": self.conditions,
            "settings": asdict(self.settings),
            "oracle_latency_ms": oracle.median_ms,
            "oracle_latency": oracle.to_json(),
            "blocks": [
                {
                    **{key: getattr(self.graph[name], key) for key in ("name", "start", "end", "kind", "ratio")},
                    **latency.to_json(),
                    "in_subnet_ms": predictor.ms[name],
                }
                for name, latency in table.blocks.items()
            ],
            "search": {"strategy": self.settings.strategy, "metric": self.metric, **asdict(searched)},
            "verify": {"images": len(self.held_out)},
            "front": front.to_json(),
            "chosen": choices[0].to_json() if choices else None,
            "budgets": [choice.to_json() for choice in choices],
            "drift": self.drift,
            "seconds": self.seconds,
            "samples": self.samples,
        }
        return Profile(self.pack.digest, device, oracle, table, front, document, choices)


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
                f"{data.name} has {len(data)} pictures: at least 2 are needed, to search on and to verify on"
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


def image_evaluations(graph: BlockGraph, settings: Settings, images: int) -> int:
    """How often a subnet may meet an image in a search on so many images."""
    if settings.evaluations is not None:
        return settings.evaluations * images
    return max(_EVALUATIONS * images, 3 * first_look(graph, images))


def choose_metric(pack: BlockPack, data: Dataset, wanted: str | None) -> str:
    """The metric to search by. Raises DataError when the pack does not have it, or the pictures lack its labels."""
    if wanted is None:
        usable = _usable_metrics(pack, data)
        if not usable:
            raise DataError(
                f"pack {pack.name!r} has only metrics that need labels of shape {pack.label}: label pictures so"
            )
        return "top1" if "top1" in usable else usable[0]
    if wanted not in pack.metrics:
        raise DataError(f"pack {pack.name!r} has no metric {wanted!r}: it has {', '.join(pack.metrics) or 'none'}")
    if wanted not in _usable_metrics(pack, data):
        has = "none" if data.labels is None else f"some of shape {(1, *data.labels.shape[1:])}"
        raise DataError(
            f"metric {wanted!r} needs labels, and {data.name} has {has}: give each picture one of shape {pack.label}, "
            "or use another metric"
        )
    return wanted


def _usable_metrics(pack: BlockPack, data: Dataset) -> list[str]:
    """The metrics of the pack that need no labels, or whose labels the data has."""
    labelled = data.labels is not None and data.labels.shape[1:] == pack.label[1:]
    return [name for name, operands in pack.metrics.items() if labelled or "label" not in operands]


def _rising(qualities: Sequence[float]) -> list[tuple[int, float]]:
    """Which of a front's points to keep, fastest first, and the quality of each; strictly rising.

    Where a slower point does no better than a faster one it is dropped, and the faster one is given the mean of both:
    that it came out ahead was partly luck. This is isotonic regression by pooling adjacent violators (Barlow and
    others, Statistical Inference under Order Restrictions, 1972), of which each pool's fastest point is kept.
    """
    pools: list[list[float]] = []  # the place of its first, the mean, and the number of points
    for place, quality in enumerate(qualities):
        pools.append([place, quality, 1])
        while len(pools) > 1 and pools[-1][1] <= pools[-2][1]:
            _, mean, count = pools.pop()
            first, before, points = pools[-1]
            pools[-1] = [first, (before * points + mean * count) / (points + count), points + count]
    return [(int(first), mean) for first, mean, _ in pools]


def _front(estimate: Mapping[Subnet, float], measured: Mapping[Subnet, Latency]) -> list[Subnet]:
    """The finalists that are better, by the search's estimate, than everything that was measured to be faster."""
    front: list[Subnet] = []
    for subnet in sorted(measured, key=lambda subnet: (measured[subnet].median_ms, -estimate[subnet])):
        if not front or estimate[subnet] > estimate[front[-1]]:
            front.append(subnet)
    return front
