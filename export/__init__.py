"""Supernet → block artifacts: exported for ExecuTorch and ONNX, verified against torch, packed, bundled for an app."""

from .bundle import bundle_pack
from .export_pack import export_pack

__all__ = ["bundle_pack", "export_pack"]
