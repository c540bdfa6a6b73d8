"""Exports that fail: programs that do not export, workers that die or cannot be started, interrupts; nothing stays."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from adaptivenet.export import export_pack
from adaptivenet.export.forks import Forks, keep_forks
from adaptivenet.export.programs import Exporter, export_program
from adaptivenet.export.workers import run_tasks
from adaptivenet.toolkit.elastic import Kind, Supernet, elastify, merge, prune, skip
from adaptivenet.toolkit.errors import ExportError
from adaptivenet.toolkit.pack.pack import BlockPack
from small_training import Residual, Small
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net() -> Supernet:
    return elastify(Small(2).eval(), torch.zeros(1, 3, 16, 16), kinds=[merge(2), prune(0.34)])


class Unexportable(Residual):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.linalg.eigvals(x.mean(1) + torch.eye(x.shape[-1])).real.mean()


class Spectrum(nn.Module):
    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        return torch.stft(sound, 16, 8, window=torch.ones(16), return_complex=True).abs()


def test_where_a_backend_has_no_complex_numbers_the_error_says_what_to_do() -> None:
    exporter = Exporter(Spectrum(), [torch.rand(1, 64)])
    assert exporter.export("the spectrum", "onnx").tolerance is not None
    with pytest.raises(ExportError, match=r"spectrum does not export to executorch: .* Operator: .*complex numbers"):
        exporter.export("the spectrum", "executorch")


def test_a_block_that_does_not_export_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    model = Small(2)
    model.blocks = nn.Sequential(Residual(), Residual(), Unexportable(), Unexportable())
    net = elastify(model.eval(), torch.zeros(1, 3, 16, 16), kinds=[skip()])
    name = next(block.name for block in net.graph.blocks if "blocks.2" in block.source)
    with pytest.raises(
        ExportError, match=f"block '{name}' does not export to onnx: .*; the block is blocks.2 of the model$"
    ):
        export_pack(net, tmp_path / "pack", ["onnx"], jobs=1)
    with pytest.raises(ExportError, match=r"; the block is .* of the model; --backend \w+ makes a pack without \w+$"):
        export_pack(net, tmp_path / "pack", ["onnx", "executorch"], jobs=1)
    assert not list(tmp_path.iterdir())


def test_a_pack_that_cannot_be_profiled_is_told_so(tmp_path: Path) -> None:
    model = Small(2)
    model.head = nn.Linear(model.head.in_features, 1)
    said: list[str] = []
    of_one = elastify(model.eval(), torch.zeros(1, 3, 16, 16), kinds=[skip()])
    export_pack(of_one, tmp_path / "pack", ["onnx"], jobs=1, say=said.append)
    assert ["--metric l1=PEAK" in line for line in said] == [True]
    pack = export_pack(
        of_one, tmp_path / "scored", ["onnx"], jobs=1, metrics=["l1=3"], reuse=tmp_path / "pack", say=said.append
    )
    assert len(said) == 1
    assert list(pack.scored) == ["l1"]


def test_a_program_that_its_engine_does_not_run_is_told_apart_from_one_that_does_not_export() -> None:
    with pytest.raises(ExportError, match=r"^block 'b00' exports to executorch but does not run there: "):
        export_program("block 'b00'", nn.Conv3d(3, 4, 3).eval(), [torch.randn(1, 3, 4, 8, 8)], "executorch")


def test_a_supernet_of_one_path_is_not_exported_unless_int8_makes_it_several(tmp_path: Path) -> None:
    rigid = elastify(Small(2).eval(), torch.zeros(1, 3, 16, 16), kinds=[])
    with pytest.raises(ExportError, match="has one path, so there would be nothing to choose"):
        export_pack(rigid, tmp_path / "pack", ["onnx"], jobs=1)
    assert not list(tmp_path.iterdir())
    pack = export_pack(rigid, tmp_path / "pack", ["onnx"], jobs=1, calibrate=torch.randn(4, 3, 16, 16))
    assert pack.graph.of_blocks.count() > 1


@pytest.mark.parametrize("forked", [True, False])
def test_a_worker_that_is_killed_leaves_nothing(
    forked: bool, net: Supernet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptivenet.export.workers.FORKS", forked)

    def kill(done: int, total: int, what: str) -> None:
        for process in workers():
            os.kill(process, signal.SIGKILL)

    with pytest.raises(ExportError, match=r"a worker died with status -9 while exporting .* to onnx"):
        export_pack(net, tmp_path / "pack", ["onnx"], jobs=1, progress=kill)
    assert not list(tmp_path.iterdir())
    assert not workers()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("jobs", [1, 2])
def test_where_no_worker_can_be_started_any_more_every_program_has_an_answer(
    monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    start, started = subprocess.Popen, []

    def without_memory(command: list[str], **options: Any) -> subprocess.Popen[str]:
        if started:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        started.append(start([sys.executable, "-c", "raise SystemExit('no memory')"], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", without_memory)
    programs = [{"id": str(at), "name": f"b{at // 2:02d}", "backend": "onnx"} for at in range(8)]
    tasks = [{"block": f"b{at:02d}", "programs": programs[2 * at : 2 * at + 2]} for at in range(4)]
    errors: dict[str, str] = {}
    with keep_forks():  # its own, which is not running yet
        run_tasks(tasks, [], jobs, lambda program, answer: errors.update({program["id"]: answer["error"]}))
    assert sorted(errors) == [program["id"] for program in programs]
    died = [error for error in errors.values() if error.startswith("a worker died with status 1")]
    assert len(died) == jobs, "all workers are forked by what was started"
    assert {*errors.values()} - {*died} == {
        "no worker can be started in place of one that died: Cannot allocate memory"
    }


class Deadly(Residual):
    """Divides the least whole number by -1 where its input is large, which ends the process (SIGFPE)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        least = (x.abs().amax() > 1e3).long() * -(2**63)
        return super().forward(x) + torch.div(least, torch.full_like(least, -1), rounding_mode="trunc")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors divide without complaint")
def test_an_alternative_that_ends_its_worker_is_left_out_with_a_line(net: Supernet, tmp_path: Path) -> None:
    deadly = Kind("deadly", lambda span, features: traced(Deadly()) if features[0].shape == features[1].shape else None)
    with_deadly = elastify(Small(2).eval(), torch.zeros(1, 3, 16, 16), kinds=[prune(0.34), deadly])
    killers = [block.name for block in with_deadly.graph.blocks if block.kind == "deadly"]
    assert killers
    said: list[str] = []
    pack = export_pack(
        with_deadly,
        tmp_path / "pack",
        ["onnx"],
        metrics=["agreement"],
        sample=torch.full((1, 3, 16, 16), 1e6),
        jobs=1,
        say=said.append,
    )
    assert [line.partition(" is left out: ")[0] for line in said] == killers
    for name, line in zip(killers, said, strict=True):
        assert f"a worker died with status -{int(signal.SIGFPE)} while exporting block {name!r} to onnx" in line
    wanted = {block.name for block in with_deadly.graph.blocks} - {*killers}
    assert {block.name for block in pack.graph.blocks} == wanted | {"whole"}
    assert not workers()


def traced(module: nn.Module) -> torch.fx.GraphModule:
    return torch.fx.symbolic_trace(module.eval())


def workers() -> list[int]:
    """The export workers of this process that still run: its own, and those that were forked for it."""
    forking = children(os.getpid(), b"adaptivenet.export.forks")
    forked = [worker for each in forking for worker in children(each, b"adaptivenet.export.forks")]
    return forked + children(os.getpid(), b"adaptivenet.export.worker")


def children(of: int, program: bytes) -> list[int]:
    """The processes that a process has started and that run a program."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == of and program in command:
            found.append(int(status.parent.name))
    return found


def test_where_what_forks_workers_is_killed_another_one_does() -> None:
    before = set(children(os.getpid(), b"adaptivenet.export.forks"))
    forks = Forks()
    with tempfile.TemporaryFile("w+") as log:
        first = forks.start([], log)
        (source,) = set(children(os.getpid(), b"adaptivenet.export.forks")) - before
        os.kill(source, signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
        second = forks.start([], log)
        second.stdin.close()
        assert second.wait() == 1, "it was told nothing"
        third = forks.start([], log)
        forks.close()
        assert third.wait() == 128 + signal.SIGTERM
    assert set(children(os.getpid(), b"adaptivenet.export.forks")) == before


def test_an_interrupt_leaves_nothing(net: Supernet, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_pack(net, tmp_path / "pack", ["onnx"], jobs=1, progress=interrupt)
    assert not list(tmp_path.iterdir())
    assert not workers()


def test_a_script_without_a_guard_may_export(net: Supernet, tmp_path: Path) -> None:
    net.save(tmp_path / "supernet")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            print("started")
            from adaptivenet.export import export_pack
            from adaptivenet.toolkit.elastic import Supernet
            pack = export_pack(Supernet.load("supernet"), "pack", ["onnx"], jobs=1)
            print(len(list(pack.artifacts())))
            """
        )
    )
    result = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["started", str(len(net.graph.blocks) + 3)]
    assert BlockPack.open(tmp_path / "pack").backends == ("onnx",)
