"""The documents that other languages' readers are tested on are accepted and refused here as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.errors import PackError
from adaptivenet.toolkit.pack.manifest import parse_manifest
from adaptivenet.toolkit.pack.pack import BlockPack
from reader_vectors import CHECK, FILE, ask_runner, canonical_digest, changed, error_in

VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
TEXTS = [bytes.fromhex(each["text"]) for each in VECTORS["texts"]]
MANIFESTS = [json.dumps(changed(each["changes"])).encode() for each in VECTORS["manifests"]]


def is_taken(text: bytes) -> bool:
    try:
        BlockPack(Path(), parse_manifest(text))
    except PackError:
        return False
    return True


def test_manifests_are_taken_and_refused_as_elsewhere() -> None:
    for each, text in zip(VECTORS["manifests"], MANIFESTS, strict=True):
        assert is_taken(text) == (each["error"] is None), each["name"]
    for each, text in zip(VECTORS["texts"], TEXTS, strict=True):
        assert is_taken(text) == (each["error"] is None), text[:80]


def test_json_has_the_same_canonical_form_elsewhere() -> None:
    for each in VECTORS["json"]:
        text = bytes.fromhex(each["text"])
        assert canonical_digest(text) == each["sha256"], text[:80]


@pytest.mark.skipif(not CHECK.exists(), reason="the runner is not built: make runner")
def test_the_runner_says_what_the_vectors_say() -> None:
    for documents, vectors in [(MANIFESTS, VECTORS["manifests"]), (TEXTS, VECTORS["texts"])]:
        answers = ask_runner("manifest", documents)
        assert [error_in(answer) for answer in answers] == [each["error"] for each in vectors]
