"""adaptivenet-run: it serves on the device of the profile, says so when it runs elsewhere, and keeps stdout clean."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from adaptivenet.toolkit.cli.run import main as run
from adaptivenet.toolkit.pack import BlockPack
from commands import call, document_of, error_of, in_process
from engines import ENGINES


@pytest.mark.parametrize("address", ENGINES)
def test_run_serves_on_the_device_of_the_profile(
    address: str, tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path
) -> None:
    result = call(
        run, tiny_pack.path, profiles[address], "--data", labelled, "--budget", "1000ms", "--count", 20,
        "--adapt", "--json",
    )  # fmt: skip
    document = document_of(result)
    assert document["device"]["address"] == address
    assert document["subnet"] == json.loads(profiles[address].read_text())["chosen"]["subnet"]
    assert document["latency"]["repetitions"] == len(document["answers"]) == 20
    assert document["answers"][:4] == document["answers"][16:]
    assert document["within_budget"] == 1.0
    assert set(document["page_in"]["loaded"]) == set(document["subnet"])
    assert "note:" not in result.stderr


def test_run_prints_what_happened(tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path) -> None:
    result = call(run, tiny_pack.path, profiles[ENGINES[1]], "--data", labelled, "--budget", "1000ms", "--count", "7")
    assert result.exit_code == 0
    assert re.search(r"^latency +\d+\.\d\d ms \(median of 7, IQR ", result.stdout, re.MULTILINE)
    assert re.search(r"^answers +((daisy|poppy|rose|tulip|violet)(, | …$)){5}", result.stdout, re.MULTILINE)
    assert re.fullmatch(r"(run: \d/7, \d+ s\n)*run: 7/7, \d+ s\n", result.stderr)


def test_run_says_so_when_it_runs_elsewhere_than_was_profiled(
    tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path
) -> None:
    arguments = ("--data", labelled, "--budget", "1000ms", "--count", "2", "--json")
    result = call(run, tiny_pack.path, profiles[ENGINES[0]], "--device", ENGINES[1], *arguments)
    assert document_of(result)["device"]["engine"] == "onnxruntime"
    assert "note: profiled on engine executorch, running on onnxruntime" in result.stderr
    result = call(run, tiny_pack.path, profiles[ENGINES[1]], "--threads", "2", *arguments)
    assert document_of(result)["device"]["threads"] == 2
    assert "note: profiled on threads 1, running on 2" in result.stderr


def test_run_dry_run(tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path) -> None:
    arguments = (tiny_pack.path, profiles[ENGINES[1]], "--data", labelled, "--budget", "1000ms", "--dry-run")
    assert call(run, *arguments).stdout.startswith("would run b0")
    document = document_of(call(run, *arguments, "--json"))
    assert document["dry_run"] is True
    assert "latency" not in document


def test_a_profile_of_another_pack(broken: BlockPack, profiles: dict[str, Path], labelled: Path) -> None:
    assert "was made for another pack" in error_of(call(run, broken.path, profiles[ENGINES[1]], "--data", labelled))


def test_nothing_but_the_document_on_stdout_with_executorch(
    tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path
) -> None:
    # In a process of its own, since libraries also print past Python's sys.stdout.
    arguments = ("--data", labelled, "--budget", "1000ms", "--count", "3", "--json")
    done = in_process("adaptivenet.toolkit.cli.run", tiny_pack.path, profiles[ENGINES[0]], *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"]["engine"] == "executorch"
    assert re.fullmatch(r"(run: \d/3, \d+ s\n)*run: 3/3, \d+ s\n", done.stderr)
