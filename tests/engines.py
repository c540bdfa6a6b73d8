"""The engines of this machine, one that notes what it is asked, and subnets of the tiny pack for it to run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.devices.local.interpreter import Assemble, Engine, Part, Program, Tensor, TensorType
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import Plan, compile_plan

ENGINES = ("local:executorch", "local:onnxruntime")
FAST = ("b0-m2", "b2")
THIN = ("b0-p50", "b1-p50", "b2")


class Spy:
    """A real engine that notes what it is asked: `loads` and `calls` in order, by the names that errors use."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.version, self.backend, self.threads = (
            engine.name,
            engine.version,
            engine.backend,
            engine.threads,
        )
        self.check_threads, self.tensor, self.array = engine.check_threads, engine.tensor, engine.array
        self.assemble: Assemble | None = self.assembled if engine.assemble else None
        self.loads: list[str] = []
        self.calls: list[str] = []

    def load(self, what: str, data: bytes, layout: str, takes: Sequence[TensorType], gives: TensorType) -> Program:
        self.loads.append(what)
        return self.noted([what], self.engine.load(what, data, layout, takes, gives))

    def assembled(self, parts: Sequence[Part], types: Sequence[TensorType]) -> Program:
        assert self.engine.assemble
        names = [part.what for part in parts]
        self.loads += names
        return self.noted(names, self.engine.assemble(parts, types))

    def noted(self, names: Sequence[str], program: Program) -> Program:
        """The program, whose runs are noted as those of its blocks."""

        def run(operands: Sequence[Tensor], keep: bool = True) -> Tensor:
            self.calls += names
            return program(operands, keep)

        return run


def plan_of(pack: BlockPack, subnets: Sequence[Sequence[str]], metrics: Sequence[str] = ("top1", "agreement")) -> Plan:
    return compile_plan(pack.graph, subnets, {metric: pack.metrics[metric] for metric in metrics})


def outputs(session: Session, subnet: Sequence[str], pictures: np.ndarray) -> np.ndarray:
    session.activate(subnet)
    return np.concatenate([session.infer(picture[None]) for picture in pictures])
