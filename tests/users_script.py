"""A script as users write them, for `make check`: a strict type checker sees through all of it."""

import time
from pathlib import Path

import numpy as np
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit import (
    AdaptiveNetError,
    BlockPack,
    Budget,
    Budgets,
    Controller,
    Dataset,
    Decision,
    Preprocessing,
    Profile,
    Settings,
    Signals,
    Supernet,
    connect,
    elastify,
    open_data,
    points_of,
    polish,
    profile,
    train,
)
from adaptivenet.toolkit.elastic import Kind, merge, prune


def make(model: torch.nn.Module, pictures: Path) -> BlockPack:
    recipe = Preprocessing(224, 224, 256)
    kinds: list[Kind] = [merge(2), prune(0.5)]
    supernet: Supernet = elastify(model, torch.zeros(1, 3, 224, 224), kinds=kinds, preprocessing=recipe)
    train(supernet, open_data(pictures, recipe, None, supernet.graph.cuts[0]))
    return export_pack(supernet, "pack")


def further(supernet: Supernet, found: Profile, own: Dataset) -> tuple[str, ...]:
    pictures, held_out = own.split((0.9, 0.1), seed=0)
    return polish(supernet, found.front, pictures, held_out).changed


def serve(pack: BlockPack, own: Dataset) -> list[float]:
    with connect("local", threads=2) as device, device.open("pack") as session:
        found: Profile = profile(session, own, Settings(budgets=("75%", "5 ms")))
        limit = Budget("75%").ms(found.reference.median_ms)
        controller = Controller(points_of(found.front), Budgets(limit))
        session.activate(found.choices[0].point.subnet)
        output, ms = session.infer_timed(own.image(0))
        decision: Decision | None = controller.observe(time.monotonic(), ms)
        decision = controller.sense(time.monotonic(), Signals(free_mb=900.0)) or decision
        return [float(np.max(output)), controller.slowdown if decision is None else decision.slowdown]


try:
    pack = make(torch.nn.Identity(), Path("pictures"))
    print(serve(pack, open_data("own", pack.preprocessing, pack.classes, pack.graph.cuts[0])))
except AdaptiveNetError as error:
    print(error)
