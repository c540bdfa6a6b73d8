"""What must hold for the repository as a whole: borders between packages, what setup.cfg says, no private paths."""

from __future__ import annotations

import ast
import configparser
import fnmatch
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {f"adaptivenet.{name}": ROOT / name for name in ("toolkit", "export", "android_runner")}
MODULES = {path: name for name, folder in FOLDERS.items() for path in sorted(folder.rglob("*.py"))}
TORCH = {"executorch", "safetensors.torch", "timm", "torch", "torchvision"}
MAY_IMPORT_TORCH = ("toolkit/elastic/", "toolkit/training/", "toolkit/devices/local/executorch_engine.py", "export/")
# Which rooms a room may import from, itself and the modules beside the rooms apart.
_BASE = {"graph"}
_MEASURED = _BASE | {"pack", "plan", "data"}
ROOMS = {
    "graph": set[str](),
    "data": _BASE,
    "pack": _BASE | {"data"},
    "plan": _BASE,
    "elastic": _BASE | {"data", "pack"},
    "training": _BASE | {"pack", "data", "elastic"},
    "devices": _MEASURED,
    "search": _MEASURED | {"devices"},
    "profiling": _MEASURED | {"devices", "search"},
    "serving": _MEASURED | {"devices", "search", "profiling"},
    "report": _MEASURED | {"devices", "search", "profiling", "serving"},
}
MAY_IMPORT_ALL = {"cli", "__init__"}
COMMANDS = (
    "adaptivenet-elastify",
    "adaptivenet-export",
    "adaptivenet-profile",
    "adaptivenet-run",
    "adaptivenet-runner",
)


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def dotted(path: Path) -> list[str]:
    """The full name of a module, in parts: toolkit/cli/run.py is adaptivenet, toolkit, cli, run."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ["adaptivenet", *(part for part in parts if part != "__init__")]


def imports(path: Path) -> Iterator[str]:
    """The full name of everything that a module imports, wherever in it; not what only a type checker imports."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path)[:-1]
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                todo.extend(node.orelse)
                continue
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                above = package[: len(package) - node.level + 1] if node.level else []
                start = ".".join([*above, *([node.module] if node.module else [])])
                yield start
                yield from (f"{start}.{alias.name}" for alias in node.names)
        todo.extend(ast.iter_child_nodes(node))


def is_in(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def repository_files() -> Iterator[Path]:
    """Every file that is not ignored by .gitignore, which here holds nothing but plain names."""
    ignored = [line.strip("/") for line in lines((ROOT / ".gitignore").read_text(encoding="utf-8"))]
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if parts[0] == ".git" or any(fnmatch.fnmatch(part, pattern) for part in parts for pattern in ignored):
            continue
        if path.is_file():
            yield path


def test_entry_points_can_be_called() -> None:
    scripts = dict(line.split(" = ") for line in lines(setup_cfg()["options.entry_points"]["console_scripts"]))
    assert set(scripts) == set(COMMANDS)
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), target


def test_every_package_is_listed_and_has_an_init() -> None:
    listed = set(lines(setup_cfg()["options"]["packages"]))
    found = {".".join(["adaptivenet", *path.parent.relative_to(ROOT).parts]) for path in MODULES}
    assert listed == found
    assert {path.parent for path in MODULES} == {path.parent for path in MODULES if path.name == "__init__.py"}


def test_package_data_is_listed() -> None:
    for name, folder in FOLDERS.items():
        listed = lines(setup_cfg()["options.package_data"][name])
        left_out = lines(setup_cfg()["options.exclude_package_data"].get(name, ""))
        for path in folder.rglob("*"):
            relative = path.relative_to(folder).as_posix()
            if any(fnmatch.fnmatch(relative, pattern) for pattern in left_out):
                continue
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert any(fnmatch.fnmatch(relative, pattern) for pattern in listed), f"{name}: {relative}"


def test_the_toolkit_imports_neither_the_export_nor_what_builds_runners() -> None:
    for path, package in MODULES.items():
        if package == "adaptivenet.toolkit":
            others = {"adaptivenet.export", "adaptivenet.android_runner"}
            assert not [name for name in imports(path) if is_in(name, others)], path


def room_of(name: str) -> str | None:
    """The room of a module by its full name; None: it is outside of the toolkit, or beside the rooms."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["adaptivenet", "toolkit"] and len(parts) > 2 and parts[2] in ROOMS else None


def test_rooms_import_in_one_direction() -> None:
    folders = {path.parent.name for path in (ROOT / "toolkit").glob("*/__init__.py")}
    assert folders == set(ROOMS) | MAY_IMPORT_ALL - {"__init__"}
    against = []
    for path in (path for path, package in MODULES.items() if package == "adaptivenet.toolkit"):
        name = path.relative_to(ROOT / "toolkit").parts[0].removesuffix(".py")
        # A module beside the rooms is read by all of them: it knows no more than what the first of them are made of.
        allowed = ROOMS[name] | {name} if name in ROOMS else {"graph", "pack"}
        if name not in MAY_IMPORT_ALL:
            wrong = {room for each in imports(path) if (room := room_of(each)) and room not in allowed}
            against += [f"{path.relative_to(ROOT)} imports from {room}" for room in sorted(wrong)]
    assert against == []


def test_only_elastic_training_export_and_the_executorch_engine_import_torch() -> None:
    importing = {
        path.relative_to(ROOT).as_posix() for path in MODULES if any(is_in(name, TORCH) for name in imports(path))
    }
    assert importing, "no module imports torch: this test looks in the wrong place"
    assert {path for path in importing if not path.startswith(MAY_IMPORT_TORCH)} == set()


@pytest.mark.parametrize("module", ["adaptivenet.toolkit", "adaptivenet.toolkit.cli.profile"])
def test_importing_does_not_load_torch(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = json.loads(result.stdout)
    assert module in loaded
    assert [name for name in loaded if is_in(name, TORCH)] == []


def test_every_module_says_what_it_is_for() -> None:
    paths = [*MODULES, *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert [path for path in paths if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


def test_no_file_names_a_folder_of_one_machine_or_a_package_registry() -> None:
    # Put together here, or this file would be the first to be found.
    folders = "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me"])
    hosts = "|".join(
        re.escape(".".join(parts)) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))
    )
    options = "|".join("--" + option for option in ("index" + "-url", "extra-index" + "-url", "find" + "-links"))
    pattern = re.compile(rf"(?<![\w.~$}}<>)*/-])/(?:{folders})\b|{hosts}|download\.py[t]orch\.org|{options}")
    assert pattern.search("see /" + "root/x"), "the pattern finds nothing"
    found = []
    for path in repository_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in pattern.finditer(text)]
    assert found == []


def test_the_installed_torch_is_in_the_range_of_setup_cfg() -> None:
    pinned = re.search(
        r"^torch=torch==(\S+)$", (ROOT / "scripts" / "install").read_text(encoding="utf-8"), re.MULTILINE
    )
    required = [Requirement(line) for line in lines(setup_cfg()["options"]["install_requires"])]
    (torch,) = [requirement for requirement in required if requirement.name == "torch"]
    assert pinned
    assert torch.specifier.contains(Version(pinned.group(1)))
