"""Pretrained models made elastic: traced, cut, given alternatives, and trained. The only part that needs torch."""

from .models import load_model
from .supernet import Supernet, elastify

__all__ = ["Supernet", "elastify", "load_model"]
