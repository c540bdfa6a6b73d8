"""Pretrained models made elastic: traced, cut, given alternatives, and trained. The only part that needs torch."""

from .models import example_input, load_model
from .options import Kind, merge, prune, skip
from .supernet import Supernet, elastify

__all__ = ["Kind", "Supernet", "elastify", "example_input", "load_model", "merge", "prune", "skip"]
