"""Profiles that were interrupted: what was measured stands, and the same answers give the same profile."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.cli.profile import main as profile_command
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.local.local import LocalSession
from adaptivenet.toolkit.errors import BudgetError, ProfileError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.journal import Journal
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from commands import QUICK as OPTIONS
from commands import call, document_of, error_of
from hypothesis import given
from hypothesis import strategies as st

QUICK = Settings(("1000ms",), evaluations=8, search_images=6, verify_images=6, rounds=6)
ABOUT = {"pack": "p", "device": {"name": "d"}}
ANSWERS = st.recursive(
    st.none() | st.integers(1 - 2**53, 2**53 - 1) | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the device is really asked for."""
    calls: list[str] = []
    for name in ("_measure", "_evaluate"):
        real = getattr(LocalSession, name)

        def noting(self: Any, *arguments: Any, name: str = name, real: Any = real) -> Any:
            calls.append(name)
            return real(self, *arguments)

        monkeypatch.setattr(LocalSession, name, noting)
    return calls


def made(pack: BlockPack, data: Dataset, journal: Path, resume: bool, settings: Settings = QUICK) -> dict[str, Any]:
    """A profile's document, without the time that paging in took: that is done anew each time."""
    with connect("local:onnxruntime").open(pack) as session:
        document = profile(session, data, settings, journal=journal, resume=resume).to_json()
    for choice in (document["chosen"], *document["budgets"]):
        del choice["page_in"]["ms"]
    return document


def test_the_same_answers_give_the_same_profile_and_nothing_is_asked_again(
    tiny_pack: BlockPack, data: Dataset, tmp_path: Path, asked: list[str]
) -> None:
    first = made(tiny_pack, data, tmp_path / "journal", resume=False)
    assert asked.count("_measure") >= 3
    assert min(first["seconds"].values()) > 0
    assert 0 < first["search"]["seconds"] < first["seconds"]["search"]
    asked.clear()
    assert made(tiny_pack, data, tmp_path / "journal", resume=True) == first
    assert asked == []
    made(tiny_pack, data, tmp_path / "journal", resume=False)
    assert asked, "without resume, everything is done anew"


def test_the_seconds_before_an_interruption_are_counted(tiny_pack: BlockPack, data: Dataset, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    first = made(tiny_pack, data, journal, resume=False)
    header, *lines = journal.read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    ends = [number for number, entry in enumerate(entries) if isinstance(entry["answer"], float)]
    assert len(ends) == len(first["seconds"]), "each stage that ended is noted"
    # As if every answer had taken 1000 s, and the power had gone after the first answer of the search.
    assert ends[1] > ends[0] + 1
    for entry in entries:
        entry["seconds"] = 1000.0
        if isinstance(entry["answer"], dict) and "seconds" in entry["answer"]:
            entry["answer"]["seconds"] = 1000.0
    journal.write_text("\n".join([header, *map(json.dumps, entries[: ends[0] + 2]), ""]))
    again = made(tiny_pack, data, journal, resume=True)
    assert again["seconds"]["measure"] == first["seconds"]["measure"]
    assert 1000 < again["seconds"]["search"] < 1900
    assert 1000 < again["search"]["seconds"] < 1900
    assert again["seconds"]["verify"] < 900


@pytest.mark.parametrize("strategy", ["surrogate", "evolutionary"])
def test_wherever_it_was_cut_off_it_goes_on(
    strategy: str, tiny_pack: BlockPack, data: Dataset, tmp_path: Path, asked: list[str]
) -> None:
    settings = replace(QUICK, strategy=strategy)
    journal = tmp_path / "journal"
    first = made(tiny_pack, data, journal, False, settings)
    lines = journal.read_bytes().splitlines(keepends=True)
    # The last lines only note how long a stage took: cut off there, nothing is left to ask the device.
    last_answer = max(at for at, line in enumerate(lines) if b'"answer": {' in line)
    for kept in random.Random(0).sample(range(1, last_answer + 1), 3):
        torn = lines[kept][: len(lines[kept]) // 2]
        journal.write_bytes(b"".join(lines[:kept]) + torn)
        asked.clear()
        again = made(tiny_pack, data, journal, True, settings)
        assert asked
        assert journal.read_bytes().splitlines(keepends=True)[:kept] == lines[:kept]
        assert again["samples"]["measure"]["chains"] == first["samples"]["measure"]["chains"]
        if kept > 4:  # the rounds of the first stage were done
            assert again["blocks"] == first["blocks"]


def test_another_budget_goes_on_from_what_is_the_same(
    tiny_pack: BlockPack, data: Dataset, tmp_path: Path, asked: list[str]
) -> None:
    journal = tmp_path / "journal"
    with pytest.raises(BudgetError, match="no subnet meets a budget of 1%"):
        made(tiny_pack, data, journal, False, replace(QUICK, budgets=("1%",)))
    asked.clear()
    made(tiny_pack, data, journal, True)
    assert asked[0] == "_evaluate", "the blocks were measured already"


def test_another_device_or_pack_is_refused(
    tiny_pack: BlockPack, wide_pack: BlockPack, data: Dataset, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    made(tiny_pack, data, journal, resume=False)
    before = journal.read_bytes()
    others = [(tiny_pack, 2, r"another device: threads \(then 1, now 2\)"), (wide_pack, 1, "another pack")]
    for pack, threads, message in others:
        device = connect("local:onnxruntime", threads=threads)
        with device.open(pack) as session, pytest.raises(ProfileError, match=message):
            profile(session, data, QUICK, journal=journal, resume=True)
    assert journal.read_bytes() == before


@given(st.lists(st.tuples(st.text(max_size=3), ANSWERS), max_size=6), st.integers(0, 6), st.binary(max_size=8))
def test_what_was_noted_is_recalled_in_its_order(entries: list[tuple[str, Any]], wrong: int, torn: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        journal = Journal(path, ABOUT, resume=False)
        for question, answer in entries:
            journal.note(question, [answer])
        with path.open("ab") as file:
            file.write(torn.replace(b"\n", b""))
        again = Journal(path, ABOUT, resume=True)
        for question, answer in entries[:wrong]:
            assert again.recall(question) == [answer]
        assert again.recall("another question") is None
        assert again.replayed == min(wrong, len(entries))
        again.note("another question", 1)
        last = Journal(path, ABOUT, resume=True)
        for question, answer in entries[:wrong]:
            assert last.recall(question) == [answer]
        assert last.recall("another question") == 1
        assert last.recall("another question") is None


@pytest.mark.parametrize(
    "content", [b"", b"\xff\n", b"[]\n", b"{}\n", b"7\n", b'{"format": 1}\n{"question": "a"}\n', b"null\nnull\n"]
)
def test_a_damaged_journal_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match="journal"):
        Journal(path, ABOUT, resume=True)
    assert path.read_bytes() == content


def test_a_journal_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"cannot be kept in .*Is a directory"):
        Journal(tmp_path, ABOUT, resume=False)
    full = Journal(tmp_path / "journal", ABOUT, resume=False)
    full.path = Path("/dev/full")
    with pytest.raises(ProfileError, match="No space left"):
        full.note("question", 1)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_was_ended_goes_on(sent: int, tiny_pack: BlockPack, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).standard_normal((10, 3, 16, 16)).astype(np.float32))
    out = tmp_path / "profile.json"
    arguments = [tiny_pack.path, "--device", "local:onnxruntime", "--data", tmp_path / "images.npy", *OPTIONS]
    arguments += ["--rounds", "40", "--out", out]
    command = ["env", "--default-signal=INT", sys.executable, "-m", "adaptivenet.toolkit.cli.profile", *arguments]
    journal = Path(f"{out}.journal")
    host = subprocess.Popen([os.fspath(word) for word in command], stderr=subprocess.DEVNULL)
    while host.poll() is None and not (journal.exists() and len(journal.read_bytes().splitlines()) > 8):
        pass
    host.send_signal(sent)
    assert host.wait(30) in (1, -signal.SIGKILL)
    assert not out.exists()
    known = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    measured = [entry["answer"]["blocks_ms"] for entry in known if "blocks_ms" in entry["answer"]]
    result = call(profile_command, *arguments, "--resume", "--json")
    document = document_of(result)
    assert f"going on with {journal}" in result.stderr
    stage = document["samples"]["measure"]
    first = measured[stage["warmup"] // 5]  # those before it are the warm-up's, of five rounds each
    for times, blocks in zip(stage["ms"], first, strict=False):
        whole = [sum(each) for each in zip(*blocks)]
        assert times[: len(whole)] == pytest.approx(whole, abs=1e-6)
    assert not journal.exists()
    assert json.loads(out.read_text()) == document


def test_resume_needs_a_place(tiny_pack: BlockPack, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((10, 3, 16, 16), np.float32))
    result = call(profile_command, tiny_pack.path, "--data", tmp_path / "images.npy", "--resume")
    assert result.exit_code == 2
    assert "--resume needs --out" in result.stderr
    broken = tmp_path / "profile.json"
    Path(f"{broken}.journal").write_text("{}\n")
    arguments = [tiny_pack.path, "--device", "local:onnxruntime", "--data", tmp_path / "images.npy", *OPTIONS]
    assert "was begun with another format (then None" in error_of(
        call(profile_command, *arguments, "--out", broken, "--resume")
    )


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "NaN"])
def test_a_number_that_is_not_finite_is_damage(number: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path, {"pack": "p"}, resume=False)
    with path.open("a") as file:
        file.write(f'{{"question": "q", "answer": {number}}}\n')
    with pytest.raises(ProfileError, match=r"journal is damaged \(it holds the number"):
        Journal(path, {"pack": "p"}, resume=True)
