"""Profiles as documents: what is saved is what is loaded, the schema is one, and the page on the format names all."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
from adaptivenet.toolkit.graph.graph import Subnet
from adaptivenet.toolkit.profiling.profile import FORMAT, VERSION, Profile
from hypothesis import given, settings
from hypothesis import strategies as st
from packs import GRAPH

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "toolkit/profiling/schema/profile.schema.json").read_text("utf-8"))
MS = st.floats(1e-6, 1e9)
COSTS = st.floats(0, 1e9)
WHOLE = st.integers(0, 2**53 - 1)
TEXT = st.text(max_size=8)
LATENCIES = st.fixed_dictionaries({"median_ms": MS, "spread_ms": MS, "repetitions": WHOLE})


@st.composite
def qualities(draw: st.DrawFn) -> dict[str, Any]:
    low, value, high = sorted(draw(st.lists(st.floats(0, 1), min_size=3, max_size=3)))
    return {"metric": draw(TEXT), "value": value, "low": low, "high": high, "n": draw(st.integers(1, 10**6))}


@st.composite
def points(draw: st.DrawFn, subnet: Subnet) -> dict[str, Any]:
    measured, with_energy = draw(st.booleans()), draw(st.booleans())
    return {
        "subnet": list(subnet),
        "predicted_ms": draw(MS),
        "predicted_error_ms": draw(MS),
        "measured_ms": draw(MS) if measured else None,
        "spread_ms": draw(MS) if measured else None,
        "repetitions": draw(st.integers(1, 10**6)) if measured else 0,
        "quality": draw(st.none() | qualities()),
        "also": draw(st.lists(qualities(), max_size=2)),
        "resident_mb": draw(st.none() | COSTS),
        "energy_mj": draw(COSTS) if with_energy else None,
        "energy_spread_mj": draw(COSTS) if with_energy else None,
        "energy_repetitions": draw(st.integers(1, 100)) if with_energy else 0,
    }


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    subnets = draw(st.lists(st.sampled_from(sorted(GRAPH.paths())), min_size=1, unique=True))
    front = sorted((draw(points(subnet)) for subnet in subnets), key=lambda each: each["measured_ms"] or 0)
    paged = {"loaded": ["b0"], "released": [], "bytes_in": draw(WHOLE), "bytes_out": 0, "ms": draw(MS)}
    budgets = [
        {
            **draw(st.sampled_from(front)),
            "budget": draw(TEXT),
            "budget_ms": draw(MS),
            "tolerance": draw(st.floats(0, 0.5)),
            "page_in": {**paged, "engine": draw(TEXT), "threads": draw(st.integers(1, 64))},
        }
        for _ in range(draw(st.integers(0, 3)))
    ]
    device = dict.fromkeys(("address", "name", "os", "engine", "engine_version"), draw(TEXT))
    return {
        "format": FORMAT,
        "version": VERSION,
        "pack": {"name": draw(st.text(min_size=1, max_size=8)), "digest": "0f" * 32},
        "device": {**device, "threads": draw(st.integers(1, 64)), "cores": 4},
        "settings": draw(st.dictionaries(TEXT, st.none() | st.booleans() | WHOLE | TEXT, max_size=3)),
        "oracle_latency": draw(LATENCIES),
        "reference": {"subnet": list(GRAPH.oracle), **draw(LATENCIES)},
        "blocks": [
            {key: getattr(block, key) for key in ("name", "start", "end", "kind", "ratio", "precision")}
            | draw(LATENCIES)
            | {"in_subnet_ms": draw(MS)}
            for block in GRAPH.blocks
        ],
        "search": {"strategy": "", "metric": draw(TEXT), "subnets": 1, "image_evaluations": 1, "images": 1},
        "verify": {"images": draw(st.integers(1, 10**6))},
        "front": front,
        "whole": [draw(points(subnet)) for subnet in subnets[:2]],
        "budgets": budgets,
        "seconds": draw(st.dictionaries(TEXT, st.floats(0, 1e9), min_size=1, max_size=3)),
        **draw(st.fixed_dictionaries({}, optional={"anything": st.lists(WHOLE | TEXT | st.floats(-1e300, 1e300))})),
    }


@given(documents())
@settings(deadline=None, max_examples=60)
def test_what_is_saved_is_what_is_loaded(document: dict[str, Any]) -> None:
    made = Profile.from_json(document)
    with tempfile.TemporaryDirectory() as folder:
        made.save(Path(folder) / "profile.json")
        back = Profile.load(Path(folder) / "profile.json")
    assert back == made
    assert back.document == document
    assert [choice.to_json() for choice in back.choices] == document["budgets"]
    assert back.graph == made.graph
    assert back.graph.count() == GRAPH.count()
    assert all(point.latency_ms <= later.latency_ms for point, later in zip(back.front.points, back.front.points[1:]))


@given(documents())
@settings(deadline=None, max_examples=30)
def test_a_profile_of_an_earlier_toolkit_says_nothing_of_memory_and_energy(document: dict[str, Any]) -> None:
    costs = ("resident_mb", "energy_mj", "energy_spread_mj", "energy_repetitions")
    for point in (*document["front"], *document["whole"], *document["budgets"]):
        for name in costs:
            point.pop(name, None)
    made = Profile.from_json(document)
    for point in (*made.front.points, *made.whole, *(choice.point for choice in made.choices)):
        assert [getattr(point, name) for name in costs] == [None, None, None, 0]
    assert made.document == document


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_page_on_the_format_names_every_field() -> None:
    page = (ROOT / "docs/profile.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_]+)`", page))
    assert [name for name in fields(SCHEMA) if name not in named] == []


def fields(schema: Any) -> Iterator[str]:
    """The names of all fields that a schema knows, wherever in it."""
    for key, value in schema.items():
        if key == "properties":
            yield from value
        inner = value.values() if key in ("properties", "$defs") else [value]
        for each in inner:
            if isinstance(each, dict):
                yield from fields(each)
