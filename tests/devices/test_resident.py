"""The memory that a subnet takes: measured in processes of their own, on every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.local import resident
from adaptivenet.toolkit.errors import GraphError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut
from adaptivenet.toolkit.pack.pack import BlockPack
from engines import ENGINES
from exported_packs import export_pack
from packs import CLASSES, _classifier, _convolutions, build_pack
from runners import bundle_for

WIDTH = 512
GRAPH = BlockGraph(
    [Cut(0, (1, 3, 16, 16)), Cut(1, (1, WIDTH, 16, 16)), Cut(2, (1, WIDTH, 8, 8)), Cut(3, (1, len(CLASSES)))],
    [
        Block("b0", 0, 1, "original", "features.0"),
        Block("b1", 1, 2, "original", "features.1"),
        Block("b2", 2, 3, "original", "classifier"),
        Block("b1-p50", 1, 2, "pruned", "features.1", ratio=0.5),
    ],
)
WEIGHTS_MB = 4 * WIDTH * WIDTH * 9 / 1e6  # of the only block that has many
THIN = ("b0", "b1-p50", "b2")


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> BlockPack:
    """A pack whose original network has 9 MB of weights, and whose pruned one has nearly none."""
    programs = {
        "b0": _convolutions("b0", 0, 1, [(3, WIDTH, 3, 1)], GRAPH),
        "b1": _convolutions("b1", 1, 2, [(WIDTH, WIDTH, 3, 2)], GRAPH),
        "b1-p50": _convolutions("b1-p50", 1, 2, [(WIDTH, 8, 3, 2), (8, WIDTH, 1, 1)], GRAPH),
        "b2": _classifier("b2", 2, GRAPH),
    }
    return export_pack(tmp_path_factory.mktemp("heavy") / "pack", GRAPH, programs)


@pytest.mark.parametrize("address", [*ENGINES, "runner"])
def test_a_subnet_takes_at_least_its_weights(address: str, heavy: BlockPack) -> None:
    told: list[tuple[int, int]] = []
    if address == "runner":
        bundle_for("")
    with connect(address) as device, device.open(heavy) as session:
        x = np.zeros(GRAPH.cuts[0].shape, np.float32)
        session.activate(GRAPH.oracle)  # what is loaded here is not counted, nor taken for free
        session.infer(x)
        whole, thin, again = session.resident_mb([GRAPH.oracle, THIN, GRAPH.oracle], lambda *at: told.append(at))
        assert session.resident.blocks == tuple(GRAPH.oracle)
    assert whole
    assert thin
    assert again
    assert WEIGHTS_MB < whole < 5 * WEIGHTS_MB
    assert WEIGHTS_MB < again < 5 * WEIGHTS_MB
    assert 0 < thin < whole - WEIGHTS_MB / 2
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("address", ENGINES)
def test_several_threads_are_no_reason_to_hang(address: str, tiny_pack: BlockPack) -> None:
    with connect(address, 2, evaluation_threads=3).open(tiny_pack) as session:
        (found,) = session.resident_mb([tiny_pack.graph.oracle])
    assert found is not None
    assert found >= 0


def test_what_does_not_load_is_not_measured(tmp_path: Path) -> None:
    pack = build_pack(tmp_path / "pack")
    artifact = pack.artifact("b1", "onnx")
    (tmp_path / "pack" / artifact.file).write_bytes(bytes(artifact.bytes))
    with connect("local:onnxruntime").open(pack) as session:
        whole, merged = session.resident_mb([pack.graph.oracle, ("b0-m2", "b2")])
        assert whole is None
        assert merged is not None
        with pytest.raises(GraphError):
            session.resident_mb([("b0",)])
        assert session.resident_mb([]) == []


def test_a_system_that_does_not_tell(tiny_pack: BlockPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect("local:onnxruntime").open(tiny_pack) as session:
        for status in (tmp_path / "nothing", tmp_path / "status"):
            monkeypatch.setattr(resident, "_STATUS", status)
            assert session.resident_mb([tiny_pack.graph.oracle] * 2) == [None, None]
            (tmp_path / "status").write_text("VmRSS:\t 12 kB\nRssAnon:\t many kB\n")
