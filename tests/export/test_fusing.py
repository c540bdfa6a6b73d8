"""Packs for a known front: which blocks become one, and that the subnets on it compute what they computed."""

from __future__ import annotations

import random
from itertools import chain as joined
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.export import export_pack, exporting
from adaptivenet.export.calibration import cuts_of_one_scale, in_int8
from adaptivenet.export.fusing import Fused, front_of, fuse, stretches_of
from adaptivenet.export.networks import with_networks
from adaptivenet.toolkit import Settings, profile
from adaptivenet.toolkit.cli.run import main as run
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Supernet, elastify, merge, prune, skip
from adaptivenet.toolkit.errors import ExportError, GraphError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.borders import neighbours
from adaptivenet.toolkit.profiling.profile import Profile
from commands import call, document_of
from graphs import block_graphs, chain
from hypothesis import given
from hypothesis import strategies as st
from small_training import Small
from tapped import tapped
from torch import nn

ENGINES = {"executorch": "local:executorch", "onnx": "local:onnxruntime"}

pytestmark = pytest.mark.usefixtures("one_thread")


def test_what_is_only_taken_together_is_one_stretch() -> None:
    graph = chain(6, tuple(Block(f"p{at}", at, at + 1, "pruned") for at in range(6)))
    front = [("p0", "p1", "o2", "o3", "o4", "o5"), ("p0", "p1", "o2", "p3", "p4", "o5")]
    found = stretches_of(graph, front)
    assert set(found) == {("o0", "o1"), ("o2",), ("o3", "o4"), ("o5",), ("p0", "p1"), ("p3", "p4")}
    # The original network ends a block wherever another subnet does.
    assert ("o0",) in stretches_of(graph, [("p0", "o1", "p2", "p3", "p4", "p5")])
    assert stretches_of(graph, []) == [graph.oracle]


def test_precisions_and_taps_are_not_joined() -> None:
    int8 = tuple(Block(f"o{at}-int8", at, at + 1, "original", precision="int8", twin_of=f"o{at}") for at in (2, 3))
    pruned = tuple(Block(f"p{at}", at, at + 1, "pruned") for at in range(4))
    front = [("p0", "p1", "o2-int8", "o3-int8")]
    assert set(stretches_of(chain(4, (*int8, *pruned)), front)) >= {("p0", "p1"), ("o2-int8", "o3-int8")}
    assert set(stretches_of(chain(4, (*int8, *pruned), (1,)), front)) >= {("p0",), ("p1",), ("o0",)}


@given(st.data())
def test_each_subnet_is_a_chain_of_stretches_and_nothing_is_there_twice(data: st.DataObject) -> None:
    graph = data.draw(block_graphs())
    front = data.draw(st.lists(st.sampled_from(list(graph.paths())), max_size=4))
    found = stretches_of(graph, front)
    assert len(set(joined(*found))) == len(list(joined(*found)))
    begins = {stretch[0]: stretch for stretch in found}
    ends = {graph[stretch[-1]].end for stretch in found}
    for path in [graph.oracle, *(path for path in front if path not in graph.networks)]:
        left = tuple(path)
        while left:
            stretch = begins[left[0]]
            assert left[: len(stretch)] == stretch
            left = left[len(stretch) :]
    originals = [stretch for stretch in found if graph[stretch[0]].is_original]
    assert {graph[stretch[-1]].end for stretch in originals} == ends, "one from each cut to the next"
    assert set(graph.taps) <= {0, *ends}


@pytest.fixture(scope="module")
def net() -> Supernet:
    torch.manual_seed(0)
    preprocessing = Preprocessing(16, 16, 16)
    kinds = [merge(2), prune(0.34)]
    return elastify(Small(4).eval(), torch.zeros(1, 3, 16, 16), kinds=kinds, preprocessing=preprocessing)


@pytest.fixture(scope="module")
def blocks(net: Supernet, tmp_path_factory: pytest.TempPathFactory) -> BlockPack:
    """The pack of all blocks, apart."""
    return export_pack(net, tmp_path_factory.mktemp("packs") / "blocks")


def front(net: Supernet) -> list[tuple[str, ...]]:
    """Two subnets that begin alike, the original network, and it as one program."""
    first = ("b00", "b01-p34", "b02-p34", "b03", "b04", "b05")
    return [first, (*first[:3], "b03-m2", "b05"), tuple(net.graph.oracle), ("whole",)]


def exported(
    net: Supernet, subnets: list[tuple[str, ...]], path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[BlockPack, Fused]:
    """The pack for a front of these subnets."""
    full = with_networks(net)
    graph = full.graph
    if "calibrate" in options:
        graph = BlockGraph(graph.cuts, [*graph.blocks, *in_int8(full)], graph.taps)
    points = [SimpleNamespace(subnet=subnet) for subnet in subnets]
    device = {"name": "a phone", "engine": "onnxruntime", "engine_version": "1", "threads": 1}
    made = SimpleNamespace(graph=graph, front=SimpleNamespace(points=points), device=device)
    monkeypatch.setattr(exporting, "Profile", SimpleNamespace(load=lambda path: made))
    return export_pack(net, path, profiles=["p.json"], **options), fuse(full, graph, subnets)


def test_a_pack_for_a_front_computes_the_same_and_has_fewer_bytes(
    net: Supernet, blocks: BlockPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, made = exported(net, front(net), tmp_path / "fused", monkeypatch)
    assert pack.graph.count() < 12
    assert len(pack.graph.cuts) < len(net.graph.cuts)
    assert pack.manifest["provenance"]["fused for"] == "a phone, onnxruntime 1, 1 thread"
    assert {block.source for block in pack.graph.blocks if block.kind == "fused"} >= {"b01-p34, b02-p34"}
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    for address in ENGINES.values():
        with connect(address).open(pack) as session:
            for subnet in front(net):
                session.activate(made.path(subnet))
                with torch.no_grad():
                    expected = net(x, net.graph.oracle if subnet == ("whole",) else subnet).numpy()
                np.testing.assert_allclose(session.infer(x.numpy()), expected, rtol=1e-4, atol=1e-4)
    used = {name for subnet in [*front(net), net.graph.oracle] for name in subnet}
    # An ONNX program is little more than its weights, and in one of several blocks these have longer names.
    for backend, share in (("executorch", 1.0), ("onnx", 1.02)):
        apart = sum(blocks.artifact(name, backend).bytes for name in used)
        assert sum(pack.artifact(block.name, backend).bytes for block in pack.graph.blocks) < share * apart
    with pytest.raises(GraphError, match="the pack was not made for a subnet with 'b01-p34' in this place"):
        made.path(("b00", "b01-p34", "b02", "b03", "b04", "b05"))


def test_a_pack_for_a_front_is_profiled_and_served_like_another(
    net: Supernet, blocks: BlockPack, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).normal(size=(16, 3, 16, 16)).astype(np.float32)
    data = Dataset.from_arrays(images, None, name="noise")
    np.savez(tmp_path / "images.npz", images=images)
    settings = Settings(("1000ms",), evaluations=8, search_images=6, verify_images=6, rounds=6)

    def profiled(pack: BlockPack, name: str) -> Profile:
        with connect("local:onnxruntime").open(pack) as session:
            made = profile(session, data, settings)
        made.save(tmp_path / name)
        return made

    of_blocks = profiled(blocks, "blocks.json")
    pack = export_pack(net, tmp_path / "fused", ["onnx"], profiles=[tmp_path / "blocks.json"])
    networks = {name for point in of_blocks.front.points for name in point.subnet} & {"whole"}
    assert {block.name for block in pack.graph.blocks if block.is_network} == networks
    again = profiled(pack, "fused.json")
    assert again.graph == pack.graph
    document = document_of(
        call(
            run, pack.path, tmp_path / "fused.json", "--data", tmp_path / "images.npz", "--budget", "1000ms",
            "--count", 3, "--json",
        )
    )  # fmt: skip
    assert len(document["answers"]) == 3
    with pytest.raises(ExportError, match=r"fused.json is a profile of another pack"):
        export_pack(net, tmp_path / "no", ["onnx"], profiles=[tmp_path / "fused.json"])
    assert not (tmp_path / "no").exists()


def test_int8_blocks_are_fused_as_int8(net: Supernet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tuple(f"{name}-int8" for name in ("b00", "b01-p34", "b02-p34", "b03", "b04", "b05"))
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    pack, made = exported(
        net, [path, ("whole-int8",)], tmp_path / "pack", monkeypatch, backends=["onnx"], calibrate=images
    )
    assert made.path(path) == ("f00-06-2-int8",)
    assert {block.name for block in pack.graph.blocks} == {"f00-06", "f00-06-2-int8", "whole-int8"}
    assert pack.graph["f00-06-2-int8"].precision == "int8"
    with connect("local:onnxruntime").open(pack) as session, torch.no_grad():
        session.activate(made.path(path))
        expected = net(images[:1], [name.removesuffix("-int8") for name in path]).numpy()
        assert np.abs(session.infer(images[:1].numpy()) - expected).max() < 0.1 * np.abs(expected).max()


def in_both(net: Supernet) -> tuple[Supernet, BlockGraph]:
    """The supernet with its whole network, and its graph with the int8 variants."""
    full = with_networks(net)
    return full, BlockGraph(full.graph.cuts, [*full.graph.blocks, *in_int8(full)], full.graph.taps)


def test_what_is_fused_in_float32_and_int8_is_one_block_and_its_twin(net: Supernet) -> None:
    full, graph = in_both(net)
    originals = tuple(f"{name}-int8" for name in net.graph.oracle)
    pruned = ("b00", "b01-p34", "b02-p34", *net.graph.oracle[3:])
    made = fuse(full, graph, [originals, pruned, tuple(f"{name}-int8" for name in pruned)])
    assert made.path(originals) == ("b00-int8", "f01-03-int8", "f03-06-int8")
    assert {block.name: block.twin_of for block in made.graph.blocks if block.precision == "int8"} == {
        "b00-int8": "b00", "f01-03-int8": "f01-03", "f01-03-2-int8": "f01-03-2", "f03-06-int8": "f03-06",
    }  # fmt: skip
    assert {block.name for block in made.supernet.graph.blocks} == {"b00", "f01-03", "f01-03-2", "f03-06"}
    for block in made.graph.blocks:
        alike = made.graph.in_float32(block) or block
        assert (block.kind, block.source) == (alike.kind, alike.source)
        assert (block.kind == "original") == (block.name.removesuffix("-int8") in made.graph.oracle)
    session: Any = SimpleNamespace(pack=SimpleNamespace(graph=made.graph), stamps_cuts=False)
    assert ("f01-03-int8", "f03-06-int8") in neighbours(session)


def test_original_blocks_that_are_fused_past_a_cut_of_the_pack_are_no_original_block(net: Supernet) -> None:
    full, graph = in_both(net)
    originals = tuple(f"{name}-int8" for name in net.graph.oracle)
    made = fuse(full, graph, [originals, ("b00", "b01-p34", "b02-p34", *net.graph.oracle[3:])])
    (name,) = made.path(originals)
    assert made.graph[name].kind == "fused"
    assert len(made.graph.oracle) > 1


def test_skips_that_are_fused_are_a_skip() -> None:
    net = with_networks(elastify(Small(4).eval(), torch.zeros(1, 3, 16, 16), kinds=[skip()]))
    made = fuse(net, net.graph, [("b00", "b01-skip", "b02-skip", *net.graph.oracle[3:])])
    (fused,) = (block for block in made.graph.blocks if block.name.startswith("f01-03") and not block.is_original)
    assert (fused.kind, fused.source, fused.params) == ("skip", "b01-skip, b02-skip", 0)
    assert [fused.start, fused.end] in cuts_of_one_scale(made.graph)
    x = torch.randn(1, 8, 7, 7)
    torch.testing.assert_close(made.supernet.blocks[fused.name](x), x)


def test_the_names_of_fused_blocks_are_free(net: Supernet) -> None:
    full = with_networks(net, {"f00-06": Small(1), "f00-06-2-int8": Small(2)})
    made = fuse(full, full.graph, [("f00-06",), ("f00-06-2-int8",)])
    assert made.graph.oracle == ("f00-06-3",)
    assert made.path(("f00-06",)) == ("f00-06",)


class Deciding(nn.Module):
    """A block of the user's own that does what its input says, so that it cannot be traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_a_block_that_cannot_be_traced_is_named(net: Supernet) -> None:
    graph = BlockGraph(net.graph.cuts, [*net.graph.blocks, Block("b01-own", 1, 2, "own")], net.graph.taps)
    own = net.with_blocks(graph, {**dict(net.blocks.items()), "b01-own": Deciding()})
    subnet = ("b00", "b01-own", "b02-p34", *net.graph.oracle[3:])
    with pytest.raises(ExportError, match="block 'b01-own' cannot be traced to be joined with others: TraceError: "):
        fuse(own, graph, [subnet])


def test_an_original_block_that_fails_ends_the_export_at_once(
    net: Supernet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def failing(tasks: Any, arguments: Any, jobs: int, done: Any) -> None:
        for program in joined(*(task["programs"] for task in tasks)):
            asked.append(program["name"])
            done(program, {"error": f"block {program['name']} does not export"})

    monkeypatch.setattr(exporting, "run_tasks", failing)
    with pytest.raises(ExportError, match="block b00 does not export"):
        exported(net, front(net)[:2], tmp_path / "pack", monkeypatch, backends=["onnx"])
    assert asked == ["b00"]


def test_a_front_with_what_the_pack_would_not_have_is_refused(net: Supernet) -> None:
    full = with_networks(net)
    int8 = BlockGraph(full.graph.cuts, [*full.graph.blocks, *in_int8(full)])

    def refused(graph: BlockGraph, subnet: tuple[str, ...]) -> str:
        made: Any = SimpleNamespace(graph=graph, front=SimpleNamespace(points=[SimpleNamespace(subnet=subnet)]))
        with pytest.raises(ExportError) as error:
            front_of(made, full.graph, "p.json")
        return str(error.value)

    assert "'whole-int8', which the pack would not have: --int8 and --calibrate make it" in refused(
        int8, ("whole-int8",)
    )
    small = BlockGraph(full.graph.cuts, [*full.graph.blocks, Block("small", 0, full.graph.end, "also")])
    assert "'small', which the pack would not have: --also adds it" in refused(small, ("small",))
    other = BlockGraph(full.graph.cuts, [*full.graph.blocks, Block("b01-x", 1, 2, "pruned")])
    assert "another pack: the supernet has no block 'b01-x'" in refused(other, ("whole",))
    same: Any = SimpleNamespace(graph=int8, front=SimpleNamespace(points=[SimpleNamespace(subnet=("whole",))]))
    assert front_of(same, full.graph, "p.json") == [("whole",)], (
        "int8 blocks that are not on the front are not asked for"
    )


def test_heads_of_a_fused_pack_read_their_taps() -> None:
    net = with_networks(elastify(tapped().eval(), torch.zeros(1, 3, 16, 16), kinds=[skip(), prune(0.5)]))
    paths = [path for path in net.graph.paths() if path not in net.graph.networks]
    subnets = random.Random(0).sample(paths, min(2, len(paths)))
    made = fuse(net, net.graph, subnets)
    assert len(made.graph.taps) == len(net.graph.taps) > 0
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        for subnet in subnets:
            torch.testing.assert_close(made.supernet(x, made.path(subnet)), net(x, subnet))
