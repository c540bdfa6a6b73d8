"""What `adaptivenet-elastify --input` says of a network that sees no RGB pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..data.inputs import Input
    from ..data.preprocessing import Preprocessing

_TRACED_WITH = 16  # inputs of --data: whole numbers are drawn from these


def parse_inputs(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[int, ...] | tuple[Input, ...] | None:
    """The shape of the one input, or several by name; None: an RGB picture."""
    from ..data.inputs import INPUT_DTYPES, Input

    if not values:
        return None
    if len(values) == 1 and not set(values[0]) & set("=:"):
        return _shape(values[0])
    found = []
    for value in values:
        rest, _, dtype = value.partition(":")
        name, separator, sides = rest.partition("=")
        if not name.isidentifier() or dtype not in ("", *INPUT_DTYPES):
            raise click.BadParameter(
                f"{value!r} is no input such as token_ids=128:int64: NAME=SHAPE:TYPE, the type one of "
                f"{', '.join(INPUT_DTYPES)}"
            )
        found.append(Input(name, (1, *(_shape(sides) if separator else ())), dtype or "float32"))
    if twice := {each.name for each in found if sum(other.name == each.name for other in found) > 1}:
        raise click.BadParameter(f"two inputs have one name: {', '.join(sorted(twice))}")
    return tuple(found)


def _shape(value: str) -> tuple[int, ...]:
    sides = value.lower().split("x")
    if not all(side.isdecimal() and 0 < int(side) <= 1 << 24 for side in sides):
        raise click.BadParameter(f"{value!r} is no shape such as 1x49x10")
    return tuple(map(int, sides))


def shape_of(given: tuple[int, ...] | tuple[Input, ...]) -> tuple[tuple[int, ...], str]:
    """The shape of what the network reads, batch first, and what to call it."""
    from ..data.inputs import Input

    inputs = [each for each in given if isinstance(each, Input)]
    if inputs:
        return (1, sum(each.width for each in inputs)), f"the row of {', '.join(each.name for each in inputs)}"
    return (1, *(side for side in given if isinstance(side, int))), "the network's input"


def example_of(
    given: tuple[int, ...] | tuple[Input, ...],
    data: str | None,
    preprocessing: Preprocessing | None,
    labels: str | None,
) -> Any:
    """What the network is traced with: the first input in `data`, of several inputs the first ones; else noise.

    Of pictures, `preprocessing` makes the input, and `labels` is the folder of label maps in `data`.
    """
    import numpy as np

    from ..data import open_data
    from ..data.inputs import Input, noise_rows
    from ..elastic import example_input
    from ..elastic.models import example_from, example_inputs
    from ..graph.graph import Cut

    inputs = [each for each in given if isinstance(each, Input)]
    if not inputs:
        sides = [side for side in given if isinstance(side, int)]
        if data is None:
            return example_input(*sides)
        pictures = open_data(data, preprocessing, None, Cut(0, (1, *sides)), labels=labels)
        return example_from(pictures.image(0))
    if data is None:
        return example_inputs(noise_rows(inputs), inputs)
    rows = open_data(data, None, None, Cut(0, (1, sum(each.width for each in inputs))), inputs=inputs)
    first = [rows.image(index) for index in range(min(_TRACED_WITH, len(rows)))]
    return example_inputs(np.concatenate(first), inputs)
