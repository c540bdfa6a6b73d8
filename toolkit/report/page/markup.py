"""Html and svg as text in which nothing that comes from a pack or a device is taken for markup."""

from __future__ import annotations

import html
import json
import unicodedata
from typing import Any

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (also what turns the direction of text), half a character


class Markup(str):
    """Text that is markup already. Only `tag` and `joined` make it; every other text is escaped by them."""

    __slots__ = ()


def plain(text: object) -> str:
    """`text` as a string without characters that nobody sees or that no file can hold; line breaks stay."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if character != "\n" and (unicodedata.category(character) in _UNSEEN or character in "\ufffe\uffff")
        else character
        for character in str(text)
    )


def tag(name: str, *inside: object, **attributes: object) -> Markup:
    """`<name attributes>inside</name>`.

    An underscore at the end of an attribute's name goes (`class_`), one inside becomes a hyphen. Attributes that are
    None are left out, floats have at most two decimals.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{joined(*inside)}</{name}>")


def joined(*parts: object) -> Markup:
    """The parts one after another."""
    return Markup("".join(part if isinstance(part, Markup) else _escaped(part) for part in parts))


def data_script(document: Any) -> str:
    """A json document as it may stand in a `<script>`: no name in it can end the script or begin a comment."""
    text = json.dumps(document, indent=1, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _escaped(value: object) -> str:
    if isinstance(value, float):
        value = f"{value:.2f}".rstrip("0").rstrip(".")
    return html.escape(plain(value))
