"""Search strategies by name: those of the toolkit, and one of your own as `package.module:Class`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping

from ..errors import ProfileError
from .annealing import Annealing
from .base import Strategy
from .evolutionary import Evolutionary
from .random_search import Random
from .surrogate import Surrogate

STRATEGIES: Mapping[str, type[Strategy]] = {
    "surrogate": Surrogate,
    "evolutionary": Evolutionary,
    "annealing": Annealing,
    "random": Random,
}


def strategy_class(strategy: str | type[Strategy]) -> type[Strategy]:
    """The class that is meant: by itself, by its name here, or by `package.module:Class`.

    Modules are also looked for in the current folder, after everything that is installed. Raises ProfileError when
    there is no such strategy.
    """
    if isinstance(strategy, type) and issubclass(strategy, Strategy):
        return strategy
    if strategy in STRATEGIES:
        return STRATEGIES[str(strategy)]
    module, colon, name = str(strategy).partition(":")
    if not (colon and module and name):
        raise ProfileError(
            f"unknown search strategy {strategy!r}: choose from {', '.join(STRATEGIES)}, or give package.module:Class"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a module of somebody else's raises
        raise ProfileError(
            f"the search strategy {strategy} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise ProfileError(f"the search strategy {strategy} does not extend adaptivenet.toolkit.search.Strategy")
    return found


def strategy_name(strategy: str | type[Strategy]) -> str:
    """How a profile calls it: its name here, or `package.module:Class`."""
    found = strategy_class(strategy)
    names = {kind: name for name, kind in STRATEGIES.items()}
    return names.get(found, f"{found.__module__}:{found.__qualname__}")
