"""The commands, as somebody at a terminal or a script meets them: output, progress, exit statuses, bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from adaptivenet.export.cli import main as export
from adaptivenet.toolkit.cli.elastify import main as elastify
from adaptivenet.toolkit.cli.profile import main as profile
from adaptivenet.toolkit.cli.run import main as run
from adaptivenet.toolkit.errors import DeviceError
from adaptivenet.toolkit.pack import BlockPack
from click.testing import CliRunner, Result
from packs import build_pack, edit_manifest
from PIL import Image
from training import curves

ENGINES = ("local:executorch", "local:onnxruntime")
QUICK = ("--evaluations", "8", "--search-images", "4", "--verify-images", "6", "--rounds", "3", "--budget", "1000ms")


def call(command: click.Command, *arguments: object) -> Result:
    """Runs a command in this process; a defect, unlike an error of the toolkit, is raised."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def error_of(result: Result) -> str:
    """The one line that a failed command says, after any progress; nothing on stdout."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("error: ")
    assert sum(line.startswith("error:") for line in lines) == 1
    assert "Traceback" not in result.stderr
    return lines[-1]


def document_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def data(pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    np.savez(path, images=pictures, labels=np.arange(len(pictures)) % 5)
    return path


@pytest.fixture(scope="module")
def profiles(tiny_pack: BlockPack, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A profile by each engine, made by the command."""
    paths = {}
    for address in ENGINES:
        paths[address] = tmp_path_factory.mktemp("profiles") / "profile.json"
        result = call(profile, tiny_pack.path, "--device", address, "--data", data, *QUICK, "--out", paths[address])
        assert result.exit_code == 0, result.output
    return paths


@pytest.fixture
def broken(tmp_path: Path) -> BlockPack:
    """A pack of one's own, to break. It has programs for ONNX Runtime alone."""
    return build_pack(tmp_path / "broken")


# adaptivenet-profile


@pytest.mark.parametrize("address", ENGINES)
def test_profile_prints_one_json_document(address: str, tiny_pack: BlockPack, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    result = call(profile, tiny_pack.path, "--device", address, "--data", data, *QUICK, "--out", out, "--json")
    document = document_of(result)
    assert {"device", "oracle_latency_ms", "blocks", "front", "chosen"} <= set(document)
    assert document["device"]["address"] == address
    assert json.loads(out.read_text()) == document
    assert re.search(r"^verify: 6/6, \d+ s$", result.stderr, re.MULTILINE)
    assert f"profile written to {out}" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["profile.json"]


def test_profile_prints_tables(tiny_pack: BlockPack, data: Path) -> None:
    result = call(profile, tiny_pack.path, "--device", "local:onnxruntime", "--data", data, *QUICK, "--budget", "900ms")
    assert result.exit_code == 0
    assert result.stdout.startswith("tiny on ")
    assert "predicted ms  measured ms  IQR ms  of oracle" in result.stdout
    assert re.search(r"^1000ms +1000\.00 .* top1 \d+\.\d%", result.stdout, re.MULTILINE)
    assert re.search(r"^900ms ", result.stdout, re.MULTILINE)
    assert "/6, " not in result.stdout, "progress belongs on stderr"


def test_profile_dry_run_measures_nothing(tiny_pack: BlockPack, data: Path, tmp_path: Path) -> None:
    arguments = (tiny_pack.path, "--device", "local:onnxruntime", "--data", data, *QUICK, "--dry-run")
    out = tmp_path / "profile.json"
    document = document_of(call(profile, *arguments, "--json", "--out", out))
    assert document["dry_run"] is True
    assert (document["blocks"], document["subnets"], document["metric"]) == (6, 5, "top1")
    assert (document["search_images"], document["verify_images"]) == (4, 6)
    result = call(profile, *arguments)
    assert result.stdout.startswith("would time 6 blocks 3 times on ")
    assert result.stderr == ""
    assert not out.exists()


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


# adaptivenet-run


@pytest.mark.parametrize("address", ENGINES)
def test_run_serves_on_the_device_of_the_profile(
    address: str, tiny_pack: BlockPack, profiles: dict[str, Path], data: Path
) -> None:
    result = call(
        run, tiny_pack.path, profiles[address], "--data", data, "--budget", "1000ms", "--count", 20,
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


def test_run_prints_what_happened(tiny_pack: BlockPack, profiles: dict[str, Path], data: Path) -> None:
    result = call(run, tiny_pack.path, profiles[ENGINES[1]], "--data", data, "--budget", "1000ms", "--count", "7")
    assert result.exit_code == 0
    assert re.search(r"^latency +\d+\.\d\d ms \(median of 7, IQR ", result.stdout, re.MULTILINE)
    assert re.search(r"^answers +((daisy|poppy|rose|tulip|violet)(, | …$)){5}", result.stdout, re.MULTILINE)
    assert re.fullmatch(r"(run: \d/7, \d+ s\n)*run: 7/7, \d+ s\n", result.stderr)


def test_run_says_so_when_it_runs_elsewhere_than_was_profiled(
    tiny_pack: BlockPack, profiles: dict[str, Path], data: Path
) -> None:
    arguments = ("--data", data, "--budget", "1000ms", "--count", "2", "--json")
    result = call(run, tiny_pack.path, profiles[ENGINES[0]], "--device", ENGINES[1], *arguments)
    assert document_of(result)["device"]["engine"] == "onnxruntime"
    assert "note: profiled on engine executorch, running on onnxruntime" in result.stderr
    result = call(run, tiny_pack.path, profiles[ENGINES[1]], "--threads", "2", *arguments)
    assert document_of(result)["device"]["threads"] == 2
    assert "note: profiled on threads 1, running on 2" in result.stderr


def test_run_dry_run(tiny_pack: BlockPack, profiles: dict[str, Path], data: Path) -> None:
    arguments = (tiny_pack.path, profiles[ENGINES[1]], "--data", data, "--budget", "1000ms", "--dry-run")
    assert call(run, *arguments).stdout.startswith("would run b0")
    document = document_of(call(run, *arguments, "--json"))
    assert document["dry_run"] is True
    assert "latency" not in document


# Bad input


def _delete_blob(pack: BlockPack) -> None:
    (pack.path / pack.artifact("b1", "onnx").file).unlink()


def _truncate_blob(pack: BlockPack) -> None:
    path = pack.path / pack.artifact("b1", "onnx").file
    path.write_bytes(path.read_bytes()[:-7])


def _change_blob(pack: BlockPack) -> None:
    path = pack.path / pack.artifact("b1", "onnx").file
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])


def _manifest(change: Callable[[dict[str, Any]], object], sign: bool) -> Callable[[BlockPack], None]:
    return lambda pack: edit_manifest(pack.path, change, sign)


def _climb(manifest: dict[str, Any]) -> None:
    manifest["blocks"][0]["artifacts"]["onnx"]["file"] = "blobs/../../secret.onnx"


BAD_PACKS: dict[str, tuple[Callable[[BlockPack], None], str]] = {
    "missing blob": (_delete_blob, r"\.onnx is missing; export or copy the pack again"),
    "truncated blob": (_truncate_blob, r"has \d+ bytes, the manifest says \d+"),
    "digest that does not match": (_change_blob, r"is damaged: its content has SHA-256"),
    "edited manifest": (_manifest(lambda m: m.update(name="better"), False), "manifest.json was edited or damaged"),
    "path traversal": (_manifest(_climb, True), "blobs/../../secret.onnx"),
    "unknown version": (_manifest(lambda m: m.update(version=9), True), "format version 9, but this program reads"),
    "not a pack": (lambda pack: shutil.rmtree(pack.path / "blobs"), "blobs is not a folder"),
    "no pack at all": (lambda pack: shutil.rmtree(pack.path), "is not a folder"),
}


@pytest.mark.parametrize("what", BAD_PACKS)
def test_a_bad_pack_is_one_line(
    what: str, broken: BlockPack, profiles: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    damage, message = BAD_PACKS[what]
    damage(broken)
    out = tmp_path / "profile.json"
    results = [
        call(profile, broken.path, "--device", "local:onnxruntime", "--data", data, *QUICK, "--out", out, "--json"),
        call(run, broken.path, profiles[ENGINES[1]], "--data", data),
    ]
    if (broken.path / "manifest.json").exists():
        results.append(call(export, broken.path, tmp_path / "bundle"))
    for result in results:
        line = error_of(result)
        assert re.search(message, line), line
        assert str(broken.path) in line
        assert result.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"broken"}


def _float_of_another_shape(folder: Path) -> Path:
    np.save(folder / "data.npy", np.zeros((8, 3, 8, 8), np.float32))
    return folder / "data.npy"


def _float_of_another_dtype(folder: Path) -> Path:
    np.save(folder / "data.npy", np.zeros((8, 3, 16, 16), np.float64))
    return folder / "data.npy"


def _grey(folder: Path) -> Path:
    np.savez(folder / "data.npz", images=np.zeros((8, 16, 16), np.uint8))
    return folder / "data.npz"


def _short_labels(folder: Path) -> Path:
    np.savez(folder / "data.npz", images=np.zeros((8, 16, 16, 3), np.uint8), labels=np.zeros(7, np.int64))
    return folder / "data.npz"


def _no_picture(folder: Path) -> Path:
    (folder / "data").mkdir()
    for number in range(4):
        (folder / "data" / f"{number}.png").write_bytes(b"no picture")
    return folder / "data"


BAD_DATA: dict[str, tuple[Callable[[Path], Path], str]] = {
    "shape": (_float_of_another_shape, r"must have shape \(N, 3, 16, 16\), not \(8, 3, 8, 8\)"),
    "dtype": (_float_of_another_dtype, "images have dtype float64"),
    "grey": (_grey, r"must have shape \(N, H, W, 3\), not \(8, 16, 16\)"),
    "labels": (_short_labels, r"labels must be whole numbers of shape \(8,\)"),
    "no picture": (_no_picture, r"\.png is not a picture that can be read"),
    "missing": (lambda folder: folder / "data", "does not exist; give a folder of pictures"),
}


@pytest.mark.parametrize("what", BAD_DATA)
def test_bad_data_is_one_line(what: str, tiny_pack: BlockPack, profiles: dict[str, Path], tmp_path: Path) -> None:
    make, message = BAD_DATA[what]
    path = make(tmp_path)
    out = tmp_path / "profile.json"
    for result in (
        call(profile, tiny_pack.path, "--device", "local:onnxruntime", "--data", path, *QUICK, "--out", out, "--json"),
        call(run, tiny_pack.path, profiles[ENGINES[1]], "--budget", "1000ms", "--data", path),
    ):
        line = error_of(result)
        assert re.search(message, line), line
        assert str(path) in line
    assert not out.exists()


def test_a_budget_below_the_fastest_names_the_fastest(
    tiny_pack: BlockPack, profiles: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "profile.json"
    result = call(
        profile, tiny_pack.path, "--device", "local:onnxruntime", "--data", data, "--rounds", "3", "--budget", "0.01%",
        "--out", out,
    )  # fmt: skip
    assert re.search(r"budget of 0\.01% .*: the fastest takes \S+ ms, \d+% of the oracle's", error_of(result))
    assert not out.exists()
    result = call(run, tiny_pack.path, profiles[ENGINES[1]], "--data", data, "--budget", "0.0000001ms")
    assert re.search(r"the fastest takes \S+ ms \(measured\)", error_of(result))


@pytest.mark.parametrize("budget", ["75", "-5%", "0%", "abc"])
def test_a_silly_budget_is_refused_before_anything_else(
    budget: str, tiny_pack: BlockPack, profiles: dict[str, Path], data: Path
) -> None:
    for result in (
        call(profile, tiny_pack.path, "--data", data, f"--budget={budget}", "--dry-run"),
        call(run, tiny_pack.path, profiles[ENGINES[1]], "--data", data, f"--budget={budget}"),
    ):
        assert f"{budget!r} is no latency budget: write it like 75%" in error_of(result)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--device", "lokal", "no device at 'lokal': the addresses understood are local, local:executorch"),
        ("--threads", "0", "cannot run on 0 threads"),
        ("--strategy", "hill", "unknown search strategy 'hill': choose from surrogate, evolutionary"),
        ("--metric", "f1", "no metric 'f1': it has top1, agreement"),
        ("--rounds", "0", "rounds is 0; it must be at least 1"),
        ("--evaluations", "1", "evaluations is 1; it must be at least 2"),
        ("--out", "nowhere/profile.json", "cannot be written to nowhere/profile.json: give a file in a folder"),
        ("--out", ".", "the profile cannot be written to .: give a file"),
    ],
)
def test_bad_options_of_profile(option: str, value: str, message: str, tiny_pack: BlockPack, data: Path) -> None:
    arguments = ["--device", "local:onnxruntime", *QUICK]
    result = call(profile, tiny_pack.path, "--data", data, *arguments, option, value)
    assert message in error_of(result)
    assert result.stderr.count("\n") == 1, "it began to work before it looked"
    assert not Path("nowhere").exists()


def test_a_profile_of_another_pack(broken: BlockPack, profiles: dict[str, Path], data: Path) -> None:
    assert "was made for another pack" in error_of(call(run, broken.path, profiles[ENGINES[1]], "--data", data))


def test_a_pack_without_the_programs_of_an_engine(broken: BlockPack, data: Path) -> None:
    line = error_of(call(profile, broken.path, "--device", "local:executorch", "--data", data))
    assert "has no executorch artifacts, which local:executorch needs; it has onnx" in line


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (profile, ()),
        (profile, ("pack",)),
        (profile, ("pack", "--data", "x", "--rounds", "many")),
        (profile, ("pack", "--data", "x", "--bogus")),
        (run, ("pack", "profile.json")),
        (run, ("pack", "profile.json", "--data", "x", "--count", "0")),
        (elastify, ("a:b",)),
        (elastify, ("a:b", "--out", "x", "--size", "0")),
        (elastify, ("a:b", "--out", "x", "--merge", "two")),
        (elastify, ("a:b", "--out", "x", "--recipe", "theirs")),
        (elastify, ("a:b", "--out", "x", "--max-minutes", "0")),
        (elastify, ("a:b", "--out", "x", "--data", "d", "--validate", "v", "--hold-out", "0.1")),
        (export, ("supernet",)),
        (export, ("supernet", "out", "--backend", "tflite")),
    ],
)
def test_wrong_usage_is_status_2(command: click.Command, arguments: Sequence[str]) -> None:
    result = call(command, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("command", [profile, run, elastify, export])
def test_help(command: click.Command) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    for option in ("--json", "--dry-run", "--verbose"):
        assert option in result.stdout


def test_verbose_adds_the_traceback(tiny_pack: BlockPack, data: Path) -> None:
    with pytest.raises(DeviceError, match="lokal"):
        call(profile, tiny_pack.path, "--data", data, "--device", "lokal", "--verbose")


# In processes of their own


def in_process(
    module: str, *arguments: object, without: Sequence[str] = (), folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A command in a fresh Python, in which the modules `without` cannot be imported."""
    program = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {tuple(without)!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        f"from {module} import main\n"
        "main(prog_name='command')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, cwd=folder, timeout=120
    )


def test_profile_and_run_work_where_torch_is_not_installed(tiny_pack: BlockPack, data: Path, tmp_path: Path) -> None:
    without = ("torch", "executorch", "torchvision", "timm", "matplotlib")
    out = tmp_path / "profile.json"
    done = in_process(
        "adaptivenet.toolkit.cli.profile", tiny_pack.path, "--device", "local:onnxruntime", "--data", data, *QUICK,
        "--out", out, "--json", without=without,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"]["engine"] == "onnxruntime"
    arguments = (tiny_pack.path, out, "--data", data, "--budget", "1000ms", "--count", "3", "--json")
    done = in_process("adaptivenet.toolkit.cli.run", *arguments, without=without)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["answers"]) == 3


@pytest.mark.parametrize(
    ("address", "missing"), [("local", "executorch"), ("local", "torch"), ("local:onnxruntime", "onnxruntime")]
)
def test_an_engine_that_is_not_installed(address: str, missing: str, tiny_pack: BlockPack, data: Path) -> None:
    arguments = (tiny_pack.path, "--device", address, "--data", data, "--dry-run")
    done = in_process("adaptivenet.toolkit.cli.profile", *arguments, without=(missing,))
    engine = "executorch" if address == "local" else "onnxruntime"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: the engine {engine} cannot be imported (No module named '{missing}")
    assert f"pip install {engine}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_but_the_document_on_stdout_with_executorch(
    tiny_pack: BlockPack, profiles: dict[str, Path], data: Path
) -> None:
    # In a process of its own, since libraries also print past Python's sys.stdout.
    arguments = (tiny_pack.path, profiles[ENGINES[0]], "--data", data, "--budget", "1000ms", "--count", "3", "--json")
    done = in_process("adaptivenet.toolkit.cli.run", *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"]["engine"] == "executorch"
    assert re.fullmatch(r"(run: \d/3, \d+ s\n)*run: 3/3, \d+ s\n", done.stderr)


# From a model to a served subnet

MODEL = """
import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(16, 32, 3, padding=1)
        self.two = nn.Conv2d(32, 16, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.two(torch.relu(self.one(x))))


def build():
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), Residual(), Residual(), *head)
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own to work in, with a module and some pictures in it."""
    (tmp_path / "flower_model.py").write_text(MODEL)
    pictures = np.random.default_rng(5).integers(0, 255, (20, 40, 36, 3), dtype=np.uint8)
    np.savez(tmp_path / "pictures.npz", images=pictures, labels=np.arange(20) % 5)
    (tmp_path / "classes.txt").write_text("daisy\npoppy\nrose\ntulip\nviolet\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "flower_model", raising=False)
    return tmp_path


def test_from_a_model_to_a_served_subnet(workplace: Path) -> None:
    made = document_of(
        call(
            elastify, "flower_model:build", "--out", "supernet", "--size", "32", "--prune", "0.5", "--merge", "2",
            "--data", "pictures.npz", "--epochs", "0.6", "--batch-size", "4", "--json",
        )
    )  # fmt: skip
    kinds = {block["kind"] for block in made["blocks"]}
    assert kinds == {"original", "merged", "pruned", "skip"}
    assert made["training"]["steps"] == 3  # 0.6 times 20 pictures
    assert made["validation"] is None
    assert all(block["loss"] is not None for block in made["blocks"] if block["kind"] != "original")

    planned = document_of(call(export, "supernet", "pack", "--dry-run", "--json"))
    assert planned["programs"] == 2 * len(made["blocks"])
    assert not Path("pack").exists()
    arguments = ("--sample", "pictures.npz", "--classes", "classes.txt", "--name", "flowers", "--json")
    exported = call(export, "supernet", "pack", *arguments)
    document = document_of(exported)
    assert (document["name"], document["subnets"]) == ("flowers", made["subnets"])
    assert set(document["backends"]) == {"executorch", "onnx"}
    assert all(facts["worst"] <= 1 for facts in document["backends"].values())
    assert "export: " in exported.stderr

    for address in ENGINES:
        options = ("--device", address, "--data", "pictures.npz", *QUICK, "--out", "profile.json")
        assert document_of(call(profile, "pack", *options, "--json"))["device"]["address"] == address
        options = ("--data", "pictures.npz", "--budget", "1000ms", "--count", "4", "--adapt", "--json")
        served = document_of(call(run, "pack", "profile.json", *options))
        assert served["device"]["address"] == address
        assert len(served["answers"]) == 4

    bundled = document_of(call(export, "pack", "bundle", "--backend", "onnx", "--profile", "profile.json", "--json"))
    assert list(bundled["backends"]) == ["onnx"]
    assert bundled["blocks"] <= document["blocks"]
    again = document_of(call(run, "bundle", "profile.json", *options))
    assert again["answers"] == served["answers"]


def test_elastify_dry_run_and_table(workplace: Path) -> None:
    arguments = ("flower_model:build", "--out", "supernet", "--size", "32")
    result = call(elastify, *arguments, "--dry-run")
    assert result.exit_code == 0
    assert re.search(r"^b01-m2 +\S+ +1 → 3", result.stdout, re.MULTILINE)
    assert result.stdout.endswith(" subnets\n")
    document = document_of(call(elastify, *arguments, "--dry-run", "--json"))
    assert (document["dry_run"], document["training"]) == (True, None)
    assert not Path("supernet").exists()
    result = call(elastify, *arguments)
    assert "no --data" in result.stderr
    assert sorted(os.listdir("supernet")) == ["supernet.json", "weights.safetensors"]


TREE = """\
flower_model:build: 5 cuts, no taps, 4 original blocks, 2 of them with alternatives, 11 blocks in all, 17 subnets
├── 0…1  b00 → 16×16×16 · 0.1 MMACs · as it is
├── 2  b01 → 16×16×16 · 2.4 MMACs · p25, p50, skip, m2
├── 3  b02 → 16×16×16 · 2.4 MMACs · p25, p50, skip
└── 4…6  b03 → 5 · 0.0 MMACs · as it is
"""


def test_elastify_explains_where_it_cut(workplace: Path) -> None:
    assert call(elastify, "flower_model:build", "--size", "32", "--explain").stdout == TREE
    assert call(elastify, "flower_model:build", "--size", "32", "--explain", "--no-skip").stdout.count("skip") == 0
    assert sorted(path.name for path in workplace.iterdir() if path.is_dir() and path.name != "__pycache__") == []
    result = call(elastify, "flower_model:build", "--size", "32")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Missing option '--out'" in result.stderr


@pytest.mark.parametrize("recipe", ["ours", "paper", "naive"])
def test_elastify_ends_with_a_table_of_quality(recipe: str, workplace: Path) -> None:
    arguments = [
        "flower_model:build", "--out", "supernet", "--size", "32", "--data", "pictures.npz", "--epochs", "0.6",
        "--batch-size", "4", "--recipe", recipe, "--classes", "classes.txt", "--hold-out", "0.25",
    ]  # fmt: skip
    result = call(elastify, *arguments)
    assert result.exit_code == 0, result.stderr
    assert re.search(r"^oracle +1 +\S+%", result.stdout, re.MULTILINE)
    assert re.search(r"^90% +\d+ ", result.stdout, re.MULTILINE)
    assert "top1 on 5 pictures" in result.stdout
    document = document_of(call(elastify, *arguments, "--json"))
    assert [at["budget"] for at in document["validation"]["budgets"]] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert document["validation"]["losses"].keys() == document["training"]["losses"]["trained"].keys()
    np.savez("own.npz", images=np.load("pictures.npz")["images"][:3])
    document = document_of(call(elastify, *arguments[:-2], "--validate", "own.npz", "--json"))
    assert (document["validation"]["metric"], document["validation"]["oracle"]["value"]) == ("agreement", 1.0)


def test_elastify_under_torchrun(workplace: Path) -> None:
    """Two workers write one supernet and one document, and their curve is that of one."""
    arguments = [
        "flower_model:build", "--size", "32", "--data", "pictures.npz", "--epochs", "1", "--batch-size", "4",
        "--json",
    ]  # fmt: skip
    alone = document_of(call(elastify, *arguments, "--out", "alone", "--tensorboard", "alone-logs"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["adaptivenet.toolkit.cli.elastify", *arguments, "--out", "together", "--tensorboard", "together-logs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    assert done.stderr.count("supernet written to together") == 1
    for name, losses in curves(Path("alone-logs")).items():
        assert curves(Path("together-logs"))[name] == pytest.approx(losses, rel=1e-3, abs=1e-6), name
    for block, loss in alone["training"]["losses"]["trained"].items():
        assert together["training"]["losses"]["trained"][block] == pytest.approx(loss, rel=1e-2)


def test_elastify_looks_for_modules_in_the_current_folder(workplace: Path) -> None:
    script = Path(sys.executable).with_name("adaptivenet-elastify")
    command = [str(script), "flower_model:build", "--out", "supernet", "--size", "32", "--dry-run", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["source"] == "flower_model:build"
    assert done.stderr == "loading flower_model:build\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no_such_module:build",), "cannot import 'no_such_module'"),
        (("flower_model:nothing",), "module 'flower_model' has no 'nothing'"),
        (("flower_model",), "is no name of a model"),
        (("flower_model:build", "--preprocessing", "nothing.json"), "neither auto, imagenet nor a file"),
        (("flower_model:build", "--preprocessing", "classes.txt"), "is not JSON"),
        (("flower_model:build", "--data", "nothing"), "nothing does not exist"),
        (("flower_model:build", "--data", "pictures.npz", "--batch-size", "0"), "batch_size is 0"),
        (("flower_model:build", "--data", "unlabelled", "--recipe", "paper"), "the data set has none"),
        (("flower_model:build", "--data", "pictures.npz", "--classes", "nothing"), "--classes nothing cannot be read"),
        (("flower_model:build", "--data", "pictures.npz", "--hold-out", "0.01"), "too few for a part of 0.01"),
        (("flower_model:build", "--data", "pictures.npz", "--validate", "nothing"), "nothing does not exist"),
        (("flower_model:build", "--weights", "nothing.pth"), "there is no file of weights at nothing.pth"),
        (("flower_model:build", "--output", "boxes"), "there is no output 'boxes'"),
        (("flower_model:build", "--prune", "1.5"), "cannot prune 1.5: a share between 0 and 1 is needed"),
        (("flower_model:build", "--out", "taken"), "taken is not a supernet and will not be overwritten"),
        (("flower_model:build", "--out", "classes.txt/supernet"), "supernet"),
    ],
)
def test_bad_input_of_elastify(arguments: Sequence[str], message: str, workplace: Path) -> None:
    (workplace / "taken").mkdir()
    (workplace / "taken" / "precious.txt").write_text("")
    (workplace / "unlabelled").mkdir()
    Image.new("RGB", (40, 40)).save(workplace / "unlabelled" / "picture.png")
    before = sorted(workplace.rglob("*"))
    out = () if "--out" in arguments else ("--out", "supernet")
    assert message in error_of(call(elastify, *arguments, *out, "--size", "32"))
    after = [path for path in sorted(workplace.rglob("*")) if "__pycache__" not in path.parts]
    assert after == before


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_export_refuses_what_is_there_before_the_long_part(dry: Sequence[str], workplace: Path) -> None:
    (workplace / "pack").mkdir()
    result = call(export, "supernet", "pack", *dry)
    assert "pack exists already; remove it, choose another name" in error_of(result)
    assert result.stderr.count("\n") == 1


def test_bad_input_of_export(workplace: Path, tiny_pack: BlockPack, profiles: dict[str, Path]) -> None:
    cases: list[tuple[tuple[object, ...], str]] = [
        (("nothing", "pack"), "nothing is no supernet"),
        (("nothing", "pack", "--profile", "profile.json"), "--profile is for bundling one"),
        ((tiny_pack.path, "pack", "--backend", "onnx", "--backend", "executorch"), "a bundle holds one backend"),
        ((tiny_pack.path, "pack", "--jobs", "2", "--name", "x"), "--name, --jobs is for exporting a supernet"),
        ((tiny_pack.path, "pack", "--profile", "nothing.json"), "nothing.json cannot be read"),
        ((build_pack(workplace / "other").path, "pack", "--profile", profiles[ENGINES[0]]), "made for another pack"),
        ((workplace / "other", "pack", "--backend", "executorch"), "has no programs for 'executorch'"),
    ]
    for arguments, message in cases:
        assert message in error_of(call(export, *arguments))
        assert not (workplace / "pack").exists()
    dry = document_of(call(export, tiny_pack.path, "pack", "--dry-run", "--json", "--profile", profiles[ENGINES[0]]))
    assert dry["dry_run"] is True
    assert 3 <= dry["blocks"] <= 6
