"""How a runner is built: the tools that it takes, the libraries that are put beside it, and the commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from adaptivenet.android_runner import build as builder
from adaptivenet.android_runner.build import compiler_of, gather, require_tools
from adaptivenet.toolkit.devices.phone.runner_bundle import PRESETS
from adaptivenet.toolkit.errors import DeviceError


@pytest.mark.parametrize(("api", "taken"), [(1, True), (9999, False), (None, False)])
def test_onnxruntime_is_built_in_when_the_library_serves_the_headers(
    api: int | None, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = tmp_path / "include"
    headers.mkdir()
    (headers / "onnxruntime_cxx_api.h").touch()
    (headers / "onnxruntime_c_api.h").write_text(f"#define ORT_API_VERSION {api}\n" if api else "")
    monkeypatch.setattr(builder, "_onnxruntime_folders", lambda sources: [tmp_path / "include"])
    include, library = builder._onnxruntime(tmp_path)
    assert (include == f"-DONNXRUNTIME_INCLUDE={headers}") == taken
    assert Path(library.partition("=")[2]).is_file() == taken


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
    script = Path(__file__).parents[2] / "scripts" / "build_runner"
    environment = {**os.environ, "PYTHON": sys.executable}
    ran = subprocess.run([script, "arm"], capture_output=True, text=True, env=environment)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"error: there is no preset 'arm': choose from {', '.join(PRESETS)}\n"
    ran = subprocess.run([script], capture_output=True, text=True, env=environment)
    assert ran.returncode == 2
    assert "Missing argument 'PRESET'" in ran.stderr
