"""What a search evaluates subnets with: plans that begin from the features that the plans before have left.

The results are those of one plan for each batch, as `compile_plan` makes it without a cache: only the work differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType

import numpy as np

from ..data import Dataset
from ..devices.base import Evaluation, Session
from ..devices.costs import Progress
from ..errors import ConnectionLost, FeaturesLost, PlanError
from ..graph.graph import Subnet
from ..plan.plan import Plan, compile_plan
from ..plan.prefix_cache import PrefixCache


class Evaluator:
    """Evaluates batches of subnets by `metrics` (see `BlockPack.metrics`) on a session.

    Features take `limit_bytes` at most: those that are kept of all images of all data given so far, and those of the
    image that is being worked on. On a session that keeps none, only the latter. The first of `metrics` says which
    subnets are good: what they share is kept rather than other features. A context manager, which forgets all
    features when it is left.
    """

    def __init__(self, session: Session, metrics: Mapping[str, tuple[str, ...]], limit_bytes: int) -> None:
        self.session = session
        self.metrics = dict(metrics)
        self.limit_bytes = limit_bytes
        self._cache = PrefixCache(session.pack.graph, metrics, limit_bytes) if session.keeps_features else None

    def evaluate(self, subnets: Sequence[Sequence[str]], data: Dataset, progress: Progress | None = None) -> Evaluation:
        """The sums of `subnets`, in this order, on every image of `data`, which may come again with other subnets.

        `progress(done, total)` counts images. Raises PlanError when a single subnet needs more than the limit, and
        what `Session.evaluate` raises; it may be called again then.
        """
        graph = self.session.pack.graph
        asked = [graph.subnet(names) for names in subnets]
        sums = {
            metric: np.empty((len(asked), len(data), len(self.session.pack.sums[metric]))) for metric in self.metrics
        }
        parts, done, block_runs, seconds = [list(range(len(asked)))], 0, 0, 0.0
        while parts:
            part = parts.pop()
            batch = [asked[number] for number in part]
            try:
                plan = self._plan(batch, data)
            except PlanError:
                if len(part) < 2:
                    raise
                # Fewer branches wait at a time. Neighbours in this order share the longest prefixes.
                part.sort(key=lambda number: asked[number])
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue

            def tell(image: int, images: int, before: int = done, of: int = len(part)) -> None:
                if progress:
                    progress((before * images + of * image) // len(asked), images)

            found = self._run(plan, data, tell)
            for metric, values in found.sums.items():
                sums[metric][part] = values
            done += len(part)
            block_runs += found.block_runs
            seconds += found.seconds
        info = self.session.info
        return Evaluation(
            tuple(asked),
            sums,
            len(data),
            block_runs,
            seconds,
            info.engine,
            self.session.evaluation_threads,
            self.session.pack.scored,
        )

    def close(self) -> None:
        """Have the device keep nothing any more. Evaluating afterwards begins anew."""
        if self._cache:
            self._cache.forget()
            self.session.forget()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, ConnectionLost):  # then it has been waited for long enough
            self.close()

    def _plan(self, batch: Sequence[Subnet], data: Dataset) -> Plan:
        if self._cache is None:
            return compile_plan(self.session.pack.graph, batch, self.metrics, self.limit_bytes)
        return self._cache.plan(batch, data.digest, len(data))

    def _run(self, plan: Plan, data: Dataset, progress: Progress) -> Evaluation:
        if self._cache is None:
            return self.session.evaluate(plan, data, progress)
        try:
            found = None
            with suppress(FeaturesLost):  # the device was started anew, or another host has used it
                found = self.session.evaluate(plan, data, progress)
            if found is None:
                self._cache.forget(data.digest)
                plan = self._plan(plan.subnets, data)
                found = self.session.evaluate(plan, data, progress)
        except BaseException:
            self._cache.forget(data.digest)  # of some images more may be kept than of others
            raise
        self._cache.ran(plan, data.digest, self._qualities(found))
        return found

    def _qualities(self, found: Evaluation) -> list[float]:
        """By the first metric; all alike where its sums make no score."""
        first = next(iter(self.metrics))
        if first not in found.scored:
            return [0.0] * len(found.subnets)
        qualities: list[float] = found.scores(first).mean(axis=1).tolist()
        return qualities
