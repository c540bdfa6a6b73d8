"""The wheel, unpacked outside of the checkout: it has the runner's sources, and its commands find and build runners.

A build from the wheel takes minutes and is not among these tests; that the sources are complete is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from adaptivenet.toolkit.devices.phone.runner_bundle import PRESETS, SOURCES, Bundle, runner_version

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel of this checkout is unpacked in."""
    pytest.importorskip("setuptools", "77")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    # Built from a copy: setuptools leaves build/ and *.egg-info beside the sources.
    copy = folder / "copy"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in files.rstrip("\0").split("\0"):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", folder, copy], check=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_in(wheel: Path, cache: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Python with the package of the wheel, in a folder outside of the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(wheel), "XDG_CACHE_HOME": str(cache)}
    cache.mkdir(exist_ok=True)
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cache, env=environment, timeout=300)


def command_in(wheel: Path, cache: Path, module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_in(wheel, cache, "-m", module, *arguments)


def test_the_wheel_has_all_that_a_runner_is_built_from(wheel: Path) -> None:
    assert runner_version("1", wheel / "adaptivenet") == runner_version("1", SOURCES)
    there = {path.relative_to(wheel).parts[2] for path in (wheel / "adaptivenet" / "android_runner").rglob("*.cpp")}
    assert not there & {"tests", "fuzz", "bench", "examples"}
    assert (wheel / "adaptivenet" / "android_runner" / "include" / "adaptivenet" / "adaptivenet.h").is_file()
    listed = re.findall(r"\b[a-z]+/\w+\.cpp", (ROOT / "android_runner" / "CMakeLists.txt").read_text())
    for path in (ROOT / "android_runner" / "cmake").glob("*.cmake"):
        listed += re.findall(r"\b(?!bench)[a-z]+/\w+\.cpp", path.read_text())
    assert len(listed) > 30
    assert [name for name in listed if not (wheel / "adaptivenet" / "android_runner" / name).is_file()] == []


def test_a_runner_that_is_not_built_is_an_error_with_the_command(wheel: Path, tmp_path: Path) -> None:
    ran = command_in(wheel, tmp_path / "cache", "adaptivenet.android_runner.cli", "where")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "error: no runner is built for host; build one: adaptivenet-runner build host\n"
    ran = command_in(wheel, tmp_path / "cache", "adaptivenet.android_runner.cli", "list", "--json")
    runners = json.loads(ran.stdout)["runners"]
    assert {each["preset"]: each["problem"] for each in runners} == {
        preset: f"not built: adaptivenet-runner build {preset}" for preset in PRESETS
    }


def test_a_runner_in_the_cache_is_found(wheel: Path, tmp_path: Path) -> None:
    wanted = runner_version(version("adaptivenet"), wheel / "adaptivenet")
    folder = tmp_path / "cache" / "adaptivenet" / "runner" / wanted / "host" / "bundle"
    folder.mkdir(parents=True)
    (folder / "adaptivenet-runner").write_bytes(b"program")
    Bundle.of(folder, "host", f"{wanted}.abcdef", ["./adaptivenet-runner"]).write_list()
    ran = command_in(wheel, tmp_path / "cache", "adaptivenet.android_runner.cli", "where", "host")
    assert (ran.returncode, ran.stdout) == (0, f"{folder}\n"), ran.stderr
    ran = command_in(wheel, tmp_path / "cache", "adaptivenet.android_runner.cli", "list")
    assert re.search(rf"^host +{re.escape(wanted)}\.abcdef +0\.0 MB +{re.escape(str(folder))}$", ran.stdout, re.M)


def test_the_tests_that_look_for_runners_pass_in_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    program = (
        "import sys, pytest, adaptivenet.toolkit as toolkit\n"
        f"assert toolkit.__file__.startswith({str(wheel)!r}), toolkit.__file__\n"
        f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-c', '/dev/null', '--noconftest', "
        f"{str(ROOT / 'tests' / 'devices' / 'test_runner_bundle.py')!r}]))\n"
    )
    ran = run_in(wheel, tmp_path / "cache", "-c", program)
    assert ran.returncode == 0, ran.stdout + ran.stderr
