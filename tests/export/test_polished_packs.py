"""Exported before and after polishing, only programs of blocks that changed differ: nothing else is pushed again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adaptivenet.export import export_pack
from adaptivenet.toolkit import polish
from adaptivenet.toolkit.elastic import elastify, merge, prune
from adaptivenet.toolkit.graph.front import Front, FrontPoint
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.training.phases import Phase, Training
from small_training import Noise, teacher

pytestmark = pytest.mark.usefixtures("one_thread")


def test_only_programs_of_blocks_that_changed_are_new(tmp_path: Path) -> None:
    net = elastify(teacher(), torch.zeros(1, 3, 12, 12), kinds=[merge(2), prune(0.5)])
    images = torch.from_numpy(Noise(8).images[:, 0])

    def exported(name: str) -> BlockPack:
        return export_pack(net, tmp_path / name, calibrate=images, jobs=1)

    def files(pack: BlockPack) -> dict[tuple[str, str], str]:
        blocks = {
            (block.name, backend): pack.artifact(block.name, backend).file
            for block in pack.graph.blocks
            for backend in pack.backends
        }
        metrics = {
            (name, backend): pack.metric_artifact(name, backend).file
            for name in pack.metrics
            for backend in pack.backends
        }
        return {**blocks, **metrics}

    before = exported("before")
    # As a profile has it: a block in int8 and one in float32.
    subnets = [("b00", "b01-p50-int8", "b02", "b03-int8", "b04"), ("b00", "b01", "b02-m2", "b04")]
    front = Front(FrontPoint(before.graph.subnet(subnet), 1.0) for subnet in subnets)
    training = Training((Phase("subnets", 40, 3e-4, subnets=2),), batch_size=4, calibration_batches=2)
    changed = polish(net, front, Noise(60), Noise(4, 1), training).changed
    assert changed
    after = exported("after")
    old, new = files(before), files(after)
    assert old.keys() == new.keys()
    of_changed = {(name, backend) for name, backend in old if name.removesuffix("-int8") in changed}
    assert {key for key in old if old[key] != new[key]} == of_changed
    assert {name for name, _ in of_changed} == {*changed, *(f"{name}-int8" for name in changed)}
    assert after.digest != before.digest
