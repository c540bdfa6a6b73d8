"""A model whose loads wait, fail, or do not fit: what serves meanwhile, and what it says."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.devices.local.assembler import Assembler, Piece
from adaptivenet.toolkit.devices.local.interpreter import Program
from adaptivenet.toolkit.errors import DeviceError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.serving.loader import Loader, Target
from adaptivenet.toolkit.serving.model import Model
from fronts import POINTS, SLOWEST, X, with_front
from numpy.typing import NDArray
from packs import build_pack

BROKEN = "b1-p50"


def held_up(
    monkeypatch: pytest.MonkeyPatch, when: Callable[[Piece], bool] = lambda piece: True
) -> tuple[threading.Event, threading.Event]:
    """Loads wait: the first event says that one has begun, the second lets them go on."""
    begun, go = threading.Event(), threading.Event()
    load = Assembler.load

    def slow(assembler: Assembler, piece: Piece) -> Program:
        if when(piece):
            begun.set()
            assert go.wait(60)
        return load(assembler, piece)

    monkeypatch.setattr(Assembler, "load", slow)
    return begun, go


def test_inferences_do_not_wait_for_a_load(
    model: Model, outputs: list[NDArray[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = held_up(monkeypatch)
    model.activate(0)
    assert begun.wait(60)
    for _ in range(20):
        np.testing.assert_array_equal(model.infer(X), outputs[SLOWEST])
    status = model.status()
    assert (status.point, status.loading) == (SLOWEST, POINTS[0])
    assert not model.wait(0.01)
    model.activate(1)  # what was wanted last counts
    go.set()
    assert model.wait(60)
    assert model.status().point == 1
    np.testing.assert_array_equal(model.infer(X), outputs[1])


def test_it_can_be_closed_while_it_loads(known: Profile, tiny_pack: BlockPack, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Model.open(tiny_pack, known, "4000000ms")
    begun, go = held_up(monkeypatch)
    opened.activate(0)
    assert begun.wait(60)
    threading.Timer(0.05, go.set).start()
    opened.close()
    with pytest.raises(DeviceError, match="no subnet serves: the model is closed"):
        opened.infer(X)
    with pytest.raises(DeviceError, match="the model is closed"):
        opened.wait()


def test_an_interrupt_while_it_is_closed_leaves_no_load_behind(
    known: Profile, tiny_pack: BlockPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Model.open(tiny_pack, known, "4000000ms")
    begun, go = held_up(monkeypatch)
    opened.activate(0)
    assert begun.wait(60)
    loader = opened._loader
    wait = loader._wait_for_end

    def interrupted() -> None:
        monkeypatch.setattr(loader, "_wait_for_end", wait)
        threading.Timer(0.3, go.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(loader, "_wait_for_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened.close()
    assert not loader._ended.empty()


def damage(pack: BlockPack, block: str) -> None:
    """Change the last byte of a block's artifact."""
    blob = pack.path / pack.artifact(block, "onnx").file
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")


@pytest.fixture
def breaking(tmp_path: Path, profiles: dict[str, Path], tiny_pack: BlockPack) -> Iterator[Model]:
    """A model at its fastest point of a pack one of whose blocks has been damaged since it was opened."""
    pack = build_pack(tmp_path / "pack")
    known = replace(Profile.load(profiles["local:onnxruntime"], tiny_pack), pack=pack.digest)
    with Model.open(pack, with_front(known, 1e6, 2e6, 3e6, 4e6), "1000000ms") as opened:
        damage(pack, BROKEN)
        yield opened


def test_the_next_best_serves_where_a_block_is_damaged_and_it_is_not_tried_again(
    breaking: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[str, ...]] = []
    load = Assembler.load
    monkeypatch.setattr(Assembler, "load", lambda of, piece: (tried.append(piece.blocks), load(of, piece))[1])
    breaking.set_budget("3000000ms")  # points 2 and 1 have the damaged block
    assert breaking.wait(60)
    status = breaking.status()
    assert status.point == 0
    assert status.error is not None
    assert "is damaged" in status.error
    assert status.why == "the controller's choice cannot be loaded"
    breaking.infer(X)
    breaking.set_budget("3100000ms")
    assert breaking.wait(60)
    assert len(tried) == 2, "each once"
    breaking.set_budget("4000000ms")
    assert breaking.wait(60)
    assert breaking.status().point == SLOWEST, "this one has not"


def test_what_is_asked_for_by_name_and_cannot_be_loaded_is_an_error_and_the_old_one_serves_on(breaking: Model) -> None:
    before = breaking.infer(X)
    for _ in range(2):
        breaking.activate(1)
        with pytest.raises(DeviceError, match=r"asked for cannot be loaded: blobs/[0-9a-f]+[.]onnx is damaged"):
            breaking.wait(60)
    np.testing.assert_array_equal(breaking.infer(X), before)
    assert breaking.status().point == 0


def repair(pack: BlockPack, block: str) -> None:
    """Undo `damage`."""
    blob = pack.path / pack.artifact(block, "onnx").file
    whole = next(
        data for end in range(256) if sha256(data := blob.read_bytes()[:-1] + bytes([end])).hexdigest() == blob.stem
    )
    blob.write_bytes(whole)


def test_a_point_that_is_asked_for_by_name_is_tried_again_at_once(breaking: Model) -> None:
    breaking.activate(1)
    with pytest.raises(DeviceError, match="is damaged"):
        breaking.wait(60)
    repair(breaking.pack, BROKEN)
    breaking.activate(POINTS[1])
    assert breaking.wait(60)
    assert breaking.status().point == 1


def test_to_wait_is_no_error_where_something_else_is_wanted_meanwhile(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = held_up(monkeypatch, lambda piece: "b1" in piece.blocks or "b0-m2" in piece.blocks)
    loader, settle = model._loader, Loader._settle

    def settle_and_want(of: Loader, *failure: str | None) -> None:
        """Another thread wants something else just before the one that waits is told."""
        settle(of, *failure)
        if of is loader and of.state.serving == Target(POINTS[1], 1):
            monkeypatch.setattr(Loader, "_settle", settle)
            of.want([Target(POINTS[0], 0)])

    monkeypatch.setattr(Loader, "_settle", settle_and_want)
    model.activate(1)
    assert model.wait(60)
    assert begun.wait(60), "the other one is on its way"
    go.set()
    assert model.wait(60)
    assert model.status().point == 0


NEVER_CLOSED = """
import sys
import threading
from adaptivenet.toolkit import Model
from adaptivenet.toolkit.devices.local.assembler import Assembler

load, loads = Assembler.load, threading.Event()

def slow(of, piece):
    loads.set()
    threading.Event().wait(0.3)
    program = load(of, piece)
    print("loaded", piece.blocks)
    return program

opened = Model.open(sys.argv[1], sys.argv[2])
Assembler.load = slow
opened.activate(next(each for each in (("b0", "b1", "b2"), ("b0-m2", "b2")) if each != opened.status().subnet))
loads.wait(60)
"""


def test_a_program_that_ends_while_a_model_loads_waits_for_the_load(
    profiles: dict[str, Path], tiny_pack: BlockPack
) -> None:
    arguments = [sys.executable, "-c", NEVER_CLOSED, str(tiny_pack.path), str(profiles["local:onnxruntime"])]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout.startswith("loaded")


def test_nothing_that_can_be_loaded_is_an_error_at_once(
    tmp_path: Path, profiles: dict[str, Path], tiny_pack: BlockPack
) -> None:
    pack = build_pack(tmp_path / "pack")
    damage(pack, "b2")
    known = replace(Profile.load(profiles["local:onnxruntime"], tiny_pack), pack=pack.digest)
    with pytest.raises(DeviceError, match=r"cannot be loaded: blobs/[0-9a-f]+[.]onnx is damaged"):
        Model.open(pack, known)


def test_a_memory_limit_is_kept_and_neighbours_are_loaded_ahead_within_it(known: Profile, tiny_pack: BlockPack) -> None:
    plenty = 1.0  # MB; all of the pack takes less
    with Model.open(tiny_pack, known, "3500000ms", memory_mb=plenty) as opened:
        opened.activate(2)
        assert opened.wait(60)
        pager = opened._loader._pager
        neighbours = [opened._loader._assembler.pieces(POINTS[at]) for at in (1, 3)]
        deadline = threading.Event()
        for _ in range(600):
            if not any(pager.missing(pieces) for pieces in neighbours):
                break
            deadline.wait(0.1)
        assert not any(pager.missing(pieces) for pieces in neighbours)
        assert pager.bytes <= plenty * 1e6


def test_where_nothing_else_fits_beside_it_what_serves_is_what_is_waited_for(
    known: Profile, tiny_pack: BlockPack
) -> None:
    backend = "onnx" if known.device["engine"] == "onnxruntime" else "executorch"
    one = sum(tiny_pack.artifact(name, backend).bytes for name in POINTS[SLOWEST])
    with Model.open(tiny_pack, known, "4000000ms", memory_mb=(one + 1) / 1e6) as opened:
        assert opened.status().point == SLOWEST
        opened.set_budget("1500000ms")
        assert opened.wait(60), "the one that serves stays, as in C++"
        status = opened.status()
        assert (status.point, status.why) == (SLOWEST, "the controller's choice cannot be loaded")
        assert status.error is not None
        assert "the limit is" in status.error
        opened.activate(0)
        with pytest.raises(DeviceError, match="what was asked for cannot be loaded: a subnet needs"):
            opened.wait(60)
        assert opened.status().why == "what was asked for cannot be loaded"
        opened.set_budget("4000000ms")
        assert opened.wait(60)
        assert opened.status().why == opened.decision.why


def test_a_limit_that_not_even_one_subnet_fits_is_said(known: Profile, tiny_pack: BlockPack) -> None:
    with pytest.raises(DeviceError, match=r"a subnet needs 0\.0 MB beside the 0\.0 MB that are loaded; the limit is"):
        Model.open(tiny_pack, known, "4000000ms", memory_mb=1e-6)
