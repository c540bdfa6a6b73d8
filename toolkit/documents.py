"""JSON documents that may come from anywhere: read strictly, and held against a JSON Schema."""

from __future__ import annotations

import json
from functools import cache, partial
from importlib.resources import files
from math import isfinite
from typing import Any

import jsonschema  # type: ignore[import-untyped]

_WHOLE_LIMIT = 2**53  # every reader, whatever its language, holds whole numbers below this exactly
_DEEPEST = 64
_TOO_DEEP = f"it is nested deeper than {_DEEPEST} objects and lists"
_LONGEST = 200  # characters of a violation
_LONGEST_VALUE = 100  # of what breaks a schema: a path of a blob is shown whole


def parse_json(data: bytes, whole_limit: int = _WHOLE_LIMIT) -> Any:
    """What the JSON text in `data` says, in UTF-8.

    Raises ValueError when it is not JSON, has a key twice in one object, is nested deeper than 64 objects and lists, or
    holds a number that is not finite or a whole one from `whole_limit` on, 2^53 unless another is given.
    """
    number = partial(_number, whole_limit)
    try:
        document = json.loads(
            data.decode(), object_pairs_hook=_object, parse_constant=number, parse_float=number, parse_int=number
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [document]
    for _ in range(_DEEPEST + 1):
        inside = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for values in inside for each in values]
    if level:
        raise ValueError(_TOO_DEEP)
    return document


def violation(document: object, package: str, schema: str, *, partial: bool = False) -> str | None:
    """The first way in which `document` breaks the schema, a file beside the package; None where it keeps to it.

    Of a `partial` document, only the fields that it has are looked at.
    """
    for found in _validator(package, schema).iter_errors(document):
        if partial and not found.absolute_path:
            continue
        value = repr(found.instance)
        message = found.message
        if len(value) > _LONGEST_VALUE:
            message = message.replace(value, f"{value[:_LONGEST_VALUE]}…")
        return f"{found.json_path}: {message[:_LONGEST]}"
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; with duplicate keys, two readers could see two different documents."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"it has the key {twice!r} twice in one object")
    return fields


def _number(whole_limit: int, text: str) -> float:
    value: float = int(text) if text.lstrip("-").isdigit() else float(text)
    if abs(value) >= whole_limit if isinstance(value, int) else not isfinite(value):
        raise ValueError(
            f"it holds the number {text[:40]}; numbers are finite, whole ones below 2^{whole_limit.bit_length() - 1}"
        )
    return value


@cache
def _validator(package: str, schema: str) -> Any:
    document = json.loads((files(package) / "schema" / schema).read_text("utf-8"))
    draft = jsonschema.Draft202012Validator
    # The library counts 24.0 as an integer; a shape must not hold floats.
    strict = draft.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(draft, type_checker=strict)(document)
