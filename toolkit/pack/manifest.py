"""The manifest of a block pack as a document: what can be checked without its blobs and its graph.

The checks come in the order in which docs/pack.md gives them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..documents import parse_json, violation
from ..errors import PackError

FORMAT = "adaptivenet-pack"
VERSION = 2
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 16 << 20  # bytes


def parse_manifest(data: bytes) -> dict[str, Any]:
    """The manifest in `data`, checked as far as it can be without its blobs and its graph.

    In this order: size, JSON (no duplicate keys, finite numbers, whole numbers below 2^53), format, version, digest,
    JSON Schema. Raises PackError at the first that fails.
    """
    if len(data) > MANIFEST_LIMIT:
        raise PackError(f"{MANIFEST} has more than {MANIFEST_LIMIT} bytes, which no pack needs; it is not a manifest")
    try:
        manifest = parse_json(data)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise PackError(f'{MANIFEST} does not say "format": "{FORMAT}"; it is not a block pack\'s manifest')
        version = manifest.get("version")
        if type(version) is not int or version != VERSION:
            raise PackError(
                f"is of format version {version!r}, but this program reads version {VERSION}; export it again"
            )
        digest = manifest_digest(manifest)
    except ValueError as error:  # includes text that is not UTF-8, and lone surrogates
        raise PackError(f"{MANIFEST} cannot be read as JSON: {error}; export or copy the pack again") from error
    if manifest.get("digest") != digest:
        raise PackError(
            f"{MANIFEST} was edited or damaged: its digest should be {digest}; export or copy the pack again"
        )
    if wrong := violation(manifest, __package__, "pack.schema.json"):
        raise PackError(f"{MANIFEST}: {wrong}")
    return manifest


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raises PackError for a field, such as `name` or `classes`, that no reader would take; the rest may be missing."""
    try:
        manifest_digest(fields)
    except ValueError as error:
        raise PackError(f"what the pack is to say of itself cannot be written as JSON: {error}") from error
    if wrong := violation(fields, __package__, "pack.schema.json", partial=True):
        raise PackError(f"what the pack is to say of itself is not allowed: {wrong}")


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its field `digest`, as canonical JSON.

    Canonical: keys sorted by code point, no spaces, UTF-8 with nothing escaped that need not be, numbers as Python
    writes them. Raises ValueError for what JSON in UTF-8 cannot hold.
    """
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
