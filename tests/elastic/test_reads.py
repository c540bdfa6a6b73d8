"""Blocks that read earlier cuts besides where they start: run, saved, exported, and served on a device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import ModelError
from gated import GRAPH, gated

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net() -> Supernet:
    return gated()


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    return torch.randn(3, *GRAPH.cuts[0].shape[1:], generator=torch.Generator().manual_seed(3))


def by_hand(net: Supernet, rows: torch.Tensor, subnet: tuple[str, ...]) -> torch.Tensor:
    """The blocks one after another, with what each reads written out."""
    features = {0: rows}
    for name in subnet:
        block, module = net.graph[name], net.blocks[name]
        features[block.end] = module(features[block.start], *(features[cut] for cut in block.reads))
    return features[net.graph.end]


def test_a_supernet_gives_blocks_the_cuts_that_they_read(net: Supernet, rows: torch.Tensor) -> None:
    with torch.no_grad():
        outputs = {subnet: net(rows, subnet) for subnet in net.graph.paths()}
        for subnet, output in outputs.items():
            torch.testing.assert_close(output, by_hand(net, rows, subnet), rtol=0, atol=0)
        assert len(outputs) == 8
        known = net.features(rows)
        *_, (_, late) = net.walk(rows, ("b0", "b1", "b2", "b3-late"), known)
    torch.testing.assert_close(late, outputs["b0", "b1", "b2", "b3-late"])


def test_what_blocks_read_is_saved_and_loaded(net: Supernet, rows: torch.Tensor, tmp_path: Path) -> None:
    net.save(tmp_path / "supernet")
    again = Supernet.load(tmp_path / "supernet")
    assert again.graph == net.graph
    assert hash(again.graph) == hash(net.graph)
    for subnet in net.graph.paths():
        torch.testing.assert_close(again(rows, subnet), net(rows, subnet), rtol=0, atol=0)
    document = tmp_path / "supernet" / "supernet.json"
    doc = json.loads(document.read_text())
    for reads, message in ((None, "NoneType"), ([0, 1], "ascending, and before its start"), ([], "does not run")):
        next(block for block in doc["blocks"] if block["name"] == "b1")["reads"] = reads
        document.write_text(json.dumps(doc))
        with pytest.raises(ModelError, match=message):
            Supernet.load(tmp_path / "supernet")


def test_a_supernet_of_before_reads_nothing_besides(net: Supernet, tmp_path: Path) -> None:
    plain = net.without(["b3-late"])
    plain.save(tmp_path / "supernet")
    document = tmp_path / "supernet" / "supernet.json"
    doc = json.loads(document.read_text())
    assert [block["reads"] for block in doc["blocks"] if block["name"] in ("b0", "b2")] == [[], [0]]
    next(block for block in doc["blocks"] if block["name"] == "b0").pop("reads")
    document.write_text(json.dumps(doc))
    assert Supernet.load(tmp_path / "supernet").graph == plain.graph
