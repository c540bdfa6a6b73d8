"""A search strategy of somebody's own comes in as one class, from Python and by its name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.errors import ProfileError
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profiling import profile
from adaptivenet.toolkit.profiling.settings import Settings
from adaptivenet.toolkit.search import STRATEGIES, Strategy, strategy_class, strategy_name

README = Path(__file__).parents[2] / "README.md"
QUICK = Settings(("1000ms",), evaluations=4, search_images=6, verify_images=8, rounds=2)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The README's class in a file of the current folder; the module's name."""
    (snippet,) = [part for part in README.read_text().split("```python\n") if "class Nearest(Strategy)" in part]
    (tmp_path / "my_search.py").write_text(snippet.split("```")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_search", raising=False)
    return "my_search"


def test_the_strategy_of_the_readme_makes_a_profile(module: str, tiny_pack: BlockPack, data: Dataset) -> None:
    found = strategy_class(f"{module}:Nearest")
    strategies: tuple[str | type[Strategy], ...] = (found, f"{module}:Nearest")
    for strategy in strategies:
        with connect("local:onnxruntime").open(tiny_pack) as session:
            result = profile(session, data, replace(QUICK, strategy=strategy))
        assert result.document["search"]["strategy"] == "my_search:Nearest"
        assert result.document["settings"]["strategy"] == "my_search:Nearest"
        assert 2 <= result.document["search"]["subnets"] <= 4
        assert tiny_pack.graph.oracle in [point.subnet for point in result.front.points]


def test_names_and_classes_are_the_same_door() -> None:
    for name, kind in STRATEGIES.items():
        assert strategy_class(name) is strategy_class(kind) is kind
        assert strategy_name(name) == strategy_name(kind) == name
    with pytest.raises(ProfileError, match="choose from surrogate, evolutionary, annealing, random, or give package"):
        Settings(strategy="hill")


def test_a_class_without_a_door_says_so(tiny_pack: BlockPack) -> None:
    class Closed(Strategy):
        """Has no `for_profile`."""

        def ask(self, n: int) -> list[object]:  # type: ignore[override]
            return []

    with pytest.raises(ProfileError, match="Closed has no for_profile: define it"):
        Closed.for_profile(tiny_pack.graph, {}, [], 1, 1, 0)
