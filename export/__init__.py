"""Supernet → block artifacts: exported for ExecuTorch and ONNX, verified against torch, packed, bundled for an app.

What is named here is imported when it is first used: `adaptivenet-export --help` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .android import bundle_for_android
    from .bundle import bundle_pack
    from .exporting import export_pack
    from .own_metrics import metric

__all__ = ["bundle_for_android", "bundle_pack", "export_pack", "metric"]
_MODULES = {
    "bundle_for_android": ".android",
    "bundle_pack": ".bundle",
    "export_pack": ".exporting",
    "metric": ".own_metrics",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_MODULES[name], __name__)
    return getattr(module, name)
