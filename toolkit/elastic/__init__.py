"""Pretrained models made elastic: traced, cut, given alternatives, and trained. The only part that needs torch."""

from .kinds import Kind, lowrank, merge, prune, skip
from .making import elastify
from .models import example_input, load_model
from .patience import Patience
from .supernet import Supernet

__all__ = [
    "Kind",
    "Patience",
    "Supernet",
    "elastify",
    "example_input",
    "load_model",
    "lowrank",
    "merge",
    "prune",
    "skip",
]
