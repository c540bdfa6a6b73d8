"""Fixtures that several test modules share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from adaptivenet.export.forks import keep_forks
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.devices.base import Session
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.local.local import LocalDevice
from adaptivenet.toolkit.pack.pack import BlockPack
from engines import ENGINES, Spy
from exported_packs import export_pack, export_picture_pack
from hypothesis import settings
from packs import GRAPH, WIDE, block_programs, build_pack, wide_programs
from phones import adb_environment as adb_environment
from phones import adb_home as adb_home
from phones import adb_server as adb_server
from phones import new_phone as new_phone
from phones import phone_address as phone_address
from phones import skip_without_phone
from phones import virtual_phone as virtual_phone

if TYPE_CHECKING:
    from adaptivenet.toolkit.elastic import Supernet

# How long an example takes says something of the computer, and nothing of what is tested. The examples are the same in
# every run, so that a change is judged by what it changes; `--hypothesis-profile explore` looks for others.
settings.register_profile("the same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("the same")

# An assert in these says as much when it fails as one in a test.
pytest.register_assert_rewrite("commands", "small_training")


def pytest_runtest_setup(item: pytest.Item) -> None:
    skip_without_phone(item)


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """All exports have their workers from one process, which imports what they need once."""
    with keep_forks():
        yield


@pytest.fixture(scope="session")
def picture_pack(tmp_path_factory: pytest.TempPathFactory) -> BlockPack:
    """The pack whose output is a picture, for both backends."""
    return export_picture_pack(tmp_path_factory.mktemp("packs") / "picture")


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory: pytest.TempPathFactory) -> BlockPack:
    """The pack of packs.py for both backends: the same weights as .onnx and, by ExecuTorch's exporter, as .pte."""
    return export_pack(tmp_path_factory.mktemp("packs") / "tiny", GRAPH, block_programs())


@pytest.fixture(scope="session")
def wide_pack(tmp_path_factory: pytest.TempPathFactory) -> BlockPack:
    """The search space `WIDE` of packs.py in the same way: 109 subnets."""
    return export_pack(tmp_path_factory.mktemp("packs") / "wide", WIDE, wide_programs())


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """Sixteen inputs of cut 0's shape, float32, of such strong colours that the oracle sees more than one class."""
    rng = np.random.default_rng(7)
    return (rng.normal(0, 1, (16, 3, 16, 16)) + rng.normal(0, 30, (16, 3, 1, 1))).astype(np.float32)


@pytest.fixture(scope="session")
def labelled(pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the pictures, with the labels 0 to 4."""
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    np.savez(path, images=pictures, labels=np.arange(len(pictures)) % 5)
    return path


@pytest.fixture(scope="session")
def data(tiny_pack: BlockPack, labelled: Path) -> Dataset:
    """The same as a data set for the tiny pack."""
    return open_data(labelled, None, tiny_pack.classes, tiny_pack.graph.cuts[0])


@pytest.fixture(params=ENGINES)
def address(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def session(address: str, tiny_pack: BlockPack) -> Iterator[Session]:
    with connect(address).open(tiny_pack) as session:
        yield session


@pytest.fixture
def spy(address: str) -> Spy:
    from adaptivenet.toolkit.devices.local.executorch_engine import ExecuTorchEngine
    from adaptivenet.toolkit.devices.local.onnxruntime_engine import OnnxRuntimeEngine

    return Spy(ExecuTorchEngine(1) if address == "local:executorch" else OnnxRuntimeEngine(1))


@pytest.fixture
def watched(spy: Spy, tiny_pack: BlockPack) -> Iterator[Session]:
    with LocalDevice("local", spy).open(tiny_pack) as session:
        yield session


@pytest.fixture(scope="session")
def profiles(tiny_pack: BlockPack, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A profile by each engine, made by the command."""
    from adaptivenet.toolkit.cli.profile import main as profile
    from commands import QUICK, call

    paths = {}
    for address in ENGINES:
        paths[address] = tmp_path_factory.mktemp("profiles") / "profile.json"
        given = ("--device", address, "--data", labelled, *QUICK, "--out", paths[address])
        result = call(profile, tiny_pack.path, *given)
        assert result.exit_code == 0, result.output
    return paths


@pytest.fixture
def broken(tmp_path: Path) -> BlockPack:
    """A pack of one's own, to break. It has programs for ONNX Runtime alone."""
    return build_pack(tmp_path / "broken")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own to work in, with a module and some pictures in it."""
    from commands import MODEL

    (tmp_path / "flower_model.py").write_text(MODEL)
    pictures = np.random.default_rng(5).integers(0, 255, (20, 40, 36, 3), dtype=np.uint8)
    np.savez(tmp_path / "pictures.npz", images=pictures, labels=np.arange(20) % 5)
    (tmp_path / "classes.txt").write_text("daisy\npoppy\nrose\ntulip\nviolet\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "flower_model", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def torchvision() -> Any:
    """torchvision, also where its compiled operators do not fit the torch that is installed."""
    from benchmarks.models import allow_torchvision

    allow_torchvision()
    import torchvision

    return torchvision


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread for a module's tests: its own threads get in each other's way on small networks."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def seeded() -> None:
    """Every test draws the same weights, whichever ran before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="module")
def uninterrupted(one_thread: None) -> Supernet:
    """The supernet of small_training.py after its whole run, on one thread as the runs that are compared with it."""
    from adaptivenet.toolkit.training.train import train
    from small_training import SETTINGS, Noise, supernet

    net = supernet()
    train(net, Noise(), SETTINGS)
    return net
