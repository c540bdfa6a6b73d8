"""The small decisions about a phone: its cores, whether it got slower, which runner it gets and how that is built."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.devices.conditions import Conditions
from adaptivenet.toolkit.devices.phone import build_runner
from adaptivenet.toolkit.devices.phone.build_runner import compiler_of, gather, require_tools
from adaptivenet.toolkit.devices.phone.bundle import (
    LIST,
    PRESETS,
    Bundle,
    build_command,
    find_bundle,
    presets_for,
    runner_version,
)
from adaptivenet.toolkit.devices.phone.cores import choose_cores, parse_cores, spell_cores
from adaptivenet.toolkit.devices.phone.throttling import throttling, warning
from adaptivenet.toolkit.errors import DeviceError
from hypothesis import given
from hypothesis import strategies as st

# Cores


@given(st.sets(st.integers(0, 40), min_size=1))
def test_cores_are_read_as_they_are_written(cores: set[int]) -> None:
    assert parse_cores(spell_cores([*cores])) == tuple(sorted(cores))


def test_cores_are_written_in_runs() -> None:
    assert spell_cores([7, 0, 1, 2, 4, 5]) == "0-2,4-5,7"
    assert parse_cores(" 4-5, 0,4") == (0, 4, 5)


@pytest.mark.parametrize("text", ["", "x", "3-1", "-1", "1-", "1,,2", "1.5", "0-99999"])
def test_what_names_no_cores_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="names no cores: write them like 4-7"):
        parse_cores(text)


def cores_of(*speeds: int | None) -> list[dict[str, Any]]:
    return [{"cpu": cpu, "max_khz": speed, "khz": None, "governor": None} for cpu, speed in enumerate(speeds)]


SNAPDRAGON = cores_of(*[1_785_600] * 4, *[2_496_000] * 3, 2_995_200)


@pytest.mark.parametrize(
    ("there", "threads", "wanted", "chosen"),
    [
        (SNAPDRAGON, 1, None, (7,)),
        (SNAPDRAGON, 2, None, (4, 5, 6, 7)),
        (SNAPDRAGON, 4, None, (4, 5, 6, 7)),
        (SNAPDRAGON, 5, None, tuple(range(8))),
        (SNAPDRAGON, 99, None, tuple(range(8))),
        (SNAPDRAGON, 1, "any", None),
        (SNAPDRAGON, 2, "0,3", (0, 3)),
        (cores_of(None, None), 1, None, None),
        (cores_of(2_000_000, None), 1, None, None),
        ([], 1, None, None),
    ],
)
def test_the_fastest_cores_are_chosen_unless_others_are_wanted(
    there: list[dict[str, Any]], threads: int, wanted: str | None, chosen: tuple[int, ...] | None
) -> None:
    assert choose_cores(there, threads, wanted) == chosen


def test_cores_that_cannot_be_had_are_named() -> None:
    with pytest.raises(DeviceError, match="there is no core 8: the phone has 0-7"):
        choose_cores(SNAPDRAGON, 1, "4-8")
    with pytest.raises(DeviceError, match="3 threads need as many cores, and 0-1 are 2"):
        choose_cores(SNAPDRAGON, 3, "0-1")


# Throttling


@given(st.lists(st.floats(9.9, 10.1), max_size=60))
def test_a_steady_device_is_not_said_to_throttle(samples: list[float]) -> None:
    assert throttling(samples) is None


@given(st.integers(16, 60), st.floats(1.06, 3), st.randoms())
def test_a_device_that_gets_slower_is_found(rounds: int, slowdown: float, random: Any) -> None:
    samples = [10 * random.uniform(0.999, 1.001) * (1 if at < rounds // 2 else slowdown) for at in range(rounds)]
    found = throttling(samples)
    assert found is not None
    assert found == pytest.approx(slowdown, rel=0.01)
    assert throttling(samples[::-1]) is None


def test_what_wavers_anyway_is_no_throttling() -> None:
    assert throttling([10, 14, 10, 14, 10, 14, 10, 14] * 2 + [11, 14, 12, 14, 13, 14, 13, 14] * 2) is None


def test_too_few_rounds_say_nothing() -> None:
    assert throttling([1.0] * 7 + [2.0] * 8) is None


def test_the_warning_says_what_is_known() -> None:
    hot = Conditions(
        1,
        (0, 1, 2),
        ("a", "b", None),
        (1_000_000, 2_995_200, None),
        (1_000_000, 2_100_000, None),
        {"cpu": 35.2, "skin": 31.0},
        {"cpu": 71.9, "skin": 40.0, "alarm": 60000.0},
    )
    text = warning(1.234, 30, hot)
    assert "23% slower" in text
    assert "last 7 of 30 rounds" in text
    assert "; its clock from 3.00 to 2.10 GHz and its hottest sensor from 35 to 72 °C; measure again" in text
    assert hot.in_words().startswith("cores 0-2, governor a and b, its clock")
    bare = Conditions(1, None, (), (None,), (), {}, {"skin": 0.0})
    assert "°C" not in warning(1.1, 30, bare)
    assert "GHz" not in warning(1.1, 30, bare)
    assert bare.in_words() == "any core"


# Which runner


@pytest.mark.parametrize(
    ("abi", "machine", "here", "presets"),
    [
        ("arm64-v8a", "aarch64", "x86_64", ("android-arm64", "linux-arm64")),
        ("arm64-v8a", "aarch64", "aarch64", ("android-arm64", "linux-arm64", "host")),
        ("arm64-v8a", "armv8l", "x86_64", ("android-arm64", "linux-arm64")),
        ("x86_64", "x86_64", "x86_64", ("android-x86_64", "host")),
        ("x86_64", "x86_64", "aarch64", ("android-x86_64",)),
        ("", "x86_64", "x86_64", ("host",)),
        ("", "aarch64", "aarch64", ("host",)),
        ("", "aarch64", "x86_64", ("linux-arm64",)),
    ],
)
def test_a_phone_gets_a_runner_that_runs_there(abi: str, machine: str, here: str, presets: tuple[str, ...]) -> None:
    assert presets_for(abi, machine, here) == presets


@pytest.mark.parametrize(
    ("abi", "machine", "here"),
    [("armeabi-v7a", "armv7l", "x86_64"), ("", "riscv64", "x86_64"), ("", "x86_64", "arm64"), ("", "", "x86_64")],
)
def test_a_processor_without_a_runner_is_named(abi: str, machine: str, here: str) -> None:
    with pytest.raises(DeviceError, match=f"there is no runner for {abi or machine or 'this device'}: arm64-v8a"):
        presets_for(abi, machine, here)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A source checkout with a bundle for linux-arm64."""
    (tmp_path / "android_runner").mkdir()
    folder = tmp_path / "build" / "runner" / "linux-arm64" / "bundle"
    folder.mkdir(parents=True)
    (folder / "adaptivenet-runner").write_bytes(b"program")
    (folder / "libc.so.6").write_bytes(b"library")
    Bundle.of(folder, "linux-arm64", "0.1.0", ["./adaptivenet-runner"]).write_list()
    return tmp_path


def test_a_bundle_is_found_and_read(sources: Path) -> None:
    bundle = find_bundle(["android-arm64", "linux-arm64"], "0.1.0", sources)
    assert (bundle.preset, bundle.version, bundle.start) == ("linux-arm64", "0.1.0", ("./adaptivenet-runner",))
    assert [(file.name, file.bytes) for file in bundle.files] == [("adaptivenet-runner", 7), ("libc.so.6", 7)]


def test_the_digest_stands_for_the_files_and_the_start(sources: Path) -> None:
    bundle = find_bundle(["linux-arm64"], "0.1.0", sources)
    same = Bundle.of(bundle.folder, "other", "0.2", bundle.start)
    assert same.digest == bundle.digest
    assert Bundle.of(bundle.folder, "linux-arm64", "0.1.0", ["sh", *bundle.start]).digest != bundle.digest
    (bundle.folder / "libc.so.6").write_bytes(b"another")
    assert Bundle.of(bundle.folder, "linux-arm64", "0.1.0", bundle.start).digest != bundle.digest


def test_a_missing_bundle_is_an_error_with_the_command_that_builds_it(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DeviceError, match=rf"no runner is built for host; build one: {sources}/scripts/build_runner host$"
    ):
        find_bundle(["host"], "0.1.0", sources)
    shutil.rmtree(sources / "build")
    with pytest.raises(DeviceError, match=r"for android-arm64 or linux-arm64; build one: .*/build_runner linux-arm64$"):
        find_bundle(["android-arm64", "linux-arm64"], "0.1.0", sources)
    assert build_command("host", tmp_path / "site-packages").startswith("scripts/build_runner host in a checkout")


def test_a_bundle_of_another_version_is_to_be_built_again(sources: Path) -> None:
    with pytest.raises(
        DeviceError, match=r"is of version 0\.1\.0, this is 0\.2\.0; build it again: .*runner linux-arm64"
    ):
        find_bundle(["linux-arm64"], "0.2.0", sources)


@pytest.mark.parametrize("changed", ["CMakeLists.txt", "CMakePresets.json", "cmake/a.cmake", "src/a.cpp", "src/a.h"])
def test_a_bundle_of_other_sources_is_to_be_built_again(changed: str, sources: Path) -> None:
    folder = sources / "android_runner"
    for file in ("CMakeLists.txt", "CMakePresets.json", "cmake/a.cmake", "src/a.cpp", "src/a.h", "src/version.h.in"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(file)
    built = runner_version(version("adaptivenet"), sources)
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{12}", built)
    bundle = sources / "build" / "runner" / "linux-arm64" / "bundle"
    Bundle.of(bundle, "linux-arm64", f"{built}.abcdef", ["./adaptivenet-runner"]).write_list()
    assert find_bundle(["linux-arm64"], sources=sources).version == f"{built}.abcdef"

    (folder / "tests").mkdir()
    for beside in ("tests/a_test.cpp", "src/.a.cpp.swp", "src/a.cpp~", "CMakeUserPresets.json"):
        (folder / beside).write_text("beside the program's sources")
    (folder / "src" / ".#a.cpp").symlink_to("an editor's lock")
    assert find_bundle(["linux-arm64"], sources=sources).version == f"{built}.abcdef"

    (folder / changed).write_text("changed")
    with pytest.raises(
        DeviceError, match=r"is of version \S+\.abcdef, this is \S+; build it again: .*runner linux-arm64"
    ):
        find_bundle(["linux-arm64"], sources=sources)


@pytest.mark.parametrize(("api", "taken"), [(1, True), (9999, False), (None, False)])
def test_onnxruntime_is_built_in_when_the_library_serves_the_headers(
    api: int | None, taken: bool, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = sources / "include"
    headers.mkdir()
    (headers / "onnxruntime_cxx_api.h").touch()
    (headers / "onnxruntime_c_api.h").write_text(f"#define ORT_API_VERSION {api}\n" if api else "")
    monkeypatch.setattr(build_runner, "_onnxruntime_folders", lambda sources: [sources / "include"])
    include, library = build_runner._onnxruntime(sources)
    assert (include == f"-DONNXRUNTIME_INCLUDE={headers}") == taken
    assert Path(library.partition("=")[2]).is_file() == taken


def test_without_sources_every_build_of_a_version_will_do(sources: Path, tmp_path: Path) -> None:
    folder = sources / "build" / "runner" / "linux-arm64" / "bundle"
    Bundle.of(folder, "linux-arm64", "0.1.0+abc.def", ["./adaptivenet-runner"]).write_list()
    (sources / "android_runner").rmdir()
    assert runner_version("0.1.0", sources) == "0.1.0"
    assert find_bundle(["linux-arm64"], "0.1.0", sources).version == "0.1.0+abc.def"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / LIST).write_text("{"),
        lambda folder: (folder / LIST).write_text("[]"),
        lambda folder: (folder / "libc.so.6").unlink(),
        lambda folder: (folder / "libc.so.6").write_bytes(b"cut"),
        lambda folder: edit(folder, lambda document: document.update(format="zip")),
        lambda folder: edit(folder, lambda document: document.pop("start")),
        lambda folder: edit(folder, lambda document: document["files"][0].update(name="../adaptivenet-runner")),
    ],
)
def test_a_damaged_bundle_is_refused(sources: Path, damage: Any) -> None:
    damage(sources / "build" / "runner" / "linux-arm64" / "bundle")
    with pytest.raises(DeviceError, match=r"the runner in .* is damaged .*: build it again"):
        find_bundle(["linux-arm64"], "0.1.0", sources)


def edit(folder: Path, change: Any) -> None:
    document = json.loads((folder / LIST).read_text())
    change(document)
    (folder / LIST).write_text(json.dumps(document))


# Building


@pytest.mark.parametrize("preset", ["host", "linux-arm64"])
def test_missing_tools_are_named_with_the_command_that_installs_them(preset: str) -> None:
    compiler = {"host": "g++", "linux-arm64": "g++-aarch64-linux-gnu"}[preset]
    with pytest.raises(DeviceError) as caught:
        require_tools(preset, lambda tool: None, lambda path: False)
    text = str(caught.value)
    assert text.endswith(f"apt-get install -y cmake make binutils {compiler} nlohmann-json3-dev")
    require_tools(preset, lambda tool: f"/usr/bin/{tool}", lambda path: True, tests=True)


@pytest.mark.parametrize(("preset", "missing"), [("host", "libgtest-dev"), ("linux-arm64", "qemu-user googletest")])
def test_only_those_who_build_the_tests_need_what_these_take(preset: str, missing: str) -> None:
    def which(tool: str) -> str | None:
        return None if "qemu" in tool else tool

    def exists(path: str) -> bool:
        return "test" not in path

    require_tools(preset, which, exists)
    with pytest.raises(DeviceError, match=f"apt-get install -y {missing}$"):
        require_tools(preset, which, exists, tests=True)


def test_a_preset_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(DeviceError, match=f"no preset 'arm': choose from {', '.join(PRESETS)}"):
        require_tools("arm")


def test_android_needs_its_ndk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    with pytest.raises(DeviceError, match="set ANDROID_NDK_HOME to its folder, or use linux-arm64, which needs none"):
        require_tools("android-arm64", lambda tool: tool, lambda header: True)


needs_compiler = pytest.mark.skipif(
    not shutil.which("cc") or not shutil.which("readelf"), reason="no C compiler or no readelf"
)


@needs_compiler
def test_a_gathered_program_runs_with_its_own_libraries(tmp_path: Path) -> None:
    """A program that needs a library which needs another one; both are found by the names that they give themselves."""
    for name, source, needs in (
        ("inner", "int inner(void) { return 40; }", []),
        ("outer", "int inner(void); int outer(void) { return inner() + 2; }", ["-linner"]),
    ):
        (tmp_path / f"{name}.c").write_text(source)
        soname = f"-Wl,-soname,lib{name}.so.1"
        target = tmp_path / f"lib{name}.so"
        command = ["cc", "-shared", "-fPIC", soname, tmp_path / f"{name}.c", "-o", target, f"-L{tmp_path}", *needs]
        subprocess.run(command, check=True)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\nint outer(void); int main(void) { printf("%d\\n", outer()); return 0; }'
    )
    libraries = [f"-L{tmp_path}", "-louter", f"-Wl,-rpath,{tmp_path}", "-Wl,--allow-shlib-undefined"]
    program = tmp_path / "program"
    subprocess.run(["cc", tmp_path / "main.c", "-o", program, *libraries], check=True)

    bundle = tmp_path / "bundle"
    bundle.mkdir()
    folder = tmp_path / "build"
    (folder / "CMakeFiles" / "3.25.1").mkdir(parents=True)
    (folder / "CMakeFiles" / "3.25.1" / "CMakeCXXCompiler.cmake").write_text(
        f'set(CMAKE_CXX_COMPILER "{shutil.which("cc")}")\nset(CMAKE_CXX_COMPILER_ARG1 "")\n'
    )
    start = gather(program, bundle, compiler_of(folder))
    for path in tmp_path.glob("lib*.so"):
        path.unlink()
    assert start[0].startswith("./ld-")
    assert {"program", "libouter.so.1", "libinner.so.1", "libc.so.6"} <= {path.name for path in bundle.iterdir()}
    for path in bundle.iterdir():
        path.chmod(0o700 if path.name in ("program", start[0][2:]) else 0o600)
    ran = subprocess.run(start, cwd=bundle, capture_output=True, text=True, env={})
    assert (ran.returncode, ran.stdout) == (0, "42\n"), ran.stderr


@needs_compiler
def test_a_library_that_is_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int f(void); int main(void) { return f(); }")
    (tmp_path / "f.c").write_text("int f(void) { return 0; }")
    library, program = tmp_path / "libmissing.so", tmp_path / "program"
    subprocess.run(["cc", "-shared", "-fPIC", tmp_path / "f.c", "-o", library], check=True)
    subprocess.run(["cc", tmp_path / "main.c", library, "-o", program], check=True)
    library.unlink()
    (tmp_path / "bundle").mkdir()
    with pytest.raises(DeviceError, match=r"program needs the library .*libmissing\.so, which is not found"):
        gather(program, tmp_path / "bundle", lambda name: name)


@needs_compiler
def test_a_program_for_android_leaves_its_libraries_on_the_phone(tmp_path: Path) -> None:
    """A compiler does find libc.so: the NDK's stand-in for it, or this computer's."""
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    program = tmp_path / "program"
    android = "-Wl,--dynamic-linker=/system/bin/linker64"
    subprocess.run(["cc", tmp_path / "main.c", "-o", program, android], check=True)
    (tmp_path / "found").write_text("GROUP ( /lib/libc.so.6 )")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    assert gather(program, bundle, lambda name: str(tmp_path / "found")) == ["./program"]
    assert [path.name for path in bundle.iterdir()] == ["program"]


def test_the_script_refuses_what_it_cannot_build() -> None:
    script = Path(__file__).parent.parent / "scripts" / "build_runner"
    environment = {**os.environ, "PYTHON": sys.executable}
    ran = subprocess.run([script, "arm"], capture_output=True, text=True, env=environment)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"error: there is no preset 'arm': choose from {', '.join(PRESETS)}\n"
    ran = subprocess.run([script], capture_output=True, text=True, env=environment)
    assert ran.returncode == 2
    assert ran.stderr.startswith("usage: ")
