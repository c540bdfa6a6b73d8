"""What `torch.ao.quantization.prepare_qat` puts into a network to train it for int8: observers, and rounding.

With the rounding turned off they let everything through as it is, and the network is its float32 self.
"""

from __future__ import annotations

import sys

from torch import nn

from ...errors import ModelError


def take_observers_out(model: nn.Module) -> None:
    """Changes a model: what observes numbers in it, or would round them, is gone.

    Raises ModelError where one still rounds: then the model is another one without it.
    """
    known = [
        getattr(sys.modules.get(f"torch.ao.quantization.{name}"), kind, None)
        for name, kind in (("fake_quantize", "FakeQuantizeBase"), ("observer", "ObserverBase"))
    ]
    kinds = tuple(kind for kind in known if isinstance(kind, type))
    for path, module in list(model.named_modules()) if kinds else ():
        for name, child in list(module.named_children()):
            if not isinstance(child, kinds):
                continue
            if bool(getattr(child, "fake_quant_enabled", [0])[0]):
                place = f"{path}.{name}".lstrip(".")
                raise ModelError(
                    f"{place} rounds as int8 would, as in a network that is trained for int8, and blocks are made in "
                    "float32: turn it off with model.apply(torch.ao.quantization.disable_fake_quant); the export makes "
                    "int8"
                )
            setattr(module, name, nn.Identity())
