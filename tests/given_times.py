"""A local device whose blocks take what a test says: what is under test is what follows from times, not the times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from adaptivenet.toolkit.devices.local.local import LocalSession


def give_times(monkeypatch: pytest.MonkeyPatch, cost: Mapping[str, float], factor: float = 1.0) -> None:
    """Blocks take `cost[name]` ms wherever they are measured. Every chain but the last, the anchor, takes `factor` of
    it. What blocks compute is the engine's."""

    def measure(
        session: LocalSession, chains: Sequence[Sequence[Any]], rounds: int, warmup: int, *_: Any
    ) -> list[list[list[float]]]:
        factors = [factor] * (len(chains) - 1) + [1.0]
        return [[[by * cost[block.name]] * rounds for block in chain] for chain, by in zip(chains, factors)]

    monkeypatch.setattr(LocalSession, "_measure", measure)
