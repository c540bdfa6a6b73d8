"""Blocks that read earlier cuts besides where they start: run, saved, exported, and served on a device."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivenet.export import bundle_pack, export_pack
from adaptivenet.export.calibration import in_int8
from adaptivenet.export.fusing import fuse
from adaptivenet.export.networks import with_networks
from adaptivenet.toolkit.cli.profile import main as profile_command
from adaptivenet.toolkit.cli.run import main as run_command
from adaptivenet.toolkit.data import open_data
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.elastic import Supernet
from adaptivenet.toolkit.errors import ModelError, PackError
from adaptivenet.toolkit.graph.graph import BlockGraph
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plan.plan import compile_plan
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.serving.model import Model
from click.testing import CliRunner
from gated import GRAPH, gated
from packs import edit_manifest

ENGINES = ("local:executorch", "local:onnxruntime")
LATE = ("b0", "b1-p50", "b2", "b3-late")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net() -> Supernet:
    return gated()


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    return torch.randn(3, *GRAPH.cuts[0].shape[1:], generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def pack(net: Supernet, rows: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> BlockPack:
    path = tmp_path_factory.mktemp("packs") / "gated"
    return export_pack(net, path, metrics=("fidelity",), jobs=1, calibrate=rows)


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


def outputs_of(net: Supernet, rows: torch.Tensor, subnet: tuple[str, ...]) -> np.ndarray:
    """What torch computes; of what a pack has and a supernet has not, the float32 blocks that it was made of."""
    path = net.graph.oracle if subnet[0].startswith("whole") else [name.removesuffix("-int8") for name in subnet]
    with torch.no_grad():
        return np.asarray(net(rows, path).numpy())


def test_a_pack_says_what_blocks_read(net: Supernet, pack: BlockPack) -> None:
    again = BlockPack.open(pack.path).graph
    for block in again.blocks:
        if block.kind == "whole":
            assert again.reads(block) == (0,)
        else:
            assert again.reads(block) == net.graph.reads(net.graph[block.twin_of or block.name])
    said = {block["name"]: block.get("reads") for block in pack.manifest["blocks"]}
    assert (said["b0"], said["b1"], said["b3-late"], said["b2-int8"]) == (None, [0], [0, 1], [0])


@pytest.mark.parametrize("address", ENGINES)
def test_every_subnet_infers_and_scores_what_torch_computes(
    net: Supernet, pack: BlockPack, rows: torch.Tensor, address: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "rows.npz", images=rows.numpy())
    data = open_data(tmp_path / "rows.npz", None, None, GRAPH.cuts[0])
    subnets = [*net.graph.paths(), pack.graph.subnet(["whole"])]
    with connect(address).open(pack) as session:
        for subnet in subnets:
            session.activate(subnet)
            for row in rows.split(1):
                expected = outputs_of(net, row, subnet)
                np.testing.assert_allclose(session.infer(row.numpy()), expected, rtol=1e-4, atol=1e-4)
        found = session.evaluate(compile_plan(pack.graph, subnets, pack.metrics), data)
    oracle = outputs_of(net, rows, net.graph.oracle)
    spread = ((oracle - oracle.mean(1, keepdims=True)) ** 2).sum(1)
    for number, subnet in enumerate(subnets):
        expected = np.maximum(0, 1 - ((outputs_of(net, rows, subnet) - oracle) ** 2).sum(1) / spread)
        np.testing.assert_allclose(found.sums["fidelity"][number, :, 0], expected, atol=1e-3)
    assert found.block_runs == len(rows) * (len({path[:end] for path in subnets for end in range(1, len(path) + 1)}))


@pytest.mark.parametrize("address", ENGINES)
def test_blocks_in_int8_read_the_same(net: Supernet, pack: BlockPack, rows: torch.Tensor, address: str) -> None:
    with connect(address).open(pack) as session:
        for subnet in (net.graph.oracle, LATE, ("whole",)):
            int8 = tuple(f"{name}-int8" if f"{name}-int8" in pack.graph else name for name in subnet)
            session.activate(int8)
            expected = outputs_of(net, rows[:1], subnet)
            assert np.abs(session.infer(rows[:1].numpy()) - expected).max() < 0.2 * np.abs(expected).max()


@pytest.mark.parametrize("address", ENGINES)
def test_a_program_that_reads_other_cuts_than_its_pack_says_is_refused(
    pack: BlockPack, address: str, tmp_path: Path
) -> None:
    bundle = bundle_pack(pack, tmp_path / "pack", backend="onnx" if "onnx" in address else "executorch")
    (at,) = (at for at, block in enumerate(bundle.manifest["blocks"]) if block["name"] == "b1")
    edit_manifest(bundle.path, lambda manifest: manifest["blocks"][at].pop("reads"))
    edited = BlockPack.open(bundle.path)
    with connect(address).open(edited) as session, pytest.raises(PackError, match="block 'b1'"):
        session.activate(["b0", "b1", "b2", "b3"])


def test_a_bundle_keeps_what_blocks_read(net: Supernet, pack: BlockPack, rows: torch.Tensor, tmp_path: Path) -> None:
    bundle = bundle_pack(pack, tmp_path / "bundle", backend="onnx", subnets=[LATE])
    assert {block.name: block.reads for block in bundle.graph.blocks} == {
        name: net.graph[name].reads for name in (*GRAPH.oracle, "b1-p50", "b3-late")
    }
    with connect("local:onnxruntime").open(bundle) as session:
        session.activate(LATE)
        expected = outputs_of(net, rows[:1], LATE)
        np.testing.assert_allclose(session.infer(rows[:1].numpy()), expected, rtol=1e-4, atol=1e-4)


def test_a_fused_block_reads_what_its_parts_read(net: Supernet, rows: torch.Tensor) -> None:
    full = with_networks(net)
    graph = BlockGraph(full.graph.cuts, [*full.graph.blocks, *in_int8(full)], full.graph.taps)
    merged = ("b0", "b1-m2", "b3-late")
    made = fuse(full, graph, [merged, ("whole",)])
    assert [cut.shape for cut in made.graph.cuts] == [GRAPH.cuts[at].shape for at in (0, 1, 4)]
    reads = {block.source: block.reads for block in made.graph.blocks if block.start}
    assert reads == {"b1, b2, b3": (0,), "b1-m2, b3-late": (0,)}
    paths = list(made.graph.paths())
    assert len(paths) == 3
    for subnet in (net.graph.oracle, merged, ("whole",)):
        with torch.no_grad():
            torch.testing.assert_close(made.supernet(rows, made.path(subnet)), full(rows, subnet))
    whole_row = fuse(net, net.graph, [])
    assert {block.reads for block in whole_row.graph.blocks} == {(), (0,)}


@pytest.mark.parametrize("address", ENGINES)
def test_from_the_pack_to_serving_with_switches(
    net: Supernet, pack: BlockPack, rows: torch.Tensor, address: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "rows.npz", images=torch.cat([rows] * 2).numpy())
    found = tmp_path / "profile.json"
    given = [str(pack.path), "--device", address, "--data", str(tmp_path / "rows.npz"), "--budget", "1000ms"]
    settings = ["--rounds", "3", "--evaluations", "12", "--search-images", "3", "--out", str(found), "--json"]
    done = CliRunner().invoke(profile_command, [*given, *settings], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert {block["name"] for block in document["blocks"]} == {block.name for block in pack.graph.blocks}
    serve = [str(pack.path), str(found), "--data", str(tmp_path / "rows.npz"), "--budget", "1000ms", "--count", "4"]
    served = CliRunner().invoke(run_command, [*serve, "--json"], catch_exceptions=False)
    assert served.exit_code == 0, served.output
    with Model.open(pack, Profile.load(found, pack), "1000ms") as model:
        for subnet in chain(*([subnet, LATE] for subnet in net.graph.paths())):
            model.activate(subnet)
            assert model.wait(60)
            expected = outputs_of(net, rows[:1], tuple(subnet))
            np.testing.assert_allclose(model.infer(rows[:1].numpy()), expected, rtol=1e-4, atol=1e-4)
