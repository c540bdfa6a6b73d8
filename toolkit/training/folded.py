"""Blocks as a training step runs them: the same function of the same parameters, in fewer passes over the features.

While blocks train, the statistics of their batch norms stand still. A norm behind a convolution is then a factor and a
summand for each channel, which fold into the convolution's weights and bias (Jacob et al., 2018, section 3.2): these
are small where features are large. They are folded in every pass anew, so that gradients reach the convolution's
weights and the norm's. Zeros that a layer of their own puts around a feature become the convolution's padding, and an
activation behind it is computed in place. What comes out is the same up to rounding.
"""

from __future__ import annotations

from itertools import count

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..elastic.supernet import Supernet

_ACTIVATIONS = (nn.ReLU, nn.ReLU6)  # whose gradients can be told from what they give


def folded(supernet: Supernet) -> Supernet:
    """A supernet that gives what `supernet` gives in eval mode, and holds the same parameters and buffers."""
    return supernet.with_blocks(supernet.graph, {name: fold(block) for name, block in supernet.blocks.items()})


def fold(block: nn.Module) -> nn.Module:
    """The block with its two-dimensional convolutions folded, in eval mode; the block itself where there is nothing to
    fold, or it is no `fx.GraphModule`."""
    if not isinstance(block, fx.GraphModule):
        return block
    graph = fx.Graph()
    graph.output(graph.graph_copy(block.graph, {}))
    new, found = fx.GraphModule(block, graph), False
    names = (name for number in count() if not hasattr(new, name := f"folded_{number}"))
    for node in list(graph.nodes):
        conv = _layer(new, node)
        if type(conv) is not nn.Conv2d:
            continue
        (read,), last = node.all_input_nodes, node
        zeros = _layer(new, read)
        if len(read.users) == 1 and isinstance(zeros, nn.ZeroPad2d) and _takes(conv, zeros):
            (read,) = read.all_input_nodes
        else:
            zeros = None
        behind = _reader(last)
        norm = _layer(new, behind)
        if behind is not None and isinstance(norm, _BatchNorm) and norm.running_mean is not None:
            behind, last = _reader(behind), behind
        else:
            norm = None
        activation = _layer(new, behind)
        if behind is not None and type(activation) in _ACTIVATIONS:
            last = behind
        else:
            activation = None
        if zeros is None and last is node:
            continue
        name, found = next(names), True
        new.add_submodule(name, _Folded(conv, zeros, norm, activation))
        with graph.inserting_before(node):
            last.replace_all_uses_with(graph.call_module(name, (read,)))
    if not found:
        return block
    graph.eliminate_dead_code()
    new.recompile()
    return new.eval()


class _Folded(nn.Module):
    """A convolution with the zeros before it, the norm behind it and the activation behind that, each where it is."""

    def __init__(
        self, conv: nn.Conv2d, zeros: nn.ZeroPad2d | None, norm: _BatchNorm | None, activation: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv, self.norm, self.activation = conv, norm, activation
        self._zeros = zeros
        self._padding: str | tuple[int, ...] = conv.padding
        self._wider = (0, 0, 0, 0)  # the kernel, by columns and rows of zeros
        if zeros is not None and not isinstance(conv.padding, str):
            left, right, top, bottom = zeros.padding
            self._padding = (conv.padding[0] + max(top, bottom), conv.padding[1] + max(left, right))
            # A convolution pads both sides alike. Where one has fewer zeros, the kernel begins or ends with zeros.
            self._wider = _difference(left, right) + _difference(top, bottom)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv, norm = self.conv, self.norm
        weight, bias = conv.weight, conv.bias
        if norm is not None:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = torch.rsqrt(norm.running_var + norm.eps)
            scale = scale if norm.weight is None else scale * norm.weight
            weight = weight * scale[:, None, None, None]
            shift = scale * (-norm.running_mean if bias is None else bias - norm.running_mean)
            bias = shift if norm.bias is None else shift + norm.bias
        padding = self._padding
        if self._zeros is not None and any(self._wider):
            if x.is_cuda or torch.is_autocast_enabled("cpu"):  # kernels of odd sides are the ones that are fast there
                x, padding = self._zeros(x), conv.padding
            else:
                weight = F.pad(weight, self._wider)
        if conv.padding_mode == "zeros":
            given = F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)
        else:
            given = conv._conv_forward(x, weight, bias)
        if isinstance(self.activation, nn.ReLU6):
            return F.relu6(given, inplace=True)
        return given if self.activation is None else F.relu(given, inplace=True)


def _difference(before: int, behind: int) -> tuple[int, int]:
    return max(0, behind - before), max(0, before - behind)


def _takes(conv: nn.Conv2d, zeros: nn.ZeroPad2d) -> bool:
    """Whether the zeros before a convolution can be its own, at little cost.

    As many on either side can. A kernel is only made wider where that is cheap beside a pass over the feature: where
    each channel has one of its own.
    """
    left, right, top, bottom = zeros.padding
    if min(zeros.padding) < 0 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return False
    return (left == right and top == bottom) or (conv.groups == conv.in_channels and set(conv.dilation) == {1})


def _layer(block: fx.GraphModule, node: fx.Node | None) -> nn.Module | None:
    return block.get_submodule(str(node.target)) if node is not None and node.op == "call_module" else None


def _reader(node: fx.Node) -> fx.Node | None:
    """The node that reads what `node` gives, where it is the only one."""
    return next(iter(node.users)) if len(node.users) == 1 else None
