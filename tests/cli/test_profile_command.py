"""adaptivenet-profile: its document, its tables, its dry run, and options and engines that are none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from adaptivenet.toolkit.cli.profile import main as profile
from adaptivenet.toolkit.devices.local import looks
from adaptivenet.toolkit.pack.pack import BlockPack
from commands import QUICK, call, document_of, error_of, in_process
from engines import ENGINES
from PIL import Image


@pytest.mark.parametrize("address", ENGINES)
def test_profile_prints_one_json_document(address: str, tiny_pack: BlockPack, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    result = call(profile, tiny_pack.path, "--device", address, "--data", labelled, *QUICK, "--out", out, "--json")
    document = document_of(result)
    assert {"device", "oracle_latency_ms", "blocks", "front", "chosen"} <= set(document)
    assert document["device"]["address"] == address
    assert json.loads(out.read_text()) == document
    assert re.search(r"^verify: 6/6, \d+ s$", result.stderr, re.MULTILINE)
    assert f"profile written to {out}" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["profile.json"]


def test_profile_prints_tables(tiny_pack: BlockPack, labelled: Path) -> None:
    result = call(
        profile, tiny_pack.path, "--device", "local:onnxruntime", "--data", labelled, *QUICK, "--budget", "900ms"
    )
    assert result.exit_code == 0
    assert result.stdout.startswith("tiny on ")
    assert re.search(r"predicted ms  measured ms  (as timed ms  )?IQR ms  of oracle", result.stdout)
    assert re.search(r"^1000ms +1000\.00\d* .* top1 \d+\.\d%", result.stdout, re.MULTILINE)
    assert re.search(r"^900ms ", result.stdout, re.MULTILINE)
    assert re.search(r"^Subnets measured whole: \d\. .* \d of \d lie within the error", result.stdout, re.MULTILINE)
    assert "Oracle: the original network" in result.stdout
    assert "Page-in: loading the blocks" in result.stdout
    assert "/6, " not in result.stdout, "progress belongs on stderr"


def test_profile_dry_run_measures_nothing(tiny_pack: BlockPack, labelled: Path, tmp_path: Path) -> None:
    arguments = (tiny_pack.path, "--device", "local:onnxruntime", "--data", labelled, *QUICK, "--dry-run")
    out = tmp_path / "profile.json"
    document = document_of(call(profile, *arguments, "--json", "--out", out))
    assert document["dry_run"] is True
    assert (document["blocks"], document["subnets"], document["metric"]) == (6, 5, "top1")
    assert (document["search_images"], document["verify_images"]) == (4, 6)
    result = call(profile, *arguments)
    assert result.stdout.startswith("would time 6 blocks 3 times on ")
    assert result.stderr == ""
    assert not out.exists()


def test_json_is_one_document_whatever_else_is_asked_for(
    profiles: dict[str, Path], tiny_pack: BlockPack, tmp_path: Path
) -> None:
    out, page = profiles[ENGINES[1]], tmp_path / "report.html"
    known = json.loads(out.read_text())
    assert document_of(call(profile, out, "--report", page, "--json")) == known
    assert page.exists()
    page.unlink()
    planned = document_of(call(profile, out, "--report", page, "--json", "--dry-run"))
    assert planned == {"dry_run": True, **known}
    assert call(profile, out, "--report", page, "--dry-run").stdout == f"would write the report to {page}\n"
    assert not page.exists()
    cleaned = call(profile, "--device", "local", "--clean", "--json")
    assert document_of(cleaned) == {"device": "local", "removed": False}
    assert cleaned.stderr == "there was nothing to remove from local\n"
    planned = document_of(call(profile, "--device", "nobody", "--clean", "--json", "--dry-run"))
    assert planned == {"dry_run": True, "device": "nobody", "removed": None}


def test_the_report_as_markdown(profiles: dict[str, Path], tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    assert call(profile, profiles[ENGINES[1]], "--report", report).exit_code == 0
    text = report.read_text("utf-8")
    assert text.startswith("# tiny: the best subnets of this device\n\ntiny on ")
    assert "| budget | limit ms |" in text
    assert re.search(r"^Subnets measured whole: \d\. .* \d of \d lie within the error", text, re.MULTILINE)
    assert "![" not in text
    assert str(tmp_path) not in text
    nowhere = tmp_path / "folder.md"
    nowhere.mkdir()
    assert "report cannot be written" in error_of(call(profile, profiles[ENGINES[1]], "--report", nowhere))


def test_profile_reads_folders_of_pictures_by_class(tiny_pack: BlockPack, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for number in range(12):
        folder = tmp_path / "flowers" / ("rose" if number % 2 else "daisy")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    arguments = (tiny_pack.path, "--device", "local:onnxruntime", *QUICK, "--json")
    document = document_of(call(profile, *arguments, "--data", tmp_path / "flowers"))
    assert document["search"]["metric"] == "top1"
    document = document_of(
        call(profile, *arguments, "--data", tmp_path / "flowers/rose", "--verify-data", tmp_path / "flowers/daisy")
    )
    assert document["search"]["metric"] == "agreement"
    assert (document["search"]["images"], document["verify"]["images"]) == (4, 6)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--device", "lokal", "'lokal' is no address of a device, did you mean local?"),
        ("--threads", "0", "cannot run on 0 threads"),
        ("--threads", "100000", "cannot run on 100000 threads: ask for at most "),
        ("--search-threads", "100000", "cannot run on 100000 threads: ask for at most "),
        ("--metric", "f1", "no metric 'f1': it has top1, agreement"),
        ("--rounds", "0", "rounds is 0; it must be at least 1"),
        ("--tolerance", "1", "'1' is not a tolerance: write it like 1% (of the budget), 50% at most"),
        ("--evaluations", "1", "evaluations is 1; it must be at least 2"),
        ("--out", "nowhere/profile.json", "cannot be written to nowhere/profile.json: give a file in a folder"),
        ("--out", ".", "the profile cannot be written to .: give a file"),
    ],
)
def test_bad_options_of_profile(option: str, value: str, message: str, tiny_pack: BlockPack, labelled: Path) -> None:
    arguments = ["--device", "local:onnxruntime", *QUICK]
    result = call(profile, tiny_pack.path, "--data", labelled, *arguments, option, value)
    assert message in error_of(result)
    assert result.stderr.count("\n") == 1, "it began to work before it looked"
    assert not Path("nowhere").exists()


def test_a_pack_without_the_programs_of_an_engine(broken: BlockPack, labelled: Path) -> None:
    line = error_of(call(profile, broken.path, "--device", "local:executorch", "--data", labelled))
    assert "has no executorch artifacts, which local:executorch needs; it has onnx" in line


@pytest.mark.parametrize(
    ("address", "missing"), [("local", "executorch"), ("local", "torch"), ("local:onnxruntime", "onnxruntime")]
)
def test_an_engine_that_is_not_installed(address: str, missing: str, tiny_pack: BlockPack, labelled: Path) -> None:
    arguments = (tiny_pack.path, "--device", address, "--data", labelled, "--dry-run")
    done = in_process("adaptivenet.toolkit.cli.profile", *arguments, without=(missing,))
    engine = "executorch" if address == "local" else "onnxruntime"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: the engine {engine} cannot be imported (No module named '{missing}")
    assert f"pip install {engine}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hill", "unknown search strategy 'hill': choose from surrogate, evolutionary, annealing, random"),
        ("nowhere:Hill", "the search strategy nowhere:Hill cannot be imported: ModuleNotFoundError"),
        ("json:loads", "the search strategy json:loads does not extend adaptivenet.toolkit.search.Strategy"),
    ],
)
def test_a_strategy_that_does_not_exist_is_a_usage_error(name: str, message: str) -> None:
    result = call(profile, "pack", "--strategy", name)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_limit_of_memory_that_nothing_keeps_names_the_smallest_and_loses_nothing(
    tiny_pack: BlockPack, labelled: Path, tmp_path: Path
) -> None:
    arguments = (tiny_pack.path, "--device", ENGINES[1], "--data", labelled, "--budget", "1000ms", *QUICK)
    out = tmp_path / "profile.json"
    said = error_of(call(profile, *arguments, "--out", out, "--memory-limit", "0.000001MB"))
    assert "no subnet keeps to 1e-06 MB: the smallest takes 0." in said
    assert f"what was measured is kept in {out}.journal: --resume goes on with it" in said
    document = document_of(call(profile, *arguments, "--out", out, "--resume", "--memory-limit", "100MB", "--json"))
    assert document["settings"]["memory_limit_mb"] == 100
    assert document["chosen"]["resident_mb"] <= 100
    result = call(profile, *arguments, "--memory-limit", "much")
    assert result.exit_code == 2
    assert "write it like 40MB" in result.stderr


def test_energy_is_asked_for_where_it_is_told(
    tiny_pack: BlockPack, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "ROOT", tmp_path)
    arguments = (tiny_pack.path, "--device", ENGINES[1], "--data", labelled, "--budget", "1000ms", *QUICK)
    result = call(profile, *arguments, "--energy-rounds", 2)
    assert "note: energy is not measured: this device does not tell its energy" in result.stderr
    assert result.exit_code == 0
    assert "mJ" not in result.stdout
    assert "energy cannot be limited: this device does not" in error_of(call(profile, *arguments, "--energy", "15mJ"))
