"""Layers as two thinner ones: a convolution or a linear layer, and a 1x1 convolution or a linear layer behind it.

A layer y = W x + b becomes V, which keeps the layer's kernel, stride and padding and gives `rank` features, and U with
a bias, which makes the outputs of these. U V x can come near W x where y hardly leaves the space that U spans; the best
such space is that of the first principal components of y (Zhang et al., TPAMI 2016). What comes out is the singular
value decomposition that is whitened by the inputs, as in SVD-LLM (Wang et al., ICLR 2025). Before any input is known,
all inputs count as independent and equally large: then it is the plain singular value decomposition.

The two layers stand at the path of the one that they replace, as `PATH.0` and `PATH.1`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
Layer = nn.Conv1d | nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Factors:
    """The two layers at a `path` of a block: `narrow` reads what the layer read that they replace, `wide` gives."""

    path: str
    narrow: Layer
    wide: Layer

    def set(self, weight: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor) -> None:
        """Makes them the best approximation of a layer for outputs of this mean and covariance.

        `weight` has shape (outputs, inputs), `bias` and `mean` (outputs,), `spread` (outputs, outputs), all float64.
        Each factor has half of a component's size, and the first component comes first.
        """
        assert self.wide.bias is not None
        rank = len(self.narrow.weight)
        # Up to a constant, outputs lie in a space of at most as many dimensions as there are inputs.
        space = torch.linalg.qr(weight)[0] if len(weight) > weight.shape[1] else None
        values, vectors = torch.linalg.eigh(spread if space is None else space.T @ spread @ space)
        largest = float(values[-1])
        size = values[-rank:].flip(0).clamp_min(1e-6 * largest if largest > 0 else 1.0) ** 0.25
        basis = vectors[:, -rank:].flip(1) if space is None else space @ vectors[:, -rank:].flip(1)
        with torch.no_grad():
            self.narrow.weight.copy_((basis.T @ weight / size[:, None]).view_as(self.narrow.weight))
            self.wide.weight.copy_((basis * size).view_as(self.wide.weight))
            self.wide.bias.copy_(mean - basis @ (basis.T @ (mean - bias)))


def factorised(block: fx.GraphModule, ratio: float) -> fx.GraphModule | None:
    """`block` itself with layers factorised so that each keeps about the share `ratio` of its multiply-accumulates.

    Ranks are rounded to multiples of 4, from 32 on of 8. Left as they are: layers with groups, layers that are called
    more than once, and those that would not get smaller. None where nothing changes.
    """
    called = Counter(str(node.target) for node in block.graph.nodes if node.op == "call_module")
    changed = False
    for node in list(block.graph.nodes):
        layer = block.get_submodule(str(node.target)) if node.op == "call_module" else None
        if type(layer) not in LAYERS or called[node.target] > 1 or getattr(layer, "groups", 1) > 1:
            continue
        assert isinstance(layer, LAYERS)
        pair = _thinner(str(node.target), layer, ratio)
        if pair is None:
            continue
        weight, bias = numbers_of(layer)
        pair.set(weight, bias, bias, weight @ weight.T)
        block.set_submodule(pair.path, nn.Sequential(pair.narrow, pair.wide))
        with block.graph.inserting_before(node):
            narrowed = block.graph.call_module(f"{pair.path}.0", node.args, node.kwargs)
        node.target, node.args, node.kwargs = f"{pair.path}.1", (narrowed,), {}
        changed = True
    block.recompile()
    return block.eval() if changed else None


def factors_of(block: nn.Module, original: nn.Module) -> Iterator[tuple[Factors, Layer]]:
    """The factors in `block` that stand in place of a layer of `original`, and that layer, in the order of `block`."""
    layers = dict(original.named_modules())
    for path, module in block.named_modules():
        layer = layers.get(path)
        if isinstance(layer, LAYERS) and isinstance(module, nn.Sequential) and len(module) == 2:
            narrow, wide = module
            if isinstance(narrow, LAYERS) and isinstance(wide, LAYERS) and _stand_for(layer, narrow, wide):
                yield Factors(path, narrow, wide), layer


def numbers_of(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's weight, of shape (outputs, inputs), and bias, 0 where it has none; float64."""
    weight = layer.weight.detach().flatten(1).double()
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()


def _stand_for(layer: Layer, narrow: Layer, wide: Layer) -> bool:
    """Whether two layers are of the shapes that factors of `layer` have."""
    rank = len(narrow.weight)
    fits = narrow.weight.shape[1:] == layer.weight.shape[1:] and wide.weight[0].numel() == rank
    return fits and len(wide.weight) == len(layer.weight) and narrow.bias is None and wide.bias is not None


def _thinner(path: str, layer: Layer, ratio: float) -> Factors | None:
    """Two layers of the right shapes, their weights not set; None where they would be no smaller than the layer."""
    outputs, inputs = layer.weight.flatten(1).shape
    fitting = ratio * inputs * outputs / (inputs + outputs)
    step = 4 if fitting < 32 else 8
    rank = max(step, round(fitting / step) * step)
    if rank * (inputs + outputs) + outputs >= inputs * outputs:
        return None
    if isinstance(layer, nn.Linear):
        return Factors(path, nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, outputs))
    shape = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    kind = type(layer)
    return Factors(path, kind(layer.in_channels, rank, **shape, bias=False), kind(rank, outputs, 1))
