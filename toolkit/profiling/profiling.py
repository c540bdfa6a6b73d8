"""Profiles a device: measures its blocks, searches its best subnets, verifies them, and writes it all down.

The pictures are divided once: the search sees one part, the reported quality comes from the other. A subnet's latency
is *predicted* while searching: from its blocks, alone and in some random subnets that are measured whole beside them
(see `block_timing`). The subnets of the front are then *measured* whole, in turn with the oracle, and a budget is met
when the measured latency meets it. Where a good subnet misses a budget by a little, others like it are tried (see
`edges`). What another network takes that is one program, the original in int8 above all, is looked at as a budget is:
whoever could ship that asks what is better and no slower.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..data import Dataset
from ..devices.base import Session
from ..devices.conditions import Conditions
from ..errors import BudgetError, DataError, DeviceError, ProfileError
from ..graph.doubts import nothing_lost
from ..graph.front import Front, FrontPoint
from ..graph.graph import BlockGraph, Subnet
from ..graph.latency import Latency, LatencyTable
from ..graph.profiled import OF_BLOCK
from ..graph.quality import Quality
from ..graph.ticks import fastest_and_slowest
from ..search import Searched, complete, first_look, search, strategy_class, strategy_name
from .block_timing import BLOCKS, LIKELY, BlockTiming, time_blocks
from .budgets import Limits, choose, may_meet, unmet, within_limits
from .costs import ENERGY, MEMORY, energy_rounds, with_energy, with_memory
from .edges import below_edges
from .finalists import EDGES, FIRST, near, time_finalists, time_subnets
from .journal import Journal, JournaledSession
from .measuring import Precision, Samples, take_samples
from .prediction import Predictor
from .profile import FORMAT, VERSION, Choice, Profile
from .settings import Budget, Settings
from .slowing import slowdown
from .trust import original_in_doubt, seen_in_training, trained_on
from .verify import Qualities, choose_metric, divide, left_out, verify_points, worth_verifying

Progress = Callable[[str, int, int], None]

_GRID = 8  # latencies from the fastest subnet to the whole network that are searched, budgets asked for among them
_EVALUATIONS = 20  # unless it is said, or a pack has very many alternatives
_SHARES = (0.98, 1.0)  # of a budget that are searched: what is predicted at its very edge is often measured over it
_PRECISION, _LEAST_ROUNDS = 0.01, 10


def profile(
    session: Session,
    data: Dataset,
    settings: Settings | None = None,
    *,
    verify: Dataset | None = None,
    journal: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Profile:
    """Measures, searches and verifies on the device of `session`.

    `data` is divided into pictures to search on and pictures to verify on, unless `verify` gives the latter. The metric
    is the pack's first that reads labels, where the pictures have them, else its first that needs none, unless the
    settings name one.

    What the device has answered is kept in the file `journal` as it comes; with `resume`, what is there already is not
    asked again. `progress(stage, done, total)` is called as it goes, with a total of 0 where a stage begins; `say` is
    given a line when the device got slower while it was timed, which the profile's `slowdowns` hold too. Raises
    BudgetError, naming the fastest subnet, for a budget that no subnet meets; DataError when the pictures are too few
    or lack labels that the metric needs; ProfileError when the journal cannot be used, or is missing with `resume`.
    """
    if not isinstance(session, Session):
        raise ProfileError(f"a profile is made of a session, as connect(address).open(pack) gives: got {session!r:.80}")
    for pictures in (data, verify):
        if pictures is not None and not isinstance(pictures, Dataset):
            raise DataError(f"the pictures must be a Dataset, as open_data gives: got {pictures!r:.80}")
    if resume and journal is None:
        raise ProfileError("there is nothing to resume without a journal: name the file that the first run wrote")
    kept = None
    if journal is not None:
        about = {"pack": session.pack.digest, "device": session.info.to_json()}
        kept = Journal(journal, about, resume)
        session = JournaledSession(session, kept)
    return _Profiling(session, data, settings or Settings(), verify, progress, kept, say).run()


class _Profiling:
    def __init__(
        self,
        session: Session,
        data: Dataset,
        settings: Settings,
        verify: Dataset | None,
        progress: Progress | None,
        journal: Journal | None,
        say: Callable[[str], None] | None,
    ) -> None:
        self.say = say or (lambda line: None)
        self.journal = journal
        self.session, self.pack, self.settings = session, session.pack, settings
        self.graph: BlockGraph = session.pack.graph
        self.report = progress or (lambda stage, done, total: None)
        self.budgets = [Budget(text, settings.tolerance) for text in settings.budgets]
        self.data, self.held_out = divide(data, verify, settings)
        self.metric = choose_metric(self.pack, self.data, settings.metric)
        self.with_oracle = "oracle" in self.pack.metrics[self.metric]
        self.image_evaluations = image_evaluations(self.graph, settings, len(self.data))
        self.trained_on = trained_on(self.pack, self.held_out)
        self.front_notes: list[dict[str, Any]] = []
        self.original: list[Quality] = []  # of the oracle, on the held-out pictures
        self.seconds: dict[str, float] = {}
        self.conditions: dict[str, Conditions] = {}
        self.slowdowns: dict[str, Any] = {}
        self.samples: dict[str, Any] = {}
        self.drift = 1.0  # how many times slower the device was when the finalists were timed than for the blocks
        rounds = settings.rounds
        self.precision = Precision(_PRECISION, min(_LEAST_ROUNDS, rounds), rounds)

    def run(self) -> Profile:
        rounds = energy_rounds(self.session, self.settings, self.say)
        with self._stage(BLOCKS):
            timing = self._measure_blocks()
            predictor = timing.predictor
            targets = self._targets(predictor, timing)
        images = len(self.data)
        strategy = strategy_class(self.settings.strategy).for_profile(
            self.graph, predictor.ms, targets, images, self.image_evaluations // images, self.settings.seed
        )
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

        def see(subnets: Sequence[Subnet]) -> Mapping[Subnet, float]:
            nonlocal searched
            if subnets:
                searched += complete(
                    self.session,
                    strategy,
                    subnets,
                    self.data,
                    self.metric,
                    limit_bytes=self.settings.memory_bytes,
                    progress=lambda done, total: self.report("see finalists", done, total),
                )
            return strategy.estimate()

        with self._stage(FIRST):
            measured, again = self._time_finalists(predictor, see, list(strategy.estimate()), targets, timing)
        # The same predictions, but how much the device differs between their time and now is known and stated.
        predictor = timing.learn(again | {network: measured[network] for network in self.graph.networks})
        oracle, reference = measured[self.graph.oracle], measured[self.graph.reference]
        if candidates := self._below_edges(timing.learn(again | measured), strategy.estimate(), measured):
            with self._stage("look below edges"):
                measured |= self._time(candidates, measured, see(candidates), timing)
        fastest_first = sorted(measured, key=lambda subnet: measured[subnet].median_ms)
        seen = [strategy.results[subnet] for subnet in fastest_first]
        near_targets = near(targets, {subnet: predictor.predict(subnet)[0] for subnet in measured})
        with self._stage("verify"):
            kept = worth_verifying(seen, near_targets, self.graph.oracle, self.with_oracle)
            results = [strategy.results[subnet] for subnet in kept]
            qualities, networks, self.original = verify_points(
                self.session,
                results,
                self.held_out,
                self.metric,
                self.settings.memory_bytes,
                partial(self.report, "verify"),
            )
            self.front_notes = left_out(near_targets, seen, qualities.keys())
            warnings = self._warnings(predictor.ms, qualities)
        points = {
            subnet: self._point(subnet, predictor, measured[subnet], *found)
            for subnet, found in {**networks, **qualities}.items()
        }
        with self._stage(MEMORY):
            points = with_memory(self.session, points, partial(self.report, MEMORY))
        if rounds:
            with self._stage(ENERGY):
                points = with_energy(self.session, points, rounds, partial(self.report, ENERGY), self.say)
        front = Front(points[subnet] for subnet in qualities)
        whole = [points[subnet] for subnet in networks]
        with self._stage("page in"):
            choices = tuple(self._choose(front, budget, reference.median_ms) for budget in self.budgets)
        return self._document(timing.table, oracle, reference, predictor, searched, front, whole, choices, warnings)

    def _below_edges(
        self, predictor: Predictor, estimate: Mapping[Subnet, float], measured: Mapping[Subnet, Latency]
    ) -> list[Subnet]:
        whole_ms = measured[self.graph.reference].median_ms
        return below_edges(
            self.graph,
            lambda subnet: predictor.predict(subnet)[0],
            {subnet: latency.median_ms for subnet, latency in measured.items()},
            estimate,
            self._limits_ms(whole_ms, {network: latency.median_ms for network, latency in measured.items()}),
        )

    def _limits_ms(self, whole_ms: float, measured_ms: Mapping[Subnet, float]) -> list[float]:
        """The latencies within which the best is wanted: the budgets', and what networks take that are one program and
        see the picture as it is, where these are faster than the whole network, which takes `whole_ms`."""
        budgets = [budget.allowed_ms(whole_ms) for budget in self.budgets]
        others = [network for network in self.graph.networks if self.graph[network[0]].kind != "resized"]
        return budgets + [ms for network in others if (ms := measured_ms[network]) < whole_ms]

    def _time(
        self,
        candidates: Sequence[Subnet],
        measured: Mapping[Subnet, Latency],
        estimate: Mapping[Subnet, float],
        timing: BlockTiming,
    ) -> dict[Subnet, Latency]:
        """What those of the candidates take that are better than the fastest subnet, by the search's estimate."""
        usual_ms = timing.samples.usual_ms()
        fastest = min(measured, key=lambda subnet: measured[subnet].median_ms)
        better = [subnet for subnet in candidates if estimate[subnet] > estimate[fastest]]
        if not better:
            return {}
        found = time_subnets(
            self.session,
            better,
            usual_ms,
            self.precision,
            partial(self.report, EDGES),
            partial(self._keep, EDGES),
        )
        return {subnet: found[subnet] for subnet in better}

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
        """Notes the seconds of a stage: its time now, and what its answers that were known took when they were new."""
        begin, before = time.perf_counter(), self.journal.seconds if self.journal else 0.0
        self.report(name, 0, 0)
        yield
        seconds = time.perf_counter() - begin
        if self.journal:
            seconds = self.journal.stage(name, seconds + self.journal.seconds - before)
        self.seconds[name] = round(seconds, 3)

    def _measure_blocks(self) -> BlockTiming:
        timing = time_blocks(self.session, self.precision, self.settings.seed, self.report)
        self._keep(BLOCKS, timing.samples, in_situ=True)
        self._keep(LIKELY, timing.likely)
        return timing

    def _time_finalists(
        self,
        predictor: Predictor,
        see: Callable[[Sequence[Subnet]], Mapping[Subnet, float]],
        evaluated: Sequence[Subnet],
        targets: Sequence[float],
        timing: BlockTiming,
    ) -> tuple[dict[Subnet, Latency], dict[Subnet, Latency]]:
        known = dict.fromkeys([*evaluated, *self.graph.networks])
        predicted = {subnet: predictor.predict(subnet)[0] for subnet in known}
        networks = {network: predicted[network] for network in self.graph.networks}
        limits = self._limits_ms(timing.reference.median_ms, networks)
        usual_ms = timing.samples.usual_ms()

        def keep(stage: str, samples: Samples) -> None:
            self._keep(stage, samples)
            if stage == FIRST:
                self.drift = samples.usual_ms() / usual_ms

        def predict_again(measured: Mapping[Subnet, Latency]) -> Callable[[Subnet], float]:
            learned = timing.learn(measured)
            return lambda subnet: learned.predict(subnet)[0]

        return time_finalists(
            self.session,
            predicted,
            see,
            targets,
            limits,
            usual_ms,
            self.precision,
            timing.controls,
            predict_again,
            self.report,
            keep,
        )

    def _keep(self, stage: str, samples: Samples, in_situ: bool = False) -> None:
        """Keeps the timings of a stage, what the device was like, and whether it got slower, which is said at once."""
        self.samples[stage] = samples.to_json(in_situ)
        self._keep_conditions(stage, samples)
        if found := slowdown(samples.anchor.ms):
            self.slowdowns[stage] = found.to_json()
            self.say(f"warning: {found.in_words(stage, self.conditions.get(stage))}")

    def _keep_conditions(self, stage: str, samples: Samples) -> None:
        known = [each for each in (self.conditions.get(stage), samples.conditions) if each]
        if known:
            self.conditions[stage] = Conditions.over_all(known)

    def _targets(self, predictor: Predictor, timing: BlockTiming) -> list[float]:
        """The predicted latencies to search for: those of `_limits_ms`, and some over the range where none is near.

        A budget in percent is a share of what the whole network takes: here, when it was timed beside the blocks.
        Nothing slower than that is searched for. What is chosen goes by its timing among the finalists. Raises
        BudgetError for a budget that is surely below the fastest subnet.
        """
        fastest, _ = fastest_and_slowest(self.graph, predictor.ms)
        reference, precision = timing.reference, replace(self.precision, most=self.precision.least)
        timed = take_samples(self.session, [fastest], self.graph.oracle, precision)
        self._keep_conditions(LIKELY, timed)
        latency = timed.corrected(timing.samples.usual_ms()).timed[0].latency()
        if fastest == self.graph.reference or latency.median_ms > reference.median_ms:
            latency = reference
        first, last = (predictor.predict(subnet)[0] for subnet in (fastest, self.graph.reference))
        targets = {first, last}
        for budget in self.budgets:
            allowed_ms = budget.allowed_ms(reference.median_ms)
            if not may_meet(latency.median_ms, latency.half_width_ms, allowed_ms):
                raise BudgetError(unmet(budget, latency.median_ms, reference.median_ms))
        networks = {network: predictor.predict(network)[0] for network in self.graph.networks}
        limits = self._limits_ms(reference.median_ms, networks)
        targets |= {max(first, share * limit_ms) for limit_ms in limits for share in _SHARES}
        step = (last - first) / (_GRID - 1)
        between = [first + step * number for number in range(1, _GRID - 1)]
        return sorted(targets | {each for each in between if min(abs(each - target) for target in targets) > step / 2})

    def _warnings(self, cost: Mapping[str, float], qualities: Mapping[Subnet, Qualities]) -> tuple[str, ...]:
        """What makes the quality that is reported doubtful, a sentence each."""
        fastest, _ = fastest_and_slowest(self.graph, cost)
        found = seen_in_training(self.pack, self.trained_on, len(self.held_out))
        found += original_in_doubt(self.session, self.data, self.original, self.metric)
        if (
            fastest in qualities
            and fastest != self.graph.oracle
            and (doubt := nothing_lost(qualities[fastest][0], self.with_oracle))
        ):
            found.append(doubt)
        return tuple(found)

    def _choose(self, front: Front, budget: Budget, whole_ms: float) -> Choice:
        limits = Limits(self.settings.memory_limit_mb, self.settings.energy_limit_mj)
        point = choose(within_limits(front, limits), budget, whole_ms, limits)
        self.session.activate(self.graph.oracle)
        page_in = self.session.activate(point.subnet)
        if self.session.resident.blocks != tuple(point.subnet):
            raise DeviceError(f"the device holds {self.session.resident.blocks} after paging in {point.subnet}")
        self.session.infer(self.held_out.image(0))
        return Choice(budget.text, budget.ms(whole_ms), point, page_in, budget.tolerance)

    def _document(
        self,
        table: LatencyTable,
        oracle: Latency,
        reference: Latency,
        predictor: Predictor,
        searched: Searched,
        front: Front,
        whole: Sequence[FrontPoint],
        choices: tuple[Choice, ...],
        warnings: tuple[str, ...],
    ) -> Profile:
        document = {
            "format": FORMAT,
            "version": VERSION,
            "pack": {"name": self.pack.name, "digest": self.pack.digest},
            "device": self.session.info.to_json(),
            "conditions": {stage: conditions.to_json() for stage, conditions in self.conditions.items()},
            "slowdowns": self.slowdowns,
            "settings": {**asdict(self.settings), "strategy": strategy_name(self.settings.strategy)},
            "oracle_latency_ms": oracle.median_ms,
            "oracle_latency": oracle.to_json(),
            "reference": {"subnet": list(self.graph.reference), **reference.to_json()},
            "blocks": [
                {
                    **{key: getattr(self.graph[name], key) for key in OF_BLOCK},
                    **latency.to_json(),
                    "in_subnet_ms": predictor.ms[name],
                }
                for name, latency in table.blocks.items()
            ],
            "search": {"strategy": strategy_name(self.settings.strategy), "metric": self.metric, **asdict(searched)},
            "verify": {"images": len(self.held_out), "trained_on": self.trained_on},
            "warnings": list(warnings),
            "front": front.to_json(),
            "whole": [point.to_json() for point in whole],
            "front_notes": self.front_notes,
            "chosen": choices[0].to_json() if choices else None,
            "budgets": [choice.to_json() for choice in choices],
            "drift": self.drift,
            "seconds": self.seconds,
            "samples": self.samples,
        }
        # Through JSON, as it will be read again: there is one reader.
        return Profile.from_json(json.loads(json.dumps(document, allow_nan=False)), self.pack)


def image_evaluations(graph: BlockGraph, settings: Settings, images: int) -> int:
    """How often a subnet may meet an image in a search on so many images."""
    if settings.evaluations is not None:
        return settings.evaluations * images
    return max(_EVALUATIONS * images, 3 * first_look(graph, images))
