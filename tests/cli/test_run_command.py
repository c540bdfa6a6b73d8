"""adaptivenet-run: it serves on the device of the profile, says so when it runs elsewhere, and keeps stdout clean."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from adaptivenet.toolkit.cli.run import main as run
from adaptivenet.toolkit.pack.pack import BlockPack
from commands import call, document_of, error_of, in_process
from engines import ENGINES


def without_warnings(said: str) -> str:
    """What a command said, without what it and the profile doubt of so few pictures."""
    return re.sub(r"^warning(, from the profile)?: .*\n", "", said, flags=re.MULTILINE)


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
    assert re.search(
        r"^quality +top1 \d+\.\d% \(.*\); agreement .*, measured on 6 pictures that the search never saw$",
        result.stdout,
        re.MULTILINE,
    )
    assert re.search(r"; \d+\.\d\d ms measured when profiled; ", result.stdout)
    assert re.search(r"^answers +((daisy|poppy|rose|tulip|violet)(, | …$)){5}", result.stdout, re.MULTILINE)
    assert re.fullmatch(r"(run: \d/7, \d+ s\n)*run: 7/7, \d+ s\n", without_warnings(result.stderr))


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


def test_run_takes_a_tolerance_and_says_what_nearly_met_the_budget(
    tiny_pack: BlockPack, labelled: Path, profiles: dict[str, Path], tmp_path: Path
) -> None:
    known = json.loads(profiles[ENGINES[1]].read_text())
    fast, slow = ({**known["front"][0], "measured_ms": ms, "predicted_ms": ms, "spread_ms": 0.0} for ms in (3.0, 5.4))
    names = [["b0-m2", "b2"], ["b0", "b1", "b2"]]
    for point, subnet, value in zip((fast, slow), names, (0.22, 0.525)):
        quality = {"metric": "top1", "value": value, "low": 0.1, "high": 0.9, "n": 200}
        point.update(subnet=subnet, quality=quality, also=[])
    known.update(front=[fast, slow], budgets=[])
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(known))
    arguments = (tiny_pack.path, path, "--data", labelled, "--budget", "5.37ms", "--dry-run")
    found = document_of(call(run, *arguments, "--json"))
    assert (found["subnet"], found["expected_ms"], found["quality"]["value"]) == (names[0], 3.0, 0.22)
    assert found["a_little_over"] == "0.6% over: top1 52.5%"
    assert (found["tolerance"], found["expected_ms_is"]) == (0.0, "measured")
    found = document_of(call(run, *arguments, "--tolerance", "1%", "--json"))
    assert (found["subnet"], found["quality"]["value"], found["a_little_over"]) == (names[1], 0.525, None)
    assert found["budget_ms"] == 5.37
    said = call(run, *arguments, "--tolerance", "1%").stdout
    assert "(5.40 ms measured when profiled, 5.37 ms allowed; quality: top1 52.5%" in said
    known["settings"]["tolerance"] = 0.01
    path.write_text(json.dumps(known))
    assert document_of(call(run, *arguments, "--json"))["subnet"] == names[1], "as profiled"


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
    assert re.fullmatch(r"(run: \d/3, \d+ s\n)*run: 3/3, \d+ s\n", without_warnings(done.stderr))
