"""Options that take a list of numbers, `0.5,0.25`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def numbers(kind: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A click callback: a tuple of what `kind` makes of each part of the text, None where the option is not given.

    Raises BadParameter for what `kind` refuses with a ValueError.
    """

    def parse(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Any, ...] | None:
        if value is None:
            return None
        try:
            return tuple(kind(part) for part in value.split(",") if part.strip())
        except ValueError:
            such = parameter.default or "0.5,0.25"
            raise click.BadParameter(f"{value!r} is no list of numbers such as {such}") from None

    return parse
